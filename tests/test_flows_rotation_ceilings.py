"""What the registry says of a key's ceiling while the key is rotated, and afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from callmeter.flows.key_ceilings import differences
from callmeter.policy.quotas import Quota
from callmeter.secrets.registry_file import RegistryFile, changed
from callmeter.words.money import NANO
from callmeter.words.subject import parse_subject
from rotation_house import LABEL, House, Killed
from servers.openrouter import OpenRouter


@pytest.fixture
def router() -> Iterator[OpenRouter]:
    with OpenRouter() as router:
        yield router


def spend(house: House, secret: str, amount: str) -> None:
    house.router.record(secret).spent.append((time.monotonic() - 60, house.now(), Decimal(amount)))


def for_life(path: Path, router: OpenRouter) -> House:
    """A house whose key has $10 for ever, as its registry says, and has spent $4 of it."""
    house = House(path, router, limit="10", reset=None)
    with RegistryFile(str(path / "keys.toml")) as registry:
        registry.put(changed(registry.entries[LABEL], budget="10"))
    spend(house, house.first, "4")
    return house


def ceilings(house: House) -> tuple[Decimal, Decimal | None]:
    """What the registry says, and what the provider holds for the key in use."""
    return Decimal(house.entry.budget), house.router.record(house.current).limit


def test_the_registry_knows_what_is_left_of_a_ceiling_for_life(tmp_path: Path, router: OpenRouter) -> None:
    house = for_life(tmp_path, router)
    house.rotate()
    assert ceilings(house) == (6, 6)
    spend(house, house.first, "0.50")
    house.rotate(start=False)
    assert ceilings(house) == (Decimal("5.50"), Decimal("5.50"))
    house.to_the_end()
    spend(house, house.current, "1")
    house.rotate()
    house.to_the_end()
    assert ceilings(house) == (Decimal("4.50"), Decimal("4.50"))
    assert house.entry.budget_reset == ""


def test_a_ceiling_for_life_is_known_wherever_a_rotation_was_killed(tmp_path: Path) -> None:
    number = 0
    while True:
        with OpenRouter() as router:
            house = for_life(tmp_path / str(number), router)
            house.rotate()
            spend(house, house.first, "0.50")
            house.skip(timedelta(hours=25))
            house.kill_at = len(house.effects) + number
            try:
                house.rotate(start=False)
                killed = False
            except Killed:
                killed = True
            house.kill_at = -1
            house.to_the_end()
            assert ceilings(house) == (Decimal("5.50"), Decimal("5.50")), number
        if not killed:
            break
        number += 1
    assert number > 3


def test_a_ceiling_for_life_that_is_taken_back_is_less_what_the_new_key_spent(
    tmp_path: Path, router: OpenRouter
) -> None:
    house = for_life(tmp_path, router)
    house.rotate()
    spend(house, house.current, "2")
    house.roll_back()
    assert house.current == house.first
    assert ceilings(house) == (8, 8), "of ten, and it has spent four of them itself"


def test_a_ceiling_that_is_reset_stays_in_the_registry_as_it_is(tmp_path: Path, router: OpenRouter) -> None:
    house = House(tmp_path, router)
    with RegistryFile(str(house.path / "keys.toml")) as registry:
        registry.put(changed(registry.entries[LABEL], budget="5", budget_reset="monthly"))
    spend(house, house.first, "1")
    house.rotate()
    assert ceilings(house) == (5, 4)
    house.to_the_end()
    assert ceilings(house) == (5, 5)


def test_what_is_left_of_a_quota_for_life_is_not_made_the_whole_again_by_a_sync(
    tmp_path: Path, router: OpenRouter
) -> None:
    house = for_life(tmp_path, router)
    house.rotate()
    house.to_the_end()
    quota = Quota(parse_subject("agent:code"), 10 * NANO, period="life", enforcement="hard")
    (found,) = differences([house.entry], [quota], house.bench())
    assert found.action.startswith("same") and not found.differs
    assert ceilings(house) == (6, 6)
    smaller = Quota(parse_subject("agent:code"), 5 * NANO, period="life", enforcement="hard")
    (found,) = differences([house.entry], [smaller], house.bench())
    assert found.action == "set", "a limit below what is left still has to be written"
