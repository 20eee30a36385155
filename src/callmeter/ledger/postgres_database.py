"""The connection to PostgreSQL: how it is made, how long anything may take, what is tried again, and the schema.

Everything travels in the simple protocol, several statements in one message, without prepared statements: so it works
through a pooler in transaction mode, a transaction of one message costs one round trip, and a client that is killed
leaves no transaction open, because the message ends with its COMMIT.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from callmeter.ledger.protocol import LedgerProblem
from callmeter.words.errors import Busy

try:
    import psycopg
    from psycopg import errors
    from psycopg.conninfo import conninfo_to_dict
except ImportError:
    raise LedgerProblem(
        "a ledger at postgresql://… needs psycopg 3", "install it with `pip install 'callmeter[postgres]'`"
    ) from None

Result = TypeVar("Result")
Rows = list[tuple[Any, ...]]

# Seconds. The server gives up first; a network or server that says nothing at all is left after `_PATIENCE`.
_CONNECT = 3
_LOCK = 4
_STATEMENT = 5
_PATIENCE = 8
_TRIES = 6
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED;"
    f" SET LOCAL lock_timeout = '{_LOCK}s'; SET LOCAL statement_timeout = '{_STATEMENT}s';"
    " SET LOCAL idle_in_transaction_session_timeout = '{idle}s'; "
)
_AGAIN = (errors.SerializationFailure, errors.DeadlockDetected)
_SLOW = (errors.LockNotAvailable, errors.QueryCanceled, errors.IdleInTransactionSessionTimeout)
# Any number that nobody else uses: those who create or migrate the tables wait for each other.
_ADVISORY = 0x63_61_6C_6D_65_74

_AMOUNTS = ("settled_usd", "settled_tokens", "settled_calls", "held_usd", "held_tokens", "held_calls")
# What leads from each layout to the next one. Columns are only ever added.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # Where a window stands, over all logs: the row that callers queue at.
        'CREATE TABLE callmeter_windows (bucket text COLLATE "C", period text COLLATE "C", start bigint,'
        ' "end" bigint NOT NULL, '
        + ", ".join(
            f"{name} bigint NOT NULL DEFAULT 0" + (f" CHECK ({name} >= 0)" if name.startswith("held") else "")
            for name in _AMOUNTS
        )
        + ", PRIMARY KEY (bucket, period, start)) WITH (fillfactor = 50)",
        # What each log adds to it.
        'CREATE TABLE callmeter_shares (log text COLLATE "C", bucket text COLLATE "C", period text COLLATE "C",'
        ' start bigint, "end" bigint NOT NULL, usd bigint NOT NULL, tokens bigint NOT NULL, calls bigint NOT NULL,'
        " PRIMARY KEY (log, bucket, period, start)) WITH (fillfactor = 50)",
        'CREATE TABLE callmeter_reservations (call_id text COLLATE "C" PRIMARY KEY, state text NOT NULL,'
        " log text NOT NULL, mark text NOT NULL, created bigint NOT NULL, deadline bigint NOT NULL,"
        " owner text NOT NULL, record text NOT NULL, usd bigint NOT NULL, tokens bigint NOT NULL,"
        " calls bigint NOT NULL, windows text NOT NULL)",
        'CREATE TABLE callmeter_kept (key text COLLATE "C" PRIMARY KEY, value text NOT NULL,'
        " touched timestamptz NOT NULL DEFAULT now())",
    ),
)


class Outdated(Exception):
    """The tables are of an older layout than this program's."""


_LAYOUT = (errors.UndefinedTable, errors.UndefinedColumn, Outdated)


class Transaction:
    """One transaction; its first statement begins it, and one with `commit` ends it."""

    def __init__(self, connection: Any, idle: int) -> None:
        self._connection = connection
        self._begin = _BEGIN.format(idle=idle)
        self.open = True

    def run(self, statement: str, parameters: Sequence[object] = (), *, commit: bool = False) -> Rows:
        """The rows of the last statement that has any."""
        text = self._begin + statement + ("; COMMIT" if commit else "")
        self._begin = ""
        rows: Rows = []
        with _Deadline(self._connection), self._connection.cursor() as cursor:
            cursor.execute(text, parameters or None)
            while True:
                if cursor.description is not None:
                    rows = cursor.fetchall()
                if not cursor.nextset():
                    break
        if commit:
            self.open = False
        return rows

    def end(self) -> None:
        """Undo what was not committed."""
        if self.open and not self._begin:
            self.open = False
            with _Deadline(self._connection):
                self._connection.execute("ROLLBACK")


class Database:
    """The database at an address. Safe to use from several threads: each has a connection of its own."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._local = threading.local()

    def transaction(self, body: Callable[[Transaction], Result], *, idle: int = 30) -> Result:
        """Run `body` in a transaction and give its result; what it does not commit is undone. It is run again when
        the connection broke, or the server asks for it: it must find out by itself whether it was done already.

        `idle` is how many seconds the body may do other things. Raises LedgerProblem, Busy.
        """
        lost = 0
        for _ in range(_TRIES):
            try:
                connection = self._connected()
                transaction = Transaction(connection, idle)
                result = body(transaction)
                transaction.end()
                return result
            except _AGAIN:
                self.let_go()
            except _LAYOUT:
                self.let_go()
                self.migrate()
            except _SLOW as error:
                self.let_go()
                raise Busy(
                    f"the ledger at {self.name} is busy: {_first_line(error)}", "try again", retry_after=_LOCK
                ) from None
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                self.let_go()
                lost += 1
                if lost > 1 or not getattr(self._local, "reached", False):
                    raise self._problem(error) from None
            except psycopg.Error as error:
                self.let_go()
                raise self._problem(error) from None
            except BaseException:
                self.let_go()
                raise
        raise Busy(f"the ledger at {self.name} has too much contention", "try again", retry_after=1)

    def let_go(self) -> None:
        """Close the connection of this thread: it must not stay open while a call runs."""
        connection, self._local.connection = getattr(self._local, "connection", None), None
        if connection is not None and self._local.process == os.getpid():
            connection.close()

    def migrate(self) -> None:
        """Make the tables, or bring older ones up to date. Raises LedgerProblem for newer ones."""
        connection = self._connected()
        try:
            with _Deadline(connection, 30), connection.cursor() as cursor:
                cursor.execute(f"BEGIN; SELECT pg_advisory_xact_lock({_ADVISORY})")
                layout = _layout(cursor)
                if layout > len(MIGRATIONS):
                    self.require(layout)
                for step in MIGRATIONS[layout:]:
                    for statement in step:
                        cursor.execute(statement)
                if layout < len(MIGRATIONS):
                    # Programs of the older layout notice, and everything is counted by the new rules.
                    cursor.execute("UPDATE callmeter_kept SET value = '' WHERE starts_with(key, 'counted/')")
                    cursor.execute(
                        "INSERT INTO callmeter_kept VALUES ('layout', %s) ON CONFLICT (key) DO UPDATE"
                        " SET value = excluded.value",
                        [str(len(MIGRATIONS))],
                    )
                cursor.execute("COMMIT")
        except psycopg.Error as error:
            self.let_go()
            raise self._problem(error) from None

    def require(self, layout: int) -> None:
        """Raises LedgerProblem for a layout that this program does not know, Outdated for one that it must change."""
        if layout < len(MIGRATIONS):
            raise Outdated
        if layout > len(MIGRATIONS):
            self.let_go()
            raise LedgerProblem(
                f"the ledger at {self.name} was written by a newer callmeter (layout {layout})",
                "install that one here too",
            )

    @property
    def name(self) -> str:
        """The address without user and password."""
        return self._address.partition("://")[2].rpartition("@")[2].partition("?")[0] or "postgresql"

    def _connected(self) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is not None and self._local.process == os.getpid() and not connection.closed:
            return connection
        self._local.reached = False
        try:
            given = conninfo_to_dict(self._address)
            wanted = {
                "connect_timeout": _CONNECT,
                "application_name": "callmeter",
                "client_encoding": "UTF8",
                "tcp_user_timeout": _STATEMENT * 1000,
            }
            connection = psycopg.connect(
                self._address,
                autocommit=True,
                prepare_threshold=None,
                cursor_factory=psycopg.ClientCursor,
                **{name: value for name, value in wanted.items() if name not in given},  # type: ignore[arg-type]
            )
        except psycopg.Error as error:
            raise self._problem(error) from None
        self._local.connection, self._local.process, self._local.reached = connection, os.getpid(), True
        return connection

    def _problem(self, error: Exception) -> LedgerProblem:
        hint = "look whether the database runs and can be reached; the policy's `unreachable` says what calls do then"
        if isinstance(error, errors.InsufficientPrivilege):
            hint = "let the user create tables once, or grant it what is needed on the tables `callmeter_…`"
        elif isinstance(error, psycopg.ProgrammingError) and not isinstance(error, errors.SyntaxError):
            hint = "mend `ledger`: `postgresql://USER@HOST/DATABASE`, with the password in PGPASSWORD or ~/.pgpass"
        return LedgerProblem(f"the ledger at {self.name} cannot be used: {_first_line(error)}", hint)


class _Deadline:
    """Ends a wait for a server or network that says nothing: the connection's socket is shut down."""

    def __init__(self, connection: Any, seconds: float = 0) -> None:
        # A descriptor of its own: the connection's may be closed, and its number given to another file.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._timer = threading.Timer(seconds or _PATIENCE, self._shut)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self._socket.close()

    def _shut(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _layout(cursor: Any) -> int:
    cursor.execute("SELECT to_regclass('callmeter_kept') IS NOT NULL")
    if not cursor.fetchone()[0]:
        return 0
    cursor.execute("SELECT value FROM callmeter_kept WHERE key = 'layout'")
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].removeprefix("ERROR:").strip()
