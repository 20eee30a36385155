"""Writing quotas as ceilings and model lists to the provider, which holds them against callers that go around us."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from callmeter.flows.key_guards import guard_models, guard_state
from callmeter.flows.rotation_run import Bench
from callmeter.policy.ceilings import Ceiling, ceiling_of
from callmeter.policy.quotas import Quota
from callmeter.policy.rotation import read_rotation
from callmeter.providers.management import ProviderKey
from callmeter.secrets.registry import Entry
from callmeter.secrets.registry_file import RegistryFile, changed
from callmeter.store.rotation_journal import journal_of, read_journal
from callmeter.words.errors import Unavailable
from callmeter.words.money import usd

UNMANAGED = "no management key for it"


@dataclass(frozen=True)
class Difference:
    """What the provider holds for a key, and what the policy wants; `action` is `set`, `same`, or why nothing is to be
    done, and so is `models` for the key's model list (empty: it has none)."""

    entry: Entry
    record: ProviderKey | None
    wanted: Ceiling | None
    action: str
    models: str = ""

    @property
    def differs(self) -> bool:
        """Whether something is to be written."""
        return "set" in (self.action, self.models)


def differences(entries: Iterable[Entry], quotas: Sequence[Quota], bench: Bench) -> list[Difference]:
    """Each key beside the ceiling that its quotas want. Raises NoKey, Unavailable."""
    found = []
    for entry in entries:
        account = bench.management(entry)
        record = account.key(entry.provider_key) if account is not None and entry.provider_key else None
        wanted = ceiling_of(quotas, label=entry.label, agent=entry.agent, user=entry.user, provider=entry.provider)
        rotation = read_rotation(read_journal(journal_of(bench.journals, entry.label)))
        if account is None:
            action = UNMANAGED
        elif record is None:
            action = "not known there: run `budget keys import`"
        elif wanted is None:
            action = "no quota in money"
        elif rotation is not None and rotation.open:
            action = "being rotated: `budget rotate-key` sees to it"
        elif (record.limit, record.limit_reset) == (wanted.limit, wanted.reset):
            action = "same"
        elif not wanted.reset and rotation is not None and record.limit is not None and record.limit < wanted.limit:
            action = "same: it is for ever, and keys before this one have spent of it"
        else:
            action = "set"
        models = guard_state(bench, entry) if record is not None else ""
        found.append(Difference(entry, record, wanted, action, models))
    return found


def apply(difference: Difference, bench: Bench) -> list[str]:
    """Write one key's ceiling and model list; gives back what the provider cannot hold, as sentences. Raises
    Unavailable."""
    entry, wanted = difference.entry, difference.wanted
    account = bench.management(entry)
    if account is not None and wanted is not None and difference.action == "set":
        facts = {
            "key": entry.label,
            "limit": usd(wanted.limit),
            "reset": wanted.reset,
            "quota": str(wanted.quota.subject),
        }
        bench.audit("key.ceiling", facts)
        fields = {"limit": usd(wanted.limit), "limit_reset": wanted.reset or None}
        if account.change(entry.provider_key, fields) is None:
            raise Unavailable(f"the provider has no key {entry.label} any more", "run `callmeter budget keys import`")
        with RegistryFile(bench.registry) as registry:
            kept = registry.entries.get(entry.label)
            if kept is not None:
                registry.put(changed(kept, budget=f"{usd(wanted.limit):f}", budget_reset=wanted.reset))
    return guard_models(bench, entry) if difference.models == "set" else []
