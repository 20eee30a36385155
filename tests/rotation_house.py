"""A house with one agent's key, for tests of its rotation: registry, file store, journal, and an OpenRouter account."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from callmeter.flows.rotation import roll_back, rotate
from callmeter.flows.rotation_run import Bench, Progress, Use, Wishes
from callmeter.policy.rotation import read_rotation
from callmeter.providers.management import Management
from callmeter.providers.plain import PlainTransport
from callmeter.secrets.open_store import Stores
from callmeter.secrets.registry import Entry, read_registry
from callmeter.secrets.registry_file import RegistryFile, changed
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import PENDING, PREVIOUS
from callmeter.store.rotation_journal import journal_of, read_journal
from callmeter.store.toml import read_toml
from servers.openrouter import OpenRouter

LABEL = "code@openrouter"


class Killed(BaseException):
    """Stands for a kill -9: nothing runs after it."""


class House:
    """A registry, a file store, a journal and an account; one key of an agent called code."""

    def __init__(
        self,
        path: Path,
        router: OpenRouter,
        limit: str | None = "5",
        reset: str | None = "monthly",
        place: tuple[Stores, str] | None = None,
    ) -> None:
        self.path = path
        self.router = router
        self.first = router.give_key("code on the dashboard", limit=limit, reset=reset)
        self.stores, self.reference = place or (Stores(str(path / "keys"), {}), f"file:{LABEL}")
        self.uses: Sequence[Use] = ()
        self.told: list[str] = []
        self.audited: list[tuple[str, dict[str, object]]] = []
        self.kill_at = -1
        self.effects: list[str] = []
        self.timeout = 5.0
        self.on_effect: Callable[[int], None] = lambda number: None
        store, name = self.stores.open(self.reference)
        store.write(name, Secret(self.first))
        fingerprint = Secret(self.first).fingerprint(self.stores.salt())
        entry = Entry(
            LABEL,
            provider="openrouter",
            base_url=router.base_url,
            secret=self.reference,
            agent="code",
            fingerprint=fingerprint,
            created="2026-08-01",
        )
        with RegistryFile(str(path / "keys.toml")) as registry:
            registry.put(entry)

    @property
    def entry(self) -> Entry:
        path = str(self.path / "keys.toml")
        return read_registry(read_toml(path, str(self.path / "cache")), path)[LABEL]

    @property
    def current(self) -> str:
        store, name = self.stores.open(self.reference)
        secret = store.read(name)
        assert secret is not None
        return secret.reveal()

    def slot(self, slot: str) -> Secret | None:
        store, name = self.stores.open(self.reference)
        return store.read(name, slot)

    @property
    def state(self) -> str:
        rotation = read_rotation(read_journal(journal_of(str(self.path / "rotations"), LABEL)))
        assert rotation is not None
        return rotation.state

    def skip(self, span: timedelta) -> None:
        """Let time pass, here and at the provider."""
        self.router.wait_until_quiet()
        for record in self.router.keys:
            record.made -= span.total_seconds()
        self.router.shift += span

    def now(self) -> datetime:
        return self.router.now()

    def effect(self, what: str) -> None:
        """Something was about to leave this process, or just has."""
        self.effects.append(what)
        self.on_effect(len(self.effects) - 1)
        if len(self.effects) - 1 == self.kill_at:
            raise Killed(what)

    def bench(self) -> Bench:
        transport = PlainTransport(None, None)
        house = self

        class Wire:
            def send(self, method: str, url: str, *given: Any, **named: Any) -> Any:
                house.effect(f"before {method} {url.rpartition('/v1')[2][:8]}")
                answer = transport.send(method, url, *given, **named)
                house.effect(f"after {method} {url.rpartition('/v1')[2][:8]}")
                return answer

        client = Management(
            Wire(),
            self.router.base_url,
            self.router.management_key,
            pause=lambda seconds: None,
            monotonic=time.monotonic,
            timeout=self.timeout,
        )
        return Bench(
            registry=str(self.path / "keys.toml"),
            stores=self.stores,
            journals=str(self.path / "rotations"),
            management=lambda entry: client,
            answers=lambda entry, secret: client.standing(secret.reveal()) is not None,
            uses=lambda fingerprint, since: self.uses,
            calls=lambda entry, secret, models: "",
            audit=lambda event, facts: self.audited.append((event, dict(facts))),
            who="ann@host",
            now=self.now,
            monotonic=time.monotonic,
            pause=lambda seconds: time.sleep(min(seconds, 0.02)),
            tell=self.told.append,
            warn=self.told.append,
        )

    def rotate(self, wishes: Wishes | None = None, *, start: bool = True) -> Progress:
        return rotate(self.entry, self.bench(), wishes or Wishes(), start=start)

    def shares_key_with(self, other: House) -> None:
        """Two hosts have registered the same key in the same store, this one's."""
        del self.router._records[self.router.record(other.first).hash]
        other.first = self.first
        store, name = self.stores.open(self.reference)
        store.write(name, Secret(self.first))
        with RegistryFile(str(other.path / "keys.toml")) as registry:
            registry.put(changed(registry.entries[LABEL], fingerprint=self.entry.fingerprint))

    @staticmethod
    def secret(text: str) -> Secret:
        return Secret(text)

    def roll_back(self) -> Progress:
        return roll_back(self.entry, self.bench(), Wishes())

    def replace_by_hand(self, *, registered: bool) -> str:
        """Somebody makes a key on the dashboard and puts it in place, with `keys add --replace` or past callmeter."""
        theirs = self.router.give_key("by hand", limit="5", reset="monthly")
        store, name = self.stores.open(self.reference)
        store.write(name, Secret(theirs))
        if registered:
            with RegistryFile(str(self.path / "keys.toml")) as registry:
                fingerprint = Secret(theirs).fingerprint(self.stores.salt())
                registry.put(changed(registry.entries[LABEL], fingerprint=fingerprint, provider_key=""))
        return theirs

    def to_the_end(self) -> None:
        """Run the command again and again, as cron does, until nothing is left to do."""
        for _ in range(60):
            progress = self.rotate(start=False)
            if progress.done:
                return
            self.skip(max(timedelta(hours=1), (progress.until or self.now()) - self.now() + timedelta(seconds=1)))
        raise AssertionError(progress)

    def is_clean(self) -> None:
        """One key works and is the agent's; nothing is pending; the limit is whole."""
        (key,) = self.router.working()
        assert key.secret == self.current
        assert self.entry.fingerprint == Secret(key.secret).fingerprint(self.stores.salt())
        assert self.entry.provider_key == key.hash
        assert self.slot(PENDING) is None
        assert self.slot(PREVIOUS) is None
        assert (key.limit, key.limit_reset) == (Decimal(5), "monthly")
        assert len(self.router.keys) == 1
