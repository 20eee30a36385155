"""`callmeter budget recover`: finish what dead processes left, and see that ledger and usage log agree.

callmeter budget recover
callmeter budget recover --check
callmeter budget recover --rebuild
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.recovering import accept, compare, finish, rebuild_ledger
from callmeter.cli.world import World
from callmeter.words.errors import UsageError


def recover(
    ctx: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Compare the ledger with the log; change nothing. Status 3 if they differ.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Count the ledger anew from the log; a damaged one is moved aside.")
    ] = False,
    clock: Annotated[
        bool, typer.Option("--accept-clock", help="The clock was ahead and is right now: drop windows of the future.")
    ] = False,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Finish what dead processes left, and ask the provider for costs that are only estimated.

    Every call does the first by itself, for what it finds; this does all of it, and is for cron. Run twice, or by
    many at once, it does everything once.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    if check + rebuild + clock > 1:
        raise UsageError("--check, --rebuild and --accept-clock do different things", "run them one after the other")
    if rebuild:
        rebuild_ledger(world)
    elif check:
        compare(world)
    elif clock:
        accept(world)
    else:
        finish(world)
