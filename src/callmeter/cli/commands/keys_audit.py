"""`callmeter budget keys audit`: the monthly review of the keys.

callmeter budget keys audit
callmeter budget keys audit --fail-if-any      # for cron
callmeter budget keys audit --fix              # on a terminal: asks before each command
"""

from __future__ import annotations

from typing import Annotated

import typer

from callmeter.cli.confirming import confirmed
from callmeter.cli.key_options import address_of
from callmeter.cli.options import Format, Quiet, Shape, Verbose
from callmeter.cli.reading import Clock, open_usage
from callmeter.cli.rotating import bench_of, due_of
from callmeter.cli.world import World
from callmeter.flows.key_account import Match, match_account
from callmeter.flows.key_audit import audited, seen_of
from callmeter.flows.keys import states_of
from callmeter.reports.key_audit import key_audit, key_faults
from callmeter.secrets.registry import read_registry
from callmeter.store.toml import read_toml
from callmeter.words.errors import CallmeterError, Exit, NoKey


def keys_audit(
    ctx: typer.Context,
    fix: Annotated[
        bool, typer.Option("--fix", help="Propose the command for each finding, and run it after a yes.")
    ] = False,
    fail_if_any: Annotated[
        bool, typer.Option("--fail-if-any", help="Exit with status 3 when anything was found.")
    ] = False,
    format: Format = Shape.TEXT,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Review the keys: what nobody owns, uses, limits or rotates, and what lies or spends where it should not.

    With a management key the account is asked too: ceilings that differ from the quotas, keys that nobody registered.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    paths, now = world.paths, world.now()
    entries = read_registry(read_toml(paths.keys, paths.cache), paths.keys)
    active = [entry for entry in entries.values() if entry.retired is None]
    states = states_of(active, world.stores, now)
    matches, unasked = _matches(world)
    keys = audited(
        active,
        matches,
        world.policy.quotas,
        state=lambda entry: states[entry.label],
        due=lambda entry: due_of(world, entry).at,
    )
    strays = [
        (match.record.name, match.record.hash)
        for match in matches
        if match.entry is None and match.record is not None and not match.record.disabled
    ]
    revived = [
        match.entry.label
        for match in matches
        if match.entry is not None
        and match.entry.retired is not None
        and match.record is not None
        and not match.record.disabled
    ]
    seen = seen_of(open_usage(world, None, Clock(world, None)), now)
    faults = key_faults(keys, seen, strays, now, revived)
    world.out.report(key_audit(faults, len(keys), unasked))
    if fix:
        for fault in faults:
            _propose(world, f"{fault.label}: {fault.text}", fault.command)
    if fail_if_any and faults:
        raise typer.Exit(int(Exit.REFUSED))


def _matches(world: World) -> tuple[list[Match], str]:
    """The account's keys beside ours, or why it was not asked: there is no management key, or it does not answer."""
    try:
        address = address_of(world, None, None)
        return match_account(bench_of(world), address["provider"], address["base_url"], learn=False), ""
    except CallmeterError as error:
        if not isinstance(error, NoKey):
            world.out.warn(f"the account was not asked: {error.message}")
        return [], f"The account was not asked, so its own keys and ceilings are not seen here: {error.message}."


def _propose(world: World, what: str, command: str) -> None:
    """Run a command after a yes. What needs a word from a person first is only shown."""
    if any(word in command for word in ("…", "AGENT", "LIMIT")) or not confirmed(world, f"{what}. Run `{command}`?"):
        world.out.say(f"callmeter: {what}: `{command}`")
        return
    import shlex
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-m", "callmeter", *shlex.split(command)[1:]], check=False)
    if done.returncode not in (Exit.DONE, Exit.REFUSED):
        world.out.warn(f"`{command}` ended with status {done.returncode}")
