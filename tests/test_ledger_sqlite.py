"""The file of the SQLite ledger: what it refuses, what it survives, and what it leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from callmeter.ledger import mounts, sqlite_file
from callmeter.ledger.protocol import Amount, Ledger, LedgerProblem, Uncounted
from callmeter.ledger.sqlite import SqliteLedger
from callmeter.store import files
from callmeter.words.errors import Busy
from conftest import fill
from kill_points import every_kill
from ledger_engines import BASIS, CENT, TOTAL, at_most, costing, counted, in_children, reservation, usd


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


def opened(path: Path) -> SqliteLedger:
    ledger = SqliteLedger(str(path))
    counted(ledger)
    return ledger


def one_call(ledger: Ledger, call_id: str = "c1", cost: int = 3) -> None:
    assert ledger.reserve(reservation(call_id), at_most(1000 * CENT))
    assert ledger.settle(call_id, costing(cost))


# --- what lies on the disk


def test_everything_is_for_its_owner_only_whatever_the_umask(path: Path) -> None:
    old = os.umask(0)
    try:
        one_call(opened(path))
    finally:
        os.umask(old)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert {"ledger.db", "ledger.db-wal", "ledger.db.gate"} <= set(modes)
    assert set(modes.values()) == {0o600}


def test_the_wal_is_left_by_a_call_and_emptied_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "MOST_WAL", 40_000)
    ledger, wal = opened(path), Path(f"{path}-wal")
    sizes = []
    for number in range(30):
        one_call(ledger, f"c{number}")
        sizes.append(wal.stat().st_size)
    assert 10_000 < max(sizes) < 60_000
    assert sizes != sorted(sizes)
    assert usd(ledger) == (90, 0)


def test_looking_makes_no_file(path: Path) -> None:
    ledger = SqliteLedger(str(path))
    assert usd(ledger) == (0, 0)
    assert ledger.remember("x") == ""
    assert not path.parent.exists()


def test_what_was_committed_is_there_after_every_process_is_gone(path: Path) -> None:
    ledger = opened(path)
    in_children(4, lambda number: one_call(ledger, f"c{number}"))
    assert usd(SqliteLedger(str(path))) == (12, 0)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# --- what is refused


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"not a database at all, but text" * 99, "damaged"),
        (b"SQLite format 3\0" + b"\xff" * 4096, ""),
    ],
)
def test_a_file_that_is_no_ledger_is_left_alone_and_the_way_out_is_named(path: Path, content: bytes, said: str) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    ledger = SqliteLedger(str(path))
    for attempt in (lambda: usd(ledger), lambda: ledger.reserve(reservation(), []), lambda: ledger.counted("x")):
        with pytest.raises(LedgerProblem) as caught:
            attempt()
        assert str(path) in caught.value.message and said in caught.value.message
        assert "`callmeter budget recover --rebuild`" in caught.value.hint
    assert path.read_bytes() == content


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE windows (x)")
    with pytest.raises(LedgerProblem, match="is not a ledger of callmeter"):
        SqliteLedger(str(path)).reserve(reservation(), [])


def test_the_ledger_of_a_newer_program_is_left_alone(path: Path) -> None:
    opened(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(LedgerProblem, match="newer callmeter"):
        usd(SqliteLedger(str(path)))


def test_a_damaged_page_is_reported_and_not_believed(path: Path) -> None:
    ledger = opened(path)
    for number in range(300):
        ledger.remember(f"key-{number}", "x" * 200)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xaa" * (path.stat().st_size - 4096))
    with pytest.raises(LedgerProblem) as caught:
        ledger.reserve(reservation(), [])
    assert "--rebuild" in caught.value.hint


def test_a_link_or_a_directory_is_refused(path: Path, tmp_path: Path) -> None:
    opened(path)
    link, hard = tmp_path / "link.db", tmp_path / "hard.db"
    link.symlink_to(path)
    with pytest.raises(LedgerProblem, match="symbolic link"):
        usd(SqliteLedger(str(link)))
    with pytest.raises(LedgerProblem, match="not a regular file"):
        SqliteLedger(str(tmp_path)).reserve(reservation(), [])
    hard.hardlink_to(path)
    with pytest.raises(LedgerProblem, match="2 names"):
        usd(SqliteLedger(str(path)))


def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(mounts, "network_file_system", lambda where: asked.append(where) or "nfs4")
    with pytest.raises(LedgerProblem, match="network file system \\(nfs4\\)") as caught:
        SqliteLedger(str(path)).reserve(reservation(), [])
    assert "postgresql://" in caught.value.hint
    assert asked == [str(path.parent)]
    assert not path.exists()


def test_the_kind_of_file_system_is_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mounts.network_file_system(str(tmp_path)) == ""
    assert mounts.network_file_system(str(tmp_path / "nothing")) == ""
    kinds = {line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    monkeypatch.setattr(mounts, "_NETWORK", " ".join(kinds))
    assert mounts.network_file_system(str(tmp_path)) in kinds


def test_odd_paths_work(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "a?b#c%20 d" / "l?#%41.db")
    one_call(ledger)
    assert usd(ledger) == (3, 0)


# --- what happens to it


def test_a_ledger_that_was_deleted_begins_anew_and_says_so(path: Path) -> None:
    ledger = opened(path)
    one_call(ledger)
    assert Path(f"{path}-wal").stat().st_size
    path.unlink()
    with pytest.raises(Uncounted):
        ledger.reserve(reservation("c2"), [])
    counted(ledger)
    assert usd(ledger) == (0, 0), "the deleted one's journal was not replayed into the new one"
    one_call(ledger, "c3")


def test_a_damaged_ledger_can_be_set_aside(path: Path) -> None:
    one_call(opened(path))
    assert sqlite_file.set_aside(str(path), "damaged") == "", "a sound one stays"
    path.write_bytes(b"garbage")
    moved = sqlite_file.set_aside(str(path), "damaged")
    assert Path(moved).read_bytes() == b"garbage"
    assert Path(f"{moved}-wal").exists() and not path.exists() and not Path(f"{path}-wal").exists()
    assert usd(opened(path)) == (0, 0)


def test_killed_while_it_makes_the_file_the_next_one_makes_it(path: Path) -> None:
    points = 0
    for _ in every_kill(lambda: opened(path)):
        points += 1
        ledger = SqliteLedger(str(path))
        counted(ledger)
        one_call(ledger)
        assert usd(ledger) == (3, 0)
        assert not Path(f"{path}.new").exists()
        shutil.rmtree(path.parent)
    assert points > 5


def test_killed_anywhere_in_a_call_the_ledger_is_whole(path: Path) -> None:
    ledger = opened(path)
    for point in every_kill(lambda: one_call(ledger)):
        settled, held = usd(ledger)
        assert held == len(ledger.open_reservations()) * CENT
        if held:
            ledger.settle("c1", costing(3))
        assert usd(ledger) in ((settled, 0), (settled + 3, 0)), point


def test_many_who_begin_at_once_make_one_file(path: Path) -> None:
    def body(number: int) -> None:
        ledger = SqliteLedger(str(path))
        ledger.remember("who", str(number))
        ledger.remember(f"me-{number}", "x")

    in_children(12, body)
    ledger = SqliteLedger(str(path))
    assert all(ledger.remember(f"me-{number}") == "x" for number in range(12))


def test_a_caller_waits_no_longer_than_its_patience_for_one_that_was_stopped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = opened(path)
    ledger.reserve(reservation(), [])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:

        def stops(assumed: Amount) -> Amount:
            os.write(write, b"x")
            os.kill(os.getpid(), signal.SIGSTOP)
            return Amount()

        ledger.settle("c1", stops)
        os._exit(0)
    try:
        os.read(read, 1)
        os.waitpid(child, os.WUNTRACED)
        monkeypatch.setattr(files.Lock.__init__, "__defaults__", (0.2,))
        with pytest.raises(Busy, match=f"process {child}"):
            ledger.reserve(reservation("c2"), [])
        assert usd(ledger) == (0, CENT), "readers do not wait"
    finally:
        os.kill(child, signal.SIGCONT)
        os.waitpid(child, 0)
    assert usd(ledger) == (0, 0)
    assert ledger.reserve(reservation("c2"), [])


@pytest.fixture
def small_disk(file_system: Callable[[int], Path]) -> Path:
    return file_system(512)


def test_on_a_full_disk_nothing_is_held_and_nothing_is_lost(small_disk: Path) -> None:
    ledger = opened(small_disk / "ledger.db")
    one_call(ledger, "before")
    ledger.reserve(reservation("running"), [])
    ballast = fill(small_disk)
    refused = 0
    for number in range(40):
        try:
            ledger.reserve(reservation(f"full-{number}"), [])
            ledger.release(f"full-{number}")
        except LedgerProblem as problem:
            refused += 1
            assert "free some space" in problem.hint
    assert refused > 20
    held = {found.call_id for found in ledger.open_reservations()}
    assert usd(ledger) == (3, len(held) * CENT)
    ballast.unlink()
    for call_id in held:
        assert ledger.settle(call_id, costing(1))
    assert "running" in held
    assert usd(ledger) == (3 + len(held), 0)


def test_a_limit_on_the_file_size_changes_nothing(path: Path) -> None:
    import resource

    ledger = opened(path)
    one_call(ledger)
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
        try:
            ledger.reserve(reservation("c2"), [])
        except LedgerProblem:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert usd(ledger) == (3, 0)
    one_call(ledger, "c3")


def test_another_program_that_holds_the_database_is_waited_for_then_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = opened(path)
    real: Callable[..., sqlite3.Connection] = sqlite_file.sqlite.connect
    monkeypatch.setattr(
        sqlite_file.sqlite, "connect", lambda *arguments, **options: real(*arguments, **{**options, "timeout": 0.1})
    )
    other = real(str(path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerProblem, match="locked") as caught:
        ledger.reserve(reservation(), [])
    assert "-readonly" in caught.value.hint
    other.execute("ROLLBACK")
    other.close()
    assert ledger.reserve(reservation(), [])
    assert usd(ledger, TOTAL) == (0, CENT)


def test_the_basis_survives_a_restart(path: Path) -> None:
    opened(path)
    assert SqliteLedger(str(path)).counted(BASIS.log) == BASIS.mark
