"""The audit log: a chain that crashes cannot break and that tampering does."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from callmeter.store.audit import Anchor, Verdict, append_event, head_of, parse_anchor, read_events, verify
from callmeter.words.errors import Malformed
from kill_points import every_kill

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def log_of(path: Path, events: int) -> tuple[str, list[Anchor]]:
    """A log with some events, and their anchors."""
    log = str(path / "audit.jsonl")
    return log, [append_event(log, "quota.set", NOW, "ann", {"number": n}) for n in range(events)]


def verdicts(log: str, anchors: list[Anchor] | None = None) -> list[Verdict]:
    return [finding.verdict for finding in verify(log, anchors or []).findings]


def test_each_line_names_the_hash_of_the_line_before_so_that_sha256sum_can_check_it(tmp_path: Path) -> None:
    log, anchors = log_of(tmp_path, 3)
    lines = Path(log).read_bytes().splitlines(keepends=True)
    events = [json.loads(line) for line in lines]
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert events[0]["prev"] == "0" * 64
    assert events[2]["prev"] == hashlib.sha256(lines[1]).hexdigest()
    assert anchors[2].hash == hashlib.sha256(lines[2]).hexdigest()
    assert (events[0]["event"], events[0]["at"], events[0]["by"]) == ("quota.set", "2026-11-21T09:30:00.000Z", "ann")


def test_an_untouched_log_verifies_against_all_its_anchors(tmp_path: Path) -> None:
    log, anchors = log_of(tmp_path, 5)
    found = verify(log, [*anchors, Anchor(3, anchors[2].hash[:16], "usage.jsonl")])
    assert (found.events, found.anchors, found.findings) == (5, 7, ())
    assert found.head == Anchor(5, anchors[4].hash, log)
    assert not found.tampered


def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    found = verify(str(tmp_path / "audit.jsonl"))
    assert (found.events, found.findings) == (0, ())
    assert list(read_events(str(tmp_path / "audit.jsonl"))) == []


def edit(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[3].replace(b'"ann"', b'"bob"'), *lines[4:]]


def delete(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], *lines[4:]]


def swap(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


def repeat(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[3], *lines[4:]]


def insert(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], b"not an event\n", *lines[3:]]


def cut(lines: list[bytes]) -> list[bytes]:
    return lines[:5]


def empty(lines: list[bytes]) -> list[bytes]:
    return []


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (edit, {Verdict.CHAIN}),
        (delete, {Verdict.CHAIN, Verdict.SEQ}),
        (swap, {Verdict.CHAIN, Verdict.SEQ}),
        (repeat, {Verdict.CHAIN, Verdict.SEQ}),
        (insert, {Verdict.CHAIN, Verdict.GARBAGE}),
        (cut, {Verdict.TRUNCATED}),
        (empty, {Verdict.TRUNCATED}),
    ],
)
def test_tampering_shows_without_any_anchor_but_head(
    tmp_path: Path, tamper: Callable[[list[bytes]], list[bytes]], expected: set[Verdict]
) -> None:
    log, _ = log_of(tmp_path, 10)
    lines = Path(log).read_bytes().splitlines(keepends=True)
    Path(log).write_bytes(b"".join(tamper(lines)))
    found = verify(log)
    assert {finding.verdict for finding in found.findings} == expected
    assert found.tampered


def test_an_edited_last_line_shows_by_head(tmp_path: Path) -> None:
    log, _ = log_of(tmp_path, 3)
    Path(log).write_bytes(Path(log).read_bytes().replace(b'"number":2', b'"number":7'))
    assert verdicts(log) == [Verdict.ANCHOR]


def test_a_log_that_was_cut_together_with_head_shows_only_by_an_anchor_kept_elsewhere(tmp_path: Path) -> None:
    log, anchors = log_of(tmp_path, 10)
    lines = Path(log).read_bytes().splitlines(keepends=True)
    Path(log).write_bytes(b"".join(lines[:5]))
    Path(head_of(log)).write_text(f"5 {anchors[4].hash}\n")
    assert verdicts(log) == []
    assert verdicts(log, [anchors[8]]) == [Verdict.TRUNCATED]


def test_a_log_that_was_written_anew_shows_only_by_an_anchor_kept_elsewhere(tmp_path: Path) -> None:
    log, anchors = log_of(tmp_path, 10)
    os.unlink(log)
    for n in range(10):
        append_event(log, "quota.set", NOW, "mallory", {"number": n})
    assert verdicts(log) == []
    assert verdicts(log, [anchors[8]]) == [Verdict.ANCHOR]


def test_a_torn_tail_is_a_warning_and_the_next_event_covers_it(tmp_path: Path) -> None:
    log, _ = log_of(tmp_path, 2)
    with open(log, "ab") as file:
        file.write(b'{"seq":3,"prev":"ab')
    found = verify(log)
    assert [finding.verdict for finding in found.findings] == [Verdict.TORN] and not found.tampered
    append_event(log, "quota.set", NOW, "ann", {})
    found = verify(log)
    assert [(finding.verdict, finding.line) for finding in found.findings] == [(Verdict.GARBAGE, 3)]
    assert not found.tampered and found.events == 3
    Path(log).write_bytes(Path(log).read_bytes().replace(b'"prev":"ab\n', b'"prev":"cd\n'))
    assert Verdict.CHAIN in verdicts(log), "the fragment is covered too"


def test_garbage_longer_than_any_line_before_the_end_does_not_hide_the_last_event(tmp_path: Path) -> None:
    log, _ = log_of(tmp_path, 2)
    with open(log, "ab") as file:
        file.write(b"".join(b"x" * 60_000 + b"\n" for _ in range(20)))
    assert append_event(log, "quota.set", NOW, "ann", {}).seq == 3
    assert not verify(log).tampered


def test_a_writer_killed_before_any_of_its_changes_never_breaks_the_chain(tmp_path: Path) -> None:
    log, _ = log_of(tmp_path, 1)
    points = 0
    for _ in every_kill(lambda: append_event(log, "quota.set", NOW, "ann", {})):
        points += 1
        anchor = append_event(log, "quota.set", NOW, "ann", {})
        found = verify(log, [anchor])
        assert not found.tampered and found.anchors >= 1
    assert points >= 8


WRITER = """
import os, sys
from datetime import UTC, datetime
from callmeter.store.audit import append_event
while True:
    anchor = append_event(sys.argv[1], "test", datetime.now(UTC), "worker", {"text": "x" * 500})
    os.write(1, f"{anchor.seq} {anchor.hash}\\n".encode())
"""


def test_sixteen_writers_under_random_kills_keep_every_acknowledged_event_in_one_chain(tmp_path: Path) -> None:
    log = str(tmp_path / "audit.jsonl")
    chance = random.Random(7)

    def spawn() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", WRITER, log], stdout=subprocess.PIPE, text=True)

    running = [spawn() for _ in range(16)]
    told: list[str] = []
    for _ in range(24):
        victim = running.pop(chance.randrange(len(running)))
        assert victim.stdout is not None
        told += [victim.stdout.readline() for _ in range(chance.randrange(1, 6))]
        victim.kill()
        told += victim.stdout.readlines()
        assert victim.wait() == -signal.SIGKILL
        running.append(spawn())
    for worker in running:
        worker.kill()
        told += worker.communicate()[0].splitlines()
    anchors = [parse_anchor(line, "told") for line in told if line]
    found = verify(log, anchors)
    assert not found.tampered
    assert len(anchors) > 60 and found.anchors >= len(anchors)


def test_members_that_belong_to_the_chain_cannot_be_given(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seq"):
        append_event(str(tmp_path / "audit.jsonl"), "x", NOW, "ann", {"seq": 9})


def test_the_log_and_its_head_are_for_their_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        log, _ = log_of(tmp_path, 1)
    finally:
        os.umask(old)
    for path in (log, head_of(log), str(tmp_path / "audit.lock")):
        assert os.stat(path).st_mode & 0o777 == 0o600


def test_an_anchor_is_a_number_and_at_least_sixteen_digits() -> None:
    assert parse_anchor("12:0123456789abcdef", "x") == Anchor(12, "0123456789abcdef", "x")
    for text in ("", "12", "12:abc", "x:0123456789abcdef", "1 0123456789abcdeg", "-1 0123456789abcdef"):
        with pytest.raises(Malformed):
            parse_anchor(text, "x")


def test_a_file_that_is_no_audit_log_is_not_read_into_memory(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes(b"x" * 200_000)
    with pytest.raises(Malformed, match="longer than"):
        verify(str(log))
