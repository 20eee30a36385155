"""What a forecast's page says, as sentences and rows, over records in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from callmeter.reports.forecast import forecast, next_days, next_week, to_end
from callmeter.reports.forecast_grades import Grade, Said
from callmeter.reports.forecast_history import Present, histories
from callmeter.reports.forecast_page import forecast_page, horizon_sentence, quota_sentence, silence_sentence
from callmeter.reports.forecast_quotas import Exhaustion, Limit
from callmeter.reports.report import Board, Report
from callmeter.words.money import NANO, shown
from callmeter.words.record import UsageRecord
from callmeter.words.subject import Subject
from log_text import log_records
from plain_usage import PlainUsage

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)  # a Saturday
TODAY = NOW.date()
RESET = date(2026, 12, 1)  # a Tuesday
LIMIT = Limit(Subject("agent", "code"), "month", "usd", "hard", 45 * NANO, 5 * NANO, RESET, "id")


def daily(days: int, **costs: str) -> list[UsageRecord]:
    """A call of each agent at noon on each of so many days before today."""
    lines = [
        f"{TODAY - timedelta(age)}T12:00Z agent={agent} cost={cost} id={agent}-{age}"
        for age in range(1, days + 1)
        for agent, cost in costs.items()
    ]
    return log_records("\n".join(lines))


def known(*records: UsageRecord) -> Present:
    return Present(PlainUsage(records), NOW)


def page(
    present: Present, by: tuple[str, ...] = (), top: int = 0, stopped: int = 0, to_period_end: bool = False
) -> Board:
    horizon = to_end(TODAY, "month") if to_period_end else next_week(TODAY)
    found = forecast(horizon, histories(present.usage, by, present), present, by)
    return forecast_page([found], by, [], present, top=top, stopped=stopped)


def cells(report: Report, *names: str) -> list[tuple[object, ...]]:
    return [tuple(row.cells.get(name) for name in names) for row in report.rows]


# Sentences


def test_a_horizon_is_told_with_what_it_comes_to_and_its_range() -> None:
    now = known(*daily(60, a="1"))
    past = histories(now.usage, (), now)
    week, month = (forecast(each, past, now) for each in (next_week(TODAY), to_end(TODAY, "month")))
    assert horizon_sentence(week).startswith("Next week, 2026-11-23 to 2026-11-29: about $7.00, 8 in 10 chance of $")
    assert horizon_sentence(month).startswith(
        "This month, 2026-11-01 to 2026-11-30: about $30.00, $20.00 of it spent, 8"
    )
    assert "as likely" not in horizon_sentence(week)


def test_without_a_complete_day_there_is_nothing_to_tell_but_why() -> None:
    assert page(known()).lead == ["No calls yet, so no forecast."]
    today = log_records("2026-11-21T08:00Z agent=a cost=1")
    assert page(known(*today)).lead == ["The first call was today: a forecast needs one complete day."]


def test_rare_dear_days_make_less_as_likely_as_more() -> None:
    monthly = [record for record in daily(120, a="30") if record.instant.day == 15]
    now = known(*monthly)
    past = histories(now.usage, (), now)
    week, day = (horizon_sentence(forecast(next_days(TODAY, count), past, now)) for count in (7, 1))
    month = forecast(to_end(TODAY, "month"), past, now)
    assert 0 < month.total.sum.spent < month.total.sum.median
    assert horizon_sentence(month).endswith(f"; as likely below {shown(month.total.sum.median)} as above.")
    assert "; as likely below $" in week and week.endswith(" as above.")
    assert day.startswith("Tomorrow, 2026-11-22: about $") and day.endswith("; as likely nothing as anything.")
    rest = forecast(to_end(TODAY, "week"), past, now)
    assert horizon_sentence(rest).endswith("; as likely nothing more as anything.")


@pytest.mark.parametrize(
    ("exhaustion", "sentence"),
    [
        (Exhaustion(LIMIT, None, 0.31), "30% chance of passing $45.00 before Tuesday 2026-12-01."),
        (
            Exhaustion(LIMIT, None, 0.9, date(2026, 11, 25), date(2026, 11, 24), date(2026, 11, 27)),
            "90% chance of passing $45.00 before Tuesday 2026-12-01; runs out about Wednesday 2026-11-25 "
            "(2026-11-24 to 2026-11-27).",
        ),
        (
            Exhaustion(LIMIT, None, 0.9, RESET, RESET, RESET),
            "90% chance of passing $45.00 before Tuesday 2026-12-01; runs out about Tuesday 2026-12-01.",
        ),
        (
            Exhaustion(LIMIT, None, 0.5, None, date(2026, 11, 30)),
            "50% chance of passing $45.00 before Tuesday 2026-12-01; not before 2026-11-30.",
        ),
        (
            Exhaustion(replace(LIMIT, taken=46 * NANO), None, 1.0, TODAY, TODAY, TODAY),
            "used up; the limit is $45.00 until Tuesday 2026-12-01.",
        ),
        (
            Exhaustion(replace(LIMIT, pools=("shared",)), None, 0.31),
            "30% chance of passing $45.00, then pool:shared pays, before Tuesday 2026-12-01.",
        ),
        (Exhaustion(replace(LIMIT, resets=None), None, None, RESET), "runs out about Tuesday 2026-12-01."),
        (
            Exhaustion(replace(LIMIT, unit="calls", limit=20, taken=5), None, 0.01),
            "under 5% chance of passing 20 calls before ",
        ),
    ],
)
def test_a_quota_is_told_with_its_chance_and_its_day(exhaustion: Exhaustion, sentence: str) -> None:
    assert quota_sentence(exhaustion).startswith(f"agent:code per month: {sentence}")


def test_a_quota_of_which_nothing_is_known_has_no_sentence() -> None:
    assert quota_sentence(Exhaustion(replace(LIMIT, resets=None), None, None)) == ""


def test_the_host_that_fell_silent_first_is_named_and_the_others_are_counted() -> None:
    why = ", after calls day by day: if its log ends there by mistake, the forecast is too low."
    first, second = ("build7", date(2026, 11, 15)), ("build1", date(2026, 11, 16))
    assert silence_sentence([]) == ""
    assert silence_sentence([first]) == f"No calls from build7 since 2026-11-15{why}"
    assert silence_sentence([second, first]) == (
        f"No calls from build7 since 2026-11-15, nor from 1 other host for some days{why}"
    )


# Rows and notes


def test_the_parts_beyond_the_dearest_are_one_row_without_a_range() -> None:
    report = page(known(*daily(40, a="4", b="2", c="1")), ("agent",), top=1).sections["forecast"]
    assert cells(report, "agent", "expected", "spent") == [
        (None, 49 * NANO, None),
        ("a", 28 * NANO, None),
        ("other (2)", 21 * NANO, None),
    ]
    assert [(row.depth, row.subtotal, row.rest) for row in report.rows] == [
        (0, True, False),
        (1, False, False),
        (1, False, True),
    ]
    assert report.rows[2].cells.get("high_80") is None
    spent = page(known(*daily(40, a="4", b="2", c="1")), ("agent",), top=1, to_period_end=True).sections["forecast"]
    assert cells(spent, "spent") == [(140 * NANO,), (80 * NANO,), (60 * NANO,)]


@pytest.mark.parametrize(("chance", "likely"), [(None, False), (0.5, False), (0.51, True)])
def test_a_quota_is_likely_to_be_passed_when_that_is_likelier_than_not(chance: float | None, likely: bool) -> None:
    assert Exhaustion(LIMIT, None, chance).likely is likely
    assert not Exhaustion(replace(LIMIT, pools=("shared",)), None, chance).likely, "the pool pays then"


def test_the_ranges_of_a_row_are_those_of_its_sum() -> None:
    now = known(*daily(40, a="4"))
    running = forecast(to_end(TODAY, "month"), histories(now.usage, (), now), now)
    (row,) = forecast_page([running], (), [], now).sections["forecast"].rows
    names = ("low_95", "low_80", "median", "high_80", "high_95")
    quantiles = (0.025, 0.1, 0.5, 0.9, 0.975)
    assert [row.cells[name] for name in names] == [running.total.sum.quantile(each) for each in quantiles]


def test_the_ranges_of_a_day_are_those_of_that_day() -> None:
    now = known(*daily(40, a="4"))
    week = forecast(next_week(TODAY), histories(now.usage, (), now), now)
    days = forecast_page([week], (), [], now).sections["next_week_days"]
    names = ("low_95", "low_80", "median", "high_80", "high_95")
    assert len(days.rows) == 7
    assert cells(days, *names) == [
        tuple(day.range.quantile(each) for each in (0.025, 0.1, 0.5, 0.9, 0.975)) for day in week.days
    ]


def test_the_notes_say_what_the_forecast_rests_on() -> None:
    board = page(known(*daily(40, a="4")), stopped=3)
    assert board.notes == [
        "From 40 days, 40 with spend, the newest counting most; today does not count until it is over.",
        "On 3 of the last 28 days a limit or a freeze stopped calls: capped days understate demand.",
    ]
    basis = {"days": 40, "days_with_spend": 40, "from": "2026-10-12", "until": "2026-11-20", "days_lost": 0}
    assert (board.facts["basis"], board.facts["quality"], board.facts["stopped_days"]) == (basis, "ok", 3)


def test_days_without_spend_lately_are_noted() -> None:
    quiet = [record for record in daily(40, a="4") if record.instant.date() < TODAY - timedelta(3)]
    assert "Nothing was spent in the last 3 days." in page(known(*quiet)).notes
    assert "Nothing was spent in the last 3 days." not in page(known(*daily(40, a="4"))).notes


def test_what_is_estimated_of_the_last_days_is_noted() -> None:
    guessed = [record for record in daily(40, a="4") if record.instant.date() != TODAY - timedelta(2)]
    guessed += log_records("2026-11-19T12:00Z agent=a cost=4 cost_source=estimate id=guess")
    assert "Of the last 28 days' cost 4% is estimated, not known." in page(known(*guessed)).notes


def test_what_quotas_and_pools_are_about_is_noted_where_there_are_some() -> None:
    now = known(*daily(40, a="4"))
    found = [forecast(next_week(TODAY), histories(now.usage, (), now), now)]
    plain = Exhaustion(LIMIT, 9 * NANO, 0.31)
    pool = Exhaustion(replace(LIMIT, subject=Subject("pool", "shared")), 9 * NANO, 0.31)
    without, one, both = (forecast_page(found, (), quotas, now) for quotas in ([], [plain], [plain, pool]))
    assert "quotas" not in without.sections and not any("reset" in note for note in without.notes)
    assert any(note.startswith("What is expected of a quota is") for note in one.notes)
    assert not any("shared pool" in note for note in one.notes)
    assert any(note.startswith("What comes to a shared pool is") for note in both.notes)
    assert cells(both.sections["quotas"], "subject", "used", "limit", "resets") == [
        ("agent:code", 5 * NANO, 45 * NANO, "2026-12-01"),
        ("pool:shared", 5 * NANO, 45 * NANO, "2026-12-01"),
    ]


def test_the_last_grade_of_the_total_is_told_and_several_are_counted() -> None:
    now = known(*daily(40, a="4"))
    found = [forecast(next_week(TODAY), histories(now.usage, (), now), now)]
    week = date(2026, 11, 9)
    said = Said(
        "2026-11-08T00:00:00.000Z", "x", week, week + timedelta(6), 28 * NANO, 28 * NANO, (0, 30 * NANO), (0, 0)
    )
    total, part = Grade(said, 28 * NANO), Grade(replace(said, by={"agent": "a"}), 99 * NANO)
    sentence = "For 2026-11-09 to 2026-11-15 we said $28.00 ($0.00 to $30), it came to $28.00: inside."
    hits = "2 of 2 forecasts inside their range; 8 in 10 should be."
    assert forecast_page(found, (), [], now, grades=[total, part]).notes[-1] == sentence
    assert forecast_page(found, (), [], now, grades=[total, total]).notes[-1] == f"{sentence} {hits}"
    assert sentence not in forecast_page(found, (), [], now, grades=[part]).notes
