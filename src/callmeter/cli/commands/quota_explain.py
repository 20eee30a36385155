"""`callmeter budget quota explain`: the arithmetic of quotas, line by line.

callmeter budget quota explain agent:code
callmeter budget quota explain --agent code --session s-12 -m openai/gpt-4o-mini --prompt-size 12000
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.asking import allowances_of, facts_given, teller_of
from callmeter.cli.checking import as_caller, foreseen
from callmeter.cli.ledgers import recover_holds
from callmeter.cli.world import World
from callmeter.flows.quota_listing import grants_of, holders_of
from callmeter.policy.coverage import all_on, buckets_of, one_bucket
from callmeter.reports.quota_standings import explanation


def quota_explain(
    ctx: typer.Context,
    subject: Annotated[
        str | None, typer.Argument(metavar="SUBJECT", help="Its quotas; without it, all that a call would fall under.")
    ] = None,
    prompt_size: opt.PromptSize = None,
    model: opt.Model = None,
    max_tokens: opt.MaxTokens = None,
    provider: opt.Provider = None,
    base_url: opt.BaseUrl = None,
    key: opt.Key = None,
    agent: opt.Agent = None,
    session: opt.Session = None,
    purpose: opt.Purpose = None,
    priority: opt.Priority = None,
    environment: opt.Environment = None,
    cost_center: opt.CostCenter = None,
    work_item: opt.WorkItem = None,
    customer: opt.Customer = None,
    user: opt.User = None,
    workflow: opt.Workflow = None,
    tag: opt.Tag = None,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """The arithmetic of quotas: limit, approvals, used, held by whom, what a call would take, what is missing.

    With a model, a prompt's size or a ceiling, for such a call: its worst case is a line, and the notes say what would
    become of it. A negative amount is taken from the limit.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    policy, allowances, given = world.policy, allowances_of(world), dict(ctx.params)
    teller = teller_of(world)
    if policy.quotas:
        recover_holds(world)
    if subject is None:
        facts = facts_given(world, given)
        stands = teller.stands(facts, allowances)
    else:
        bucket = one_bucket(subject, policy)
        facts = as_caller(bucket, given)
        stands = teller.stands_in(buckets_of(all_on(policy, bucket), bucket, policy, world.now()), allowances)
    wanted, notes = foreseen(world, given, allowances.frozen(facts))
    holders, grants = holders_of(teller, stands), grants_of(allowances, stands)
    board = explanation(stands, holders, grants, wanted, world.now(), [*notes, *allowances.problems])
    world.out.report(board)
