"""What a breakdown says beyond sums: changes, percentiles, running totals, charts. A test's docstring is its log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callmeter.policy.document import parse_policy
from callmeter.policy.quotas import Quota
from callmeter.reports.breakdown import Question, breakdown
from callmeter.reports.report import Report
from callmeter.words.period import EVER, Period, bucket, zone_named
from callmeter.words.subject import parse_subject
from log_text import at, log_records
from plain_usage import PlainUsage

NOW = at("2026-11-21T15:04Z")
CENT = 10_000_000


@pytest.fixture
def ask(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """`ask(by=["agent"])`: the breakdown of the log in the test's docstring."""
    records = log_records(request.function.__doc__)

    def answer(*, zone: tzinfo = UTC, **question: Any) -> Report:
        return breakdown(PlainUsage(records, zone), Question(**{"now": NOW, **question}))

    return answer


def span(start: str, end: str) -> Period:
    return Period(at(start), at(end), "a period")


def table(report: Report, *names: str) -> list[tuple[object, ...]]:
    return [tuple(row.cells[name] for name in names) for row in report.rows]


def names_of(report: Report) -> list[str]:
    return [column.name for column in report.columns]


CHANGES = ("cost", "cost_before", "difference", "change", "calls", "calls_before", "news")
THIS, LAST = span("2026-11-16T00:00Z", "2026-11-23T00:00Z"), span("2026-11-09T00:00Z", "2026-11-14T15:04Z")


def test_each_group_has_what_it_was_before_and_new_and_vanished_ones_are_told(ask: Callable[..., Report]) -> None:
    """
    2026-11-10T09:00Z agent=code  cost=0.10
    2026-11-14T15:03Z agent=code  cost=0.10
    2026-11-14T15:04Z agent=code  cost=100
    2026-11-16T00:00Z agent=code  cost=0.30
    2026-11-10T09:00Z agent=old   cost=0.05
    2026-11-17T09:00Z agent=fresh cost=0.02
    """
    report = ask(period=THIS, compare=LAST)
    assert table(report, "agent", *CHANGES) == [
        ("code", 30 * CENT, 20 * CENT, 10 * CENT, Decimal("0.500"), 1, 2, None),
        ("fresh", 2 * CENT, 0, 2 * CENT, None, 1, 0, "new"),
        ("old", 0, 5 * CENT, -5 * CENT, Decimal(-1), 0, 1, "gone"),
    ]
    assert report.total is not None
    assert [report.total[name] for name in CHANGES[:4]] == [32 * CENT, 25 * CENT, 7 * CENT, Decimal("0.280")]
    assert "Compared with a period." in report.notes
    assert report.facts["compared"] == {
        "label": "a period",
        "start": "2026-11-09T00:00:00.000Z",
        "end": "2026-11-14T15:04:00.000Z",
    }


def test_an_unknown_cost_makes_no_difference(ask: Callable[..., Report]) -> None:
    """
    2026-11-10T09:00Z agent=code cost=1
    2026-11-17T09:00Z agent=code
    2026-11-10T09:00Z agent=docs
    2026-11-17T09:00Z agent=docs cost=1
    """
    assert table(ask(period=THIS, compare=LAST), "agent", *CHANGES[:4]) == [
        ("docs", 100 * CENT, None, None, None),
        ("code", None, 100 * CENT, None, None),
    ]


def test_rows_sort_by_the_size_of_their_change(ask: Callable[..., Report]) -> None:
    """
    2026-11-10T09:00Z agent=a cost=9
    2026-11-17T09:00Z agent=a cost=8
    2026-11-10T09:00Z agent=b cost=5
    2026-11-17T09:00Z agent=c cost=2
    """
    assert table(ask(period=THIS, compare=LAST, sort="change"), "agent") == [("b",), ("c",), ("a",)]
    report = ask(period=THIS, compare=LAST, sort="change", top=1)
    assert table(report, "agent", "cost", "cost_before") == [
        ("b", 0, 500 * CENT),
        ("other (2)", 1000 * CENT, 900 * CENT),
    ]


def test_a_tree_is_compared_on_each_level(ask: Callable[..., Report]) -> None:
    """
    2026-11-10T09:00Z agent=code purpose=triage cost=1
    2026-11-10T09:00Z agent=code purpose=old    cost=2
    2026-11-17T09:00Z agent=code purpose=triage cost=4
    2026-11-17T09:00Z agent=code purpose=fresh  cost=1
    """
    report = ask(by=["agent", "purpose"], period=THIS, compare=LAST)
    assert table(report, "purpose", "difference", "news") == [
        (None, 200 * CENT, None),
        ("triage", 300 * CENT, None),
        ("fresh", 100 * CENT, "new"),
        ("old", -200 * CENT, "gone"),
    ]


_CALLS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(10, 20), st.integers(0, 10**6)), max_size=20
)


@given(_CALLS, st.integers(0, 2))
def test_differences_add_up_to_that_of_the_total(calls: list[tuple[str, str, int, int]], top: int) -> None:
    lines = [
        f"2026-11-{day}T09:00Z agent={agent} purpose={why} cost={Decimal(cost).scaleb(-9):f}"
        for agent, why, day, cost in calls
    ]
    usage = PlainUsage(log_records("\n".join(lines)))
    report = breakdown(usage, Question(by=["agent", "purpose"], period=THIS, compare=LAST, top=top))
    assert report.total is not None
    for name in ("cost", "cost_before", "difference", "calls_before"):
        for depth in (0, 1):
            cells = [row.cells[name] for row in report.rows if row.depth == depth]
            if depth == 0 or not top:
                # Before the log began nothing is known, and then there is no difference.
                assert sum(cell for cell in cells if isinstance(cell, int)) == (report.total[name] or 0)


def test_percentiles_are_by_nearest_rank_over_calls_with_a_known_cost(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z cost=0.01 ms=100
    2026-11-20T09:00Z cost=0.02 ms=200
    2026-11-20T09:00Z cost=0.03 ms=300
    2026-11-20T09:00Z cost=0.04 ms=400
    2026-11-20T09:00Z           ms=900 status=error
    """
    report = ask(percentiles=True)
    (row,) = report.rows
    costs = [row.cells[f"cost_p{rank}"] for rank in (50, 90, 95, 99)]
    latencies = [row.cells[f"latency_p{rank}_ms"] for rank in (50, 90, 95, 99)]
    assert (costs, latencies) == ([2 * CENT, 4 * CENT, 4 * CENT, 4 * CENT], [200, 400, 400, 400])
    assert len(names_of(report)) == len(set(names_of(report)))


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=60))
def test_a_percentile_is_the_smallest_cost_that_so_many_stay_within(costs: list[int]) -> None:
    lines = [f"2026-11-20T09:00Z agent=a cost={Decimal(cost).scaleb(-9):f}" for cost in costs]
    report = breakdown(PlainUsage(log_records("\n".join(lines))), Question(percentiles=True))
    for rank in (50, 90, 95, 99):
        found = report.rows[0].cells[f"cost_p{rank}"]
        assert found == min(cost for cost in costs if 100 * sum(each <= cost for each in costs) >= rank * len(costs))


def test_the_rest_beyond_top_has_percentiles_of_its_own(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=a cost=9    ms=1
    2026-11-20T09:00Z agent=b cost=0.01 ms=10
    2026-11-20T09:00Z agent=c cost=0.05 ms=50
    """
    report = ask(top=1, percentiles=True)
    assert table(report, "cost_p50", "latency_p99_ms") == [(900 * CENT, 1), (CENT, 50)]


# Time


def days(report: Report) -> list[tuple[object, ...]]:
    return table(report, "day", "cost", "calls")


def test_days_without_calls_are_rows_between_the_first_call_and_now(ask: Callable[..., Report]) -> None:
    """
    2026-11-18T09:00Z cost=1
    2026-11-20T09:00Z cost=2
    """
    month = Period(*bucket(NOW, "month", UTC), "this month")
    expected = [("2026-11-18", 100 * CENT, 1), ("2026-11-19", 0, 0), ("2026-11-20", 200 * CENT, 1)]
    assert days(ask(by=["day"])) == expected, "all time ends with its last call"
    assert days(ask(by=["day"], period=month)) == [*expected, ("2026-11-21", 0, 0)]
    bounded = span("2026-11-17T00:00Z", "2026-11-20T00:00Z")
    assert days(ask(by=["day"], period=bounded)) == expected[:2], "the log begins on the 18th"
    assert days(ask(by=["day"], period=span("2026-11-19T00:00Z", "2026-11-21T00:00Z"))) == expected[1:]


def test_days_that_do_not_match_are_rows_from_the_logs_beginning_on(ask: Callable[..., Report]) -> None:
    """
    2026-11-18T09:00Z agent=a cost=1
    2026-11-20T09:00Z agent=b cost=2
    """
    report = ask(by=["day"], where=["agent=b"], period=span("2026-11-01T00:00Z", "2026-12-01T00:00Z"))
    assert [day for day, _, _ in days(report)] == ["2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21"]


def test_an_empty_period_has_no_rows(ask: Callable[..., Report]) -> None:
    """
    2026-11-18T09:00Z cost=1
    """
    assert ask(by=["day"], period=span("2026-11-19T00:00Z", "2026-11-20T00:00Z")).rows == []


def test_hours_weeks_and_months_are_filled_in_too(ask: Callable[..., Report]) -> None:
    """
    2026-10-25T00:30Z cost=1
    2026-10-25T02:30Z cost=1
    """
    berlin = zone_named("Europe/Berlin")
    labels = [row.cells["hour"] for row in ask(by=["hour"], zone=berlin).rows]
    assert labels == ["2026-10-25 02:00+02:00", "2026-10-25 02:00+01:00", "2026-10-25 03:00"]
    year = span("2026-10-01T00:00Z", "2027-01-01T00:00Z")
    assert [row.cells["month"] for row in ask(by=["month"], period=year).rows] == ["2026-10", "2026-11"]
    assert len(ask(by=["week"], period=year).rows) == 5


def test_only_an_outermost_unit_of_time_is_filled_in_and_not_with_top(ask: Callable[..., Report]) -> None:
    """
    2026-11-18T09:00Z agent=a cost=1
    2026-11-20T09:00Z agent=a cost=2
    """
    assert len(ask(by=["agent", "day"]).rows) == 3
    assert len(ask(by=["day", "agent"]).rows) == 5
    assert [day for day, _, _ in days(ask(by=["day"], top=1))] == ["2026-11-20", "other (1)"]


def test_lines_years_apart_do_not_make_a_million_rows(ask: Callable[..., Report]) -> None:
    """
    2001-01-01T00:00Z cost=1
    2026-11-20T09:00Z cost=2
    """
    assert len(ask(by=["hour"]).rows) == 2


POLICY = b"""{"quotas": [
    {"subject": "total", "limit": 10}, {"subject": "agent:*", "limit": 4}, {"subject": "agent:code", "limit": 8},
    {"subject": "total", "limit": 1, "period": "day"}, {"subject": "model:x/*", "limit": 2}
]}"""
MONTH = span("2026-11-01T00:00Z", "2026-12-01T00:00Z")


def test_running_totals_end_with_the_total(ask: Callable[..., Report]) -> None:
    """
    2026-11-18T09:00Z agent=a cost=1
    2026-11-18T09:00Z agent=b cost=2
    2026-11-19T09:00Z agent=b
    2026-11-20T09:00Z agent=a cost=4
    """
    report = ask(by=["day"], cumulative=True)
    assert table(report, "cumulative", "quota_share") == [(300 * CENT, None), (300 * CENT, None), (700 * CENT, None)]
    tree = ask(by=["day", "agent"], cumulative=True)
    assert [row.cells["cumulative"] for row in tree.rows if row.depth] == [None] * 4


@pytest.mark.parametrize(
    ("where", "period", "share"),
    [
        ([], MONTH, "0.100"),
        ([], span("2026-11-01T00:00Z", "2026-11-19T00:00Z"), "0.100"),
        (["agent=code"], MONTH, "0.250"),
        (["agent=other"], MONTH, None),
        (["agent=c*"], MONTH, None),
        (["model=x/*"], MONTH, "0.500"),
        (["agent=code", "model=x/y"], MONTH, None),
        (["purpose=triage"], MONTH, None),
        ([], EVER, None),
        ([], span("2026-11-02T00:00Z", "2026-12-01T00:00Z"), None),
        ([], span("2026-11-01T00:00Z", "2027-01-01T00:00Z"), None),
    ],
)
def test_a_running_total_of_a_month_is_compared_with_the_quota_on_just_these_calls(
    where: list[str], period: Period, share: str | None, ask: Callable[..., Report]
) -> None:
    """
    2026-11-18T09:00Z agent=code model=x/y purpose=triage cost=1
    """
    quotas = parse_policy(POLICY, "budget.json").quotas
    report = ask(by=["day"], where=where, period=period, cumulative=True, quotas=quotas)
    shares = [row.cells["quota_share"] for row in report.rows][:1]
    assert shares == ([] if not report.rows else [None if share is None else Decimal(share)])
    assert ("quota" in report.facts) is (share is not None)


def test_the_quota_of_each_agent_applies_to_one_agent(ask: Callable[..., Report]) -> None:
    """
    2026-11-18T09:00Z agent=docs cost=1
    """
    quotas = parse_policy(POLICY, "budget.json").quotas
    report = ask(by=["day"], where=["agent=docs"], period=MONTH, cumulative=True, quotas=quotas)
    assert report.rows[0].cells["quota_share"] == Decimal("0.25")


def test_a_quota_of_tokens_is_no_measure_of_money(ask: Callable[..., Report]) -> None:
    """
    2026-11-18T09:00Z agent=docs cost=1 in=10 out=1
    """
    quotas = [Quota(parse_subject("total"), 100, unit="tokens"), Quota(parse_subject("total"), 4 * 10**9)]
    report = ask(by=["day"], period=MONTH, cumulative=True, quotas=quotas)
    assert report.rows[0].cells["quota_share"] == Decimal("0.25")


def test_a_chart_shows_the_days_of_each_group(ask: Callable[..., Report]) -> None:
    """
    2026-11-18T09:00Z agent=a cost=1
    2026-11-19T09:00Z agent=b cost=8
    2026-11-20T09:00Z agent=a cost=4
    2026-11-20T09:00Z agent=b cost=0.001
    """
    report = ask(chart=True, period=span("2026-11-18T00:00Z", "2026-11-22T00:00Z"))
    assert table(report, "agent", "chart") == [("b", "0810"), ("a", "2080")]
    assert report.total is not None and report.total["chart"] == "1850"
    assert report.columns[-1].title == "by day"


def test_the_charts_of_a_tree_and_of_its_rest_are_those_of_their_groups(ask: Callable[..., Report]) -> None:
    """
    2026-11-18T09:00Z agent=a purpose=x cost=1
    2026-11-20T09:00Z agent=a purpose=y cost=2
    2026-11-18T09:00Z agent=b purpose=y cost=0.4
    2026-11-20T09:00Z agent=c purpose=y cost=0.8
    """
    report = ask(by=["agent", "purpose"], chart=True, top=1)
    assert table(report, "chart") == [("408",), ("008",), ("800",), ("408",)]


def test_a_day_is_charted_by_hour(ask: Callable[..., Report]) -> None:
    """
    2026-11-18T09:00Z cost=1
    2026-11-18T11:30Z cost=2
    """
    whole, morning = span("2026-11-18T00:00Z", "2026-11-19T00:00Z"), span("2026-11-18T06:00Z", "2026-11-18T13:00Z")
    report = ask(chart=True, period=whole)
    assert (report.columns[-1].title, report.rows[0].cells["chart"]) == ("by hour", "408000000000000")
    assert ask(chart=True, period=morning).rows[0].cells["chart"] == "4080"


def test_a_long_period_is_charted_by_week_or_month(ask: Callable[..., Report]) -> None:
    """
    2026-01-05T09:00Z cost=1
    2026-11-20T09:00Z cost=2
    """
    report = ask(chart=True)
    assert (report.columns[-1].title, len(str(report.rows[0].cells["chart"]))) == ("by month", 11)
    recent = ask(chart=True, period=span("2026-10-01T00:00Z", "2026-12-01T00:00Z"))
    assert (recent.columns[-1].title, recent.rows[0].cells["chart"]) == ("by week", "00000008")


def test_an_empty_log_bears_every_question() -> None:
    usage = PlainUsage([])
    for question in (
        Question(compare=LAST, period=THIS, now=NOW),
        Question(percentiles=True),
        Question(by=["day"], cumulative=True, now=NOW),
        Question(chart=True, now=NOW),
    ):
        assert breakdown(usage, question).rows == []


DAY = st.integers(0, 40)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40 * 24 - 1), st.sampled_from("ab"), st.integers(1, 99)), max_size=30),
    st.tuples(DAY, DAY).filter(lambda ends: ends[0] < ends[1]),
    st.tuples(DAY, DAY).filter(lambda ends: ends[0] < ends[1]),
    st.sampled_from([["day"], ["day", "agent"], ["agent", "day"], ["week"], ["agent", "hour"], ["month"]]),
    st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Auckland"]),
    st.sampled_from([0, 2]),
)
def test_unit_by_unit_nothing_is_lost_of_either_period(
    calls: list[tuple[int, str, int]],
    here: tuple[int, int],
    there: tuple[int, int],
    by: list[str],
    zone: str,
    top: int,
) -> None:
    first = at("2026-09-20T00:00Z")
    lines = [f"{first + timedelta(hours=hour):%Y-%m-%dT%H:%M:%SZ} agent={who} cost={cost}" for hour, who, cost in calls]
    usage = PlainUsage(log_records("\n".join(lines)), zone_named(zone))
    period, compare = (Period(first + timedelta(a), first + timedelta(b), "") for a, b in (here, there))
    report = breakdown(usage, Question(by=by, period=period, compare=compare, now=NOW, top=top))
    inner = [row for row in report.rows if row.depth == len(by) - 1 or row.rest]
    assert report.total is not None
    for name in ("cost", "cost_before", "calls", "calls_before"):
        assert sum(row.cells[name] or 0 for row in inner) == (report.total[name] or 0)  # type: ignore[misc]
    for row in inner:
        known = row.cells["cost_before"] is not None
        assert row.cells["difference"] == (row.cells["cost"] - row.cells["cost_before"] if known else None)  # type: ignore[operator]
