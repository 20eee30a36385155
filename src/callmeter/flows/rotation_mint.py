"""The new key of a rotation, or of an agent that had none: minted or pasted, found again after a crash, and tested."""

from __future__ import annotations

from datetime import datetime

from callmeter.flows.rotation_run import Run, hash_of
from callmeter.policy.rotation import TEST_ALLOWANCE, name_of
from callmeter.providers.management import Declined, Unsure
from callmeter.secrets.registry import Entry
from callmeter.secrets.secret import parse_secret
from callmeter.secrets.store import PREVIOUS, Conflict
from callmeter.words.errors import NoKey, Refused, Unavailable

_ATTEMPTS = 3


def mint_key(run: Run) -> None:
    """Have a new key in the pending slot, and know its record."""
    again = run.wishes.pasted is not None and not run.is_new(run.wishes.pasted)
    if again and not run.rotation.pasted:
        raise Refused(
            f"the rotation of {run.label} that is going on mints its key",
            f"take it back with `callmeter budget rotate-key {run.label} --rollback`, and paste then",
        )
    if run.rotation.state not in ("begin", "intent", "void") and not again:
        return
    if run.rotation.pasted:
        _take_pasted(run)
        return
    if run.rotation.state == "intent" and _adopt(run):
        return
    account = run.account()
    run.sweep()
    for _ in range(_ATTEMPTS):
        attempt = run.rotation.attempt + 1
        run.clear_pending()
        run.record("intent", attempt=attempt)
        try:
            record, key = account.mint(
                name_of(run.label, run.rotation.id, attempt),
                limit=TEST_ALLOWANCE,
                reset=run.rotation.window,
                expires=run.wishes.expires or _expiry(run.entry, run.bench.now()),
            )
        except Unsure as error:
            run.bench.tell(f"{run.label}: {error.message}; looking for what may have been minted")
            run.sweep()
            continue
        except (Declined, NoKey):
            run.record("void")
            raise
        secret = parse_secret(key.encode("ascii"), "that the provider minted")
        run.store.write(run.name, secret, run.slot)
        run.record("minted", hash=record.hash, fingerprint=secret.fingerprint(run.salt))
        return
    raise Unavailable(
        f"the provider did not answer when a key for {run.label} was to be minted; the old key is in use as before",
        "run the same command again later",
    )


def _adopt(run: Run) -> bool:
    """Whether the attempt that a crash interrupted had come so far that its key lies in the pending slot."""
    pending = run.read(run.slot)
    if pending is None:
        return False
    name = name_of(run.label, run.rotation.id, run.rotation.attempt)
    account = run.account()
    record = account.key(hash_of(pending))
    if record is None:
        named = [key for key in account.all_keys() if key.name == name]
        record = named[0] if len(named) == 1 else None
    if record is None or record.name != name:
        return False
    run.record("minted", hash=record.hash, fingerprint=pending.fingerprint(run.salt))
    return True


def _take_pasted(run: Run) -> None:
    secret = run.wishes.pasted or run.read(run.slot)
    if secret is None:
        raise Refused(
            f"the rotation of {run.label} waits for the new key",
            f"run `callmeter budget rotate-key {run.label} --paste`, or `--rollback`",
        )
    if run.is_old(secret):
        raise Refused(f"that is the key {run.label} itself", "make a new one at the provider, and paste that")
    run.store.write(run.name, secret, run.slot)
    record = run.client.key(hash_of(secret)) if run.client is not None else None
    run.record("minted", hash=record.hash if record else "", fingerprint=secret.fingerprint(run.salt))


def _expiry(entry: Entry, now: datetime) -> datetime | None:
    """As long a life as the old key had."""
    made = entry.last_rotated or entry.created
    return now + (entry.expires - made) if entry.expires is not None and made is not None else None


def try_key(run: Run) -> None:
    """Have the new key accepted three times in a row: at some edges a key is known later than at others."""
    if run.rotation.state not in ("minted", "tested"):
        return
    secret = run.read(run.slot)
    if run.is_new(run.read()):
        secret = run.read()  # in place already
    if not run.is_new(secret) or secret is None:
        if not run.is_old(run.read()):
            return  # somebody has put a key of theirs in place, which the swap will see
        remove_new(run)
        run.record("rolled_back")
        raise Conflict(
            f"the pending key of {run.label} is not the new one; the new one is removed, the old one stays",
            f"run `callmeter budget rotate-key {run.label}` again",
        )
    trouble = run.trouble_with(secret)
    if not trouble and run.wishes.models and run.rotation.state == "minted":
        trouble = run.bench.calls(run.entry, secret, run.wishes.models)
    if trouble and not run.is_new(run.read()):
        remove_new(run)
        run.record("rolled_back")
        stays = "; the old one stays in use" if run.rotation.old_fingerprint else ""
        raise Unavailable(
            f"the new key of {run.label} failed its test ({trouble}) and is removed{stays}",
            "run the same command again later",
            code="test_failed",
        )
    if run.rotation.state == "minted":
        run.record("tested")


def remove_new(run: Run) -> None:
    """Take back a new key that nobody uses (any more)."""
    if run.client is not None:
        if run.rotation.new_hash and not run.rotation.pasted:
            run.discard(run.rotation.new_hash)
        run.sweep()
    run.clear_pending()
    if run.is_new(run.read(PREVIOUS)):
        run.store.delete(run.name, PREVIOUS)
