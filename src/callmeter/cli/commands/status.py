"""`callmeter budget status`: where we stand, on one page.

callmeter budget status
callmeter budget status --watch
"""

from __future__ import annotations

from functools import cache
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.forecasting import look_ahead
from callmeter.cli.ledgers import ledger_of, recover_holds
from callmeter.cli.reading import Clock, open_usage, page_of, show_usage
from callmeter.cli.waiting import told
from callmeter.cli.watching import watch
from callmeter.cli.world import World
from callmeter.flows.dashboard import Dashboard, dashboard
from callmeter.reports.burn import Burn
from callmeter.reports.report import Board
from callmeter.reports.status import Spans
from callmeter.reports.status import status as status_at
from callmeter.reports.usage import Usage
from callmeter.words.errors import UsageError


def status(
    ctx: typer.Context,
    as_of: opt.AsOf = None,
    log: opt.Log = None,
    watched: Annotated[
        bool, typer.Option("--watch", help="Draw it again every two seconds, until `q` or Ctrl-C.")
    ] = False,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Where we stand: spend, quotas, burn rate, requests, what is frozen, last errors.

    With a policy also what is used, held and left of each quota and how long that lasts, thresholds passed, requests
    that wait for approval, and what is frozen; these are as they are now, so not with `--as-of` or `--log`.

    "Before" is the same stretch of the day, week or month before, up to the same time. The month's burn rate and the
    days that a quota lasts are straight lines.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    if not watched:
        page, usage = _page(world, as_of, log)
        show_usage(world, page, usage, log)
        if as_of is None and log is None:
            look_ahead(world, Clock(world, None))
        return
    if as_of is not None or format is not opt.Shape.TEXT:
        other = "--as-of" if as_of is not None else f"--format {format}"
        raise UsageError(f"--watch and {other} contradict each other", "keep one of them", code="contradiction")
    watch(world, lambda: _watched(world, log))


def _page(world: World, as_of: str | None, log: str | None) -> tuple[Board, Usage]:
    clock = Clock(world, as_of)
    spans = Spans(clock.now, clock.zone)
    policy = world.policy
    # Read when what dead processes owe is in the log.
    usage = cache(lambda: open_usage(world, log, clock))
    burn = cache(lambda: Burn(policy.quotas, usage(), clock.now))
    if as_of is not None or log is not None:
        notes = ["Quotas, requests and freezes are as they are now: see the page without --as-of and --log."]
        board = Dashboard(notes=notes if policy.quotas else [])
    else:
        board = dashboard(
            policy,
            lambda: ledger_of(world),
            lambda: recover_holds(world),
            world.paths,
            clock.now,
            lambda: burn().is_over,
            told(world),
        )
    page = status_at(
        usage(),
        spans,
        stands=board.stands,
        left_out=board.left_out,
        burn=burn(),
        allowances=board.allowances,
        enforced=any(quota.enforcement == "hard" and quota.unit == "usd" for quota in policy.quotas),
        notes=board.notes,
    )
    return page, usage()


def _watched(world: World, log: str | None) -> Board:
    if world.policy_changed():
        world.reread_policy()
    page, usage = _page(world, None, log)
    return page_of(world, page, usage, log)
