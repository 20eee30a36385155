"""`callmeter budget tags`: how well calls are tagged, and how much money stands under wrong names.

callmeter budget tags --last 7d
callmeter budget tags --this-month --known team --fail-if-any
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.reading import Clock, open_usage, show_usage
from callmeter.cli.world import World
from callmeter.reports.tag_discipline import tag_discipline
from callmeter.words.errors import Refused
from callmeter.words.tags import tag_name
from callmeter.words.wording import counted


def tags(
    ctx: typer.Context,
    known: Annotated[
        list[str] | None,
        typer.Option("--known", metavar="TAG", help="A tag that is in order though no policy names it. Repeatable."),
    ] = None,
    fail_if_any: Annotated[
        bool, typer.Option("--fail-if-any", help="Exit with status 3 when anything was found.")
    ] = False,
    where: opt.Where = None,
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
    """Tags that are missing, unknown, drifting or too many, by agent.

    Each finding comes with the money behind it. Known are the built-in tags and those that the policy requires or
    restricts. Drifting names and values look like another one: `ticket_uuid` beside `ticket_id`, `Code-Review` beside
    `code_review`.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    clock = Clock(world, as_of)
    period = clock.period(ctx)
    usage = open_usage(world, log, clock)
    names = [tag_name(name) for name in known or ()]
    report = tag_discipline(usage, world.policy, names, period=period, where=where or ())
    show_usage(world, report, usage, log)
    if fail_if_any and report.rows:
        raise Refused(
            f"{counted(len(report.rows), 'finding')} about tags",
            "set the tags where the calls are made, or name them in the policy's `tags`",
            code="tag_findings",
            findings=len(report.rows),
        )
