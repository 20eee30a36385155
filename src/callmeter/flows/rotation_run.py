"""What every step of a rotation needs: the journal, the store, the provider, and the two keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from callmeter.policy.rotation import (
    TEST_ALLOWANCE,
    Rotation,
    ceiling,
    is_ours,
    is_whole,
    next_reset,
    read_rotation,
    same_limit,
    window_start,
)
from callmeter.providers.management import Management, ProviderKey
from callmeter.secrets.open_store import Stores
from callmeter.secrets.registry import Entry
from callmeter.secrets.registry_file import RegistryFile, changed
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import CURRENT, PENDING
from callmeter.store.audit import Audit
from callmeter.store.rotation_journal import Journal
from callmeter.words.errors import Malformed, NoKey, Unavailable
from callmeter.words.instant import text_of
from callmeter.words.money import shown, usd

# At some edges of a provider a key is known later than at others.
_ANSWERS = 3


@dataclass(frozen=True)
class Use:
    """Who still used a key, and when last."""

    agent: str
    last: datetime


@dataclass(frozen=True)
class Bench:
    """What rotations work with. `management` gives the account's client for an entry, or None where there is none;
    `answers` asks the provider whether a key is good (None: it cannot be asked); `uses` reads our own log: who used
    a key with this fingerprint since then; `calls` makes a real call of each model, and says what failed; `tell` shows
    progress, `warn` what somebody has to know."""

    registry: str
    stores: Stores
    journals: str
    management: Callable[[Entry], Management | None]
    answers: Callable[[Entry, Secret], bool | None]
    uses: Callable[[str, datetime], Sequence[Use]]
    calls: Callable[[Entry, Secret, Sequence[str]], str]
    audit: Audit
    who: str
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    pause: Callable[[float], None]
    tell: Callable[[str], None]
    warn: Callable[[str], None]


@dataclass(frozen=True)
class Wishes:
    """How to rotate: how long the old key stays good, when it is deleted after that, whether a key that is still in
    use is cut off at the end (`cut`), and at once (`at_once`, for a leak). `models` are called once each with the new
    key, which is dead after `expires` (None: it lives as long as the old one). `pasted` is a key that a person has
    made; `revoked` says that a person has revoked the old one."""

    grace: timedelta = timedelta(hours=24)
    delete_after: timedelta = timedelta(days=7)
    patience: timedelta = timedelta(seconds=120)
    models: Sequence[str] = ()
    expires: datetime | None = None
    cut: bool = False
    at_once: bool = False
    pasted: Secret | None = None
    revoked: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a rotation came. `until` is when to run again, if that is known; `uses` who holds it up."""

    label: str
    state: str
    done: bool
    detail: str
    until: datetime | None = None
    uses: Sequence[Use] = field(default_factory=tuple)


class Run:
    """One run over one key's rotation, under its journal's lock."""

    def __init__(self, entry: Entry, bench: Bench, wishes: Wishes, journal: Journal, slot: str = PENDING) -> None:
        self.slot = slot  # where a new key lies until it is in use
        self.entry = entry
        self.bench = bench
        self.wishes = wishes
        self.journal = journal
        self.label = entry.label
        self.store, self.name = bench.stores.open(entry.secret)
        self.salt = bench.stores.salt()
        self.client = bench.management(entry)
        try:
            self.latest = read_rotation(journal.records())
        except ValueError as error:
            raise Malformed(f"the journal of {entry.label}'s rotation: {error}", "install a newer callmeter") from None

    @property
    def rotation(self) -> Rotation:
        """The rotation that is going on."""
        assert self.latest is not None
        return self.latest

    def record(self, step: str, **facts: Any) -> None:
        """Put a step on disk, and into the audit log if it changes a key."""
        self.journal.add(step, self.bench.now(), facts)
        self.latest = read_rotation(self.journal.records())
        if step not in ("intent", "void"):
            shown = {name: value for name, value in facts.items() if name not in ("id", "by", "base", "full", "grace")}
            self.bench.audit("key.rotate", {"key": self.label, "rotation": self.rotation.id, "step": step, **shown})

    def read(self, slot: str = CURRENT) -> Secret | None:
        """The key in a slot of the store."""
        return self.store.read(self.name, slot)

    def is_new(self, secret: Secret | None) -> bool:
        """Whether a key is the one that this rotation brings."""
        return secret is not None and secret.fingerprint(self.salt) == self.rotation.new_fingerprint

    def is_old(self, secret: Secret | None) -> bool:
        """Whether a key is the one that this rotation replaces."""
        return secret is not None and secret.fingerprint(self.salt) == self.rotation.old_fingerprint

    def account(self) -> Management:
        """The account's client. Raises NoKey where there is no management key."""
        if self.client is None:
            raise NoKey(
                f"no management key for {self.entry.provider} at {self.entry.base_url}",
                "add one with `callmeter budget keys add --management`, or rotate with `--paste`",
                code="no_management_key",
            )
        return self.client

    def old(self) -> ProviderKey | None:
        """The old key's record; None when it is gone, or nobody can be asked."""
        hash = self.rotation.old_hash
        return self.client.key(hash) if self.client is not None and hash else None

    def new(self) -> ProviderKey | None:
        """The new key's record; None when it is gone, or nobody can be asked."""
        hash = self.rotation.new_hash
        return self.client.key(hash) if self.client is not None and hash else None

    def trouble_with(self, secret: Secret) -> str:
        """Why a key fails its test: the provider has to accept it three times in a row, within the patience. Nothing
        when it passes, or when nobody can be asked."""
        patience = self.wishes.patience.total_seconds()
        deadline, told = self.bench.monotonic() + patience, False
        good, wait, trouble = 0, 0.25, ""
        while good < _ANSWERS:
            try:
                answer = self.bench.answers(self.entry, secret)
                trouble = "it is refused"
            except Unavailable as error:
                answer, trouble = False, error.message
            if answer is None:
                self.bench.tell(f"{self.label}: nobody can be asked whether the new key is good")
                return ""
            good = good + 1 if answer else 0
            if answer:
                continue
            if self.bench.monotonic() >= deadline:
                return trouble
            if not told and self.bench.monotonic() > deadline - 0.95 * patience:
                told = True
                self.bench.tell(f"{self.label}: {trouble} as yet; trying again for {patience:.0f} s")
            self.bench.pause(wait)
            wait = min(5.0, wait * 2)
        return ""

    def discard(self, hash: str) -> None:
        """Disable and delete a key that nobody uses."""
        account = self.account()
        account.change(hash, {"disabled": True})
        account.delete(hash)
        self.bench.audit("key.rotate", {"key": self.label, "step": "discard", "hash": hash})

    def sweep(self) -> None:
        """Remove every key at the provider that a rotation in this journal made and that is neither old nor new."""
        if self.client is None:
            return
        ids: set[str] = set()
        for record in self.journal.records():
            if record["step"] == "begin":
                ids.add(str(record["id"]))
            elif record["step"] == "done":
                ids.clear()  # it has seen to its own
        kept = (self.rotation.old_hash, self.rotation.new_hash)
        for key in self.client.all_keys():
            if is_ours(key.name, ids) and key.hash not in kept:
                self.discard(key.hash)

    def set_ceilings(self) -> None:
        """Give the new key what the old one's limit leaves, as it is now; and stop both where together they have
        reached it. A limit that this rotation never set is a person's, and stays."""
        rotation = self.rotation
        if self.client is None or rotation.foreign:
            return
        old, new = self.old(), self.new()
        if new is None or old is None:
            return
        if not any(same_limit(new.limit, each) for each in (TEST_ALLOWANCE, *rotation.limits)):
            self.record("foreign", limit=new.limit)
            self.bench.tell(f"{self.label}: somebody else has set the new key's limit, so it stays as it is")
            return
        now = self.bench.now()
        wanted = ceiling(rotation, now, used=old.usage_window, used_ever=old.usage)
        if not same_limit(new.limit, wanted):
            self.record("ceiling", limit=wanted)
            self.client.change(new.hash, {"limit": None if wanted is None else usd(wanted)})
        self._stop_both(old, new, now)

    def _stop_both(self, old: ProviderKey, new: ProviderKey, now: datetime) -> None:
        rotation, client = self.rotation, self.account()
        if rotation.base is None or rotation.full is None or old.disabled or rotation.before_swap:
            return
        began = window_start(rotation.began, rotation.window) == window_start(now, rotation.window)
        whole = rotation.base if began else rotation.full
        spent = old.usage if not rotation.window else old.usage_window
        stopped = rotation.old_stopped
        if stopped is not None and window_start(stopped, rotation.window) < window_start(now, rotation.window):
            client.change(old.hash, {"limit": usd(rotation.base)})
            self.record("old_freed")
        elif (
            stopped is None
            and spent + new.usage_window >= whole
            and same_limit(old.limit, rotation.base)
            and rotation.base > spent
        ):
            self.record("old_stopped")
            client.change(old.hash, {"limit": usd(spent)})

    def make_whole(self) -> Progress | None:
        """Give the key that is in use its whole limit again, once what the other one spent no longer counts; gives back
        why that has to wait. A limit that this rotation never set is a person's, and stays."""
        rotation, now = self.rotation, self.bench.now()
        back = rotation.state == "rolled_back"
        key = self.old() if back else self.new()
        if key is None or rotation.foreign or not rotation.window or same_limit(key.limit, rotation.full):
            return None
        known = (rotation.base, rotation.carried) if back else (TEST_ALLOWANCE, *rotation.limits)
        if not any(same_limit(key.limit, each) for each in known):
            self.record("foreign", limit=key.limit)
            self.bench.tell(f"{self.label}: somebody else has set the key's limit, so it stays as it is")
            return None
        if not is_whole(rotation, now):
            left = "none" if key.limit is None else shown(key.limit)
            full = "none" if rotation.full is None else shown(rotation.full)
            why = f"the key's limit is {left}, what the other one left, until its reset; then {full}"
            return Progress(self.label, rotation.state, False, why, next_reset(now, rotation.window))
        self.record("ceiling", limit=rotation.full)
        self.account().change(key.hash, {"limit": None if rotation.full is None else usd(rotation.full)})
        return None

    def users(self, fingerprint: str, since: datetime, hash: str = "") -> list[Use]:
        """Who used a key since then, by our log and, for one that the provider knows, by its last use there."""
        uses = list(self.bench.uses(fingerprint, since))
        record = self.client.key(hash) if self.client is not None and hash and not uses else None
        if record is not None and record.last_used is not None and record.last_used > since:
            uses.append(Use("somebody whom the usage log does not know", record.last_used))
        return uses

    def register(self) -> None:
        """Let the registry name the key that is in the store."""
        rotation = self.rotation
        record = self.new() if self.is_new(self.read()) else None
        with RegistryFile(self.bench.registry) as registry:
            entry, current = registry.entries.get(self.label), self.read()
            if entry is None or not (self.is_new(current) or self.is_old(current)):
                return
            changes = {"fingerprint": rotation.old_fingerprint, "provider_key": rotation.old_hash}
            if self.is_new(current):
                changes = {"fingerprint": rotation.new_fingerprint, "provider_key": rotation.new_hash}
                changes["last_rotated"] = text_of(rotation.swapped or rotation.began)
                changes["expires"] = text_of(record.expires) if record and record.expires else ""
            if (entry.fingerprint, entry.provider_key) != (changes["fingerprint"], changes["provider_key"]):
                self.entry = changed(entry, **changes)
                registry.put(self.entry)

    def register_limit(self) -> None:
        """Let the registry name the limit of the key that is in use, if it is never reset: then what the other one left
        is the whole of it from now on."""
        if self.rotation.window:
            return
        record = self.new() if self.is_new(self.read()) else self.old()
        with RegistryFile(self.bench.registry) as registry:
            entry = registry.entries.get(self.label)
            if entry is None or record is None or entry.provider_key != record.hash:
                return
            limit = "" if record.limit is None else f"{usd(record.limit):f}"
            if entry.budget != limit:
                self.entry = changed(entry, budget=limit)
                registry.put(self.entry)

    def clear_pending(self) -> None:
        """Forget a key that never came into use."""
        if self.read(self.slot) is not None:
            self.store.delete(self.name, None if self.slot == CURRENT else self.slot)


def hash_of(secret: Secret) -> str:
    """What OpenRouter's SDK says a key is called there: its SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.reveal().encode("ascii")).hexdigest()
