"""Anomalies in small: floors, commands that act, the days of a subject."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from callmeter.policy.quotas import Quota
from callmeter.reports.anomalies import Examined, anomaly_report
from callmeter.reports.anomaly_costs import Judged
from callmeter.reports.anomaly_days import Day, amounts, read_days, too_short
from callmeter.reports.anomaly_finding import Finding, Floors, Scope, breakdown, earlier, freeze
from callmeter.reports.anomaly_sessions import Dear, so_dear
from callmeter.reports.session_days import Part
from callmeter.reports.usage import Figures
from callmeter.words.money import NANO
from callmeter.words.period import EVER
from callmeter.words.subject import parse_subject
from log_text import log_records
from plain_usage import PlainUsage

SCOPE = Scope(datetime(2026, 11, 21, 12, tzinfo=UTC), where=("environment=prod",))


def quota(subject: str, dollars: int, **options: str) -> Quota:
    return Quota(parse_subject(subject), dollars * NANO, **options)  # type: ignore[arg-type]


def test_a_floor_is_a_hundredth_of_the_own_quota_of_a_month_else_of_the_totals_else_a_dollar() -> None:
    quotas = [
        quota("agent:*", 300),
        quota("agent:code", 200),
        quota("total", 5000),
        quota("agent:docs", 9, period="day"),
    ]
    floors = Floors(quotas=quotas)
    assert [floors.of("agent", name) for name in ("code", "docs")] == [2 * NANO, 3 * NANO]
    assert floors.of("purpose", "code") == 50 * NANO
    assert Floors(quotas=quotas[1:2]).of("agent", "docs") == NANO
    assert (floors.lowest("agent"), floors.lowest("model"), Floors().lowest("agent")) == (2 * NANO, 50 * NANO, NANO)
    assert Floors(7, quotas).of("agent", "code") == Floors(7, quotas).lowest("agent") == 7


@pytest.mark.parametrize(
    ("kind", "value", "command"),
    [
        ("agent", "code", "callmeter budget freeze agent:code --reason 'too dear'"),
        ("total", "", "callmeter budget freeze total --reason 'too dear'"),
        ("agent", "a b", "callmeter budget freeze 'agent:a b' --reason 'too dear'"),
        ("agent", "(none)", ""),
        ("agent", "a*", ""),
        ("agent", "a\x1b", ""),
        ("status", "error", ""),
    ],
)
def test_only_what_has_a_name_of_its_own_can_be_frozen(kind: str, value: str, command: str) -> None:
    assert freeze(kind, value, "too dear") == command


def test_a_command_that_shows_more_narrows_the_scope_to_those_days() -> None:
    shown = breakdown(SCOPE, ["hour", "model"], ["agent=a\x1b b"], "2026-11-19 14:00", "2026-11-20 02:00")
    assert shown == (
        "callmeter budget breakdown --by hour --by model --where environment=prod --where 'agent=a* b' "
        "--since 2026-11-19 --until 2026-11-21"
    )


def test_unknown_costs_count_at_their_worst_case_and_as_estimated() -> None:
    day = Day()
    day.add(Figures(calls=2, errors=1, nano=5, estimate_nano=70), "provider")
    day.add(Figures(calls=1, nano=1, estimate_nano=30), "unknown")
    assert day == Day(nano=36, estimated=30, calls=3, errors=1)


def test_days_are_read_with_their_unknown_costs_and_only_under_the_conditions() -> None:
    """
    2026-11-19T10:00Z agent=a cost=2
    2026-11-19T11:00Z agent=a cost=1 status=error
    2026-11-20T10:00Z agent=b cost=4
    """
    usage = PlainUsage(log_records(test_days_are_read_with_their_unknown_costs_and_only_under_the_conditions.__doc__))
    days = read_days(usage, ["agent"], EVER, ())["agent"]
    assert days["a"] == {date(2026, 11, 19): Day(3 * NANO, 0, 2, 1)}
    assert read_days(usage, ["agent"], EVER, ("origin=price",)) == {"agent": {}}
    assert list(read_days(usage, ["agent"], EVER, ("agent=b",))["agent"]) == ["b"]


def test_what_a_subject_spent_begins_with_its_first_line_and_ends_before_the_day_that_runs() -> None:
    days = {date(2026, 11, 18): Day(5), date(2026, 11, 20): Day(-3), date(2026, 11, 21): Day(9)}
    assert amounts(days, date(2026, 11, 21)) == (date(2026, 11, 18), [5, 0, 0])
    assert amounts({date(2026, 11, 21): Day(9)}, date(2026, 11, 21)) == (date(2026, 11, 21), [])


def test_two_weeks_with_five_days_of_spend_are_enough_to_judge_by() -> None:
    assert not too_short([1] * 5 + [0] * 9)
    assert too_short([1] * 13)
    assert too_short([1] * 4 + [0] * 20)


def test_before_the_calendar_begins_there_is_its_first_day() -> None:
    assert earlier(date(2026, 11, 21), 28) == date(2026, 10, 24)
    assert earlier(date(1, 1, 3), 28) == date(1, 1, 1)


def test_the_notes_say_what_was_judged_and_what_was_not() -> None:
    one = Finding("id", "spike", "agent:a", "2026-11-19", "2026-11-19", 1, 2, 9 * NANO, 8 * NANO, "9 x", "")
    judged = "Subjects judged by their days: 3; too young for it, without 14 days of history or 5 with spend: 2."
    scope = replace(SCOPE, floors=Floors(5 * NANO))
    full = anomaly_report([one, one], scope, Examined([one, one], Judged(3, 2), 7, {}))
    assert full.notes == [
        "One cause can have several findings, so their excesses do not add up.",
        judged,
        "Nothing below $5.00 is told.",
        "The prompts of 7 calls were too many to be compared; a shorter period needs fewer.",
    ]
    assert full.facts == {"findings": 2, "judged": 3, "too_short": 2, "unread_calls": 7, "floor": 5}
    plain = anomaly_report([one], SCOPE, Examined([one], Judged(3, 0), 0, {}))
    assert (plain.notes, "floor" in plain.facts) == ([], False)


def test_how_dear_sessions_were_is_said_from_the_least_to_the_most() -> None:
    at = SCOPE.now

    def dear(name: str, cost: int, largest: int) -> tuple[tuple[str, str], Dear]:
        return ("code", name), Dear(Part(at, at, cost * NANO, 1), largest * NANO, [at.date()])

    ends = "the largest of their agent in a day of the 28 days before, $2.00"
    # The dearer one came after a day of $2, and is fewer times that.
    assert so_dear([dear("a", 4, 1), dear("b", 7, 2)]) == f"2 sessions (b, a) cost 3.5 to 4.0 times {ends}"
    assert so_dear([dear("a", 4, 1), dear("b", 8, 2)]) == f"2 sessions (b, a) cost 4.0 times {ends}"
    assert so_dear([dear("a", 4, 0)]) == "session a cost more than any of its agent in a day of the 28 days before"
