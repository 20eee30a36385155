"""Rotations that people, crashes and providers interfere with at the worst moment: what is left is whole."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from callmeter.flows.rotation import rotate
from callmeter.flows.rotation_run import Bench, Wishes
from callmeter.secrets.store import PENDING, PREVIOUS
from callmeter.store.rotation_journal import journal_of, read_journal
from callmeter.words.errors import CallmeterError, NoKey, Refused, Unavailable
from rotation_house import LABEL, House, Killed
from servers.openrouter import KINDS, OpenRouter


@pytest.fixture
def router() -> Iterator[OpenRouter]:
    with OpenRouter() as router:
        yield router


@pytest.fixture
def house(tmp_path: Path, router: OpenRouter) -> House:
    return House(tmp_path, router)


def effects_of(path: Path) -> int:
    with OpenRouter() as router:
        house = House(path, router)
        house.rotate()
        house.to_the_end()
        return len(house.effects)


def spend(house: House, secret: str, amount: str) -> None:
    house.router.record(secret).spent.append((time.monotonic() - 60, house.now(), Decimal(amount)))


def minted(house: House) -> list[str]:
    """The keys that rotations made and that are there still, the one in use left out."""
    return [key.name for key in house.router.keys if " cm-" in key.name and key.secret != house.current]


def test_a_key_of_theirs_put_in_place_at_any_moment_stays_and_no_minted_one_is_left(tmp_path: Path) -> None:
    for number in range(0, effects_of(tmp_path / "count"), 3):
        with OpenRouter() as router:
            house = House(tmp_path / str(number), router)
            theirs = ""

            def by_hand(at: int, house: House = house, number: int = number) -> None:
                nonlocal theirs
                if at == number:
                    theirs = house.replace_by_hand(registered=True)

            house.on_effect = by_hand
            for _ in range(3):  # whoever is told that it is so runs the command again
                try:
                    house.rotate()
                    house.to_the_end()
                    break
                except CallmeterError:
                    assert router.record(house.current) in router.working(), number
            house.on_effect = lambda number: None
            house.to_the_end()
            assert theirs
            working = {key.secret for key in router.working()}
            assert house.current in working, number
            assert not minted(house), number
            assert house.slot(PENDING) is None
            house.rotate()  # and the next one goes its way
            house.to_the_end()
            assert not minted(house), number


def test_a_key_of_theirs_that_nobody_registered_stops_the_rotation_and_says_so(house: House) -> None:
    house.rotate()
    theirs = house.replace_by_hand(registered=False)
    house.skip(timedelta(hours=25))
    with pytest.raises(Unavailable, match="holds another key"):
        house.rotate(start=False)
    assert not house.router.record(house.first).disabled
    progress = house.roll_back()
    assert "theirs" in progress.detail
    assert house.current == theirs
    assert not minted(house)
    assert house.rotate(start=False).done


def test_a_rollback_that_is_killed_anywhere_is_finished_by_the_same_command_and_by_crons(tmp_path: Path) -> None:
    for start, again in ((timedelta(0), "rollback"), (timedelta(0), "cron"), (timedelta(hours=25), "cron")):
        number = 0
        while True:
            with OpenRouter() as router:
                house = House(tmp_path / f"{start}-{again}-{number}", router)
                house.rotate()
                house.skip(start)
                if start:
                    assert house.rotate(start=False).state == "disabled"
                house.kill_at = len(house.effects) + number
                try:
                    house.roll_back()
                    killed = False
                except Killed:
                    killed = True
                    house.kill_at = -1
                    assert router.record(house.current) in router.working()
                    if again == "rollback":
                        house.roll_back()
                    else:
                        house.rotate(start=False)
                    if house.state != "rolled_back":  # it had not begun
                        house.roll_back()
                house.kill_at = -1
                assert house.current == house.first
                assert [key.secret for key in router.keys] == [house.first]
                assert house.slot(PREVIOUS) is None and house.slot(PENDING) is None
                assert house.router.record(house.first).limit == 5
                house.rotate()
                house.to_the_end()
                house.is_clean()
            if not killed:
                break
            number += 3
        assert number > 3


def test_what_the_new_key_spent_counts_against_the_old_one_when_it_is_taken_back_until_the_reset(house: House) -> None:
    spend(house, house.first, "1")
    house.rotate()
    spend(house, house.current, "1.5")
    house.roll_back()
    old = house.router.record(house.first)
    assert old.limit == Decimal("3.5")
    assert not house.rotate(start=False).done
    house.skip(timedelta(days=32))
    assert house.rotate(start=False).done
    assert old.limit == 5


def test_a_rotation_that_fails_its_test_while_another_waits_for_the_reset_does_not_lose_the_ceiling(
    house: House,
) -> None:
    spend(house, house.first, "3")
    house.rotate(Wishes(at_once=True, delete_after=timedelta(0)))
    assert house.state == "swept"
    second = house.current
    assert house.router.record(second).limit == 2
    house.router.visible_lag = 1e6
    with pytest.raises(Unavailable, match="failed its test"):
        house.rotate(Wishes(patience=timedelta(seconds=0.1)))
    house.router.visible_lag = 0.0
    assert house.current == second
    house.skip(timedelta(days=32))
    house.to_the_end()
    assert house.router.record(second).limit == 5
    house.is_clean()


def test_a_new_rotation_after_the_reset_first_makes_the_limit_whole(house: House) -> None:
    spend(house, house.first, "3")
    house.rotate(Wishes(at_once=True, delete_after=timedelta(0)))
    house.skip(timedelta(days=32))
    house.rotate()
    assert house.router.record(house.current).limit == 5
    house.to_the_end()
    house.is_clean()


def test_a_limit_that_a_person_sets_stays_through_this_rotation_and_the_next(house: House) -> None:
    spend(house, house.first, "3")
    house.rotate(Wishes(at_once=True, delete_after=timedelta(0)))
    house.router.record(house.current).limit = Decimal(9)
    house.to_the_end()
    assert house.router.record(house.current).limit == 9
    house.rotate(Wishes(at_once=True, delete_after=timedelta(0)))
    house.to_the_end()
    assert house.router.record(house.current).limit == 9


def test_a_limit_that_a_person_sets_while_the_old_key_is_still_good_stays(house: House) -> None:
    house.rotate()
    assert house.state == "swapped"
    house.router.record(house.current).limit = Decimal("0.50")
    spend(house, house.first, "1")
    house.rotate(start=False)
    assert house.router.record(house.current).limit == Decimal("0.50")
    assert any("somebody else has set the new key's limit" in told for told in house.told)
    house.to_the_end()
    assert house.router.record(house.current).limit == Decimal("0.50")


def test_a_provider_that_rounds_limits_does_not_look_like_a_person(house: House) -> None:
    house.router.limit_digits = Decimal("0.0001")
    spend(house, house.first, "1.23456789")
    house.rotate()
    assert house.router.record(house.current).limit == Decimal("3.7654")
    house.to_the_end()
    house.is_clean()


def test_a_mint_that_takes_effect_after_the_rotation_was_taken_back_is_swept_all_the_same(house: House) -> None:
    house.timeout, house.router.late_seconds = 1.5, 60.0
    house.router.fault("POST", "/keys", "late", times=3)
    with pytest.raises(Unavailable, match="did not answer"):
        house.rotate()
    house.timeout = 5.0
    assert house.roll_back().until is not None
    assert not house.rotate(start=False).done
    house.router.wait_until_quiet()
    assert len(minted(house)) == 3
    house.to_the_end()
    assert [key.secret for key in house.router.keys] == [house.first]


def test_a_late_mint_of_one_rotation_is_waited_for_by_the_next(house: House) -> None:
    house.timeout, house.router.late_seconds = 1.5, 60.0
    house.router.fault("POST", "/keys", "late")
    hasty = Wishes(at_once=True, delete_after=timedelta(0))
    assert house.rotate(hasty).state == "deleted"
    house.timeout = 5.0
    progress = house.rotate(hasty)
    assert progress.until is not None and "mint" in progress.detail
    house.router.wait_until_quiet()
    assert minted(house)
    house.to_the_end()
    house.is_clean()


def test_without_the_management_key_nothing_is_taken_for_done(house: House) -> None:
    house.rotate(Wishes(at_once=True))
    bench = Bench(**{**vars(house.bench()), "management": lambda entry: None})
    house.skip(timedelta(days=40))
    with pytest.raises(NoKey, match="no management key"):
        rotate(house.entry, bench, Wishes(), start=False)
    house.to_the_end()
    house.is_clean()


def test_a_new_key_that_vanished_between_two_runs_is_not_put_in_place(house: House) -> None:
    house.router.fault("PATCH", "/keys/.+", "500 before", times=5)
    with pytest.raises(Unavailable):
        house.rotate()
    assert house.state == "tested"
    (new,) = [key for key in house.router.keys if key.secret != house.first]
    del house.router._records[new.hash]
    with pytest.raises(Unavailable, match="failed its test"):
        house.rotate(Wishes(patience=timedelta(seconds=0.1)))
    assert house.current == house.first
    house.rotate()
    house.to_the_end()
    house.is_clean()


def test_the_last_pasted_key_is_the_one_that_is_put_in_place(house: House) -> None:
    wrong = house.router.give_key("pasted by mistake", limit="1", reset="monthly")
    house.router.record(wrong).disabled = True
    with pytest.raises(Unavailable, match="failed its test"):
        house.rotate(Wishes(pasted=house.secret(wrong), patience=timedelta(seconds=0.1)))
    house.router.fault("PATCH", "/keys/.+", "500 before", times=5)
    house.router.fault("GET", "/guardrails/.+", "500 before", times=5)
    first = house.router.give_key("pasted", limit="5", reset="monthly")
    with pytest.raises(Unavailable):
        house.rotate(Wishes(pasted=house.secret(first)))
    second = house.router.give_key("pasted again", limit="5", reset="monthly")
    house.rotate(Wishes(pasted=house.secret(second)))
    assert house.current == second


def test_a_key_cannot_be_pasted_into_a_rotation_that_mints(house: House) -> None:
    house.router.fault("POST", "/keys", "500 before", times=3)
    with pytest.raises(Unavailable):
        house.rotate()
    with pytest.raises(Refused, match="mints its key"):
        house.rotate(Wishes(pasted=house.secret(house.router.give_key("pasted"))))


def test_a_journal_torn_at_any_byte_of_its_last_line_loses_that_line_only(house: House) -> None:
    house.rotate()
    path = Path(journal_of(str(house.path / "rotations"), LABEL))
    data = path.read_bytes()
    whole = len(read_journal(str(path)))
    last = data.rindex(b"\n", 0, -1) + 1
    for end in range(last + 1, len(data)):
        path.write_bytes(data[:end])
        assert len(read_journal(str(path))) == (whole if end == len(data) - 1 else whole - 1)


def test_a_journal_torn_after_any_record_is_sealed_and_the_job_is_finished(tmp_path: Path) -> None:
    for number in range(1, 12):
        with OpenRouter() as router:
            house = House(tmp_path / str(number), router)
            records = 0

            def count(at: int, house: House = house, number: int = number) -> None:
                path = Path(journal_of(str(house.path / "rotations"), LABEL))
                if path.exists() and path.read_bytes().count(b"\n") >= number:
                    data = path.read_bytes()
                    path.write_bytes(data[:-7])
                    raise Killed("and the journal is torn")

            house.on_effect = count
            try:
                house.rotate()
                house.to_the_end()
            except Killed:
                records += 1
            house.on_effect = lambda number: None
            assert router.record(house.current) in router.working()
            if house.current == house.first:
                house.rotate()
            house.to_the_end()
            house.is_clean()


@pytest.mark.parametrize("seed", range(12))
def test_mixes_of_faults_and_kills_end_well(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with OpenRouter(page=chance.choice((1, 100)), nested_key=chance.random() < 0.3, seed=seed) as router:
        house = House(tmp_path, router)
        house.timeout = 0.5
        router.late_seconds = 0.7
        router.visible_lag = chance.choice((0.0, 0.1))
        router.list_lag = chance.choice((0.0, 0.2))
        spend(house, house.first, "1.5")
        paths = ("/keys", "/keys/.+", "/key")
        for _ in range(chance.randint(1, 4)):
            router.fault(chance.choice(("GET", "POST", "PATCH", "DELETE")), chance.choice(paths), chance.choice(KINDS))
        kills = sorted(chance.sample(range(40), chance.randint(0, 4)))
        for kill in [*kills, -1]:
            house.kill_at = kill
            try:
                house.rotate()
                house.to_the_end()
                break
            except (Killed, CallmeterError):
                assert router.record(house.current) in router.working()
        house.kill_at = -1
        for _ in range(4):
            try:
                if house.current == house.first:
                    house.rotate()
                house.to_the_end()
                break
            except CallmeterError:
                assert router.record(house.current) in router.working()
        house.to_the_end()
        house.is_clean()


def test_two_hosts_with_one_store_rotate_the_same_key_and_the_store_decides(tmp_path: Path) -> None:
    for number in range(0, 40, 3):
        with OpenRouter() as router:
            one = House(tmp_path / f"{number}-one", router)
            other = House(tmp_path / f"{number}-other", router, place=(one.stores, one.reference))
            one.shares_key_with(other)
            first = one.first

            def meanwhile(at: int, number: int = number, one: House = one, other: House = other) -> None:
                if at == number:
                    one.on_effect = lambda at: None
                    try:
                        other.rotate()
                    except CallmeterError:
                        pass

            one.on_effect = meanwhile
            for house in (one, other, one, other):
                try:
                    house.rotate()
                    house.to_the_end()
                except CallmeterError:
                    assert router.record(house.current) in router.working(), number
            working = {key.secret for key in router.working()}
            assert one.current in working, number
            assert working <= {one.current, first}, number
            assert one.slot(PENDING) is None
