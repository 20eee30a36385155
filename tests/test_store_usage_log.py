"""Reading the usage log: whatever stands in it, each call once, in bounded memory; its end, and what is to come."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from callmeter.store.files import FileProblem, Lock
from callmeter.store.index import UsageIndex
from callmeter.store.seen_ids import SeenIds
from callmeter.store.usage_append import append_usage, lock_of
from callmeter.store.usage_log import BadLine, LogReader, read_records, split_lines
from callmeter.store.usage_tail import Follower, latest, lines_backwards
from callmeter.words.period import EVER, Period
from usage_lines import NOW, call, calls, write

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
GOOD = call(id="good")


def ids(path: str | list[str], period: Period = EVER) -> list[str]:
    return [record.id for record in read_records(path, period)]


def read(path: Path | str) -> LogReader:
    reader = read_records(str(path))
    for _ in reader:
        pass
    return reader


def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    reader = read(tmp_path / "usage.jsonl")
    assert (reader.records, reader.lines, reader.bad_count, reader.files) == (0, 0, 0, [])


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    log = str(tmp_path / "usage.jsonl")
    assert append_usage(log, call(id="one")) == 0
    append_usage(log, call(id="two", cost=Decimal("0.000001979964")))
    first, second = read_records(log)
    assert (first.id, first.cost, first.tags["agent"]) == ("one", Decimal("0.0096"), "code")
    assert (second.id, second.cost_nano) == ("two", 1980)


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        GOOD[:-30],
        GOOD[:-1] + GOOD[:-1],
        b"\xff\xfe",
        GOOD.replace(b"code", b"c\xffde")[:-1],
        b"\0" * 512,
        b"[]",
        b"5",
        b"null",
        b"{}",
        GOOD.replace(b'"v":1', b'"v":2')[:-1],
        GOOD.replace(b'"v":1', b'"v":"1"')[:-1],
        GOOD.replace(b"0.0096", b"NaN")[:-1],
        GOOD.replace(b"0.0096", b"Infinity")[:-1],
        GOOD.replace(b"0.0096", b'"much"')[:-1],
        GOOD.replace(b"0.0096", b'"NaN"')[:-1],
        GOOD.replace(b"0.0096", b"-0.0096")[:-1],
        GOOD.replace(b"0.0096", b"1e400")[:-1],
        GOOD.replace(b"0.0096", b"1e30")[:-1],
        GOOD.replace(b"0.0096", b"true")[:-1],
        GOOD.replace(b"1200", b"-1200")[:-1],
        GOOD.replace(b'"status":"ok"', b'"status":"fine"')[:-1],
        GOOD.replace(b'"cost_source":"provider"', b'"cost_source":"me"')[:-1],
        GOOD.replace(b'"id":"good"', b'"id":""')[:-1],
        GOOD.replace(b'"id":"good",', b"")[:-1],
        GOOD.replace(b"2026-11-21T09:30:00.000Z", b"yesterday")[:-1],
        GOOD.replace(b"2026-11-21T09:30:00.000Z", b"2026-02-30T09:30:00Z")[:-1],
        b"[" * 50_000,
        b'{"a":' * 10_000,
        b" " * 70_000 + GOOD[:-1],
        b"x" * 200_000,
    ],
    ids=lambda line: repr(line[:20]),
)
def test_a_line_that_is_no_record_is_counted_and_named_and_stops_nothing(tmp_path: Path, line: bytes) -> None:
    log = write(tmp_path / "usage.jsonl", [call(id="before"), line + b"\n", call(id="after")])
    reader = read_records(log)
    assert [record.id for record in reader] == ["before", "after"]
    assert reader.bad_count == 1
    (bad,) = reader.bad
    assert (bad.file, bad.line) == (log, 2)
    assert bad.reason
    assert reader.lines == 3


@pytest.mark.parametrize(
    "line",
    [
        GOOD[:-1] + b"\r\n",
        b"\xef\xbb\xbf" + GOOD,
        b"\n\n" + GOOD + b"\n",
        GOOD[:-1],
        GOOD.replace(b'"v":1', b'"v":1,"new_field":{"a":[1]}'),
        GOOD.replace(b"2026-11-21T09:30:00.000Z", b"2026-11-21T10:30:00+01:00"),
        GOOD.replace(b"2026-11-21T09:30:00.000Z", b"2126-11-21T09:30:00Z"),
        GOOD.replace(b"0.0096", b"9600e-6"),
        GOOD.replace(b"0.0096", b"null"),
    ],
    ids=repr,
)
def test_a_record_in_another_guise_is_read(tmp_path: Path, line: bytes) -> None:
    reader = read_records(write(tmp_path / "usage.jsonl", [line]))
    assert [record.id for record in reader] == ["good"]
    assert (reader.bad_count, reader.torn) == (0, [])


def test_a_record_behind_a_block_of_nuls_is_read_and_the_block_reported(tmp_path: Path) -> None:
    reader = read_records(write(tmp_path / "usage.jsonl", [b"\0" * 100 + GOOD]))
    assert [record.id for record in reader] == ["good"]
    assert "NUL" in reader.bad[0].reason


def test_a_torn_tail_is_named_and_no_bad_line_until_it_is_sealed(tmp_path: Path) -> None:
    log = write(tmp_path / "usage.jsonl", [GOOD, call()[:-40]])
    reader = read(log)
    assert (reader.records, reader.torn, reader.bad_count) == (1, [log], 0)
    append_usage(log, call(id="next"))
    reader = read(log)
    assert (reader.records, reader.torn, reader.bad) == (2, [], [BadLine(log, 2, reader.bad[0].reason)])


def test_bad_lines_are_all_counted_but_only_a_thousand_listed(tmp_path: Path) -> None:
    reader = read(write(tmp_path / "usage.jsonl", [b"x\n"] * 2500))
    assert reader.bad_count == 2500 and len(reader.bad) == 1000


def test_a_correction_may_be_negative(tmp_path: Path) -> None:
    log = write(tmp_path / "usage.jsonl", [GOOD, call(id="c", corrects="good", cost=Decimal("-0.0016"))])
    assert sum(record.cost or 0 for record in read_records(log)) == Decimal("0.008")


def test_a_line_of_many_megabytes_is_never_held_in_memory(tmp_path: Path) -> None:
    log = tmp_path / "usage.jsonl"
    with log.open("wb") as file:
        file.write(call(id="before"))
        for _ in range(40):
            file.write(b"x" * 1_000_000)
        file.write(b"\n" + call(id="after"))
    tracemalloc.start()
    reader = read_records(str(log))
    found = [record.id for record in reader]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == ["before", "after"]
    assert [bad.line for bad in reader.bad] == [2]
    assert peak < 12_000_000


def test_a_segment_that_unfolds_to_many_times_its_size_is_read_in_bounded_memory(tmp_path: Path) -> None:
    log = tmp_path / "usage-2026-10.jsonl.zst"
    log.write_bytes(zstandard.ZstdCompressor().compress(b"x" * 60_000_000 + b"\n" + GOOD))
    assert log.stat().st_size < 20_000
    tracemalloc.start()
    found = ids(str(log))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == ["good"]
    assert peak < 12_000_000


def test_live_log_and_segments_are_one_log_and_each_call_counts_once(tmp_path: Path) -> None:
    september, october, november = calls(5, OCTOBER - timedelta(days=9)), calls(5, OCTOBER), calls(5, NOW)
    log = write(tmp_path / "usage.jsonl", november + october[3:])
    (tmp_path / "usage-2026-10.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(b"".join(october)))
    (tmp_path / "usage-2026-10.2.jsonl").write_bytes(call(OCTOBER, id="late"))
    (tmp_path / "usage.jsonl.1.gz").write_bytes(gzip.compress(b"".join(september)))
    (tmp_path / "usage.jsonl.lock").write_bytes(b"123")
    (tmp_path / "usage-web.jsonl").write_bytes(call(id="of another log"))
    (tmp_path / "usage-web-2026-10.jsonl").write_bytes(call(id="of another log too"))
    reader = read_records(log)
    found = [record.id for record in reader]
    assert len(found) == len(set(found)) == 16
    assert "late" in found and "of another log" not in found
    assert reader.duplicates == 2
    assert {(bad.file, bad.line) for bad in reader.repeats} == {(log, 6), (log, 7)}


def test_a_glob_reads_many_hosts_with_their_segments_and_nothing_else(tmp_path: Path) -> None:
    for host in ("a", "b"):
        directory = tmp_path / "hosts" / host
        directory.mkdir(parents=True)
        write(directory / "usage.jsonl", [call(id=f"{host}-live")])
        (directory / "usage-2026-10.jsonl.gz").write_bytes(gzip.compress(call(OCTOBER, id=f"{host}-closed")))
        (directory / "usage.jsonl.lock").write_bytes(b"1")
        (directory / "usage.jsonl.closing").write_bytes(b"{}")
        (directory / ".usage-2026-10.jsonl.zst.closing").write_bytes(b"half")
    everything = {"a-live", "a-closed", "b-live", "b-closed"}
    assert set(ids(str(tmp_path / "hosts/*/usage*.jsonl*"))) == everything
    assert set(ids(str(tmp_path / "**/usage*.jsonl*").replace("**", "hosts/*"))) == everything
    assert set(ids(str(tmp_path / "hosts/*/usage.jsonl"))) == {"a-live", "b-live"}, "the glob leaves segments out"
    assert set(ids(str(tmp_path / "hosts/*/usage-*.jsonl*"))) == {"a-closed", "b-closed"}
    overlapping = [str(tmp_path / "hosts/a/usage.jsonl"), str(tmp_path / "hosts/*/usage*.jsonl*")]
    reader = LogReader(overlapping)
    assert {record.id for record in reader} == everything
    assert reader.duplicates == 0, "a file is read once"


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def overwrite(path: Path) -> None:
    path.write_bytes(b"no archive at all")


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_off, overwrite, spoil])
@pytest.mark.parametrize("suffix", ["zst", "gz"])
def test_a_damaged_segment_is_reported_and_the_rest_of_the_log_is_read(
    tmp_path: Path, damage: Callable[[Path], None], suffix: str
) -> None:
    segment = tmp_path / f"usage-2026-10.jsonl.{suffix}"
    # Ids that do not shrink, and the same ones each time: what a spoiled byte unpacks to hangs on all of them.
    ids = [hashlib.sha256(b"%d" % number).hexdigest()[:32] for number in range(2000)]
    data = b"".join(call(OCTOBER + timedelta(minutes=number), id=id) for number, id in enumerate(ids))
    segment.write_bytes(
        zstandard.ZstdCompressor(write_checksum=True).compress(data) if suffix == "zst" else gzip.compress(data)
    )
    damage(segment)
    log = write(tmp_path / "usage.jsonl", [GOOD])
    reader = read_records(log)
    found = [record.id for record in reader]
    assert found[-1] == "good" and len(found) < 2001
    assert [bad.file for bad in reader.bad if "damaged from here on" in bad.reason] == [str(segment)]


def ends_in_the_middle(path: Path, text: bytes) -> None:
    """A packed file of which all that holds `text` is there, and no more; without text, half of its first block."""
    if not text:
        path.write_bytes((gzip.compress if path.suffix == ".gz" else zstandard.ZstdCompressor().compress)(GOOD)[:50])
    elif path.suffix == ".gz":
        gz = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        path.write_bytes(gz.compress(text) + gz.flush(zlib.Z_SYNC_FLUSH))
    else:
        zst = zstandard.ZstdCompressor(write_checksum=True).compressobj()
        path.write_bytes(zst.compress(text) + zst.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))


THREE = b"".join(call(OCTOBER, id=id) for id in "abc")
DAMAGED, TOO_LONG = "damaged from here on: compressed file ended", "longer than 65536 bytes"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (b"", [(1, DAMAGED)]),
        (THREE, [(4, DAMAGED)]),
        (THREE + GOOD[:-9], [(4, DAMAGED)]),
        (THREE + GOOD[:-1], [(4, DAMAGED)]),
        (THREE + b"x" * 65_000, [(4, DAMAGED)]),
        (THREE + b"x" * 70_000, [(4, DAMAGED), (5, TOO_LONG)]),
        (THREE + b"x" * 3_000_000, [(4, DAMAGED), (5, TOO_LONG)]),
        (THREE + b"x" * 70_000 + b"\n" + b"y" * 70_000, [(4, TOO_LONG), (5, DAMAGED), (6, TOO_LONG)]),
    ],
    ids=[
        "first block",
        "end of a line",
        "in a line",
        "newline",
        "in garbage",
        "too long",
        "megabytes",
        "twice too long",
    ],
)
@pytest.mark.parametrize("suffix", ["zst", "gz"])
def test_damage_is_told_once_with_its_line_wherever_it_is(
    tmp_path: Path, suffix: str, text: bytes, faults: list[tuple[int, str]]
) -> None:
    segment = tmp_path / f"usage-2026-10.jsonl.{suffix}"
    ends_in_the_middle(segment, text)
    log = write(tmp_path / "usage.jsonl", [call(id="after")])
    reader = read(log)
    assert [(bad.file, bad.line) for bad in reader.bad] == [(str(segment), line) for line, _ in faults]
    assert all(bad.reason.startswith(reason) for bad, (_, reason) in zip(reader.bad, faults, strict=True))
    assert reader.bad_count == len(faults)
    assert reader.records == len(text and "abc") + (text.endswith(GOOD[:-1])) + 1
    index = UsageIndex([log], str(tmp_path / "index"), UTC)
    assert index.reading.bad == [(bad.file, bad.line, bad.reason) for bad in reader.bad]
    assert sum(group.calls for _, group in index.groups()) == reader.records


@pytest.mark.parametrize("suffix", ["zst", "gz"])
def test_damage_is_listed_after_any_number_of_bad_lines(tmp_path: Path, suffix: str) -> None:
    segment = tmp_path / f"usage-2026-10.jsonl.{suffix}"
    ends_in_the_middle(segment, b"x\n" * 2500)
    log = write(tmp_path / "usage.jsonl", [b"y\n" * 10])
    reader = read(log)
    assert reader.bad_count == 2511 and [bad.line for bad in reader.bad[:1000]] == list(range(1, 1001))
    (damage,) = reader.bad[1000:]
    assert (damage.file, damage.line) == (str(segment), 2501) and damage.reason.startswith(DAMAGED)
    index = UsageIndex([log], str(tmp_path / "index"), UTC)
    assert (damage.file, damage.line, damage.reason) in index.reading.bad


def test_of_a_gzipped_log_that_was_cut_off_everything_up_to_there_is_read(tmp_path: Path) -> None:
    lines = calls(2000, OCTOBER, timedelta(minutes=1))
    packed = gzip.compress(b"".join(lines))[:-12]
    (tmp_path / "usage.jsonl.1.gz").write_bytes(packed)
    reader = read_records(write(tmp_path / "usage.jsonl", []))
    assert len(list(reader)) >= 1990
    assert [bad.reason for bad in reader.bad] == [
        "damaged from here on: compressed file ended before the end-of-stream marker was reached"
    ]


def test_a_gzipped_log_can_have_several_members_and_padding(tmp_path: Path) -> None:
    odd = [gzip.compress(b"\n" * 3_000_000), bytes(40_000), gzip.compress(b""), gzip.compress(call(id="two")), b"\0"]
    (tmp_path / "usage.jsonl.1.gz").write_bytes(gzip.compress(call(id="one")) + b"".join(odd))
    (tmp_path / "usage.jsonl.2.gz").write_bytes(b"")
    reader = read_records(str(tmp_path / "usage.jsonl"))
    assert [record.id for record in reader] == ["one", "two"]
    assert (reader.bad_count, reader.lines) == (0, 3_000_002)


def test_an_empty_segment_and_one_of_several_frames_are_read(tmp_path: Path) -> None:
    (tmp_path / "usage-2026-09.jsonl.zst").write_bytes(b"")
    pack = zstandard.ZstdCompressor().compress
    (tmp_path / "usage-2026-10.jsonl.zst").write_bytes(pack(call(id="one")) + pack(call(id="two")))
    reader = read_records(str(tmp_path / "usage.jsonl"))
    assert [record.id for record in reader] == ["one", "two"]
    assert reader.bad_count == 0


@pytest.mark.parametrize("is_sized", [True, False])
@pytest.mark.parametrize("is_summed", [True, False])
def test_wherever_a_segment_was_cut_off_it_is_reported(tmp_path: Path, is_sized: bool, is_summed: bool) -> None:
    def packed(data: bytes) -> bytes:
        packer = zstandard.ZstdCompressor(write_checksum=is_summed).compressobj(size=len(data) if is_sized else -1)
        return packer.compress(data) + packer.flush()

    segment = tmp_path / "usage-2026-10.jsonl.zst"
    skipped = bytes.fromhex("502a4d18 02000000 ffff")
    # Blocks of all kinds: packed, one byte many times, and as they are.
    frames = [packed(call(id="one") * 9), skipped, packed(b"x" * 300_000 + b"\n"), packed(call(id="two")), packed(b"")]
    whole = b"".join(frames)
    ends = {sum(map(len, frames[:count])) for count in range(len(frames) + 1)}
    for size in range(len(whole) + 1):
        segment.write_bytes(whole[:size])
        reader = read_records(str(tmp_path / "usage.jsonl"))
        assert [record.id for record in reader] in (["one", "two"], ["one"], [])
        assert any("damaged from here on" in bad.reason for bad in reader.bad) == (size not in ends), size
    assert reader.records == 2


def test_only_the_period_is_given_and_segments_of_other_months_are_not_opened(tmp_path: Path) -> None:
    log = write(tmp_path / "usage.jsonl", calls(48, datetime(2026, 11, 1, tzinfo=UTC)))
    (tmp_path / "usage-2026-09.jsonl.zst").write_bytes(b"would be reported if it were opened")
    (tmp_path / "usage-2026-10.jsonl").write_bytes(call(datetime(2026, 10, 31, 23, 59, tzinfo=UTC), id="october"))
    period = Period(datetime(2026, 10, 31, 23, tzinfo=UTC), datetime(2026, 11, 1, 3, tzinfo=UTC), "")
    reader = read_records(log, period)
    assert len(list(reader)) == 4
    assert reader.bad_count == 0


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "usage.jsonl")
    with pytest.raises(FileProblem, match="not a regular file"):
        read(tmp_path / "usage.jsonl")
    (tmp_path / "directory.jsonl").mkdir()
    with pytest.raises(FileProblem):
        read(tmp_path / "directory.jsonl")


def test_a_log_can_be_read_through_a_link_but_is_not_written_through_one(tmp_path: Path) -> None:
    write(tmp_path / "real.jsonl", [GOOD])
    (tmp_path / "usage.jsonl").symlink_to(tmp_path / "real.jsonl")
    assert ids(str(tmp_path / "usage.jsonl")) == ["good"]
    with pytest.raises(FileProblem, match="symbolic link"):
        append_usage(str(tmp_path / "usage.jsonl"), GOOD)


def test_sixteen_writers_leave_whole_lines_only(tmp_path: Path) -> None:
    log = str(tmp_path / "usage.jsonl")
    children = []
    for writer in range(16):
        child = os.fork()
        if child == 0:
            for number in range(50):
                append_usage(log, call(id=f"{writer}-{number}", note="x" * 5000))
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    reader = read_records(log)
    assert {record.id for record in reader} == {f"{w}-{n}" for w in range(16) for n in range(50)}
    assert (reader.bad_count, reader.duplicates) == (0, 0)


def test_a_writer_waits_for_whoever_changes_the_log(tmp_path: Path) -> None:
    log = str(tmp_path / "usage.jsonl")
    waiting, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(waiting, 1)
        append_usage(log, GOOD)
        os._exit(0)
    with Lock(lock_of(log)):
        os.write(go, b"!")
        ended = 0
        while not ended and f"-> FLOCK  ADVISORY  WRITE {child} " not in Path("/proc/locks").read_text():
            ended, _ = os.waitpid(child, os.WNOHANG)
        assert not ended and not os.path.exists(log)
    assert os.waitpid(child, 0)[1] == 0
    assert ids(log) == ["good"]


def test_a_log_is_for_its_owner_only_from_its_first_byte(tmp_path: Path) -> None:
    log = tmp_path / "new" / "usage.jsonl"
    old = os.umask(0)
    try:
        append_usage(str(log), GOOD)
    finally:
        os.umask(old)
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


pieces = st.lists(st.sampled_from([b"", b"a", b"bc", b"\n", b"\r\n", b"\0", b"x" * 70_000]), max_size=30)


@given(pieces, st.integers(1, 100_000))
@settings(max_examples=150, deadline=None)
def test_lines_do_not_depend_on_how_the_bytes_come_in(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    *whole, rest = data.split(b"\n")
    bound = 64 * 1024 + 3
    expected: list[tuple[bytes | None, bool]] = [(line if len(line) <= bound else None, True) for line in whole]
    if rest:
        expected.append((rest if len(rest) <= bound else None, False))
    assert list(split_lines(chunks)) == expected


@given(pieces)
@settings(max_examples=100, deadline=None)
def test_lines_read_backwards_are_the_lines(parts: list[bytes]) -> None:
    data = b"".join(parts)
    with open(os.memfd_create("log"), "w+b", buffering=0) as file:
        file.write(data)
        found = list(lines_backwards(file))
    assert found[::-1] == [line for line in data.split(b"\n") if len(line) <= 64 * 1024] or not data


@given(st.lists(st.one_of(st.uuids().map(str), st.integers(0, 50).map(str), st.text(max_size=40)), max_size=200))
@settings(max_examples=60, deadline=None)
def test_seen_ids_are_a_set_of_ids(texts: list[str]) -> None:
    seen = SeenIds(newest=16)
    known: set[str] = set()
    for text in texts:
        assert (text in seen) == (text in known)
        assert seen.add(text) == (text not in known)
        known.add(text)
        assert len(seen) == len(known)


def any_record(record: object) -> bool:
    return True


@pytest.mark.parametrize("count", [0, 1, 7, 30, 100])
def test_the_latest_lines_come_from_the_end_and_from_segments_if_need_be(tmp_path: Path, count: int) -> None:
    older, newer = calls(10, OCTOBER), calls(20, NOW)
    log = write(tmp_path / "usage.jsonl", [*newer, b"garbage\n", b"y" * 200_000 + b"\n"])
    (tmp_path / "usage-2026-10.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(b"".join(older)))
    everything = [line[:-1] for line in older + newer]
    assert [line for _, line in latest(log, count, any_record, EVER)] == everything[max(30 - count, 0) :]


def test_the_latest_lines_of_several_logs_come_in_the_order_of_time(tmp_path: Path) -> None:
    lines = calls(20, NOW)
    write(tmp_path / "a.jsonl", lines[::2])
    write(tmp_path / "b.jsonl", lines[1::2])
    found = latest(str(tmp_path / "*.jsonl"), 5, any_record, EVER)
    assert [line for _, line in found] == [line[:-1] for line in lines[-5:]]


def followed(follower: Follower) -> list[str]:
    return [record.id for record, _ in follower.poll()]


def test_a_follower_gives_each_new_line_once_and_half_lines_when_they_are_whole(tmp_path: Path) -> None:
    log = write(tmp_path / "usage.jsonl", [GOOD])
    follower = Follower(log)
    assert followed(follower) == []
    append_usage(log, call(id="one"))
    assert followed(follower) == ["one"]
    line = call(id="two")
    with open(log, "ab", buffering=0) as file:
        file.write(line[:50])
        assert followed(follower) == []
        file.write(line[50:] + b"garbage\n" + call(id="three"))
    assert followed(follower) == ["two", "three"]


def test_a_follower_waits_for_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    log = str(tmp_path / "usage.jsonl")
    follower = Follower(log)
    assert followed(follower) == []
    append_usage(log, call(id="one"))
    assert followed(follower) == ["one"]


@pytest.mark.parametrize("how", ["deleted", "rotated", "emptied"])
def test_a_follower_survives_that_the_log_begins_anew(tmp_path: Path, how: str) -> None:
    log = write(tmp_path / "usage.jsonl", calls(50, NOW))
    follower = Follower(log)
    append_usage(log, call(id="last of the old"))
    if how == "deleted":
        os.unlink(log)
    elif how == "rotated":
        os.rename(log, log + ".1")
    else:
        assert followed(follower) == ["last of the old"]
        os.truncate(log, 0)
    append_usage(log, call(id="first of the new"))
    expected = ["first of the new"] if how == "emptied" else ["last of the old", "first of the new"]
    assert list(itertools.chain(followed(follower), followed(follower))) == expected


def test_a_follower_of_a_glob_finds_new_logs(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [GOOD])
    follower = Follower(str(tmp_path / "*.jsonl"))
    write(tmp_path / "b.jsonl", [call(id="b")])
    append_usage(str(tmp_path / "a.jsonl"), call(id="a"))
    assert sorted(followed(follower)) == ["a", "b"]
