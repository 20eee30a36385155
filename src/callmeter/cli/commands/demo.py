"""`callmeter demo`: real tagged calls to a local model, then the reports."""

from __future__ import annotations

import os
import subprocess
import sys

import typer

from callmeter.cli.world import World
from callmeter.words.errors import CallmeterError, Exit, Stopped


def demo(ctx: typer.Context) -> None:
    """See it work: real tagged calls to a local model, then the reports.

    Needs no account, no key and no network. It works in a directory of its own, which it empties each time it begins,
    and touches nothing else. The lines that it shows are the commands that it runs.
    """
    from callmeter.flows.demo import SCRIPT, environment, model, prepare
    from callmeter.store.places import find_places

    world: World = ctx.obj
    out = world.out
    # Not world.paths: a broken config.toml is no concern here.
    home = prepare(find_places(world.env).state_dir, world.now())
    env = environment(home, world.env, os.path.dirname(sys.executable))
    out.text("# A few agents share a small real model on this machine (SmolLM2-135M); it makes things up.")
    server = model(home)
    out.text(f"# It listens on {server.base_url} and ends a minute after the last call.")
    out.text(f"$ export CALLMETER_HOME={home}")
    for step in SCRIPT:
        out.text(f"\n# {step.says}\n$ {step.line}")
        status = subprocess.run(["sh", "-c", step.line], env=env, stdin=subprocess.DEVNULL).returncode
        if status == Exit.PIPE_CLOSED:
            raise Stopped(Exit.PIPE_CLOSED)
        if status != step.status:
            raise CallmeterError(f"this step of the demo ended with status {status}, not {step.status}: {step.line}")
        if status:
            out.text(f"(exit status {status})")
    out.text(
        "\n# Next: export CALLMETER_HOME as above and try your own `llm-call`s here;"
        "\n# or unset it and call a hosted model, with a key that `callmeter budget keys add` has read:"
        '\n#   llm-call --agent me --purpose trial -m openai/gpt-4o-mini "Hello"'
    )
