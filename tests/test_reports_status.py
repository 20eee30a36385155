"""The status: spend so far, by agent, how fast it goes, what failed last. A test's docstring is its log."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from callmeter.reports.report import Board, Report
from callmeter.reports.status import Spans, status
from callmeter.words.period import zone_named
from log_text import at, log_records
from plain_usage import PlainUsage

NOW = "2026-11-21T15:04Z"  # a Saturday


@pytest.fixture
def stand(request: pytest.FixtureRequest) -> Callable[..., Board]:
    """`stand()`: the status of the log in the test's docstring."""
    records = log_records(request.function.__doc__)

    def at_time(now: str = NOW, zone: str = "UTC", as_of: str | None = None) -> Board:
        usage = PlainUsage(records, zone_named(zone), None if as_of is None else at(as_of))
        return status(usage, Spans(at(now), zone_named(zone)))

    return at_time


def table(report: Report, *names: str) -> list[tuple[object, ...]]:
    return [tuple(row.cells[name] for name in names) for row in report.rows]


def test_spend_is_of_today_this_week_and_this_month_in_the_zone(stand: Callable[..., Board]) -> None:
    """
    2026-11-21T00:30Z agent=a cost=1
    2026-11-20T23:30Z agent=a cost=2
    2026-11-16T00:00Z agent=a cost=4
    2026-11-15T23:30Z agent=a cost=8
    2026-11-01T00:00Z agent=a cost=16
    2026-10-31T23:30Z agent=a cost=32
    """
    dollar = 10**9
    assert table(stand().sections["spend"], "period", "cost", "calls") == [
        ("today", 1 * dollar, 1),
        ("this week", 7 * dollar, 3),
        ("this month", 31 * dollar, 5),
    ]
    assert table(stand(zone="Europe/Berlin").sections["spend"], "cost") == [
        (3 * dollar,),
        (15 * dollar,),
        (63 * dollar,),
    ]


def test_before_is_the_same_stretch_of_the_period_before(stand: Callable[..., Board]) -> None:
    """
    2026-11-21T10:00Z agent=a cost=3
    2026-11-20T15:03Z agent=a cost=2
    2026-11-20T15:05Z agent=a cost=100
    2026-11-14T15:03Z agent=a cost=5
    2026-11-14T15:05Z agent=a cost=100
    2026-10-21T15:03Z agent=a cost=7
    2026-10-21T15:05Z agent=a cost=100
    """
    spend = stand().sections["spend"]
    assert table(spend, "before")[0] == (2 * 10**9,)
    assert table(spend, "before")[1] == (5 * 10**9,)
    assert table(spend, "before")[2] == (7 * 10**9,)
    assert table(spend, "change")[0] == (Decimal("0.500"),)


def test_without_calls_before_there_is_nothing_to_compare_with(stand: Callable[..., Board]) -> None:
    """
    2026-11-21T10:00Z agent=a cost=3
    """
    assert table(stand().sections["spend"], "before", "change") == [(None, None)] * 3


def test_a_month_is_compared_with_no_more_than_a_shorter_one(stand: Callable[..., Board]) -> None:
    """
    2026-03-30T10:00Z agent=a cost=3
    2026-02-28T23:59Z agent=a cost=2
    2026-03-01T00:00Z agent=a cost=4
    """
    assert table(stand(now="2026-03-31T12:00Z").sections["spend"], "cost", "before")[2] == (7 * 10**9, 2 * 10**9)


def test_agents_come_by_what_they_cost_this_month(stand: Callable[..., Board]) -> None:
    """
    2026-11-21T10:00Z agent=code   cost=1
    2026-11-17T10:00Z agent=triage cost=2
    2026-11-02T10:00Z agent=docs   cost=4
    2026-11-02T10:00Z agent=local
    2026-10-02T10:00Z agent=gone   cost=9
    """
    agents = stand().sections["agents"]
    names = ("agent", "today", "this_week", "this_month", "unknown", "share", "calls")
    assert table(agents, *names) == [
        ("docs", 0, 0, 4 * 10**9, 0, Decimal("0.571"), 1),
        ("triage", 0, 2 * 10**9, 2 * 10**9, 0, Decimal("0.286"), 1),
        ("code", 10**9, 10**9, 10**9, 0, Decimal("0.143"), 1),
        ("local", 0, 0, None, 1, None, 1),
    ]
    assert agents.total is not None
    assert agents.total["this_month"] == 7 * 10**9


def test_agents_beyond_the_tenth_are_one_row() -> None:
    log = "\n".join(f"2026-11-21T10:00Z agent=a{number:02} cost={20 - number}" for number in range(13))
    board = status(PlainUsage(log_records(log)), Spans(at(NOW), zone_named("UTC")))
    rows = board.sections["agents"].rows
    assert [row.rest for row in rows] == [False] * 10 + [True]
    assert rows[-1].cells["agent"] == "other (3)"
    assert rows[-1].cells["this_month"] == (10 + 9 + 8) * 10**9
    assert sum(row.cells["share"] for row in rows) == 1  # type: ignore[misc]


def test_the_burn_rate_takes_complete_days_and_a_straight_line(stand: Callable[..., Board]) -> None:
    """
    2026-11-21T10:00Z agent=a cost=2.4
    2026-11-20T10:00Z agent=a cost=7
    2026-11-14T00:00Z agent=a cost=7
    2026-11-13T23:59Z agent=a cost=99
    2026-10-31T10:00Z agent=a cost=1
    """
    rate = stand(now="2026-11-21T12:00Z").sections["rate"]
    assert table(rate, "basis", "spent", "rate", "per") == [
        ("last 24 hours", 2_400_000_000, 100_000_000, "hour"),
        ("last 7 complete days", 14 * 10**9, 2 * 10**9, "day"),
        ("this month so far", 115_400_000_000, pytest.approx(115.4e9 * 30 / 20.5, abs=10), "month"),
    ]
    assert rate.notes == ["The month's figure is a straight line: 20.5 of 30 days are over."]


def test_days_before_the_first_call_do_not_dilute_the_rate(stand: Callable[..., Board]) -> None:
    """
    2026-11-20T10:00Z agent=a cost=3
    2026-11-19T10:00Z agent=a cost=5
    """
    rate = stand(now="2026-11-21T10:00Z").sections["rate"]
    # Of the days from the first call to the month's end, two are over.
    assert table(rate, "basis", "rate")[1:] == [
        ("last 2 complete days", 4 * 10**9),
        ("this month so far", pytest.approx(8e9 * (11 + 14 / 24) / 2, abs=10)),
    ]
    assert rate.notes == ["The month's figure is a straight line: 2.0 of 11.6 days are over since the log began."]


def test_a_log_that_began_today_has_no_complete_day(stand: Callable[..., Board]) -> None:
    """
    2026-11-21T10:00Z agent=a cost=3
    """
    rate = stand(now="2026-11-21T12:00Z").sections["rate"]
    assert [basis for (basis,) in table(rate, "basis")] == ["last 24 hours", "this month so far"]
    # Two hours say little of a day, so it is taken for a whole one.
    assert table(rate, "rate")[1] == (pytest.approx(3e9 * 10.5, abs=10),)


def test_the_newest_failures_are_shown_newest_first(stand: Callable[..., Board]) -> None:
    """
    2026-11-21T10:01Z agent=a model=m1 status=error error=rate_limited cost=0
    2026-11-21T10:07Z agent=b model=m2 status=timeout cost=0
    2026-11-21T10:03Z agent=c status=truncated cost=0
    2026-11-21T10:04Z agent=d status=unknown cost=0.1 cost_source=estimate
    2026-11-21T10:05Z agent=e status=cancelled cost=0
    2026-11-21T10:06Z agent=f status=refused
    2026-11-21T10:08Z agent=g cost=0
    """
    errors = stand(zone="Europe/Berlin").sections["errors"]
    assert table(errors, "time", "agent", "model", "status", "error") == [
        ("2026-11-21T11:07:00.000+01:00", "b", "m2", "timeout", None),
        ("2026-11-21T11:04:00.000+01:00", "d", "m", "unknown", None),
        ("2026-11-21T11:03:00.000+01:00", "c", "m", "truncated", None),
        ("2026-11-21T11:01:00.000+01:00", "a", "m1", "error", "rate_limited"),
    ]


def test_of_many_failures_five_are_shown() -> None:
    log = "\n".join(
        f"2026-11-21T{minute // 60:02}:{minute % 60:02}Z agent=a status=error cost=0" for minute in range(200)
    )
    errors = status(PlainUsage(log_records(log)), Spans(at(NOW), zone_named("UTC"))).sections["errors"]
    assert [str(row.cells["time"])[11:16] for row in errors.rows] == ["03:19", "03:18", "03:17", "03:16", "03:15"]


def test_unknown_costs_recovered_and_refused_calls_are_told(stand: Callable[..., Board]) -> None:
    """
    2026-11-21T10:00Z id=a agent=a
    2026-11-21T10:00Z id=b agent=a
    2026-11-21T10:00Z id=c agent=a corrects=b cost=1 cost_source=reconciled
    2026-11-21T10:00Z id=d agent=a status=unknown cost=0.1 cost_source=estimate
    2026-11-21T10:00Z id=e agent=a status=refused
    2026-10-21T10:00Z id=f agent=a
    """
    board = stand()
    assert board.notes == [
        "This month the cost of 1 call is unknown and in no sum.",
        "This month 1 call had to be recovered: the process died, or no outcome arrived.",
        "Refused this month, before anything was sent: 1 call.",
    ]
    assert {name: board.facts[name] for name in ("unknown_calls", "recovered_calls", "refused_calls")} == {
        "unknown_calls": 1,
        "recovered_calls": 1,
        "refused_calls": 1,
    }


@pytest.mark.parametrize("day", ["2026-11-19", "2026-11-21"])
def test_an_unknown_cost_is_no_reason_for_advice(day: str) -> None:
    board = status(PlainUsage(log_records(f"{day}T10:00Z agent=a")), Spans(at(NOW), zone_named("UTC")))
    assert str(board.sections["advice"].rows[1].cells["because"]).endswith(", in which nobody knows what calls cost")


def test_as_of_leaves_out_what_came_later(stand: Callable[..., Board]) -> None:
    """
    2026-11-21T10:00Z agent=a cost=1
    2026-11-21T12:00Z agent=a cost=2 status=error
    """
    board = stand(now="2026-11-21T11:00Z", as_of="2026-11-21T11:00Z")
    assert table(board.sections["spend"], "cost")[0] == (10**9,)
    assert not board.sections["errors"].rows


def test_an_empty_log_is_a_status_too() -> None:
    board = status(PlainUsage([]), Spans(at(NOW), zone_named("UTC")))
    assert table(board.sections["spend"], "cost", "calls") == [(0, 0)] * 3
    assert not board.sections["agents"].rows
    assert board.notes == []


@pytest.mark.parametrize("now", ["2026-03-29T00:30Z", "2026-10-25T01:30Z", "2026-01-01T00:00Z", "2024-02-29T23:59Z"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"])
def test_every_moment_has_a_status(now: str, zone: str) -> None:
    record = log_records(f"{now} agent=a cost=1")
    board = status(PlainUsage(record, zone_named(zone)), Spans(at(now), zone_named(zone)))
    assert table(board.sections["spend"], "cost") == [(10**9,)] * 3
    assert table(board.sections["rate"], "spent")[-1] == (10**9,)
