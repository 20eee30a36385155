"""Sums of reports against an independent computation: a plain loop over the raw lines, with nothing of callmeter in it.

The log is as bad as logs get: broken and foreign lines, duplicates, corrections known early and late, unknown costs,
costs of less than a nano-dollar, refused calls, hostile names; lines in no order, from hosts that copied each other,
packed or not, over days on which the clocks change and months end.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import zstandard

from callmeter.cli.rendering import render
from callmeter.policy.document import parse_policy
from callmeter.reports.breakdown import Question, breakdown
from callmeter.reports.forecast_history import Present, histories
from callmeter.reports.metrics import metrics
from callmeter.reports.review import Sources, review
from callmeter.reports.review_span import last_span
from callmeter.reports.savings import savings
from callmeter.reports.value import value
from callmeter.store import index_sums
from callmeter.store.index import UsageIndex
from callmeter.words.period import Period

FIRST, DAYS, LINES = datetime(2026, 9, 20, tzinfo=UTC), 62, 3000
ZONES = ("UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns")
AGENTS = ("code", "review", "=cmd()", "<script>alert(1)</script>", "\x1b[31mred", "żółw", "a*b", "", None)
NAMES: Mapping[str, tuple[str | None, ...]] = {
    "agent": AGENTS,
    "purpose": ("triage", "answer", "'; DROP TABLE rows; --", None),
    "session": ("s-1", "s-2", "s-3", None),
    "work_item": ("SUP-1", "SUP-2", None),
    "customer": ("acme", None),
    "team": ("search", "plat form", None),
}
MODELS = ("anthropic/claude-3.5-sonnet", "openai/gpt-4o-mini", "local/\u202emodel", "")
GROUPINGS = (*NAMES, "model", "provider", "status", "key", "host", "day", "week", "month")
JUNK = (
    b"", b"   ", b"not json", b"{", b"[]", b"null", b'"text"', b"\x00\x01", b'{"v":1}', b'{"hello":"world"}',
    b'{"v":1,"id":"x","timestamp":"yesterday","tags":{},"model":"m"}', b'\xff\xfe{"v":1}', b'{"v":1,"id":"torn","times',
)  # fmt: skip
Line = dict[str, Any]


def made_lines(seed: int) -> list[bytes]:
    """Lines in no order."""
    chance = random.Random(seed)
    lines: list[bytes] = []
    ids: list[Line] = []
    for number in range(LINES):
        at = FIRST + timedelta(milliseconds=chance.randrange(DAYS * 86_400_000))
        if chance.random() < 0.1:  # around midnights, months' ends and the nights on which clocks change
            day = chance.choice((date(2026, 10, 25), date(2026, 10, 4), date(2026, 11, 1), date(2026, 9, 30)))
            at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=chance.randrange(-120, 1500))
        status = chance.choices(("ok", "error", "refused", "timeout", "cancelled", "unknown"), (80, 6, 5, 3, 3, 3))[0]
        cost = chance.choice((None, *[Decimal(chance.randrange(10**8)).scaleb(-9)] * 8, Decimal("0.0000000004"), 0, 1))
        line: Line = {
            "v": 1,
            "id": f"{number:032x}" if number % 7 else f"foreign {number}",
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "tags": {name: value for name, values in NAMES.items() if (value := chance.choice(values)) is not None},
            "provider": chance.choice(("openrouter", "local")),
            "model": chance.choice(MODELS),
            "cost": 0 if status == "refused" else cost,
            "cost_source": "unknown" if cost is None else chance.choice(("provider", "price", "estimate")),
            "estimate": Decimal(chance.randrange(10**6)).scaleb(-6),
            "status": status,
            "attempts": 0 if status == "refused" else chance.choice((1, 1, 1, 2)),
            "key": f"k{number % 3}",
            "host": f"h{number % 2}",
        }
        if status != "refused" and chance.random() < 0.9:
            line["tokens"] = {"in": chance.randrange(5000), "out": chance.randrange(900)}
        if chance.random() < 0.2:
            line["recorded_at"] = (at + timedelta(days=chance.randrange(20))).isoformat().replace("+00:00", "Z")
        if chance.random() < 0.1:
            line["invented_later"] = {"deep": [1, 2.5, None]}
        lines.append(written(line))
        ids.append(line)
    for number, line in enumerate(chance.sample(ids, 200)):
        known = datetime.fromisoformat(line["timestamp"]) + timedelta(days=chance.randrange(15))
        change = Decimal(chance.randrange(-(10**6), 10**6)).scaleb(-9)
        lines.append(
            written(
                {
                    **{name: each for name, each in line.items() if name not in ("tokens", "estimate")},
                    "id": f"correction {number}",
                    "cost": change,
                    "cost_source": "reconciled",
                    "corrects": line["id"],
                    "recorded_at": known.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                }
            )
        )
    lines += chance.choices(JUNK, k=100)
    chance.shuffle(lines)
    return lines


def written(line: Line) -> bytes:
    """JSON with exact decimals."""
    marks: dict[str, str] = {}

    def mark(amount: object) -> str:
        marks[f'"money {len(marks)}"'] = f"{amount:f}"
        return f"money {len(marks) - 1}"

    text = json.dumps(line, default=mark, ensure_ascii=False)
    for mark_, amount in marks.items():
        text = text.replace(mark_, amount)
    return text.encode()


class Truth:
    """The raw lines that count, each as JSON says it; a line's id counts once."""

    def __init__(self, raw: Sequence[bytes], as_of: datetime | None) -> None:
        self.lines: list[Line] = []
        seen = set()
        for text in raw:
            try:
                line = json.loads(text, parse_float=Decimal)
                at = datetime.fromisoformat(line["timestamp"])
                known = datetime.fromisoformat(line.get("recorded_at", line["timestamp"]))
            except (ValueError, KeyError, TypeError):
                continue
            if "model" in line and line["id"] not in seen:
                seen.add(line["id"])
                if as_of is None or max(at, known) <= as_of:
                    self.lines.append({**line, "at": at})
        # Where the cost of a call comes from, its corrections considered; all of these are reconciled.
        corrected = {line["corrects"] for line in self.lines if "corrects" in line}
        for line in self.lines:
            line["origin"] = "reconciled" if line.get("corrects", line["id"]) in corrected else line["cost_source"]

    def chosen(
        self, start: datetime | None, end: datetime | None, where: Mapping[str, str], zone: ZoneInfo
    ) -> Iterator[Line]:
        for line in self.lines:
            inside = (start is None or start <= line["at"]) and (end is None or line["at"] < end)
            if inside and all(fnmatchcase(name_of(line, name, zone), pattern) for name, pattern in where.items()):
                yield line


def name_of(line: Line, by: str, zone: ZoneInfo) -> str:
    day: date = line["at"].astimezone(zone).date()
    if by in ("day", "week", "month"):
        day -= timedelta(day.weekday() if by == "week" else 0)
        return day.isoformat()[: 7 if by == "month" else 10]
    found = line["tags"].get(by) if by in NAMES else line.get(by)
    return found or "(none)"


def nano(line: Line) -> int:
    return int(((line["cost"] or 0) * Decimal(10**9)).to_integral_value(ROUND_CEILING))


def in_nano(shown: object) -> int:
    """What a report shows in USD."""
    found = Decimal(str(shown or 0)) * 10**9
    assert found == int(found)
    return int(found)


def add_up(lines: Iterator[Line], by: Sequence[str], zone: ZoneInfo) -> dict[tuple[str, ...], dict[str, int]]:
    found: dict[tuple[str, ...], dict[str, int]] = {}
    for line in lines:
        names = tuple(name_of(line, each, zone) for each in by)
        for depth in range(len(names) + 1):
            sums = found.setdefault(names[:depth], dict.fromkeys(("nano", "calls", "refused", "in", "out"), 0))
            is_call = "corrects" not in line
            sums["nano"] += nano(line)
            sums["calls"] += is_call and line["status"] != "refused"
            sums["refused"] += is_call and line["status"] == "refused"
            for kind in ("in", "out"):
                sums[kind] += line.get("tokens", {}).get(kind, 0)
    return found


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """A folder with the logs of two hosts, one in segments, and the lines in the order in which they are read."""
    place = tmp_path_factory.mktemp("logs")
    lines = made_lines(5)
    third = len(lines) // 3
    parts = lines[:third], lines[third : 2 * third], lines[2 * third :]
    twice = [line for part in parts[:2] for line in part][::9]
    bodies = [b"\n".join(part) + b"\n" for part in (parts[0], parts[1] + twice, parts[2] + twice[::2])]
    (place / "usage-a.jsonl.zst").write_bytes(zstandard.compress(bodies[0]))
    (place / "usage-b.jsonl.gz").write_bytes(gzip.compress(bodies[1]))
    (place / "usage.jsonl").write_bytes(bodies[2])
    return place, [*parts[0], *parts[1], *twice, *parts[2], *twice[::2]]


def asked(number: int) -> dict[str, Any]:
    """One of many questions."""
    chance = random.Random(1000 + number)
    start, end = sorted(FIRST + timedelta(hours=chance.randrange(-24, (DAYS + 2) * 24)) for _ in range(2))
    tags = chance.sample([name for name in NAMES if name != "agent"], chance.randrange(2))
    where = {name: next(each for each in NAMES[name] if each) for name in tags}
    if chance.random() < 0.3:
        where["agent"] = chance.choice(("code", "*", "(none)", "*e*", "=cmd()", "\x1b*"))
    if chance.random() < 0.2:
        where["model"] = chance.choice(("anthropic/*", "openai/gpt-4o-mini", "(none)"))
    return {
        "zone": ZoneInfo(chance.choice(ZONES)),
        "as_of": FIRST + timedelta(hours=chance.randrange(DAYS * 24)) if chance.random() < 0.5 else None,
        "start": start if chance.random() < 0.6 else None,
        "end": end if chance.random() < 0.6 else None,
        "by": chance.sample(GROUPINGS, chance.randrange(1, 4)),
        "where": where,
    }


@pytest.fixture(scope="module")
def opened(
    log: tuple[Path, list[bytes]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[tuple[dict[str, Any], UsageIndex, Truth]]]:
    place, raw = log
    index = tmp_path_factory.mktemp("index")
    found = []
    for number in range(100):
        question = asked(number)
        with pytest.MonkeyPatch.context() as patch:
            if number % 2:  # sums of days, which logs of this size do not need
                patch.setattr(index_sums, "_FRESH", 100)
                patch.setattr(index_sums, "_AT_ONCE", 5000)
            usage = UsageIndex([str(place / "usage*.jsonl*")], str(index), question["zone"], question["as_of"])
        found.append((question, usage, Truth(raw, question["as_of"])))
    yield found


def test_a_hundred_breakdowns_are_right_to_the_nano_dollar(
    opened: list[tuple[dict[str, Any], UsageIndex, Truth]],
) -> None:
    rows = 0
    for question, usage, truth in opened:
        by, zone = question["by"], question["zone"]
        expected = add_up(truth.chosen(question["start"], question["end"], question["where"], zone), by, zone)
        report = breakdown(
            usage,
            Question(
                by=by,
                where=[f"{name}={pattern}" for name, pattern in question["where"].items()],
                period=Period(question["start"], question["end"], ""),
            ),
        )
        page = json.loads(render(report, "json", None, {}), parse_float=Decimal)
        found = {}
        for row in page["rows"]:
            names = tuple(row[name] for name in by if row[name] is not None)
            found[names] = {
                "nano": in_nano(row["cost"]),
                "calls": row["calls"],
                "refused": row["refused"],
                "in": row["tokens_in"],
                "out": row["tokens_out"],
            }
        total = expected.pop((), None)
        # A unit of time has rows for the times without calls as well.
        found = {names: sums for names, sums in found.items() if any(sums.values()) or names in expected}
        assert found == expected, question
        if total is not None:
            assert in_nano(page["total"]["cost"]) == total["nano"], question
            assert page["total"]["calls"] == total["calls"], question
        rows += len(found)
    assert rows > 2000


def test_other_reports_add_up_to_the_same(opened: list[tuple[dict[str, Any], UsageIndex, Truth]]) -> None:
    policy = parse_policy(b'{"version":1}', "budget.json")
    compared = 0
    for question, usage, truth in opened[::8]:
        zone, now = question["zone"], question["as_of"] or FIRST + timedelta(days=DAYS + 1)
        period = Period(question["start"], question["end"], "")

        def sums(start: datetime | None, end: datetime | None, by: Sequence[str] = ()) -> dict[Any, dict[str, int]]:
            return add_up(truth.chosen(start, end, {}, zone), by, zone)  # noqa: B023

        whole = sums(question["start"], question["end"]).get((), {"nano": 0, "calls": 0})
        facts = value(usage, [], period=period).facts
        assert in_nano(facts["cost"]) == whole["nano"]
        upto = min(filter(None, (question["end"], now + timedelta(microseconds=1))))
        spent = savings(usage, policy, lambda *_: None, Period(question["start"], upto, ""), now).facts["spent"]
        assert in_nano(spent) == sums(question["start"], upto).get((), {"nano": 0})["nano"]

        everything = sums(None, None).get((), {"nano": 0, "calls": 0})
        families = {family.name: family.samples for family in metrics(usage, now, "0")}
        assert in_nano(families["cost_usd"][0][1]) == everything["nano"]
        assert sum(count for _, count in families["calls"]) == everything["calls"]

        for unit in ("day", "week", "month"):
            span = last_span(now, unit, zone)
            board = review(usage, span, Sources(now=now, rates=lambda *_: None))
            expected = sums(span.start, span.end, ("agent",))
            total = expected.pop((), {"nano": 0, "calls": 0})
            assert in_nano(board.facts["cost"]) == total["nano"]
            assert board.facts["calls"] == total["calls"]
            agents = (
                {row.cells["agent"]: row.cells["cost"] for row in board.sections["agents"].rows}
                if total["calls"]
                else {}
            )
            assert sum(cost for cost in agents.values() if isinstance(cost, int)) == total["nano"]
            compared += len(agents)

        history = histories(usage, ["agent"], Present(usage, now))
        counted = sums(None, now, ("agent", "day"))
        known: dict[str, int] = {}
        for line in truth.chosen(None, now, {}, zone):
            if line["origin"] != "estimate":
                agent = name_of(line, "agent", zone)
                known[agent] = known.get(agent, 0) + nano(line)
        for (agent,), each in history.items():
            days = {names[1]: amounts for names, amounts in counted.items() if len(names) == 2 and names[0] == agent}
            assert {str(day): calls for day, calls in each.amounts["calls"].items() if calls} == {
                day: amounts["calls"] for day, amounts in days.items() if amounts["calls"]
            }
            # Calls of unknown cost count at their estimates there, which are guessed.
            money = sum(each.amounts["usd"].values()) - sum(each.guessed.values())
            assert money == known.get(agent, 0)
    assert compared > 80
