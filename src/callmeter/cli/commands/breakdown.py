"""`callmeter budget breakdown`: what was spent, by whom and for what.

callmeter budget breakdown --by-agent --by-purpose --this-month
callmeter budget breakdown --by-day --last 7d --where 'model=anthropic/*'
callmeter budget breakdown --by-agent --compare last-week --sort change
callmeter budget breakdown --by-day --this-month --cumulative
callmeter budget breakdown --by-model --last 7d --percentiles --chart
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.breakdown_options import Sort, groupings, require_consistent
from callmeter.cli.reading import Clock, open_usage, show_usage
from callmeter.cli.world import World
from callmeter.reports.breakdown import Question
from callmeter.reports.breakdown import breakdown as break_down
from callmeter.words.comparison import compared_period, with_default

# Nobody reads on beyond so many rows; and of sessions there may be hundreds of thousands.
_READ = 1_000


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
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="PERIOD",
            help="With `last-week`, `last-month`, `previous` (the one before) or `DATE..DATE`: what was different.",
        ),
    ] = None,
    percentiles: Annotated[
        bool, typer.Option("--percentiles", help="p50, p90, p95 and p99 of a call's cost and of latency.")
    ] = False,
    cumulative: Annotated[
        bool,
        typer.Option("--cumulative", help="With --by-day and the like: running totals, and their share of a quota."),
    ] = False,
    chart: Annotated[
        bool,
        typer.Option(
            "--chart", help="The course of each group over the period, by hour, day, week or month; in text only."
        ),
    ] = False,
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

    Several groupings make a tree, in the order in which they are given. In text and Markdown the groups of a level by
    session, work item or the like are a thousand at most, the rest one row, unless `--top` says how many. Calls that
    were refused before anything was sent are not counted as calls; a cost that nobody knows is shown as unknown and is
    in no sum. `took` is the mean latency of answered calls; percentiles are by nearest rank, those of cost over all
    calls whose cost is known.

    A first grouping by a unit of time has rows for those without calls, too. `--compare last-week` is about this
    week unless another period is given, and takes as much of last week as is over of this one; so does `last-month`.
    With `--by-day` and the like each day stands against the same day of the other period, counted from its beginning.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    clock = Clock(world, as_of)
    period = clock.period(ctx)
    by_names = groupings(ctx.meta["callmeter.arguments"]) or ["agent"]
    aliases = world.policy.aliases
    require_consistent(by_names, aliases, compare=compare, cumulative=cumulative, top=top, sort=sort)
    before = None
    if compare is not None:
        period = with_default(compare, period, clock.now, clock.zone)
        before = compared_period(compare, period, clock.now, clock.zone)
    question = Question(
        by=by_names,
        where=where or (),
        top=top or 0,
        most=_READ if format in (opt.Shape.TEXT, opt.Shape.MARKDOWN) else 0,
        sort=sort or "",
        period=period,
        aliases=aliases,
        compare=before,
        percentiles=percentiles,
        cumulative=cumulative,
        chart=chart and format is opt.Shape.TEXT,
        now=clock.now,
        quotas=world.policy.quotas,
    )
    usage = open_usage(world, log, clock)
    show_usage(world, break_down(usage, question), usage, log)
