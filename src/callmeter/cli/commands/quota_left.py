"""`callmeter budget quota left`: what an agent may still use. Fast: a script asks before it dispatches work.

callmeter budget quota left --agent code --at-least 0.05 && ./next-job
callmeter budget quota left --agent code --json | jq .usd.left

This signature is the one definition of the command line; `cli/lane_table.py` is generated from it.
"""

from __future__ import annotations

from typing import Annotated

import typer


def quota_left(
    ctx: typer.Context,
    agent: Annotated[str | None, typer.Option("--agent", "--caller", metavar="NAME", help="The agent.")] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="In this session.")] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", metavar="TEXT", help="For this purpose.")] = None,
    priority: Annotated[
        str | None,
        typer.Option("--priority", metavar="LEVEL", help="For calls of this priority: a quota may reserve a share."),
    ] = None,
    environment: Annotated[str | None, typer.Option("--environment", metavar="NAME", help="In this one.")] = None,
    cost_center: Annotated[str | None, typer.Option("--cost-center", metavar="NAME", help="Paid by this one.")] = None,
    work_item: Annotated[str | None, typer.Option("--work-item", metavar="ID", help="For this ticket or task.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", metavar="NAME", help="For this customer.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="For this end user.")] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", metavar="NAME", help="In this procedure.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="With any other tag. Repeatable.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="To this model.")] = None,
    provider: Annotated[str | None, typer.Option("--provider", metavar="NAME", help="At this provider.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="LABEL", help="With this key.")] = None,
    at_least: Annotated[
        str | None, typer.Option("--at-least", metavar="USD", help="Room means that at least this is left.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no warnings on stderr.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")] = False,
) -> None:
    """What is left for an agent, in the tightest of its quotas: in dollars, tokens and calls.

    The exit status says whether to go on: 0 there is room, 3 there is none until a reset or a change, 4 approval is
    needed, 8 calls in flight hold the rest. Nothing is held: a call that follows may still come too late.
    """
    from callmeter.cli.remaining import run

    raise typer.Exit(run(ctx.obj, ctx.params))
