"""`callmeter budget quota guarantees`: what holds, and what does not.

callmeter budget quota guarantees
"""

from __future__ import annotations

import os

import typer

from callmeter.cli import options as opt
from callmeter.cli.world import World
from callmeter.ledger.open_ledger import without_password
from callmeter.reports.guarantees import Ground
from callmeter.reports.guarantees import guarantees as held


def quota_guarantees(
    ctx: typer.Context,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """What is enforced under this policy, where, how exactly, and what is out of reach.

    Who can write which file is said for the user who asks.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    paths = world.paths
    address = world.settings.text("ledger") or paths.ledger
    ground = Ground(
        without_password(address),
        shared=address.lower().startswith(("postgres://", "postgresql://")),
        writes_policy=_can_write(paths.policy),
        writes_approvals=_can_write(paths.approvals),
        writes_log=_can_write(paths.log),
    )
    world.out.report(held(world.policy, ground))


def _can_write(path: str) -> bool:
    """Whether this user can write a file, make it, or put another one in its place."""
    directory = os.path.dirname(path)
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    return os.access(path, os.W_OK) or os.access(directory, os.W_OK)
