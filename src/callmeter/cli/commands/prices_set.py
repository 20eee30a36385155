"""`callmeter prices set`: set a model's price yourself.

callmeter prices set anthropic/claude-sonnet-4.5 --input 2.4 --output 12 --cached 0.24
callmeter prices set my-model --provider gateway --input 0.0000002 --output 0.0000008 --per token
callmeter prices set my-model --remove
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Annotated

import typer

from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.world import World
from callmeter.policy.price_overrides import BadOverride, parse_overrides
from callmeter.providers.presets import find_provider
from callmeter.store.price_overrides import remove_override, set_override
from callmeter.store.price_table import read_overrides
from callmeter.words.errors import UsageError
from callmeter.words.money import parse_usd


class Per(enum.StrEnum):
    """How many tokens a price is for."""

    MILLION = "million"
    TOKEN = "token"


Amount = Annotated[str | None, typer.Option(metavar="USD")]


def prices_set(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model, as calls name it.")],
    input: Annotated[str | None, typer.Option("--input", metavar="USD", help="Input tokens.")] = None,
    output: Annotated[str | None, typer.Option("--output", metavar="USD", help="Output tokens.")] = None,
    cached: Annotated[str | None, typer.Option("--cached", metavar="USD", help="Input read from a cache.")] = None,
    cache_write: Annotated[
        str | None, typer.Option("--cache-write", metavar="USD", help="Input written to a cache.")
    ] = None,
    cache_write_1h: Annotated[
        str | None, typer.Option("--cache-write-1h", metavar="USD", help="Input written to a cache for an hour.")
    ] = None,
    reasoning: Annotated[str | None, typer.Option("--reasoning", metavar="USD", help="Reasoning tokens.")] = None,
    request: Annotated[str | None, typer.Option("--request", metavar="USD", help="Fee of each request.")] = None,
    per: Annotated[Per, typer.Option("--per", help="What the token prices are for.")] = Per.MILLION,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="Whose model; the setting `provider` else.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget your price for the model.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Set a model's price yourself."""
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    given = {"input": input, "output": output, "cached": cached, "cache_write": cache_write}
    given |= {"cache_write_1h": cache_write_1h, "reasoning": reasoning, "request": request}
    whose = find_provider(provider or world.settings.text("provider") or "", world.settings.providers, None)
    path = world.paths.prices
    read_overrides(path, world.paths.cache)  # a damaged file is mended first, not written over
    if remove:
        if any(amount is not None for amount in given.values()):
            raise UsageError("--remove goes without prices", "leave the prices out, or `--remove`")
        if not remove_override(path, whose.name, model):
            raise UsageError(f"{path} has no price for {model} of {whose.name}", "see `callmeter prices show`")
        world.out.note(f"callmeter: {path}: no price of your own for {model} any more")
        return
    entry: dict[str, object] = {
        name: _amount(name, text, per if name != "request" else Per.MILLION)
        for name, text in given.items()
        if text is not None
    }
    if "input" not in entry or "output" not in entry:
        raise UsageError(
            "a price needs --input and --output", f"run `callmeter prices set {model} --input … --output …`"
        )
    entry["date"] = world.now().date()
    try:
        parse_overrides({whose.name: {model: {**entry, "date": str(entry["date"])}}})
    except BadOverride as error:
        raise UsageError(str(error), "prices are in USD for a million tokens, or `--per token`") from None
    replaced = set_override(path, whose.name, model, entry)
    world.out.note(f"callmeter: {path}: {'changed' if replaced else 'added'} the price of {model} of {whose.name}")


def _amount(name: str, text: str, per: Per) -> str:
    try:
        amount = parse_usd(text)
    except ValueError:
        raise UsageError(f"--{name.replace('_', '-')}: not an amount in USD: {text!r}", "write `0.25`") from None
    return f"{(amount.scaleb(6) if per is Per.TOKEN else amount).normalize():f}"
