"""`callmeter budget quota left`: what an agent may still use. Fast: a script asks before it dispatches work.

callmeter budget quota left --agent code --at-least 0.05 && ./next-job
callmeter budget quota left --agent code --json | jq .usd.left

This signature is the one definition of the command line; `cli/lane_table.py` is generated from it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt


def quota_left(
    ctx: typer.Context,
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
    model: opt.Model = None,
    provider: opt.Provider = None,
    key: opt.Key = None,
    at_least: Annotated[
        str | None, typer.Option("--at-least", metavar="USD", help="Room means that at least this is left.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """What is left for an agent, in the tightest of its quotas: in dollars, tokens and calls.

    The exit status says whether to go on: 0 there is room, 3 there is none until a reset or a change, 4 approval is
    needed, 8 calls in flight hold the rest. Nothing is held: a call that follows may still come too late.
    """
    from callmeter.cli.remaining import run

    raise typer.Exit(run(ctx.obj, ctx.params))
