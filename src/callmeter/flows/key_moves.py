"""Taking a key from one store to another. At every moment the registry leads to a key that works.

    checks -> audit -> note the new place -> write, read back -> switch the registry, note the old place -> remove there

The registry notes the second place in the entry's `copy` before anything is written there, until it is empty again. So
the same command run again after a kill finds what is left to do, also with another store: then the copy that was begun
is removed first.
"""

from __future__ import annotations

from copy import copy

from callmeter.flows.keys import unknown_key
from callmeter.secrets.open_store import Stores
from callmeter.secrets.registry import Entry
from callmeter.secrets.registry_file import RegistryFile
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import PENDING, PREVIOUS, SecretStore, missing
from callmeter.store.audit import Audit
from callmeter.words.errors import Busy, NoKey, Unavailable, UsageError


class Moved:
    """What was done: `before` and `after` are references, the same when the key was there already. `left` says why
    a copy stays where it was; "" when there is none."""

    def __init__(self, before: str, after: str, left: str) -> None:
        self.before = before
        self.after = after
        self.left = left


def move_key(registry_path: str, stores: Stores, label: str, reference: str, audit: Audit) -> Moved:
    """Move a key to where `reference` says, with the previous one, and remove it where it was.

    Raises NoKey when the key is not where it should be or is another one than the registered, Busy while it is being
    rotated, UsageError when the new place cannot be written to or holds another key, Unavailable.
    """
    with RegistryFile(registry_path) as registry:
        entry = registry.entries.get(label)
        if entry is None:
            raise unknown_key(label)
        before, left = entry.secret, ""
        if entry.copy and entry.copy != reference:
            left = _remove_copy(registry, stores, entry)
            entry = registry.entries[label]
        if entry.secret != reference:
            for other in registry.entries.values():
                if other.label != label and reference in (other.secret, other.copy):
                    raise UsageError(f"the key {other.label} lies at {reference}", "name another place")
            key, previous = _to_move(stores, entry)
            target, name = stores.open(reference)
            _require_room(target, name, key, previous)
            audit("key.move", {"key": label, "from": entry.secret, "to": reference, "fingerprint": entry.fingerprint})
            if entry.copy != reference:
                entry = _put(registry, entry, copy=reference)
            for wanted in (previous, key):
                held = target.read(name)
                if wanted is not None and held != wanted:
                    target.swap(name, held, wanted)
            target, name = stores.open(reference)
            if target.read(name) != key or (previous is not None and target.read(name, PREVIOUS) != previous):
                raise Unavailable(
                    f"{target.describe(name)} does not give back what was written there",
                    f"look at that store; the key {label} is where it was",
                    code="store_failed",
                )
            entry = _put(registry, entry, secret=reference, copy=entry.secret)
        if entry.copy:
            left = _remove_copy(registry, stores, entry) or left
        return Moved(before, reference, left)


def _to_move(stores: Stores, entry: Entry) -> tuple[Secret, Secret | None]:
    """The key and the previous one."""
    store, name = stores.open(entry.secret)
    if store.read(name, PENDING) is not None:
        raise Busy(
            f"the key {entry.label} is being rotated",
            f"finish that first: `callmeter budget rotate-key {entry.label} --resume`",
            retry_after=60,
        )
    key = store.read(name)
    if key is None:
        raise missing(entry.label, store.describe(name))
    if entry.fingerprint and key.fingerprint(stores.salt()) != entry.fingerprint:
        raise NoKey(
            f"at {store.describe(name)} is another key than the one that was registered as {entry.label}",
            f"register it: `callmeter budget keys add --label {entry.label} --replace --existing`",
            code="key_changed",
            key=entry.label,
        )
    return key, store.read(name, PREVIOUS)


def _require_room(target: SecretStore, name: str, key: Secret, previous: Secret | None) -> None:
    there = target.read(name)
    if not target.writable:
        raise UsageError(f"a key cannot be written to {target.describe(name)}", "name another store")
    if there is not None and there != key and there != previous:
        raise UsageError(
            f"there is another key already at {target.describe(name)}", "remove it there, or name another place"
        )


def _remove_copy(registry: RegistryFile, stores: Stores, entry: Entry) -> str:
    """Remove the key from its second place. A sentence on what stays there, or nothing."""
    store, name = stores.open(entry.copy)
    left = ""
    if any(entry.copy == other.secret for other in registry.entries.values() if other.label != entry.label):
        left = "another label has its key there too"
    elif not store.writable:
        left = "callmeter can only read there; remove it by hand"
    else:
        home, its_name = stores.open(entry.secret)
        ours = (home.read(its_name), home.read(its_name, PREVIOUS))
        there = store.read(name)
        if there is not None and there not in ours:
            left = "there is another key now"
        else:
            store.delete(name)
    where = store.describe(name)
    _put(registry, entry, copy="")
    return f"{where} is left as it is: {left}" if left else ""


def _put(registry: RegistryFile, entry: Entry, **changes: str) -> Entry:
    changed = copy(entry)
    for name, value in changes.items():
        setattr(changed, name, value)
    registry.put(changed)
    return changed
