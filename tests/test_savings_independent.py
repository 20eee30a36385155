"""`budget savings` against an independent computation over raw lines (`independent_savings`), to the nano-dollar.

The log is hostile: lines in no order, broken and foreign ones, duplicates, corrections before and after their calls and
of calls that nobody knows, costs unknown, absurd or 0, parts of prompts larger than the prompts, sessions over days.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

import independent_savings as independent
from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.words.jsontext import dumps

END = datetime(2026, 11, 21, tzinfo=UTC)
START = END - timedelta(days=30)
LATE = END - timedelta(days=11)  # a price begins, and one ends
LINES = 1500
# USD for a million tokens; `v/new` has a price from LATE on and `v/gone` until then, `w/unknown` has none.
PRICES: dict[str, dict[str, str]] = {
    "v/big": {"input": "3", "output": "15", "cached": "0.3", "cache_write": "3.75", "cache_write_1h": "6"},
    "v/mid": {"input": "0.8", "output": "4", "cached": "0.08"},
    "v/small": {"input": "0.15", "output": "0.6", "cached": "0.0375", "reasoning": "0.7"},
    "v/new": {"input": "0.4", "output": "2"},
    "v/gone": {"input": "2.5", "output": "10"},
    "w/tiny": {"input": "0.0123456", "output": "0.3"},
    "w/fee": {"input": "0.01", "output": "0.01", "request": "0.01"},
}
FROM, UNTIL = {"v/new": LATE}, {"v/gone": LATE}
MODELS = [*PRICES, "w/unknown"]
PURPOSES = ("fix", "write", "sum; drop", None)
JUNK = (b"", b"{", b"null", b"[1]", b"\x00\x01", b'{"event":"of another tool"}', b'{"v":2,"id":"x"}', b"\xff\xfe")


def test_every_figure_is_that_of_plain_loops_over_the_lines(home: Path) -> None:
    kinds: set[str] = set()
    for seed in range(3):
        lines = made_log(seed)
        asked = ("", "v/small", "")[seed % 3]
        policy: dict[str, Any] = (
            {"models": {"total": ["v/*", "w/*"], "agent:a": ["v/big", "small"]}} if seed % 3 == 2 else {}
        )
        page = reported(home, lines, policy, *(("--to", asked) if asked else ()))
        calls, rest = independent.read_calls(lines, END)
        expected = independent.saved(calls, START, END, priced, listed if policy else independent.Lists(), asked)
        # A prompt can repeat in two ways, which have rows of their own.
        found: dict[tuple[str, str, str], tuple[int, int, int]] = {}
        for row in page["rows"]:
            place = row["saving"], row["where"], row["what"]
            before = found.get(place, (0, 0, 0))
            found[place] = before[0] + row["calls"], before[1] + nano(row["cost"]), before[2] + nano(row["saved"])
        assert found == expected.rows
        facts = page["facts"]
        assert {kind: nano(usd) for kind, usd in facts["kinds"].items()} == expected.kinds
        assert {kind: nano(usd) for kind, usd in facts["alone"].items()} == expected.alone
        assert nano(facts["spent"]) == expected.spent + sum(money for at, money in rest if START <= at < END)
        whole = sum(saved for _, _, saved in expected.rows.values())
        assert nano(page["total"]["month"]) == round(Fraction(whole, 30) * Fraction(365, 12))
        assert sum(nano(row["month"]) for row in page["rows"]) == nano(page["total"]["month"])
        kinds |= {kind for kind, sum_ in expected.kinds.items() if sum_}
    assert kinds == set(independent.KINDS)


def reported(home: Path, lines: list[bytes], policy: dict[str, Any], *arguments: str) -> Any:
    """What the command says of these lines."""
    (home / "usage.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (home / "budget.json").write_text(json.dumps(policy))
    entries = []
    for model, amounts in PRICES.items():
        dates = {"from": FROM.get(model), "until": UNTIL.get(model)}
        given = {**amounts, **{name: f"{at:%Y-%m-%d}" for name, at in dates.items() if at is not None}}
        entries += [f'[p."{model}"]', *(f'{name} = "{text}"' for name, text in given.items())]
    (home / "prices.toml").write_text("\n".join(entries))
    world = World(clock=lambda: END.timestamp())
    options = ["--as-of", "2026-11-20", "--top", "1000", "--format", "json", *arguments]
    result = CliRunner().invoke(app, ["budget", "savings", *options], obj=world)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_float=Decimal)


def nano(usd: Any) -> int:
    return int(Decimal(usd).scaleb(9))


def priced(provider: str, model: str, at: datetime) -> dict[str, Fraction] | None:
    """In nano-dollars for a token, or for a call."""
    if provider != "p" or model not in PRICES or at < FROM.get(model, at) or at >= UNTIL.get(model, END + timedelta(1)):
        return None
    amounts = {name: Fraction(text) * 1000 for name, text in PRICES[model].items()}
    in_, out = amounts["input"], amounts["output"]
    write = amounts.get("cache_write", in_)
    return {
        "in": in_,
        "out": out,
        "cached": amounts.get("cached", in_),
        "cache_write": write,
        "cache_write_1h": amounts.get("cache_write_1h", write),
        "reasoning": amounts.get("reasoning", out),
        "request": Fraction(PRICES[model].get("request", 0)) * 10**9,
    }


listed = independent.Lists(
    permits=lambda call, model: call.tags.get("agent") != "a" or model in ("v/big", "v/small"),
    named=lambda call: ["v/big", "v/small"] if call.tags.get("agent") == "a" else [],
    alike=lambda call: (call.tags.get("agent", "(none)"),),
)


def made_log(seed: int) -> list[bytes]:
    """Lines in no order."""
    chance = random.Random(seed)
    ids = (f"{chance.getrandbits(32):08x}-0000-7000-8000-{number:012x}" for number in count())
    records = [*single_calls(chance, ids), *conversations(chance, ids), *zombie(chance, ids)]
    for _ in range(LINES // 8):
        call = chance.choice(records)
        change = chance.choice([Decimal("-0.0001"), Decimal("0.02"), Decimal(0), None, -(call["cost"] or Decimal(0))])
        recorded = END + timedelta(hours=chance.choice([-1, 5]))
        if "corrects" not in call:
            fields = {name: call[name] for name in ("v", "timestamp", "tags", "provider", "model", "status")}
            corrects = call["id"] if chance.random() < 0.95 else "nobody's"
            source = "unknown" if change is None else "reconciled"
            said = {"cost": change, "cost_source": source, "corrects": corrects, "recorded_at": text(recorded)}
            records.append({**fields, "id": next(ids), **said})
    chance.shuffle(records)
    lines = [dumps(record).encode() for record in records]
    for _ in range(60):
        lines.insert(chance.randrange(len(lines)), chance.choice([*JUNK, *lines[:99]]))
    return lines


def single_calls(chance: random.Random, ids: Iterator[str]) -> Iterator[dict[str, Any]]:
    one = chance.choice
    for _ in range(LINES):
        size, said = int(chance.expovariate(1 / 2000)), int(chance.expovariate(1 / 300))
        tokens: dict[str, int] | None = {"in": size, "out": said if chance.random() < 0.97 else 9000}
        cached, reasoning = one([size // 2, size + 5]), one([said // 2, said + 7])
        written = {"cache_write": size // 2, "cache_write_1h": size // 3}
        odd = one([{}, {}, {}, {}, {"cached": cached}, {"reasoning": reasoning}, written])
        tokens = one([None, {"in": 0, "out": 0}]) if chance.random() < 0.05 else {**(tokens or {}), **odd}
        model = one(MODELS)
        status = one(["ok"] * 20 + ["error", "timeout", "truncated", "unknown", "cancelled", "refused"])
        cost = charged(model, tokens) * one([1] * 12 + [2])
        if chance.random() < 0.1:
            cost = one([Decimal(0), Decimal("0.00031"), Decimal("0.7")])
        yield made(
            ids,
            START - timedelta(days=3) + timedelta(milliseconds=chance.randrange(33 * 86_400_000 - 1)),
            {"agent": one(["a", "b", "b", None]), "purpose": one(PURPOSES), "session": one(["s", "t", None])},
            model,
            None if status == "refused" else tokens,
            Decimal(0) if status == "refused" else one([cost] * 20 + [None]),
            status=status,
            attempts=one([1] * 9 + [2]),
            provider=one(["p"] * 9 + ["q"]),
        )


def conversations(chance: random.Random, ids: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Prompts that grow, or come again."""
    for number in range(40):
        at = START + timedelta(seconds=chance.randrange(29 * 86_400))
        grows, size = chance.random() < 0.6, chance.choice([900, 1024, 3000])
        tags = {"agent": "b", "purpose": "talk", "session": f"c-{number}" if grows else None}
        model, sketch = chance.choice(["v/big", "v/mid", "w/unknown"]), f"{chance.getrandbits(64):016x}"
        for _ in range(chance.randrange(2, 9)):
            tokens = {"in": size, "out": chance.randrange(1, 200), "cached": chance.choice([0, 0, 512])}
            yield made(ids, at, tags, model, tokens, charged(model, tokens), prompt_sketch=sketch)
            at += timedelta(seconds=chance.choice([10, 60, 299.999, 300, 300.001]))
            size += tokens["out"] + chance.randrange(-1, 50) if grows else chance.choice([0, size // 50, -5])


def zombie(chance: random.Random, ids: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Awake for five days, from before the period's last week on."""
    at = END - timedelta(days=9)
    while at < END - timedelta(days=4):
        tokens = {"in": 5000, "out": 200}
        yield made(ids, at, {"agent": "z", "purpose": "watch", "session": "z-1"}, "v/big", tokens, Decimal("0.15"))
        at += timedelta(hours=chance.choice([1, 2, 6]))


def charged(model: str, tokens: dict[str, int] | None) -> Decimal:
    amounts = PRICES.get(model, {"input": "1", "output": "2"})
    size, said = (0, 0) if tokens is None else (tokens["in"], tokens["out"])
    parts = size * Decimal(amounts["input"]) + said * Decimal(amounts["output"])
    return (parts.scaleb(-6) + Decimal(amounts.get("request", "0"))).quantize(Decimal("1e-9"))


def made(
    ids: Iterator[str],
    at: datetime,
    tags: dict[str, str | None],
    model: str,
    tokens: dict[str, int] | None,
    cost: Decimal | None,
    **more: Any,
) -> dict[str, Any]:
    return {
        "v": 1, "id": next(ids), "timestamp": text(at), "tags": {n: v for n, v in tags.items() if v is not None},
        "provider": "p", "model": model, **({} if tokens is None else {"tokens": tokens}), "cost": cost,
        "cost_source": "unknown" if cost is None else "price", "status": "ok", "attempts": 1, **more,
    }  # fmt: skip


def text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"
