"""`callmeter budget status`: where we stand, on one page."""

from __future__ import annotations

import typer

from callmeter.cli import options as opt
from callmeter.cli.reading import Clock, open_log, show
from callmeter.cli.world import World
from callmeter.reports.status import Spans
from callmeter.reports.status import status as status_at


def status(
    ctx: typer.Context,
    as_of: opt.AsOf = None,
    log: opt.Log = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Where we stand: spend today, this week, this month; burn rate; last errors.

    "Before" is the same stretch of the day, week or month before, up to the same time. The month's burn rate is a
    straight line from the month so far.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    clock = Clock(world, as_of)
    spans = Spans(clock.now, clock.zone)
    reader = open_log(world, log, spans.whole, clock)
    show(world, status_at(reader, spans, clock.as_of), reader, log)
