"""Which log a line was written to, whatever its path or its host is called: a random name in a file beside it.

A ledger has a share of each total for each log. Were a log known by its path or its host's name, then a container
that mounts it elsewhere, or has another name at each start, would have it counted twice.
"""

from __future__ import annotations

import os

from callmeter.store.files import FileProblem, Lock, read_file, replace_file


def log_identity(log_path: str) -> str:
    """The log's identity, made when it is first asked for. It stays when the log is closed, or deleted and begun
    again. Raises FileProblem or Busy."""
    path = log_path + ".id"
    found = _read(path)
    if found:
        return found
    from callmeter.store.usage_append import lock_of

    with Lock(lock_of(log_path)):
        found = _read(path)
        if not found:
            found = os.urandom(8).hex()
            replace_file(path, found.encode("ascii") + b"\n")
    return found


def is_identified(log_path: str) -> bool:
    """Whether anybody asked for it yet."""
    return os.path.exists(log_path + ".id")


def _read(path: str) -> str:
    data = read_file(path, 100)
    if data is None:
        return ""
    found = data.decode("ascii", "replace").strip()
    if not found.isalnum():
        raise FileProblem(
            f"{path} does not hold the identity of a log",
            f"remove {path}, then run `callmeter budget recover --rebuild`",
        )
    return found
