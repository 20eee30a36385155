"""`callmeter budget keys list`: the registered keys.

callmeter budget keys list
callmeter budget keys list --format json | jq '.rows[] | select(.state != "ok")'
"""

from __future__ import annotations

import typer

from callmeter.cli.options import Format, Quiet, Shape, Verbose
from callmeter.cli.rotating import due_of
from callmeter.cli.world import World
from callmeter.flows.keys import states_of, where_it_lies
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.secrets.registry import Entry, read_registry
from callmeter.store.toml import read_toml
from callmeter.words.instant import text_of


def keys_list(ctx: typer.Context, format: Format = Shape.TEXT, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """The registered keys, where each lies and until when it is good."""
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    paths = world.paths
    entries = read_registry(read_toml(paths.keys, paths.cache), paths.keys)
    states = states_of(entries.values(), world.stores, world.now())
    columns = [
        Column("label", "label", Kind.TEXT),
        Column("agent", "agent", Kind.TEXT),
        Column("user", "user", Kind.TEXT, optional=3),
        Column("provider", "provider", Kind.TEXT, optional=2),
        Column("environment", "environment", Kind.TEXT, optional=4),
        Column("fingerprint", "fingerprint", Kind.TEXT, optional=3),
        Column("created", "created", Kind.INSTANT, optional=5),
        Column("expires", "expires", Kind.INSTANT, optional=1),
        Column("due", "rotate by", Kind.INSTANT, optional=4),
        Column("state", "state", Kind.TEXT),
        Column("where", "where", Kind.TEXT, optional=6),
    ]
    rows = [
        Row(
            {
                "label": entry.label,
                "agent": entry.agent or ("(default)" if entry.default else "(management)" if entry.management else ""),
                "user": entry.user,
                "provider": entry.provider,
                "environment": entry.environment,
                "fingerprint": entry.fingerprint,
                "created": text_of(entry.created) if entry.created else None,
                "expires": text_of(entry.expires) if entry.expires else None,
                "due": _due(world, entry),
                "state": "retired" if entry.retired else states[entry.label],
                "where": where_it_lies(entry, world.stores),
            }
        )
        for entry in sorted(entries.values(), key=lambda entry: entry.label)
    ]
    notes = [] if rows else ["No key is registered: `callmeter budget keys add AGENT` registers one."]
    if not any(entry.user for entry in entries.values()):
        columns = [column for column in columns if column.name != "user" or format is not Shape.TEXT]
    world.out.report(Report("Keys", columns, rows, notes=notes))


def _due(world: World, entry: Entry) -> str | None:
    due = None if entry.management or entry.retired else due_of(world, entry).at
    return text_of(due) if due else None
