"""Which calls a provider is asked for again: read line by line from a short log, found by the index of a long one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from callmeter.flows import corrections, rebuild
from callmeter.policy.document import parse_policy
from callmeter.store.segments import close_log
from callmeter.store.usage_append import append_usage
from callmeter.words.record import UsageRecord
from usage_lines import NOW, call, write

POLICY = parse_policy(b'{"time_zone": "Europe/Berlin"}', "budget.json")
GUESSED = {"cost_source": "estimate", "status": "unknown"}


class Told:
    tokens = None
    cost = Decimal("0.5")


def guessed(number: int, days: float = 1, **fields: object) -> bytes:
    facts = {"generation_id": f"gen-{number}", **GUESSED, **fields}
    return call(NOW - timedelta(days=days, seconds=number), f"c{number}", **facts)


def correction_of(number: int, days: float = 1, **fields: object) -> bytes:
    return guessed(number, days, **{"corrects": f"c{number}", "cost_source": "reconciled", **fields}).replace(
        b'"id":"c%d"' % number, b'"id":"correction-%d"' % number
    )


LINES = [
    guessed(1),
    guessed(2, cost=None, cost_source="unknown"),
    guessed(3, 29),
    guessed(4, 31),
    guessed(5, cost_source="provider"),
    guessed(6, provider="local"),
    guessed(7, generation_id="chatcmpl-7"),
    guessed(8, generation_id=None),
    guessed(9),
    correction_of(9),
    correction_of(10, cost_source="estimate"),
    guessed(10),
    correction_of(11, generation_id="chatcmpl-11", provider="local"),
    guessed(11),
    guessed(12),
    guessed(12, cost_source="provider"),
    b'{"not": "a call"}\n',
    guessed(13, tags={"agent": "\u202e", "x": "y"}),
    guessed(14, 40),
    correction_of(14, 40),
    guessed(15, 0.5),
]
OPEN = ["c15", "c1", "c2", "c12", "c13", "c3"]


@pytest.fixture(params=["plainly", "by the index"])
def found(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], list[str]]:
    """The calls that are asked for, in their order; nobody knows what they cost."""
    if request.param == "by the index":
        monkeypatch.setattr(rebuild, "_SHORT", -1)
        monkeypatch.setattr(corrections, "read_records", None)

    def find(log: str, most: int = 200) -> list[str]:
        asked: list[UsageRecord] = []
        corrections.correct(POLICY, None, log, NOW, asked.append, most=most, index=str(tmp_path / "index"))
        return [record.id for record in asked]

    return find


def test_only_guessed_costs_that_nobody_corrected_are_asked_for_newest_first(
    tmp_path: Path, found: Callable[..., list[str]]
) -> None:
    log = write(tmp_path / "usage.jsonl", LINES)
    assert found(log) == OPEN
    assert found(log, 2) == OPEN[:2]


def test_closed_months_and_a_last_line_without_newline_are_read_too(
    tmp_path: Path, found: Callable[..., list[str]]
) -> None:
    log = write(tmp_path / "usage.jsonl", LINES)
    assert close_log(log, NOW - timedelta(days=21), NOW, lambda *_: None)
    with open(log, "ab") as live:
        live.write(guessed(16, 0.25).removesuffix(b"\n"))
    assert found(log) == ["c16", *OPEN]


def test_what_was_corrected_a_moment_ago_is_not_asked_for_again(
    tmp_path: Path, found: Callable[..., list[str]]
) -> None:
    log = write(tmp_path / "usage.jsonl", LINES)
    assert "c1" in found(log)
    append_usage(log, correction_of(1))
    assert found(log) == [id for id in OPEN if id != "c1"]


def test_a_correction_is_the_same_whoever_found_its_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = []
    for short in (rebuild._SHORT, -1):
        monkeypatch.setattr(rebuild, "_SHORT", short)
        log = write(tmp_path / f"{short}.jsonl", LINES)
        done = corrections.correct(POLICY, None, log, NOW, lambda _: Told(), index=str(tmp_path / f"index{short}"))
        logs.append([{**record, "id": ""} for record in done.records])
        assert len(done.records) == len(OPEN)
    assert logs[0] == logs[1]


def test_without_duckdb_a_long_log_is_read_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "_SHORT", -1)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    log = write(tmp_path / "usage.jsonl", LINES)
    done = corrections.correct(POLICY, None, log, NOW, lambda _: None, index=str(tmp_path / "index"))
    assert (done.open, done.problems) == (len(OPEN), [])
