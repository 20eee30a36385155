"""The calls that run, as their breadcrumbs tell."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from callmeter.store.inflight import Breadcrumb
from callmeter.store.running_calls import RunningCalls
from callmeter.words.instant import text_of
from usage_lines import NOW


def begun(home: Path, id: str, minutes: int = 0) -> Breadcrumb:
    record: dict[str, object] = {
        "v": 1,
        "id": id,
        "timestamp": text_of(NOW - timedelta(minutes=minutes)),
        "tags": {"agent": "code"},
        "provider": "openrouter",
        "model": "some/model",
        "cost": None,
        "cost_source": "unknown",
        "estimate": Decimal("0.12"),
        "status": "unknown",
    }
    return Breadcrumb.begin(str(home / "inflight"), record, str(home / "usage.jsonl"), NOW.timestamp() + 60)


def test_running_calls_come_oldest_first_and_go_when_they_are_done(home: Path) -> None:
    running = RunningCalls(str(home / "inflight"))
    assert running.look() == []
    young, old = begun(home, "a"), begun(home, "b", minutes=5)
    found = running.look()
    assert [record.id for record in found] == ["b", "a"]
    assert (found[0].tags, found[0].estimate) == ({"agent": "code"}, Decimal("0.12"))
    old.done()
    assert [record.id for record in running.look()] == ["a"]
    young.done()
    assert running.look() == []


def test_looking_takes_nothing_from_who_finishes_dead_calls(home: Path) -> None:
    crumb = begun(home, "a")
    RunningCalls(str(home / "inflight")).look()
    assert (home / "inflight" / "a.call").exists()
    crumb.sent()
    crumb.done()


@pytest.mark.parametrize("data", [b"", b'{"v":1', b"[]\n", b'{"v":1}\n', b'{"record":{"v":1},"pid":1,"host":"h"}\n'])
def test_what_is_no_breadcrumb_is_passed_over(data: bytes, home: Path) -> None:
    crumb = begun(home, "a")
    (home / "inflight" / "b.call").write_bytes(data)
    assert [record.id for record in RunningCalls(str(home / "inflight")).look()] == ["a"]
    crumb.done()


def test_a_breadcrumb_that_is_being_written_comes_with_the_next_look(home: Path) -> None:
    crumb = begun(home, "a")
    whole = (home / "inflight" / "a.call").read_bytes()
    other = home / "inflight" / "b.call"
    other.write_bytes(whole[:40])
    running = RunningCalls(str(home / "inflight"))
    assert len(running.look()) == 1
    other.write_bytes(whole.replace(b'"id":"a"', b'"id":"b"'))
    assert len(running.look()) == 2
    crumb.done()
