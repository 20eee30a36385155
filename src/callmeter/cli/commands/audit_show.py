"""`callmeter budget audit show`: who changed or refused what.

callmeter budget audit show --last 7d
callmeter budget audit show --event 'key.*' --format jsonl
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.reading import Clock
from callmeter.cli.world import World
from callmeter.reports.audit_list import audit_list
from callmeter.store.audit import read_events
from callmeter.words.period import chosen_period


def audit_show(
    ctx: typer.Context,
    lines: Annotated[int | None, typer.Option("--lines", "-n", metavar="N", min=1, help="Only the last N.")] = None,
    event: Annotated[
        list[str] | None, typer.Option("--event", metavar="NAME", help="Only these events; `*` matches any text.")
    ] = None,
    since: opt.Since = None,
    until: opt.Until = None,
    last: opt.Last = None,
    as_of: opt.AsOf = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """The audit log: who changed what.

    The lines of `--format jsonl` are rows as in every format; the raw lines, whose hashes are the chain, are those of
    the file itself.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    clock = Clock(world, as_of)
    period = chosen_period(clock.now, clock.zone, since=since, until=until, last=last)
    events = (each.fields for each in read_events(world.paths.audit))
    world.out.report(audit_list(events, period, clock.as_of, event or (), lines))
