"""The protocol of secret stores. A reference such as `file:code@openrouter` names a store and a name in it.

Under each name there are three slots: the key that calls use, the one that comes next while a key is being rotated,
and the one before. A swap is the one step in which the next key becomes the current one and the current one the
previous; it happens only if the current one still is the key that was meant to be replaced.
"""

from __future__ import annotations

from callmeter.words.errors import NoKey, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from callmeter.secrets.secret import Secret
else:
    Protocol = object

CURRENT, PENDING, PREVIOUS = "current", "pending", "previous"
SLOTS = (CURRENT, PENDING, PREVIOUS)


class Conflict(Unavailable):
    """The store holds another key than the one that was to be replaced; nothing was written."""

    code = "store_conflict"


class SecretStore(Protocol):
    """Keeps keys by name.

    Everything may raise Unavailable when the store cannot be reached, is locked or sealed, or says no, and NoKey
    when what is there must not be used. `writable` is False for a store that can only be read.
    """

    writable: bool

    def read(self, name: str, slot: str = CURRENT) -> Secret | None:
        """The key in a slot as it is now, or None when there is none."""

    def write(self, name: str, secret: Secret, slot: str = CURRENT) -> None:
        """Put a key into the slot `current` or `pending`, whatever is there: at once, and durably. `pending` is for
        a name that has a key."""

    def swap(self, name: str, old: Secret | None, new: Secret) -> None:
        """Make `new` the current key in the place of `old`, which becomes the previous one; `old` None: only if
        there is no key. A pending `new` is pending no more. Readers get the old key or the new one at each moment.

        Where `new` is the current key already, what an interrupted swap left is completed. Raises Conflict when the
        current key is neither. Swapping back is `swap(name, new, old)`.
        """

    def delete(self, name: str, slot: str | None = None) -> bool:
        """Empty `pending` or `previous`, or without a slot remove all that is under the name. False when there was
        nothing."""

    def describe(self, name: str) -> str:
        """Where the key lies, for a person."""


def exchange(
    where: str,
    old: Secret | None,
    new: Secret,
    *,
    read: Callable[[str], Secret | None],
    put: Callable[[str, Secret], None],
    remove: Callable[[str], object],
) -> None:
    """A swap in a store that keeps each slot by itself, under the caller's lock. Each step replaces one slot at once,
    so that a crash leaves the old key or the new one current, and the same swap completes the rest."""
    current = read(CURRENT)
    if current != new:
        if current != old:
            raise conflict(where)
        if old is not None:
            put(PREVIOUS, old)
        put(CURRENT, new)
    if read(PENDING) == new:
        remove(PENDING)


def conflict(where: str) -> Conflict:
    """The error for a key that somebody else has changed meanwhile."""
    return Conflict(
        f"the key at {where} is not the one that was to be replaced: somebody has changed it meanwhile",
        "see `callmeter budget keys list`, and run the command again when the key there is the right one",
    )


def require_slot(slot: str) -> None:
    """Raises ValueError for a slot that cannot be written to by itself."""
    if slot not in (CURRENT, PENDING):
        raise ValueError(f"the slot {slot} is filled by a swap only")


def missing(label: str, where: str) -> NoKey:
    """The error for a key that its registry entry points to, and that is not there."""
    return NoKey(
        f"the key {label} is not where it should be: {where}",
        f"add it again: `callmeter budget keys add --label {label} --replace`",
        code="key_missing",
        key=label,
    )


def library_missing(kind: str, extra: str) -> Unavailable:
    """The error for a store whose library is not installed."""
    return Unavailable(
        f"a key lies in {kind}, and the library for that is not installed",
        f"run `pip install 'callmeter[{extra}]'` (or `uv tool install 'callmeter[{extra}]'`)",
        code="extra_missing",
        extra=extra,
    )
