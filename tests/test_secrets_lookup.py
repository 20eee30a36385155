"""Which keys a call tries, one after the other, while the key that it has is refused: a rotation may be under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from callmeter.secrets.lookup import readings
from callmeter.secrets.registry import Entry
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import CURRENT, PREVIOUS
from callmeter.words.errors import NoKey, Unavailable

ENTRY = Entry("code", provider="openrouter", base_url="https://x.example/v1", secret="file:code", fingerprint="known")


class Rotating:
    """Stores whose one key is another one each time that it is read: the next of `current`, or the last of them."""

    def __init__(self, current: Sequence[str | None], previous: str | None = None, *, salted: bool = True) -> None:
        self.current = list(current)
        self.previous = previous
        self.salted = salted

    def open(self, reference: str) -> tuple[Rotating, str]:
        return self, reference

    def salt(self) -> bytes:
        if not self.salted:
            raise Unavailable("the home cannot be written to")
        return b"salt"

    def read(self, name: str, slot: str = CURRENT) -> Secret | None:
        assert slot in (CURRENT, PREVIOUS)
        found = self.previous
        if slot == CURRENT:
            found = self.current.pop(0) if len(self.current) > 1 else self.current[0]
        return None if found is None else Secret(found)

    def describe(self, name: str) -> str:
        return "the place"


def tried(stores: Any) -> list[str]:
    return [key.reveal() for key in readings(ENTRY, stores)]


@pytest.mark.parametrize(
    ("current", "previous", "keys"),
    [
        (["a"], None, ["a"]),
        (["a"], "old", ["a", "old"]),
        (["a", "b"], None, ["a", "b"]),
        (["a", "b"], "a", ["a", "b"]),
        (["a", "a", "b"], "old", ["a", "old", "b"]),
        (["a", "b", "c"], "old", ["a", "b", "old", "c"]),
    ],
)
def test_a_refused_key_is_read_anew_before_the_previous_one_is_tried_and_none_is_tried_twice(
    current: list[str], previous: str | None, keys: list[str]
) -> None:
    assert tried(Rotating(current, previous)) == keys


def test_a_key_that_is_gone_is_told_with_its_place() -> None:
    with pytest.raises(NoKey, match="the key code is not where it should be: the place"):
        tried(Rotating([None]))


def test_a_fingerprint_is_the_keys_own_and_without_a_salt_the_registered_one() -> None:
    (key,) = readings(ENTRY, Rotating(["a"]))  # type: ignore[arg-type]
    assert key.fingerprint == Secret("a").fingerprint(b"salt")
    (key,) = readings(ENTRY, Rotating(["a"], salted=False))  # type: ignore[arg-type]
    assert key.fingerprint == "known"
