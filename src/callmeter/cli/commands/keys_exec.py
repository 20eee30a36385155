"""`callmeter budget keys exec`: run a command with an agent's key and tags.

callmeter budget keys exec code -- aider
callmeter budget keys exec code --session s-12 --purpose refactoring -- ./agent.py
callmeter budget keys exec code --provider openai -- ./old-script.sh
"""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer

from callmeter.cli.agent_key import key_of_agent
from callmeter.cli.auditing import audit
from callmeter.cli.options import Quiet, Verbose
from callmeter.cli.world import World
from callmeter.secrets.environment import MANAGEMENT_VARIABLE
from callmeter.secrets.holders import hold
from callmeter.store.settings import variable_of
from callmeter.words.errors import UsageError
from callmeter.words.tags import tag_value


def keys_exec(
    ctx: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent whose key and tags the command gets.")],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="The command, after `--`.")],
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="Whose key; unless given, the setting `provider`.")
    ] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", metavar="NAME", help="The tag `environment`: prod, dev.")
    ] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="The tag `session`.")] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", metavar="TEXT", help="The tag `purpose`.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run a command with an agent's key in its environment.

    The key is in the variable where the provider's tools look for it (OPENROUTER_API_KEY, OPENAI_API_KEY, …; the
    setting `key_variable` of a provider), the tags are in CALLMETER_AGENT and its like. The command takes the place of
    this process: signals and the exit status are its own. What it spends is on the agent's key, but not in the usage
    log, and no quota here stops it. It keeps the key that it was given: rotate with a grace period.
    """
    world: World = ctx.obj
    world.out.shape(quiet=quiet, verbose=verbose)
    given = {"agent": agent, "environment": environment, "session": session, "purpose": purpose}
    tags = {name: tag_value(name, value) for name, value in given.items() if value}
    wanted = tags.get("environment") or world.env.get(variable_of("environment"), "")
    key, found = key_of_agent(world, agent, provider, wanted)
    env = {name: value for name, value in world.env.items() if name != MANAGEMENT_VARIABLE}
    env.update({variable_of(name): value for name, value in tags.items()})
    env[found.key_variable] = key.reveal()
    audit(world)("key.exec", {"key": key.label, "fingerprint": key.fingerprint, "agent": agent, "program": command[0]})
    held = hold(world.paths.holders, key.label, key.fingerprint, command[0], world.now())
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and the command would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, env)
    except OSError as error:
        held.remove()
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot run {command[0]!r}: {reason}", "see whether it is installed and on PATH") from None
