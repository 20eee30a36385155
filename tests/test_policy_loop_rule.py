"""When a session is a runaway: the rule on its own, over made sessions."""

from __future__ import annotations

from decimal import Decimal

import pytest

from callmeter.policy.controls import LoopBreaker
from callmeter.policy.loop_rule import CLOSE, LEAST_SESSIONS, Seen, Usual, Verdict, judge
from callmeter.words.money import NANO

SAME = "0" * 16
NEARLY = "0" * 15 + "7"  # three bits
OTHER = ["%016x" % (0x9E3779B97F4A7C15 * number % 2**64) for number in range(1, 40)]
KNOWN = Usual(sessions=LEAST_SESSIONS, largest=NANO, busiest=30)


def seen(sketches: list[str], seconds: int = 20, size: int = 100, cost: int = 0) -> list[Seen]:
    return [Seen(number * seconds, sketch, size, cost) for number, sketch in enumerate(sketches)]


def verdict(calls: list[Seen], spent: int = 0, busy: int = 0, usual: Usual = KNOWN, **options: bool) -> Verdict:
    return judge(calls, spent, busy, usual, LoopBreaker(), **options)


@pytest.mark.parametrize(("similar", "level"), [(4, "none"), (5, "warn"), (9, "warn"), (10, "trip"), (20, "trip")])
def test_near_identical_prompts_of_the_last_20_warn_at_5_and_trip_at_10(similar: int, level: str) -> None:
    calls = seen(OTHER[: 20 - similar] + [SAME, NEARLY] * (similar // 2) + [SAME] * (similar % 2))
    assert verdict(calls).level == level


def test_items_near_one_of_them_but_apart_from_each_other_are_no_loop() -> None:
    apart = [f"{0b111 << 3 * number:016x}" for number in range(19)]
    assert verdict(seen([*apart, SAME])).level == "warn"
    assert verdict(seen([*apart[:2], *[SAME] * 18])).level == "trip"


def test_what_lies_before_the_last_20_does_not_count() -> None:
    calls = seen([SAME] * 9 + OTHER[:19] + [SAME])
    assert verdict(calls).level == "none"


def test_three_prompts_in_turn_do_not_trip_by_likeness() -> None:
    calls = seen([OTHER[number % 3] for number in range(20)])
    assert verdict(calls).level == "warn"


def test_a_check_every_five_minutes_is_no_loop() -> None:
    assert verdict(seen([SAME] * 20, seconds=300)).level == "warn"
    assert verdict(seen([SAME] * 20, seconds=CLOSE // 9 + 1)).level == "warn"
    assert verdict(seen([SAME] * 20, seconds=CLOSE // 9)).level == "trip"
    assert verdict(seen([SAME] * 20, seconds=3600)).level == "none"


def test_a_session_trips_above_three_times_the_largest() -> None:
    calls = seen(OTHER[:20])
    assert verdict(calls, 3 * NANO).level == "none"
    found = verdict(calls, 3 * NANO + 1)
    assert (found.level, found.rule) == ("trip", "cost")
    assert found.figures["limit"] == Decimal(3)
    assert "3 times its largest of 28 days, $1.00" in found.said


def test_below_the_floor_no_session_trips_by_its_cost() -> None:
    usual = Usual(LEAST_SESSIONS, NANO // 1000)
    assert verdict(seen(OTHER[:20]), NANO, usual=usual).level == "none"
    assert verdict(seen(OTHER[:20]), NANO + 1, usual=usual).level == "trip"


def test_a_new_agent_has_no_past_to_be_measured_by() -> None:
    assert verdict(seen(OTHER[:20]), 500 * NANO, usual=Usual(LEAST_SESSIONS - 1, NANO)).level == "none"
    assert verdict(seen(OTHER[:20]), busy=5000, usual=Usual()).level == "none"


@pytest.mark.parametrize(
    ("busiest", "calls", "level"), [(30, 90, "none"), (30, 91, "warn"), (5, 59, "none"), (5, 60, "warn")]
)
def test_a_rate_far_above_the_busiest_ten_minutes_warns(busiest: int, calls: int, level: str) -> None:
    found = verdict(seen(OTHER[:20]), busy=calls, usual=Usual(5, NANO, busiest))
    assert found.level == level


def test_growth_alone_stops_nobody_and_is_told_as_evidence() -> None:
    growing = [Seen(number * 20, OTHER[number], 1000 * (number + 1)) for number in range(20)]
    assert verdict(growing).level == "none"
    found = verdict(growing, 4 * NANO)
    assert found.said.endswith("; what is sent grew from 1,000 to 20,000 characters")


def test_a_batch_is_judged_by_its_cost_only() -> None:
    calls = seen([SAME] * 20)
    assert verdict(calls, busy=500, batch=True).level == "none"
    assert verdict(calls, 4 * NANO, batch=True).rule == "cost"


def test_a_trip_says_how_many_how_fast_and_for_how_much() -> None:
    found = verdict(seen([SAME] * 12, cost=NANO // 2))
    assert found.said == "12 of the last 12 prompts are near-identical, within 3 min, for $6.00"
    assert found.figures["spent"] == Decimal(6)


def test_without_calls_there_is_nothing_to_say() -> None:
    assert verdict([]).level == "none"
