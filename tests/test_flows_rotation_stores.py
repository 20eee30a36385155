"""A whole rotation of a key in each kind of store, each on its real server; killed at the swap; and taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from callmeter.flows.rotation_run import Wishes
from callmeter.secrets.lookup import readings
from callmeter.secrets.store import PENDING, PREVIOUS
from callmeter.words.errors import CallmeterError
from rotation_house import House, Killed
from servers.openrouter import OpenRouter
from test_secrets_stores import Place, desktop, place, running

__all__ = ["desktop", "place", "running"]


@pytest.fixture
def house(tmp_path: Path, place: Place) -> Iterator[House]:
    with OpenRouter() as router:
        yield House(tmp_path / "house", router, place=place)


def test_a_key_is_rotated_in_its_store(house: House) -> None:
    house.rotate()
    keys = [key.secret.reveal() for key in readings(house.entry, house.stores)]
    assert keys == [house.current, house.first]  # what a caller tries, one after the other
    house.to_the_end()
    house.is_clean()


def test_killed_before_and_after_the_swap_the_same_command_finishes_the_job(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner: Any = type(house.stores.open(house.reference)[0])
    plain = owner.swap
    for after in (False, True):

        def killing(self: Any, *given: Any, after: bool = after) -> None:
            if after:
                plain(self, *given)
            raise Killed("swap")

        monkeypatch.setattr(owner, "swap", killing)
        with pytest.raises(Killed):
            house.rotate()
        assert house.router.record(house.current) in house.router.working()
        monkeypatch.setattr(owner, "swap", plain)
        house.rotate()
        house.to_the_end()
        house.is_clean()


def test_a_rotation_is_taken_back_in_its_store(house: House) -> None:
    house.rotate(Wishes(at_once=True))
    house.roll_back()
    assert house.current == house.first
    assert house.slot(PENDING) is None and house.slot(PREVIOUS) is None
    assert [key.secret for key in house.router.working()] == [house.first]


def test_a_key_that_somebody_else_puts_into_the_store_stays(house: House) -> None:
    by_hand = house.router.give_key("by hand")

    def replaced(method: str, path: str) -> None:
        if method == "PATCH":
            store, name = house.stores.open(house.reference)
            store.write(name, house.secret(by_hand))

    house.router.on_request = replaced
    with pytest.raises(CallmeterError, match="somebody has"):
        house.rotate()
    assert house.current == by_hand
    assert {key.secret for key in house.router.keys} == {house.first, by_hand}
