"""The PostgreSQL ledger when something goes wrong: connections, servers, clients, older and newer programs."""
# ruff: noqa: F401, F811 - fixtures are imported, and then asked for by name

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callmeter.ledger.open_ledger import open_ledger
from callmeter.ledger.protocol import Amount, Ledger, LedgerProblem, Uncounted
from callmeter.words.errors import Busy
from ledger_engines import (
    AGENT,
    BASIS,
    CENT,
    NOW,
    OTHER,
    TOTAL,
    at_most,
    costing,
    counted,
    in_children,
    new_database,
    reservation,
    server,
    usd,
)
from servers.database import Wire, free_port


@pytest.fixture
def address(server: str) -> str:
    return new_database(server)


def query(address: str, text: str) -> list[Any]:
    """Ask the database itself."""
    import psycopg

    with psycopg.connect(address, autocommit=True) as connection:
        found = connection.execute(text)
        return found.fetchall() if found.description else []


# --- connections that break


def test_a_call_survives_a_connection_that_breaks_at_any_moment(address: str) -> None:
    """Before or after each message that it sends: it is reserved once and settled once, or it is not made."""
    clear = counted(open_ledger(address))
    lines: list[str] = []
    made = refused = unsettled = 0
    for before in (True, False):
        for message in range(1, 100):
            call_id = f"{before}-{message}"
            with Wire(address) as wire:
                ledger = open_ledger(wire.address)
                wire.cut_after(message, before=before)
                try:
                    held = ledger.reserve(reservation(call_id), at_most(1000 * CENT))
                except LedgerProblem:
                    held, refused = False, refused + 1
                    clear.release(call_id)  # as recovery does
                if held:
                    made += 1

                    def write(assumed: Amount, call_id: str = call_id) -> Amount:
                        lines.append(call_id)
                        return Amount(3, 0, 1)

                    try:
                        assert ledger.settle(call_id, write)
                    except LedgerProblem:
                        unsettled += 1
                        clear.settle(call_id, costing(3) if call_id in lines else write)
                if wire.messages < message:
                    break
        else:
            raise AssertionError("a call never ends")
    assert sorted(set(lines)) == sorted(lines)
    assert len(lines) == made > 10
    assert usd(clear) == usd(clear, AGENT) == (3 * made, 0)
    assert refused + unsettled < made, "one broken connection is made good by another one"


class Paper:
    """Two logs, as what their lines add up to; each call of `write` is a line of three nano-dollars."""

    def __init__(self) -> None:
        self.sums = {BASIS.log: 0, OTHER.log: 0}

    def to(self, log: str) -> Callable[..., Amount]:
        def write(*_: object) -> Amount:
            self.sums[log] += 3
            return Amount(3, 0, 0)

        return write

    def count(self, ledger: Ledger) -> None:
        """As the next call and recovery do: hold nothing for the dead, and count anew what is not to be trusted."""
        for basis in (BASIS, OTHER):
            if ledger.counted(basis.log) != basis.mark:
                found = {TOTAL: Amount(self.sums[basis.log])}
                ledger.recount(basis, NOW, count=lambda found=found: found, windows_of=lambda _: None)


WORKS: dict[str, Callable[[Ledger, str, Paper], object]] = {
    "standings": lambda ledger, call_id, paper: ledger.standings([TOTAL], BASIS),
    "remember": lambda ledger, call_id, paper: ledger.remember("key", call_id),
    "recount": lambda ledger, call_id, paper: ledger.recount(
        BASIS, NOW, count=lambda: {TOTAL: Amount(paper.sums[BASIS.log])}, windows_of=lambda found: found.windows
    ),
    "adjust": lambda ledger, call_id, paper: ledger.adjust([TOTAL], BASIS, paper.to(BASIS.log)),
    "take_over": lambda ledger, call_id, paper: ledger.take_over(call_id, OTHER.log, paper.to(OTHER.log)),
    "release": lambda ledger, call_id, paper: ledger.release(call_id),
    "prune": lambda ledger, call_id, paper: ledger.prune(NOW),
}


@pytest.mark.parametrize("work", WORKS)
def test_everything_else_survives_it_too(address: str, work: str) -> None:
    clear, paper = counted(open_ledger(address)), Paper()
    for before in (True, False):
        for message in range(1, 100):
            call_id = f"{before}-{message}"
            clear.reserve(reservation(call_id, windows=(TOTAL,)), [])
            lines = sum(paper.sums.values())
            with Wire(address) as wire:
                ledger = open_ledger(wire.address)
                wire.cut_after(message, before=before)
                try:
                    WORKS[work](ledger, call_id, paper)
                except LedgerProblem:
                    pass
                messages = wire.messages
            assert sum(paper.sums.values()) - lines in (0, 3), "a line is written once"
            if sum(paper.sums.values()) > lines and work == "take_over":
                # As recovery does, which finds the line in the log.
                clear.take_over(call_id, OTHER.log, lambda _: Amount(3, 0, 0), logged=lambda: True)
            paper.count(clear)
            clear.release(call_id)
            assert usd(clear) == (sum(paper.sums.values()), 0), (before, message)
            if messages < message:
                break
        else:
            raise AssertionError("it never ends")


def test_a_server_that_says_nothing_is_left_in_time(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from callmeter.ledger import postgres_database

    monkeypatch.setattr(postgres_database, "_PATIENCE", 0.3)
    counted(open_ledger(address))
    with Wire(address) as wire:
        ledger = open_ledger(wire.address + "?connect_timeout=2")
        usd(ledger)
        wire.hang()
        began = time.monotonic()
        with pytest.raises(LedgerProblem, match="cannot be used"):
            ledger.reserve(reservation(), [])
        assert time.monotonic() - began < 30


def test_nobody_there_is_said_at_once_without_the_password(address: str) -> None:
    gone = f"postgresql://callmeter:s3cret@127.0.0.1:{free_port()}/x"
    began = time.monotonic()
    with pytest.raises(LedgerProblem) as caught:
        open_ledger(gone).reserve(reservation(), [])
    assert time.monotonic() - began < 30
    assert "s3cret" not in caught.value.message + caught.value.hint
    assert "127.0.0.1" in caught.value.message


def test_no_connection_stays_open_while_a_call_runs(address: str) -> None:
    ledger = counted(open_ledger(address))
    ledger.standings([TOTAL], BASIS)
    ledger.reserve(reservation(), at_most(CENT))
    assert connections(address) == 0
    ledger.settle("c1", costing(3))
    assert connections(address) == 0


def connections(address: str) -> int:
    """How many of ours are open; a closed one takes the server a moment."""
    until = time.monotonic() + 60
    while True:
        ((found,),) = query(
            address,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'callmeter'"
            " AND datname = current_database()",
        )
        if not found or time.monotonic() > until:
            return int(found)


# --- clients that die or stop


def test_a_client_killed_while_it_settles_leaves_no_lock(address: str, tmp_path: Path) -> None:
    ledger = counted(open_ledger(address))
    ledger.reserve(reservation(), [])
    child = os.fork()
    if child == 0:
        ledger.settle("c1", lambda _: os.kill(os.getpid(), signal.SIGKILL) or Amount())
        os._exit(1)
    os.waitpid(child, 0)
    assert ledger.reserve(reservation("c2"), at_most(3 * CENT))
    assert ledger.settle("c1", costing(3))
    assert ledger.settle("c2", costing(3))
    assert usd(ledger) == (6, 0)


def test_a_client_stopped_while_it_settles_holds_up_nobody_else(address: str) -> None:
    ledger = counted(open_ledger(address))
    ledger.reserve(reservation(), [])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:

        def stops(assumed: Amount) -> Amount:
            os.write(write, b"x")
            os.kill(os.getpid(), signal.SIGSTOP)
            return Amount(3, 0, 1)

        os._exit(0 if ledger.settle("c1", stops) else 1)
    try:
        os.read(read, 1)
        os.waitpid(child, os.WUNTRACED)
        assert ledger.reserve(reservation("c2"), at_most(3 * CENT))
        assert ledger.settle("c2", costing(3))
    finally:
        os.kill(child, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert usd(ledger) == (6, 0)


def test_who_waits_too_long_for_a_row_is_told_to_come_back(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    from callmeter.ledger import postgres_database

    monkeypatch.setattr(postgres_database, "_BEGIN", postgres_database._BEGIN.replace("'4s'", "'200ms'"))
    ledger = counted(open_ledger(address))
    ledger.reserve(reservation(), [])
    with psycopg.connect(address) as other:
        other.execute("SELECT * FROM callmeter_windows FOR UPDATE")
        with pytest.raises(Busy) as caught:
            ledger.reserve(reservation("c2"), at_most(3 * CENT))
        assert caught.value.details["retry_after"] > 0
    assert ledger.reserve(reservation("c2"), at_most(3 * CENT))


def test_a_reservation_that_arrives_after_its_call_was_given_up_holds_nothing(address: str) -> None:
    import psycopg

    ledger = counted(open_ledger(address))
    ledger.reserve(reservation("makes-the-rows"), [])
    ledger.settle("makes-the-rows", costing(0))
    outcome: list[object] = []

    def late() -> None:
        try:
            outcome.append(open_ledger(address).reserve(reservation(), at_most(CENT)))
        except LedgerProblem as problem:
            outcome.append(problem)

    with psycopg.connect(address) as other:
        other.execute("SELECT * FROM callmeter_windows FOR UPDATE")
        thread = threading.Thread(target=late)
        thread.start()
        while not query(address, "SELECT 1 FROM pg_locks WHERE NOT granted"):
            pass
        assert not ledger.release("c1")
    thread.join()
    assert isinstance(outcome[0], LedgerProblem)
    assert usd(ledger) == (0, 0)
    assert ledger.open_reservations() == []


# --- the tables


def test_many_who_begin_at_once_make_the_tables_once(address: str) -> None:
    in_children(8, lambda number: open_ledger(address).remember(f"me-{number}", "x") and None)
    ledger = open_ledger(address)
    assert all(ledger.remember(f"me-{number}") == "x" for number in range(8))
    assert query(address, "SELECT value FROM callmeter_kept WHERE key = 'layout'") == [("1",)]


def test_tables_of_a_newer_program_are_left_alone(address: str) -> None:
    ledger = counted(open_ledger(address))
    query(address, "UPDATE callmeter_kept SET value = '' WHERE key LIKE 'counted%'")
    query(address, "UPDATE callmeter_kept SET value = '9' WHERE key = 'layout'")
    with pytest.raises(Uncounted):
        ledger.reserve(reservation(), [])
    with pytest.raises(LedgerProblem, match="newer callmeter \\(layout 9\\)"):
        counted(ledger)


def test_older_tables_are_brought_up_to_date_by_whoever_comes_first(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callmeter.ledger import postgres_database

    ledger = counted(open_ledger(address))
    ledger.reserve(reservation(), [])
    step = ("ALTER TABLE callmeter_windows ADD COLUMN extra bigint NOT NULL DEFAULT 7",)
    monkeypatch.setattr(postgres_database, "MIGRATIONS", (*postgres_database.MIGRATIONS, step))
    in_children(6, lambda number: counted(open_ledger(address), BASIS) and None)
    assert query(address, "SELECT extra FROM callmeter_windows LIMIT 1") == [(7,)]
    assert query(address, "SELECT value FROM callmeter_kept WHERE key = 'layout'") == [("2",)]
    assert usd(ledger) == (0, CENT)
    with pytest.raises(Uncounted):  # the other log is counted anew under the new program too
        ledger.reserve(reservation("c2", basis=OTHER), [])


def test_a_user_who_may_not_make_tables_is_told_so(address: str, server: str) -> None:
    query(address, "DO $$ BEGIN CREATE ROLE guest LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    with pytest.raises(LedgerProblem, match="permission denied") as caught:
        open_ledger(address.replace("callmeter@", "guest@")).reserve(reservation(), [])
    assert "grant" in caught.value.hint


def test_another_default_isolation_changes_nothing(address: str) -> None:
    name = address.rpartition("/")[2]
    query(address, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    ledger = counted(open_ledger(address))

    def body(number: int) -> None:
        for attempt in range(5):
            call_id = f"c{number}-{attempt}"
            if ledger.reserve(reservation(call_id), at_most(10 * CENT)):
                ledger.settle(call_id, costing(CENT))

    in_children(6, body)
    assert usd(ledger) == (10 * CENT, 0)
