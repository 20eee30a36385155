"""The review as a value: which time it is about, what it says, and that its figures are those of the lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callmeter.cli.look import Look
from callmeter.cli.tables import table
from callmeter.policy.document import parse_policy
from callmeter.policy.grants import Allowances, Grant
from callmeter.reports.report import Board, Report
from callmeter.reports.review import Sources, review, subject_line
from callmeter.reports.review_events import KeyAge
from callmeter.reports.review_span import Span, last_span
from callmeter.words.jsontext import dumps
from callmeter.words.record import parse_record
from plain_usage import PlainUsage
from usage_lines import call

MONDAY = datetime(2026, 11, 9, tzinfo=UTC)
NOW = datetime(2026, 11, 16, 6, 0, tzinfo=UTC)
WEEK = last_span(NOW, "week", UTC)
DAY = timedelta(days=1)
NANO = 10**9


def no_rates(provider: str, model: str) -> Mapping[str, Decimal] | None:
    return None


def usage(lines: Iterable[bytes], as_of: datetime | None = None) -> PlainUsage:
    return PlainUsage([parse_record(line.rstrip()) for line in lines], UTC, as_of)


def of(lines: Iterable[bytes], span: Span = WEEK, as_of: datetime | None = None, **sources: object) -> Board:
    given = {"now": NOW, "rates": no_rates, **sources}
    return review(usage(lines, as_of), span, Sources(**given))  # type: ignore[arg-type]


def cells(report: Report, name: str) -> list[object]:
    return [row.cells[name] for row in report.rows]


def row(report: Report, first: str) -> Mapping[str, object]:
    return next(each.cells for each in report.rows if each.cells[report.columns[0].name] == first)


def quotas(*entries: dict[str, object]) -> object:
    return parse_policy(dumps({"version": 1, "quotas": list(entries)}).encode(), "budget.json").quotas


def test_eleven_groups_stand_in_the_order_of_their_cost() -> None:
    week = [call(MONDAY, tags={"agent": f"a{n}"}, cost=Decimal(n + 1) / 10) for n in range(10)]
    before = [call(MONDAY - 7 * DAY, tags={"agent": "gone"}, cost=Decimal(9))]
    agents = of([*before, *week]).sections["agents"]
    costs = [row.cells["cost"] or 0 for row in agents.rows]
    assert len(costs) == 11
    assert not any(row.rest for row in agents.rows)
    assert costs == sorted(costs, reverse=True)  # type: ignore[type-var]


def test_shares_are_those_of_this_week_and_changes_are_against_the_week_before() -> None:
    lines = [
        call(MONDAY + week, tags={"agent": agent}, cost=Decimal(cost))
        for agent, costs in {"a": (8, 3), "b": (2, 1)}.items()
        for week, cost in zip((-7 * DAY, timedelta(0)), costs, strict=True)
    ]
    agents = of(lines).sections["agents"]
    assert [
        (each.cells["agent"], each.cells["cost"], each.cells["share"], each.cells["before"]) for each in agents.rows
    ] == [
        ("a", 3 * NANO, Decimal("0.750"), 8 * NANO),
        ("b", NANO, Decimal("0.250"), 2 * NANO),
    ]
    assert agents.total is not None
    assert [agents.total[name] for name in ("cost", "share", "before")] == [4 * NANO, 1, 10 * NANO]


def test_of_twelve_groups_the_two_cheapest_are_told_together() -> None:
    week = [call(MONDAY, tags={"agent": f"a{n:02}"}, cost=Decimal(n + 1) / 10) for n in range(12)]
    agents = of(week).sections["agents"]
    assert cells(agents, "agent") == [*(f"a{n:02}" for n in range(11, 1, -1)), "other (2)"]
    assert [row.rest for row in agents.rows] == [False] * 10 + [True]
    assert agents.rows[-1].cells["cost"] == 300_000_000


def test_work_items_that_are_over_do_not_hide_those_of_the_week() -> None:
    week = [call(MONDAY, tags={"work_item": f"now-{n}"}, cost=Decimal(n + 1) / 100) for n in range(20)]
    before = [call(MONDAY - 7 * DAY, tags={"work_item": f"gone-{n}"}, cost=Decimal(n + 9)) for n in range(20)]
    names = cells(of([*before, *week]).sections["work_items"], "work_item")
    assert names == [*(f"now-{n}" for n in range(19, 12, -1)), "gone-19", "gone-18", "gone-17", "other (30)"]
    # Where there is little to show, what is over has the room.
    names = cells(of([*before, *week[:2]]).sections["work_items"], "work_item")
    assert names == ["now-1", "now-0", *(f"gone-{n}" for n in range(19, 11, -1)), "other (12)"]


@pytest.mark.parametrize(
    ("costs", "told"),
    [
        ({"a": (1, 3), "b": (1, 2)}, ["Largest rise: agent a, +$2.00 (+200%)."]),
        ({"a": (3, 1), "b": (2, 1)}, ["Largest fall: agent a, -$2.00 (-67%)."]),
        (
            {"a": (1, 41), "b": (5, 2)},
            ["Largest rise: agent a, +$40.00 (+4,000%).", "Largest fall: agent b, -$3.00 (-60%)."],
        ),
        ({"a": (1, 41), "b": (5, 3)}, ["Largest rise: agent a, +$40.00 (+4,000%)."]),
        ({"a": (1, 3)}, []),
    ],
)
def test_who_rose_and_fell_most_is_told_where_it_matters(costs: dict[str, tuple[int, int]], told: list[str]) -> None:
    lines = [
        call(at, tags={"agent": agent}, cost=Decimal(cost))
        for agent, pair in costs.items()
        for at, cost in zip((MONDAY - 7 * DAY, MONDAY), pair, strict=True)
    ]
    assert [said for said in of(lines).lead if said.startswith("Largest")] == told


@pytest.mark.parametrize(
    ("weeks", "headline"),
    [
        ({0: 3}, "Week 46 cost $3.00 in 1 call. It is the first week of this log: there is nothing to compare with."),
        ({0: 3, 1: 2}, "Week 46 cost $3.00 in 1 call: $1.00 (50%) more than week 45."),
        ({0: 1, 1: 4}, "Week 46 cost $1.00 in 1 call: $3.00 (75%) less than week 45."),
        ({0: 3, 1: 3}, "Week 46 cost $3.00 in 1 call, as much as week 45."),
        ({0: 3, 2: 1}, "Week 46 cost $3.00 in 1 call. There were no calls in week 45."),
        ({0: None, 1: 1}, "Week 46 had 1 call, whose cost nobody knows."),
        ({0: 3, 1: None}, "Week 46 cost $3.00 in 1 call."),
        ({1: 4}, "No calls in week 46. Week 45 had 1 call for $4.00."),
        ({2: 4}, "No calls in week 46."),
    ],
)
def test_the_headline_says_what_was_spent_and_how_much_more(weeks: dict[int, int | None], headline: str) -> None:
    lines = [
        call(MONDAY - ago * 7 * DAY, cost=None, cost_source="unknown")
        if cost is None
        else call(MONDAY - ago * 7 * DAY, cost=Decimal(cost))
        for ago, cost in weeks.items()
    ]
    assert of(lines).lead[0] == headline


def test_the_course_is_of_eight_weeks_each_against_the_one_before() -> None:
    lines = [
        call(MONDAY - ago * 7 * DAY, cost=Decimal(10 - ago), tokens={"in": 900 + ago, "out": 100}) for ago in range(10)
    ]
    course = of(lines).sections["course"]
    assert cells(course, "week") == [f"2026-W{number}" for number in range(39, 47)]
    assert cells(course, "cost") == [number * NANO for number in range(3, 11)]
    assert cells(course, "difference") == [None, *[NANO] * 7]
    assert cells(course, "change")[-1] == Decimal("0.111")
    assert cells(course, "tokens") == [1000 + ago for ago in range(7, -1, -1)]
    assert cells(of(lines[:3]).sections["course"], "week") == ["2026-W44", "2026-W45", "2026-W46"]


def test_months_of_unequal_length_are_named_with_their_days() -> None:
    lines = [call(datetime(2026, month, 5, tzinfo=UTC), cost=Decimal(1)) for month in (6, 7, 8, 9, 10)]
    board = of(lines, last_span(NOW, "month", ZoneInfo("UTC")))
    assert "October 2026 has 31 days, September 2026 30: part of the change is that." in board.notes
    september = last_span(datetime(2026, 9, 2, tzinfo=UTC), "month", ZoneInfo("UTC"))
    assert not any("part of the change" in note for note in of(lines, september).notes)


def test_a_work_item_whose_cost_nobody_knows_is_not_free() -> None:
    lines = [
        call(MONDAY, tags={"work_item": "dear"}, cost=Decimal(2)),
        call(MONDAY, tags={"work_item": "dear"}, cost=None, cost_source="unknown"),
        call(MONDAY, tags={"work_item": "odd"}, cost=None, cost_source="unknown"),
    ]
    items = of(lines).sections["work_items"]
    assert [(each.cells["work_item"], each.cells["cost"], each.cells["unknown"]) for each in items.rows] == [
        ("dear", 2 * NANO, 1),
        ("odd", None, 1),
    ]


def test_causes_that_are_larger_than_what_was_spent_are_no_headline() -> None:
    cheap = [call(MONDAY - 7 * DAY + timedelta(hours=n), cost=Decimal("0.01")) for n in range(10)]
    board = of([*cheap, call(MONDAY, cost=Decimal("0.12"))])
    assert board.lead[0].startswith("Week 46 cost $0.120")
    assert not any(line.startswith("Why:") for line in board.lead)
    assert "differ too much for causes to be told apart" in board.sections["why"].notes[-1]
    assert any(line.startswith("Why:") for line in of([*cheap, call(MONDAY, cost=Decimal("0.01"))]).lead)


def test_days_before_the_log_begins_are_no_rows_and_nothing_to_compare_with() -> None:
    days = [call(MONDAY - 5 * DAY + n * DAY, cost=Decimal(1)) for n in range(9)]
    parts = of(days).sections["parts"]
    assert cells(parts, "before") == [None, None, NANO, NANO, NANO, NANO, NANO]
    first = of(days[5:], last_span(NOW, "week", UTC)).sections["parts"]
    assert cells(first, "day")[0] == "2026-11-09 Mon"
    late = of([call(MONDAY + 2 * DAY, cost=Decimal(1))]).sections["parts"]
    assert cells(late, "cost") == [NANO, 0, 0, 0, 0]


def test_a_day_of_unknown_cost_is_no_zero_to_compare_with() -> None:
    week = [call(MONDAY - 7 * DAY + n * DAY, cost=None if n == 1 else Decimal(1)) for n in range(14)]
    assert cells(of(week).sections["parts"], "before")[:3] == [NANO, None, NANO]


def test_a_day_whose_cost_nobody_knows_has_no_share_of_the_cost() -> None:
    unknown = call(MONDAY + DAY, cost=None, cost_source="unknown")
    parts = of([call(MONDAY, cost=Decimal(1)), unknown]).sections["parts"]
    assert cells(parts, "cost")[:3] == [NANO, None, 0]
    assert cells(parts, "share")[:3] == [1, None, 0]


ONE_CALL: dict[str, object] = {"subject": "total", "limit": 1, "unit": "calls"}


# Which time it is about


@pytest.mark.parametrize(
    ("now", "unit", "iso", "title"),
    [
        ("2026-11-16T00:00", "week", "2026-W46", "week 46 of 2026, 9 to 15 November"),
        ("2026-11-15T23:59", "week", "2026-W45", "week 45 of 2026, 2 to 8 November"),
        ("2026-11-15T23:59:59.999999", "week", "2026-W46", "week 46 of 2026, 9 to 15 November"),
        ("2026-10-05T00:00", "week", "2026-W40", "week 40 of 2026, 28 September to 4 October"),
        ("2027-01-05T00:00", "week", "2026-W53", "week 53 of 2026, 28 December 2026 to 3 January 2027"),
        ("2026-11-16T06:00", "month", "2026-10", "October 2026"),
        ("2026-03-01T00:00", "month", "2026-02", "February 2026"),
        ("2026-11-16T06:00", "day", "2026-11-15", "Sunday 15 November 2026"),
    ],
)
def test_the_last_complete_span_is_chosen_and_named(now: str, unit: str, iso: str, title: str) -> None:
    span = last_span(datetime.fromisoformat(now).replace(tzinfo=UTC), unit, UTC)
    assert (span.iso, span.title) == (iso, title)


def test_a_week_over_the_change_of_clocks_is_seven_local_days() -> None:
    zone = ZoneInfo("Europe/Berlin")
    span = last_span(datetime(2026, 10, 26, 12, tzinfo=UTC), "week", zone)
    assert span.end - span.start == 7 * DAY + timedelta(hours=1)
    assert len(list(span.parts())) == 7
    assert [each.iso for each in span.looked_back()][-2:] == ["2026-W42", "2026-W43"]


# What it says


def test_the_first_sentence_has_the_cost_the_calls_and_the_change() -> None:
    board = of(
        [call(MONDAY - DAY, cost=Decimal(2)), call(MONDAY, cost=Decimal(3)), call(MONDAY + DAY, cost=Decimal(1))]
    )
    assert board.title == "Review of week 46 of 2026, 9 to 15 November"
    assert board.lead[0] == "Week 46 cost $4.00 in 2 calls: $2.00 (100%) more than week 45."
    assert subject_line(board) == "LLM spend 2026-W46: 4.00 USD (+100%)"


@pytest.mark.parametrize(
    ("cost", "said", "subject"), [("9.96", "$0.0400 (0.4%) less", "(-0.4%)"), ("10.001", "$0.00100 more", "(0%)")]
)
def test_a_small_change_is_not_said_to_be_none(cost: str, said: str, subject: str) -> None:
    board = of([call(MONDAY - DAY, cost=Decimal(10)), call(MONDAY, cost=Decimal(cost))])
    assert said in board.lead[0]
    assert subject_line(board).endswith(subject)


def test_an_empty_week_says_so_and_what_the_week_before_was() -> None:
    board = of([call(MONDAY - DAY, cost=Decimal(2))])
    assert board.lead[0] == "No calls in week 46. Week 45 had 1 call for $2.00."
    assert "why" not in board.sections
    assert cells(board.sections["agents"], "difference") == [-2 * NANO]


def test_an_empty_log_makes_a_review_of_one_sentence() -> None:
    board = of([])
    assert board.lead == ["No calls in week 46."]
    assert not board.sections
    assert subject_line(board) == "LLM spend 2026-W46: no calls"


def test_the_first_week_ever_compares_with_nothing() -> None:
    board = of([call(MONDAY + DAY, cost=Decimal(3))])
    assert board.lead == [
        "Week 46 cost $3.00 in 1 call. It is the first week of this log: there is nothing to compare with."
    ]
    assert cells(board.sections["agents"], "difference") == [None]
    assert len(board.sections["course"].rows) == 1


def test_a_log_with_only_refused_calls_says_how_many() -> None:
    refused = [call(MONDAY, status="refused", cost=Decimal(0), error="quota", tokens=None, attempts=0)] * 1
    board = of([*refused, call(MONDAY + DAY, status="refused", cost=Decimal(0), error="frozen", attempts=0)])
    assert board.lead[0] == "No calls in week 46; 2 calls refused before anything was sent."
    assert "trouble" in board.sections
    assert "origin" not in board.sections, "there is no cost of which to say where it comes from"
    assert cells(board.sections["trouble"], "calls") == [2]
    assert cells(board.sections["errors"], "error") == ["frozen", "quota"]


def test_a_week_whose_costs_nobody_knows_is_not_free() -> None:
    board = of([call(MONDAY, cost=None, cost_source="unknown")])
    assert board.lead[0].startswith("Week 46 had 1 call, whose cost nobody knows.")
    assert "unknown" in subject_line(board)
    assert "The cost of 1 call is unknown and in no sum." in board.notes


def test_a_cost_that_nobody_knows_is_no_fall() -> None:
    lines = [call(MONDAY - 7 * DAY, cost=Decimal(4)), call(MONDAY, cost=None, cost_source="unknown")]
    lines += [call(at, cost=Decimal(0), tags={"agent": "docs"}) for at in (MONDAY - 7 * DAY,)]
    board = of(lines)
    assert board.lead == ["Week 46 had 1 call, whose cost nobody knows."]
    assert (board.facts["change"], subject_line(board)) == (None, "LLM spend 2026-W46: cost unknown")
    course = board.sections["course"].rows[-1].cells
    assert (course["difference"], course["change"]) == (None, None)
    code = row(board.sections["agents"], "code")
    assert (code["before"], code["difference"], code["change"]) == (4 * NANO, None, None)


def test_a_log_that_begins_within_the_week_before_is_told() -> None:
    board = of([call(MONDAY - 2 * DAY), call(MONDAY)])
    assert "The log begins on 2026-11-07, within week 45: the change is against a part of it." in board.notes


def test_months_of_unequal_length_are_told() -> None:
    board = of(
        [call(datetime(2026, 9, 1, tzinfo=UTC)), call(datetime(2026, 10, 5, tzinfo=UTC))], last_span(NOW, "month", UTC)
    )
    assert "October 2026 has 31 days, September 2026 30: part of the change is that." in board.notes


# Its figures


def test_every_table_adds_up_to_the_lines_of_the_week() -> None:
    lines = [
        call(
            MONDAY + timedelta(hours=7 * number) - 7 * DAY,
            tags={"agent": f"a{number % 13}", "purpose": f"p{number % 3}", "environment": "prod", "work_item": "S-1"},
            model=f"m{number % 4}",
            cost=Decimal(number * number + 1).scaleb(-9),
        )
        for number in range(60)
    ]
    records = [parse_record(line.rstrip()) for line in lines]
    whole = sum(each.cost_nano or 0 for each in records if each.instant in WEEK.period)
    before = sum(each.cost_nano or 0 for each in records if each.instant in WEEK.before.period)
    sections = of(lines).sections
    assert whole
    assert before
    for name in ("agents", "purposes", "models", "environments", "work_items"):
        total = sections[name].total
        assert total is not None
        assert total["cost"] == whole == sum(cells(sections[name], "cost"))  # type: ignore[arg-type]
        assert total["difference"] == whole - before == sum(cells(sections[name], "difference"))  # type: ignore[arg-type]
    assert sum(cells(sections["parts"], "cost")) == whole  # type: ignore[arg-type]
    assert sum(cells(sections["why"], "difference")) == whole - before  # type: ignore[arg-type]
    assert len(sections["agents"].rows) == 11
    assert cells(sections["agents"], "agent")[-1] == "other (3)"


def test_an_agent_that_stopped_is_still_in_the_table() -> None:
    old, new = {"tags": {"agent": "old"}}, {"tags": {"agent": "new"}}
    board = of([call(MONDAY - DAY, cost=Decimal(5), **old), call(MONDAY, cost=Decimal(1), **new)])
    assert row(board.sections["agents"], "old")["difference"] == -5 * NANO
    assert row(board.sections["agents"], "new")["change"] is None
    assert board.lead[3:5] == ["Largest rise: agent new, +$1.00.", "Largest fall: agent old, -$5.00 (-100%)."]


def test_groupings_that_no_call_names_are_left_out() -> None:
    assert not {"environments", "work_items"} & set(of([call(MONDAY)]).sections)


def test_the_model_that_is_named_is_the_one_that_moved_the_sum() -> None:
    def calls(at: datetime, counts: Mapping[str, int]) -> list[bytes]:
        prices = {"small": "0.0001", "mini": "0.0001", "large": "1"}
        return [call(at, model=name, cost=Decimal(prices[name])) for name, n in counts.items() for _ in range(n)]

    lines = calls(MONDAY - DAY, {"small": 150, "mini": 50, "large": 1}) + calls(
        MONDAY, {"small": 50, "mini": 147, "large": 4}
    )
    found = row(of(lines).sections["why"], "mix of models")
    assert found["because"] == "large: 2% of the calls, 0.5% before"


@pytest.mark.parametrize(("days", "said"), [(7, False), (6.5, False), (4, True)])
def test_a_span_before_in_which_the_log_begins_is_said_not_to_be_whole(days: float, said: bool) -> None:
    lead = of([call(MONDAY - timedelta(days=days)), call(MONDAY)]).lead
    assert ("The log begins on 5 November: week 45 is not whole." in lead) is said


def test_what_a_change_rests_on_is_said_of_the_model_that_it_rests_on() -> None:
    def calls(at: datetime, counts: Mapping[str, tuple[int, int]]) -> list[bytes]:
        return [
            call(
                at, model=name, tokens={"in": size, "out": 10}, cost=Decimal(size).scaleb(-3 if name == "large" else -5)
            )
            for name, (n, size) in counts.items()
            for _ in range(n)
        ]

    lines = calls(MONDAY - DAY, {"large": (10, 9000), "small": (10, 100)})
    lines += calls(MONDAY, {"large": (10, 9500), "small": (90, 100)})
    why = of(lines).sections["why"]
    found = row(why, "tokens per call")
    assert found["because"] == "large: 9,500 tokens in and 10 out a call, 9,000 and 10 before"
    assert isinstance(found["difference"], int) and found["difference"] > 0


def test_the_agent_is_named_that_made_the_difference_in_calls() -> None:
    def calls(at: datetime, counts: Mapping[tuple[str, str], int]) -> list[bytes]:
        prices = {"small": "0.01", "large": "1"}
        return [
            call(at, model=model, tags={"agent": agent}, cost=Decimal(prices[model]))
            for (agent, model), n in counts.items()
            for _ in range(n)
        ]

    before = calls(MONDAY - DAY, {("code", "large"): 10, ("docs", "small"): 40, ("chat", "small"): 20})
    switched = calls(MONDAY, {("code", "large"): 10, ("docs", "large"): 40, ("chat", "small"): 22})
    why = of([*before, *switched]).sections["why"]
    assert row(why, "mix of models")["because"] == (
        "large: 69% of the calls, 14% before; agent docs made 40 of them, 0 before"
    )
    assert row(why, "number of calls")["because"] == "72 calls, 70 before; agent chat made 22 of them, 20 before"
    # Nobody is named where nobody made most of it, or where there is only one.
    more = calls(MONDAY, {("code", "large"): 15, ("docs", "small"): 45, ("chat", "small"): 25})
    assert row(of([*before, *more]).sections["why"], "number of calls")["because"] == "85 calls, 70 before"
    alone = calls(MONDAY - DAY, {("code", "large"): 1}) + calls(MONDAY, {("code", "large"): 5})
    assert row(of(alone).sections["why"], "number of calls")["because"] == "5 calls, 1 before"


def test_the_use_of_the_cache_is_that_of_the_model_that_it_cost_more() -> None:
    def calls(at: datetime, cached: int) -> list[bytes]:
        read = {"in": 1000, "out": 10, "cached": cached}
        plain = {"in": 9000, "out": 10}
        return [call(at, model="a", tokens=read, cost=Decimal(1)), call(at, model="b", tokens=plain, cost=Decimal(1))]

    def rates(provider: str, model: str) -> Mapping[str, Decimal]:
        return {"in": Decimal(3), "out": Decimal(15), "cached": Decimal("0.3"), "cache_write": Decimal(3)}

    why = of([*calls(MONDAY - DAY, 700), *calls(MONDAY, 100)], rates=rates).sections["why"]
    assert row(why, "use of the cache")["because"] == "a: 10% of prompt tokens from the cache, 70% before"


def test_an_empty_day_is_one_sentence() -> None:
    assert of([], last_span(NOW, "day", UTC)).lead == ["No calls on Sunday 15 November."]


def test_its_own_tables_fit_thirty_columns() -> None:
    lines = [call(MONDAY + number * DAY / 4, tags={"agent": f"agent-{number}"}) for number in range(-20, 20)]
    lines += [call(MONDAY, status="error", error="rate_limited", attempts=2, cost=None, cost_source="unknown")] * 3
    board = of(lines, quotas=quotas({"subject": "total", "limit": 9}, {"subject": "agent:*", "limit": 9}))
    assert {"course", "parts", "why", "agents", "quotas", "trouble", "errors", "origin"} <= set(board.sections)
    wide = [
        line for each in board.sections.values() for line in table(each, Look(30))[0].splitlines() if len(line) > 30
    ]
    assert wide == []


def test_what_is_known_later_than_as_of_changes_nothing() -> None:
    lines = [call(MONDAY, cost=Decimal(3)), call(MONDAY + DAY, cost=Decimal(1))]
    later = [
        call(MONDAY, id="x", corrects="y", cost=Decimal(7), recorded_at="2026-11-18T00:00:00.000Z"),
        call(NOW + DAY, cost=Decimal(9)),
    ]
    assert of([*lines, *later], as_of=NOW) == of(lines, as_of=NOW)


def test_errors_retries_and_refusals_are_counted_with_their_cost() -> None:
    board = of(
        [
            call(MONDAY, status="error", error="overloaded", cost=Decimal(0)),
            call(MONDAY, status="truncated", finish_reason=None, cost=Decimal(2)),
            call(MONDAY, finish_reason="length", cost=Decimal(1)),
            call(MONDAY, attempts=3, cost=Decimal(4)),
            call(MONDAY, status="refused", error="quota", cost=Decimal(0)),
            call(MONDAY),
        ]
    )
    found = {each.cells["what"]: (each.cells["calls"], each.cells["cost"]) for each in board.sections["trouble"].rows}
    assert found == {
        "failed": (1, 0),
        "broke off": (1, 2 * NANO),
        "cut at the output ceiling": (1, NANO),
        "took more than one attempt": (1, 4 * NANO),
        "refused before anything was sent": (1, 0),
    }


def test_a_correction_need_not_say_how_its_call_ended() -> None:
    fields: dict[str, object] = {"cost": Decimal(-1), "cost_source": "reconciled"}
    board = of(
        [
            call(MONDAY, id="cut", finish_reason="length", cost=Decimal(5)),
            call(MONDAY, id="late", status="timeout", error="deadline", cost=None, cost_source="unknown"),
            call(MONDAY, corrects="cut", status="ok", **fields),
            call(MONDAY, corrects="late", status="ok", **{**fields, "cost": Decimal(2)}),
            # Of a call that is not in the log.
            call(MONDAY, corrects="pruned", status="timeout", **{**fields, "cost": Decimal(9)}),
        ]
    )
    trouble = board.sections["trouble"]
    assert row(trouble, "cut at the output ceiling")["cost"] == 4 * NANO
    assert row(trouble, "took too long")["cost"] == 2 * NANO
    assert cells(board.sections["errors"], "cost") == [2 * NANO]


def test_what_a_retried_call_cost_can_be_unknown() -> None:
    board = of([call(MONDAY, attempts=2, cost=None, cost_source="unknown"), call(MONDAY)])
    found = row(board.sections["trouble"], "took more than one attempt")
    assert (found["calls"], found["cost"]) == (1, None)


def test_the_commonest_errors_come_first_and_the_others_are_counted() -> None:
    counts = {"overloaded": 3, "rate_limited": 2, "a": 1, "b": 1, "c": 1, "d": 1, "e": 1}
    lines = [call(MONDAY, status="error", error=error) for error, count in counts.items() for _ in range(count)]
    lines += [call(MONDAY, status="cancelled", error="stopped"), call(MONDAY - DAY, status="error", error="a")]
    board = of(lines)
    assert cells(board.sections["errors"], "error") == ["overloaded", "rate_limited", "a", "b", "c"]
    assert cells(board.sections["errors"], "calls") == [3, 2, 1, 1, 1]
    assert board.sections["errors"].notes == ["2 more kinds are not shown."]
    assert cells(board.sections["trouble"], "before") == [1, 0], "failed, stopped by the caller"


def test_only_an_answer_is_cut_at_its_ceiling() -> None:
    lines = [call(MONDAY, status=status, finish_reason="length") for status in ("ok", "truncated", "cancelled")]
    trouble = of(lines).sections["trouble"]
    assert row(trouble, "cut at the output ceiling")["calls"] == 1


def test_errors_are_those_of_calls_that_failed_or_were_refused() -> None:
    lines = [
        call(MONDAY, status="refused", error="quota", cost=Decimal(0), attempts=0),
        call(MONDAY, status="refused", error="quota", cost=Decimal(0), attempts=0),
        call(MONDAY, status="timeout", error="deadline", cost=Decimal(2)),
        call(MONDAY, status="ok", error="odd", cost=Decimal(3)),
        call(MONDAY, status="error", cost=Decimal(4)),
    ]
    errors = of(lines).sections["errors"]
    assert [
        (each["error"], each["kind"], each["calls"], each["cost"]) for each in (row.cells for row in errors.rows)
    ] == [
        ("quota", "refused", 2, 0),
        ("deadline", "failed", 1, 2 * NANO),
    ]


def test_billed_computed_estimated_and_unknown_are_told_apart() -> None:
    board = of(
        [
            call(MONDAY, cost=Decimal(6), cost_source="provider"),
            call(MONDAY, id="c", cost=Decimal(5), cost_source="estimate", status="unknown"),
            call(MONDAY, id="d", cost=Decimal(-3), cost_source="reconciled", corrects="c"),
            call(MONDAY, cost=Decimal(1), cost_source="price"),
            call(MONDAY, cost=Decimal(1), cost_source="estimate", status="truncated"),
            call(MONDAY, cost=None, cost_source="unknown"),
        ]
    )
    report = board.sections["origin"]
    assert dict(zip(cells(report, "origin"), cells(report, "cost"), strict=True)) == {
        "billed": 8 * NANO,
        "computed": NANO,
        "estimated": NANO,
        "unknown": None,
    }
    assert cells(report, "share") == [Decimal("0.800"), Decimal("0.100"), Decimal("0.100"), None]
    assert cells(report, "calls") == [2, 1, 1, 1]


# Quotas, from the log


def test_a_monthly_quota_stands_where_the_week_ended_and_says_how_long_it_lasts() -> None:
    lines = [call(MONDAY + number * DAY, cost=Decimal(1)) for number in range(-7, 9)]
    board = of(lines, quotas=quotas({"subject": "total", "limit": 16}))
    found = board.sections["quotas"].rows[0].cells
    assert (found["used"], found["limit"]) == (14 * NANO, 16 * NANO)
    assert found["lasts_days"] == Decimal("2.0")
    assert "Used up within a week at this pace: total per month (2.0 d)." in board.lead


@pytest.mark.parametrize(("limit", "lasts"), [(28, Decimal(14)), (29, None), (34, None)])
def test_a_quota_that_resets_before_it_is_used_up_lasts(limit: int, lasts: Decimal | None) -> None:
    """From Monday 16 November to the end of the month there are 15 days."""
    lines = [call(MONDAY + number * DAY, cost=Decimal(1)) for number in range(-7, 7)]
    report = of(lines, quotas=quotas({"subject": "total", "limit": limit})).sections["quotas"]
    assert cells(report, "lasts_days") == [lasts]


@pytest.mark.parametrize(("limit", "lasts"), [(366, Decimal(365)), (367, None)])
def test_a_week_says_nothing_about_times_beyond_a_year(limit: int, lasts: Decimal | None) -> None:
    lines = [call(MONDAY + number * DAY, cost=Decimal("1")) for number in range(7)]
    board = of(lines, quotas=quotas({"subject": "agent:code", "limit": limit + 6, "period": "life"}))
    assert board.sections["quotas"].rows[0].cells["lasts_days"] == lasts


def test_where_a_week_ends_with_a_month_the_months_quota_is_that_of_the_month() -> None:
    """31 May 2026 is a Sunday."""
    now = datetime(2026, 6, 1, 6, tzinfo=UTC)
    lines = [call(now - days * DAY, cost=Decimal(cost)) for days, cost in ((40, 7), (20, 3), (2, 2), (0, 9))]
    for unit in ("week", "month", "day"):
        board = of(
            lines, last_span(now, unit, ZoneInfo("UTC")), now=now, quotas=quotas({"subject": "total", "limit": 8})
        )
        assert cells(board.sections["quotas"], "used") == [5 * NANO], unit


def test_a_quota_of_one_call_can_be_three_times_full() -> None:
    report = of([call(MONDAY), call(MONDAY), call(MONDAY)], quotas=quotas({**ONE_CALL, "period": "day"}))
    assert cells(report.sections["quotas_calls"], "level") == [3]


def test_a_weekly_quota_in_the_review_of_a_week_is_over_with_it() -> None:
    board = of([call(MONDAY, cost=Decimal(3))], quotas=quotas({"subject": "total", "limit": 4, "period": "week"}))
    found = board.sections["quotas"].rows[0].cells
    assert (found["used"], found["level"]) == (3 * NANO, Decimal("0.75"))
    assert (found["fullest"], found["lasts_days"], found["resets"]) == (None, None, None)


def test_a_daily_quota_shows_its_fullest_day_and_how_often_it_was_passed() -> None:
    lines = [call(MONDAY + number * DAY, cost=Decimal(cost)) for number, cost in enumerate((1, 3, 5, 1))]
    board = of(lines, quotas=quotas({"subject": "agent:*", "limit": 2, "period": "day"}))
    found = board.sections["quotas"].rows[0].cells
    assert (found["subject"], found["used"], found["fullest"], found["passed"]) == (
        "agent:code",
        5 * NANO,
        "2026-11-11",
        2,
    )
    assert "Over the limit: agent:code per day (250%)." in board.lead


def test_only_limits_that_are_passed_or_will_be_within_a_week_are_told_first() -> None:
    tags = {"agent": "code", "purpose": "p", "team": "t", "customer": "c"}
    lines = [call(MONDAY + number * DAY, tags=tags, cost=Decimal(1)) for number in range(-7, 9)]
    limits: list[dict[str, object]] = [
        {"subject": "total", "limit": 21},
        {"subject": "agent:code", "limit": 16},
        {"subject": "purpose:p", "limit": 22},
        {"subject": "team:t", "limit": 13},
        {"subject": "customer:c", "limit": 3, "enforcement": "showback"},
    ]
    lead = of(lines, quotas=quotas(*limits)).lead
    assert [said for said in lead if "limit" in said or "pace" in said] == [
        "Over the limit: team:t per month (108%).",
        "Used up within a week at this pace: agent:code per month (2.0 d), total per month (7.0 d).",
    ]


def test_quotas_in_dollars_tokens_and_calls_have_tables_of_their_own() -> None:
    limits: list[dict[str, object]] = [
        {"subject": "total", "limit": 5, "period": "week"},
        {"subject": "total", "limit": 400, "unit": "tokens", "period": "week"},
        {"subject": "agent:code", "limit": 8, "unit": "calls", "period": "week"},
    ]
    board = of([call(MONDAY, cost=Decimal(2), tokens={"in": 80, "out": 20})], quotas=quotas(*limits))
    told = {
        name: [(each.cells["subject"], each.cells["used"], each.cells["level"]) for each in board.sections[name].rows]
        for name in board.sections
        if name.startswith("quotas")
    }
    assert told == {
        "quotas": [("total", 2 * NANO, Decimal("0.4"))],
        "quotas_tokens": [("total", 100, Decimal("0.25"))],
        "quotas_calls": [("agent:code", 1, Decimal("0.125"))],
    }


def test_of_many_quotas_the_fullest_are_shown_and_the_others_counted() -> None:
    lines = [call(MONDAY, tags={"agent": f"a{n:02}"}, cost=Decimal(n + 1)) for n in range(12)]
    limits = [{"subject": f"agent:a{n:02}", "limit": 100, "period": "week"} for n in range(12)]
    report = of(lines, quotas=quotas(*limits)).sections["quotas"]
    assert cells(report, "subject") == [f"agent:a{n:02}" for n in range(11, 1, -1)]
    assert report.notes == ["2 more, each at 2% or below."]


@pytest.mark.parametrize("period", ["day", "month", "life"])
@pytest.mark.parametrize("subject", ["agent:code", "session:*"])
def test_a_quota_of_calls_has_used_what_was_sent(subject: str, period: str) -> None:
    tags = {"agent": "code", "session": "s-1"}
    sent = [call(MONDAY, tags=tags), call(MONDAY, tags=tags, status="refused", cost=Decimal(0), attempts=1)]
    unsent = [call(MONDAY, tags=tags, status="error", cost=Decimal(0), attempts=0)] * 2
    report = of([*sent, *unsent], quotas=quotas({"subject": subject, "limit": 9, "unit": "calls", "period": period}))
    assert cells(report.sections["quotas_calls"], "used") == [2]


def test_the_quotas_of_sessions_do_not_hide_the_others() -> None:
    lines = [call(MONDAY, tags={"agent": "a", "session": f"s-{n}"}, cost=Decimal(n)) for n in range(12)]
    lines.append(call(MONDAY - DAY, tags={"agent": "a", "session": "old"}, cost=Decimal(20)))
    limits = [{"subject": "session:*", "limit": 20, "period": "life"}]
    limits += [{"subject": subject, "limit": 500, "period": "week"} for subject in ("total", "agent:a")]
    report = of(lines, quotas=quotas(*limits)).sections["quotas"]
    shown = cells(report, "subject")
    assert shown[:5] == [f"session:s-{n}" for n in (11, 10, 9, 8, 7)]
    assert shown[-2:] == ["agent:a", "total"]
    assert len(shown) == 10
    assert "session:old" not in shown


def test_what_was_approved_raises_the_limit_of_its_own_window_only() -> None:
    allowances = Allowances(NOW)
    tuesday = int((MONDAY + DAY).timestamp())
    allowances.take(
        Grant(
            "r-1",
            "agent:code",
            unit="usd",
            amount=9 * NANO,
            ends={"day": tuesday + 86_400},
            calls={},
            at=tuesday + 60,
            by="x",
        ),
        trusted=True,
    )
    lines = [call(MONDAY, cost=Decimal(3)), call(MONDAY + DAY, cost=Decimal(4))]
    board = of(lines, quotas=quotas({"subject": "agent:code", "limit": 2, "period": "day"}), allowances=allowances)
    found = board.sections["quotas"].rows[0].cells
    assert (found["used"], found["limit"], found["passed"]) == (3 * NANO, 2 * NANO, 1)


def test_a_pool_takes_what_it_paid_and_the_allocation_the_rest() -> None:
    document = {
        "version": 1,
        "allocation_strategy": "role_based",
        "roles": {"dev": {"allocation": 10, "agents": ["code"], "shared_pool": 4}},
    }
    policy = parse_policy(dumps(document).encode(), "budget.json")
    pool = next(str(each.subject) for each in policy.quotas if each.subject.kind == "pool")
    lines = [call(MONDAY, cost=Decimal(9)), call(MONDAY, cost=Decimal(3), pool=pool.partition(":")[2])]
    rows = of(lines, quotas=policy.quotas).sections["quotas"].rows
    found = {each.cells["subject"]: each.cells["used"] for each in rows}
    assert (found["agent:code"], found[pool]) == (9 * NANO, 3 * NANO)


# Decisions and keys


def test_decisions_of_the_week_are_listed_and_counted() -> None:
    at = "2026-11-10T10:00:00.000Z"
    events = [
        {"event": "approval.request", "at": "2026-11-08T23:00:00.000Z", "by": "early", "subject": "x"},
        {"event": "approval.request", "at": at, "by": "ci", "subject": "agent:code", "amount": 5, "unit": "usd"},
        {"event": "approval.deny", "at": at, "by": "ann", "subject": "agent:code", "reason": "too much"},
        {"event": "subject.freeze", "at": at, "by": "loop breaker", "subject": "session:s-1", "automatic": True},
        {"event": "key.add", "at": at, "by": "ann", "key": "code@openrouter"},
        {"event": "key.rotate", "at": at, "by": "cron", "key": "code@openrouter", "step": "minted"},
        {"event": "key.rotate", "at": at, "by": "cron", "key": "code@openrouter", "step": "swapped"},
        {"event": "anomaly", "at": at, "by": "ann", "subject": "agent:code"},
        {"event": "subject.thaw", "at": "never", "by": "x"},
    ]
    board = of([], events=events)
    report = board.sections["decisions"]
    assert cells(report, "what") == ["asked for", "denied", "stopped by the loop breaker", "key added", "key rotated"]
    assert cells(report, "subject") == ["agent:code"] * 2 + ["session:s-1"] + ["code@openrouter"] * 2
    assert cells(report, "amount")[0] == "$5.00"
    assert report.notes == []
    assert board.facts["events"] == {
        "approval.request": 1,
        "approval.deny": 1,
        "subject.freeze": 1,
        "key.add": 1,
        "key.rotate": 1,
    }


def test_of_many_decisions_the_last_twenty_are_listed_and_all_are_counted() -> None:
    times = [f"2026-11-10T10:{minute:02}:00.000Z" for minute in range(23)]
    events = [{"event": "quota.set", "at": at, "by": "ann", "quota": f"agent:{at[14:16]}"} for at in times]
    board = of([], events=events)
    report = board.sections["decisions"]
    assert cells(report, "at") == times[3:]
    assert report.notes == ["3 earlier events not shown: see `callmeter budget audit show`."]
    assert board.facts["events"] == {"quota.set": 23}


def test_keys_are_due_when_they_expire_soon_or_are_old() -> None:
    keys = [
        KeyAge("fresh", "a", NOW - 10 * DAY, None, 90 * DAY, True),
        KeyAge("old", "b", NOW - 91 * DAY, None, 90 * DAY, True),
        KeyAge("often", "b", NOW - 31 * DAY, None, 30 * DAY, True),
        KeyAge("soon", "c", NOW - DAY, NOW + 13 * DAY, 90 * DAY, False),
        KeyAge("over", "d", None, NOW - DAY, 90 * DAY, False),
        KeyAge("odd", "d", None, None, 90 * DAY, False),
        KeyAge("later", "e", NOW - DAY, NOW + 15 * DAY, 90 * DAY, True),
    ]
    board = of([], keys=keys)
    assert cells(board.sections["keys"], "key") == ["over", "soon", "often", "old", "odd"]
    assert "5 keys to rotate: over, soon, often and 2 more." in board.lead
    assert cells(board.sections["keys"], "why") == [
        "it has expired",
        "it expires soon",
        "it is older than 30 days",
        "it is older than 90 days",
        "nobody knows how old it is",
    ]
    assert cells(board.sections["keys"], "age_days") == [None, 1, 31, 91, None]
    assert cells(board.sections["keys"], "used") == ["no", "no", "yes", "yes", "no"]
    assert cells(board.sections["keys"], "expires_in_days") == [-1, 13, None, None, None]


# Whatever the log holds


ODD = st.builds(
    lambda day, second, agent, model, cost, tokens, status, attempts, source: call(
        MONDAY - 21 * DAY + timedelta(days=day, seconds=second),
        tags={"agent": agent} if agent else {},
        model=model,
        cost=None if cost is None else Decimal(cost).scaleb(-9),
        cost_source="unknown" if cost is None else source,
        tokens=tokens,
        status=status,
        attempts=attempts,
        error="odd" if status != "ok" else None,
    ),
    st.integers(0, 34),
    st.integers(0, 86_399),
    st.sampled_from(["", "a", "b", "\x1b[31m", "<b>", "日本"]),
    st.sampled_from(["gpt-4o", "claude", ""]),
    st.none() | st.integers(0, 10**13),
    st.none() | st.fixed_dictionaries({"in": st.integers(0, 10**6), "out": st.integers(0, 10**5)}),
    st.sampled_from(["ok", "error", "refused", "truncated", "unknown", "cancelled", "timeout"]),
    st.integers(0, 4),
    st.sampled_from(["provider", "price", "estimate"]),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ODD, max_size=30), st.sampled_from(["day", "week", "month"]))
def test_every_review_can_be_made_and_its_parts_add_up(lines: list[bytes], unit: str) -> None:
    span = last_span(NOW, unit, ZoneInfo("Europe/Berlin"))
    found = usage(lines)
    found.zone = span.zone
    board = review(found, span, Sources(now=NOW, rates=no_rates, quotas=quotas({"subject": "agent:*", "limit": 1})))
    records = [parse_record(line.rstrip()) for line in lines]
    whole = sum(each.cost_nano or 0 for each in records if each.instant in span.period)
    assert (board.facts["cost"] or 0) == Decimal(whole).scaleb(-9)
    for name in ("agents", "models", "parts"):
        if name in board.sections:
            assert sum(cost or 0 for cost in cells(board.sections[name], "cost")) == whole  # type: ignore[misc]
    if "why" in board.sections:
        before = sum(each.cost_nano or 0 for each in records if each.instant in span.before.period)
        assert sum(cells(board.sections["why"], "difference")) == whole - before  # type: ignore[arg-type]
    assert board.lead
    assert subject_line(board)


def test_a_week_and_the_one_before_are_asked_about_in_a_few_questions() -> None:
    class Heard:
        def __init__(self, usage: PlainUsage) -> None:
            self._usage = usage
            self.asked: list[str] = []

        def __getattr__(self, name: str) -> object:
            if name not in ("reading", "zone", "as_of"):
                self.asked.append(name)
            return getattr(self._usage, name)

    lines = [call(MONDAY + number * DAY / 4, tags={"agent": f"agent-{number}"}) for number in range(-20, 20)]
    heard = Heard(usage(lines))
    board = review(heard, WEEK, Sources(now=NOW, rates=no_rates))  # type: ignore[arg-type]
    assert {"course", "parts", "agents", "models", "origin"} <= set(board.sections)
    # Each takes a twentieth of a second at ten million calls, however little it is about.
    assert len(heard.asked) <= 4, heard.asked
