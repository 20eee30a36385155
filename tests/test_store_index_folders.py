"""Indexes of other logs do not pile up beside the index of one's own."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from callmeter.store.index import UsageIndex
from callmeter.store.index_folders import folder_of
from usage_lines import calls, write

DAY = 86400


def age(path: str | Path, days: float) -> None:
    os.utime(path, (time.time() - days * DAY, time.time() - days * DAY))


def look(directory: Path, log: Path) -> str:
    folder = folder_of(str(directory), str(log))
    assert UsageIndex([str(log)], folder, UTC).groups()[0][1].calls == 3
    return folder


def test_a_folder_goes_30_days_after_its_last_use_and_nothing_else_does(tmp_path: Path) -> None:
    index = tmp_path / "index"
    logs = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for log in logs:
        write(log, calls(3, datetime(2026, 10, 1, tzinfo=UTC)))
    old, used, fresh = (look(index, log) for log in logs)
    strange, elsewhere = index / "mine", tmp_path / "elsewhere"
    strange.mkdir()
    elsewhere.mkdir()
    (index / ("a" * 16)).symlink_to(elsewhere)
    for path, days in ((old, 31), (used, 29), (strange, 99), (elsewhere, 99)):
        age(path, days)
    look(index, logs[2])
    assert not os.path.exists(old)
    assert os.path.exists(used) and os.path.exists(fresh) and strange.exists() and elsewhere.exists()
    look(index, logs[1])
    age(fresh, 31)
    look(index, logs[1])
    assert os.path.exists(used) and not os.path.exists(fresh)
    assert look(index, logs[0]) == old


def test_what_is_used_again_after_long_is_kept_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    write(log, calls(3, datetime(2026, 10, 1, tzinfo=UTC)))
    folder = look(tmp_path / "index", log)
    before = {path: path.stat().st_mtime_ns for path in Path(folder).glob("*.parquet")}
    age(folder, 31)
    look(tmp_path / "index", log)
    assert before and {path: path.stat().st_mtime_ns for path in Path(folder).glob("*.parquet")} == before
