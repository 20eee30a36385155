"""`callmeter budget value`: what the spend brought.

callmeter budget value --this-month
callmeter budget value --last 30d --top 5 --format json
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.outcomes import standing_outcomes
from callmeter.cli.reading import Clock, open_usage, show_usage
from callmeter.cli.world import World
from callmeter.reports.value import TOP
from callmeter.reports.value import value as value_of


def value(
    ctx: typer.Context,
    top: Annotated[
        int, typer.Option("--top", metavar="N", min=1, help="The first N rows of each table, the rest as one row.")
    ] = TOP,
    since: opt.Since = None,
    until: opt.Until = None,
    last: opt.Last = None,
    month: opt.Month = None,
    today: opt.Today = False,
    yesterday: opt.Yesterday = False,
    this_week: opt.ThisWeek = False,
    last_week: opt.LastWeek = False,
    this_month: opt.ThisMonth = False,
    last_month: opt.LastMonth = False,
    as_of: opt.AsOf = None,
    log: opt.Log = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """What the spend brought: cost per output and return, by agent, purpose, work item.

    A period is about the calls made and the outcomes that happened in it. Return is value divided by cost, all cost of
    an agent or purpose included. An output is an outcome that was accepted, or has a value and was not rejected.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    clock = Clock(world, as_of)
    period = clock.period(ctx)
    outcomes, notes = standing_outcomes(world, clock, period)
    usage = open_usage(world, log, clock)
    page = value_of(usage, outcomes, period=period, top=top)
    show_usage(world, replace(page, notes=[*page.notes, *notes]), usage, log)
