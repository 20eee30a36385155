"""`callmeter budget quota suggest`: quotas that would fit what is used.

callmeter budget quota suggest
callmeter budget quota suggest --by purpose --period week
callmeter budget quota suggest agent:code --apply
"""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.auditing import audit
from callmeter.cli.confirming import require_yes
from callmeter.cli.reading import Clock, open_usage, show_usage
from callmeter.cli.world import World
from callmeter.flows.quotas import set_quota
from callmeter.policy.quota_edit import Wish
from callmeter.reports.quota_suggestion import PERIODS, suggestion_report, suggestions
from callmeter.words.errors import UsageError
from callmeter.words.subject import parse_subject
from callmeter.words.tags import tag_name
from callmeter.words.wording import counted


class Per(enum.StrEnum):
    """The periods for which there is a suggestion."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def quota_suggest(
    ctx: typer.Context,
    subjects: Annotated[
        list[str] | None, typer.Argument(metavar="SUBJECT", help="Only for these: `agent:code`, `total`.")
    ] = None,
    by: Annotated[str, typer.Option("--by", metavar="TAG", help="For each value of this tag.")] = "agent",
    period: Annotated[
        Per | None, typer.Option("--period", help="The quotas' period; the policy's if not given.")
    ] = None,
    unit: Annotated[opt.Units, typer.Option("--unit", help="The quotas' unit.")] = opt.Units.USD,
    apply: Annotated[bool, typer.Option("--apply", help="Set them, after showing them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_of: opt.AsOf = None,
    log: opt.Log = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Quotas that would fit what is used, and on what evidence; --apply sets them.

    Two figures by the forecast's model: what the next period is expected to take, plus 30%, and what is enough for it
    with 9 chances in 10.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    policy, clock = world.policy, Clock(world, as_of)
    wanted = [parse_subject(text, policy.aliases) for text in subjects or ()]
    tag = tag_name(by)
    tags = {subject.kind for subject in wanted if subject.kind != "total"} or {policy.aliases.get(tag, tag)}
    if len(tags) > 1:
        raise UsageError(f"the subjects are of several kinds: {', '.join(sorted(tags))}", "ask for one at a time")
    per = period or (policy.period if policy.period in PERIODS else Per.MONTH)
    usage = open_usage(world, log, clock)
    found = suggestions(usage, tags.pop(), per, unit, clock.now, clock.zone)
    if wanted:
        found = [each for each in found if each.subject in map(str, wanted)]
    limits = {str(q.subject): q.limit for q in policy.quotas if (q.period, q.unit) == (per, unit)}
    show_usage(world, suggestion_report(found, limits, per, unit), usage, log)
    if not apply:
        return
    wishes = [
        Wish(parse_subject(each.subject), each.suggested, unit, period=per)
        for each in found
        if each.suggested and limits.get(each.subject) != each.suggested
    ]
    if wishes:
        require_yes(world, f"Set {len(wishes)} quotas?" if len(wishes) > 1 else "Set this quota?", yes)
    for wish in wishes:
        set_quota(world.paths.policy, wish, audit(world))
    world.out.note(f"callmeter: set: {counted(len(wishes), 'quota')}")
