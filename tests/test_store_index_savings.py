"""What could be saved: the usage index says the same as plain loops over the log, to the nano-dollar, for any log."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import count
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callmeter.policy.document import Policy, parse_policy
from callmeter.policy.prices import Price, Rate, cost
from callmeter.reports import savings_calls
from callmeter.reports.report import Report
from callmeter.reports.savings import savings
from callmeter.reports.savings_pricing import Offer, Tariffs
from callmeter.reports.savings_question import Question, Saving, Work
from callmeter.store import index_savings
from callmeter.store.index import UsageIndex
from callmeter.store.usage_log import read_records
from callmeter.words.money import nano
from callmeter.words.period import EVER, Period
from callmeter.words.record import Tokens
from log_text import at
from plain_usage import PlainUsage
from usage_lines import call, write

FIRST = at("2026-11-18T22:50Z")
NOW = at("2026-11-21T00:00Z")
MODELS = ["big", "small", "odd", "night", "it's"]
SKETCHES = ["00ff00ff00ff00ff", "ffffffffffffffff", "no sketch", None]

HOSTILE = ["it's", "'; DROP TABLE rows; --", "\x00\x1b[2J", "(none)", "$p0", "😀"]
LISTS = {"total": ["big", "small", "o*"], "agent:a": ["big", "night"], "team:x": ["small", "big"], "key:k": ["odd"]}
FIELDS = ("in", "out", "cached", "cache_write", "cache_write_1h", "reasoning")


def made_log(random: Random, conversations: int) -> list[bytes]:
    """Conversations, single calls, corrections; not always in order of time."""
    ids = (f"01a0c450-6c00-7aa0-81e1-{number:012x}" for number in count())
    lines = [line for _ in range(conversations) for line in made_conversation(random, ids)]
    for _ in range(len(lines) // 8):
        target = f"01a0c450-6c00-7aa0-81e1-{random.randrange(len(lines) + 9):012x}"
        change = random.choice([Decimal("-0.02"), Decimal("0.05"), Decimal(0), None])
        moment = FIRST + timedelta(seconds=random.randrange(7200))
        lines.append(call(moment, next(ids), corrects=target, cost=change, tokens=None, cost_source="reconciled"))
    if random.random() < 0.5:
        random.shuffle(lines)
    return lines


def made_conversation(random: Random, ids: Iterator[str]) -> list[bytes]:
    """Calls of one session whose prompts grow by what was said, mostly; or repeat."""
    one = random.choice
    own = [("a", f"s-{random.randrange(100)}")] * 6
    agent, session = one([*own, ("a", "s"), ("a", "t"), ("b", "t"), ("b", ""), ("", "s"), ("c", "(none)")])
    tags = {"agent": agent, "session": session, "team": one("xy")} | one(
        [{}, {"purpose": "p"}, {"purpose": one(HOSTILE)}]
    )
    fields: dict[str, Any] = {"model": one(MODELS), "provider": one(["p", "p", "p", ""]), "key": one(["k", None])}
    is_plain, grows, sketch = random.random() < 0.4, random.random() < 0.6, one(SKETCHES)
    # Many are under way at midnight, or when another hour begins.
    moment = FIRST + timedelta(seconds=one([0, 3600]) + random.randrange(900))
    out, size = 0, one([0, 10, 1000, 1024, 1480, 3000, 9000])
    lines = []
    for _ in range(random.randint(1, 8)):
        moment += timedelta(seconds=one([0, 60, 60, 60, 60, 60, 300, 300.001, 90_000]))
        grown = out if grows else 0
        size = max(0, size + one([grown, grown, grown, grown, grown, grown + 5, grown - 1]))
        out = one([1, *[10] * 12, 0, 400])
        tokens: dict[str, int] | None = {"in": size, "out": out}
        if not is_plain:
            parts = (
                one([0, 0, 0, size // 2, size + 5]),
                one([0, 0, size // 3]),
                one([0, 0, size // 4]),
                one([0, 0, out // 2, out + 1]),
            )
            tokens = None if random.random() < 0.1 else dict(zip(FIELDS, (size, out, *parts), strict=True))
            fields["status"] = one(["ok"] * 8 + ["error", "truncated", "unknown", "cancelled", "refused"])
            fields["attempts"] = one([1, 1, 1, 2, 0])
        cost = one([Decimal("0.1"), Decimal("0.1"), Decimal("0.002"), Decimal(0), None])
        lines.append(call(moment, next(ids), **fields, tags=tags, tokens=tokens, cost=cost, prompt_sketch=sketch))
    return lines


def made_offers(random: Random) -> dict[str, Offer]:
    """Of most models; by size of the prompt, by hour, from an instant on, with amounts that nobody knows."""

    def some(*names: str, most: int = 30_000) -> dict[str, Decimal]:
        return {name: Decimal(random.randint(0, most)).scaleb(-10) for name in names}

    late = at("2026-11-18T23:10Z")
    rates = {
        "big": [Rate(some("in", "out", "request")), Rate(some("cached", most=999)), Rate(some("cache_write"))],
        "small": [Rate(some("in", "out", most=3000)), Rate(some("in"), above=1500)],
        "odd": [Rate(some(*random.choice([("in",), ("out",), ("cached", "out"), ("in", "reasoning")])))],
        "night": [
            Rate(some("in", "out", "cache_write")),
            Rate(some("in", "cached"), start=23 * 60, end=30),
            Rate(some("out", "cache_write_1h"), since=late, above=1000),
            Rate(some("out"), until=late, days=(2,), whole=random.random() < 0.5),
        ],
    }
    limits = random.choice([(None, None), (2000, None), (None, 100), (1 << 20, 1 << 16)])
    return {model: Offer(Price(tuple(each)), *limits) for model, each in rates.items()}


def agreed(
    lines: list[bytes],
    offers: dict[str, Offer],
    at_once: int = 1_000_000,
    *,
    policy: Policy | None = None,
    only: Sequence[str] = (),
    period: Period = EVER,
    as_of: datetime | None = None,
    zone: tzinfo = UTC,
) -> Report:
    """What the index and the plain loops both say."""
    early = FIRST - timedelta(hours=71)
    zombies = {("a", "s"): (early, NOW), ("b", "t"): (early, FIRST + timedelta(hours=2))}
    with (
        tempfile.TemporaryDirectory() as temporary,
        patch.object(index_savings, "_AT_ONCE", at_once),
        patch.object(savings_calls, "_FEWEST", 5),
    ):
        log = write(Path(temporary) / "usage.jsonl", lines)
        index = UsageIndex([log], str(Path(temporary) / "index"), zone, as_of)
        plain = PlainUsage(read_records([log]), zone, as_of)
        assert index.answer_sizes(period=period) == plain.answer_sizes(period=period)
        found, expected = (
            savings(
                usage,
                policy or Policy(),
                lambda provider, model, when: offers.get(model),
                period,
                NOW,
                zombies=zombies,
                only=only,
                top=100,
            )
            for usage in (index, plain)
        )
    assert found == expected
    return found


@pytest.mark.parametrize("at_once", [60, 1_000_000])
def test_every_kind_of_saving_is_the_same_in_the_index_as_in_plain_loops(at_once: int) -> None:
    kinds: set[object] = set()
    evidence = ""
    for seed in range(8):
        random = Random(seed)
        only = [["night", "odd"], ["small"], []][seed % 3]
        report = agreed(made_log(random, 60), made_offers(random), at_once, only=only)
        kinds |= {row.cells["saving"] for row in report.rows}
        evidence += " ".join(str(row.cells["evidence"]) for row in report.rows)
    assert kinds == set(Saving)
    assert "conversations that send all of it again" in evidence
    assert "the same prompt again, by its sketch" in evidence


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.randoms(use_true_random=True),
    st.integers(1, 8),
    st.sampled_from([EVER, Period(FIRST + timedelta(minutes=30), NOW, ""), Period(NOW, None, "")]),
    st.sampled_from([None, NOW, FIRST + timedelta(hours=1)]),
    st.sampled_from([UTC, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("America/St_Johns")]),
    st.sampled_from([1, 5, 1_000_000]),
)
def test_index_and_plain_loops_agree_on_any_part_of_a_log(
    random: Random, size: int, period: Period, as_of: datetime | None, zone: tzinfo, at_once: int
) -> None:
    only = random.choice([[], [], ["small"], ["night", "odd"]])
    policy = parse_policy(json.dumps({"version": 1, "models": LISTS}).encode(), "") if size % 2 else None
    lines, offers = made_log(random, size), made_offers(random)
    report = agreed(lines, offers, at_once, policy=policy, only=only, period=period, as_of=as_of, zone=zone)
    for row in report.rows:
        saved, cost_ = row.cells["saved"], row.cells["cost"]
        assert isinstance(saved, int) and isinstance(cost_, int) and 0 < saved <= cost_


@given(
    st.randoms(use_true_random=True),
    st.sampled_from(["big", "small", "odd", "night"]),
    st.integers(0, 3 * 86_400_000),
    st.tuples(*[st.integers(0, 3000)] * 6),
)
def test_the_charges_of_a_day_are_the_prices_of_its_instants(
    random: Random, model: str, later: int, parts: tuple[int, ...]
) -> None:
    offer = made_offers(random)[model]
    when = FIRST + timedelta(milliseconds=later)
    milliseconds = (when - at("1970-01-01T00:00Z")) // timedelta(milliseconds=1)
    tariff = Tariffs(lambda provider, model, at: offer).charges("p", model, {when.toordinal()})
    held = [
        each.rates.cost(Tokens(*parts))
        for each in tariff
        if each.begin <= milliseconds < each.end
        and each.above < parts[0]
        and (each.upto is None or parts[0] <= each.upto)
    ]
    exact = cost(offer.price, dict(zip(FIELDS, parts, strict=True)), when)
    assert held in ([[], [None]] if exact is None else [[nano(exact)]])


@pytest.mark.parametrize("cost_", ["123456789.987654321", "0.000000001"])
def test_the_largest_numbers_and_the_finest_prices_are_exact(tmp_path: Path, cost_: str) -> None:
    most = (1 << 53) - 1
    fields: dict[str, Any] = {"model": "big", "tags": {"purpose": "p"}, "attempts": 2, "cost": Decimal(cost_)}
    log = write(tmp_path / "usage.jsonl", [call(FIRST, **fields, tokens={"in": most, "out": most, "cached": 7})])
    offer = Offer(Price((Rate(dict.fromkeys(("in", "out"), Decimal("0.009999999999999999"))),)))
    tariff = Tariffs(lambda provider, model, at: offer).charges("p", "big", {FIRST.toordinal()})
    question = Question(("purpose", "model"), [Work(("p", "big"), 0, 0, ceiling=10)], [tariff])
    answer = UsageIndex([log], str(tmp_path / "index"), UTC).savings(question)
    assert answer == PlainUsage(read_records([log])).savings(question)
    assert answer.alone[Saving.ANSWERS] == nano(Decimal(cost_))
