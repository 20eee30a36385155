"""Forecasts of horizons, parts and quotas, over records in memory."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from callmeter.policy.document import parse_policy
from callmeter.reports.forecast import Forecast, Horizon, forecast, next_days, next_month, next_week, to_end
from callmeter.reports.forecast_grades import Grade, Said, grade_sentence, grades, hits_sentence, hits_text, said_by
from callmeter.reports.forecast_history import Present, doubt, histories, quality, stopped_days
from callmeter.reports.forecast_quotas import Limit, Pasts, exhaustions, hidden_note, limits_by_log
from callmeter.reports.forecast_words import chance_text, range_text
from callmeter.words.errors import UsageError
from callmeter.words.instant import text_of
from callmeter.words.money import NANO, nano
from callmeter.words.record import UsageRecord
from callmeter.words.subject import Subject
from log_text import log_records
from plain_usage import PlainUsage

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)  # a Saturday
TODAY = NOW.date()
MIDNIGHT = NOW.replace(hour=0, minute=0)


def line(at: datetime, cost: str = "1", **more: str) -> UsageRecord:
    words = " ".join(f"{name}={value}" for name, value in {"agent": "a", "cost": cost, **more}.items() if value)
    (record,) = log_records(f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z {words}")
    return changed(record, id=f"{at.isoformat()} {words}")


def daily(costs: Sequence[float], agent: str = "a", last: datetime = MIDNIGHT) -> list[UsageRecord]:
    """A call at noon on each of so many days before today; none on days that cost 0."""
    first = last - timedelta(len(costs)) + timedelta(hours=12)
    return [line(first + timedelta(n), f"{cost:.9f}", agent=agent) for n, cost in enumerate(costs) if cost]


def at(
    records: Sequence[UsageRecord], now: datetime = NOW, as_of: datetime | None = None, zone: str = "UTC"
) -> Present:
    return Present(PlainUsage(records, UTC if zone == "UTC" else ZoneInfo(zone), as_of), now)


def ahead(present: Present, by: Sequence[str] = (), horizon: Horizon | None = None) -> Forecast:
    return forecast(horizon or next_week(present.today), histories(present.usage, by, present), present, by)


def figures(found: Forecast) -> tuple[int, ...]:
    return found.total.sum.expected, found.total.sum.median, *found.total.sum.coming.likely


def noisy(count: int, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [round(chance.uniform(0.2, 3), 6) for _ in range(count)]


# What is a day


def test_a_partial_today_leaves_the_coming_days_alone() -> None:
    past = daily(noisy(30))
    more = [*past, line(NOW - timedelta(hours=1), "500")]
    assert figures(ahead(at(past))) == figures(ahead(at(more)))


def test_lines_after_as_of_change_nothing() -> None:
    past = daily(noisy(30))
    as_of = NOW - timedelta(3)
    known = [record for record in past if record.timestamp <= text_of(as_of)]
    late = changed(line(as_of - timedelta(5), "99"), recorded_at=text_of(NOW), corrects="x", id="late")
    assert figures(ahead(at([*past, late], as_of, as_of))) == figures(ahead(at(known, as_of)))


def test_as_of_a_date_is_after_that_days_end() -> None:
    end = MIDNIGHT + timedelta(1) - timedelta(microseconds=1)
    now = at([*daily([1.0] * 20), line(NOW, "1")], end, end)
    found = ahead(now)
    assert now.today == TODAY
    assert found.total.fit is not None and found.total.fit.days == 21
    assert found.horizon.first == date(2026, 11, 23)
    month = ahead(now, horizon=to_end(now.today, "month"))
    assert sum(day.expected for day in month.days if day.day == TODAY) == 0


def test_days_without_lines_are_zero_and_days_before_the_first_call_are_none() -> None:
    found = ahead(at(daily([0] * 200 + [1.0, 0, 0, 1.0, 0])))
    assert found.total.fit is not None
    assert (found.total.fit.days, found.total.fit.days_with_spend) == (5, 2)


def test_a_correction_counts_on_the_day_of_its_call() -> None:
    past = daily([1.0] * 20)
    correction = changed(past[4], id="later", corrects=past[4].id, cost=Decimal("2"), recorded_at=text_of(NOW))
    dearer = daily([1.0] * 4 + [3.0] + [1.0] * 15)
    assert figures(ahead(at([*past, correction]))) == figures(ahead(at(dearer)))


def test_unknown_costs_count_at_their_estimate_until_they_are_corrected() -> None:
    past = daily([1.0] * 20)
    unknown = changed(past[7], cost=None, cost_source="unknown", estimate=Decimal(1))
    corrected = changed(unknown, id="c", corrects=unknown.id, cost=Decimal(1), cost_source="reconciled")
    known = figures(ahead(at(past)))
    assert figures(ahead(at([*past[:7], unknown, *past[8:]]))) == known
    assert figures(ahead(at([*past[:7], unknown, corrected, *past[8:]]))) == known
    found = ahead(at([*past[:7], unknown, *past[8:]]))
    assert sum(found.total.history.guessed.values()) == NANO


def test_refused_calls_are_no_first_call_but_their_days_are_counted() -> None:
    refused = [
        line(MIDNIGHT - timedelta(days), "0", status="refused", error=error)
        for days, error in (
            (40, "frozen"),
            (3, "quota_exceeded"),
            (3, "frozen"),
            (2, "model_not_allowed"),
            (1, "model_not_allowed"),
        )
    ]
    now = at([*daily([1.0] * 10), *refused])
    assert ahead(now).total.history.first == TODAY - timedelta(10)
    assert stopped_days(now) == 1


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Europe/Berlin", "Asia/Kathmandu"])
def test_days_are_those_of_the_zone_across_a_change_of_the_clock(zone: str) -> None:
    local = ZoneInfo(zone)
    noons = [datetime(2026, 10, 20, 12, tzinfo=local) + timedelta(n) for n in range(20)]
    now = at([line(noon.astimezone(UTC), "1") for noon in noons], noons[-1] + timedelta(hours=22), zone=zone)
    found = ahead(now)
    assert found.total.fit is not None
    assert (found.total.fit.days, found.total.fit.days_with_spend) == (20, 20)
    assert found.total.sum.expected == pytest.approx(7 * NANO, rel=1e-6)


# Horizons


@pytest.mark.parametrize(
    ("horizon", "first", "last"),
    [
        (next_week(date(2026, 11, 22)), "2026-11-23", "2026-11-29"),
        (next_week(date(2026, 11, 23)), "2026-11-30", "2026-12-06"),
        (next_month(date(2026, 12, 31)), "2027-01-01", "2027-01-31"),
        (next_month(date(2028, 1, 31)), "2028-02-01", "2028-02-29"),
        (next_days(date(2028, 2, 28), 2), "2028-02-29", "2028-03-01"),
        (to_end(date(2026, 11, 21), "month"), "2026-11-22", "2026-11-30"),
        (to_end(date(2026, 11, 21), "week"), "2026-11-22", "2026-11-22"),
        (to_end(date(2026, 11, 30), "month"), "2026-12-01", "2026-11-30"),
        (to_end(date(2026, 11, 30), "year"), "2026-12-01", "2026-12-31"),
    ],
)
def test_horizons_are_whole_calendar_days(horizon: Horizon, first: str, last: str) -> None:
    assert (horizon.first.isoformat(), horizon.last.isoformat()) == (first, last)


@pytest.mark.parametrize(
    ("horizon", "name", "title"),
    [
        (next_week(TODAY), "next_week", "next week"),
        (next_month(TODAY), "next_month", "next month"),
        (next_days(TODAY, 1), "next_1_days", "tomorrow"),
        (next_days(TODAY, 2), "next_2_days", "next 2 days"),
        (to_end(TODAY, "day"), "to_period_end", "today"),
        (to_end(TODAY, "week"), "to_period_end", "this week"),
    ],
)
def test_a_horizon_has_a_name_for_machines_and_a_title_for_people(horizon: Horizon, name: str, title: str) -> None:
    assert (horizon.name, horizon.title) == (name, title)


@pytest.mark.parametrize(
    ("period", "begun", "last"),
    [
        ("day", TODAY, TODAY),
        ("week", date(2026, 11, 16), date(2026, 11, 22)),
        ("month", date(2026, 11, 1), date(2026, 11, 30)),
        ("year", date(2026, 1, 1), date(2026, 12, 31)),
    ],
)
def test_a_period_to_its_end_has_begun_on_its_first_day_and_ends_with_its_last(
    period: str, begun: date, last: date
) -> None:
    horizon = to_end(TODAY, period)
    assert (horizon.begun, horizon.first, horizon.last) == (begun, TODAY + timedelta(1), last)
    assert next_week(TODAY).begun is None


def test_a_life_has_no_end() -> None:
    with pytest.raises(UsageError):
        to_end(TODAY, "life")


def test_days_add_up_to_the_sum_exactly() -> None:
    for horizon in (next_week(TODAY), next_month(TODAY), next_days(TODAY, 100)):
        found = ahead(at(daily(noisy(50))), horizon=horizon)
        assert sum(day.expected for day in found.days) == found.total.sum.expected
        assert next(day.day for day in found.days) == horizon.first


def test_to_the_periods_end_is_what_was_spent_and_what_comes() -> None:
    past = daily([1.0] * 40)
    found = ahead(at([*past, line(MIDNIGHT + timedelta(hours=2), "0.25")]), horizon=to_end(TODAY, "month"))
    assert found.total.sum.spent == nano(Decimal("20.25"))
    assert next(day.day for day in found.days) == TODAY
    assert sum(day.expected for day in found.days) == found.total.sum.expected - found.total.sum.spent
    # Calls come at noon, and it is half past nine: today's is still to come.
    assert found.days[0].expected == pytest.approx(NANO, rel=1e-6)


def test_a_running_sum_is_exceeded_as_often_as_its_quantiles_say() -> None:
    found = ahead(at([*daily(noisy(60)), line(NOW - timedelta(hours=1), "3")]), horizon=to_end(TODAY, "month"))
    running = found.total.sum
    assert 0 < running.spent < running.median
    assert running.over(running.median) == pytest.approx(0.5, abs=0.01)
    assert running.over(running.quantile(0.9)) == pytest.approx(0.1, abs=0.01)
    assert running.over(running.spent - 1) == 1


def test_a_team_that_rests_on_weekends_is_expected_to_rest_on_the_next_one() -> None:
    working = [0.0 if (TODAY - timedelta(age)).weekday() >= 5 else 1.0 for age in range(60, 0, -1)]
    by_day = {day.day.weekday(): day.expected for day in ahead(at(daily(working))).days}
    assert max(by_day[5], by_day[6]) < 0.2 * min(by_day[weekday] for weekday in range(5))


def test_the_rest_of_today_of_a_part_is_that_of_its_own_days() -> None:
    past = [
        line(MIDNIGHT - timedelta(day) + timedelta(hours=hour), "1", agent=agent)
        for day in range(1, 41)
        for agent, hour in (("early", 6), ("late", 18))
    ]
    coming = {part.names: part.sum.coming.mean for part in ahead(at(past), ["agent"], to_end(TODAY, "day")).parts}
    assert coming["early",] == 0
    assert coming["late",] == pytest.approx(NANO, rel=0.01)


def test_the_rest_of_today_is_the_share_that_other_days_spend_after_this_hour() -> None:
    past = [
        line(MIDNIGHT - timedelta(day) + timedelta(hours=hour), cost)
        for day in range(1, 29)
        for hour, cost in ((8, "3"), (20, "1"))
    ]
    assert at(past).rest() == pytest.approx(0.25)
    assert at(past, MIDNIGHT + timedelta(hours=8, minutes=30)).rest() == pytest.approx(0.625)
    assert at(past, MIDNIGHT + timedelta(hours=21)).rest() == 0
    assert at([], MIDNIGHT + timedelta(hours=18)).rest() == pytest.approx(0.25)
    assert at(past).rest("agent", lambda value: value == "nobody") == pytest.approx(14.5 / 24)


# Parts


@given(st.lists(st.lists(st.integers(0, 10**7), min_size=1, max_size=25), min_size=1, max_size=6))
def test_parts_add_up_exactly_and_the_total_does_not_depend_on_them(parts: list[list[int]]) -> None:
    records = [record for n, days in enumerate(parts) for record in daily([d / 10**6 for d in days], agent=f"a{n}")]
    now = at(records)
    for horizon in (next_week(TODAY), to_end(TODAY, "month")):
        whole, broken = ahead(now, horizon=horizon), ahead(now, ["agent"], horizon)
        assert figures(whole) == figures(broken)
        if broken.parts and broken.total.sum.coming.mean > 0:
            assert sum(part.sum.expected for part in broken.parts) == broken.total.sum.expected
        assert all(part.sum.coming.likely[0] <= part.sum.coming.likely[1] for part in broken.parts)


def test_a_part_that_began_today_has_nothing_and_says_why() -> None:
    found = ahead(at([*daily([1.0] * 20), line(NOW - timedelta(hours=1), "5", agent="new")]), ["agent"])
    new = next(part for part in found.parts if part.names == ("new",))
    assert (new.sum.expected, new.fit, doubt(new.fit)) == (0, None, "no complete day yet")


def test_a_new_subject_begins_at_its_first_call_and_one_that_paused_keeps_its_zeros() -> None:
    found = ahead(at([*daily([1.0] * 60), *daily([2.0] * 3, "new"), *daily([2.0] * 3 + [0] * 40, "old")]), ["agent"])
    days = {part.names[0]: part.fit.days for part in found.parts if part.fit}
    assert days == {"a": 60, "new": 3, "old": 43}


@pytest.mark.parametrize(
    ("costs", "expected", "why"),
    [
        ([1.0], "guess", "one day only; the range is a guess"),
        ([1.0] * 2, "guess", "two days only; the range is a guess"),
        ([1.0] * 4, "short", "less than a week: no weekdays known"),
        ([1.0] + [0] * 8, "short", "spends on few days"),
        ([1.0] * 6, "short", "less than a week: no weekdays known"),
        ([1.0] * 13, "short", "less than two weeks"),
        ([1.0] + [0] * 20, "short", "spends on few days"),
        ([1.0] * 14, "ok", ""),
    ],
)
def test_short_histories_say_so(costs: list[float], expected: str, why: str) -> None:
    fit = ahead(at(daily(costs))).total.fit
    assert (quality(fit), doubt(fit)) == (expected, why)


def test_an_agent_that_began_yesterday_changes_nothing_for_one_that_has_been_steady_for_months() -> None:
    steady = daily([2.0] * 60, "steady")
    (alone,) = ahead(at(steady), ["agent"]).parts
    parts = {part.names[0]: part.sum.expected for part in ahead(at([*steady, *daily([5.0], "new")]), ["agent"]).parts}
    assert alone.sum.expected == 14 * NANO
    assert parts["steady"] == pytest.approx(alone.sum.expected, rel=0.05)
    assert parts["new"] > 0


def test_parts_that_say_more_than_the_total_are_cut_but_each_keeps_a_range() -> None:
    steady = daily([2.0] * 60, "steady")
    new = [record for each in range(5) for record in daily([9.0], f"new-{each}")]
    rare = daily([*[0.0] * 30, 60.0, *[0.0] * 29, 60.0, *[0.0] * 10], "rare")
    found = ahead(at([*steady, *new, *rare]), ["agent"])
    assert sum(part.sum.expected for part in found.parts) == found.total.sum.expected
    for part in found.parts:
        low, high = part.sum.likely
        assert 0 <= low < part.sum.expected < high, part.names


# Quotas


def limit(most: float, taken: float = 0, resets: date | None = date(2026, 12, 1), unit: str = "usd") -> Limit:
    scale = NANO if unit == "usd" else 1
    return Limit(Subject("total", ""), "month", unit, "hard", round(most * scale), round(taken * scale), resets, "id")


def test_the_chance_is_that_of_spending_more_than_is_left() -> None:
    now = at(daily(noisy(60)))
    rest = ahead(now, horizon=to_end(TODAY, "month")).total.sum.coming
    left = rest.quantile(0.7) / NANO
    (found,) = exhaustions([limit(5 + left, 5)], Pasts(now))
    assert found.chance == pytest.approx(0.3, abs=0.01)
    assert found.expected == pytest.approx(5 * NANO + rest.mean, abs=2)
    assert not found.likely


def test_a_quota_runs_out_on_the_day_on_which_the_running_total_passes_what_is_left() -> None:
    (found,) = exhaustions([limit(10, 5.5)], Pasts(at(daily([1.0] * 60))))
    assert found.likely and found.runs_out is not None and found.earliest is not None and found.latest is not None
    # A dollar at each noon, the one of today included: the fifth is that of Wednesday.
    assert found.runs_out == date(2026, 11, 25)
    assert found.earliest <= found.runs_out <= found.latest
    assert found.latest - found.earliest < timedelta(4)


def test_a_quota_that_lasts_has_no_day() -> None:
    (found,) = exhaustions([limit(1000, 5)], Pasts(at(daily([1.0] * 60))))
    assert (found.runs_out, found.earliest, found.latest) == (None, None, None)
    assert chance_text(found.chance or 0) == "under 5%"


def test_a_range_that_ends_too_late_has_only_a_day_before_which_it_is_not_to_be_expected() -> None:
    (found,) = exhaustions([limit(60, 0, date(2027, 11, 1))], Pasts(at(daily([1.0] * 60))))
    assert found.chance is not None and found.chance > 0.95
    assert (found.runs_out, found.latest) == (None, None)
    assert found.earliest == TODAY + timedelta(28)


def test_a_used_up_quota_is_used_up_today() -> None:
    (found,) = exhaustions([limit(5, 6)], Pasts(at(daily([1.0] * 60))))
    assert (found.used_up, found.chance, found.runs_out) == (True, 1, TODAY)
    (new,) = exhaustions([limit(5, 6)], Pasts(at([])))
    assert (new.used_up, new.chance) == (True, 1)


def test_quotas_in_calls_are_forecast_in_calls() -> None:
    sent = daily([0.001] * 60)
    unsent = [changed(record, id=f"{record.id} unsent", status="error", attempts=0) for record in sent]
    (found,) = exhaustions([limit(15, 5, unit="calls")], Pasts(at([*sent, *unsent])))
    assert found.expected == 15
    assert found.chance is not None and 0.1 < found.chance < 0.6


def test_a_subjects_quota_expects_what_the_breakdown_expects_of_it() -> None:
    records = [*daily(noisy(60, 1), "a"), *daily(noisy(60, 2), "b"), *daily(noisy(9, 3), "c")]
    now = at(records)
    parts = {part.names[0]: part.sum.expected for part in ahead(now, ["agent"], to_end(TODAY, "month")).parts}
    for name, expected in parts.items():
        spent = Pasts(now).history(Subject("agent", name)).sum(date(2026, 11, 1), TODAY)
        one = replace(limit(1000), subject=Subject("agent", name), taken=spent)
        (found,) = exhaustions([one], Pasts(now))
        assert found.expected == pytest.approx(expected, abs=2)


def test_a_pattern_is_all_that_matches_together() -> None:
    records = [*daily([1.0] * 30, "ant-1"), *daily([2.0] * 30, "ant-2"), *daily([4.0] * 30, "bee")]
    found = Pasts(at(records)).history(Subject("agent", "ant-*"))
    assert found.sum(TODAY - timedelta(1), TODAY) == 3 * NANO


def test_of_quotas_for_each_the_fullest_are_foreseen_and_the_others_counted() -> None:
    records = [each for number in range(15) for each in daily([1 + number / 10] * 20, f"a{number:02}")]
    policy = parse_policy(b'{"version":1,"quotas":[{"subject":"agent:*","period":"month","limit":100}]}', "budget.json")
    found, hidden = limits_by_log(policy.quotas, Pasts(at(records)), 10)
    assert [str(each.subject) for each in found] == [f"agent:a{number:02}" for number in range(14, 4, -1)]
    said = "Of quotas for each of several, such as `agent:*`, the 10 fullest are shown, and 5 more are not."
    assert (hidden_note(hidden, 10), hidden_note(0, 10)) == (said, "")
    assert hidden_note(0, 10) == ""


def test_quotas_of_hours_are_not_foreseen_and_calls_without_an_agent_are_no_agent() -> None:
    nobody = [line(MIDNIGHT - timedelta(age), agent="") for age in range(1, 20)]
    each = '{"subject":"agent:*","period":"month","limit":100},{"subject":"agent:*","period":"hour","limit":100}'
    policy = parse_policy(b'{"version":1,"quotas":[%s]}' % each.encode(), "budget.json")
    found, hidden = limits_by_log(policy.quotas, Pasts(at([*daily([1.0] * 20), *nobody])), 10)
    assert ([limit.name for limit in found], hidden) == (["agent:a per month"], 0)


def test_the_past_of_one_value_is_found_as_a_pattern_would_find_it() -> None:
    pasts = Pasts(at([*daily([1] * 20, "code"), *daily([2] * 20, "other")]))
    one, same = Subject("agent", "code"), Subject("agent", "cod*e")
    assert pasts.history(one).amounts == pasts.history(same).amounts
    assert pasts.rest(one) == pasts.rest(same)
    assert pasts.history(Subject("agent", "nobody")).first is None


# Grades


def said(expected: float, low: float, high: float, first: date, days: int = 7, **by: str) -> Said:
    ends = (round(low * NANO), round(high * NANO))
    return Said(
        "2026-11-01T00:00:00.000Z", "x", first, first + timedelta(days - 1), round(expected * NANO), 0, ends, ends, by
    )


def test_a_forecast_is_graded_when_its_days_are_over() -> None:
    now = at(daily([1.0] * 40))
    monday = date(2026, 11, 9)
    whole, part = said(6, 5, 8.5, monday), said(3, 2, 4, monday, agent="a")
    running = said(6, 5, 8, date(2026, 11, 16))
    found = grades([part, running, said(99, 98, 100, monday), whole], now)
    assert [(grade.said, grade.outcome, grade.inside) for grade in found] == [
        (whole, 7 * NANO, True),
        (part, 7 * NANO, False),
    ]
    assert grade_sentence(found[0]) == (
        "For 2026-11-09 to 2026-11-15 we said $6.00 ($5.00 to $8.50), it came to $7.00: inside."
    )
    assert grade_sentence(found[1]).endswith(", agent:a, we said $3.00 ($2.00 to $4.00), it came to $7.00: above.")


@pytest.mark.parametrize(("outcome", "verdict"), [(4.99, "below"), (5, "inside"), (8.5, "inside"), (8.51, "above")])
def test_the_ends_of_a_range_are_inside(outcome: float, verdict: str) -> None:
    grade = Grade(said(6, 5, 8.5, date(2026, 11, 9)), round(outcome * NANO))
    assert (grade.verdict, grade.inside) == (verdict, verdict == "inside")


def test_grades_come_latest_first_and_not_before_their_last_day_is_over() -> None:
    days = [TODAY - timedelta(age) for age in (20, 1, 0, 5)]
    found = grades([said(1, 0, 2, day, days=1) for day in days], at(daily([1.0] * 40)))
    assert [grade.said.last for grade in found] == [days[1], days[3], days[0]]


def test_days_that_the_log_does_not_cover_are_not_graded() -> None:
    assert grades([said(6, 5, 8, date(2026, 11, 2))], at(daily([1.0] * 15))) == []
    assert grades([said(6, 5, 8, date(2026, 11, 2), agent="gone")], at(daily([1.0] * 40))) == []


def test_what_is_kept_is_the_total_and_the_largest_parts_but_no_period_that_has_begun() -> None:
    now = at([*daily([1.0] * 20), *daily([2.0] * 20, "b"), line(NOW, "1", agent="new")])
    kept = said_by(ahead(now, ["agent"]), ["agent"], text_of(NOW))
    assert [each.subject for each in kept] == ["total", "agent:b", "agent:a"]
    assert said_by(ahead(now, horizon=to_end(TODAY, "month")), [], text_of(NOW)) == []


# Words


@pytest.mark.parametrize(
    ("chance", "text"),
    [(0, "under 5%"), (0.049, "under 5%"), (0.05, "10%"), (0.31, "30%"), (0.95, "90%"), (0.951, "over 95%")],
)
def test_chances_are_told_in_tens(chance: float, text: str) -> None:
    assert chance_text(chance) == text
    assert chance_text(Decimal(str(chance))) == text


def test_ranges_claim_no_false_cents() -> None:
    assert range_text(33_210_000_000, 52_480_000_000) == "$33 to $52"
    assert range_text(2_820_000_000, 14_910_000_000) == "$2.82 to $15"
    assert range_text(0, 4_100_000) == "$0.00 to $0.00410"
    assert range_text(26_090_000_000, 26_440_000_000) == "$26.09 to $26.44"
    assert range_text(23_680_000_000, 28_690_000_000) == "$24 to $29"


def test_hits_are_counted_until_eight() -> None:
    assert (hits_text(6, 7), hits_text(7, 8)) == ("6 of 7", "88% of 8")
    grade = Grade(said(6, 5, 8.5, date(2026, 11, 9)), 6 * NANO)
    assert (
        hits_sentence([grade, replace(grade, outcome=0)]) == "1 of 2 forecasts inside their range; 8 in 10 should be."
    )
    assert hits_sentence([]) == ""
