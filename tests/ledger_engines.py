"""The ledgers that the contract is tested over, and short ways to speak to them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from callmeter.ledger.open_ledger import open_ledger
from callmeter.ledger.protocol import Amount, Basis, Cap, Ledger, Reservation, Standing, Window
from conftest import lacking
from servers import database

NOW = 1_795_255_800  # 2026-11-21 10:10 UTC
LATER = 4_000_000_000
BASIS = Basis("log-a", "mark-1")
OTHER = Basis("log-b", "mark-1")
TOTAL = Window("total", "month", 1_793_491_200, LATER)
AGENT = Window("agent:code", "day", 1_795_219_200, LATER)
LIFE = Window("session:s1", "life", 0, 0)
CENT = 10_000_000

_names = (f"test_{os.getpid()}_{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a real PostgreSQL, one for the whole session."""
    missing = database.missing()
    if missing:
        lacking(missing)
    with database.postgres() as running:
        yield running.address


@pytest.fixture(scope="session")
def pooler(server: str) -> Iterator[str]:
    """The address of a real pgbouncer in transaction mode before it."""
    if database.pooler_missing():
        lacking("pgbouncer is not installed")
    with database.pgbouncer(server) as address:
        yield address


def new_database(server: str) -> str:
    """The address of an empty database of its own."""
    import psycopg

    name = next(_names)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.rpartition("/")[0] + "/" + name


@pytest.fixture(params=["sqlite", "postgres", "pgbouncer"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where each engine's empty ledger is."""
    if request.param == "sqlite":
        return str(tmp_path / "state" / "ledger.db")
    made = new_database(request.getfixturevalue("server"))
    if request.param == "postgres":
        return made
    pooled: str = request.getfixturevalue("pooler")
    return pooled.rpartition("/")[0] + "/" + made.rpartition("/")[2]


@pytest.fixture
def ledger(address: str) -> Ledger:
    """An empty ledger that has counted two empty logs."""
    return counted(open_ledger(address))


def counted(ledger: Ledger, *bases: Basis) -> Ledger:
    """The ledger, with empty logs counted."""
    for basis in bases or (BASIS, OTHER):
        ledger.recount(basis, NOW, count=dict, windows_of=lambda reservation: reservation.windows)
    return ledger


def reservation(
    call_id: str = "c1",
    windows: tuple[Window, ...] = (TOTAL, AGENT),
    usd: int = CENT,
    *,
    tokens: int = 0,
    basis: Basis = BASIS,
    created: int = NOW,
    record: str = "{}",
) -> Reservation:
    """A reservation of a cent."""
    return Reservation(
        call_id,
        windows,
        Amount(usd, tokens, 1),
        created=created,
        deadline=created + 600,
        owner="host boot 0 1 1",
        basis=basis,
        record=record,
    )


def at_most(usd: int, *windows: Window) -> list[Cap]:
    """Caps in nano-dollars."""
    return [Cap(window, "usd", usd) for window in windows or (TOTAL,)]


def costing(usd: int, tokens: int = 0, calls: int = 1) -> Callable[[Amount], Amount]:
    """For `settle`: the line says this."""
    return lambda assumed: Amount(usd, tokens, calls)


def usd(ledger: Ledger, window: Window = TOTAL) -> tuple[int, int]:
    """Settled and held in a window, nano-dollars."""
    standing = where(ledger, window)
    return standing.settled.usd, standing.held.usd


def where(ledger: Ledger, window: Window = TOTAL) -> Standing:
    """Where a window stands."""
    return ledger.standings([window])[window]


def in_children(count: int, body: Callable[[int], None]) -> None:
    """Run a function in forked processes at once; each must end without an exception."""
    children = []
    with ExitStack() as stack:
        ready, go = os.pipe()
        stack.callback(os.close, ready)
        for number in range(count):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    os.close(go)
                    os.read(ready, 1)  # all begin together, when the parent closes its end
                    body(number)
                    status = 0
                except BaseException:
                    import traceback

                    traceback.print_exc()
                finally:
                    os._exit(status)
            children.append(child)
        os.close(go)
        statuses = [os.waitpid(child, 0)[1] for child in children]
    assert statuses == [0] * count, "a child failed; see stderr"
