"""What could have been saved: each call once, re-priced from its tokens. A test's docstring is its log."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.policy.document import Policy, parse_policy
from callmeter.policy.prices import PER_TOKEN, Price, Rate, cost
from callmeter.reports.report import Report
from callmeter.reports.savings import savings
from callmeter.reports.savings_pricing import Offer, Rates
from callmeter.reports.savings_question import Saving
from callmeter.words.money import nano
from callmeter.words.period import Period
from callmeter.words.record import Tokens, UsageRecord, parse_record
from log_text import at, log_records
from plain_usage import PlainUsage
from usage_lines import call

NOW = at("2026-11-21T00:00Z")
OCTOBER = Period(NOW - timedelta(days=10), NOW, "ten days")


def price(in_: str, out: str, **more: str) -> Price:
    """A price in USD for a million tokens."""
    return Price((Rate({name: Decimal(text).scaleb(-6) for name, text in {"in": in_, "out": out, **more}.items()}),))


OFFERS = {
    "big": Offer(price("10", "30")),
    "small": Offer(price("1", "3")),
    "tiny": Offer(price("0.1", "0.3"), context=1000),
    "cached": Offer(price("10", "30", cached="1", cache_write="12.5")),
    "acme/mid": Offer(price("2", "6")),
    "free": Offer(price("0", "0")),
}


def offers(provider: str, model: str, when: datetime) -> Offer | None:
    return OFFERS.get(model)


@pytest.fixture
def save(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """`save()`: the savings of the docstring's log, in the ten days before NOW."""
    records = log_records(request.function.__doc__)

    def report(policy: Policy | None = None, now: datetime = NOW, **options: Any) -> Report:
        return savings(PlainUsage(records), policy or Policy(), offers, OCTOBER, now, **options)

    return report


def policy(**members: object) -> Policy:
    return parse_policy(json.dumps({"version": 1, **members}).encode(), "budget.json")


def table(report: Report, *names: str) -> list[tuple[object, ...]]:
    return [tuple(row.cells[name] for name in names) for row in report.rows]


def test_calls_are_priced_at_the_cheapest_model_in_use_and_the_report_says_so(save: Callable[..., Report]) -> None:
    """
    2026-11-11T00:00Z agent=a purpose=triage model=big   provider=p cost=0.04 in=1000 out=1000
    2026-11-12T00:00Z agent=a purpose=triage model=big   provider=p cost=0.04 in=1000 out=1000
    2026-11-12T00:00Z agent=b purpose=other  model=small provider=p cost=0.001 in=1000 out=0
    """
    report = save()
    assert table(report, "saving", "where", "what", "calls", "cost", "saved") == [
        ("cheaper model", "triage", "big to small", 2, 80_000_000, 72_000_000)
    ]
    assert table(report, "evidence", "act") == [
        ("in use for other purposes", "llm-call --model small --purpose triage")
    ]
    assert any("since the policy has no list of models; the same tokens at the other price" in n for n in report.notes)


def test_a_month_is_the_period_stretched_and_parts_add_up(save: Callable[..., Report]) -> None:
    """
    2026-11-11T00:00Z agent=a purpose=triage model=big   provider=p cost=0.04 in=1000 out=1000
    2026-11-12T00:00Z agent=a purpose=review model=big   provider=p cost=0.04 in=1000 out=1000
    2026-11-12T00:00Z agent=b purpose=other  model=small provider=p cost=0.001 in=1000 out=0
    """
    report = save()
    assert report.total is not None
    assert report.facts["days"] == 10
    # 365 / 12 days of 0.0072 a day.
    assert report.total["month"] == 219_000_000
    assert sum(row.cells["month"] for row in report.rows) == 219_000_000  # type: ignore[misc]


@pytest.mark.parametrize(
    ("later", "days", "month"), [(30, 10, 219_000_000), (0, 10, 219_000_000), (-5, 5, 438_000_000)]
)
def test_a_month_is_made_of_the_days_of_the_period_that_are_over(
    save: Callable[..., Report], later: int, days: int, month: int
) -> None:
    """
    2026-11-11T00:00Z agent=a purpose=triage model=big   provider=p cost=0.04 in=1000 out=1000
    2026-11-12T00:00Z agent=a purpose=review model=big   provider=p cost=0.04 in=1000 out=1000
    2026-11-12T00:00Z agent=b purpose=other  model=small provider=p cost=0.001 in=1000 out=0
    """
    report = save(now=NOW + timedelta(days=later))
    assert report.total is not None
    assert (report.facts["days"], report.total["month"]) == (days, month)
    assert ("A month is guessed from 5 days." in report.notes) == (days == 5)


def test_only_models_that_the_policys_lists_permit_are_thought_of(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z agent=a purpose=triage model=big   provider=p cost=0.04 in=500 out=400
    2026-11-12T00:00Z agent=b purpose=triage model=big   provider=p cost=0.04 in=500 out=400
    2026-11-12T00:00Z agent=b purpose=other  model=tiny  provider=p cost=0.001 in=500 out=0
    """
    report = save(policy(models={"total": ["big", "small", "tiny"], "agent:a": ["big", "small"]}))
    assert sorted(table(report, "what", "calls", "evidence")) == [
        ("big to small", 1, "never used here"),
        ("big to tiny", 1, "in use for other purposes"),
    ]
    assert save(policy(models=["big"])).rows == []


def test_a_pattern_stands_for_the_models_in_use(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z agent=a purpose=triage model=big   provider=p cost=0.04 in=500 out=400
    2026-11-12T00:00Z agent=b purpose=other  model=small provider=p cost=0.001 in=500 out=0
    """
    assert table(save(policy(models=["*"])), "what") == [("big to small",)]
    assert table(save(policy(models=["b*", "t*"])), "what") == []


def test_a_name_without_its_vendor_is_that_of_the_vendor_in_use(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z agent=a purpose=triage model=acme/big provider=p cost=0.04 in=500 out=400
    """
    assert table(save(policy(models=["big", "mid"])), "what") == [("acme/big to acme/mid",)]


def test_a_model_can_be_asked_about(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z agent=a purpose=triage model=big provider=p cost=0.04 in=500 out=400
    """
    assert save().rows == []
    assert table(save(only=["acme/mid"]), "what", "saved") == [("big to acme/mid", 36_600_000)]


def test_a_call_that_does_not_fit_a_models_context_is_left_where_it_is(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z agent=a purpose=triage model=big provider=p cost=0.03 in=600 out=400
    2026-11-12T00:00Z agent=a purpose=triage model=big provider=p cost=0.03 in=600 out=401
    """
    ((calls, saved, evidence),) = table(save(only=["tiny"]), "calls", "saved", "evidence")
    assert (calls, saved, evidence) == (1, 29_820_000, "never used here; 1 more call does not fit it")


def test_a_model_that_fails_clearly_more_often_is_no_saving() -> None:
    lines = [f"2026-11-12T00:{n:02}Z purpose=t model=big provider=p cost=0.04 in=500 out=400" for n in range(20)]
    failing = [
        f"2026-11-12T01:{n:02}Z purpose=t model=small provider=p cost=0 in=1 out=1 status={'error' if n < 4 else 'ok'}"
        for n in range(20)
    ]
    records = log_records("\n".join(lines + failing))
    assert savings(PlainUsage(records), Policy(), offers, OCTOBER, NOW).rows == []


def test_a_model_that_fails_where_it_serves_already_is_no_saving_for_few_calls_either() -> None:
    lines = [f"2026-11-12T00:{n:02}Z purpose=t model=big provider=p cost=0.04 in=500 out=400" for n in range(5)]
    lines += [f"2026-11-12T02:{n:02}Z purpose=u model=big provider=p cost=0.04 in=500 out=400" for n in range(15)]
    lines += [
        f"2026-11-12T01:{n:02}Z purpose=t model=small provider=p cost=0 in=1 out=1 status={'error' if n < 4 else 'ok'}"
        for n in range(20)
    ]
    usage = PlainUsage(log_records("\n".join(lines)))
    assert table(savings(usage, Policy(), offers, OCTOBER, NOW), "where") == [("u",)]
    # Who asks about a model is told what it would save, and how often it fails.
    asked = savings(usage, Policy(), offers, OCTOBER, NOW, only=["small"])
    assert table(asked, "where", "evidence") == [
        ("u", "in use for other purposes"),
        ("t", "serves this purpose already: 20 calls, 20% failed"),
    ]


def test_a_model_asked_about_that_the_policy_forbids_is_not_passed_over_in_silence(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z agent=a purpose=triage model=big provider=p cost=0.04 in=500 out=400
    2026-11-12T00:00Z agent=b purpose=triage model=big provider=p cost=0.04 in=500 out=400
    2026-11-12T00:00Z agent=b purpose=triage model=big provider=p cost=0.04 in=500 out=400
    """
    report = save(policy(models={"agent:b": ["big"]}), only=["small"])
    assert table(report, "calls") == [(1,)]
    assert "The policy's lists of models keep small from 2 of 3 calls." in report.notes
    assert not any("keep small" in note for note in save(only=["small"]).notes)


def test_calls_that_another_model_would_make_dearer_take_from_what_it_saves(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z purpose=t model=big provider=p cost=0.010 in=1000 out=0
    2026-11-12T00:00Z purpose=t model=big provider=p cost=0.030 in=0    out=1000
    2026-11-12T00:00Z purpose=u model=big provider=p cost=0.001 in=1000 out=0
    2026-11-12T00:00Z purpose=u model=big provider=p cost=0.001 in=1000 out=0
    """
    # At 2 and 6 for a million, the calls of `u`, billed at a tenth of the list, would cost 0.002 each.
    assert table(save(only=["acme/mid"]), "where", "calls", "cost", "saved") == [("t", 2, 40_000_000, 32_000_000)]
    records = log_records("""
        2026-11-12T00:00Z purpose=t model=big provider=p cost=0.010 in=1000 out=0
        2026-11-12T00:00Z purpose=t model=big provider=p cost=0.001 in=1000 out=0
    """)
    report = savings(PlainUsage(records), Policy(), offers, OCTOBER, NOW, only=["acme/mid"])
    assert table(report, "calls", "cost", "saved") == [(2, 11_000_000, 7_000_000)]


def test_a_model_that_would_be_dearer_call_by_call_is_no_saving() -> None:
    """Chosen by the sums, which have the failed call in them; priced by the answered ones."""
    lines = [f"2026-11-12T00:{n:02}Z purpose=t model=big provider=p cost=0.001 in=1000 out=0" for n in range(3)]
    lines += ["2026-11-12T00:09Z purpose=t model=big provider=p cost=0.02 in=1 out=1 status=error"]
    usage = PlainUsage(log_records("\n".join(lines)))
    report = savings(usage, Policy(), offers, OCTOBER, NOW, only=["acme/mid"])
    assert table(report, "saving") == [("failed calls",)]
    assert "cheaper model" not in " ".join(report.notes[:1])
    assert report.facts["alone"]["cheaper model"] == 0  # type: ignore[index]


def test_calls_of_unknown_cost_hide_no_saving(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z purpose=t model=big provider=p cost=0.04 in=1000 out=1000
    2026-11-12T00:01Z purpose=t model=big provider=p in=9000 out=9000
    2026-11-12T00:02Z purpose=t model=big provider=p in=9000 out=9000
    """
    assert table(save(only=["small"]), "calls", "cost", "saved") == [(1, 40_000_000, 36_000_000)]


def test_a_model_that_the_calls_fit_goes_before_a_cheaper_one_that_is_too_small(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z purpose=t model=big provider=p cost=0.003 in=100  out=100
    2026-11-12T00:01Z purpose=t model=big provider=p cost=0.4   in=9000 out=9000
    """
    assert table(save(only=["tiny", "small"]), "what", "calls") == [("big to small", 2)]
    assert table(save(only=["tiny"]), "what", "calls") == [("big to tiny", 1)]


def test_where_nobody_counted_tokens_no_other_model_is_free_of_charge() -> None:
    records = [
        parse_record(call(NOW - timedelta(days=1), id=f"{number}", model=model, tokens=tokens, cost=Decimal("0.04")))
        for number, (model, tokens) in enumerate(
            [("drawing", {"in": 0, "out": 0}), ("drawing", None), ("drawing", {"in": 500, "out": 400})]
        )
    ]
    report = savings(PlainUsage(records), Policy(), offers, OCTOBER, NOW, only=["small"])
    assert table(report, "calls", "cost") == [(1, 40_000_000)]


def test_cached_tokens_are_priced_as_such(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z agent=a purpose=triage model=big provider=p cost=0.01 in=1000 cached=800 out=0
    """
    # 200 tokens at 10 and 800 at 1 for a million.
    assert table(save(only=["cached"]), "saved") == [(nano(Decimal("0.01") - Decimal("0.0028")),)]


def test_failed_calls_and_retries_are_paid_for_and_stopped_ones_are_not_a_waste(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z purpose=t model=big provider=p cost=0.01 in=1000 out=0 status=truncated
    2026-11-12T00:00Z purpose=t model=big provider=p cost=0.02 in=1000 out=0 status=timeout
    2026-11-12T00:00Z purpose=t model=big provider=p cost=0    in=1000 out=0 status=error
    2026-11-12T00:00Z purpose=t model=big provider=p cost=0.02 in=1000 out=0 status=cancelled
    2026-11-12T00:00Z purpose=t model=big provider=p           status=refused
    """
    report = save()
    assert table(report, "saving", "calls", "saved", "evidence") == [
        ("failed calls", 2, 30_000_000, "paid for: 1 timeout, 1 truncated")
    ]


def test_what_a_call_cost_above_the_price_of_its_tokens_went_into_retries() -> None:
    lines = [
        call(NOW - timedelta(days=1), model="big", tokens={"in": 1000, "out": 0}, cost=Decimal("0.035"), attempts=3),
        call(NOW - timedelta(days=1), model="big", tokens={"in": 1000, "out": 0}, cost=Decimal("0.035"), attempts=1),
    ]
    report = savings(PlainUsage(map(parse_record, lines)), Policy(), offers, OCTOBER, NOW)
    assert table(report, "saving", "calls", "saved") == [("retries", 1, 25_000_000)]


def test_answers_far_above_the_usual_are_cut_to_a_ceiling() -> None:
    lines = [f"2026-11-12T00:{n:02}Z purpose=t model=big provider=p cost=0.003 in=1 out=100" for n in range(20)]
    lines += ["2026-11-12T01:00Z purpose=t model=big provider=p cost=0.03 in=1 out=1000"]
    report = savings(PlainUsage(log_records("\n".join(lines))), Policy(), offers, OCTOBER, NOW)
    # 600 tokens above a ceiling of 400.
    assert table(report, "saving", "what", "saved", "act") == [
        ("long answers", "above 400 tokens", 18_000_000, "llm-call --max-tokens 400 --purpose t")
    ]
    often = lines + [line.replace("01:00", f"01:{n:02}") for n, line in enumerate(lines[-1:] * 5, 1)]
    assert savings(PlainUsage(log_records("\n".join(often))), Policy(), offers, OCTOBER, NOW).rows == [], "it is usual"


def conversation(sizes: list[int], seconds: int = 60, **fields: Any) -> list[UsageRecord]:
    first = NOW - timedelta(days=2)
    return [
        parse_record(
            call(
                first + timedelta(seconds=seconds * number),
                model="cached",
                tags={"agent": "a", "session": "s", "purpose": "talk"},
                tokens={"in": size, "out": 100},
                cost=Decimal(size * 10 + 3000).scaleb(-6),
                **fields,
            )
        )
        for number, size in enumerate(sizes)
    ]


def test_a_conversation_that_sends_everything_again_would_have_been_cached() -> None:
    records = conversation([2000, 2200, 2400, 2600])
    report = savings(PlainUsage(records), Policy(), offers, OCTOBER, NOW)
    # Read: 2000, 2200, 2400 tokens at 1 instead of 10; written at 12.5 instead of 10: 2000 at first, then 200 each.
    expected = 9 * (2000 + 2200 + 2400) - Decimal("2.5") * (2000 + 3 * 200)
    assert table(report, "saving", "what", "calls", "saved") == [("prompt cache", "cached", 3, int(expected * 1000))]
    assert str(report.rows[0].cells["evidence"]).startswith(
        "conversations that send all of it again: 6,600 tokens; put"
    )


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(conversation([2000, 2200, 2400]), id="two in a row may be chance"),
        pytest.param(conversation([2000, 2200, 2400, 2600], seconds=301), id="a cache keeps five minutes"),
        pytest.param(conversation([900, 1000, 1023, 1023]), id="too short to be cached"),
        pytest.param(conversation([2000, 2050, 2100, 2150]), id="grows by less than its answers"),
        pytest.param(conversation([9000, 2000, 9000, 2000, 9000]), id="other prompts"),
    ],
)
def test_without_evidence_no_prompt_is_said_to_repeat(records: list[UsageRecord]) -> None:
    assert savings(PlainUsage(records), Policy(), offers, OCTOBER, NOW).rows == []


def test_the_same_prompt_again_is_known_by_its_sketch() -> None:
    records = conversation([5000, 5010, 4990, 5000], prompt_sketch="00ff00ff00ff00ff")
    report = savings(PlainUsage(records), Policy(), offers, OCTOBER, NOW)
    assert table(report, "saving", "calls") == [("prompt cache", 3)]
    assert str(report.rows[0].cells["evidence"]).startswith("the same prompt again, by its sketch")


def test_what_is_cached_already_saves_nothing_more() -> None:
    records = [
        parse_record(
            call(
                NOW - timedelta(days=2, seconds=-60 * number),
                model="cached",
                tags={"agent": "a", "session": "s"},
                tokens={"in": size, "out": 100, "cached": size - 200 if number else 0},
                cost=Decimal("0.01"),
            )
        )
        for number, size in enumerate([2000, 2200, 2400, 2600, 2800])
    ]
    assert savings(PlainUsage(records), Policy(), offers, OCTOBER, NOW).rows == []


def test_a_zombie_costs_all_that_it_spent_after_its_third_day(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z agent=poll session=z purpose=w model=big provider=p cost=1 in=1 out=1
    2026-11-14T23:00Z agent=poll session=z purpose=w model=big provider=p cost=1 in=1 out=1
    2026-11-15T00:00Z agent=poll session=z purpose=w model=big provider=p cost=1 in=1 out=1
    2026-11-17T00:00Z agent=poll session=z purpose=w model=big provider=p cost=1 in=1 out=1
    2026-11-17T00:00Z agent=else session=z purpose=w model=big provider=p cost=1 in=1 out=1
    """
    awake = (at("2026-11-12T00:00Z"), at("2026-11-17T00:00Z"))
    report = save(zombies={("poll", "z"): awake})
    assert table(report, "saving", "where", "what", "calls", "saved") == [("zombie session", "poll", "z", 2, 2 * 10**9)]
    # Nobody can freeze what is over.
    assert report.rows[0].cells["act"] == "callmeter budget breakdown --by day --where session=z"
    report = save(zombies={("poll", "z"): awake}, now=at("2026-11-17T20:00Z"))
    assert str(report.rows[0].cells["act"]).startswith("callmeter budget freeze session:z")


def test_a_call_counts_under_its_largest_saving_alone(save: Callable[..., Report]) -> None:
    """
    2026-11-16T00:00Z agent=poll session=z purpose=w model=big provider=p cost=0.04 in=1000 out=1000
    2026-11-12T00:00Z agent=poll session=z purpose=w model=big provider=p cost=0.04 in=1000 out=1000
    2026-11-12T00:00Z agent=b    session=y purpose=w model=small provider=p cost=0.004 in=1000 out=1000
    """
    report = save(zombies={("poll", "z"): (at("2026-11-12T00:00Z"), at("2026-11-17T00:00Z"))})
    assert table(report, "saving", "calls", "saved") == [
        ("zombie session", 1, 40_000_000),
        ("cheaper model", 1, 36_000_000),
    ]
    assert report.facts["alone"]["cheaper model"] == Decimal("0.072")  # type: ignore[index]
    assert any(note.startswith("Each by itself, which overlap: cheaper model") for note in report.notes)


def test_a_model_that_was_not_tried_for_such_work_hides_no_other_saving() -> None:
    records = conversation([2000, 2200, 2400, 2600])
    others = [call(NOW - timedelta(days=1), model="small", tags={"purpose": "else"}, cost=Decimal(0))]
    untried = savings(PlainUsage([*records, *map(parse_record, others)]), Policy(), offers, OCTOBER, NOW)
    assert table(untried, "saving", "calls") == [("prompt cache", 3), ("cheaper model", 1)]
    assert "with the same models" in untried.notes[0]
    assert untried.notes[0].endswith(" with models not tried for it; each call counts once.")
    served = [call(NOW - timedelta(days=1), model="small", tags={"purpose": "talk"}, cost=Decimal(0))] * 20
    same = [parse_record(line.replace(b'"id":"', b'"id":"%d' % number)) for number, line in enumerate(served)]
    assert table(savings(PlainUsage([*records, *same]), Policy(), offers, OCTOBER, NOW), "saving", "calls") == [
        ("cheaper model", 4)
    ]


def test_a_model_that_serves_the_purpose_goes_before_a_cheaper_one_that_does_not() -> None:
    lines = [f"2026-11-12T00:{n:02}Z purpose=t model=big provider=p cost=0.04 in=500 out=400" for n in range(2)]
    lines += [f"2026-11-12T01:{n:02}Z purpose=t model=small provider=p cost=0 in=5 out=400" for n in range(20)]
    lines += ["2026-11-12T02:00Z purpose=u model=tiny provider=p cost=0 in=5 out=5"]
    report = savings(PlainUsage(log_records("\n".join(lines))), Policy(), offers, OCTOBER, NOW)
    assert table(report, "what") == [("big to small",)]
    nineteen = [line for line in lines if "01:07" not in line]
    report = savings(PlainUsage(log_records("\n".join(nineteen))), Policy(), offers, OCTOBER, NOW)
    assert table(report, "what") == [("big to tiny",)]


def test_corrections_are_part_of_what_a_call_cost(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z purpose=t model=big provider=p cost=1 in=1 out=1 status=unknown id=a
    2026-11-12T00:00Z purpose=t model=big provider=p cost=-0.75 id=b corrects=a cost_source=reconciled
    """
    assert table(save(), "calls", "cost", "saved") == [(1, 250_000_000, 250_000_000)]


def test_rows_beyond_the_largest_are_one_and_nothing_is_lost(save: Callable[..., Report]) -> None:
    """
    2026-11-12T00:00Z purpose=a model=big provider=p cost=4 status=error
    2026-11-12T00:00Z purpose=b model=big provider=p cost=2 status=error
    2026-11-12T00:00Z purpose=c model=big provider=p cost=1 status=error
    """
    report = save(top=1)
    assert table(report, "saving", "saved") == [("failed calls", 4 * 10**9), ("other (2)", 3 * 10**9)]
    assert report.total is not None
    assert sum(row.cells["month"] for row in report.rows) == report.total["month"]  # type: ignore[misc]


def test_names_that_cannot_be_typed_make_no_command(save: Callable[..., Report]) -> None:
    records = [parse_record(call(NOW - timedelta(days=1), tags={"purpose": "a\x1b[2J"}, status="error"))]
    report = savings(PlainUsage(records), Policy(), offers, OCTOBER, NOW)
    assert table(report, "act") == [("",)]
    spaced = [parse_record(call(NOW - timedelta(days=1), tags={"purpose": "a b; rm"}, status="error"))]
    report = savings(PlainUsage(spaced), Policy(), offers, OCTOBER, NOW)
    assert str(report.rows[0].cells["act"]).endswith("--where 'purpose=a b; rm'")


def test_without_calls_there_is_nothing_to_say(save: Callable[..., Report]) -> None:
    assert save().notes == ["No calls in this period."]


models = st.sampled_from(["big", "small", "tiny", "cached", "unknown"])
statuses = st.sampled_from(["ok", "ok", "ok", "error", "truncated", "cancelled", "refused"])


@given(
    st.lists(
        st.tuples(
            st.integers(0, 864_000),
            models,
            statuses,
            st.integers(0, 10**10),
            st.integers(0, 5000),
            st.integers(0, 5000),
        ),
        max_size=30,
    )
)
def test_savings_add_up_and_never_exceed_what_was_spent(calls: list[Any]) -> None:
    records = [
        parse_record(
            call(
                NOW - timedelta(seconds=1 + seconds),
                id=str(number),
                model=model,
                status=status,
                cost=Decimal(cost).scaleb(-9),
                tokens={"in": size, "out": out},
                tags={"agent": "a", "session": f"s{seconds % 3}", "purpose": f"p{out % 2}"},
            )
        )
        for number, (seconds, model, status, cost, size, out) in enumerate(calls)
    ]
    report = savings(PlainUsage(records), Policy(), offers, OCTOBER, NOW, only=["small", "free"], top=2)
    spent = sum(record.cost_nano or 0 for record in records)
    for row in report.rows:
        assert 0 < row.cells["saved"] <= row.cells["cost"] <= spent  # type: ignore[operator]
    if report.total is not None:
        assert sum(row.cells["saved"] for row in report.rows) == report.total["saved"] <= spent  # type: ignore[misc, operator]
        kinds = report.facts["kinds"]
        assert isinstance(kinds, dict)
        assert sum(map(nano, kinds.values())) == report.total["saved"]
        assert set(kinds) == set(Saving)


amounts = st.decimals(0, "0.01", allow_nan=False, places=18)
sizes = st.integers(0, 10**7)


@given(st.dictionaries(st.sampled_from([*PER_TOKEN, "request"]), amounts, min_size=1), st.tuples(*[sizes] * 6))
def test_fast_prices_are_those_of_the_price_list(found: dict[str, Decimal], tokens: tuple[int, ...]) -> None:
    counts = dict(zip(("in", "out", "cached", "cache_write", "cache_write_1h", "reasoning"), tokens, strict=True))
    exact = cost(Price((Rate(found),)), counts, NOW)
    assert Rates(found).cost(Tokens(*tokens)) == (None if exact is None else nano(exact))
