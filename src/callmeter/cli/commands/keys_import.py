"""`callmeter budget keys import`: the account's keys beside the registered ones.

callmeter budget keys import
callmeter budget keys import --provider openrouter --format json | jq '.rows[] | select(.label == null)'
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli.key_options import address_of
from callmeter.cli.options import Format, Quiet, Shape, Verbose
from callmeter.cli.rotating import bench_of
from callmeter.cli.world import World
from callmeter.flows.key_account import Match, match_account
from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.words.instant import text_of


def keys_import(
    ctx: typer.Context,
    provider: Annotated[
        str | None,
        typer.Option("--provider", metavar="NAME", help="Whose account; unless given, the setting `provider`."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="Its address; unless given, the provider's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show them; change nothing.")] = False,
    format: Format = Shape.TEXT,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Match the account's keys with the registry, and learn what it says of them.

    Keys are matched by their hash. Entries take the provider's name for the key, its ceiling and reset, and its last
    day. A provider shows a key once, when it is made: those that nobody registered here can be seen, not used.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    address = address_of(world, provider, base_url)
    matches = match_account(bench_of(world), address["provider"], address["base_url"], learn=not dry_run)
    columns = [
        Column("label", "key", Kind.TEXT),
        Column("name", "name at the provider", Kind.TEXT),
        Column("state", "state", Kind.TEXT),
        Column("limit", "limit", Kind.RATE),
        Column("reset", "reset", Kind.TEXT, optional=2),
        Column("usage", "used", Kind.MONEY, optional=1),
        Column("expires", "expires", Kind.INSTANT, optional=3),
        Column("provider_key", "hash", Kind.TEXT, optional=4),
    ]
    strays = sum(match.entry is None for match in matches)
    notes = [f"{strays} key{'s' * (strays != 1)} of the account nobody registered here."] if strays else []
    world.out.report(Report("Keys of the account", columns, [Row(_cells(match)) for match in matches], notes=notes))


def _cells(match: Match) -> dict[str, Cell]:
    entry, record = match.entry, match.record
    if record is None:
        state = match.trouble or "not in this account"
    elif entry is None:
        state = "not registered"
    else:
        state = "disabled" if record.disabled else "ok"
    return {
        "label": entry.label if entry else None,
        "name": record.name if record else None,
        "state": state,
        "limit": record.limit if record else None,
        "reset": record.limit_reset if record else None,
        "usage": record.usage if record else None,
        "expires": text_of(record.expires) if record and record.expires else None,
        "provider_key": record.hash if record else None,
    }
