"""The first groups of each level, as SQL chooses them, against plain loops over the same lines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from random import Random
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callmeter.store import index_figures, index_ranks, index_sums
from callmeter.store.index import UsageIndex
from callmeter.store.usage_log import read_records
from callmeter.words.period import EVER, Period
from plain_usage import PlainUsage

FIRST = datetime(2026, 10, 24, 21, tzinfo=UTC)
ORDERS = ("cost", "calls", "tokens", "errors", "latency", "name")
PARTS: tuple[list[str], ...] = (
    [],
    ["session"],
    ["agent", "session"],
    ["day", "session"],
    ["session", "model", "origin"],
    ["team", "hour"],
)


def lines_of(random: Random, count: int) -> list[dict[str, object]]:
    """Calls of few costs, so that many groups are equal; with twins, corrections, missing and empty names."""
    found: list[dict[str, object]] = []
    for number in range(count):
        tags = {
            "agent": random.choice(["a", "b", ""]),
            "session": random.choice(["s1", "s2", "S2", "(none)", "", "ß", "0", "-1"]),
            "team": random.choice(["x", "y"]),
        }
        for name in random.sample(sorted(tags), random.randrange(3)):
            del tags[name]
        line: dict[str, object] = {
            "v": 1,
            "id": f"01a{number:05d}-0000-7000-8000-{number:012d}",
            "timestamp": f"{FIRST + timedelta(minutes=random.randrange(3000)):%Y-%m-%dT%H:%M:%S}.000Z",
            "tags": tags,
            "provider": "p",
            "model": random.choice(["m", "n"]),
            "cost": random.choice([0.5, 0.5, 1, None]),
            "cost_source": random.choice(["provider", "price"]),
            "status": random.choice(["ok", "ok", "error", "refused"]),
            "tokens": {"in": random.randrange(3), "out": 1},
            "duration_ms": random.randrange(5000),
            "attempts": random.randrange(3),
        }
        if found and random.random() < 0.2:
            call = random.choice(found)
            line |= {"corrects": call["id"], "tags": call["tags"], "timestamp": call["timestamp"], "cost": -0.25}
            line |= {"cost_source": "reconciled"}
        found.append(line)
        if random.random() < 0.1:
            found.append(dict(line))
    random.shuffle(found)
    return found


def written(path: Path, lines: Sequence[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), encoding="utf-8")
    return str(path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.randoms(use_true_random=True),
    st.sampled_from([1, 12, 80]),
    st.sampled_from(PARTS),
    st.integers(1, 9),
    st.sampled_from(ORDERS),
    st.sampled_from([EVER, Period(FIRST + timedelta(hours=2), FIRST + timedelta(hours=30), "")]),
    st.sampled_from([(), ("model=m",), ("session=s*", "agent=a")]),
    st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/St_Johns")]),
    st.booleans(),
    st.sampled_from([0, 50_000]),
    st.sampled_from([1, 2_000_000]),
)
def test_the_first_groups_of_each_level_are_those_of_plain_loops(
    random: Random,
    count: int,
    by: list[str],
    most: int,
    order: str,
    period: Period,
    where: Sequence[str],
    zone: tzinfo,
    known: bool,
    fresh: int,
    at_once: int,
) -> None:
    as_of = FIRST + timedelta(hours=20) if known else None
    with (
        tempfile.TemporaryDirectory() as directory,
        patch.object(index_sums, "_FRESH", fresh),
        patch.object(index_ranks, "_AT_ONCE", at_once),
    ):
        lines = lines_of(random, count)
        logs = [written(Path(directory) / f"usage{part}.jsonl", lines[part::2]) for part in range(2)]
        index = UsageIndex(logs, str(Path(directory) / "index"), zone, as_of)
        plain = PlainUsage(read_records(logs), zone, as_of)
        expected = plain.top(by, most, order, period=period, where=where, latency=(50, 95), costs=(90,))
        assert index.top(by, most, order, period=period, where=where, latency=(50, 95), costs=(90,)) == expected
        courses = plain.courses(by, expected.levels, "week", period=period, where=where)
        assert index.courses(by, expected.levels, "week", period=period, where=where) == courses


@pytest.mark.parametrize("order", ORDERS)
def test_groups_that_are_left_and_those_that_are_shown_add_up_to_the_whole(order: str, tmp_path: Path) -> None:
    log = written(tmp_path / "usage.jsonl", lines_of(Random(order), 200))
    index = UsageIndex([log], str(tmp_path / "index"), UTC)
    whole = index.levels(("session", "agent"))
    for most in (1, 3, 8, 100):
        found = index.top(("session", "agent"), most, order)
        sessions = [path for path in found.levels if len(path) == 1]
        count, others = found.others.get((), (0, None))
        assert len(sessions) + count == len({path for path in whole if len(path) == 1})
        assert sum(found.levels[path].nano for path in sessions) + (others.nano if others else 0) == whole[()].nano
        assert all(found.levels[path] == whole[path] for path in found.levels)


@pytest.mark.parametrize("by", PARTS)
def test_percentiles_of_many_groups_are_found_part_by_part(by: list[str], tmp_path: Path) -> None:
    log = written(tmp_path / "usage.jsonl", lines_of(Random(len(by)), 300))
    index, plain = UsageIndex([log], str(tmp_path / "index"), UTC), PlainUsage(read_records([log]), UTC)
    with (
        patch.object(index_figures, "MANY_GROUPS", 1),
        patch.object(index_ranks, "MANY_GROUPS", 1),
        patch.object(index_ranks, "_AT_ONCE", 7),
    ):
        found = index.levels(by, latency=(50, 95), costs=(90,))
    assert found == plain.levels(by, latency=(50, 95), costs=(90,))


@pytest.mark.parametrize("by", PARTS)
def test_percentiles_of_groups_with_many_calls_are_found_by_their_size_first(by: list[str], tmp_path: Path) -> None:
    log = written(tmp_path / "usage.jsonl", lines_of(Random(len(by)), 300))
    index, plain = UsageIndex([log], str(tmp_path / "index"), UTC), PlainUsage(read_records([log]), UTC)
    ranks = (1, 50, 66, 95, 100)
    with patch.object(index_ranks, "_AT_ONCE", 1):
        found = index.levels(by, latency=ranks, costs=ranks)
    assert found == plain.levels(by, latency=ranks, costs=ranks)
    assert any(figures.costs for figures in found.values())


def test_no_group_is_left_out_of_an_empty_log(tmp_path: Path) -> None:
    log = written(tmp_path / "usage.jsonl", [])
    index = UsageIndex([log], str(tmp_path / "index"), UTC)
    found = index.top(("session",), 3, "cost")
    assert list(found.levels) == [()] and not found.others
