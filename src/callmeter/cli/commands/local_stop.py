"""`callmeter local stop`: stop the local model."""

from __future__ import annotations

import typer

from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.world import World


def local_stop(ctx: typer.Context, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Stop the local model.

    Calls that it is serving are cut off. Nothing happens when none is running.
    """
    from callmeter.providers.local import stop

    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    stopped = stop(world.paths.state_dir)
    world.out.note("callmeter: stopped" if stopped else "callmeter: no local model was running")
