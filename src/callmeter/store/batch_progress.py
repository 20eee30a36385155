"""The progress of one batch, in a SQLite file: which requests are answered, so that nobody pays for them twice.

Every question that a batch of a million lines asks (was this request answered, did this id come before, which
results wait for their turn) is answered from the disk, so that its memory does not grow with its length.

One process has the file at a time (the batch's lock sees to that), and one thread. What is committed survives
kill -9; a power failure may take the last answers, never the file.
"""

from __future__ import annotations

import os
import sqlite3

from callmeter.store.files import FileProblem, HeldFile, remove_file
from callmeter.words.errors import CallmeterError, Malformed

_APPLICATION = 0x434D4250
_VERSION = 1
_SUFFIXES = ("", "-wal", "-shm", "-journal")
_TABLES = """
CREATE TABLE answer (request TEXT, time INTEGER, kept TEXT NOT NULL, PRIMARY KEY (request, time)) WITHOUT ROWID;
CREATE TABLE seen (name TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE parked (position INTEGER PRIMARY KEY, line TEXT NOT NULL);
"""


class BatchProgress:
    """Raises Malformed for a file that is not one, FileProblem when the disk is full; close it at the end."""

    def __init__(self, path: str) -> None:
        self.path = path
        if not os.path.lexists(path):
            HeldFile.create(path, b"").close()  # 0600 from the start; SQLite gives its journal the same mode
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._problem(error) from None
        try:
            self._open()
        except BaseException:
            self._database.close()
            raise

    def times_seen(self, name: str) -> int:
        """How often this was asked before, in this run, for the same name."""
        found = self._one(
            "INSERT INTO seen VALUES (?, 0) ON CONFLICT (name) DO UPDATE SET times = times + 1 RETURNING times", name
        )
        return int(str(found))

    def answer(self, request: str, time: int) -> str | None:
        """What is kept for a request's answer; `time` tells equal requests of one batch apart, from 0."""
        found = self._one("SELECT kept FROM answer WHERE request = ? AND time = ?", request, time)
        return None if found is None else str(found)

    def keep(self, request: str, time: int, kept: str) -> None:
        """Keep an answer; safe once `commit` returned."""
        self._one("INSERT OR REPLACE INTO answer VALUES (?, ?, ?)", request, time, kept)

    def park(self, position: int, line: str) -> None:
        """Put a result aside until its turn comes."""
        self._one("INSERT OR REPLACE INTO parked VALUES (?, ?)", position, line)

    def fetch(self, position: int) -> str | None:
        """Take a result that was put aside; None when it is not there."""
        found = self._one("DELETE FROM parked WHERE position = ? RETURNING line", position)
        return None if found is None else str(found)

    def commit(self) -> None:
        """Make everything so far survive the process."""
        if self._database.in_transaction:
            self._one("COMMIT")

    def close(self, *, remove: bool = False) -> None:
        """Commit and close; with `remove`, forget everything."""
        try:
            self.commit()
        finally:
            self._database.close()
            if remove:
                for suffix in _SUFFIXES:
                    remove_file(self.path + suffix)

    def _open(self) -> None:
        # One process has it: without shared memory, and so without the races of several connections.
        self._one("PRAGMA locking_mode = EXCLUSIVE")
        self._one("PRAGMA journal_mode = WAL")
        self._one("PRAGMA synchronous = NORMAL")
        version = self._one("PRAGMA user_version")
        if version == 0 and self._one("SELECT count(*) FROM sqlite_master") == 0:
            self._one("BEGIN")
            for statement in _TABLES.strip().split("\n"):
                self._one(statement)
            self._one(f"PRAGMA application_id = {_APPLICATION}")
            self._one(f"PRAGMA user_version = {_VERSION}")
            self.commit()
        elif version != _VERSION or self._one("PRAGMA application_id") != _APPLICATION:
            raise self._damaged("not written by this version of callmeter")
        # They belong to a run.
        self._one("DELETE FROM seen")
        self._one("DELETE FROM parked")
        self.commit()

    def _one(self, statement: str, *values: object) -> object:
        """Run a statement, in a transaction that `commit` ends, and give the first column of its first row."""
        try:
            if statement[:6] in ("INSERT", "DELETE") and not self._database.in_transaction:
                self._database.execute("BEGIN")
            rows = self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._problem(error) from None
        return rows[0][0] if rows else None

    def _problem(self, error: sqlite3.Error) -> CallmeterError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_ERROR")):
            return self._damaged(str(error))
        return FileProblem(f"cannot keep the batch's progress in {self.path}: {error}", "free some space on that disk")

    def _damaged(self, why: str) -> Malformed:
        return Malformed(
            f"{self.path}: {why}", f"look at it, or begin the batch anew with `rm {self.path}`", code="damaged"
        )
