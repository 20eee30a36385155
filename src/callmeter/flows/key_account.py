"""What the registry and the provider's account have to say of each other: retiring, renaming, matching."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from callmeter.flows.keys import require_free, unknown_key
from callmeter.flows.rotation_run import Bench, hash_of
from callmeter.policy.rotation import read_rotation
from callmeter.providers.management import ProviderKey
from callmeter.secrets.registry import Entry, label_fault
from callmeter.secrets.registry_file import RegistryFile, changed
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import SecretStore
from callmeter.store.files import remove_file
from callmeter.store.rotation_journal import Journal, journal_of, labels_in, read_journal
from callmeter.words.errors import CallmeterError, NoKey, Refused, Unavailable, UsageError
from callmeter.words.instant import text_of
from callmeter.words.money import usd
from callmeter.words.origin import origin_of


@dataclass(frozen=True)
class Match:
    """A registered key, a key of the account, or both, where they are the same. `secret` says why the registered one
    could not be compared."""

    entry: Entry | None
    record: ProviderKey | None
    trouble: str = ""


def retire(label: str, bench: Bench) -> str:
    """Disable a key at the provider, forget the key itself, keep its entry; gives back what remains for a person to
    do, or nothing. Raises NoKey, Refused while it is being rotated, Unavailable."""
    _require_known(bench, label)
    with Journal(bench.journals, label, bench.who, bench.now()), RegistryFile(bench.registry) as registry:
        entry = registry.entries.get(label)
        if entry is None:
            raise unknown_key(label)
        require_still(bench.journals, label)
        left = ""
        account = bench.management(entry)
        if account is not None and entry.provider_key:
            record = account.change(entry.provider_key, {"disabled": True})
            seen = account.key(entry.provider_key) if record is not None else None
            if seen is not None and not seen.disabled:
                raise Unavailable(f"the provider still shows the key {label} as good", "run the same command again")
        else:
            left = f"revoke it at {entry.provider} too: callmeter has no management key for it"
        bench.audit("key.retire", {"key": label, "fingerprint": entry.fingerprint, "provider_key": entry.provider_key})
        store, name = bench.stores.open(entry.secret)
        if store.writable and not any(
            other.secret == entry.secret for other in registry.entries.values() if other.label != label
        ):
            held = _held(store, name)
            if held is None or not entry.fingerprint or held.fingerprint(bench.stores.salt()) == entry.fingerprint:
                store.delete(name)
            else:  # somebody put it there, and it may be the only copy
                left = "; ".join(filter(None, (left, f"another key lies at {store.describe(name)}, and stays there")))
        if entry.retired is None:
            registry.put(changed(entry, retired=text_of(bench.now())))
        return left


def rename(label: str, new: str, bench: Bench) -> Entry:
    """Give an entry another label; its key stays where it lies. Raises NoKey, UsageError, Refused while it is being
    rotated."""
    fault = label_fault(new)
    if fault:
        raise UsageError(f"the label {new!r} {fault}", "choose another one")
    _require_known(bench, label)
    with Journal(bench.journals, label, bench.who, bench.now()), RegistryFile(bench.registry) as registry:
        entry = registry.entries.get(label)
        if entry is None:
            raise unknown_key(label)
        require_still(bench.journals, label)
        if new in registry.entries:
            raise UsageError(f"there is a key {new} already", "choose another label", code="key_exists")
        renamed = changed(entry)
        renamed.label = new
        others = {name: each for name, each in registry.entries.items() if name != label}
        require_free(others, renamed)
        bench.audit("key.rename", {"key": label, "to": new, "fingerprint": entry.fingerprint})
        # The journal has both names for a moment: killed here, what a rotation has yet to do is not forgotten.
        old, fresh = journal_of(bench.journals, label), journal_of(bench.journals, new)
        remove_file(fresh)
        if os.path.exists(old):
            os.link(old, fresh)
        registry.rename(label, renamed)
        remove_file(old)
        return renamed


def match_account(bench: Bench, provider: str, base_url: str, *, learn: bool) -> list[Match]:
    """Each registered key of an endpoint beside its record in the account, matched by its hash; then the keys of the
    account that nobody registered. With `learn`, entries take what the provider says: its name for the key, the
    ceiling and its reset, the last day. Raises NoKey without a management key, Unavailable."""
    account = bench.management(Entry("account", provider=provider, base_url=base_url, secret="env:NONE"))
    if account is None:
        raise NoKey(
            f"no management key for {provider} at {base_url}",
            "add one with `callmeter budget keys add --management`, or set CALLMETER_MANAGEMENT_KEY",
            code="no_management_key",
        )
    records = {record.hash: record for record in account.all_keys()}
    with RegistryFile(bench.registry) as registry:
        found = []
        for entry in list(registry.entries.values()):
            if entry.provider != provider or entry.management or entry.origin != origin_of(base_url):
                continue
            hash, trouble = entry.provider_key, ""
            if hash not in records:
                try:
                    store, name = bench.stores.open(entry.secret)
                    secret = store.read(name)
                    hash = hash_of(secret) if secret is not None else ""
                    trouble = "" if secret is not None else "its key is not where it should be"
                except CallmeterError as error:
                    trouble = error.message
            record = records.pop(hash, None)
            if record is not None and learn:
                learnt = changed(entry, **_learnt(record))
                if vars(learnt) != vars(entry):
                    bench.audit("key.import", {"key": entry.label, "provider_key": record.hash})
                    registry.put(learnt)
                    entry = learnt
            found.append(Match(entry, record, trouble))
        for label in labels_in(bench.journals):
            rotation = read_rotation(read_journal(journal_of(bench.journals, label)))
            if rotation is not None and (rotation.open or rotation.unsettled):
                # The other key of a rotation is no stranger.
                records.pop(rotation.old_hash, None)
                records.pop(rotation.new_hash, None)
    return found + [Match(None, record) for record in records.values()]


def _learnt(record: ProviderKey) -> dict[str, Any]:
    return {
        "provider_key": record.hash,
        "budget": "" if record.limit is None else f"{usd(record.limit):f}",
        "budget_reset": record.limit_reset,
        "expires": text_of(record.expires) if record.expires else "",
        "created": text_of(record.created) if record.created else "",
    }


def _held(store: SecretStore, name: str) -> Secret | None:
    """The key in a place; None also for what could not be used."""
    try:
        return store.read(name)
    except NoKey:
        return None


def _require_known(bench: Bench, label: str) -> None:
    with RegistryFile(bench.registry) as registry:
        if label not in registry.entries:
            raise unknown_key(label)


def require_still(journals: str, label: str) -> None:
    """Raises Refused for a key whose rotation has not come so far that only the old key is left to see to."""
    rotation = read_rotation(read_journal(journal_of(journals, label)))
    if rotation is not None and rotation.open and rotation.state not in ("disabled", "deleted", "swept"):
        raise Refused(
            f"the key {label} is being rotated",
            f"finish it with `callmeter budget rotate-key {label} --resume`, or take it back with `--rollback`",
        )
