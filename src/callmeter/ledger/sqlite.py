"""The ledger of one host: SQLite in WAL mode, every write transaction behind one blocking flock gate.

The gate is not for speed. The SQLite that Debian 12 ships (3.40) can lose committed rows in WAL mode when a
checkpoint races a commit (fixed in 3.51.3, 3.50.7 and 3.44.6), and its own polling starves some waiters for
seconds. Behind the gate neither happens. Readers take no gate.
"""

from __future__ import annotations

import json
import os

try:
    # The C module behind sqlite3: the package's own import costs a third of a Python start more (dates, namedtuples).
    import _sqlite3 as sqlite
except ImportError:  # another Python
    import sqlite3 as sqlite  # type: ignore[no-redef]

from callmeter.ledger.protocol import Amount, Cap, LedgerProblem, Reservation, Standing, Window
from callmeter.store.files import FileProblem, Lock, make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Any

APPLICATION = 0x63_61_6C_6D  # "calm"
VERSION = 1
_MOST_WAL = 1 << 20

_SCHEMA = (
    "CREATE TABLE windows (bucket TEXT, period TEXT, start INTEGER, end INTEGER,"
    " settled_usd INTEGER DEFAULT 0, settled_tokens INTEGER DEFAULT 0, settled_calls INTEGER DEFAULT 0,"
    " held_usd INTEGER DEFAULT 0 CHECK (held_usd >= 0), held_tokens INTEGER DEFAULT 0 CHECK (held_tokens >= 0),"
    " held_calls INTEGER DEFAULT 0 CHECK (held_calls >= 0), PRIMARY KEY (bucket, period, start)) WITHOUT ROWID",
    "CREATE TABLE reservations (call_id TEXT PRIMARY KEY, created INTEGER, deadline INTEGER, owner TEXT,"
    " generation_id TEXT, usd INTEGER, tokens INTEGER, calls INTEGER, windows TEXT) WITHOUT ROWID",
    "CREATE TABLE kept (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
)


class SqliteLedger:
    """See `protocol.Ledger`. `path` is made when it is first needed."""

    def __init__(self, path: str) -> None:
        self.path = path

    def standings(self, windows: Iterable[Window]) -> dict[Window, Standing]:
        """Where these windows stand."""
        if not os.path.exists(self.path):
            return {window: Standing(Amount(), Amount()) for window in windows}
        with _Reading(self) as connection:
            return {window: _standing(connection, window) for window in windows}

    def reserve(self, reservation: Reservation, caps: Sequence[Cap]) -> bool:
        """Hold the amount in every window if every cap allows it."""
        hold = reservation.hold
        with _Writing(self) as connection:
            if connection.execute("SELECT 1 FROM reservations WHERE call_id = ?", (reservation.call_id,)).fetchone():
                return True
            standings = {window: _standing(connection, window) for window in reservation.windows}
            for cap in caps:
                standing = standings.get(cap.window) or _standing(connection, cap.window)
                if standing.taken(cap.unit) + hold.of(cap.unit) > cap.limit:
                    return False
            for window in reservation.windows:
                connection.execute(
                    "INSERT INTO windows (bucket, period, start, end, held_usd, held_tokens, held_calls)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET held_usd = held_usd + excluded.held_usd,"
                    " held_tokens = held_tokens + excluded.held_tokens, held_calls = held_calls + excluded.held_calls",
                    (*window.key, window.end, hold.usd, hold.tokens, hold.calls),
                )
            connection.execute(
                "INSERT INTO reservations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    reservation.call_id,
                    reservation.created,
                    reservation.deadline,
                    reservation.owner,
                    reservation.generation_id,
                    hold.usd,
                    hold.tokens,
                    hold.calls,
                    json.dumps([[*window.key, window.end] for window in reservation.windows]),
                ),
            )
        return True

    def settle(self, call_id: str, cost: Amount, *, before: Callable[[], None] | None = None) -> bool:
        """Turn the hold into the cost; `before` runs inside the gate, whether or not there is a reservation."""
        with _Writing(self) as connection:
            reservation = _take(connection, call_id)
            if before is not None:
                before()
            if reservation is None:
                return False
            _book(connection, reservation.windows, reservation.hold, cost)
        return True

    def release(self, call_id: str) -> bool:
        """Take the hold back."""
        return self.settle(call_id, Amount())

    def adjust(self, windows: Iterable[Window], difference: Amount) -> None:
        """Book a correction in windows that exist."""
        with _Writing(self) as connection:
            _book(connection, windows, Amount(), difference)

    def open_reservations(self) -> list[Reservation]:
        """Every call that holds something, oldest first."""
        if not os.path.exists(self.path):
            return []
        with _Reading(self) as connection:
            rows = connection.execute("SELECT * FROM reservations ORDER BY created, call_id").fetchall()
        return [_reservation(row) for row in rows]

    def replace(self, totals: dict[Window, Amount], mark: str) -> None:
        """Set what is settled in all windows; holds stay."""
        with _Writing(self) as connection:
            connection.execute("UPDATE windows SET settled_usd = 0, settled_tokens = 0, settled_calls = 0")
            for window, amount in totals.items():
                connection.execute(
                    "INSERT INTO windows (bucket, period, start, end, settled_usd, settled_tokens, settled_calls)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET settled_usd = excluded.settled_usd,"
                    " settled_tokens = excluded.settled_tokens, settled_calls = excluded.settled_calls",
                    (*window.key, window.end, amount.usd, amount.tokens, amount.calls),
                )
            connection.execute("INSERT OR REPLACE INTO kept VALUES ('mark', ?)", (mark,))

    def mark(self) -> str:
        """What `replace` was last given."""
        return self.remember("mark")

    def remember(self, key: str, value: str | None = None) -> str:
        """The kept text; with `value`, keep that and give what was there before."""
        if value is None:
            if not os.path.exists(self.path):
                return ""
            with _Reading(self) as connection:
                return _kept(connection, key)
        with _Writing(self) as connection:
            before = _kept(connection, key)
            connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (key, value))
            return before


class _Reading:
    """A connection for reading, without the gate."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.ledger = ledger

    def __enter__(self) -> Any:
        self.connection = _connect(self.ledger.path)
        try:
            _check(self.connection, self.ledger.path)
        except BaseException:
            self.connection.close()
            raise
        return self.connection

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
        if isinstance(value, sqlite.Error):
            raise _problem(self.ledger.path, value) from None


class _Writing:
    """One write transaction behind the gate: committed when the block ends, rolled back when it raises."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.path = ledger.path
        self.gate = Lock(ledger.path + ".gate")

    def __enter__(self) -> Any:
        self.gate.__enter__()
        try:
            new = not os.path.exists(self.path)
            if new:
                make_directory(os.path.dirname(self.path))
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))  # 0600 from its first byte
            self.connection = _connect(self.path)
            try:
                if new or not _version(self.connection):
                    _create(self.connection)
                else:
                    _check(self.connection, self.path)
                self.connection.execute("PRAGMA synchronous = FULL")
                self.connection.execute("PRAGMA wal_autocheckpoint = 0")
                self.connection.execute("BEGIN IMMEDIATE")
            except BaseException:
                self.connection.close()
                raise
        except BaseException as error:
            self.gate.__exit__(None, None, None)
            if isinstance(error, sqlite.Error | OSError):
                raise _problem(self.path, error) from None
            raise
        return self.connection

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if value is None:
                self.connection.execute("COMMIT")
                if os.path.getsize(self.path + "-wal") > _MOST_WAL:
                    self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            else:
                self.connection.execute("ROLLBACK")
        except (sqlite.Error, OSError) as error:
            if value is None and not isinstance(error, FileNotFoundError):
                raise _problem(self.path, error) from None
        finally:
            self.connection.close()
            self.gate.__exit__(None, None, None)
        if isinstance(value, sqlite.Error):
            raise _problem(self.path, value) from None


def _connect(path: str) -> Any:
    try:
        return sqlite.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    except sqlite.Error as error:
        raise _problem(path, error) from None


def _version(connection: Any) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _create(connection: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _check(connection: Any, path: str) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = _version(connection)
    if application == APPLICATION and version == VERSION:
        return
    if application == APPLICATION and version > VERSION:
        raise LedgerProblem(f"{path} was written by a newer callmeter (layout {version})", "install a newer callmeter")
    if application == 0 and version == 0:
        return  # being made by another process at this moment: an empty file reads as a ledger without rows
    raise LedgerProblem(f"{path} is not a ledger of callmeter", f"move {path} away; it is rebuilt from the usage log")


def _standing(connection: Any, window: Window) -> Standing:
    try:
        row = connection.execute(
            "SELECT settled_usd, settled_tokens, settled_calls, held_usd, held_tokens, held_calls FROM windows"
            " WHERE bucket = ? AND period = ? AND start = ?",
            window.key,
        ).fetchone()
    except sqlite.OperationalError as error:
        if "no such table" not in str(error):
            raise
        row = None
    return Standing(Amount(*row[:3]), Amount(*row[3:])) if row else Standing(Amount(), Amount())


def _kept(connection: Any, key: str) -> str:
    row = connection.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else ""


def _take(connection: Any, call_id: str) -> Reservation | None:
    row = connection.execute("SELECT * FROM reservations WHERE call_id = ?", (call_id,)).fetchone()
    if row is None:
        return None
    connection.execute("DELETE FROM reservations WHERE call_id = ?", (call_id,))
    return _reservation(row)


def _book(connection: Any, windows: Iterable[Window], hold: Amount, cost: Amount) -> None:
    for window in windows:
        connection.execute(
            "UPDATE windows SET held_usd = held_usd - ?, held_tokens = held_tokens - ?, held_calls = held_calls - ?,"
            " settled_usd = settled_usd + ?, settled_tokens = settled_tokens + ?, settled_calls = settled_calls + ?"
            " WHERE bucket = ? AND period = ? AND start = ?",
            (hold.usd, hold.tokens, hold.calls, cost.usd, cost.tokens, cost.calls, *window.key),
        )


def _reservation(row: Any) -> Reservation:
    call_id, created, deadline, owner, generation_id, usd, tokens, calls, windows = row
    return Reservation(
        call_id,
        [Window(*parts) for parts in json.loads(windows)],
        Amount(usd, tokens, calls),
        created=created,
        deadline=deadline,
        owner=owner,
        generation_id=generation_id,
    )


def _problem(path: str, error: BaseException) -> LedgerProblem:
    if isinstance(error, FileProblem):
        return LedgerProblem(error.message, error.hint)
    reason = str(error).lower()
    hint = "free some space, or look at the file's permissions"
    if "malformed" in reason or "not a database" in reason:
        hint = f"move {path} away and run `callmeter budget recover --rebuild`"
    return LedgerProblem(f"the ledger {path} cannot be used: {reason}", hint)
