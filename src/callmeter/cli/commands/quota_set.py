"""`callmeter budget quota set`: set a quota.

callmeter budget quota set agent:code 50 --hard
callmeter budget quota set agent:code 120 --stage 0.7=downgrade:openai/gpt-4o-mini --stage 0.9=approve
callmeter budget quota set 'session:*' 200000tok
callmeter budget quota set agent:code 100/day
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.amounts import limit_in, share_in
from callmeter.cli.auditing import audit
from callmeter.cli.waiting import make_ready
from callmeter.cli.world import World
from callmeter.flows.quotas import change_policy, foreseen_policy
from callmeter.policy.document import Policy
from callmeter.policy.quota_edit import Change, Wish, with_quota, written_quota
from callmeter.words.errors import UsageError
from callmeter.words.money import amount_text
from callmeter.words.subject import parse_subject


def quota_set(
    ctx: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="`total`, `agent:code`, `session:*`, `model:anthropic/*`, …")
    ],
    limit: Annotated[
        str, typer.Argument(metavar="LIMIT", help="`50` or `$50`, `100000tok`, `100calls`; `100/day`, `20/min`.")
    ],
    period: opt.QuotaPeriod = None,
    unit: opt.QuotaUnit = None,
    soft: Annotated[bool, typer.Option("--soft", help="Warn when it is used up.")] = False,
    hard: Annotated[bool, typer.Option("--hard", help="Stop calls that do not fit.")] = False,
    showback: Annotated[bool, typer.Option("--showback", help="Only show it.")] = False,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            "--stage",
            metavar="SHARE=ACTION",
            help="From this share on: `downgrade:MODEL`, `approve`, `stop`, `warn`. Repeatable; replaces all stages.",
        ),
    ] = None,
    warn_at: Annotated[
        list[str] | None,
        typer.Option("--warn-at", metavar="SHARE", help="Warn from this share on. Repeatable."),
    ] = None,
    reserve: Annotated[
        str | None,
        typer.Option("--reserve", metavar="SHARE", help="The last share is for `high` and `critical` calls."),
    ] = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Set a quota: change or add it in the policy, and leave the rest of the file as it is.

    What is not said stays as it was; for a new quota it is what the policy says for all. Without `--period` the
    subject's only quota in that unit is meant, else the policy's period. The file is checked first and replaced at
    once; the version before is kept as `budget.previous.json`.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    ways = [way for way, given in (("soft", soft), ("hard", hard), ("showback", showback)) if given]
    if len(ways) > 1:
        raise UsageError(f"--{ways[0]} and --{ways[1]} contradict each other", "keep one of them", code="contradiction")
    size, meant, per = limit_in(limit, unit, period)

    def changed(text: str, policy: Policy) -> Change:
        wish = Wish(
            parse_subject(subject, policy.aliases),
            size,
            meant,
            period=per,
            enforcement=ways[0] if ways else "",
            stages=tuple(_stage(each) for each in stage or ()),
            warn_at=tuple(share_in(each, "--warn-at") for each in warn_at) if warn_at else None,
            reserve=None if reserve is None else share_in(reserve, "--reserve"),
        )
        return with_quota(text, policy, wish)

    make_ready(world, foreseen_policy(world.paths.policy, changed))
    change, policy = change_policy(world.paths.policy, "quota.set", changed, audit(world))
    quota = written_quota(policy, (change.subject, change.period, change.unit))
    assert quota is not None
    done = "added" if change.before is None else "unchanged" if change.before == change.after else "changed"
    world.out.note(f"callmeter: {done}: {quota.name}: {amount_text(quota.limit, quota.unit)}, {quota.enforcement}")


def _stage(text: str) -> tuple[str, str]:
    share, equals, action = text.partition("=")
    if not equals:
        raise UsageError(f"--stage {text!r} is not SHARE=ACTION", "write `--stage 0.9=approve`")
    return format(share_in(share, "--stage"), "f"), action
