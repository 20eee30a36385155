"""`callmeter budget deny`: refuse a request, or take an approval back.

callmeter budget deny r-7k3m9x2q --reason 'use the cheaper model'
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.auditing import audit
from callmeter.cli.world import World
from callmeter.flows import approvals


def deny(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The request's id, as `budget requests` lists it.")],
    reason: opt.ReasonTold,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Refuse a request, or take an approval back.

    Calls that would need the approval are then refused (status 3) without asking again, until the period ends.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    denial = approvals.deny(world.paths, world.now(), id, by=world.who, reason=reason, audit=audit(world))
    world.out.note(f"callmeter: denied: {denial.bucket}, {approvals.end_text(denial.until)}")
