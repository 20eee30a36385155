"""`callmeter budget rotate-key`: give an agent a new key, and strand nobody.

callmeter budget rotate-key code@openrouter
callmeter budget rotate-key --due                     # for cron, daily and at 00:05 UTC
callmeter budget rotate-key code@openrouter --now     # it leaked
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.key_options import expiry
from callmeter.cli.rotating import bench_of, due_of, exit_status, progress_report, rotation_of, span_in, status_of
from callmeter.cli.secret_input import read_secret
from callmeter.cli.trial_calls import trial_models
from callmeter.cli.world import World
from callmeter.flows.keys import unknown_key
from callmeter.flows.rotation import roll_back, rotate
from callmeter.flows.rotation_run import Progress, Wishes
from callmeter.secrets.registry import Entry, read_registry
from callmeter.store.toml import read_toml
from callmeter.words.errors import CallmeterError, UsageError
from callmeter.words.instant import parse_instant


def rotate_key(
    ctx: typer.Context,
    label: Annotated[str | None, typer.Argument(metavar="LABEL", help="The key to rotate.")] = None,
    due: Annotated[
        bool, typer.Option("--due", help="All that are older than their period or expire soon; goes on with others.")
    ] = False,
    all_keys: Annotated[bool, typer.Option("--all", help="Every key.")] = False,
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="The keys of this agent.")] = None,
    owner: Annotated[str | None, typer.Option("--owner", metavar="WHO", help="The keys that WHO answers for.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="The keys of this end user.")] = None,
    status: Annotated[bool, typer.Option("--status", help="Only say where rotations stand, and who is due.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was begun; begin nothing.")] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Give callers the old key again, and remove the new one.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="It leaked: the old key is disabled at once, whoever still holds it.")
    ] = False,
    grace: Annotated[
        str | None,
        typer.Option(
            "--grace", metavar="SPAN", help="How long the old key stays good: `24h`; setting `rotation_grace`."
        ),
    ] = None,
    cut_off: Annotated[
        bool, typer.Option("--cut-off", help="Disable the old key after its grace even if it is still used.")
    ] = False,
    delete_old: Annotated[
        bool, typer.Option("--delete-old", help="Disable and delete the old key at once; implies --now.")
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="WHEN", help="The new key ends then: `180d`; unless given, as the old one did."
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="MODEL",
            help="Also call MODEL with the new key before it is used; `allowed`: one of each allowed family.",
        ),
    ] = None,
    paste: Annotated[
        bool, typer.Option("--paste", help="A person has made the new key: read it without echo, or from stdin.")
    ] = False,
    revoked: Annotated[
        bool, typer.Option("--revoked", help="A person has revoked the old key where callmeter cannot.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which keys would be rotated.")] = False,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Replace a key by a new one, test it, and revoke the old one when nobody uses it any more.

    Run it with --resume, or let cron run it with --due, until it says done: after the grace period the old key is
    disabled, later deleted, and after the next reset the new key has its whole limit. The same command after a crash
    finishes the job. Exit status 0 when all is done, 3 when some wait, 7 when some failed.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    paths = world.paths
    entries = read_registry(read_toml(paths.keys, paths.cache), paths.keys)
    if sum((status, resume, rollback, dry_run)) > 1:
        raise UsageError("--status, --resume, --rollback and --dry-run contradict each other", code="contradiction")
    if label is not None and label not in entries:
        raise unknown_key(label)
    narrowed = any(each is not None for each in (label, agent, owner, user))
    if not (narrowed or due or all_keys or status or resume):
        raise UsageError("which key?", "name its LABEL, or give `--due`, `--all`, `--agent` or `--owner`")
    meant = [
        entry
        for entry in entries.values()
        if entry.retired is None
        and not entry.management
        and (label is None or entry.label == label)
        and (agent is None or entry.agent == agent)
        and (owner is None or entry.owner == owner)
        and (user is None or entry.user == user)
    ]
    if (paste or rollback) and len(meant) != 1:
        raise UsageError(f"--paste and --rollback are for one key, and {len(meant)} are meant", "name its LABEL")
    if status:
        found = status_of(world, meant, narrowed or all_keys)
        world.out.report(progress_report(found, [], "Rotations", "No rotation is going on, and no key is due."))
        raise typer.Exit(exit_status(found, False))
    wishes = Wishes(
        grace=span_in(grace or world.settings.text("rotation_grace") or "24h", "--grace"),
        delete_after=timedelta(0) if delete_old else Wishes.delete_after,
        cut=cut_off,
        at_once=now or delete_old,
        models=tuple(models or ()),
        expires=parse_instant(expiry(expires, world.now(), world.policy.time_zone)) if expires else None,
        pasted=read_secret(world, meant[0].label, stdin=False, fd=None) if paste else None,
        revoked=revoked,
    )
    chosen = [(entry, starts) for entry in meant if (starts := _starts(world, entry, due, resume)) is not None]
    if dry_run:
        found = [_would(world, entry, starts) for entry, starts in chosen]
        world.out.report(progress_report(found, [], "Would be rotated", "No key."))
        return
    found, failures = [], []
    bench = bench_of(world)
    for number, (entry, starts) in enumerate(chosen, 1):
        if len(chosen) > 1:
            world.out.note(f"callmeter: {number} of {len(chosen)}: {entry.label}")
        try:
            wished = replace(wishes, models=_models(world, entry, wishes.models))
            done = roll_back(entry, bench, wished) if rollback else rotate(entry, bench, wished, start=starts)
            found.append(done)
        except CallmeterError as error:
            bench.audit("key.rotate_failed", {"key": entry.label, "error": error.code, "message": error.message})
            failures.append((entry.label, error.message))
            if len(chosen) == 1:
                raise
    if failures or (chosen and not quiet) or format is not opt.Shape.TEXT:
        world.out.report(progress_report(found, failures, "Rotations", "No key is rotated."))
    if not chosen:
        world.out.note("callmeter: no key is due" if due else "callmeter: no rotation is going on")
    for entry_label, message in failures:
        world.out.warn(f"{entry_label}: {message}")
    raise typer.Exit(exit_status(found, bool(failures)))


def _starts(world: World, entry: Entry, due: bool, resume: bool) -> bool | None:
    """Whether to begin a rotation, or only to go on with one; None for a key that needs neither."""
    rotation = rotation_of(world, entry.label)
    going = rotation is not None and (rotation.open or rotation.unsettled)
    if resume:
        return False if going else None
    if due:
        if due_of(world, entry).now and not (rotation is not None and rotation.open and rotation.state == "swapped"):
            return True
        return False if going else None
    return True


def _models(world: World, entry: Entry, named: Sequence[str]) -> tuple[str, ...]:
    """The models to call with the new key: those that are named, and for `allowed` one of each allowed family."""
    found = [name for name in named if name != "allowed"]
    return (*found, *(trial_models(world, entry) if "allowed" in named else ()))


def _would(world: World, entry: Entry, starts: bool) -> Progress:
    rotation = rotation_of(world, entry.label)
    if rotation is not None and rotation.open:
        return Progress(entry.label, rotation.state, False, "would go on")
    return Progress(
        entry.label, "due" if due_of(world, entry).now else "ok", False, "would be rotated" if starts else ""
    )
