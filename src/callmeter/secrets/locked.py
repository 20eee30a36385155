"""A store over entries that are replaced one at a time, with no compare-and-set: its writers take a lock of ours."""

from __future__ import annotations

from callmeter.secrets.store import CURRENT, SLOTS, exchange, require_slot
from callmeter.store.files import Lock
from callmeter.words.errors import NoKey, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from callmeter.secrets.secret import Secret
else:
    Protocol = object


class Entries(Protocol):
    """What a program or daemon keeps: an entry for each slot of a name. Raises as `SecretStore` does."""

    writable: bool

    def read(self, name: str, slot: str) -> Secret | None:
        """The key in an entry, or None when there is none."""

    def put(self, name: str, slot: str, secret: Secret) -> None:
        """Replace an entry."""

    def remove(self, name: str, slot: str) -> bool:
        """Remove an entry; False when there was none."""

    def describe(self, name: str) -> str:
        """Where the key lies, for a person."""


class LockedStore:
    """See `store.SecretStore`. With `readers_too`, readers take the lock as well; else only a reader that fails, who
    may have met an entry while it was written."""

    def __init__(self, entries: Entries, lock: str, *, readers_too: bool) -> None:
        self._entries = entries
        self._lock = Lock(lock)
        self._readers_too = readers_too
        self.writable = entries.writable

    def read(self, name: str, slot: str = CURRENT) -> Secret | None:
        """The key, or None."""
        if not self._readers_too:
            try:
                return self._entries.read(name, slot)
            except (NoKey, Unavailable):
                if not self.writable:
                    raise
        with self._lock:
            return self._entries.read(name, slot)

    def write(self, name: str, secret: Secret, slot: str = CURRENT) -> None:
        """Replace an entry."""
        require_slot(slot)
        with self._lock:
            self._entries.put(name, slot, secret)

    def swap(self, name: str, old: Secret | None, new: Secret) -> None:
        """Three entries, each replaced by itself."""
        with self._lock:
            exchange(
                self.describe(name),
                old,
                new,
                read=lambda slot: self._entries.read(name, slot),
                put=lambda slot, secret: self._entries.put(name, slot, secret),
                remove=lambda slot: self._entries.remove(name, slot),
            )

    def delete(self, name: str, slot: str | None = None) -> bool:
        """Remove an entry, or all three."""
        with self._lock:
            slots = reversed(SLOTS) if slot is None else (slot,)
            removed = [self._entries.remove(name, each) for each in slots]
        return any(removed)

    def describe(self, name: str) -> str:
        """Where the key lies, for a person."""
        return self._entries.describe(name)
