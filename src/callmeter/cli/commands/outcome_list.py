"""`callmeter budget outcome list`: what was recorded.

callmeter budget outcome list --this-month
callmeter budget outcome list --work-item SUP-1 --format json
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.outcomes import standing_outcomes
from callmeter.cli.reading import Clock
from callmeter.cli.world import World
from callmeter.reports.outcomes import outcome_list as listed


def outcome_list(
    ctx: typer.Context,
    work_item: Annotated[
        str | None, typer.Option("--work-item", metavar="ID", help="Only of this ticket or task.")
    ] = None,
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
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """The outcomes that were recorded, corrections applied.

    The period is that in which they happened.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    clock = Clock(world, as_of)
    period = clock.period(ctx)
    outcomes, notes = standing_outcomes(world, clock, period)
    chosen = [each for each in outcomes if work_item is None or each.work_item == work_item]
    report = listed(chosen, period, str(clock.zone))
    world.out.report(replace(report, notes=[*report.notes, *notes]))
