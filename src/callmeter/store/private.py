"""What keeps text: conversations, recorded answers and the progress of batches. 0600, and not for long.

Nothing here is on the plain hot path. Who asks for something that is kept makes the sweep, once a day: what nobody
has written for `private_days` days is removed, unless a process holds its lock.
"""

from __future__ import annotations

import hashlib
import os

from callmeter.store.files import FileProblem, HeldFile, Lock, make_directory, read_file, remove_file, replace_file
from callmeter.words.errors import Malformed
from callmeter.words.jsontext import dumps, loads

CONVERSATIONS = "conversations"
ANSWERS = "answers"
BATCHES = "batches"

VERSION = 1
MAX_DOCUMENT = 64 * 1024 * 1024
_DAY = 86_400
_SUFFIXES = ("", ".json", ".db", ".db-wal", ".db-shm")


class PrivateRoom:
    """One kind of what is kept, each piece under a name: a user's words, or any text that tells it from others."""

    def __init__(self, private_dir: str, kind: str) -> None:
        self.directory = os.path.join(private_dir, kind)

    def path(self, name: str, suffix: str = ".json") -> str:
        """The file for a name. It is hashed, so that no name can lead out of the directory."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:40]
        return os.path.join(self.directory, digest + suffix)

    def lock(self, name: str, patience: float) -> Lock:
        """The lock on one piece, to be held in a `with` block."""
        return Lock(self.path(name, ".lock"), patience)

    def read(self, name: str) -> dict[str, object] | None:
        """The document of a name, or None when there is none. Raises Malformed for one that is damaged, FileProblem."""
        path = self.path(name)
        data = read_file(path, MAX_DOCUMENT)
        if data is None:
            return None
        try:
            document = loads(data)
        except ValueError as error:
            raise self.damaged(name, f"not JSON: {error}") from None
        if not isinstance(document, dict) or document.get("v") != VERSION or document.get("name") != name:
            raise self.damaged(name, "not what callmeter wrote")
        return document

    def write(self, name: str, document: dict[str, object]) -> None:
        """Put a document in place of the one before, at once: a reader or a kill never meets half of it. Raises
        FileProblem, or Malformed when it has become too large to be read again."""
        path = self.path(name)
        data = dumps({"v": VERSION, "name": name, **document}).encode("ascii")
        if len(data) > MAX_DOCUMENT:
            raise Malformed(f"{path} would be larger than {MAX_DOCUMENT} bytes", "begin a new one, under another name")
        replace_file(path, data, sync=False)

    def damaged(self, name: str, why: str) -> Malformed:
        """The error for a document that cannot be understood. Nothing is overwritten: a person decides."""
        path = self.path(name)
        return Malformed(f"{path}: {why}", f"look at it, or begin anew with `rm {path}`", code="damaged")


def open_room(private_dir: str, kind: str, days: int, epoch: float) -> PrivateRoom:
    """A room to read and write in; sweeps all of them if that was not done today. Raises FileProblem."""
    room = PrivateRoom(private_dir, kind)
    make_directory(room.directory)
    marker = os.path.join(private_dir, "swept")
    try:
        swept = os.stat(marker).st_mtime
    except OSError:
        swept = 0.0
    if not 0 <= epoch - swept < _DAY:
        try:
            replace_file(marker, b"", sync=False)  # first, so that of many at once only some sweep
            os.utime(marker, (epoch, epoch))
            sweep(private_dir, epoch - days * _DAY)
        except (FileProblem, OSError):
            pass  # a full disk; what is asked for comes first
    return room


def sweep(private_dir: str, until: float) -> int:
    """Remove every piece that was last written before an instant (seconds since 1970), and give their number."""
    removed = 0
    for kind in (CONVERSATIONS, ANSWERS, BATCHES):
        directory = os.path.join(private_dir, kind)
        try:
            # `.NAME.json.….tmp`, left by a kill in the middle of a write, is a piece by itself.
            pieces = {name if name.startswith(".") else name.partition(".")[0] for name in os.listdir(directory)}
        except FileNotFoundError:
            continue
        removed += sum(_remove(os.path.join(directory, piece), until) for piece in pieces)
    return removed


def _remove(piece: str, until: float) -> bool:
    if _last_written(piece) >= until:
        return False
    held = HeldFile.take(piece + ".lock")
    if held is None and os.path.exists(piece + ".lock"):
        return False  # in use
    # Again, now that nobody writes.
    old = _last_written(piece) < until
    if old:
        for suffix in _SUFFIXES:
            remove_file(piece + suffix)
    if held is not None:
        held.remove() if old else held.close()
    return old


def _last_written(piece: str) -> float:
    written = 0.0
    for suffix in (*_SUFFIXES, ".lock"):
        try:
            written = max(written, os.lstat(piece + suffix).st_mtime)
        except OSError:
            continue
    return written
