"""Anomalies: what is planted in quiet weeks is found, with its evidence and its figure; quiet weeks have none."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callmeter.policy.document import parse_policy
from callmeter.policy.prices import PER_TOKEN
from callmeter.reports.anomalies import anomaly_report, examine
from callmeter.reports.anomaly_days import Event, shifts, spikes, told_once
from callmeter.reports.anomaly_finding import Finding, Floors, Scope, breakdown
from callmeter.words.money import NANO, usd
from callmeter.words.period import Period
from made_log import FIRST, MODEL, RATES, MadeLog, day
from plain_usage import PlainUsage

DAYS = 56
SCOPE = Scope(day(DAYS), UTC, Period(day(DAYS - 28), day(DAYS), "four weeks"))


def found_in(log: MadeLog, scope: Scope = SCOPE) -> list[Finding]:
    return list(examine(PlainUsage(log.records, scope.zone), scope).findings)


def one(found: list[Finding], kind: str) -> Finding:
    """The only finding of a kind."""
    those = [each for each in found if each.kind == kind]
    assert len(those) == 1, [(each.kind, each.subject, each.first) for each in found]
    return those[0]


@pytest.fixture(scope="module")
def quiet() -> MadeLog:
    """Eight quiet weeks of two agents; tests copy it."""
    return MadeLog().quiet(DAYS, calls=40)


def copy(log: MadeLog) -> MadeLog:
    other = MadeLog(2)
    other.lines = list(log.lines)
    return other


def cost_of(log: MadeLog, known: MadeLog) -> Decimal:
    """What was planted."""
    return sum((record.cost or Decimal(0) for record in log.records[len(known.lines) :]), Decimal(0))


def test_quiet_weeks_have_no_finding(quiet: MadeLog) -> None:
    assert found_in(quiet) == []


def test_a_spike_is_one_finding_however_many_tags_show_it(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number, at in enumerate(log.times(50, 400)):
        log.call(at, "code", f"s-big{number % 2}")
    (spike,) = found_in(log)
    assert spike.kind == "spike"
    assert (spike.subject, spike.first, spike.last) == ("agent:code", "2026-11-03", "2026-11-03")
    usual_day = cost_of(log, quiet) / 10
    assert spike.low is not None and spike.high is not None
    assert spike.low < usual_day * NANO < spike.high < spike.actual
    assert abs(usd(spike.excess) - cost_of(log, quiet)) < usual_day
    assert "from more calls" in spike.evidence
    assert re.search(r"session s-big[01] alone took \$[0-9.]+ in 2[0-9][0-9] calls", spike.evidence)
    assert set(spike.also) == {"key:code@openrouter", f"model:{MODEL}", "total"} | (
        set(spike.also) & {"purpose:triage"}
    )
    assert spike.command.startswith("callmeter budget breakdown --by session --where agent=code --since 2026-11-03 ")


def test_a_spike_of_a_day_that_is_not_over_freezes(quiet: MadeLog) -> None:
    log = copy(quiet)
    for at in log.times(DAYS, 400):
        log.call(at, "code", f"s-{at.minute}")
    scope = replace(SCOPE, now=day(DAYS, 21), period=Period(day(28), day(DAYS + 1), ""))
    spike = one(found_in(log, scope), "spike")
    assert spike.first == "2026-11-09"
    assert "the day is not over" in spike.evidence
    assert spike.command == "callmeter budget freeze agent:code --reason 'spike on 2026-11-09'"


def test_one_session_that_makes_the_spike_is_told_and_frozen_and_names_the_spike(quiet: MadeLog) -> None:
    log = copy(quiet)
    for at in log.times(DAYS - 1, 400):
        log.call(at, "code", "it's")
    (found,) = found_in(log)
    assert (found.kind, found.subject) == ("runaway", "session:it's")
    assert "; shows as a spike of agent:code, " in found.evidence
    assert found.command.startswith("callmeter budget freeze 'session:it'\"'\"'s' --reason ")


def test_a_session_in_another_agents_spike_is_not_taken_for_it(quiet: MadeLog) -> None:
    log = copy(quiet)
    for at in log.times(50, 400):
        log.call(at, "code", "main")
    for number in range(60):
        at = day(50, 10) + timedelta(seconds=20 * number)
        log.call(at, "probe", "main", prompt_sketch="00000000000000ff", sizes=(9000, 300))
    found = found_in(log)
    assert sorted((each.kind, each.evidence.split(";")[0]) for each in found) == [
        ("runaway", "agent code"),
        ("runaway", "agent probe"),
    ]
    assert ["shows as a spike of agent:code" in each.evidence for each in found] == [True, False]


def test_a_day_of_ten_times_the_work_in_many_sessions_is_one_finding(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number, at in enumerate(log.times(50, 900)):
        log.call(at, "code", f"busy-{number % 6}")
    (spike,) = found_in(log)
    assert (spike.kind, spike.subject) == ("spike", "agent:code")
    ends = r" cost [0-9.]+ to [0-9.]+ times the largest of their agent in a day of the 28 days before, \$0\.[0-9]+$"
    assert re.search(r"; 6 sessions \(busy-[0-5], busy-[0-5], busy-[0-5] and 3 more\)" + ends, spike.evidence)
    assert spike.command.startswith("callmeter budget breakdown --by session --where agent=code ")


@pytest.mark.parametrize("sessions", [3, 4])
def test_many_sessions_that_repeat_themselves_on_a_day_are_one_finding(quiet: MadeLog, sessions: int) -> None:
    log = copy(quiet)
    for number in range(60 * sessions):
        at = day(54, 10) + timedelta(seconds=5 * number)
        log.call(at, "code", f"loop-{number % sessions}", prompt_sketch="00000000000000ff", sizes=(15000, 300))
    found = found_in(log)
    assert {each.kind for each in found} == ({"runaway", "spike"} if sessions == 3 else {"runaway"})
    if sessions == 3:
        assert len(found) == 4
        return
    assert found[0].subject == "agent:code"
    assert usd(found[0].actual) == cost_of(log, quiet)
    assert "4 sessions (loop-" in found[0].evidence and " and 1 more) repeated themselves: 240 " in found[0].evidence
    assert "shows as a spike of agent:code" in found[0].evidence
    assert found[0].command.startswith("callmeter budget breakdown --by session --by model --where agent=code --since ")


def test_what_a_session_costs_that_repeats_itself_twice_on_a_day_counts_once(quiet: MadeLog) -> None:
    log = copy(quiet)
    for session, hour in ((0, 9), (0, 14), (1, 10), (2, 10), (3, 10)):
        for number in range(60):
            at = day(54, hour) + timedelta(seconds=15 * number + session)
            log.call(at, "code", f"loop-{session}", prompt_sketch="00000000000000ff", sizes=(15000, 300))
    found = one(found_in(log), "runaway")
    assert "4 sessions (loop-0, " in found.evidence
    assert usd(found.actual) == cost_of(log, quiet)


def test_sessions_that_repeat_themselves_and_others_that_are_dear_that_day_are_told_apart() -> None:
    log = MadeLog().quiet(9, ("code",), calls=40)
    for session in range(4):
        for number in range(60):
            at = day(8, 10) + timedelta(seconds=15 * number + session)
            log.call(at, "code", f"loop-{session}", prompt_sketch="00000000000000ff", sizes=(15000, 300))
    for number, at in enumerate(log.times(8, 300)):
        log.call(at, "code", f"busy-{number % 2}")
    found = found_in(log, replace(SCOPE, now=day(9), period=Period(day(0), day(9), "")))
    assert [each.evidence.split(" (")[0] for each in found] == ["4 sessions", "2 sessions"]
    # What has the id of another finding is taken for told, and nobody is alerted.
    assert len({each.id for each in found}) == 2


def test_dear_sessions_of_an_agent_too_young_for_spikes_are_one_finding() -> None:
    log = MadeLog().quiet(9, ("code",), calls=40)
    known = len(log.lines)
    for number, at in enumerate(log.times(8, 900)):
        log.call(at, "code", f"busy-{number % 6}")
    scope = replace(SCOPE, now=day(9), period=Period(day(0), day(9), ""))
    (found,) = found_in(log, scope)
    assert (found.kind, found.subject) == ("runaway", "agent:code")
    planted = sum((record.cost or Decimal(0) for record in log.records[known:]), Decimal(0))
    assert usd(found.actual) == planted
    assert found.evidence.startswith("6 sessions (busy-")
    assert found.command == "callmeter budget freeze agent:code --reason 'runaway sessions'"
    later = one(found_in(log, replace(scope, now=day(12), period=Period(day(0), day(12), ""))), "runaway")
    assert later.id == found.id
    assert later.command.startswith("callmeter budget breakdown --by session --by model --where agent=code --since ")


def test_a_zombie_that_makes_a_shift_names_it(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(4 * 24 * 12):
        log.call(day(52) + timedelta(minutes=5 * number), "code", "left-open", sizes=(9000, 900))
    found = found_in(log)
    assert {each.subject for each in found if each.kind in ("spike", "shift")} == set()
    assert re.search(r"; shows as a (spike|shift) of agent:code", one(found, "zombie").evidence)


def test_a_past_spike_does_not_hide_the_next(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number, calls in ((32, 2000), (50, 400)):
        for at in log.times(number, calls):
            log.call(at, "code", f"s{number}-{at.hour}")
    spikes = [each for each in found_in(log) if each.kind == "spike"]
    assert [each.first for each in spikes] == ["2026-10-16", "2026-11-03"]


def test_a_past_spike_is_not_what_the_next_is_explained_by(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number, size in ((40, (60_000, 6_000)), (50, (6_000, 600))):
        for at in log.times(number, 400):
            log.call(at, "code", f"s-{number}-{at.minute}", sizes=size)
    found = [each for each in found_in(log) if each.kind == "spike"]
    assert [each.first for each in found] == ["2026-10-24", "2026-11-03"]
    assert all("from more calls" in each.evidence and "less from" not in each.evidence for each in found)


def test_spikes_on_adjacent_days_are_one_event(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in (50, 51):
        for at in log.times(number, 400):
            log.call(at, "code", f"s{number}-{at.hour}")
    spike = one(found_in(log), "spike")
    assert (spike.first, spike.last) == ("2026-11-03", "2026-11-04")
    assert "of the 2 days" in spike.evidence


def test_a_shift_says_that_there_are_more_calls(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(40, DAYS):
        for at in log.times(number, 50):
            log.call(at, "code", f"more-{number}-{at.hour // 3}")
    shift = one(found_in(log), "shift")
    assert shift.subject == "agent:code"
    # More of each day, though the week in which it is seen began before.
    assert shift.first == "2026-10-24"
    assert re.match(r"[0-9.]+ times what was expected of the [2-7] days; \$[0-9.]+ from more calls", shift.evidence)
    assert shift.excess > 3 * NANO


def test_a_shift_says_that_calls_are_larger(quiet: MadeLog) -> None:
    log = MadeLog(5)
    for number in range(DAYS):
        for at in log.times(number, 30):
            log.call(at, "docs", f"docs-{number}-{at.hour // 3}", sizes=(15000 if number >= 40 else 6000, 600))
    log.lines += quiet.lines
    shift = one(found_in(log), "shift")
    assert shift.subject == "agent:docs"
    assert shift.first == "2026-10-24"
    assert re.match(r"[0-9.]+ times what was expected of the [2-7] days; \$[0-9.]+ from larger calls", shift.evidence)


def test_a_shift_that_goes_on_says_what_came_since(quiet: MadeLog) -> None:
    def shift_of(last: int) -> Finding:
        log = copy(quiet)
        for number in range(42, last):
            for at in log.times(number, 120):
                log.call(at, "code", f"s-{number}-{at.hour}")
        return one(found_in(log, replace(SCOPE, floors=Floors(NANO // 5))), "shift")

    lasting, over = shift_of(DAYS), shift_of(48)
    assert re.search(r"from more calls; it goes on: \$[0-9.]+ in the 10 days since; shows", lasting.evidence)
    assert lasting.command.endswith(" --since 2026-10-26 --until 2026-11-09")
    assert "it goes on" not in over.evidence and over.command.endswith(" --since 2026-10-26 --until 2026-10-30")
    assert lasting.id == over.id


def test_a_shift_says_that_models_are_dearer() -> None:
    log = MadeLog(6)
    for number in range(DAYS):
        for at in log.times(number, 40):
            model = MODEL if number >= 40 or log.random.random() < 0.3 else "openai/gpt-4o-mini"
            log.call(at, "docs", f"docs-{number}-{at.hour // 3}", model=model)
    found = [each for each in found_in(log) if each.kind == "shift"]
    assert found and all("from dearer models" in each.evidence for each in found)


def test_ten_near_identical_prompts_are_a_runaway_with_their_growth(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(60):
        # A bit of the sketch differs now and then, as it does when a failure is appended.
        sketch = f"{0xABCDEF0123456789 ^ (1 << number % 2):016x}"
        at = day(54, 10) + timedelta(seconds=20 * number)
        log.call(at, "code", "loop", prompt_sketch=sketch, sizes=(2000 + 200 * number, 300))
    runaway = one(found_in(log), "runaway")
    assert runaway.subject == "session:loop"
    assert (runaway.first, runaway.last) == ("2026-11-07 10:00", "2026-11-07 10:19")
    assert usd(runaway.actual) == cost_of(log, quiet)
    assert "60 near-identical prompts within 19 min" in runaway.evidence
    assert "grew from 2,000 to 13,800 tokens" in runaway.evidence


def test_two_loops_of_one_session_on_a_day_are_two_findings(quiet: MadeLog) -> None:
    log = copy(quiet)
    for hour in (10, 15):
        for number in range(60):
            at = day(54, hour) + timedelta(seconds=20 * number)
            log.call(at, "code", "loop", prompt_sketch=f"{hour:016x}", sizes=(9000, 300))
    found = [each for each in found_in(log) if each.kind == "runaway"]
    assert [each.first for each in found] == ["2026-11-07 10:00", "2026-11-07 15:00"]
    assert len({each.id for each in found}) == 2
    # What the session did to its agent's day stands once.
    assert ["shows as a spike" in each.evidence for each in found] == [True, False]
    # The first is known as before the second came.
    log.lines = log.lines[:-60]
    assert one(found_in(log), "runaway").id == found[0].id


def test_a_loop_that_asks_something_else_each_time_is_found_by_its_cost(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(150):
        log.call(day(55, 8) + timedelta(minutes=number), "code", "deep", sizes=(9000, 900))
    runaway = one(found_in(log), "runaway")
    assert runaway.subject == "session:deep"
    assert usd(runaway.actual) == cost_of(log, quiet)
    assert runaway.high is not None and 0 < runaway.high * 3 < runaway.actual
    assert "times the largest of its agent in a day of the 28 days before" in runaway.evidence
    assert runaway.command == "callmeter budget freeze session:deep --reason 'runaway loop'"


def test_a_health_check_that_repeats_itself_all_day_is_no_loop(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(12 * 24):
        log.call(day(54) + timedelta(minutes=5 * number), "probe", "health", prompt_sketch="00000000000000ff")
    assert [each for each in found_in(log) if each.kind == "runaway"] == []


def test_a_loop_that_costs_next_to_nothing_is_not_told(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(60):
        at = day(54, 10) + timedelta(seconds=20 * number)
        log.call(at, "code", "loop", prompt_sketch="00000000000000ff", sizes=(100, 10))
    assert found_in(log) == []
    loop = one(found_in(log, replace(SCOPE, floors=Floors(0))), "runaway")
    assert usd(loop.actual) == cost_of(log, quiet)


def test_a_session_that_is_open_for_days_is_a_zombie(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(4 * 24 * 4):
        log.call(day(52) + timedelta(minutes=15 * number), "code", "left-open", sizes=(1000, 200))
    zombie = one(found_in(log), "zombie")
    assert zombie.subject == "session:left-open"
    assert (zombie.first, zombie.last) == ("2026-11-05 00:00", "2026-11-08 23:45")
    assert usd(zombie.actual) == cost_of(log, quiet)
    assert "open for 4.0 days and never silent for more than 6 hours" in zombie.evidence
    assert zombie.command == "callmeter budget freeze session:left-open --reason 'open for 4 days'"


def test_a_zombie_is_the_same_one_tomorrow(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(45 * 24):
        log.call(day(11) + timedelta(hours=number), "code", "left-open", sizes=(1000, 200))
    ids = set()
    for last in (40, 50, DAYS):
        scope = replace(SCOPE, now=day(last), period=Period(day(last - 7), day(last), ""))
        ids.add(one(found_in(log, scope), "zombie").id)
    assert len(ids) == 1


def test_a_session_name_that_comes_back_each_morning_is_no_zombie(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(30, DAYS):
        for at in log.times(number, 12):
            log.call(at, "code", "daily")
    assert found_in(log) == []


def test_an_error_storm_is_told_with_its_reasons_though_it_costs_nothing(quiet: MadeLog) -> None:
    log = copy(quiet)
    nothing: dict[str, object] = {"cost": Decimal(0), "tokens": {"in": 0, "out": 0}}
    for number in range(90):
        error = "http_429" if number % 3 else "http_503"
        log.call(day(54, 14) + timedelta(minutes=number), "code", "e", status="error", error=error, **nothing)
    storm = one(found_in(log), "error storm")
    assert storm.subject == "agent:code"
    assert (storm.first, storm.last) == ("2026-11-07 14:00", "2026-11-07 15:00")
    assert storm.evidence.startswith("90 of 9")
    assert "http_429 60, http_503 30" in storm.evidence
    assert storm.excess == 0


def test_a_storm_that_meets_everybody_is_one_of_the_model() -> None:
    log = MadeLog(7).quiet(DAYS, calls=20, agents=("code", "review", "docs"))
    for number in range(60):
        for agent in ("code", "review", "docs"):
            at = day(54, 14) + timedelta(minutes=number)
            log.call(at, agent, "e", status="timeout", cost=Decimal("0.01"), model="openai/gpt-4o-mini")
    storm = one(found_in(log), "error storm")
    assert storm.subject == "model:openai/gpt-4o-mini"
    assert {"agent:code", "agent:review", "agent:docs"} <= set(storm.also)
    assert usd(storm.actual) == Decimal("1.80")


def test_a_few_errors_as_always_are_no_storm() -> None:
    log = MadeLog(8).quiet(DAYS, calls=20)
    for number in range(DAYS):
        for minute in range(25):
            log.call(day(number, 14) + timedelta(minutes=minute), "code", "e", status="error", cost=Decimal(0))
    assert [each for each in found_in(log) if each.kind == "error storm"] == []


def test_a_new_model_is_told_with_who_calls_it(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(50, 54):
        for minute in range(10):
            log.call(day(number, 10 + minute / 60), "code", f"n{number}", model="x/new", cost=Decimal("0.05"))
    new = one(found_in(log), "new model")
    assert (new.subject, new.first, new.last) == ("model:x/new", "2026-11-03", "2026-11-06")
    assert usd(new.excess) == Decimal(2)
    assert "40 calls since by code" in new.evidence


def test_in_a_young_log_no_model_is_new() -> None:
    log = MadeLog().quiet(3)
    scope = replace(SCOPE, now=day(3), period=Period(None, None, ""))
    assert found_in(log, scope) == []


def dearer(since: int, factor: Decimal) -> MadeLog:
    """Calls whose price is so much higher from a day on."""
    log = MadeLog(9)
    for number in range(DAYS):
        for at in log.times(number, 30):
            size = log.random.randint(3000, 9000), log.random.randint(300, 900)
            cost = (size[0] * RATES[MODEL][0] + size[1] * RATES[MODEL][1]) * (factor if number >= since else 1)
            log.call(at, "code", f"c{number}-{at.hour // 3}", sizes=size, cost=cost)
    return log


def test_a_price_that_rose_many_times_over_is_told_as_such() -> None:
    change = one(found_in(dearer(45, Decimal(16))), "price change")
    assert "the same tokens cost 16.0 times as much as in the days before" in change.evidence


def test_a_model_that_was_next_to_free_has_a_price_all_of_a_sudden() -> None:
    log = MadeLog(9)
    for number in range(DAYS):
        for at in log.times(number, 30):
            free = number < 45
            # A nano-dollar for a million tokens; then one token costs a thousandth of a dollar.
            size, cost = ((1_000_000, 0), Decimal("1e-9")) if free else ((1, 0), Decimal("0.001"))
            log.call(at, "code", f"c{number}-{at.hour // 3}", sizes=size, cost=cost)
    change = one(found_in(log, replace(SCOPE, floors=Floors(0))), "price change")
    assert (change.first, change.low) == ("2026-10-29", 0)


def test_a_price_that_changed_is_told_once_with_what_it_took() -> None:
    log = dearer(45, Decimal("1.25"))
    change = one(found_in(log), "price change")
    assert (change.subject, change.first, change.last) == (f"model:{MODEL}", "2026-10-29", "2026-11-08")
    assert "the same tokens cost 25% more" in change.evidence
    actual = sum((record.cost or Decimal(0) for record in log.records if record.timestamp >= "2026-10-29"), Decimal(0))
    assert usd(change.actual) == actual
    assert abs(usd(change.excess) - actual / 5) < actual / 100


def test_more_output_for_each_input_is_no_change_of_price() -> None:
    log = MadeLog(10)
    for number in range(DAYS):
        for at in log.times(number, 30):
            log.call(at, "code", f"c{number}-{at.hour // 3}", sizes=(3000, 300) if number < 45 else (2000, 500))
    assert [each for each in found_in(log) if each.kind == "price change"] == []


def test_a_day_of_retries_that_were_paid_for_is_no_change_of_price(quiet: MadeLog) -> None:
    log = copy(quiet)
    for at in log.times(40, 30):
        size = (6000, 600)
        cheap, dear = RATES[MODEL]
        log.call(at, "code", sizes=size, attempts=3, cost=3 * (size[0] * cheap + size[1] * dear))
    assert [each for each in found_in(log, replace(SCOPE, floors=Floors(0))) if each.kind == "price change"] == []


def test_failed_calls_whose_tokens_cost_nothing_are_no_change_of_price(quiet: MadeLog) -> None:
    log = copy(quiet)
    for at in log.times(52, 400):
        log.call(at, "code", cost=Decimal(0), sizes=(6000, 0), status="error", error="http_503")
    assert [each.kind for each in found_in(log, replace(SCOPE, floors=Floors(NANO // 10)))] == ["error storm"]


def test_a_change_that_the_price_list_has_is_known() -> None:
    log = MadeLog(11)
    for number in range(DAYS):
        for at in log.times(number, 30):
            cost = Decimal("0.01") * (2 if number >= 45 else 1)
            log.call(at, "code", f"c{number}-{at.hour // 3}", sizes=(1000, 100), cost=cost)
    assert one(found_in(log), "price change").first == "2026-10-29"

    def rates(provider: str, model: str, at: datetime) -> dict[str, Decimal]:
        return dict.fromkeys(PER_TOKEN, Decimal("0.00002") if at >= day(45) else Decimal("0.00001"))

    scope = replace(SCOPE, rates=rates)
    assert [each for each in found_in(log, scope) if each.kind == "price change"] == []


def test_a_correction_counts_on_the_day_of_its_call(quiet: MadeLog) -> None:
    log = copy(quiet)
    log.call(day(50, 12), "code", "c", cost=Decimal("0.01"))
    log.call(
        day(50, 12),
        "code",
        "c",
        cost=Decimal(30),
        corrects="made-1-1",
        cost_source="reconciled",
        recorded_at="2026-11-05",
    )
    session = one(found_in(log), "runaway")
    assert session.first == "2026-11-03 12:00"
    assert usd(session.actual) > 30
    assert "shows as a spike of agent:code" in session.evidence


def test_calls_of_unknown_cost_count_at_their_worst_case_and_say_so(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(20):
        at = day(50, 12) + timedelta(minutes=number)
        log.call(at, "code", "u", cost=None, cost_source="unknown", status="unknown", estimate=Decimal("0.70"))
    spike = one(found_in(log), "spike")
    assert usd(spike.actual) > 14
    assert "% of it is estimated" in spike.evidence


def test_lines_after_the_moment_change_nothing(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in (50, DAYS + 1):
        for at in log.times(number, 400):
            log.call(at, "code", f"s-{number}")
    now = day(DAYS)
    before = examine(PlainUsage(log.records, UTC, now), SCOPE).findings
    log.lines = [line for line, record in zip(log.lines, log.records, strict=True) if record.instant <= now]
    assert examine(PlainUsage(log.records, UTC, now), SCOPE).findings == before != []


def test_the_floor_is_a_hundredth_of_a_months_quota() -> None:
    policy = parse_policy(
        b'{"total_budget": 500, "quotas": [{"subject": "agent:code", "limit": 20},'
        b' {"subject": "agent:*", "limit": 1000}, {"subject": "purpose:x", "limit": 3, "period": "day"}]}',
        "budget.json",
    )
    floors = Floors(None, policy.quotas)
    assert [usd(floors.of(*subject)) for subject in (("agent", "code"), ("agent", "z"), ("purpose", "x"))] == [
        Decimal("0.2"),
        Decimal(10),
        Decimal(5),
    ]
    assert Floors().of("agent", "code") == NANO
    assert Floors(7, policy.quotas).of("agent", "code") == 7


def test_a_condition_keeps_to_its_calls(quiet: MadeLog) -> None:
    log = copy(quiet)
    for at in log.times(50, 400):
        log.call(at, "code", f"s-{at.hour}")
    scope = replace(SCOPE, where=("agent=review",))
    assert found_in(log, scope) == []
    scope = replace(SCOPE, where=("agent=c*",))
    spike = one(found_in(log, scope), "spike")
    assert spike.command.count("--where") == 1
    assert spike.id != one(found_in(log), "spike").id


def test_days_are_those_of_the_zone(quiet: MadeLog) -> None:
    log = copy(quiet)
    for number in range(400):
        log.call(day(50, 23.5) + timedelta(seconds=number), "code", f"s-{number % 60}")
    zone = ZoneInfo("Asia/Tokyo")
    scope = replace(SCOPE, zone=zone, now=day(DAYS))
    assert one(found_in(log, scope), "spike").first == "2026-11-04"


def test_an_empty_log_has_no_finding() -> None:
    examined = examine(PlainUsage([]), SCOPE)
    assert examined.findings == []
    assert anomaly_report(examined.findings, SCOPE, examined).rows == []


def test_subjects_without_history_are_counted_not_judged() -> None:
    log = MadeLog().quiet(10)
    scope = replace(SCOPE, now=day(10), period=Period(None, day(10), ""))
    examined = examine(PlainUsage(log.records), scope)
    assert examined.judged.subjects == 0
    report = anomaly_report(examined.findings, scope, examined)
    assert any(note.startswith("Subjects judged by their days: 0; too young") for note in report.notes)


# Days alone


def week_after_week(days: int, amount: int = 10 * NANO) -> list[int]:
    """Ordinary days, a bit up and down, weekends with a third."""
    return [
        amount * (100 + (number * 37) % 23) // 110 // (3 if (FIRST + timedelta(number)).weekday() >= 5 else 1)
        for number in range(days)
    ]


def test_a_week_of_ten_times_as_much_is_a_shift_and_not_seven_spikes() -> None:
    spent = week_after_week(70)
    spent[60:] = [10 * each for each in spent[60:]]
    spiked = spikes(FIRST, spent, NANO)
    left, shifted = told_once(spiked, shifts(FIRST, spent, NANO, spiked))
    assert left == []
    assert [each.first for each in shifted] == [FIRST + timedelta(60)]


def test_a_single_spike_is_no_shift() -> None:
    spent = week_after_week(70)
    spent[60] *= 10
    spiked = spikes(FIRST, spent, NANO)
    assert [(each.first, each.days) for each in spiked] == [(FIRST + timedelta(60), 1)]
    assert shifts(FIRST, spent, NANO, spiked) == []


def test_after_a_shift_three_weeks_are_quiet() -> None:
    spent = week_after_week(90)
    spent[60:] = [2 * each for each in spent[60:]]
    assert len(shifts(FIRST, spent, NANO)) == 1


def test_below_the_floor_nothing_is_said() -> None:
    spent = week_after_week(60, NANO // 10)
    spent[50] *= 10
    assert spikes(FIRST, spent, NANO) == []
    assert len(spikes(FIRST, spent, 0)) == 1


def test_two_weeks_of_history_are_needed() -> None:
    assert spikes(FIRST, [NANO] * 13 + [100 * NANO], 0) == []
    assert len(spikes(FIRST, [NANO] * 14 + [100 * NANO], 0)) == 1
    assert spikes(FIRST, [0] * 10 + [NANO] * 4 + [100 * NANO], 0) == []  # four with spend
    assert spikes(date(2026, 9, 14), [], 0, running=5 * NANO) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 10**15), min_size=0, max_size=60),
    st.integers(0, 10**12),
    st.integers(1, 1000),
)
def test_whatever_was_spent_findings_are_beyond_what_was_expected(spent: list[int], floor: int, factor: int) -> None:
    spiked = spikes(FIRST, spent, floor, running=sum(spent) // factor)
    for event in [*spiked, *shifts(FIRST, spent, floor, spiked)]:
        assert event.excess > 0
        low, high = event.usual.nearly_sure
        assert 0 <= low <= high < event.actual


def test_a_command_about_what_cannot_be_printed_can_be_copied_all_the_same() -> None:
    scope = Scope(day(3))
    command = breakdown(scope, ["hour"], ["agent=\x1b[31mred\x07 one"], "2026-09-14", "2026-09-14")
    assert command.isprintable()
    assert "--where 'agent=*[31mred* one' --since 2026-09-14" in command


@pytest.mark.parametrize("agent", ["code", " code ", "c*de", "=cmd()"])
def test_a_zombie_is_found_whatever_its_agent_is_called(agent: str) -> None:
    log = MadeLog().quiet(40, (agent, "other"))
    for hour in range(0, 5 * 24, 2):
        log.call(day(32, hour), agent, " zz*", cost=Decimal("0.5"))
    found = examine(PlainUsage(log.records), Scope(day(40), period=Period(day(12), day(40), ""))).findings
    assert [(each.kind, each.subject) for each in found if each.kind == "zombie"] == [("zombie", "session: zz*")]


def told(first: date, spent: list[int], running: int | None = None) -> list[Event]:
    """The spikes that are told."""
    return told_once(spikes(first, spent, NANO, running), [])[0]


def days_with(dear: dict[str, float], until: str) -> list[int]:
    """What is spent from 2 June 2026 on, with days that cost more."""
    first = date(2026, 6, 2)
    number = (date.fromisoformat(until) - first).days + 1
    found = [[9, 10, 11, 12, 10, 3, 2][(first + timedelta(each)).weekday()] * NANO for each in range(number)]
    for label, amount in dear.items():
        found[(date.fromisoformat(label) - first).days] = round(amount * NANO)
    return found


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("2026-06-30", "2026-07-31"),
        ("2026-07-31", "2026-08-31"),
        ("2026-08-03", "2026-09-01"),
        ("2026-07-15", "2026-08-15"),
    ],
)
def test_a_job_of_each_month_is_told_once(before: str, now: str) -> None:
    first = date(2026, 6, 2)
    (event,) = told(first, days_with({before: 90, now: 100}, now))
    assert event.first == date.fromisoformat(before)
    (event,) = told(first, days_with({before: 90}, now)[:-1], running=60 * NANO)
    assert event.first == date.fromisoformat(before)


@pytest.mark.parametrize(("before", "amount"), [("2026-07-24", 100), ("2026-07-31", 50), ("2026-07-31", 400)])
def test_a_spike_of_another_day_or_size_a_month_before_hides_nothing(before: str, amount: float) -> None:
    now = "2026-08-31"
    found = told(date(2026, 6, 2), days_with({before: amount, now: 100}, now))
    assert [str(event.first) for event in found] == [before, now]


def test_a_job_of_each_month_hides_no_spike_between() -> None:
    dear = {"2026-06-30": 90.0, "2026-07-31": 90.0, "2026-08-31": 90.0, "2026-08-19": 60.0}
    found = told(date(2026, 6, 2), days_with(dear, "2026-09-02"))
    assert [str(event.first) for event in found] == ["2026-06-30", "2026-08-19"]


def test_an_ordinary_day_a_month_before_is_no_job() -> None:
    found = told(date(2026, 6, 2), days_with({"2026-08-30": 17.0}, "2026-08-30"))  # a Sunday like a Monday and a half
    assert [str(event.first) for event in found] == ["2026-08-30"]


def test_a_job_of_each_month_is_no_shift_either() -> None:
    spent = days_with({"2026-06-30": 90.0, "2026-07-31": 90.0, "2026-08-31": 90.0}, "2026-09-06")
    spiked = spikes(date(2026, 6, 2), spent, NANO)
    assert shifts(date(2026, 6, 2), spent, NANO, spiked) == []
    assert len(told(date(2026, 6, 2), spent)) == 1


@pytest.mark.parametrize("first", [date(1, 1, 1), date(9999, 12, 1)])
def test_spikes_at_the_ends_of_the_calendar_are_found(first: date) -> None:
    assert len(spikes(first, [NANO] * 30 + [100 * NANO], 0)) == 1


def test_what_is_more_than_usual_after_a_pause_is_told_once_though_agent_and_key_show_it() -> None:
    log = MadeLog()
    for number in range(DAYS):
        usual = Decimal(0) if 36 <= number < 48 else Decimal(16) if number >= 48 else Decimal(10)
        for part in range(4):
            cost = usual / 4 * (5 + (number * 7 + part * 3) % 5) / 7
            log.call(
                day(number, 9 + part), session=f"s-{number}-{part}", cost=cost, purpose=f"of-{part}", model=f"m-{part}"
            )
    shift = one(found_in(log), "shift")
    assert shift.subject == "agent:code"
    assert "key:code@openrouter" in shift.also
