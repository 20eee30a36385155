"""`callmeter budget log verify`: is every line a usage line, and every call there once?

callmeter budget log verify
callmeter budget log verify --log 'hosts/*/usage*.jsonl*' --format json | jq .facts
"""

from __future__ import annotations

import typer

from callmeter.cli import options as opt
from callmeter.cli.reading import require_log
from callmeter.cli.world import World
from callmeter.flows.log_check import check_log
from callmeter.reports.log_faults import log_faults
from callmeter.words.errors import Refused
from callmeter.words.wording import counted


def log_verify(
    ctx: typer.Context,
    log: opt.Log = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Check every line of the usage log.

    Faults are lines that are no usage lines (reports leave them out), calls that are there twice (the first counts),
    half a line at the end (the next call seals it), and corrections of calls that are not there. With a fault the
    exit status is 3. Nothing is changed: the log is never rewritten.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    require_log(log)
    path = log or world.paths.log
    checked = check_log(path)
    world.out.report(log_faults(checked))
    if checked.faults:
        raise Refused(
            f"{path} has {counted(sum(checked.counts.values()), 'fault')}", code="log_faults", faults=checked.counts
        )
