"""`callmeter budget policy show`: what the policy means, as a whole or for one call.

callmeter budget policy show
callmeter budget policy show --agent code --model openai/gpt-4o-mini
callmeter budget policy show --user alice --tag team=search --format json | jq .facts.model_allowed
callmeter budget policy show --schema > budget.schema.json
"""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.world import World
from callmeter.reports.policy_rules import policy_board, rules_for_call
from callmeter.words.subject import facts_of
from callmeter.words.tags import parse_tag


def policy_show(
    ctx: typer.Context,
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="A call by this agent.")] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="NAME", help="In this session.")] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", metavar="NAME", help="For this purpose.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="For this user.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="With any other tag.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help="To this model.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="LABEL", help="With this key.")] = None,
    provider: Annotated[str | None, typer.Option("--provider", metavar="NAME", help="At this provider.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON Schema of budget.json, for an editor.")] = False,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """What the policy means for a call, and where each rule comes from.

    Without options, all quotas and all lists of models. Roles, tiers, key profiles and rates are shown as the quotas
    that they are; all that a call falls under hold at once.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    if schema:
        world.out.text(files("callmeter.data").joinpath("budget.schema.json").read_text(encoding="utf-8"))
        return
    policy, path = world.policy, world.paths.policy
    given = {"agent": agent, "session": session, "purpose": purpose, "user": user}
    named = [*((name, value) for name, value in given.items() if value), *map(parse_tag, tag or ())]
    tags = {policy.aliases.get(name, name): value for name, value in named}
    facts = facts_of(tags, key=key or "", model=model or "", provider=provider or "")
    world.out.report(rules_for_call(policy, path, facts, world.now()) if facts else policy_board(policy, path))
