"""A directory for what one run alone needs; it goes with its process. What a killed one left, a later run removes."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress

from callmeter.store.files import FileProblem, Lock, file_problem, is_locked, make_directory
from callmeter.words.errors import CallmeterError

_PREFIX = "callmeter-run-"
_LOCK = "lock"
# A directory is there for some microseconds before its owner has the lock.
_YOUNG = 60


class Scratch:
    """`path` is a new directory, 0700, where the system has temporary files; or else in the directory `other`, which is
    made for it. Raises FileProblem."""

    def __init__(self, other: str = "") -> None:
        self._lock: Lock | None = None
        try:
            _find_place(other)
            self._directory = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
        except OSError as error:
            raise _problem(error) from None
        self.path = self._directory.name
        self._lock = Lock(os.path.join(self.path, _LOCK)).__enter__()
        _clear_away(os.path.dirname(self.path))

    def __del__(self) -> None:
        if self._lock is not None:
            self._lock.__exit__(None, None, None)


def _find_place(other: str) -> None:
    """Let this process have its temporary files in `other` if the system has no place for them: a container may have
    nothing that can be written to but a volume for the state."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        if not other:
            raise
        with suppress(CallmeterError):
            make_directory(other)
        if not os.access(other, os.W_OK | os.X_OK):
            raise
        tempfile.tempdir = other


def _clear_away(directory: str) -> None:
    """Remove the directories of this user's runs that have ended without doing so."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(_PREFIX) and _is_left(entry):
                    shutil.rmtree(entry.path, ignore_errors=True)
    except OSError:
        return  # others will


def _is_left(entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir(follow_symlinks=False):
        return False
    found = entry.stat(follow_symlinks=False)
    is_old = time.time() - found.st_mtime > _YOUNG
    return is_old and found.st_uid == os.geteuid() and not is_locked(os.path.join(entry.path, _LOCK))


def _problem(error: OSError) -> FileProblem:
    try:
        # Which directories are fit is tried out by writing; of what is in the way, only this cannot be told from that.
        os.close(os.open("/", os.O_RDONLY))
    except OSError as cause:
        return file_problem("read", "/", cause)
    return FileProblem(
        f"there is no directory for temporary files: {(error.strerror or str(error)).lower()}",
        "set `TMPDIR` to a directory that can be written to",
    )
