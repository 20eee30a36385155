"""The usage index keeps up with a log that is appended to, rotated, closed, replaced, deleted; and survives damage."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from callmeter.store import index_build, index_sums, index_text, index_twins
from callmeter.store.audit import append_event
from callmeter.store.index import UsageIndex
from callmeter.store.segments import close_log
from callmeter.store.usage_append import append_usage
from callmeter.store.usage_log import read_records
from kill_points import every_kill
from plain_usage import PlainUsage
from usage_lines import NOW, call, calls, write

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


class Home:
    """A log, and its index, each look at which must say what a plain reading says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = str(directory / "usage.jsonl")
        self.index = directory / "index"

    def look(self, *paths: str) -> tuple[int, int]:
        """Calls, and lines that were read before."""
        reader = read_records([*paths] or self.log)
        plain = PlainUsage(reader)
        index = UsageIndex([*paths] or [self.log], str(self.index), UTC)
        assert index.groups(("agent", "day", "origin")) == plain.groups(("agent", "day", "origin"))
        assert list(index.calls()) == list(plain.calls())
        found = index.reading
        assert (found.lines, found.bad_lines, found.duplicates) == (reader.lines, reader.bad_count, reader.duplicates)
        assert list(found.files) == reader.files
        groups = index.groups()
        return (groups[0][1].calls if groups else 0), found.duplicates

    def parts(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in self.index.glob("*.parquet")}


@pytest.fixture(params=["rows", "sums"])
def home(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An index as small logs have it, and one with sums of days, as large ones."""
    if request.param == "sums":
        monkeypatch.setattr(index_sums, "_FRESH", 0)
        monkeypatch.setattr(index_sums, "_AT_ONCE", 10)
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """What is read of which file to be indexed: path, and the place from which."""
    found: list[tuple[str, int]] = []
    real = index_build.LogFile.fill

    def fill(file: index_build.LogFile, start: int) -> index_text.Fill:
        found.append((os.path.basename(file.path), start))
        return real(file, start)

    monkeypatch.setattr(index_build.LogFile, "fill", fill)
    yield found


def test_only_new_bytes_are_read(home: Home, read: list[tuple[str, int]]) -> None:
    write(home.log, calls(5, OCTOBER))
    assert home.look() == (5, 0)
    size = os.path.getsize(home.log)
    first = home.parts()
    assert home.look() == (5, 0)
    assert read == [("usage.jsonl", 0)]
    append_usage(home.log, call(NOW))
    assert home.look() == (6, 0)
    assert read == [("usage.jsonl", 0), ("usage.jsonl", size)]
    assert first.items() <= home.parts().items()


def test_an_empty_or_missing_log_is_no_calls_and_needs_no_index(home: Home) -> None:
    assert home.look() == (0, 0)
    assert not home.index.exists()
    write(home.log, [])
    assert home.look() == (0, 0)
    append_usage(home.log, call(NOW))
    assert home.look() == (1, 0)


def test_a_last_line_without_newline_counts_if_it_is_whole_and_is_read_again_when_it_is_finished(home: Home) -> None:
    lines = calls(3, OCTOBER)
    write(home.log, [*lines[:2], lines[2][:-1]])
    assert home.look() == (3, 0)
    write(home.log, [*lines[:2], lines[2][:-30]])
    assert home.look() == (2, 0)
    append_usage(home.log, call(NOW))  # seals the torn line
    assert home.look() == (3, 0)


def test_a_last_line_without_newline_can_be_a_duplicate_or_a_correction(home: Home) -> None:
    lines = [call(OCTOBER, id="a", cost=None, cost_source="unknown"), call(OCTOBER, id="b")]
    write(home.log, [*lines, lines[1][:-1]])
    assert home.look() == (2, 1)
    correction = call(OCTOBER, id="c", corrects="a", cost=Decimal("0.5"), cost_source="reconciled")
    write(home.log, [*lines, correction[:-1]])
    assert home.look() == (2, 0)


def test_a_renamed_log_is_not_read_again(home: Home, read: list[tuple[str, int]]) -> None:
    write(home.log, calls(5, OCTOBER))
    home.look()
    os.rename(home.log, f"{home.log}.1")
    append_usage(home.log, call(NOW))
    assert home.look() == (6, 0)
    os.rename(home.log, f"{home.log}.2")
    assert home.look() == (6, 0)
    assert read == [("usage.jsonl", 0), ("usage.jsonl", 0)]


def test_a_log_that_was_copied_and_emptied_loses_and_doubles_nothing(home: Home) -> None:
    write(home.log, calls(5, OCTOBER))
    home.look()
    shutil.copy(home.log, f"{home.log}.1")
    assert home.look() == (5, 5)
    os.truncate(home.log, 0)
    append_usage(home.log, call(NOW))
    assert home.look() == (6, 0)


def test_closed_segments_are_read_once(home: Home, read: list[tuple[str, int]]) -> None:
    write(home.log, [*calls(5, OCTOBER), *calls(3, NOVEMBER)])
    home.look()

    def audit(event: str, facts: Mapping[str, object]) -> None:
        append_event(str(home.directory / "audit.jsonl"), event, NOW, "test", facts)

    assert close_log(home.log, NOVEMBER, NOW, audit)
    assert home.look() == (8, 0)
    append_usage(home.log, call(NOW))
    assert home.look() == (9, 0)
    assert [name for name, _ in read].count("usage-2026-10.jsonl.zst") == 1


def test_a_segment_and_the_log_it_came_from_count_once_while_a_closing_goes_on(home: Home) -> None:
    lines = [*calls(5, OCTOBER), *calls(3, NOVEMBER)]
    write(home.log, lines)
    home.look()
    write(home.directory / "usage-2026-10.jsonl", lines[:5])
    assert home.look() == (8, 5)
    write(home.log, lines[5:])
    assert home.look() == (8, 0)


def test_logs_of_several_hosts_are_merged_by_the_ids_of_their_lines(home: Home) -> None:
    lines = calls(9, OCTOBER)
    for name, some in {"a": lines[:6], "b": lines[3:]}.items():
        (home.directory / name).mkdir()
        write(home.directory / name / "usage.jsonl", some)
    pattern = str(home.directory / "*" / "usage*.jsonl*")
    assert home.look(pattern) == (9, 3)
    append_usage(str(home.directory / "a" / "usage.jsonl"), lines[8])
    assert home.look(pattern) == (9, 4)
    shutil.rmtree(home.directory / "b")
    assert home.look(pattern) == (7, 0)


@pytest.mark.parametrize(("at_once", "most"), [(1000, 2), (7, 60)])
def test_small_files_of_many_hosts_are_compared_with_each_other_in_few_queries(
    home: Home, monkeypatch: pytest.MonkeyPatch, at_once: int, most: int
) -> None:
    asked = []

    class Counted:
        def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
            self._connection = connection

        def execute(self, sql: str, given: Mapping[str, object]) -> object:
            asked.append(sql)
            return self._connection.execute(sql, given)

    real = index_twins.find_twins
    monkeypatch.setattr(index_build, "find_twins", lambda each, *rest: real(Counted(each), *rest))  # type: ignore
    monkeypatch.setattr(index_twins, "_AT_ONCE", at_once)
    lines = calls(20, OCTOBER)
    for host in range(16):
        (home.directory / f"{host}").mkdir()
        write(home.directory / f"{host}" / "usage.jsonl", lines[host : host + 3])
    assert home.look(str(home.directory / "*" / "usage.jsonl")) == (18, 30)
    assert 0 < len([sql for sql in asked if "CREATE" in sql]) <= most


def test_of_two_lines_with_one_id_the_first_counts_whichever_files_come_and_go(home: Home) -> None:
    write(home.log, [call(OCTOBER, id="x", cost=Decimal(1))])
    home.look()
    write(home.directory / "usage-2026-10.jsonl", [call(OCTOBER, id="x", cost=Decimal(2))])
    home.look()
    os.unlink(home.directory / "usage-2026-10.jsonl")
    assert home.look() == (1, 0)


@pytest.mark.parametrize(
    "change",
    ["shorter", "other lines", "same size", "edited in secret", "deleted", "other head", "longer but other"],
)
def test_a_log_that_was_replaced_is_read_anew(home: Home, change: str) -> None:
    lines = [call(OCTOBER, id=f"{number:04}") for number in range(60)]
    write(home.log, lines)
    assert home.look() == (60, 0)
    match change:
        case "shorter":
            os.truncate(home.log, len(lines[0]) * 7)
        case "other lines":
            write(home.log, calls(50, NOVEMBER))
        case "same size":
            data = Path(home.log).read_bytes().replace(b'"0020"', b'"0099"')
            write(home.log, [data])
            os.utime(home.log, ns=(1, 1))
        case "edited in secret":
            found = os.stat(home.log)
            data = Path(home.log).read_bytes().replace(b'"0020"', b'"0019"')
            write(home.log, [data])
            os.utime(home.log, ns=(found.st_atime_ns, found.st_mtime_ns))
        case "deleted":
            os.unlink(home.log)
        case "other head":
            write(home.log, [*reversed(lines), *lines[:3]])
        case "longer but other":
            write(home.log, [*lines[:39], call(OCTOBER, id="new"), call(OCTOBER, id="more")])
    home.look()


@pytest.mark.parametrize(
    "damage",
    ["manifest gone", "manifest no JSON", "manifest other JSON", "other version", "part gone", "part cut", "part other",
     "part other in secret", "all gone", "no directory"],
)  # fmt: skip
def test_a_damaged_index_is_made_anew(home: Home, damage: str) -> None:
    write(home.log, calls(20, OCTOBER))
    assert home.look() == (20, 0)
    manifest = home.index / "manifest.json"
    part = next(home.index.glob("*.parquet"))
    found = part.stat()
    match damage:
        case "manifest gone":
            manifest.unlink()
        case "manifest no JSON":
            manifest.write_bytes(b"\0" * 500)
        case "manifest other JSON":
            manifest.write_text('{"version": 3, "sources": {}}')
        case "other version":
            manifest.write_text(manifest.read_text().replace('"version":"', '"version":"0'))
        case "part gone":
            part.unlink()
        case "part cut":
            os.truncate(part, found.st_size // 2)
        case "part other":
            part.write_bytes(os.urandom(found.st_size))
        case "part other in secret":  # as after a power failure: size and time are right
            part.write_bytes(bytes(found.st_size))
            os.utime(part, ns=(found.st_atime_ns, found.st_mtime_ns))
        case "all gone":
            shutil.rmtree(home.index)
        case "no directory":
            shutil.rmtree(home.index)
            home.index.write_text("in the way")
    append_usage(home.log, call(NOW))
    assert home.look() == (21, 0)
    assert home.look() == (21, 0)


def test_an_index_that_is_deleted_under_a_report_is_made_anew(home: Home) -> None:
    write(home.log, calls(20, OCTOBER))
    usage = UsageIndex([home.log], str(home.index), UTC)
    shutil.rmtree(home.index)
    assert len(list(usage.calls())) == 20
    shutil.rmtree(home.index)
    assert [figures.calls for _, figures in usage.groups(("agent",), latency=(50,))] == [20]


def test_reports_after_every_call_do_not_leave_a_file_for_each(home: Home) -> None:
    for number in range(20):
        append_usage(home.log, call(OCTOBER + timedelta(hours=number), corrects="x" if number % 3 else None))
        home.look()
    assert len(UsageIndex([home.log], str(home.index), UTC).groups(("hour",))) == 20
    named = (home.index / "manifest.json").read_text()
    assert sum(name in named.split('"retired"')[0] for name in home.parts()) < 20


@pytest.mark.parametrize("damage", ["list gone", "list no JSON", "sums gone", "sums cut", "sums other in secret"])
def test_damaged_sums_are_made_anew(home: Home, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_sums, "_FRESH", 0)
    write(home.log, calls(20, OCTOBER))
    assert home.look() == (20, 0)
    listed, sums = home.index / "sums.json", next(home.index.glob("*.sums"))
    found = sums.stat()
    match damage:
        case "list gone":
            listed.unlink()
        case "list no JSON":
            listed.write_bytes(b"\0" * 500)
        case "sums gone":
            sums.unlink()
        case "sums cut":
            os.truncate(sums, found.st_size // 2)
        case "sums other in secret":
            sums.write_bytes(bytes(found.st_size))
            os.utime(sums, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert home.look() == (20, 0)
    append_usage(home.log, call(NOW))
    assert home.look() == (21, 0)


def test_sums_that_cannot_be_written_are_done_without(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_sums, "_FRESH", 0)
    monkeypatch.setattr(index_sums, "_ENDING", "/no/such/directory")
    write(home.log, calls(20, OCTOBER))
    assert home.look() == (20, 0)
    assert not any(home.index.glob("*.sums"))


def test_sums_too_large_for_a_number_of_64_bits_are_right(home: Home) -> None:
    write(home.log, [call(OCTOBER, id=str(number), cost=Decimal(900_000_000)) for number in range(15)])
    assert home.look() == (15, 0)


def test_files_that_nobody_names_are_cleared_away_when_they_are_old(home: Home) -> None:
    write(home.log, calls(3, OCTOBER))
    home.look()
    names = ("{}.parquet", ".manifest.json.{}.tmp", ".sums.json.{}.tmp")
    for age, seconds in {"old": 700, "new": 10}.items():
        for name in names:
            path = home.index / name.format(age)
            path.touch()
            os.utime(path, (time.time() - seconds, time.time() - seconds))
    append_usage(home.log, call(NOW))
    home.look()
    left = set(os.listdir(home.index))
    assert {name.format("new") for name in names} <= left
    assert not {name.format("old") for name in names} & left


def test_a_killed_build_leaves_an_index_that_works(home: Home) -> None:
    lines = calls(30, OCTOBER)
    write(home.log, lines[:20])
    home.look()
    kept = home.directory.parent / "kept"
    shutil.copytree(home.index, kept)
    with open(home.log, "ab") as file:
        file.write(b"".join(lines[20:]) + lines[3])
    points = 0
    for _ in every_kill(lambda: UsageIndex([home.log], str(home.index), UTC)):
        points += 1
        assert home.look() == (30, 1)
        shutil.rmtree(home.index)
        shutil.copytree(kept, home.index)
    assert points > 3


def test_two_reports_at_once_say_the_same(home: Home) -> None:
    write(home.log, calls(3000, OCTOBER, timedelta(minutes=1)))
    script = (
        "import sys; from datetime import UTC; from callmeter.store.index import UsageIndex;"
        "print(UsageIndex([sys.argv[1]], sys.argv[2], UTC).groups()[0][1].nano)"
    )
    command = [sys.executable, "-c", script, home.log, str(home.index)]
    reports = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {report.communicate()[0] for report in reports}
    assert said == {f"{3000 * 9_600_000}\n"}
    assert home.look() == (3000, 0)


def _append(log: str, writer: int, count: int) -> None:
    for number in range(count):
        append_usage(log, call(NOW, tags={"agent": f"w{writer}"}, attempts=number + 1, cost=Decimal(1)))


def test_reports_while_64_writers_append_see_a_beginning_of_each_and_in_the_end_all(home: Home) -> None:
    count = 30
    context = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")
    writers = [context.Process(target=_append, args=(home.log, writer, count)) for writer in range(64)]
    for writer in writers:
        writer.start()
    before = 0
    try:
        while any(writer.is_alive() for writer in writers):
            usage = UsageIndex([home.log], str(home.index), UTC)
            groups = usage.groups(("agent",))
            total = sum(figures.calls for _, figures in groups)
            assert total >= before
            assert sum(figures.nano for _, figures in groups) == total * 10**9
            seen: dict[str, list[int]] = {}
            for record in usage.calls():
                seen.setdefault(record.tags["agent"], []).append(record.attempts)
            assert sum(map(len, seen.values())) == total
            for numbers in seen.values():
                assert sorted(numbers) == list(range(1, len(numbers) + 1))
            assert not usage.reading.bad_lines
            before = total
    finally:
        for writer in writers:
            writer.join()
    assert home.look() == (64 * count, 0)


def test_a_report_that_is_killed_while_it_builds_can_be_made_again(home: Home) -> None:
    write(home.log, calls(20_000, OCTOBER, timedelta(minutes=1)))
    script = (
        "import sys; from datetime import UTC; from callmeter.store.index import UsageIndex; print(flush=True);"
        "UsageIndex([sys.argv[1]], sys.argv[2], UTC)"
    )
    for delay in (0.05, 0.15, 0.3):
        command = [sys.executable, "-c", script, home.log, str(home.index)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as report:
            assert report.stdout is not None
            report.stdout.read(1)
            try:
                report.wait(delay)
            except subprocess.TimeoutExpired:
                report.send_signal(signal.SIGKILL)
        index = UsageIndex([home.log], str(home.index), UTC)
        assert index.groups()[0][1].calls == 20_000
        shutil.rmtree(home.index)


def test_long_texts_are_read_in_pieces_without_losing_a_line(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_text, "_PIECE", 3000)
    monkeypatch.setattr(index_text, "CHUNK", 1000)
    odd = [b"\n", b"x" * 100_000 + b"\n", b"\xef\xbb\xbf\n", b"\r\n", b"\xff\n", b"{}\n"]
    lines = [each for number in range(60) for each in (call(OCTOBER + timedelta(hours=number)), odd[number % len(odd)])]
    write(home.log, lines)
    assert home.look() == (60, 0)
    write(home.log, [*lines, b"y" * 200_000])
    home.look()


def test_the_index_is_readable_for_its_owner_only(home: Home) -> None:
    write(home.log, calls(3, OCTOBER))
    home.look()
    assert home.index.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in home.index.iterdir())


def test_a_full_disk_costs_the_index_and_not_the_report(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home.log, calls(3, OCTOBER))
    home.look()
    append_usage(home.log, call(NOW))
    real = index_build.write_rows

    def full(connection: object, piece: object, source: int, name: str, *others: object) -> object:
        if name.startswith(str(home.index)):
            raise duckdb.IOException("No space left on device")
        return real(connection, piece, source, name, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(index_build, "write_rows", full)
    assert home.look() == (4, 0)
    monkeypatch.undo()
    assert home.look() == (4, 0)


def test_a_team_may_have_more_files_than_a_shell_allows_at_once(tmp_path: Path) -> None:
    for host in range(300):
        (tmp_path / f"host{host}").mkdir()
        write(str(tmp_path / f"host{host}" / "usage.jsonl"), calls(1, OCTOBER + timedelta(hours=host)))
    script = (
        "import resource, sys; from datetime import UTC; from callmeter.store.index import UsageIndex;"
        "_, most = resource.getrlimit(resource.RLIMIT_NOFILE); resource.setrlimit(resource.RLIMIT_NOFILE, (256, most));"
        "print(UsageIndex([sys.argv[1]], sys.argv[2], UTC).groups()[0][1].calls)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "*" / "usage*.jsonl*"), str(tmp_path / "index")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "300\n"


def test_where_a_segment_is_cut_off_is_listed_before_the_broken_line_that_it_left(tmp_path: Path) -> None:
    whole = gzip.compress(b"\0\0" + json.dumps({"v": 1, "note": os.urandom(300).hex()}).encode())
    (tmp_path / "usage-2026-09.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    write(str(tmp_path / "usage.jsonl"), calls(1, OCTOBER))
    reader = read_records(str(tmp_path / "usage.jsonl"))
    assert len(list(reader)) == 1
    index = UsageIndex([str(tmp_path / "usage.jsonl")], str(tmp_path / "index"), UTC)
    assert [(line, reason) for _, line, reason in index.reading.bad] == [(bad.line, bad.reason) for bad in reader.bad]
    assert [bad.line for bad in reader.bad] == [1, 2]


def test_few_rows_in_many_files_are_summed_and_those_of_a_new_file_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_sums, "_FRESH_FILES", 3)
    home = Home(tmp_path)
    logs = [str(tmp_path / f"host{number}.jsonl") for number in range(5)]
    for number, log in enumerate(logs):
        write(log, calls(number + 1, NOVEMBER))
    home.look(*logs[:3])
    assert not list(home.index.glob("*.sums"))
    home.look(*logs)
    (made,) = home.index.glob("*.sums")
    before = made.stat().st_mtime_ns
    home.look(*logs)
    assert [path.stat().st_mtime_ns for path in home.index.glob("*.sums")] == [before]
    write(logs[0], calls(9, NOVEMBER))
    home.look(*logs)
