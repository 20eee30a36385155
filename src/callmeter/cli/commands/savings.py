"""`callmeter budget savings`: what could be saved, and how.

callmeter budget savings
callmeter budget savings --last 90d --top 5
callmeter budget savings --to openai/gpt-4o-mini
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.reading import Clock, open_usage, show_usage
from callmeter.cli.world import World
from callmeter.flows.offers import offers_of
from callmeter.reports.savings import TOP
from callmeter.reports.savings import savings as savings_of
from callmeter.reports.savings_zombies import zombies_of

SPAN = "30d"


def savings(
    ctx: typer.Context,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="MODEL", help="What if this model had served? Instead of those listed or in use."),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="The N largest, the rest as one row.")] = TOP,
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
    """What could be saved in a month: cheaper models, caches, failed calls, long answers, zombie sessions.

    From the last 30 days, unless another period is named. Each call counts once. Models come from the policy's lists,
    without lists from what is in use; a `*` in a list stands for the models in use.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    clock = Clock(world, as_of)
    period = clock.period(ctx, SPAN)
    usage = open_usage(world, log, clock)
    report = savings_of(
        usage,
        world.policy,
        offers_of(world.paths, world.settings.providers),
        period,
        clock.now,
        zombies=zombies_of(usage, world.policy, period, clock.now),
        only=to or (),
        top=top,
    )
    show_usage(world, report, usage, log)
