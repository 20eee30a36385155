"""Closing and pruning the usage log: no line is lost, doubled or changed, whatever is killed when."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import zstandard

from callmeter.flows.recovery import recover
from callmeter.store import usage_log
from callmeter.store.audit import append_event, read_events
from callmeter.store.files import FileProblem
from callmeter.store.inflight import Breadcrumb
from callmeter.store.segments import close_log, prunable, prune_log
from callmeter.store.usage_append import append_usage
from callmeter.store.usage_log import read_records
from callmeter.store.usage_tail import Follower
from kill_points import every_kill
from usage_lines import NOW, call, calls, write

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
LATER = datetime(2028, 1, 1, tzinfo=UTC)


class Home:
    """A log, its segments and its audit log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = str(directory / "usage.jsonl")
        self.audit_log = str(directory / "audit.jsonl")

    def audit(self, event: str, facts: Mapping[str, object]) -> None:
        append_event(self.audit_log, event, NOW, "test", facts)

    def close(self, before: datetime | None = NOVEMBER) -> list[str]:
        return [segment.name for segment in close_log(self.log, before, NOW, self.audit)]

    def prune(self, cutoff: datetime) -> list[str]:
        return [segment.name for segment in prune_log(self.log, cutoff, self.audit)[0]]

    def segment(self, name: str) -> bytes:
        data = (self.directory / name).read_bytes()
        return zstandard.ZstdDecompressor().decompressobj().decompress(data) if data else b""

    def live(self) -> bytes:
        return Path(self.log).read_bytes()

    def names(self) -> set[str]:
        """What lies there besides locks and the audit log."""
        return {n for n in os.listdir(self.directory) if not n.endswith(".lock") and not n.startswith("audit")}

    def events(self) -> list[str]:
        return [str(event.fields["event"]) for event in read_events(self.audit_log)]

    def ids(self) -> Counter[str]:
        return Counter(record.id for record in read_records(self.log))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    directory = tmp_path / "state"
    directory.mkdir()
    return Home(directory)


def test_finished_months_go_into_their_segments_and_this_month_stays(home: Home) -> None:
    september, october, november = calls(3, SEPTEMBER), calls(4, OCTOBER), calls(5, NOVEMBER)
    write(home.log, [*september, *november[:2], *october, *november[2:]])
    assert home.close() == ["usage-2026-09.jsonl.zst", "usage-2026-10.jsonl.zst"]
    assert home.segment("usage-2026-09.jsonl.zst") == b"".join(september)
    assert home.segment("usage-2026-10.jsonl.zst") == b"".join(october)
    assert home.live() == b"".join(november)
    assert home.names() == {"usage.jsonl", "usage-2026-09.jsonl.zst", "usage-2026-10.jsonl.zst"}
    assert len(home.ids()) == 12


def test_a_line_of_a_year_before_1000_stays_part_of_the_log(home: Home) -> None:
    write(home.log, [call(OCTOBER, id="x"), call(datetime(1, 1, 1, tzinfo=UTC), id="zero"), b"and what is none\n"])
    assert home.close() == ["usage-0001-01.jsonl.zst", "usage-2026-10.jsonl.zst"]
    reader = read_records(home.log)
    assert [record.id for record in reader] == ["zero", "x"]
    assert reader.bad_count == 1
    assert [segment.name for segment in prunable(home.log, datetime(999, 2, 1, tzinfo=UTC))[0]] == [
        "usage-0001-01.jsonl.zst"
    ]


def test_a_closing_is_audited_with_what_identifies_its_segments(home: Home) -> None:
    write(home.log, calls(4, OCTOBER))
    home.close()
    (event,) = read_events(home.audit_log)
    assert event.fields["event"] == "log.close"
    segments = event.fields["segments"]
    assert isinstance(segments, list)
    (segment,) = segments
    assert (segment["name"], segment["lines"], segment["cost"]) == ("usage-2026-10.jsonl.zst", 4, Decimal("0.0384"))
    assert (segment["first"], segment["last"]) == ("2026-10-01T00:00:00.000Z", "2026-10-01T03:00:00.000Z")
    path = home.directory / "usage-2026-10.jsonl.zst"
    found = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
    assert found.split()[0] == segment["sha256"]


def test_late_lines_of_a_closed_month_get_a_segment_of_their_own(home: Home) -> None:
    write(home.log, calls(2, OCTOBER))
    home.close()
    append_usage(home.log, call(OCTOBER, id="imported"))
    append_usage(home.log, call(NOW, id="now"))
    assert home.close() == ["usage-2026-10.2.jsonl.zst"]
    assert home.close() == []
    assert len(home.ids()) == 4 and home.ids()["imported"] == 1


def test_every_byte_of_a_broken_log_is_kept_beside_the_line_before_it(home: Home) -> None:
    lines = [
        b"\xef\xbb\xbf" + call(OCTOBER),
        b"garbage\n",
        b"x" * 200_000 + b"\n",
        call(NOW, id="now"),
        b"\0" * 64 + b"\n",
        call(OCTOBER)[:-1] + b"\r\n",
        b"\n",
        call(NOW)[:-20],
    ]
    write(home.log, lines)
    home.close()
    assert home.segment("usage-2026-10.jsonl.zst") == b"".join([*lines[:3], *lines[5:7]])
    assert home.live() == b"".join([*lines[3:5], lines[7]])


def test_everything_can_be_closed_and_calls_go_on_in_an_empty_log(home: Home) -> None:
    write(home.log, [b"garbage\n", *calls(2, OCTOBER), *calls(2, NOVEMBER)])
    assert home.close(None) == ["usage-2026-10.jsonl.zst", "usage-2026-11.jsonl.zst"]
    assert home.live() == b""
    append_usage(home.log, call(id="next"))
    assert len(home.ids()) == 5


@pytest.mark.parametrize("lines", [[], [call(NOW)], [b"garbage\n", call(NOW)[:-9]]])
def test_a_log_without_finished_months_is_not_touched(home: Home, lines: list[bytes]) -> None:
    write(home.log, lines)
    before = os.stat(home.log)
    assert home.close() == []
    assert os.path.samestat(before, os.stat(home.log))
    assert home.names() == {"usage.jsonl"} and home.events() == []


def test_a_log_that_does_not_exist_has_nothing_to_close(home: Home) -> None:
    assert home.close() == []
    assert home.names() == set()


def test_the_new_log_has_the_old_ones_mode_and_segments_too(home: Home) -> None:
    write(home.log, [*calls(2, OCTOBER), call(NOW)])
    os.chmod(home.log, 0o640)
    home.close()
    assert os.stat(home.log).st_mode & 0o777 == 0o640
    assert os.stat(home.directory / "usage-2026-10.jsonl.zst").st_mode & 0o777 == 0o640


def test_another_log_with_a_similar_name_is_left_alone(home: Home) -> None:
    write(home.log, calls(2, OCTOBER))
    other = home.directory / ".usage-web.jsonl.closing"
    other.write_bytes(b"of a closing of usage-web.jsonl that is going on")
    home.close()
    assert other.exists()


def test_a_closing_killed_before_any_of_its_changes_loses_nothing(home: Home, tmp_path: Path) -> None:
    lines = [*calls(3, SEPTEMBER), *calls(3, OCTOBER), b"garbage\n", *calls(3, NOVEMBER)]
    write(home.log, lines)
    expected = home.ids()
    kept = tmp_path / "kept"
    shutil.copytree(home.directory, kept)
    points = 0
    for point in every_kill(lambda: home.close()):
        points += 1
        assert home.ids() == expected, f"killed before change {point}"
        append_usage(home.log, call(NOW, id=f"after {point}"))
        expected[f"after {point}"] = 1
        assert home.ids() == expected, f"a call after the kill at {point}"
        home.close()
        assert home.ids() == expected, f"the closing after the kill at {point}"
        assert home.names() == {"usage.jsonl", "usage-2026-09.jsonl.zst", "usage-2026-10.jsonl.zst"}
        assert home.events().count("log.close") >= 1
        whole = home.segment("usage-2026-09.jsonl.zst") + home.segment("usage-2026-10.jsonl.zst") + home.live()
        assert whole == b"".join(lines) + call(NOW, id=f"after {point}")
        expected.pop(f"after {point}")
        shutil.rmtree(home.directory)
        shutil.copytree(kept, home.directory)
    assert points > 25


def test_if_the_log_is_taken_away_after_a_killed_closing_its_segments_are_not(home: Home, tmp_path: Path) -> None:
    write(home.log, [*calls(3, OCTOBER), *calls(3, NOVEMBER)])
    kept = tmp_path / "kept"
    shutil.copytree(home.directory, kept)
    rescued = 0
    for _ in every_kill(lambda: home.close()):
        if "usage-2026-10.jsonl.zst" in home.names():
            rescued += 1
            os.unlink(home.log)
            append_usage(home.log, call(NOW, id="new"))
            home.close()
            assert "usage-2026-10.jsonl.zst" in home.names()
            assert home.ids()["new"] == 1 and len(home.ids()) >= 4
        shutil.rmtree(home.directory)
        shutil.copytree(kept, home.directory)
    assert rescued > 3


def test_a_log_that_is_deleted_while_it_is_closed_stays_deleted(home: Home) -> None:
    write(home.log, [*calls(3, OCTOBER), *calls(3, NOVEMBER)])
    real = os.rename

    def rename(old: str, new: str) -> None:
        real(old, new)
        if new.endswith("-2026-10.jsonl.zst"):
            os.unlink(home.log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(FileProblem):
            home.close()
    assert "usage.jsonl" not in home.names()
    assert "usage-2026-10.jsonl.zst" in home.names(), "the only copy that is left"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("path", ["usage.jsonl", "usage*.jsonl*"])
def test_a_log_that_is_closed_while_it_is_opened_for_reading_is_read_whole(
    home: Home, monkeypatch: pytest.MonkeyPatch, path: str, when: str
) -> None:
    write(home.log, [*calls(3, OCTOBER), *calls(3, NOVEMBER)])
    real = usage_log.segments_of
    closings = 0

    def closing(log_path: str) -> list[str]:
        nonlocal closings
        listed = real(log_path) if when == "after" else []
        closings += bool(home.close(None))
        return real(log_path) if when == "before" else listed

    monkeypatch.setattr(usage_log, "segments_of", closing)
    found = [record.id for record in read_records(str(home.directory / path))]
    assert closings == 1
    assert len(found) == len(set(found)) == 6


WRITER = """
import itertools, os, sys
from usage_lines import call, NOW
from datetime import timedelta
from callmeter.store.usage_append import append_usage
for n in itertools.count():
    append_usage(sys.argv[1], call(NOW - timedelta(days=n % 60), id=f"{sys.argv[2]}-{n}"))
    os.write(1, f"{sys.argv[2]}-{n}\\n".encode())
"""


def test_readers_lose_and_double_nothing_while_writers_write_and_the_log_is_closed_again_and_again(home: Home) -> None:
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, home.log, f"w{number}"],
            stdout=subprocess.PIPE,
            env=environment,
        )
        for number in range(3)
    ]
    told: set[str] = set()
    for writer in writers:
        assert writer.stdout is not None
        told.add(writer.stdout.readline().decode().strip())
    closer = os.fork()
    if closer == 0:
        try:
            for _ in range(12):
                close_log(home.log, None, NOW, lambda event, facts: None)
            os._exit(0)
        finally:
            os._exit(1)
    ended = status = 0
    while not ended:
        ended, status = os.waitpid(closer, os.WNOHANG)
        for writer in writers:
            assert writer.stdout is not None
            told.add(writer.stdout.readline().decode().strip())
        found = home.ids()
        assert told <= found.keys(), f"{len(told - found.keys())} acknowledged lines are missing"
        assert max(found.values()) == 1
    assert status == 0
    for writer in writers:
        writer.kill()
        assert writer.stdout is not None
        told |= {line.decode().strip() for line in writer.stdout.read().splitlines()}
        assert writer.wait() == -signal.SIGKILL
    reader = read_records(home.log)
    found = Counter(record.id for record in reader)
    assert told <= found.keys() and max(found.values()) == 1
    assert reader.duplicates == 0


@pytest.mark.parametrize("kept", ["some lines stay", "no line stays"])
def test_a_follower_sees_no_line_twice_when_the_log_is_closed_under_it(home: Home, kept: str) -> None:
    old = [*calls(50, OCTOBER), *(calls(50, NOVEMBER) if kept == "some lines stay" else [])]
    write(home.log, old)
    follower = Follower(home.log)
    append_usage(home.log, call(id="one"))
    assert [record.id for record, _ in follower.poll()] == ["one"]
    append_usage(home.log, call(id="two"))
    home.close(None if kept == "no line stays" else NOVEMBER)
    append_usage(home.log, call(id="three"))
    assert [record.id for record, _ in follower.poll()] == ["two", "three"]
    assert list(follower.poll()) == []


@pytest.mark.parametrize("before", [None, NOVEMBER])
def test_a_dead_calls_line_is_found_where_the_closing_put_it(home: Home, before: datetime | None) -> None:
    inflight = str(home.directory / "inflight")
    write(home.log, calls(3, OCTOBER))
    child = os.fork()
    if child == 0:
        record = {"v": 1, "id": "dead", "timestamp": "2026-11-21T09:30:00.000Z", "estimate": Decimal(1)}
        Breadcrumb.begin(inflight, record, home.log, 0).sent()
        append_usage(home.log, call(NOW, id="dead"))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    home.close(before)
    assert recover(inflight, NOW).records == []
    assert home.ids()["dead"] == 1
    assert os.listdir(inflight) == []


@pytest.fixture
def small_disk(file_system: Callable[[int], Path]) -> Path:
    return file_system(256)


def test_on_a_full_disk_the_log_stays_as_it_was(small_disk: Path) -> None:
    home = Home(small_disk)
    write(home.log, [*calls(10, OCTOBER), *calls(600, NOVEMBER, timedelta(minutes=1))])
    content = home.live()
    assert 128_000 < len(content) < 240_000
    with pytest.raises(FileProblem, match="no space left"):
        home.close()
    assert home.live() == content
    assert home.names() == {"usage.jsonl"}
    append_usage(home.log, call(id="next"))


def closed(home: Home) -> None:
    """Segments of August to October, and a November that goes on."""
    months = [datetime(2026, month, 10, tzinfo=UTC) for month in (8, 9, 10)]
    write(home.log, [line for month in months for line in calls(3, month)] + calls(3, NOVEMBER))
    home.close()


def test_only_segments_all_of_whose_calls_are_older_are_deleted(home: Home) -> None:
    closed(home)
    last = datetime(2026, 9, 10, 2, tzinfo=UTC)
    assert home.prune(last) == ["usage-2026-08.jsonl.zst"]
    assert home.prune(last + timedelta(milliseconds=1)) == ["usage-2026-09.jsonl.zst"]
    assert home.names() == {"usage.jsonl", "usage-2026-10.jsonl.zst"}
    assert len(home.ids()) == 6
    assert home.events() == ["log.close", "log.prune", "log.prune"]


def test_the_live_log_is_never_pruned(home: Home) -> None:
    closed(home)
    assert len(home.prune(LATER)) == 3
    assert home.names() == {"usage.jsonl"} and len(home.ids()) == 3


def test_a_look_at_what_would_be_deleted_deletes_nothing(home: Home) -> None:
    closed(home)
    names = home.names()
    segments, _ = prunable(home.log, NOVEMBER)
    assert [(segment.name, segment.lines, segment.cost) for segment in segments] == [
        (f"usage-2026-{month}.jsonl.zst", 3, 28_800_000) for month in ("08", "09", "10")
    ]
    assert home.names() == names and home.events() == ["log.close"]


def test_what_cannot_be_read_is_kept_and_said(home: Home) -> None:
    closed(home)
    Path(home.directory / "usage-2026-08.jsonl.zst").write_bytes(b"damaged")
    Path(home.directory / "usage-2026-07.jsonl").write_bytes(b"garbage\n")
    segments, reasons = prune_log(home.log, LATER, home.audit)
    assert len(segments) == 2
    assert len(reasons) == 2 and "usage-2026-07" in reasons[0] and "damaged" in reasons[1]
    assert home.names() == {"usage.jsonl", "usage-2026-07.jsonl", "usage-2026-08.jsonl.zst"}


def test_a_segment_is_judged_by_its_calls_and_not_by_its_name(home: Home) -> None:
    write(home.log, [])
    Path(home.directory / "usage-2026-01.jsonl").write_bytes(call(NOW, id="young"))
    assert home.prune(NOVEMBER) == []


def test_a_pruning_killed_before_any_of_its_changes_deletes_nothing_unaudited(home: Home, tmp_path: Path) -> None:
    closed(home)
    kept = tmp_path / "kept"
    shutil.copytree(home.directory, kept)
    points = 0
    for _ in every_kill(lambda: home.prune(NOVEMBER)):
        points += 1
        gone = {"usage-2026-08.jsonl.zst", "usage-2026-09.jsonl.zst", "usage-2026-10.jsonl.zst"} - home.names()
        audited = {
            event.fields["segment"]["name"]  # type: ignore[index]
            for event in read_events(home.audit_log)
            if event.fields["event"] == "log.prune"
        }
        assert gone <= audited
        home.prune(NOVEMBER)
        assert home.names() == {"usage.jsonl"}
        shutil.rmtree(home.directory)
        shutil.copytree(kept, home.directory)
    assert points > 15


def test_without_its_audit_nothing_is_deleted(home: Home) -> None:
    closed(home)

    def refuse(event: str, facts: Mapping[str, object]) -> None:
        raise FileProblem("no space left on device")

    with pytest.raises(FileProblem):
        prune_log(home.log, LATER, refuse)
    assert len(home.names()) == 4
