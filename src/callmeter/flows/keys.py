"""Registering and forgetting a key: what is written in which order, so that a crash at any moment is harmless.

    add      checks -> audit -> secret -> registry
    remove   audit -> registry -> secret; of another store than the file store: audit -> secret -> registry

The audit log comes first, so that no change goes without its record. The secret is there before an entry points
to it, and leaves after. Whatever was interrupted, the same command run again completes it: each step finds its
work done, or does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from callmeter.secrets.open_store import Stores
from callmeter.secrets.registry import Entry, label_fault
from callmeter.secrets.registry_file import RegistryFile
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import SecretStore, conflict
from callmeter.store.audit import Audit
from callmeter.words.errors import CallmeterError, NoKey, UsageError
from callmeter.words.instant import text_of

# What another key has from the entry that it replaces: not its dates, nor what the provider calls it.
_INHERITED = (
    "provider",
    "base_url",
    "agent",
    "default",
    "environment",
    "owner",
    "purpose",
    "allowed_models",
    "user",
    "budget",
    "budget_reset",
    "rotate_every",
    "management",
)
# What an entry keeps besides when it gets the key that it has: only what was asked for changes.
_KEPT = ("created", "expires", "last_rotated", "provider_key", "shared")


def add_key(
    registry_path: str,
    stores: Stores,
    label: str,
    secret: Secret,
    audit: Audit,
    *,
    given: Mapping[str, Any],
    otherwise: Mapping[str, Any],
    replace: bool,
    reference: str = "",
    existing: bool = False,
) -> tuple[str, Entry]:
    """Store a key and register it: `added`, `replaced`, `changed` where only what is said of it is another, or
    `unchanged` when the very same is there already.

    `given` are an Entry's members that were asked for. The others come from the entry that is replaced, its dates only
    where the key is the same, or else from `otherwise`. `shared` allows a key that another label has. `reference` says
    where the key shall lie: without one a replacement lies where the key lay, and a new key in a file. An `existing`
    key was read there, and is not written.

    Raises UsageError when it would take the place of another key or be some agent's second one, and NoKey,
    Unavailable, FileProblem or Malformed: then the registry is as it was.
    """
    with RegistryFile(registry_path) as registry:
        before = registry.entries.get(label)
        fingerprint = secret.fingerprint(stores.salt())
        same = before is not None and replace and before.fingerprint == fingerprint
        members = {**otherwise, **(_inherited(before, same) if before else {}), **given}
        reference = reference or (before.secret if before else f"file:{label}")
        entry = Entry(label, **members, secret=reference, fingerprint=fingerprint)
        store, name = stores.open(reference)
        if before is not None and not replace:
            if before.fingerprint != fingerprint or _inherited(before) != _inherited(entry):
                raise UsageError(
                    f"there is a key {label} already", "add `--replace`, or choose another `--label`", code="key_exists"
                )
            if store.read(name) == secret:
                return "unchanged", before
        if before is not None and (before.provider, before.origin) != (entry.provider, entry.origin):
            # In between, the new secret would stand under the old address.
            raise UsageError(
                f"the key {label} is for {before.provider} at {before.base_url}, which a replacement cannot change",
                f"run `callmeter budget keys remove {label}` first, or choose another `--label`",
            )
        if before is not None and before.copy:
            raise UsageError(
                f"the key {label} is being moved",
                f"finish that first: `callmeter budget keys move {label} {before.secret}`",
            )
        if before is not None and before.secret != entry.secret:
            raise UsageError(
                f"the key {label} lies at {before.secret}, and a replacement goes there too",
                f"run `callmeter budget keys move {label} {reference}` first",
            )
        require_free(registry.entries, entry)
        held = _held(store, name)
        if existing and held != secret:
            raise conflict(store.describe(name))
        if before is None and not replace and held not in (None, secret):
            # Left by a registry that was lost or restored: it may be the only copy.
            raise UsageError(
                f"there is another key already at {store.describe(name)}, which is not registered",
                "add `--replace` if it is not needed, or choose another `--label`",
            )
        if held != secret and not store.writable:
            store.write(name, secret)  # says why it cannot
        audit("key.change" if same else "key.replace" if before else "key.add", _facts(entry))
        if held != secret:
            store.write(name, secret)
        registry.put(entry)
    return "changed" if same else "replaced" if before else "added", entry


def existing_secret(registry_path: str, stores: Stores, reference: str, label: str) -> Secret:
    """The key that a reference leads to, or without one the key that is registered with this label. Raises UsageError
    where neither says a place, NoKey when there is none there."""
    if not reference:
        with RegistryFile(registry_path) as registry:
            known = registry.entries.get(label)
        if known is None:
            raise UsageError("--existing: where does the key lie?", "add `--store vault:MOUNT/PATH` or its like")
        reference = known.secret
    store, name = stores.open(reference)
    secret = store.read(name)
    if secret is None:
        raise NoKey(f"there is no key for {label} at {store.describe(name)}", "see the name", code="key_missing")
    return secret


def remove_key(registry_path: str, stores: Stores, label: str, audit: Audit, *, keep_secret: bool = False) -> str:
    """Forget a key: its entry, then its secret, unless that is to stay. A sentence on what stays where it lies, or
    nothing. Raises NoKey when there is neither."""
    with RegistryFile(registry_path) as registry:
        entry = registry.entries.get(label)
        if entry is None:
            if label_fault(label):
                raise unknown_key(label)
            # A run that was interrupted has left the secret without its entry.
            if not stores.open(f"file:{label}")[0].delete(label):
                raise unknown_key(label)
            audit("key.remove", {"key": label})
            return ""
        audit("key.remove", _facts(entry))
        places = [
            (reference, *stores.open(reference))
            for reference in (entry.secret, entry.copy)
            if reference and not any(reference == other.secret for other in _others(registry.entries, entry))
        ]
        elsewhere = [place for place in places if not place[0].startswith("file:")]
        if not keep_secret:
            # In a store that others keep, nobody would find a secret again whose entry is gone.
            for _, store, name in elsewhere:
                if store.writable:
                    store.delete(name)
        registry.remove(label)
        if not keep_secret:
            for place in places:
                if place not in elsewhere:
                    place[1].delete(place[2])
        left = [store.describe(name) for _, store, name in places if keep_secret or not store.writable]
        return f"the secret stays: {', '.join(left)}" if left else ""


def unknown_key(label: str) -> NoKey:
    """The error for a label that the registry does not have."""
    return NoKey(f"there is no key {label!r}", "see `callmeter budget keys list`", code="unknown_key")


def state_of(entry: Entry, stores: Stores, now: datetime) -> str:
    """`ok`, `expired`, `missing` (no secret where the entry says), `changed` (another key than the registered one),
    `unsafe` (others may have read it: it is not used), or `unreachable` (its store does not answer)."""
    if entry.expired(now):
        return "expired"
    try:
        store, name = stores.open(entry.secret)
        secret = store.read(name)
        if secret is None:
            return "missing"
        changed = entry.fingerprint and secret.fingerprint(stores.salt()) != entry.fingerprint
    except NoKey:
        return "unsafe"
    except CallmeterError:
        return "unreachable"
    return "changed" if changed else "ok"


def states_of(entries: Iterable[Entry], stores: Stores, now: datetime) -> dict[str, str]:
    """The states of many keys by label, all asked at once: a store that is silent takes its seconds only once."""
    from concurrent.futures import ThreadPoolExecutor

    every = list(entries)
    with ThreadPoolExecutor(max_workers=16) as pool:
        found = pool.map(lambda entry: state_of(entry, stores, now), every)
        return {entry.label: state for entry, state in zip(every, found, strict=True)}


def where_it_lies(entry: Entry, stores: Stores) -> str:
    """The place of an entry's secret, for a person; the bare reference when its store cannot be opened here."""
    try:
        store, name = stores.open(entry.secret)
    except CallmeterError:
        return entry.secret
    return store.describe(name)


def _others(entries: Mapping[str, Entry], entry: Entry) -> list[Entry]:
    return [other for other in entries.values() if other.label != entry.label]


def _held(store: SecretStore, name: str) -> Secret | None:
    """What is there, as far as it can be used: what cannot is about to be replaced."""
    try:
        return store.read(name)
    except NoKey:
        return None


def _inherited(entry: Entry, same: bool = False) -> dict[str, Any]:
    members = {name: getattr(entry, name) for name in (*_INHERITED, *(_KEPT if same else ()))}
    present = {name: value for name, value in members.items() if value is not None}
    return {name: text_of(value) if isinstance(value, datetime) else value for name, value in present.items()}


def require_free(entries: Mapping[str, Entry], entry: Entry) -> None:
    """Raises UsageError when an entry would be some agent's second key, or share its key or its label with another."""
    for other in _others(entries, entry):
        if other.label.lower() == entry.label.lower():
            raise UsageError(
                f"the labels {other.label} and {entry.label} differ in case only", "choose another `--label`"
            )
        if entry.fingerprint and other.fingerprint == entry.fingerprint and not entry.shared:
            raise UsageError(
                f"this key is registered already, as {other.label}: its spending could not be told apart",
                "make a key of its own at the provider, or add `--shared` to share it knowingly",
                code="key_shared",
            )
        if other.retired is not None or other.management or entry.management:
            continue
        rival = (other.provider, other.origin, other.environment) == (entry.provider, entry.origin, entry.environment)
        same_agent = other.agent == entry.agent != "" and other.user == entry.user
        same_user = other.user == entry.user != "" and other.agent == entry.agent
        if rival and (same_agent or same_user or (other.default and entry.default)):
            whose = f"user {entry.user}" if same_user else f"agent {entry.agent}" if same_agent else "the default"
            raise UsageError(
                f"{other.label} is {whose}'s key of {entry.provider} already, for the same environment",
                f"replace it with `--label {other.label} --replace`, or give `--environment`",
                code="key_exists",
            )


def _facts(entry: Entry) -> dict[str, object]:
    facts = {"key": entry.label, "fingerprint": entry.fingerprint, "provider": entry.provider, "agent": entry.agent}
    facts |= {"environment": entry.environment, "owner": entry.owner, "secret": entry.secret}
    return {name: value for name, value in facts.items() if value}
