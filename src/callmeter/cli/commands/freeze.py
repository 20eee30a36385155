"""`callmeter budget freeze`: stop every call under a subject, at once.

callmeter budget freeze agent:code --reason 'runaway loop' --for 2h
callmeter budget freeze total --reason 'key leaked'
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.amounts import end_in
from callmeter.cli.auditing import audit
from callmeter.cli.world import World
from callmeter.flows import approvals
from callmeter.policy.document import Policy
from callmeter.words.errors import CallmeterError
from callmeter.words.subject import FACTS, parse_subject
from callmeter.words.tags import BUILT_IN


def freeze(
    ctx: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="`total`, `agent:code`, `model:anthropic/*`, `session:s-12`, …")
    ],
    reason: opt.ReasonTold,
    span: opt.For = None,
    until: opt.UntilThen = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Stop every call under a subject, from the next one on, until it is thawed.

    Calls that already run go on. `freeze total` stops everything. It needs no quota, and survives restarts.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    policy = _policy(world)
    frozen = approvals.freeze(
        world.paths,
        world.now(),
        parse_subject(subject, policy.aliases),
        until=end_in(world, span, until),
        by=world.who,
        reason=reason,
        audit=audit(world),
    )
    kind = frozen.subject.kind
    if kind not in ("total", *FACTS, *BUILT_IN, *policy.required, *policy.allowed):
        world.out.warn(f"{kind} is no built-in tag and not in the policy: only calls with `--tag {kind}=…` are stopped")
    world.out.note(f"callmeter: frozen: {frozen.subject}, {approvals.end_text(frozen.until)}")


def _policy(world: World) -> Policy:
    """The policy for its names of tags. A policy that cannot be read must not keep anybody from stopping calls."""
    try:
        return world.policy
    except CallmeterError as error:
        world.out.warn(error.message)
        return Policy()
