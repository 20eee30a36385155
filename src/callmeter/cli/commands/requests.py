"""`callmeter budget requests`: what waits for approval.

callmeter budget requests
callmeter budget requests --all --format json
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.world import World
from callmeter.reports.requests import requests as listed
from callmeter.store.approvals import read_everything


def requests(
    ctx: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also those that were answered or have expired.")] = False,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """What waits for approval, and what is frozen."""
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    world.out.report(listed(read_everything(world.paths, world.now()), everything=every))
