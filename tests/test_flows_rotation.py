"""Rotation against an OpenRouter account with its bad days: whatever happens, one working key and no orphan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from callmeter.flows.rotation import roll_back, rotate
from callmeter.flows.rotation_run import Bench, Use, Wishes
from callmeter.secrets.secret import Secret
from callmeter.secrets.store import CURRENT, PENDING, PREVIOUS
from callmeter.store.rotation_journal import Journal
from callmeter.words.errors import Busy, CallmeterError, NoKey, Refused, Unavailable
from rotation_house import LABEL, House, Killed
from servers.openrouter import OpenRouter


@pytest.fixture
def router() -> Iterator[OpenRouter]:
    with OpenRouter() as router:
        yield router


@pytest.fixture
def house(tmp_path: Path, router: OpenRouter) -> House:
    return House(tmp_path, router)


def test_a_rotation_mints_tests_swaps_waits_disables_deletes_and_makes_the_limit_whole(house: House) -> None:
    progress = house.rotate()
    assert (progress.state, progress.done) == ("swapped", False)
    assert house.current != house.first
    assert {key.secret for key in house.router.working()} == {house.first, house.current}
    house.to_the_end()
    house.is_clean()
    assert house.state == "done"
    assert house.entry.last_rotated is not None
    steps = [facts.get("step") for event, facts in house.audited if event == "key.rotate"]
    order = ["begin", "minted", "tested", "ceiling", "swapped", "disabled", "deleted", "swept", "done"]
    assert [step for step in order if step in steps] == order


def test_a_new_key_gets_what_the_old_one_has_left_until_the_reset(house: House) -> None:
    old = house.router.record(house.first)
    old.spent.append((time.monotonic() - 100, house.now(), Decimal("3.20")))
    house.rotate()
    assert house.router.record(house.current).limit == Decimal("1.80")
    old.spent.append((time.monotonic() - 50, house.now(), Decimal("0.30")))
    house.rotate(start=False)
    assert house.router.record(house.current).limit == Decimal("1.50")
    house.to_the_end()
    house.is_clean()


def test_two_rotations_in_one_window_give_no_fresh_allowance(house: House) -> None:
    house.router.record(house.first).spent.append((time.monotonic() - 100, house.now(), Decimal("0.30")))
    house.rotate(Wishes(at_once=True))
    assert house.router.record(house.current).limit == Decimal("4.70")
    second = house.current
    house.rotate(Wishes(at_once=True))
    assert house.current != second
    assert house.router.record(house.current).limit == Decimal("4.70")
    house.to_the_end()
    house.is_clean()


def test_both_keys_stop_when_together_they_have_reached_the_ceiling(house: House) -> None:
    old = house.router.record(house.first)
    old.spent.append((time.monotonic() - 100, house.now(), Decimal("3")))
    house.rotate()
    new = house.router.record(house.current)
    new.spent.append((time.monotonic() - 50, house.now(), Decimal("2")))
    house.rotate(start=False)
    assert (old.limit, new.limit) == (Decimal(3), Decimal(2))
    house.to_the_end()
    house.is_clean()


def test_a_key_without_a_limit_and_one_for_life_are_rotated_too(tmp_path: Path, router: OpenRouter) -> None:
    house = House(tmp_path, router, limit=None, reset=None)
    house.rotate()
    assert router.record(house.current).limit is None
    house.to_the_end()
    other = House(tmp_path / "other", router, limit="10", reset=None)
    router.record(other.first).spent.append((time.monotonic() - 100, other.now(), Decimal(4)))
    other.rotate()
    other.to_the_end()
    assert router.record(other.current).limit == Decimal(6)
    assert {key.secret for key in router.working()} == {house.current, other.current}


def test_an_old_key_that_is_still_used_at_the_end_of_its_grace_stays_and_its_users_are_named(house: House) -> None:
    house.rotate()
    house.skip(timedelta(hours=25))
    house.uses = (Use("nightly", house.now()),)
    progress = house.rotate(start=False)
    assert "nightly" in progress.detail and not progress.done
    assert not house.router.record(house.first).disabled
    house.skip(timedelta(hours=25))
    assert house.rotate(Wishes(cut=True), start=False).state == "disabled"
    assert house.router.record(house.first).disabled


def test_a_leaked_key_is_disabled_at_once_and_who_is_cut_off_is_told(house: House) -> None:
    house.uses = (Use("nightly", house.now()),)
    assert house.rotate(Wishes(at_once=True)).state == "disabled"
    assert house.router.record(house.first).disabled
    assert any("nightly" in line for line in house.told)


def test_a_rotation_refuses_to_replace_a_key_that_is_not_the_registered_one(house: House) -> None:
    store, name = house.stores.open(f"file:{LABEL}")
    store.write(name, Secret(house.router.give_key("by hand")))
    with pytest.raises(Unavailable, match="is not the one that is registered"):
        house.rotate()
    assert len(house.router.keys) == 2


def test_a_key_put_in_place_by_hand_meanwhile_stays_and_the_new_one_goes(house: House) -> None:
    by_hand = house.router.give_key("by hand")

    def replaced(method: str, path: str) -> None:
        if method == "GET" and path == "/key":
            store, name = house.stores.open(f"file:{LABEL}")
            store.write(name, Secret(by_hand))

    house.router.on_request = replaced
    with pytest.raises(Unavailable, match="theirs stays"):
        house.rotate()
    assert house.current == by_hand
    assert {key.secret for key in house.router.keys} == {house.first, by_hand}


def test_a_key_that_becomes_visible_late_or_flickers_is_waited_for(house: House) -> None:
    house.router.visible_lag = 0.3
    house.router.flicker, house.router.flicker_seconds = 0.3, 1.0
    assert house.rotate().state == "swapped"
    house.to_the_end()
    house.is_clean()


def test_a_key_that_never_works_is_removed_and_the_old_one_stays(house: House) -> None:
    house.router.visible_lag = 1e6
    with pytest.raises(Unavailable, match="failed its test"):
        house.rotate(Wishes(patience=timedelta(seconds=0.2)))
    assert house.current == house.first
    assert [key.secret for key in house.router.keys] == [house.first]
    assert house.slot(PENDING) is None
    house.router.visible_lag = 0.0
    house.rotate()
    house.to_the_end()
    house.is_clean()


@pytest.mark.parametrize("when", ["tested", "swapped", "disabled"])
def test_a_rotation_can_be_taken_back_until_the_old_key_is_deleted(house: House, when: str) -> None:
    if when == "tested":
        house.router.fault("PATCH", "/keys/.+", "500 before", times=5)
        with pytest.raises(Unavailable):
            house.rotate()
    else:
        house.rotate(Wishes(at_once=when == "disabled"))
    assert house.state == when
    roll_back(house.entry, house.bench(), Wishes())
    assert house.current == house.first
    assert [key.secret for key in house.router.working()] == [house.first]
    assert house.slot(PREVIOUS) is None and house.slot(PENDING) is None
    with pytest.raises(Refused):
        roll_back(house.entry, house.bench(), Wishes())
    house.rotate()
    house.to_the_end()
    house.is_clean()


def test_the_second_of_two_rotations_says_who_is_at_it_and_since_when(house: House) -> None:
    held = Journal(str(house.path / "rotations"), LABEL, "bob@cron", house.now())
    with held, pytest.raises(Busy, match=r"by bob@cron since 20\d\d-"):
        house.rotate()


def test_without_a_management_key_a_person_pastes_the_new_one_and_revokes_the_old(house: House) -> None:
    def bench() -> Bench:
        return Bench(**{**vars(house.bench()), "management": lambda entry: None})

    with pytest.raises(NoKey, match="no management key"):
        rotate(house.entry, bench(), Wishes(), start=True)
    pasted = house.router.give_key("made on the dashboard", limit="5", reset="monthly")
    progress = rotate(house.entry, bench(), Wishes(pasted=Secret(pasted)), start=True)
    assert house.current == pasted and progress.state == "swapped"
    house.skip(timedelta(hours=25))
    assert "revoke the old key" in rotate(house.entry, bench(), Wishes(), start=False).detail
    house.router.record(house.first).disabled = True
    assert rotate(house.entry, bench(), Wishes(), start=False).done
    assert house.slot(PREVIOUS) is None


def _effects(tmp_path: Path) -> int:
    with OpenRouter() as router:
        house = House(tmp_path / "count", router)
        house.rotate()
        house.to_the_end()
        return len(house.effects)


def test_killed_at_any_request_the_same_command_finishes_the_job(tmp_path: Path) -> None:
    for number in range(_effects(tmp_path)):
        with OpenRouter() as router:
            house = House(tmp_path / str(number), router)
            house.kill_at = number
            with pytest.raises(Killed):
                house.rotate()
                house.to_the_end()
            assert router.record(house.current) in router.working(), house.effects[-1]
            house.kill_at = -1
            if house.path.joinpath("rotations").exists():
                house.rotate()
            house.to_the_end()
            house.is_clean()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("slot", [PENDING, CURRENT])
def test_killed_around_writing_to_the_store_the_same_command_finishes_the_job(
    house: House, monkeypatch: pytest.MonkeyPatch, slot: str, moment: str
) -> None:
    _killing(monkeypatch, "callmeter.secrets.file.FileStore", "write" if slot == PENDING else "swap", moment)
    with pytest.raises(Killed):
        house.rotate()
    assert house.router.record(house.current) in house.router.working()
    monkeypatch.undo()
    house.rotate()
    house.to_the_end()
    house.is_clean()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(12))
def test_killed_around_any_record_of_the_journal_the_same_command_finishes_the_job(
    house: House, monkeypatch: pytest.MonkeyPatch, number: int, moment: str
) -> None:
    _killing(monkeypatch, "callmeter.store.rotation_journal.Journal", "add", moment, number)
    try:
        house.rotate()
        house.to_the_end()
    except Killed:
        assert house.router.record(house.current) in house.router.working()
    else:
        assert number >= 8  # there are only so many records
    monkeypatch.undo()
    if house.current == house.first:
        house.rotate()
    house.to_the_end()
    house.is_clean()


def _killing(monkeypatch: pytest.MonkeyPatch, where: str, method: str, moment: str, number: int = 0) -> None:
    module, _, kind = where.rpartition(".")
    owner = getattr(__import__(module, fromlist=[kind]), kind)
    plain: Callable[..., Any] = getattr(owner, method)
    calls = iter(range(10**6))

    def killing(*given: Any, **named: Any) -> Any:
        mine = next(calls) == number
        if mine and moment == "before":
            raise Killed(method)
        answer = plain(*given, **named)
        if mine:
            raise Killed(method)
        return answer

    monkeypatch.setattr(owner, method, killing)


@pytest.mark.parametrize(
    "kind", ["lost before", "lost after", "half", "500 before", "500 after", "429", "html", "empty"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/keys/.+"),
        ("POST", "/keys"),
        ("GET", "/key"),
        ("PATCH", "/keys/.+"),
        ("DELETE", "/keys/.+"),
        ("GET", "/keys"),
    ],
)
def test_a_bad_answer_to_any_request_leaves_one_working_key_and_no_orphan(
    house: House, method: str, path: str, kind: str
) -> None:
    house.router.fault(method, path, kind, times=2)
    for _ in range(4):
        try:
            house.rotate()
            break
        except CallmeterError:
            assert house.router.record(house.current) in house.router.working()
    house.to_the_end()
    house.is_clean()


def test_a_mint_that_takes_effect_long_after_its_deadline_leaves_no_orphan(house: House) -> None:
    house.timeout = 1.5
    house.router.late_seconds = 60.0
    house.router.fault("POST", "/keys", "late")
    house.rotate()
    house.router.wait_until_quiet()
    assert len(house.router.keys) == 3  # the old one, the new one, and the one that came late
    house.timeout = 5.0
    house.to_the_end()
    house.is_clean()
