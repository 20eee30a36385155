"""All groups of a tree in their order, as DuckDB sorts them, against plain loops over the same lines."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, timedelta, tzinfo
from pathlib import Path
from random import Random
from unittest.mock import patch
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callmeter.reports.usage import SUMS, Walk
from callmeter.store import index_ranks, index_walk
from callmeter.store.index import UsageIndex
from callmeter.store.usage_log import read_records
from callmeter.words.period import EVER, Period
from plain_usage import PlainUsage
from test_store_index_top import FIRST, ORDERS, PARTS, lines_of, written


def read(walk: Walk, depth: int) -> object:
    """All that a walk says."""
    return (
        walk.total,
        walk.count,
        [(walk.named(each), list(walk.costs(each)), list(walk.groups(each))) for each in range(depth)],
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.randoms(use_true_random=True),
    st.sampled_from([1, 12, 80]),
    st.sampled_from([part for part in PARTS if part]),
    st.sampled_from(ORDERS),
    st.sampled_from([EVER, Period(FIRST + timedelta(hours=2), FIRST + timedelta(hours=30), "")]),
    st.sampled_from([(), ("model=m",), ("session=s*", "agent=a"), ("agent=nobody",)]),
    st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/St_Johns")]),
    st.booleans(),
    st.sampled_from([1, 2_000]),
    st.sampled_from([(7, 1), (2_000_000, 5_000)]),
    st.sampled_from([SUMS, ("unknown", "priced_nano"), ()]),
    st.sampled_from([(), (90,)]),
)
def test_a_walk_tells_of_all_groups_in_the_order_of_plain_loops(
    random: Random,
    count: int,
    by: list[str],
    order: str,
    period: Period,
    where: Sequence[str],
    zone: tzinfo,
    known: bool,
    many: int,
    at_once: tuple[int, int],
    only: Sequence[str],
    costs: Sequence[int],
) -> None:
    as_of = FIRST + timedelta(hours=20) if known else None
    with (
        tempfile.TemporaryDirectory() as directory,
        patch.object(index_walk, "MANY_GROUPS", many),
        patch.object(index_ranks, "MANY_GROUPS", many),
        patch.object(index_ranks, "_AT_ONCE", at_once[0]),
        patch.object(index_walk, "_AT_ONCE", at_once[1]),
    ):
        lines = lines_of(random, count)
        logs = [written(Path(directory) / f"usage{part}.jsonl", lines[part::2]) for part in range(2)]
        index = UsageIndex(logs, str(Path(directory) / "index"), zone, as_of)
        plain = PlainUsage(read_records(logs), zone, as_of)
        expected = plain.walk(by, order, period=period, where=where, latency=(50, 95), costs=costs, only=only)
        found = index.walk(by, order, period=period, where=where, latency=(50, 95), costs=costs, only=only)
        assert read(found, len(by)) == read(expected, len(by))


def test_levels_of_a_walk_can_be_read_side_by_side_and_again(tmp_path: Path) -> None:
    log = written(tmp_path / "usage.jsonl", lines_of(Random(1), 200))
    index = UsageIndex([log], str(tmp_path / "index"), UTC)
    with patch.object(index_walk, "_AT_ONCE", 1):
        walk = index.walk(("session", "agent"), "cost")
        inner = walk.groups(1)
        seen = [(name, [next(inner)[0] for _ in range(below)]) for name, _, below in walk.groups(0)]
    levels = index.levels(("session", "agent"))
    assert {(name, each) for name, below in seen for each in below} == {path for path in levels if len(path) == 2}
    assert next(inner, None) is None
    assert [name for name, _, _ in walk.groups(0)] == [name for name, _ in seen]
