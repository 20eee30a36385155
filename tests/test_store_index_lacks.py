"""Reports on a machine that has too little: room on its disks, open files, a place for what is temporary."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from callmeter.store import index_rows, scratch
from callmeter.store.files import FileProblem
from callmeter.store.index import UsageIndex
from callmeter.store.index_log import IndexedLog, IndexTrouble
from callmeter.store.index_relation import Relation
from callmeter.store.scratch import Scratch
from callmeter.store.usage_append import append_usage
from callmeter.store.usage_log import files_of
from callmeter.words.period import EVER
from callmeter.words.usage import TOKENS
from conftest import fill
from usage_lines import NOW, call, calls, write

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = str(tmp_path / "usage.jsonl")
    tokens = {**dict.fromkeys(TOKENS, 0), "in": 1200, "out": 400}  # as callmeter writes them itself
    write(path, [call(OCTOBER + timedelta(minutes=number), tokens=tokens) for number in range(2000)])
    return path


def parts(index: Path) -> set[str]:
    return {path.name for path in index.glob("*.parquet")}


def counted(log: str, index: Path) -> int:
    return UsageIndex([log], str(index), UTC).groups()[0][1].calls


# Disks


def test_a_full_disk_is_noticed_at_once_and_lines_are_not_read_one_by_one(
    log: str, file_system: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = file_system(16)
    real = index_rows._write_others
    slow: list[str] = []

    def write_others(*given: Any) -> None:
        slow.append(given[3])
        real(*given)

    monkeypatch.setattr(index_rows, "_write_others", write_others)
    assert counted(log, index) == 2000
    assert [path for path in slow if path.startswith(str(index))] == []
    assert parts(index) == set()


def test_builds_that_come_to_nothing_leave_nothing(log: str, tmp_path: Path) -> None:
    index = tmp_path / "index"
    (index / "manifest.json").mkdir(parents=True)
    for _ in range(2):
        usage = UsageIndex([log], str(index), UTC)
        assert usage.groups()[0][1].calls == 2000
        assert usage.unkept == f"{index}/manifest.json is not a regular file"
        assert parts(index) == set()


def test_a_full_disk_leaves_the_index_that_was_there(log: str, file_system: Callable[[int], Path]) -> None:
    index = file_system(1024)
    assert counted(log, index) == 2000
    before = parts(index)
    append_usage(log, call(NOW))
    ballast = fill(index)
    usage = UsageIndex([log], str(index), UTC)
    assert (usage.groups()[0][1].calls, usage.unkept) == (2001, "no space left on device")
    assert parts(index) == before
    ballast.unlink()
    assert counted(log, index) == 2001
    assert before < parts(index)


def test_if_there_is_no_room_anywhere_the_error_says_so(log: str, file_system: Callable[[int], Path]) -> None:
    disk = file_system(16)
    script = (
        "import sys; from datetime import UTC; from callmeter.store.index import UsageIndex;"
        "UsageIndex([sys.argv[1]], sys.argv[2], UTC)"
    )
    command = [sys.executable, "-c", script, log, str(disk / "index")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(disk)})
    assert done.returncode == 1
    assert f"cannot index the usage log in {disk}/callmeter-run-" in done.stderr
    assert done.stderr.endswith(": no space left on device\n")
    assert os.listdir(disk) == ["index"]


# Memory


@pytest.mark.parametrize("ask", ["named", "costs", "groups"])
def test_memory_that_ends_while_an_answer_is_read_is_told_in_one_sentence(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    walk = UsageIndex([log], str(tmp_path / "index"), UTC).walk(["agent"], "cost")

    def run(*_: object) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate data\nand more")

    monkeypatch.setattr(Relation, "run", run)
    with pytest.raises(FileProblem, match=r"cannot read .*: cannot allocate memory$"):
        list([getattr(walk, ask)(0)] if ask == "named" else getattr(walk, ask)(0))


# Open files


@pytest.mark.parametrize("limit", [30, 45, 70])
def test_too_few_open_files_are_named_and_no_log_is_passed_over(tmp_path: Path, limit: int) -> None:
    for host in range(40):
        (tmp_path / f"host{host}").mkdir()
        write(str(tmp_path / f"host{host}" / "usage.jsonl"), calls(1, OCTOBER + timedelta(hours=host)))
    script = (
        "import resource, sys; from datetime import UTC; from callmeter.store.index import UsageIndex;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}));"
        "print(UsageIndex([sys.argv[1]], sys.argv[2], UTC).groups()[0][1].calls)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "*" / "usage*.jsonl*"), str(tmp_path / "index")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"FileProblem: cannot read {command[3]}: too many open files" in done.stderr


def test_the_last_open_file_is_missed_before_duckdb_ends_the_process(tmp_path: Path) -> None:
    script = (
        "import duckdb, os, resource, sys; from contextlib import suppress;"
        "from callmeter.store.files import FileProblem; from callmeter.store.index_steps import connected\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "with suppress(OSError):\n"
        "    while True: os.dup(0)\n"
        "try: connected(sys.argv[1])\n"
        "except FileProblem as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "cannot open the usage index: too many open files\n"), done.stderr


def test_a_directory_that_cannot_be_listed_is_an_error_and_no_host_without_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in "ab":
        (tmp_path / host).mkdir()
        (tmp_path / host / "usage.jsonl").touch()
    pattern = str(tmp_path / "*" / "usage*.jsonl*")
    assert sorted(files_of(pattern)) == [str(tmp_path / host / "usage.jsonl") for host in "ab"]
    real = os.listdir

    def listdir(path: str) -> list[str]:
        if path == str(tmp_path / "b"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(FileProblem, match=rf"cannot list {tmp_path}/b: permission denied"):
        files_of(pattern)


@pytest.mark.parametrize(
    "pattern", ["*", "*/*", ".*", "[ab]/x", "a/?", "*/", "none/*", "a/x/*", "*/.h*", "a/x", "*[ab]*/x"]
)
def test_patterns_mean_what_they_mean_to_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    for name in ("a/x", "b/x", "b/y", ".hidden/x", "a/.h"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    said = subprocess.run(["sh", "-c", f"printf '%s\\n' {pattern}"], capture_output=True, text=True).stdout.split()
    expected = [each for each in said if os.path.lexists(each)]
    for each in (".", ".."):
        if each in expected:
            expected.remove(each)
    assert sorted(files_of(pattern)) == expected


# Memory


def test_too_little_address_space_is_said_before_duckdb_ends_the_process(log: str, tmp_path: Path) -> None:
    script = (
        "import resource, sys; from datetime import UTC; from callmeter.store.index import UsageIndex;"
        "resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]), int(sys.argv[4])));"
        "print(UsageIndex([sys.argv[1]], sys.argv[2], UTC).groups()[0][1].calls)"
    )
    command = [sys.executable, "-c", script, log, str(tmp_path / "index")]
    done = subprocess.run([*command, str(600 << 20), str(700 << 20)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "a report needs 1024 MB of address space, and this process may have 700 MB" in done.stderr
    done = subprocess.run([*command, str(700 << 20), str(8 << 30)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2000\n")


def test_counting_by_an_index_does_not_begin_in_too_little_address_space(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1 << 29, 1 << 29))
    counting = IndexedLog(log, str(tmp_path / "index"), EVER, 0, fresh=False, tell=lambda _: None)
    with pytest.raises(IndexTrouble, match="512 MB"):
        counting.__enter__()


# What is temporary


def test_what_a_run_needs_for_itself_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = len(os.listdir("/dev/fd"))
    run = Scratch()
    (Path(run.path) / "spill").mkdir()
    assert Path(run.path).stat().st_mode & 0o077 == 0
    del run
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/dev/fd")) == before


def test_what_killed_runs_left_is_cleared_away_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long_ago = time.time() - 2 * scratch._YOUNG
    for name in ("callmeter-run-killed", "callmeter-run-alive", "callmeter-run-young", "callmeter-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
        (tmp_path / name / "rows.parquet").touch()
        if name != "callmeter-run-young":
            os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / "callmeter-run-link").symlink_to(tmp_path / "callmeter-mine")
    with open(tmp_path / "callmeter-run-alive" / "lock") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        run = Scratch()
        left = {*os.listdir(tmp_path)} - {os.path.basename(run.path)}
    assert left == {"callmeter-run-alive", "callmeter-run-young", "callmeter-run-link", "callmeter-mine"}
    assert os.listdir(tmp_path / "callmeter-mine")


def test_a_container_may_have_nothing_to_write_to_but_its_state(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/proc"])
    index = tmp_path / "index"
    with open(log, "ab") as file:
        file.write(call(NOW).removesuffix(b"\n"))  # is read in a directory of the run's own
    assert counted(log, index) == 2001
    assert not list(index.glob("callmeter-*"))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(FileProblem, match="no directory for temporary files"):
        counted(log, Path("/proc/index"))


def test_a_machine_without_a_place_for_temporary_files_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.TemporaryDirectory", none)
    with pytest.raises(FileProblem, match="no directory for temporary files: no usable") as info:
        Scratch()
    assert "TMPDIR" in info.value.hint
