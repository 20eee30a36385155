"""A key's rotation, step by step. Run again after a crash at any moment, it goes on from where the journal says.

The intention to mint is on disk before the request, under a name that no other attempt has, and a request without an
answer is never sent twice: what it may have minted is found by name and removed, also when it appears late. A new key
may spend a cent until it has passed its test, and gets what the old one's limit leaves just before the swap. The old
key stays good for the grace period, is disabled only when the new one is in its place and answers, and deleted later;
the rotation is over when the new key's limit is the whole again. `docs/rotation.md` has the table.
"""

from __future__ import annotations

import os
from typing import NoReturn

from callmeter.flows.key_guards import carry_guardrails
from callmeter.flows.keys import unknown_key
from callmeter.flows.rotation_end import adopt_theirs, finish, settle, take_back, taken_back
from callmeter.flows.rotation_mint import mint_key, remove_new, try_key
from callmeter.flows.rotation_run import Bench, Progress, Run, Wishes, hash_of
from callmeter.policy.rotation import same_limit
from callmeter.providers.management import ProviderKey
from callmeter.secrets.registry import Entry
from callmeter.secrets.registry_file import RegistryFile
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import PENDING, PREVIOUS, Conflict
from callmeter.store.rotation_journal import Journal
from callmeter.words.errors import NoKey, Refused

_RESTARTABLE = ("disabled", "deleted", "swept")


def rotate(entry: Entry, bench: Bench, wishes: Wishes, *, start: bool) -> Progress:
    """Go on with a key's rotation as far as it goes now; with `start`, begin one where none is going on. What still
    waits only for a reset or a deletion gives way to a new one.

    Raises Busy when another process is at it, NoKey, Refused, Unavailable and FileProblem: then everything is as the
    journal says, each agent has a key that works, and the same again goes on.
    """
    with Journal(bench.journals, entry.label, bench.who, bench.now()) as journal:
        run = Run(_registered(entry, bench), bench, wishes, journal)
        latest = run.latest
        if latest is not None and (latest.old_hash or latest.new_hash) and (latest.open or latest.unsettled):
            run.account()  # without it nothing that is left to do could be done, nor be known
        if latest is not None and latest.open and latest.backing:
            return take_back(run)
        if latest is not None and latest.unsettled:
            waits = settle(run)
            if waits is not None and not start:
                return waits
        if latest is None or not latest.open or (start and latest.state in _RESTARTABLE):
            if not start:
                return Progress(entry.label, "done" if latest else "none", True, "no rotation is going on")
            if not run.store.writable:
                raise Refused(
                    f"the key {entry.label} lies where callmeter cannot write: {run.store.describe(run.name)}",
                    f"run `callmeter budget keys move {entry.label} file:{entry.label}` first",
                )
            if latest is not None and latest.open:
                run.make_whole()  # if it is time: the next one carries on from it
            _begin(run)
        elif wishes.pasted is not None and not latest.before_swap:
            raise Refused(
                f"the key {entry.label} is being rotated already: the new one is in use",
                f"run `callmeter budget rotate-key {entry.label} --resume`, and then paste another",
            )
        if run.rotation.before_swap:
            mint_key(run)
            try_key(run)
            _swap(run)
        return finish(run)


def roll_back(entry: Entry, bench: Bench, wishes: Wishes) -> Progress:
    """Give callers the old key again and remove the new one. Raises Refused when there is nothing to take back."""
    with Journal(bench.journals, entry.label, bench.who, bench.now()) as journal:
        run = Run(_registered(entry, bench), bench, wishes, journal)
        latest = run.latest
        if latest is not None and latest.state == "rolled_back" and latest.unsettled:
            run.account()
            return taken_back(run)
        if latest is None or latest.state not in ("begin", "intent", "void", "minted", "tested", "swapped", "disabled"):
            raise Refused(f"no rotation of {entry.label} can be taken back", "the old key is gone, or none is going on")
        if latest.old_hash or latest.new_hash:
            run.account()
        return take_back(run)


def _registered(entry: Entry, bench: Bench) -> Entry:
    """The entry as it is now that nobody else rotates the key."""
    with RegistryFile(bench.registry) as registry:
        found = registry.entries.get(entry.label)
    if found is None:
        raise unknown_key(entry.label)
    return found


def _begin(run: Run) -> None:
    entry, bench = run.entry, run.bench
    current = run.read()
    if current is None:
        raise NoKey(
            f"there is no key {entry.label} to rotate at {run.store.describe(run.name)}",
            f"add it: `callmeter budget keys add --label {entry.label} --replace`",
            code="key_missing",
        )
    if current.fingerprint(run.salt) != entry.fingerprint:
        raise Conflict(
            f"the key at {run.store.describe(run.name)} is not the one that is registered as {entry.label}",
            f"register it with `callmeter budget keys add --label {entry.label} --replace`, and run this again",
        )
    record = _record_of(run, current)
    before = run.latest if run.latest is not None and (run.latest.open or run.latest.owed) else None
    if before is not None and before.open:
        if before.state == "disabled" and before.old_hash:
            run.account().delete(before.old_hash)  # nobody else will know of it
        run.record("superseded")
    limit = record.limit if record is not None else None
    carries = before is not None and not before.foreign and not same_limit(limit, before.full)
    full = before.full if before is not None and carries else limit
    run.record(
        "begin",
        id=os.urandom(4).hex(),
        by=bench.who,
        old_hash=record.hash if record is not None else "",
        old_fingerprint=entry.fingerprint,
        base=limit,
        full=full,
        window=record.limit_reset if record is not None else "",
        grace=0 if run.wishes.at_once else int(run.wishes.grace.total_seconds()),
        pasted=run.wishes.pasted is not None,
    )


def _record_of(run: Run, current: Secret) -> ProviderKey | None:
    """The provider's record of the key to be replaced; None where a person sees to that."""
    entry = run.entry
    if run.wishes.pasted is not None and run.client is None:
        return None
    account = run.account()
    record = account.key(entry.provider_key or hash_of(current))
    if record is None and run.wishes.pasted is None:
        raise Refused(
            f"the account of the management key has no key {entry.label}",
            "use that account's management key, or rotate with `--paste`",
            code="not_in_account",
        )
    return record


def _swap(run: Run) -> None:
    """Put the new key in the place of the old one, in one step."""
    adopt_theirs(run)
    if not run.rotation.before_swap:
        return
    _require_ours(run)
    if run.client is not None and run.rotation.old_hash and run.rotation.new_hash:
        carry_guardrails(run.client, run.rotation.old_hash, run.rotation.new_hash)
    run.set_ceilings()
    current, new = _require_ours(run)
    try:
        run.store.swap(run.name, run.read(PREVIOUS) if run.is_new(current) else current, new)
    except Conflict:
        _give_way(run)
    run.record("swapped")
    run.register()
    run.bench.tell(f"{run.label}: callers get the new key from now on")


def _require_ours(run: Run) -> tuple[Secret | None, Secret]:
    """The key that callers use and the new one; they may be the same. Raises Conflict."""
    current, pending = run.read(), run.read(PENDING)
    new = current if run.is_new(current) else pending
    if new is None or not run.is_new(new) or not (run.is_old(current) or run.is_new(current)):
        _give_way(run)
    assert new is not None
    return current, new


def _give_way(run: Run) -> NoReturn:
    """Somebody has put another key in place: theirs stays."""
    remove_new(run)
    run.record("conflict")
    raise Conflict(
        f"somebody has replaced the key {run.label} meanwhile; theirs stays, the new one is removed",
        f"register theirs with `callmeter budget keys add --label {run.label} --replace`",
    )
