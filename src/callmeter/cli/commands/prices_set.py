"""`callmeter prices set`: set a model's price yourself.

callmeter prices set anthropic/claude-sonnet-4.5 --input 2.4 --output 12 --cached 0.24
callmeter prices set my-model --provider gateway --input 0.0000002 --output 0.0000008 --per token
callmeter prices set my-model --remove
"""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.world import World
from callmeter.policy.price_overrides import override_entry
from callmeter.providers.presets import find_provider
from callmeter.store.price_overrides import remove_override, set_override
from callmeter.store.price_table import read_overrides
from callmeter.words.errors import UsageError


class Per(enum.StrEnum):
    """How many tokens a price is for."""

    MILLION = "million"
    TOKEN = "token"


def prices_set(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model, as calls name it.")],
    input: Annotated[str | None, typer.Option("--input", metavar="USD", help="Price of input tokens.")] = None,
    output: Annotated[str | None, typer.Option("--output", metavar="USD", help="Price of output tokens.")] = None,
    cached: Annotated[
        str | None, typer.Option("--cached", metavar="USD", help="Price of input read from a cache.")
    ] = None,
    cache_write: Annotated[
        str | None, typer.Option("--cache-write", metavar="USD", help="Price of input written to a cache.")
    ] = None,
    cache_write_1h: Annotated[
        str | None,
        typer.Option("--cache-write-1h", metavar="USD", help="Price of input written to a cache for an hour."),
    ] = None,
    reasoning: Annotated[
        str | None, typer.Option("--reasoning", metavar="USD", help="Price of reasoning tokens.")
    ] = None,
    request: Annotated[str | None, typer.Option("--request", metavar="USD", help="Fee for each request.")] = None,
    per: Annotated[Per, typer.Option("--per", help="How many tokens a price is for.")] = Per.MILLION,
    provider: Annotated[
        str | None,
        typer.Option("--provider", metavar="NAME", help="Whose model; unless given, the setting `provider`."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget your price for the model.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Set a model's price yourself.

    It goes before the provider's price and the shipped one, for calls from now on; what is logged stays as it is.
    --input and --output are needed, and may be 0.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    given = {"input": input, "output": output, "cached": cached, "cache_write": cache_write}
    given |= {"cache_write_1h": cache_write_1h, "reasoning": reasoning, "request": request}
    whose = find_provider(provider or world.settings.text("provider") or "", world.settings.providers, None)
    path = world.paths.prices
    read_overrides(path, world.paths.cache)  # a damaged file is to be mended first
    if remove and any(given.values()):
        raise UsageError("--remove goes without prices", "leave out `--remove`, or the prices")
    if remove:
        if not remove_override(path, whose.name, model):
            raise UsageError(f"{path} has no price for {model} of {whose.name}", "see `callmeter prices show`")
        world.out.note(f"callmeter: removed your price of {model} of {whose.name} from {path}")
    else:
        entry = override_entry(given, per_token=per is Per.TOKEN, date=world.now().date().isoformat())
        replaced = set_override(path, whose.name, model, entry)
        world.out.note(
            f"callmeter: {'changed' if replaced else 'added'} the price of {model} of {whose.name} in {path}"
        )
