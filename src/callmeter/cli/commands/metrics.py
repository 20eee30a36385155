"""`callmeter budget metrics`: figures for scrapers.

callmeter budget metrics
callmeter budget metrics --out /srv/metrics/callmeter.prom
callmeter budget metrics --format json
"""

from __future__ import annotations

import enum
import os
from typing import Annotated

import typer

from callmeter import __version__
from callmeter.cli import options as opt
from callmeter.cli.exposition import as_json, exposition
from callmeter.cli.ledgers import ledger_of, recover_holds
from callmeter.cli.out_file import require_place
from callmeter.cli.reading import Clock, no_log, open_usage
from callmeter.cli.waiting import told
from callmeter.cli.world import World
from callmeter.flows.dashboard import Dashboard, dashboard
from callmeter.flows.held import held_now
from callmeter.reports.burn import Burn
from callmeter.reports.metrics import TOP
from callmeter.reports.metrics import metrics as metrics_of
from callmeter.store.files import replace_file


class Exposition(enum.StrEnum):
    """The shapes of metrics."""

    PROMETHEUS = "prometheus"
    OPENMETRICS = "openmetrics"
    JSON = "json"


def metrics(
    ctx: typer.Context,
    top: Annotated[
        int, typer.Option("--top", metavar="N", min=0, help="The N dearest agents by name, the rest as `other`.")
    ] = TOP,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Replace this file at once instead of printing.")
    ] = None,
    log: opt.Log = None,
    format: Annotated[
        Exposition, typer.Option("--format", help="The text format 0.0.4, OpenMetrics 1.0, or one JSON object.")
    ] = Exposition.PROMETHEUS,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Figures for scrapers: totals, agents, tokens, burn rates, error rates, quotas, held money, the log's health.

    One line a figure; how many there are is bounded. With `--out`, for node_exporter's textfile collector, everybody
    may read the file. Quotas are left out with `--log`: they are those of this host's ledger.
    """
    world: World = ctx.obj
    world.out.shape("json" if format is Exposition.JSON else "text", quiet=quiet, verbose=verbose)
    if out is not None:
        require_place(out)
    clock = Clock(world, None)
    usage = open_usage(world, log, clock)
    if log is not None and not usage.reading.files:
        raise no_log(log)
    burn = Burn(world.policy.quotas, usage, clock.now)
    board, held, up = Dashboard(), None, None
    if world.policy.quotas and log is None:
        board = dashboard(
            world.policy,
            lambda: ledger_of(world),
            lambda: recover_holds(world),
            world.paths,
            clock.now,
            lambda: burn.is_over,
            told(world),
        )
        for note in board.notes:
            world.out.warn(note.rstrip("."))
        held = held_now(lambda: ledger_of(world))
        up = held is not None
    families = metrics_of(
        usage,
        clock.now,
        __version__,
        stands=board.stands,
        left_out=sum(map(sum, board.left_out.values())),
        burn=burn,
        held=held,
        ledger_up=up,
        top=top,
    )
    if format is Exposition.JSON:
        text = as_json(families)
    else:
        text = exposition(families, openmetrics=format is Exposition.OPENMETRICS)
    if out is None:
        world.out.text(text)
        return
    # A scraper is another user, and nothing here is secret to one who may scrape.
    replace_file(os.path.realpath(out), text.encode("utf-8", "backslashreplace"), mode=0o644, sync=False)
