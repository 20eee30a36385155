"""The end of a rotation: watching the old key, disabling it, deleting it, and making the new one's limit whole; or
taking the new one back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from callmeter.flows.rotation_mint import remove_new
from callmeter.flows.rotation_run import Progress, Run, Use, hash_of
from callmeter.policy.rotation import same_limit, window_start
from callmeter.secrets.registry_file import RegistryFile
from callmeter.secrets.store import PREVIOUS, Conflict
from callmeter.words.errors import Refused, Unavailable
from callmeter.words.money import usd

_QUIET = timedelta(hours=1)


def finish(run: Run) -> Progress:
    """Go on from the swap as far as it goes now. Raises NoKey, Conflict, Unavailable, FileProblem."""
    if run.rotation.backing or (run.rotation.state == "swapped" and run.is_old(run.read())):
        return take_back(run)  # interrupted; or a person has put the old key in place again
    adopt_theirs(run)
    run.register()
    run.set_ceilings()
    run.register_limit()
    if run.rotation.state == "swapped":
        waits = _watch(run)
        if waits is not None:
            return waits
        waits = _disable(run)
        if waits is not None:
            return waits
        run.set_ceilings()
        run.register_limit()
    if run.rotation.state == "disabled":
        waits = _delete(run)
        if waits is not None:
            return waits
    if run.rotation.state == "deleted":
        run.sweep()
        until = run.rotation.may_appear(run.bench.now())
        if until is not None:
            why = "a request to mint was never answered, and may still take effect"
            return Progress(run.label, "deleted", False, why, until)
        run.record("swept")
    return _restore(run)


def _watch(run: Run) -> Progress | None:
    """Why the old key must stay good for now; None when it may go."""
    rotation, wishes, bench = run.rotation, run.wishes, run.bench
    now = bench.now()
    until = rotation.grace_until or now
    if wishes.at_once:
        cut = bench.uses(rotation.old_fingerprint, now - _QUIET)
        if cut:
            names = ", ".join(f"{use.agent} (last {use.last:%H:%M})" for use in cut)
            bench.warn(f"{run.label}: cut off now, as far as they hold the old key: {names}")
        return None
    theirs = run.client.provider_time if run.client is not None else None
    clock = now if theirs is None else min(now, theirs)
    quiet = min(_QUIET, rotation.grace / 2)
    swapped = rotation.swapped or now
    if clock < until:
        uses = run.users(rotation.old_fingerprint, swapped, rotation.old_hash)
        return Progress(run.label, "swapped", False, "the old key stays good for the grace period", until, uses)
    uses = run.users(rotation.old_fingerprint, max(swapped, now - quiet), rotation.old_hash)
    if uses and not wishes.cut:
        until = now + max(rotation.grace, timedelta(minutes=1))
        run.record("extended", until=f"{until:%Y-%m-%dT%H:%M:%S.000Z}")
        why = f"the old key is still in use, by {_names(uses)}: its grace period is extended"
        bench.tell(f"{run.label}: {why}")
        return Progress(run.label, "swapped", False, why, until, uses)
    return None


def _names(uses: Sequence[Use]) -> str:
    return ", ".join(use.agent for use in uses)


def _disable(run: Run) -> Progress | None:
    """Revoke the old key, if the new one is in its place and answers now."""
    rotation = run.rotation
    current = run.read()
    if not run.is_new(current) or current is None:
        raise Conflict(
            f"the store holds another key of {run.label} than the new one, so the old one stays good",
            f"register it with `callmeter budget keys add --label {run.label} --replace`, and run this again",
        )
    trouble = run.trouble_with(current)
    if trouble:
        raise Unavailable(
            f"the new key of {run.label} does not answer right now ({trouble}), so the old one stays good",
            "run the same command again later",
        )
    if run.client is None or not rotation.old_hash:
        previous = run.read(PREVIOUS)
        gone = previous is not None and run.bench.answers(run.entry, previous) is False
        if not (gone or run.wishes.revoked):
            why = f"revoke the old key at {run.entry.provider}, then run `rotate-key {run.label} --resume --revoked`"
            return Progress(run.label, "swapped", False, why)
        run.record("disabled")
        return None
    run.client.change(rotation.old_hash, {"disabled": True})
    seen = run.client.key(rotation.old_hash)
    if seen is not None and not seen.disabled:
        raise Unavailable(f"the provider still shows the old key of {run.label} as good", "run the same command again")
    run.record("disabled")
    run.bench.tell(f"{run.label}: the old key is disabled")
    return None


def _delete(run: Run) -> Progress | None:
    rotation = run.rotation
    assert rotation.disabled is not None
    until = rotation.disabled + run.wishes.delete_after
    if run.bench.now() < until and not rotation.pasted:
        return Progress(run.label, "disabled", False, "the old key is disabled, and is deleted later", until)
    if run.client is not None and rotation.old_hash:
        run.client.delete(rotation.old_hash)
    if run.is_old(run.read(PREVIOUS)):
        run.store.delete(run.name, PREVIOUS)
    run.record("deleted")
    return None


def _restore(run: Run) -> Progress:
    """Make the new key's limit the whole again, once the old one's spending no longer counts."""
    waits = run.make_whole()
    if waits is not None:
        return waits
    adopt_theirs(run)
    if run.rotation.state == "swapped":
        return finish(run)
    run.record("done")
    return Progress(run.label, "done", True, "rotated")


def adopt_theirs(run: Run) -> None:
    """Where a person has put a key of theirs in place and registered it, that is the new one; what this rotation minted
    is swept in the end."""
    current = run.read()
    if current is None or run.is_old(current) or run.is_new(current):
        return
    fingerprint = current.fingerprint(run.salt)
    with RegistryFile(run.bench.registry) as registry:
        entry = registry.entries.get(run.label)
    if entry is not None and fingerprint == entry.fingerprint:
        record = run.client.key(hash_of(current)) if run.client is not None else None
        run.record("replaced", hash=record.hash if record else "", fingerprint=fingerprint)
        run.clear_pending()
        run.bench.tell(f"{run.label}: somebody has registered a key of theirs meanwhile, which is the new one now")


def take_back(run: Run) -> Progress:
    """Give callers the old key again and remove the new one; also where somebody has put a third one in place. Raises
    Refused when the old one is no longer there, Unavailable when it is not accepted."""
    rotation = run.rotation
    current, previous = run.read(), run.read(PREVIOUS)
    if run.is_new(current) and current is not None:
        if previous is None or not run.is_old(previous):
            raise Refused(f"the old key of {run.label} is no longer in the store", "rotate again instead")
        if not rotation.backing:
            run.record("back")
        if rotation.state == "disabled" and rotation.old_hash:
            run.account().change(rotation.old_hash, {"disabled": False})
        if run.bench.answers(run.entry, previous) is False:
            if rotation.state == "disabled" and rotation.old_hash:
                run.account().change(rotation.old_hash, {"disabled": True})
            run.record("forth")
            raise Unavailable(f"the old key of {run.label} is refused, so the new one stays in use")
        run.store.swap(run.name, current, previous)
    elif not run.is_old(current):
        remove_new(run)
        run.record("conflict")
        return Progress(
            run.label, "conflict", True, "somebody has put a key of theirs in place; the new one is removed"
        )
    elif not rotation.backing:
        run.record("back")
    run.register()
    _carry_back(run)
    run.register_limit()
    remove_new(run)
    run.record("rolled_back")
    return taken_back(run)


def taken_back(run: Run) -> Progress:
    """What there is to say of a rotation that was taken back."""
    waits = settle(run)
    why = "callers use the old key again; the new one is removed" + (f"; {waits.detail}" if waits else "")
    return Progress(run.label, "rolled_back", True, why, waits.until if waits else None)


def settle(run: Run) -> Progress | None:
    """See to what a rotation that was taken back, or gave way, left open; gives back why that has to wait."""
    if not run.rotation.unsettled:
        return None
    run.sweep()
    until = run.rotation.may_appear(run.bench.now())
    if until is not None:
        why = "a request to mint was never answered, and may still take effect"
        return Progress(run.label, run.rotation.state, False, why, until)
    waits = run.make_whole() if run.rotation.owed else None
    if waits is None:
        run.record("settled")
    return waits


def _carry_back(run: Run) -> None:
    """What the new key has spent counts against the old one's limit, which is in use again."""
    rotation = run.rotation
    old, new = run.old(), run.new()
    if old is None or new is None or rotation.before_swap or rotation.base is None or rotation.full is None:
        return
    if rotation.old_stopped is None and not same_limit(old.limit, rotation.base):
        return  # somebody else's, or carried already
    running = window_start(rotation.began, rotation.window) == window_start(run.bench.now(), rotation.window)
    left = max(0, (rotation.base if running else rotation.full) - new.usage_window)
    run.record("carried", limit=left)
    run.account().change(old.hash, {"limit": usd(left)})
