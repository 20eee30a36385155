"""The end of a rotation: watching the old key, disabling it, deleting it, and making the new one's limit whole."""

from __future__ import annotations

from datetime import timedelta

from callmeter.flows.rotation_run import Progress, Run
from callmeter.policy.rotation import is_whole, next_reset
from callmeter.secrets.store import PREVIOUS, Conflict
from callmeter.words.errors import Unavailable
from callmeter.words.money import shown, usd

_QUIET = timedelta(hours=1)


def finish(run: Run) -> Progress:
    """Go on from the swap as far as it goes now. Raises NoKey, Conflict, Unavailable, FileProblem."""
    run.register()
    run.set_ceilings()
    if run.rotation.state == "swapped":
        waits = _watch(run)
        if waits is not None:
            return waits
        waits = _disable(run)
        if waits is not None:
            return waits
        run.set_ceilings()
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
            bench.tell(f"{run.label}: cut off now, as far as they hold the old key: {names}")
        return None
    theirs = run.client.provider_time if run.client is not None else None
    clock = now if theirs is None else min(now, theirs)
    quiet = min(_QUIET, rotation.grace / 2)
    if clock < until:
        uses = bench.uses(rotation.old_fingerprint, rotation.swapped or now)
        return Progress(run.label, "swapped", False, "the old key stays good for the grace period", until, uses)
    uses = bench.uses(rotation.old_fingerprint, max(rotation.swapped or now, now - quiet))
    if uses and not wishes.cut:
        until = now + max(rotation.grace, timedelta(minutes=1))
        run.record("extended", until=f"{until:%Y-%m-%dT%H:%M:%S.000Z}")
        names = ", ".join(use.agent for use in uses)
        why = f"the old key is still in use, by {names}: its grace period is extended"
        return Progress(run.label, "swapped", False, why, until, uses)
    return None


def _disable(run: Run) -> Progress | None:
    """Revoke the old key, if the new one is in its place and answers now."""
    rotation = run.rotation
    current = run.read()
    if not run.is_new(current) or current is None:
        raise Conflict(
            f"the store holds another key of {run.label} than the new one, so the old one stays good",
            f"register it with `callmeter budget keys add --label {run.label} --replace`, or `--rollback`",
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
    rotation, now = run.rotation, run.bench.now()
    new = run.new()
    if new is not None and not rotation.foreign and rotation.window and new.limit != rotation.full:
        if not is_whole(rotation, now):
            left = "none" if new.limit is None else shown(new.limit)
            why = f"the new key's limit is {left}, what the old one left, until its reset; then {shown(rotation.full)}"
            return Progress(run.label, rotation.state, False, why, next_reset(now, rotation.window))
        assert run.client is not None
        run.record("ceiling", limit=rotation.full)
        run.client.change(new.hash, {"limit": None if rotation.full is None else usd(rotation.full)})
    run.record("done")
    return Progress(run.label, "done", True, "rotated")
