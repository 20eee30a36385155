"""`callmeter budget breakdown`: what was spent, by whom and for what.

callmeter budget breakdown --by-agent --by-purpose --this-month
callmeter budget breakdown --by-day --last 7d --where 'model=anthropic/*'
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.reading import Clock, open_usage, show_usage
from callmeter.cli.world import World
from callmeter.reports.breakdown import Question
from callmeter.reports.breakdown import breakdown as break_down
from callmeter.words.period import chosen_period


class Sort(enum.StrEnum):
    """What rows can be sorted by."""

    COST = "cost"
    CALLS = "calls"
    TOKENS = "tokens"
    NAME = "name"
    LATENCY = "latency"
    ERRORS = "errors"


def breakdown(
    ctx: typer.Context,
    by_agent: Annotated[bool, typer.Option("--by-agent", help="Group by agent.")] = False,
    by_purpose: Annotated[bool, typer.Option("--by-purpose", help="Group by purpose.")] = False,
    by_model: Annotated[bool, typer.Option("--by-model", help="Group by model.")] = False,
    by_session: Annotated[bool, typer.Option("--by-session", help="Group by session.")] = False,
    by_day: Annotated[bool, typer.Option("--by-day", help="Group by day.")] = False,
    by_week: Annotated[bool, typer.Option("--by-week", help="Group by week.")] = False,
    by_month: Annotated[bool, typer.Option("--by-month", help="Group by month.")] = False,
    by_hour: Annotated[bool, typer.Option("--by-hour", help="Group by hour.")] = False,
    by_key: Annotated[bool, typer.Option("--by-key", help="Group by key.")] = False,
    by_environment: Annotated[bool, typer.Option("--by-environment", help="Group by environment.")] = False,
    by_work_item: Annotated[bool, typer.Option("--by-work-item", help="Group by work item.")] = False,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="TAG", help="Group by any tag, or by provider, status, host. Repeatable."),
    ] = None,
    where: opt.Where = None,
    top: Annotated[
        int | None,
        typer.Option("--top", metavar="N", min=1, help="Only the N dearest groups of a level, the rest as one row."),
    ] = None,
    sort: Annotated[
        Sort | None, typer.Option("--sort", help="Order of the rows: by cost, and by time for units of time.")
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
    log: opt.Log = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """What was spent, by agent, purpose, model, day or any tag.

    Several groupings make a tree, in the order in which they are given. Calls that were refused before anything was
    sent are not counted as calls; a cost that nobody knows is shown as unknown and is in no sum. Latency is that of
    answered calls; p95 by nearest rank.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    clock = Clock(world, as_of)
    period = chosen_period(
        clock.now,
        clock.zone,
        since=since,
        until=until,
        last=last,
        month=month,
        today=today,
        yesterday=yesterday,
        this_week=this_week,
        last_week=last_week,
        this_month=this_month,
        last_month=last_month,
    )
    question = Question(
        by=_groupings(ctx.meta["callmeter.arguments"]) or ("agent",),
        where=where or (),
        top=top or 0,
        sort=sort or "",
        period=period,
        aliases=world.policy.aliases,
    )
    usage = open_usage(world, log, clock)
    show_usage(world, break_down(usage, question), usage, log)


def _groupings(arguments: Sequence[str]) -> list[str]:
    """The groupings in the order of the command line, which Typer does not keep across different options."""
    found = []
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        option, equals, value = argument.partition("=")
        if option == "--by":
            found.append(value if equals else following)
        elif option.startswith("--by-"):
            found.append(option.removeprefix("--by-"))
    return found
