"""What keeps text: for its owner only, under names that lead nowhere else, and not for long."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.store.files import Lock
from callmeter.store.private import ANSWERS, BATCHES, CONVERSATIONS, PrivateRoom, open_room, sweep
from callmeter.words.errors import Malformed

NOW = 1_800_000_000.0
DAY = 86_400


def age(path: str | Path, days: float) -> None:
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))


def test_what_is_kept_is_read_back_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        room = open_room(str(tmp_path / "private"), CONVERSATIONS, 7, NOW)
        room.write("a", {"text": "geheim \u2028 \ud800"})
        with room.lock("a", 1):
            pass
    finally:
        os.umask(before)
    read = room.read("a")
    assert read is not None
    assert read["text"] == "geheim \u2028 \ud800"
    assert room.read("b") is None
    for directory, _, files in os.walk(tmp_path / "private"):
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(directory, name)).st_mode) == 0o600


@given(st.text(min_size=1) | st.sampled_from(["../../etc/passwd", "/etc/passwd", "..", "a/b", "x\0y", "\udcff"]))
def test_no_name_leads_out_of_the_directory(name: str) -> None:
    room = PrivateRoom("/state/private", ANSWERS)
    assert os.path.dirname(os.path.normpath(room.path(name))) == "/state/private/answers"
    assert room.path(name).isascii()


def test_two_names_are_two_pieces(tmp_path: Path) -> None:
    room = open_room(str(tmp_path), ANSWERS, 7, NOW)
    for name in ("a", "A", "a ", "b/c", "b_c"):
        room.write(name, {"is": name})
    assert [room.read(name) for name in ("a", "A", "a ", "b/c", "b_c")] == [
        {"v": 1, "name": name, "is": name} for name in ("a", "A", "a ", "b/c", "b_c")
    ]


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"[]", b'{"v":2,"name":"a"}', b'{"v":1,"name":"other"}'])
def test_a_damaged_piece_is_an_error_that_names_the_file_and_nothing_is_overwritten(
    tmp_path: Path, damage: bytes
) -> None:
    room = open_room(str(tmp_path), CONVERSATIONS, 7, NOW)
    room.write("a", {})
    path = Path(room.path("a"))
    path.write_bytes(damage)
    with pytest.raises(Malformed) as error:
        room.read("a")
    assert str(path) in error.value.message
    assert f"rm {path}" in error.value.hint
    assert path.read_bytes() == damage


def test_what_was_not_written_for_longer_than_the_retention_is_removed_with_its_lock(tmp_path: Path) -> None:
    room = open_room(str(tmp_path), ANSWERS, 7, NOW)
    for name, days in (("old", 8), ("young", 6)):
        room.write(name, {})
        with room.lock(name, 1):
            pass
        age(room.path(name), days)
        age(room.path(name, ".lock"), days)
    batches = open_room(str(tmp_path), BATCHES, 7, NOW)
    for suffix, days in ((".db", 30), (".db-wal", 30)):
        Path(batches.path("old", suffix)).touch()
        age(batches.path("old", suffix), days)
    Path(batches.path("in use", ".db")).touch()
    age(batches.path("in use", ".db"), 30)
    leftover = tmp_path / CONVERSATIONS / ".x.json.1.tmp"
    leftover.parent.mkdir()
    leftover.touch()
    age(leftover, 8)

    # A database's own file grows old while its journal is written to.
    Path(batches.path("in use", ".db-wal")).touch()
    age(batches.path("in use", ".db-wal"), 1)
    assert sweep(str(tmp_path), NOW - 7 * DAY) == 3
    assert sorted(os.listdir(tmp_path / ANSWERS)) == sorted(
        os.path.basename(room.path("young", suffix)) for suffix in (".json", ".lock")
    )
    assert len(os.listdir(tmp_path / BATCHES)) == 2
    assert os.listdir(tmp_path / CONVERSATIONS) == []


def test_the_sweep_is_made_when_a_room_is_opened_but_at_most_once_a_day(tmp_path: Path) -> None:
    def keep_old(name: str) -> str:
        room = PrivateRoom(str(tmp_path), CONVERSATIONS)
        room.write(name, {})
        age(room.path(name), 30)
        return room.path(name)

    first = keep_old("first")
    open_room(str(tmp_path), ANSWERS, 7, NOW)
    assert not os.path.exists(first)
    second = keep_old("second")
    open_room(str(tmp_path), ANSWERS, 7, NOW + DAY - 1)
    assert os.path.exists(second)
    open_room(str(tmp_path), ANSWERS, 7, NOW + DAY)
    assert not os.path.exists(second)
    # A clock that was wrong for a day does not stop the sweep for years.
    third = keep_old("third")
    open_room(str(tmp_path), ANSWERS, 7, NOW - 10 * DAY)
    os.utime(tmp_path / "swept", (NOW + 1000 * DAY, NOW + 1000 * DAY))
    open_room(str(tmp_path), ANSWERS, 7, NOW)
    assert not os.path.exists(third)


def test_what_a_process_holds_is_not_swept_and_its_lock_stays_the_one_that_others_wait_for(tmp_path: Path) -> None:
    room = open_room(str(tmp_path), ANSWERS, 7, NOW)
    room.write("a", {})
    with room.lock("a", 1):
        for suffix in (".json", ".lock"):
            age(room.path("a", suffix), 30)
        assert sweep(str(tmp_path), NOW) == 0
    for suffix in (".json", ".lock"):
        age(room.path("a", suffix), 30)
    assert sweep(str(tmp_path), NOW) == 1


def test_a_lock_whose_file_is_swept_while_it_is_taken_is_taken_again_where_others_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.lock"
    lock = fcntl.flock

    def swept_before(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        path.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", swept_before)
    with Lock(str(path), 1), open(path) as seen, pytest.raises(BlockingIOError):
        lock(seen, fcntl.LOCK_EX | fcntl.LOCK_NB)
