"""`callmeter budget quota check`: would this call pass?

callmeter budget quota check --agent code -m openai/gpt-4o-mini --prompt-size 12000
callmeter budget quota check --agent code -m openai/gpt-4o-mini --max-tokens 500 "$prompt" && llm-call …
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.world import World


def quota_check(
    ctx: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="The prompt: its size counts, and its likeness.")
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
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Would this call pass? It is composed and decided like that of `llm-call`, and then not made.

    The exit status and the message are those that the call would have: 0 it would pass, 2 tags are missing, 3 a quota,
    a list of models, a freeze or the loop breaker stops it, 4 it needs approval, 6 it has no key, 8 calls in flight
    hold the rest.
    Nothing is held, asked for, remembered or logged. The loop breaker compares a PROMPT that is given.
    """
    from callmeter.cli.checking import Tried, show_admission

    world: World = ctx.obj
    world.out.shape("json" if json else "text", quiet=quiet, verbose=verbose)
    tried = Tried(world, ctx.params)
    show_admission(world, tried, tried.admission())
