"""Breadcrumbs: one small file for each running call, so that a call whose process dies still gets its line.

A breadcrumb is named after its call and held (locked) by its process from its first to its last byte. The kernel
lets go of it however the process ends, so nobody has to guess from process numbers whether the owner lives: who
can take the lock knows, across containers too, and only one recoverer at a time gets it.

The first line is the record as it would be logged if nothing more were known; later lines say what became known.
`flows/recovery.py` reads them. No line is synced: a breadcrumb must survive kill -9, not a power failure.
"""

from __future__ import annotations

import os
import stat

from callmeter.store.files import FileProblem, HeldFile
from callmeter.words.jsontext import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from decimal import Decimal

VERSION = 1
SUFFIX = ".call"


class Breadcrumb:
    """The breadcrumb of one running call: `begin`, `sent` for each attempt, whatever becomes known, then (after the
    line stands in the usage log) `done`. `begin`, `sent` and `final` raise FileProblem when the disk is full.
    """

    def __init__(self, held: HeldFile) -> None:
        self._held = held

    @classmethod
    def begin(cls, directory: str, record: dict[str, object], log_path: str, deadline: float) -> Breadcrumb:
        """Lay a breadcrumb for a call that is about to be made.

        `record` has the fields of a usage line; its `estimate` is the worst case, its `status` and `cost` do not
        matter yet. `deadline`, in seconds since 1970, is when the call is over whatever happens; only another
        host asks for it. Raises FileProblem when the log could not be written either: nothing was sent then.
        """
        size, inode = _extent(log_path)
        head = {
            "v": VERSION,
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "boot": boot_id(),
            "deadline": int(deadline) + 1,
            "log": os.path.abspath(log_path),
            "log_size": size,
            "log_inode": inode,
            "record": record,
        }
        return cls(HeldFile.create(os.path.join(directory, f"{record['id']}{SUFFIX}"), _line(head)))

    def sent(self, changes: dict[str, object] | None = None) -> None:
        """The next byte leaves this machine: from now on the call may be charged.

        For each attempt; `changes` are fields of the record that this attempt has differently (`model`, `key`,
        `attempts`, and an `estimate` that covers the earlier attempts too).
        """
        self._held.append(_line({"sent": changes or {}}))

    def generation(self, generation_id: str) -> None:
        """The provider's name for this call, as soon as the headers tell it."""
        self._hint({"generation_id": generation_id})

    def usage(self, tokens: dict[str, int] | None, cost: Decimal | None) -> None:
        """What the provider counted so far, over all attempts; the last word counts."""
        self._hint({"tokens": tokens, "cost": cost})

    def final(self, record: dict[str, object]) -> None:
        """The record itself, when the log did not take it (a full disk): recovery appends it as it is.

        The breadcrumb's first block is on disk already, so this succeeds where a new line in the log does not.
        """
        self._held.append(_line({"final": record}))

    def leave(self) -> None:
        """Let go without removing it: recovery finishes the call, and tells the ledger of it."""
        self._held.close()

    def done(self) -> None:
        """The line is in the log (or nothing was sent and nothing is to be logged): remove the breadcrumb."""
        self._held.remove()

    def _hint(self, known: dict[str, object]) -> None:
        # Recovery would know less without it, which is no reason to break off a call that runs.
        try:
            self._held.append(_line(known))
        except FileProblem:
            pass


def boot_id() -> str:
    """This boot of this machine; empty where the system has no such thing."""
    try:
        descriptor = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 64).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)


def _extent(log_path: str) -> tuple[int, int]:
    """Where the log ends now, so that recovery need not read what was there before."""
    try:
        found = os.lstat(log_path)
    except FileNotFoundError:
        return 0, 0
    except OSError as error:
        raise FileProblem(f"cannot append to {log_path}: {(error.strerror or str(error)).lower()}") from None
    regular = stat.S_ISREG(found.st_mode)
    if not regular or not os.access(log_path, os.W_OK):
        why = "you cannot write to it" if regular else "it is not a regular file"
        raise FileProblem(f"cannot append to {log_path}: {why}", "name another file with `--log` or `CALLMETER_LOG`")
    return found.st_size, found.st_ino


def _line(value: object) -> bytes:
    return dumps(value).encode("ascii") + b"\n"
