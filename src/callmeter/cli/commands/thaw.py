"""`callmeter budget thaw`: let a frozen subject's calls pass again.

callmeter budget thaw agent:code --reason 'the loop is mended'
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.auditing import audit
from callmeter.cli.world import World
from callmeter.flows import approvals
from callmeter.words.subject import parse_subject


def thaw(
    ctx: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="What was frozen, as `budget freeze` named it.")],
    reason: opt.Reason = "",
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Let a frozen subject's calls pass again; also one that the loop breaker stopped."""
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    thawed = parse_subject(subject, world.policy.aliases)
    approvals.thaw(world.paths, world.policy, world.now(), thawed, by=world.who, reason=reason, audit=audit(world))
    world.out.note(f"callmeter: thawed: {thawed}")
