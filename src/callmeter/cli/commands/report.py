"""`callmeter budget report`: the review of the last day, week or month.

callmeter budget report --weekly
callmeter budget report --weekly --mail-to team@example.org
callmeter budget report --monthly --as-of 2026-11-01 --out october.html
"""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.reading import Clock, open_usage, page_of
from callmeter.cli.reviewing import made, posted, rotation_period, saved, shape_for
from callmeter.cli.world import World
from callmeter.flows.review import Ground, sources
from callmeter.reports.review import review
from callmeter.reports.review_span import last_span
from callmeter.words.errors import UsageError


class Shape(enum.StrEnum):
    """The shapes of a review."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"


def report(
    ctx: typer.Context,
    weekly: Annotated[
        bool, typer.Option("--weekly", help="The last complete week, Monday to Sunday (default).")
    ] = False,
    monthly: Annotated[bool, typer.Option("--monthly", help="The last complete month.")] = False,
    daily: Annotated[bool, typer.Option("--daily", help="The last complete day.")] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="Put it into this file at once; its ending says the shape."),
    ] = None,
    mail_to: Annotated[
        list[str] | None,
        typer.Option(
            "--mail-to", metavar="ADDRESS", help="Mail it by the local sendmail, as text and HTML. Repeatable."
        ),
    ] = None,
    as_of: opt.AsOf = None,
    log: opt.Log = None,
    format: Annotated[
        Shape | None, typer.Option("--format", help="Shape of the output: the same sections in each.")
    ] = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """The review of the last week, month or day: what was spent, by whom, why it changed, what to look at.

    With `--out` or `--mail-to` nothing is printed. Why it changed is worked out exactly: the causes add up to the
    change. Quotas are as the log says they were used when the time reviewed ended, under today's policy.
    """
    world: World = ctx.obj
    world.out.shape("json" if format in (Shape.JSON, Shape.JSONL) else "text", quiet=quiet, verbose=verbose)
    chosen = [unit for unit, wanted in (("week", weekly), ("month", monthly), ("day", daily)) if wanted]
    if len(chosen) > 1:
        raise UsageError("--weekly, --monthly and --daily contradict each other", "keep one", code="contradiction")
    shape = shape_for(format, out, mail_to or ())
    clock = Clock(world, as_of)
    span = last_span(clock.now, chosen[0] if chosen else "week", clock.zone)
    usage = open_usage(world, log, clock)
    own, live = log is None, log is None and as_of is None
    ground = Ground(world.policy, world.paths, world.settings, clock.now, own, live, rotation_period(world))
    board = review(usage, span, sources(usage, span, ground))
    page = page_of(world, board, usage, log)
    if out is not None:
        saved(world, out, made(world, page, shape))
    if mail_to:
        posted(world, mail_to, page)
    if out is None and not mail_to:
        world.out.text(made(world, page, shape, printed=True))
