"""`callmeter budget watch`: what goes on right now, on a screen of its own.

callmeter budget watch
callmeter budget watch --agent code --interval 5
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.world import World


def watch(
    ctx: typer.Context,
    agent: Annotated[
        list[str] | None,
        typer.Option("--agent", metavar="NAME", help="Only this agent's calls; `*` matches. Repeatable."),
    ] = None,
    where: opt.Where = None,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.2, max=60, help="From one look to the next.")
    ] = 1.0,
    log: opt.Log = None,
) -> None:
    """What goes on right now: calls as they come in, spend rates, running calls, quotas, requests, freezes.

    On the whole terminal, until `q` or Ctrl-C. Warns of an hour that costs far more than the same hour of like days.
    `--agent` and `--where` choose calls; quotas, requests and freezes are always all. With `--log` only that log is
    shown, without quotas and running calls.
    """
    from callmeter.cli.reading import require_log
    from callmeter.cli.screen import require_screen
    from callmeter.cli.watch_loop import follow

    world: World = ctx.obj
    hint = "run `callmeter budget status` for one page, or `callmeter budget log show --follow` for a line a call"
    require_screen(world, "budget watch", hint)
    require_log(log)
    follow(world, log, [*(f"agent={name}" for name in agent or ()), *(where or ())], interval)
