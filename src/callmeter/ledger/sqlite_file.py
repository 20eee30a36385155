"""The file of the SQLite ledger: how it is made, opened, locked and closed.

Every write transaction is behind one blocking flock gate. The gate is not for speed. The SQLite that Debian 12 ships
(3.40) can lose committed rows in WAL mode when a checkpoint races a commit (fixed in 3.51.3, 3.50.7 and 3.44.6), and
its own polling starves some waiters for seconds. Behind the gate neither happens. Readers take no gate: their
connections are read-only and never checkpoint.

A call reads once and writes twice. What it opened is kept for that, for whoever opens a ledger that nobody else has
open reads its whole WAL, and parses its schema.
"""

from __future__ import annotations

import os
import stat

try:
    # The C module behind sqlite3: the package's own import costs a third of a Python start more (dates, namedtuples).
    import _sqlite3 as sqlite
except ImportError:  # another Python
    import sqlite3 as sqlite  # type: ignore[no-redef]

from callmeter.ledger.protocol import DamagedLedger, LedgerProblem
from callmeter.store.files import FileProblem, Lock, make_directory, sync_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

APPLICATION = 0x63_61_6C_6D  # "calm"
VERSION = 1
# Whoever opens the database reads what of the WAL is not in the database yet: beyond this it is put there.
MOST_WAL = 1 << 17

_AMOUNTS = ("settled_usd", "settled_tokens", "settled_calls", "held_usd", "held_tokens", "held_calls")
_SCHEMA = (
    # One row for each log's share of a window; where a window stands is the sum.
    'CREATE TABLE windows (bucket TEXT, period TEXT, start INTEGER, log TEXT, "end" INTEGER, '
    + ", ".join(
        f"{name} INTEGER NOT NULL DEFAULT 0"
        + (f" CHECK ({name} >= 0)" if name.startswith("held") else f" CHECK (typeof({name}) = 'integer')")
        for name in _AMOUNTS
    )
    + ", PRIMARY KEY (bucket, period, start, log)) WITHOUT ROWID",
    "CREATE TABLE reservations (call_id TEXT PRIMARY KEY, state TEXT NOT NULL, log TEXT NOT NULL, mark TEXT NOT NULL,"
    " created INTEGER NOT NULL, deadline INTEGER NOT NULL, owner TEXT NOT NULL, record TEXT NOT NULL,"
    " usd INTEGER NOT NULL, tokens INTEGER NOT NULL, calls INTEGER NOT NULL, windows TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE kept (key TEXT PRIMARY KEY, value TEXT NOT NULL, touched INTEGER NOT NULL) WITHOUT ROWID",
)


class _Opened:
    """What this process has open of one file: the guard, a read-only connection, and the writer, if it has written.

    While the guard is open, closing the writer does not checkpoint; the guard's own closing cannot, for it is
    read-only. A checkpoint at each closing would cost three more syncs a call.
    """

    __slots__ = ("guard", "place", "writer")

    def __init__(self, path: str, place: tuple[object, ...]) -> None:
        self.guard: Any = None
        self.writer: Any = None
        self.place = place
        self.guard = _open_checked(path)

    def close(self) -> None:
        """Close both, the writer first."""
        for connection in (self.writer, self.guard):
            if connection is not None:
                connection.close()
        self.guard = self.writer = None

    __del__ = close


# What is open and not in use: nothing, or one. SQLite's locks, and what it knows of them, do not survive a fork.
_idle: list[_Opened] = []
os.register_at_fork(before=_idle.clear)


def let_go(path: str) -> None:
    """Close what is open of a ledger and not in use."""
    if _idle and _idle[0].place[0] == path:
        _idle.clear()


def _take(path: str) -> tuple[_Opened, bool] | None:
    """What is open of a ledger, and whether it was before; None when there is no ledger. Raises LedgerProblem."""
    found = _identity(path)
    try:
        opened = _idle.pop()
    except IndexError:
        pass
    else:
        # Another file may lie there by now: a damaged ledger is moved aside, and people restore copies.
        if found is not None and opened.place == (path, *found):
            return opened, True
        opened.close()
    return None if found is None else (_Opened(path, (path, *found)), False)


def _give_back(opened: _Opened) -> None:
    if _idle:  # another thread was quicker
        opened.close()
    else:
        _idle.append(opened)


class Reading:
    """A read-only connection for a `with` block; None when there is no ledger yet. Raises LedgerProblem."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._opened: _Opened | None = None

    def __enter__(self) -> Any:
        taken = _take(self.path)
        if taken is None:
            return None
        self._opened, again = taken
        if again:
            _check_again(self._opened, self._opened.guard, self.path)
        return self._opened.guard

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened = self._opened
        if opened is not None:
            if value is None or not isinstance(value, sqlite.Error):
                _end(opened)
            else:
                opened.close()
        if isinstance(value, sqlite.Error | OverflowError):
            raise problem(self.path, value) from None


class Writing:
    """One write transaction behind the gate: committed when the block ends, rolled back when it raises. The file is
    made when there is none. Raises LedgerProblem or Busy; then nothing was changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._gate = Lock(path + ".gate")
        self._opened: _Opened | None = None

    def __enter__(self) -> Any:
        try:
            self._gate.__enter__()
        except FileProblem as error:
            raise problem(self.path, error) from None
        try:
            return self._begin()
        except BaseException as error:
            if self._opened is not None:
                self._opened.close()
            self._gate.__exit__(None, None, None)
            if isinstance(error, sqlite.Error | OSError | FileProblem):
                raise problem(self.path, error) from None
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened = self._opened
        assert opened is not None
        try:
            if value is None:
                opened.writer.execute("COMMIT")
                self._tidy(opened.writer)
            elif opened.writer.in_transaction:
                opened.writer.execute("ROLLBACK")
        except sqlite.Error as error:
            opened.close()
            if value is None:
                raise problem(self.path, error) from None
        finally:
            if isinstance(value, sqlite.Error):
                opened.close()
            elif opened.guard is not None:
                _end(opened)
            self._gate.__exit__(None, None, None)
        if isinstance(value, sqlite.Error | OverflowError):
            raise problem(self.path, value) from None

    def _begin(self) -> Any:
        taken = _take(self.path)
        if taken is None:
            _create(self.path)
            taken = _take(self.path)
            if taken is None:
                raise LedgerProblem(f"the ledger {self.path} was removed at this moment", "try again")
        self._opened, again = taken
        writer = self._opened.writer
        if writer is None:
            writer = sqlite.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
            self._opened.writer = writer
            writer.execute("PRAGMA synchronous = FULL")
            writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("BEGIN IMMEDIATE")
        if again:
            _check(writer, self.path)
        return writer

    def _tidy(self, writer: Any) -> None:
        """Put a long WAL into the database. What was committed is durable without it, so its failure is none."""
        try:
            if os.path.getsize(self.path + "-wal") > MOST_WAL:
                writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (OSError, sqlite.Error):
            pass


def _end(opened: _Opened) -> None:
    """Keep what is open for the next time, if it has nothing open in the ledger itself."""
    try:
        if opened.guard.in_transaction:
            opened.guard.execute("ROLLBACK")
        if opened.writer is None or not opened.writer.in_transaction:
            _give_back(opened)
            return
    except sqlite.Error:
        pass
    opened.close()


def _check_again(opened: _Opened, connection: Any, path: str) -> None:
    """What was a ledger when it was opened may have been written over since."""
    try:
        _check(connection, path)
    except BaseException as error:
        opened.close()
        if isinstance(error, sqlite.Error):
            raise problem(path, error) from None
        raise


def problem(path: str, error: BaseException) -> LedgerProblem:
    """What is to be said about an error of the system or of SQLite."""
    if isinstance(error, LedgerProblem):
        return error
    if isinstance(error, FileProblem):
        return LedgerProblem(error.message, error.hint)
    reason = ((error.strerror if isinstance(error, OSError) else "") or str(error)).lower()
    if "malformed" in reason or "not a database" in reason:
        return DamagedLedger(f"the ledger {path} is damaged: {reason}", _anew(path))
    hint = "look at its permissions, and at those of its directory"
    if "full" in reason or "i/o" in reason or "no space" in reason:
        hint = "free some space on its disk"
    elif "locked" in reason:
        hint = "another program has it open for writing: open it with `sqlite3 -readonly`"
    return LedgerProblem(f"the ledger {path} cannot be used: {reason}", hint)


def set_aside(path: str, suffix: str) -> str:
    """Move a damaged ledger away, with what belongs to it, and give its new name; "" when it is sound (somebody else
    was quicker), or not there. Raises LedgerProblem, Busy."""
    moved = f"{path}.{suffix}"
    try:
        with Lock(path + ".gate"):
            if not _exists(path) or _is_sound(path):
                return ""
            for part in ("-shm", "-wal", ""):
                if os.path.lexists(path + part):
                    os.rename(path + part, moved + part)
    except (OSError, FileProblem) as error:
        raise problem(path, error) from None
    return moved


def _is_sound(path: str) -> bool:
    try:
        connection = _open_checked(path)
    except DamagedLedger:
        return False
    try:
        return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite.Error:
        return False
    finally:
        connection.close()


def _exists(path: str) -> bool:
    return _identity(path) is not None


def _identity(path: str) -> tuple[int, int] | None:
    """Which file a ledger is; None when there is none. Raises LedgerProblem for what cannot be one."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise problem(path, error) from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "not a regular file"
        raise LedgerProblem(f"the ledger {path} is {kind}", "name the file itself, or move this one away")
    if found.st_nlink > 1:
        raise LedgerProblem(
            f"the ledger {path} has {found.st_nlink} names, and each would get a journal of its own",
            "remove the hard links, or copy the file",
        )
    return found.st_dev, found.st_ino


def _open_checked(path: str) -> Any:
    """A read-only connection to what is certainly a ledger of this layout."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    try:
        connection = sqlite.connect(
            f"file:{quoted}?mode=ro", timeout=5, isolation_level=None, check_same_thread=False, uri=True
        )
        try:
            _check(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite.Error as error:
        raise problem(path, error) from None
    return connection


def _check(connection: Any, path: str) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        what = "is empty" if not os.path.getsize(path) else "is not a ledger of callmeter"
        raise DamagedLedger(f"{path} {what}", _anew(path))
    if version > VERSION:
        raise LedgerProblem(f"{path} was written by a newer callmeter (layout {version})", "install that one here too")


def _anew(path: str) -> str:
    return f"run `callmeter budget recover --rebuild`: it moves {path} aside and counts the usage log anew"


def _create(path: str) -> None:
    """Make the ledger under another name, so that nobody ever sees half of it. Called behind the gate."""
    directory = os.path.dirname(path) or "."
    make_directory(directory)
    from callmeter.ledger.mounts import network_file_system

    kind = network_file_system(directory)
    if kind:
        raise LedgerProblem(
            f"{directory} lies on a network file system ({kind}), where SQLite's locks cannot be relied on",
            "set `ledger` to a file on a local disk, or to `postgresql://…` for several hosts",
        )
    new = path + ".new"
    for leftover in (new, new + "-wal", new + "-shm", path + "-wal", path + "-shm"):
        # The WAL of a ledger that was deleted would be replayed into this one.
        if os.path.lexists(leftover):
            os.unlink(leftover)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite.connect(new, isolation_level=None)
    try:
        connection.execute("PRAGMA page_size = 1024")  # a call changes a few rows; the WAL takes whole pages
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        connection.close()
    os.rename(new, path)
    sync_directory(directory)
