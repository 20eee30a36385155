"""What the spend brought: value and cost by agent, purpose, customer and work item, to the nano-dollar.

A test's docstring is its log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.policy.allocation import Strategy, merit_weights, split
from callmeter.reports.outcomes import standing
from callmeter.reports.report import Board, Report
from callmeter.reports.value import Credits, value
from callmeter.words.money import nano, usd
from callmeter.words.outcome import Outcome
from callmeter.words.period import Period
from log_text import at, log_records
from plain_usage import PlainUsage

DOLLAR = 10**9
DAY = "2026-11-20T12:00:00.000Z"


def outcome(work_item: str, worth: str | None = None, accepted: bool | None = None, **said: Any) -> Outcome:
    id = said.pop("id", f"{work_item}/{worth}/{accepted}/{sorted(said.items())}")
    decimal = None if worth is None else Decimal(worth)
    return Outcome(v=1, id=id, at=said.pop("at", DAY), work_item=work_item, value=decimal, accepted=accepted, **said)


@pytest.fixture
def worth(request: pytest.FixtureRequest) -> Callable[..., Board]:
    """`worth([...])`: the value report of the docstring's log with these outcomes."""
    records = log_records(request.function.__doc__)

    def report(outcomes: Sequence[Outcome], **options: Any) -> Board:
        return value(PlainUsage(records), standing(outcomes), **options)

    return report


def table(report: Report, *names: str) -> list[tuple[object, ...]]:
    return [tuple(row.cells[name] for name in names) for row in report.rows]


def test_an_outcome_is_shared_out_by_what_each_agent_spent_on_its_work_item(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=code purpose=fix    work_item=S-1 cost=3
    2026-11-20T09:01Z agent=docs purpose=write  work_item=S-1 cost=1
    2026-11-20T09:02Z agent=docs purpose=write  work_item=S-2 cost=0.5
    """
    page = worth([outcome("S-1", "10", True)])
    assert table(page.sections["agents"], "agent", "cost", "value", "outputs", "return") == [
        ("code", 3 * DOLLAR, 7_500_000_000, 1, Decimal("2.5")),
        ("docs", 1_500_000_000, 2_500_000_000, 0, Decimal("1.6667")),
    ]
    assert table(page.sections["work_items"], "work_item", "cost", "value", "cost_per_output", "return") == [
        ("S-1", 4 * DOLLAR, 10 * DOLLAR, 4 * DOLLAR, Decimal("2.5"))
    ]
    assert table(page.sections["no_outcome"], "work_item", "cost") == [("S-2", 500_000_000)]


def test_an_output_counts_for_the_agent_that_spent_most_on_it_whatever_its_purposes(
    worth: Callable[..., Board],
) -> None:
    """
    2026-11-20T09:00Z agent=code purpose=fix   work_item=S-1 cost=3
    2026-11-20T09:01Z agent=code purpose=write work_item=S-1 cost=3
    2026-11-20T09:02Z agent=docs purpose=fix   work_item=S-1 cost=4
    2026-11-20T09:03Z agent=aide purpose=write work_item=S-2 cost=1
    2026-11-20T09:04Z agent=zeal purpose=fix   work_item=S-2 cost=1
    """
    page = worth([outcome("S-1", "0.000000001"), outcome("S-2", accepted=False)])
    assert table(page.sections["agents"], "agent", "value", "outputs", "rejected", "cost_per_output") == [
        ("code", 1, 1, 0, 6 * DOLLAR),
        ("docs", 0, 0, 0, None),
        ("aide", 0, 0, 1, None),
        ("zeal", 0, 0, 0, None),
    ]
    assert table(page.sections["purposes"], "purpose", "value", "outputs", "rejected") == [
        ("fix", 1, 1, 1),
        ("write", 0, 0, 0),
    ]


def test_an_outcome_that_names_an_agent_is_all_its_own(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=code purpose=fix    work_item=S-1 cost=3
    2026-11-20T09:01Z agent=docs purpose=write  work_item=S-1 cost=1
    """
    page = worth([outcome("S-1", "10", agent="docs"), outcome("S-1", "7", agent="chat", purpose="talk")])
    assert table(page.sections["agents"], "agent", "cost", "value", "outputs", "return") == [
        ("docs", DOLLAR, 10 * DOLLAR, 1, Decimal(10)),
        ("chat", 0, 7 * DOLLAR, 1, None),
        ("code", 3 * DOLLAR, 0, 0, None),
    ]
    assert ("talk", 7 * DOLLAR) in table(page.sections["purposes"], "purpose", "value")


def test_a_customer_that_no_call_names_takes_no_value_from_those_who_worked(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=code purpose=fix   work_item=S-1 cost=3
    2026-11-20T09:01Z agent=docs purpose=write work_item=S-1 cost=1
    """
    page = worth([outcome("S-1", "8", customer="acme")])
    assert table(page.sections["agents"], "agent", "value") == [("code", 6 * DOLLAR), ("docs", 2 * DOLLAR)]
    assert table(page.sections["customers"], "customer", "value") == [("acme", 8 * DOLLAR), ("(none)", 0)]
    page = worth([outcome("S-1", "8", agent="docs", customer="acme")])
    assert table(page.sections["agents"], "agent", "value") == [("docs", 8 * DOLLAR), ("code", 0)]
    assert table(page.sections["purposes"], "purpose", "value") == [("write", 8 * DOLLAR), ("fix", 0)]


def test_a_purpose_that_no_call_names_gives_no_value_to_another_customers_work(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=code purpose=fix   customer=acme  work_item=S-1 cost=3
    2026-11-20T09:01Z agent=docs purpose=write customer=other work_item=S-1 cost=1
    """
    page = worth([outcome("S-1", "8", purpose="review", customer="acme")])
    assert table(page.sections["agents"], "agent", "value") == [("code", 8 * DOLLAR), ("docs", 0)]
    assert ("review", 8 * DOLLAR) in table(page.sections["purposes"], "purpose", "value")
    # Where nobody worked for the customer as that agent, the agent is whom it names.
    page = worth([outcome("S-1", "8", agent="docs", customer="acme")])
    assert table(page.sections["agents"], "agent", "value") == [("docs", 8 * DOLLAR), ("code", 0)]


def test_cost_without_a_work_item_is_stated_and_in_the_returns(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=code work_item=S-1 cost=1
    2026-11-20T09:01Z agent=code               cost=3
    """
    page = worth([outcome("S-1", "8")])
    assert page.facts["unattributed_cost"] == 3
    assert table(page.sections["agents"], "return") == [(Decimal(2),)]
    assert table(page.sections["work_items"], "return") == [(Decimal(8),)]
    assert any(note.startswith("$3.00 (75%) was spent without a work item") for note in page.notes)


def test_what_was_rejected_is_worth_nothing_and_no_output(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=code work_item=S-1 cost=1
    2026-11-20T09:01Z agent=code work_item=S-2 cost=3
    """
    page = worth([outcome("S-1", "8", True), outcome("S-2", "5", False)])
    assert table(page.sections["summary"], "cost", "value", "outputs", "rejected", "cost_per_output") == [
        (4 * DOLLAR, 8 * DOLLAR, 1, 1, 4 * DOLLAR)
    ]


def test_verdicts_without_values_give_costs_per_output_and_no_returns(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=code work_item=S-1 cost=1
    2026-11-20T09:01Z agent=code work_item=S-2 cost=3
    """
    page = worth([outcome("S-1", accepted=True), outcome("S-2", accepted=False)])
    assert table(page.sections["agents"], "cost_per_output", "return") == [(4 * DOLLAR, None)]
    assert any(note.startswith("2 outcomes have a verdict and no value") for note in page.notes)


def test_a_cost_that_nobody_knows_makes_no_cost_per_output(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=code work_item=S-1
    """
    page = worth([outcome("S-1", "8", True)])
    assert table(page.sections["agents"], "cost", "unknown", "outputs", "cost_per_output", "return") == [
        (None, 1, 1, None, None)
    ]
    assert table(page.sections["summary"], "cost", "cost_per_output") == [(None, None)]
    assert table(worth([]).sections["summary"], "cost", "unattributed", "no_outcome") == [(None, 0, None)]


def test_outcomes_of_work_items_without_calls_are_listed(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=code work_item=S-1 cost=1
    """
    page = worth([outcome("S-7", "8", True, customer="acme")])
    assert table(page.sections["no_cost"], "work_item", "value", "cost_per_output") == [("S-7", 8 * DOLLAR, None)]
    assert table(page.sections["customers"], "customer", "cost", "value") == [
        ("acme", 0, 8 * DOLLAR),
        ("(none)", DOLLAR, 0),
    ]


def test_of_an_outcome_that_no_one_call_fits_the_agent_counts_before_the_purpose(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=code purpose=fix   customer=acme  work_item=S-1 cost=3
    2026-11-20T09:01Z agent=docs purpose=write customer=other work_item=S-1 cost=1
    """
    page = worth([outcome("S-1", "8", agent="code", purpose="write")])
    assert table(page.sections["agents"], "agent", "value") == [("code", 8 * DOLLAR), ("docs", 0)]
    assert table(page.sections["purposes"], "purpose", "value") == [("write", 8 * DOLLAR), ("fix", 0)]
    assert table(page.sections["customers"], "customer", "value") == [("acme", 8 * DOLLAR), ("other", 0)]


def test_without_outcomes_the_report_says_how_to_record_one(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=code work_item=S-1 cost=1
    """
    page = worth([])
    assert "`callmeter budget outcome record`" in page.notes[0]
    assert list(page.sections) == ["summary", "agents", "purposes", "no_outcome"]
    assert table(page.sections["no_outcome"], "work_item") == [("S-1",)]


def test_a_period_is_about_its_calls_and_its_outcomes(worth: Callable[..., Board]) -> None:
    """
    2026-10-20T09:00Z agent=code work_item=S-1 cost=100
    2026-11-20T09:00Z agent=code work_item=S-1 cost=1
    """
    november = Period(at("2026-11-01"), at("2026-12-01"), "November")
    page = worth([outcome("S-1", "8")], period=november)
    assert table(page.sections["summary"], "cost", "value") == [(DOLLAR, 8 * DOLLAR)]
    early = standing([outcome("S-1", "8", at="2026-10-31T23:59:59.999Z")], period=november)
    assert early == []


def test_work_items_of_free_calls_share_by_the_number_of_calls(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=a work_item=S-1 cost=0
    2026-11-20T09:01Z agent=a work_item=S-1 cost=0
    2026-11-20T09:02Z agent=b work_item=S-1 cost=0
    """
    page = worth([outcome("S-1", "9")])
    assert table(page.sections["agents"], "agent", "value") == [("a", 6 * DOLLAR), ("b", 3 * DOLLAR)]


def test_rows_that_are_not_shown_are_one(worth: Callable[..., Board]) -> None:
    """
    2026-11-20T09:00Z agent=a work_item=S-1 cost=4
    2026-11-20T09:01Z agent=b work_item=S-1 cost=2
    2026-11-20T09:02Z agent=c work_item=S-1 cost=1
    """
    agents = worth([outcome("S-1", "7")], top=1).sections["agents"]
    assert table(agents, "agent", "cost", "value") == [
        ("a", 4 * DOLLAR, 4 * DOLLAR),
        ("other (2)", 3 * DOLLAR, 3 * DOLLAR),
    ]


def test_a_correction_changes_what_it_says_and_leaves_the_rest() -> None:
    first = outcome("S-1", "8", True, id="a", agent="code")
    lines = [
        first,
        Outcome(v=1, id="b", at=DAY, corrects="a", value=Decimal(3)),
        Outcome(v=1, id="c", at=DAY, corrects="b", accepted=False),
        Outcome(v=1, id="d", at=DAY, corrects="nothing", value=Decimal(99)),
    ]
    assert [(each.id, each.value, each.accepted, each.agent) for each in standing(lines)] == [("a", 3, False, "code")]


def test_what_was_recorded_after_as_of_is_left_out_corrections_too() -> None:
    lines = [
        outcome("S-1", "8", id="a", recorded_at="2026-11-20T12:00:00.000Z"),
        Outcome(v=1, id="b", at=DAY, corrects="a", value=Decimal(3), recorded_at="2026-11-22T00:00:00.000Z"),
        outcome("S-2", "1", id="c", recorded_at="2026-11-23T00:00:00.000Z"),
    ]
    assert [(each.id, each.value) for each in standing(lines, as_of=at("2026-11-21"))] == [("a", 8)]
    assert [(each.id, each.value) for each in standing(lines)] == [("a", 3), ("c", 1)]


names = st.sampled_from(["", "a", "b", "c"])
costs = st.integers(0, 10**12).map(usd)


@given(
    st.lists(st.tuples(names, names, names, names, costs), max_size=12),
    st.lists(st.tuples(names.filter(bool), costs, names, names, names), max_size=8),
)
def test_parts_add_up_to_cost_and_value_exactly(calls: list[Any], outcomes: list[Any]) -> None:
    lines = "\n".join(
        f"2026-11-20T09:00Z cost={cost} "
        + " ".join(
            f"{name}={text}"
            for name, text in zip(("agent", "purpose", "customer", "work_item"), tags, strict=True)
            if text
        )
        for *tags, cost in calls
    )
    done = [
        outcome(item, str(amount), agent=agent, purpose=purpose, customer=customer, id=str(number))
        for number, (item, amount, agent, purpose, customer) in enumerate(outcomes)
    ]
    credits = Credits.of(PlainUsage(log_records(lines)), done)
    for name in ("agent", "purpose", "customer", "work_item"):
        groups = credits.by(name).values()
        assert sum(group.cost for group in groups) == sum(nano(each[-1]) for each in calls)
        assert sum(group.value for group in groups) == sum(nano(each[1]) for each in outcomes)
        assert sum(group.outputs for group in groups) == sum(each[1] > 0 for each in outcomes)


@given(st.dictionaries(st.text("abc*", min_size=1, max_size=2), st.integers(0, 10**25), max_size=6))
def test_merit_is_shared_out_whole_and_never_to_everybody_at_once(earned: dict[str, int]) -> None:
    weights = merit_weights(Strategy("equal_base_plus_merit"), earned)
    assert not any("*" in name for name in weights)
    assert all(0 < weight <= 10**9 for weight in weights.values())
    assert sum(split(100 * DOLLAR, weights).values()) == (100 * DOLLAR if weights else 0)
