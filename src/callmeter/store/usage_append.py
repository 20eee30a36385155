"""Appending to the usage log: all that a call needs of it. Reading, closing and pruning are in other modules."""

from __future__ import annotations

from callmeter.store.files import Lock, append_line


def append_usage(log_path: str, line: bytes) -> int:
    """Append one line (from `words.usage.usage_line`) and give back the offset at which it begins.

    The log is opened anew each time, under its lock: it may have been deleted or closed into a segment since.
    Raises FileProblem or Busy; then nothing was appended. An exception from a signal handler can arrive after
    the line was written: whoever is stopped here leaves its breadcrumb to recovery and does not append again.
    """
    with Lock(lock_of(log_path)):
        return append_line(log_path, line)


def lock_of(log_path: str) -> str:
    """The side-car whose lock every writer of a log takes. It is never rotated and never deleted."""
    return log_path + ".lock"
