"""`callmeter budget log show`: the calls one by one.

callmeter budget log show --last 24h --where agent=code
callmeter budget log show -n 20 --follow
callmeter budget log show --status error --format jsonl | jq .error
"""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.call_stream import CallStream
from callmeter.cli.reading import Clock
from callmeter.cli.world import World


class Status(enum.StrEnum):
    """What became of a call."""

    OK = "ok"
    ERROR = "error"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    UNKNOWN = "unknown"


def log_show(
    ctx: typer.Context,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", metavar="N", min=0, help="Only the last N; with --follow, 10.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Then wait for more, until Ctrl-C.")] = False,
    status: Annotated[
        list[Status] | None,
        typer.Option("--status", metavar="STATUS", help="Only calls that ended so: ok, error, …; repeatable."),
    ] = None,
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
    """The calls in the usage log, one a line; --follow for those to come.

    In the order of the log, which is that in which calls ended; the lines of `--format jsonl` are the log's own.
    Closed segments are read too. What is not a usage line is left out: see `callmeter budget log verify`.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    clock = Clock(world, as_of)
    period = clock.period(ctx)
    conditions = [*(where or ()), *(f"status={each}" for each in status or ())]
    stream = CallStream(world, log, clock, period, conditions)
    if follow:
        stream.follow(10 if lines is None else lines)
    else:
        stream.show(lines)
