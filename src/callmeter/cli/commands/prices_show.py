"""`callmeter prices show`: what models cost, and who says so.

callmeter prices show anthropic/claude-sonnet-4.5
callmeter prices show 'openai/gpt-5*' --format csv
callmeter prices show --provider anthropic
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

import typer

from callmeter.cli.options import AsOf, Format, Quiet, Shape, Verbose
from callmeter.cli.world import World
from callmeter.providers.presets import find_provider
from callmeter.reports.price_list import price_list
from callmeter.store.price_table import PriceFound, all_prices, find_price
from callmeter.words.errors import UsageError
from callmeter.words.instant import parse_instant


def prices_show(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="Models; `*` matches. All, if none is named.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option("--provider", metavar="NAME", help="Whose prices; unless given, the setting `provider`."),
    ] = None,
    as_of: AsOf = None,
    format: Format = Shape.TEXT,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """What models cost, and who says so."""
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    whose = find_provider(provider or world.settings.text("provider") or "", world.settings.providers, None)
    try:
        at = world.now() if as_of is None else parse_instant(as_of)
    except ValueError:
        raise UsageError(f"--as-of: not a time: {as_of!r}", "write `--as-of 2026-11-21`") from None
    overrides, cache_dir = world.paths.prices, world.paths.cache
    found: dict[str, PriceFound | None] = {}
    for name in models or ["*"]:
        if "*" in name or "?" in name:
            listed = all_prices(whose.name, at, overrides=overrides, cache_dir=cache_dir, price_as=whose.price_as)
            found.update({price.model: price for price in listed if fnmatchcase(price.model.lower(), name.lower())})
        else:
            found[name] = find_price(
                whose.name,
                name,
                at,
                overrides=overrides,
                cache_dir=cache_dir,
                price_as=whose.price_as,
                free=whose.free,
            )
    world.out.report(price_list(whose.name, found, at))
