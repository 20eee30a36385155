"""`callmeter budget quota unset`: remove a quota.

callmeter budget quota unset agent:code
callmeter budget quota unset agent:code --period day --unit calls
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.auditing import audit
from callmeter.cli.waiting import make_ready
from callmeter.cli.world import World
from callmeter.flows.quotas import change_policy, foreseen_policy
from callmeter.policy.document import Policy
from callmeter.policy.quota_edit import Change, without_quota
from callmeter.words.subject import parse_subject


def quota_unset(
    ctx: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="The quota's subject.")],
    period: opt.QuotaPeriod = None,
    unit: opt.QuotaUnit = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Remove a quota from the policy; nothing else in the file changes."""
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)

    def changed(text: str, policy: Policy) -> Change:
        return without_quota(text, policy, parse_subject(subject, policy.aliases), unit or "", period or "")

    make_ready(world, foreseen_policy(world.paths.policy, changed))
    change, _ = change_policy(world.paths.policy, "quota.unset", changed, audit(world))
    world.out.note(f"callmeter: removed: {change.subject} per {change.period} in {change.unit}")
