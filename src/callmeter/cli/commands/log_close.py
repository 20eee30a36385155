"""`callmeter budget log close`: compressed segments of finished months.

callmeter budget log close
callmeter budget log close --before 2026-11-15
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.auditing import audit
from callmeter.cli.retention import one_log, segment_list
from callmeter.cli.world import World
from callmeter.store.segments import close_log
from callmeter.words.errors import UsageError
from callmeter.words.period import bucket, moment, zone_named


def log_close(
    ctx: typer.Context,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="DATE", help="Calls before this time; unless given, before this month."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All calls.")] = False,
    log: opt.OneLog = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Move finished months into compressed segments.

    The segments lie beside the log, `usage-2026-10.jsonl.zst` for the calls of that month (UTC), and are read with it.
    Calls can go on meanwhile. A closing that was killed is taken back or finished by the next one. Audited.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    if everything and before is not None:
        raise UsageError("--all and --before contradict each other", "keep one of them", code="contradiction")
    until = bucket(world.now(), "month", zone_named("UTC"))[0]
    if before is not None:
        until = moment(before, zone_named(world.policy.time_zone), "--before")
    segments = close_log(one_log(world, log), None if everything else until, world.now(), audit(world))
    if format is not opt.Shape.TEXT:
        world.out.report(segment_list("Closed", segments))
    for segment in segments:
        world.out.note(f"callmeter: closed {segment.lines:,} lines into {segment.name}")
    if not segments:
        world.out.note("callmeter: nothing to close")
