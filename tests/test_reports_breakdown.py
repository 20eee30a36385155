"""The breakdown adds up, exactly, and says what it does not know. A test's docstring is its log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callmeter.cli.breakdown_options import Sort
from callmeter.reports import breakdown as breakdown_module
from callmeter.reports import breakdown_tree
from callmeter.reports.breakdown import Question, breakdown
from callmeter.reports.report import Report, Row, with_reading
from callmeter.reports.sums import apportion
from callmeter.words.errors import UsageError
from callmeter.words.period import Period, zone_named
from callmeter.words.record import UsageRecord
from log_text import at, log_records
from plain_usage import PlainUsage


@pytest.fixture
def ask(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """`ask(by=["agent"])`: the breakdown of the log in the test's docstring."""
    records = log_records(request.function.__doc__)

    def answer(*, zone: tzinfo = UTC, as_of: datetime | None = None, **question: Any) -> Report:
        usage = PlainUsage(records, zone, as_of, question.get("aliases"))
        return breakdown(usage, Question(**question))

    return answer


def table(report: Report, *names: str) -> list[tuple[object, ...]]:
    return [tuple(row.cells[name] for name in names) for row in report.rows]


def test_calls_are_summed_for_each_agent_the_dearest_first(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=code   cost=0.0096 in=1200 out=400 cached=100 ms=2000
    2026-11-20T09:01Z agent=triage cost=0.5    in=10   out=20             ms=100
    2026-11-20T09:02Z agent=code   cost=0.0004 in=800  out=100            ms=4000
    2026-11-20T09:03Z agent=code   cost=0      in=0    out=0    status=error error=rate_limited
    """
    report = ask(by=["agent"])
    assert report.title == "Cost by agent"
    names = ("agent", "cost", "calls", "errors", "tokens_in", "tokens_out", "tokens_cached")
    assert table(report, *names) == [
        ("triage", 500_000_000, 1, 0, 10, 20, 0),
        ("code", 10_000_000, 3, 1, 2000, 500, 100),
    ]
    assert report.total is not None
    assert report.total["cost"] == 510_000_000
    assert table(report, "latency_mean_ms", "latency_p95_ms") == [(100, 100), (3000, 4000)]
    assert table(report, "cost_per_1k_tokens")[1] == (4_000_000,)  # $0.01 for 2,500 tokens


def test_several_groupings_make_a_tree_in_their_order(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=code purpose=triage cost=1
    2026-11-20T09:00Z agent=code purpose=review cost=2
    2026-11-20T09:00Z agent=docs purpose=review cost=4
    """
    assert [
        (row.depth, row.subtotal, row.cells["agent"], row.cells["purpose"]) for row in ask(by=["agent", "purpose"]).rows
    ] == [
        (0, True, "docs", None),
        (1, False, "docs", "review"),
        (0, True, "code", None),
        (1, False, "code", "review"),
        (1, False, "code", "triage"),
    ]
    assert table(ask(by=["purpose", "agent"]), "purpose", "agent", "cost") == [
        ("review", None, 6_000_000_000),
        ("review", "docs", 4_000_000_000),
        ("review", "code", 2_000_000_000),
        ("triage", None, 1_000_000_000),
        ("triage", "code", 1_000_000_000),
    ]


def test_an_unknown_cost_is_no_zero(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=local in=100 out=10
    2026-11-20T09:00Z agent=local in=100 out=10
    2026-11-20T09:00Z agent=code  in=100 out=10
    2026-11-20T09:00Z agent=code  in=900 out=100 cost=0.02
    """
    report = ask(by=["agent"])
    assert table(report, "agent", "cost", "unknown", "share") == [
        ("code", 20_000_000, 1, Decimal("1.000")),
        ("local", None, 2, None),
    ]
    assert table(report, "cost_per_1k_tokens") == [(20_000_000,), (None,)], "tokens of unknown cost make none cheaper"
    assert "The cost of 3 calls is unknown and in no sum." in report.notes
    assert report.facts["cost_sources"]["unknown"] == {"calls": 3, "cost": None}  # type: ignore[index]


def test_calls_that_cost_nothing_have_no_shares_and_free_ones_among_others_none_of_it(
    ask: Callable[..., Report],
) -> None:
    """
    2026-11-20T09:00Z agent=a purpose=x cost=0
    2026-11-20T09:00Z agent=a purpose=y cost=0
    2026-11-20T09:00Z agent=b purpose=x cost=2
    """
    assert table(ask(by=["agent"], where=["agent=a"]), "share") == [(None,)]
    assert table(ask(by=["agent", "purpose"]), "share") == [(1,), (1,), (0,), (0,), (0,)]


def test_notes_say_what_is_in_no_sum_and_what_was_corrected(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=a cost=1
    2026-11-20T09:01Z agent=a        in=1 out=1
    2026-11-20T09:02Z agent=a cost=0 status=refused
    2026-11-20T09:03Z agent=a cost=2 in=1 out=1 id=c
    2026-11-20T09:03Z agent=a cost=1 corrects=c cost_source=reconciled
    """
    assert ask().notes == [
        "Of the cost: $1.00 billed by the provider (1 call), $3.00 reconciled (1 call).",
        "The cost of 1 call is unknown and in no sum.",
        "1 call refused before anything was sent: not among the calls.",
        "1 later correction included.",
        "1 call without token counts.",
    ]


def test_the_title_says_which_calls_are_meant(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=a cost=1
    """
    where = ["Agent=a", "work-item=SUP-*", "agent=b"]
    assert ask(by=["day"], where=where).title == "Cost by day, only agent=a or b, work_item=SUP-*"


@pytest.mark.parametrize(
    ("by", "since", "until", "said"),
    [
        ("day", "2026-11-18T09:30Z", None, ["2026-11-18 counts from 09:30 on."]),
        ("day", "2026-11-18T00:00Z", None, []),
        ("day", "2026-11-18T00:00Z", "2026-11-19T12:00Z", ["2026-11-19 counts up to 12:00."]),
        ("week", "2026-11-18T00:00Z", None, ["The week from 2026-11-16 counts from 2026-11-18 on."]),
        ("month", None, "2026-11-20T06:00Z", ["2026-11 counts up to 2026-11-20 06:00."]),
        ("day", "2026-11-17T09:30Z", None, []),  # no row is that day's
        ("agent", "2026-11-18T09:30Z", None, []),
        ("day", "2026-11-18T00:00Z", "2026-11-22T00:00Z", []),  # today is not over, which needs no word
    ],
)
def test_units_of_time_that_the_period_cuts_are_named(
    by: str, since: str | None, until: str | None, said: list[str], ask: Callable[..., Report]
) -> None:
    """
    2026-11-18T10:00Z agent=a cost=1
    2026-11-19T11:00Z agent=a cost=1
    2026-11-20T05:00Z agent=a cost=1
    """
    period = Period(at(since) if since else None, at(until) if until else None, "")
    notes = ask(by=[by], period=period, now=at("2026-11-21T15:00Z")).notes
    assert [note for note in notes if " counts " in note] == said


def test_a_call_that_is_still_to_come_is_told(ask: Callable[..., Report]) -> None:
    """
    2026-11-21T15:30Z agent=a cost=1
    2031-01-01T00:00Z agent=b cost=1
    """
    now = at("2026-11-21T15:00Z")
    said = "The latest call is dated 2031-01-01 00:00, still to come: a clock is wrong."
    assert said in ask(now=now).notes
    assert not [note for note in ask(now=now, where=["agent=a"]).notes if "still to come" in note]
    assert table(ask(now=now, by=["day"], chart=True), "day", "chart") == [("2026-11-21", "8"), ("2031-01-01", "0")]
    assert not [note for note in ask(now=now, as_of=now).notes if "still to come" in note]


def test_a_tag_that_no_call_has_is_named(ask: Callable[..., Report]) -> None:
    """
    2026-11-18T10:00Z agent=a cost=3
    2026-11-18T10:00Z agent=b cost=1 team=x
    """
    said = "None of these calls has the tag taem."
    for by in (["taem"], ["taem", "agent"], ["agent", "taem"]):
        assert said in ask(by=by).notes and said in ask(by=by, top=2).notes
    for by in (["team"], ["agent", "team"], ["pool"]):
        assert not [note for note in (*ask(by=by).notes, *ask(by=by, top=1).notes) if "has the tag" in note]
    assert not [note for note in ask(by=["taem"], where=["agent=c"]).notes if "has the tag" in note]


def test_a_log_without_one_known_cost_has_no_total_and_no_shares(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=local in=100 out=10
    """
    report = ask(by=["agent"])
    assert report.total is not None
    assert (report.total["cost"], report.total["share"], report.total["unknown"]) == (None, None, 1)


def test_refused_calls_are_no_calls(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=code cost=0.01
    2026-11-20T09:00Z agent=code status=refused
    2026-11-20T09:00Z agent=loop status=refused
    """
    report = ask(by=["agent"])
    assert table(report, "agent", "calls", "refused", "errors", "unknown") == [
        ("code", 1, 1, 0, 0),
        ("loop", 0, 1, 0, 0),
    ]
    assert "2 calls refused before anything was sent: not among the calls." in report.notes


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_a_correction_changes_the_cost_and_is_no_call_wherever_it_stands(order: tuple[int, ...]) -> None:
    records = log_records("""
    2026-11-20T09:00Z id=a agent=code cost=0.010 cost_source=estimate in=100 out=10 status=unknown
    2026-11-20T09:00Z id=b agent=code in=100 out=10
    2026-11-20T09:00Z id=c agent=code corrects=a cost=-0.004 cost_source=reconciled recorded_at=2026-11-20T10:00:00Z
    2026-11-20T09:00Z id=d agent=code corrects=b cost=0.001 cost_source=reconciled recorded_at=2026-11-20T10:00:00Z
    """)
    report = breakdown(PlainUsage(records[place] for place in order), Question(by=["agent"]))
    assert table(report, "cost", "calls", "unknown", "cost_per_1k_tokens") == [(7_000_000, 2, 0, 31_818_182)]
    sources = report.facts["cost_sources"]
    assert isinstance(sources, dict)
    assert sources["reconciled"] == {"calls": 2, "cost": Decimal("0.007")}
    assert sources["estimate"] == {"calls": 0, "cost": Decimal(0)}
    assert sources["unknown"]["calls"] == 0
    assert "Of the cost: $0.00700 reconciled (2 calls)." in report.notes


def test_where_the_money_comes_from_stands_under_the_table(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=code cost=0.50 cost_source=provider
    2026-11-20T09:00Z agent=code cost=0.25 cost_source=price
    2026-11-20T09:00Z agent=code cost=0.25 cost_source=price
    2026-11-20T09:00Z agent=code cost=0.10 cost_source=estimate
    2026-11-20T09:00Z agent=old  cost=0.10 cost_source=unknown
    """
    assert ask(by=["agent"]).notes[0] == (
        "Of the cost: $0.500 billed by the provider (1 call), $0.500 computed from prices (2 calls), "
        "$0.100 estimated (1 call), $0.100 of unstated origin (1 call)."
    )


def test_a_missing_tag_is_a_group_of_its_own(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=code team=search cost=1
    2026-11-20T09:00Z agent=code cost=2
    """
    assert table(ask(by=["team"]), "team", "cost") == [("(none)", 2_000_000_000), ("search", 1_000_000_000)]
    assert table(ask(by=["agent"], where=["team=(none)"]), "cost") == [(2_000_000_000,)]


def test_fields_group_and_filter_like_tags(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=a model=anthropic/claude provider=openrouter key=code@openrouter cost=1
    2026-11-20T09:00Z agent=b model=anthropic/haiku  provider=openrouter status=error        cost=2
    2026-11-20T09:00Z agent=c model=openai/gpt       provider=openai                         cost=4
    """
    assert table(ask(by=["provider"]), "provider", "calls") == [("openai", 1), ("openrouter", 2)]
    assert table(ask(by=["key"], where=["status=ok"]), "key") == [("(none)",), ("code@openrouter",)]
    for where, agents in [
        (["model=anthropic/*"], ["b", "a"]),
        (["model=*/*a*"], ["b", "a"]),
        (["model=anthropic/?laude"], []),
        (["model=anthropic"], []),
        (["agent=a", "agent=c"], ["c", "a"]),
        (["agent=a", "status=error"], []),
        (["day=2026-11-20", "provider=openai"], ["c"]),
        (["agent=*"], ["c", "b", "a"]),
    ]:
        assert [name for (name,) in table(ask(by=["agent"], where=where), "agent")] == agents, where


def test_aliases_of_the_policy_are_names_too(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z work_item=SUP-1 cost=1
    """
    report = ask(
        by=["ticket_id", "work-item"],
        where=["ticket_num=SUP-*"],
        aliases={"ticket_id": "work_item", "ticket_num": "work_item"},
    )
    assert table(report, "work_item", "cost") == [("SUP-1", 1_000_000_000)]


@pytest.mark.parametrize("question", [{"where": ["agent"]}, {"where": ["=x"]}, {"by": ["a b"]}, {"by": [""]}])
def test_malformed_questions_are_usage_errors(question: dict[str, list[str]]) -> None:
    with pytest.raises(UsageError):
        breakdown(PlainUsage([]), Question(**question))  # type: ignore[arg-type]


def test_the_rest_beyond_top_is_one_row_of_each_level(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=a purpose=x cost=8 ms=10
    2026-11-20T09:00Z agent=a purpose=y cost=1 ms=20
    2026-11-20T09:00Z agent=a purpose=z cost=2 ms=30
    2026-11-20T09:00Z agent=b purpose=x cost=4 ms=40
    2026-11-20T09:00Z agent=c purpose=x cost=2 ms=50
    """
    report = ask(by=["agent", "purpose"], top=1)
    assert [(row.depth, row.rest) for row in report.rows] == [(0, False), (1, False), (1, True), (0, True)]
    assert table(report, "agent", "purpose", "cost", "latency_p95_ms") == [
        ("a", None, 11_000_000_000, 30),
        ("a", "x", 8_000_000_000, 10),
        ("a", "other (2)", 3_000_000_000, 30),
        ("other (2)", None, 6_000_000_000, 50),
    ]
    assert len(ask(by=["agent"], top=3).rows) == 3


def test_days_come_by_time_and_top_keeps_the_dearest_of_them(ask: Callable[..., Report]) -> None:
    """
    2026-11-19T09:00Z agent=a cost=3
    2026-11-20T09:00Z agent=a cost=1
    2026-11-18T09:00Z agent=a cost=2
    """
    assert table(ask(by=["day"]), "day") == [("2026-11-18",), ("2026-11-19",), ("2026-11-20",)]
    assert table(ask(by=["day"], top=2), "day") == [("2026-11-18",), ("2026-11-19",), ("other (1)",)]
    assert table(ask(by=["day"], sort="cost"), "day") == [("2026-11-19",), ("2026-11-18",), ("2026-11-20",)]


ORDERS = {"cost": "cab", "calls": "bca", "tokens": "acb", "name": "abc", "latency": "bac", "errors": "bac"}


@pytest.mark.parametrize(("sort", "agents"), ORDERS.items())
def test_rows_sort_as_asked(sort: str, agents: str, ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=a cost=2 in=900 out=90 ms=20
    2026-11-20T09:00Z agent=b cost=1 in=10  out=1  ms=90
    2026-11-20T09:00Z agent=b cost=0 in=10  out=1  status=error
    2026-11-20T09:00Z agent=c cost=3 in=100 out=10 ms=10
    """
    assert "".join(str(name) for (name,) in table(ask(by=["agent"], sort=sort), "agent")) == agents


@pytest.mark.parametrize(
    ("bad_lines", "notes"),
    [
        (0, ["first"]),
        (1, ["first", "1 line is no usage record and left out: see `callmeter budget log verify`."]),
        (2000, ["first", "2,000 lines are no usage records and left out: see `callmeter budget log verify`."]),
    ],
)
def test_a_page_says_what_its_reader_left_out(bad_lines: int, notes: list[str]) -> None:
    page = with_reading(Report("", (), (), notes=["first"], facts={"a": 1}), bad_lines, 3)
    assert (page.notes, page.facts) == (notes, {"a": 1, "log": {"bad_lines": bad_lines, "duplicates": 3}})
    other = with_reading(Report("", (), ()), bad_lines, 3, "hosts/*/usage*.jsonl*")
    assert not bad_lines or other.notes[0].endswith("see `callmeter budget log verify --log 'hosts/*/usage*.jsonl*'`.")


def test_no_other_order_can_be_asked_for_but_that_of_a_comparison() -> None:
    assert set(Sort) == {*ORDERS, "change"}


@pytest.mark.parametrize(
    ("unit", "labels"),
    [
        ("hour", ["2026-10-25 00:00", "2026-10-25 02:00+02:00", "2026-10-25 02:00+01:00", "2026-11-01 00:00"]),
        ("day", ["2026-10-25", "2026-11-01"]),
        ("week", ["2026-10-19", "2026-10-26"]),
        ("month", ["2026-10", "2026-11"]),
    ],
)
def test_units_of_time_are_those_of_the_policys_zone(unit: str, labels: list[str], ask: Callable[..., Report]) -> None:
    """
    2026-10-24T22:10Z agent=a cost=1
    2026-10-25T00:10Z agent=a cost=1
    2026-10-25T00:20Z agent=a cost=1
    2026-10-25T01:10Z agent=a cost=1
    2026-10-31T23:00Z agent=a cost=1
    """
    report = ask(by=[unit], zone=zone_named("Europe/Berlin"))
    assert sorted(label for (label,) in table(report, unit)) == sorted(labels)
    assert sum(calls for (calls,) in table(report, "calls")) == 5  # type: ignore[misc]


def test_a_zone_off_by_a_quarter_of_an_hour_splits_an_hour_of_utc(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T18:10Z agent=a cost=1
    2026-11-20T18:20Z agent=a cost=1
    2026-11-20T18:14Z agent=a cost=1
    """
    assert table(ask(by=["day"], zone=zone_named("Asia/Kathmandu")), "day", "calls") == [
        ("2026-11-20", 2),
        ("2026-11-21", 1),
    ]


def test_a_period_holds_its_first_instant_and_not_its_last(ask: Callable[..., Report]) -> None:
    """
    2026-11-19T23:59:59.999Z     agent=before cost=1
    2026-11-20T00:00:00.000Z     agent=first  cost=1
    2026-11-20T23:59:59.999Z     agent=last   cost=1
    2026-11-21T00:00:00.000Z     agent=after  cost=1
    """
    report = ask(by=["agent"], period=Period(at("2026-11-20T00:00Z"), at("2026-11-21T00:00Z"), "one day"))
    assert [name for (name,) in table(report, "agent")] == ["first", "last"]


def test_times_written_in_other_ways_fall_into_the_same_periods() -> None:
    times = ["2026-11-20T00:30:00+01:00", "2026-11-20 23:00:00.000Z", "2026-W47-5T12:00:00.000Z", "2026-11-20T12:00"]
    records = [UsageRecord(v=1, id=str(number), timestamp=time) for number, time in enumerate(times)]
    period = Period(at("2026-11-20T00:00Z"), at("2026-11-21T00:00Z"), "one day")
    report = breakdown(PlainUsage(records), Question(by=["day"], period=period))
    assert table(report, "day", "calls") == [("2026-11-20", 3)]


def test_as_of_gives_the_report_as_it_was_then(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z id=a agent=a cost=5 cost_source=estimate
    2026-11-20T12:00Z id=b agent=b cost=1
    2026-11-20T09:00Z id=c agent=a corrects=a cost=-2 cost_source=reconciled recorded_at=2026-11-20T13:00:00Z
    """
    assert table(ask(by=["agent"], as_of=at("2026-11-20T12:30Z")), "agent", "cost") == [
        ("a", 5_000_000_000),
        ("b", 1_000_000_000),
    ]
    before = ask(by=["agent"], as_of=at("2026-11-20T11:59Z"))
    assert table(before, "agent") == [("a",)]
    assert "As of 2026-11-20 11:59: what was logged later is left out." in before.notes
    assert table(ask(by=["agent"], as_of=at("2026-11-20T13:00Z")), "agent", "cost")[0] == ("a", 3_000_000_000)


def test_an_empty_log_makes_an_empty_report() -> None:
    report = breakdown(PlainUsage([]), Question())
    assert not report.rows
    assert report.total is not None
    assert (report.total["cost"], report.total["calls"]) == (0, 0)
    assert report.notes == ["No calls."]


def test_latency_is_that_of_answered_calls(ask: Callable[..., Report]) -> None:
    """
    2026-11-20T09:00Z agent=a cost=0 ms=1000
    2026-11-20T09:00Z agent=a cost=0 ms=2001
    2026-11-20T09:00Z agent=a cost=0 ms=1 status=error
    2026-11-20T09:00Z agent=a cost=0 ms=90000 status=timeout
    2026-11-20T09:00Z agent=a cost=0
    """
    assert table(ask(by=["agent"]), "latency_mean_ms", "latency_p95_ms", "errors") == [(1501, 2001, 2)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300))
def test_p95_is_the_smallest_latency_that_95_per_cent_stay_within(latencies: list[int]) -> None:
    record = UsageRecord(v=1, id="a", timestamp="2026-11-20T09:00:00.000Z")
    records = [msgspec.structs.replace(record, id=str(place), duration_ms=each) for place, each in enumerate(latencies)]
    p95 = table(breakdown(PlainUsage(records), Question()), "latency_p95_ms")[0][0]
    assert isinstance(p95, int)
    assert p95 in latencies
    assert sum(each <= p95 for each in latencies) >= Fraction(95, 100) * len(latencies)
    below = [each for each in latencies if each < p95]
    assert len(below) < Fraction(95, 100) * len(latencies)


RECORDS = st.lists(
    st.builds(
        UsageRecord,
        v=st.just(1),
        id=st.uuids().map(str),
        timestamp=st.sampled_from(["2026-11-20T09:00:00.000Z", "2026-11-21T10:00:00.000Z", "2026-12-01T00:00:00.000Z"]),
        tags=st.dictionaries(st.sampled_from(["agent", "purpose"]), st.sampled_from("abcd")),
        cost=st.none() | st.decimals(0, 1000, places=12),
        cost_source=st.sampled_from(["provider", "price", "estimate", "reconciled", "unknown"]),
        status=st.sampled_from(["ok", "error", "refused"]),
        corrects=st.none() | st.just("x"),
    ),
    max_size=40,
)
KEYS = st.lists(st.sampled_from(["agent", "purpose", "day", "model"]), min_size=1, max_size=3, unique=True)


@given(RECORDS, KEYS, st.integers(0, 3), st.sampled_from(["", *Sort]))
def test_parts_add_up_to_their_subtotals_and_to_the_total(
    records: list[UsageRecord], keys: list[str], top: int, sort: str
) -> None:
    report = breakdown(PlainUsage(records), Question(by=keys, top=top, sort=sort))
    assert report.total is not None
    for name in ("calls", "refused", "errors", "unknown", "tokens_in", "cost", "share"):
        _add_up([Row(report.total, depth=-1, subtotal=True), *report.rows], name)
    assert (report.total["cost"] or 0) == sum(record.cost_nano or 0 for record in records)
    sources = report.facts["cost_sources"]
    assert isinstance(sources, dict)
    assert sum(each["cost"] or 0 for each in sources.values()) * 10**9 == (report.total["cost"] or 0)
    assert sum(each["calls"] for each in sources.values()) == report.total["calls"]
    if report.total["cost"] and report.total["cost"] > 0:  # type: ignore[operator]
        assert report.total["share"] == 1


def _add_up(rows: list[Row], name: str) -> None:
    """Every subtotal is the sum of the rows one level below it."""
    for place, row in enumerate(rows):
        if row.subtotal:
            below = []
            for other in rows[place + 1 :]:
                if other.depth <= row.depth:
                    break
                if other.depth == row.depth + 1:
                    below.append(other.cells[name] or 0)
            assert sum(below) == (row.cells[name] or 0), (name, row)  # type: ignore[arg-type]


@given(st.lists(st.integers(-(10**12), 10**14), min_size=1, max_size=30), st.integers(0, 1000))
def test_shares_add_up_and_none_is_off_by_a_whole_unit(parts: list[int], units: int) -> None:
    total = sum(parts)
    if total == 0:
        return
    shares = apportion(parts, total, units)
    assert sum(shares) == units
    for part, share in zip(parts, shares, strict=True):
        assert abs(share - Fraction(part * units, total)) < 1


def test_three_equal_parts_share_a_hundred_per_cent() -> None:
    assert apportion([1, 1, 1], 3, 1000) == [334, 333, 333]


def test_rows_of_very_many_groups_are_made_as_they_are_read_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = PlainUsage(
        log_records("\n".join(f"2026-11-21T09:00Z agent=a{n % 3} session=s{n} cost={n}" for n in range(40)))
    )
    question = breakdown_module.Question(by=("agent", "session"))
    held = breakdown(usage, question)
    monkeypatch.setattr(breakdown_module, "_HELD", 5)
    made = breakdown(usage, question)
    assert not isinstance(made.rows, list)
    assert list(made.rows) == list(made.rows) == held.rows
    assert (len(made.rows), made.rows[3], made.rows[-2:], bool(made.rows)) == (43, held.rows[3], held.rows[-2:], True)


@pytest.mark.parametrize("sort", ["", "calls", "tokens", "name", "errors", "latency"])
@pytest.mark.parametrize("by", [("session",), ("agent", "session"), ("session", "model", "work_item")])
def test_groups_that_are_read_one_after_the_other_make_the_rows_of_those_held_in_memory(
    sort: str, by: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(sort)
    lines = (
        f"2026-11-21T09:{n % 60:02}Z agent=a{random.randrange(3)} session={random.choice(['s1', 's2', 's3', '(none)'])}"
        f" model=m{random.randrange(2)} cost={random.randrange(9)} in={random.randrange(4)}"
        f" status={random.choice(['ok', 'error', 'refused'])} ms={random.randrange(900)}"
        for n in range(80)
    )
    usage = PlainUsage(log_records("\n".join(lines)))
    question = Question(by=by, sort=sort, percentiles=True)
    walked = breakdown(usage, question)
    monkeypatch.setattr(breakdown_tree, "_CHOSEN", ())
    held = breakdown(usage, question)
    assert list(walked.rows) == list(held.rows)
    assert replace(walked, rows=()) == replace(held, rows=())


@pytest.mark.parametrize("by", [("session",), ("agent", "session"), ("day", "session")])
def test_a_chart_of_the_first_groups_and_of_the_rest_is_that_of_all_groups(
    by: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (
        f"2026-11-{1 + n * 7 % 20:02}T09:00Z agent=a{n % 2} session=s{n % 11} cost={n * n % 7 - n % 3}"
        + " corrects=call-1" * (n * n % 7 < n % 3)
        for n in range(90)
    )
    usage = PlainUsage(log_records("\n".join(lines)))
    question = Question(by=by, top=3, chart=True, now=at("2026-11-21T00:00Z"))
    chosen = breakdown(usage, question)
    monkeypatch.setattr(breakdown_tree, "_CHOSEN", ())
    held = breakdown(usage, question)
    assert [row.cells["chart"] for row in chosen.rows] == [row.cells["chart"] for row in held.rows]
    assert any(row.rest and row.cells["chart"] != "0" * 31 for row in chosen.rows)
    assert list(chosen.rows) == list(held.rows)
