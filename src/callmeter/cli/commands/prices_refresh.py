"""`callmeter prices refresh`: fetch the provider's current prices.

callmeter prices refresh
callmeter prices refresh --provider openrouter -v
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli.means import transport_of
from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.world import World
from callmeter.flows.price_refresh import refresh_prices
from callmeter.providers.presets import find_provider
from callmeter.words.errors import UsageError


def prices_refresh(
    ctx: typer.Context,
    provider: Annotated[
        str | None,
        typer.Option("--provider", metavar="NAME", help="Whose prices; unless given, the setting `provider`."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="Fetch from another endpoint of the provider.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fetch the provider's current prices."""
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    settings = world.settings
    whose = find_provider(provider or settings.text("provider") or "", settings.providers, base_url)
    if whose.free or not whose.base_url:
        raise UsageError(f"{whose.name} costs nothing, so it has no prices", "name another with `--provider`")
    done = refresh_prices(
        whose,
        transport_of(world, whose),
        world.paths.cache,
        world.now(),
        connect_timeout=settings.seconds("connect_timeout"),
        deadline=world.monotonic() + settings.seconds("timeout"),
    )
    notes = [f"{done.priced} prices of {whose.name}", f"{done.new} new", f"{done.changed} changed", f"{done.gone} gone"]
    if done.unknown:
        notes.append(f"{done.unknown} whose price it does not know")
    if done.unreadable:
        notes.append(f"{done.unreadable} entries could not be read")
    world.out.note("callmeter: " + ", ".join(notes))
