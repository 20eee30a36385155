"""Programs that were given a key for as long as they run, by `budget keys exec`: they never read it again, so whoever
takes a key away has to know of them.

Each leaves a file that its process holds locked. The kernel lets go when the program ends, however it ends; a program
that closes what it does not know of on purpose, as daemons do, is not seen any more.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from callmeter.store.files import FileProblem, HeldFile, read_file
from callmeter.words.errors import Malformed
from callmeter.words.instant import text_of
from callmeter.words.jsontext import dumps, loads

_MAX = 4096


class Holder:
    """A running program that has a key: `label`, the key's `fingerprint`, the `program`, its `pid` and `since` when."""

    def __init__(self, label: str, fingerprint: str, program: str, pid: int, since: str) -> None:
        self.label = label
        self.fingerprint = fingerprint
        self.program = program
        self.pid = pid
        self.since = since


def hold(directory: str, label: str, fingerprint: str, program: str, now: datetime) -> HeldFile:
    """Note that this process, and the program that takes its place, has a key. Raises FileProblem."""
    facts = {
        "key": label,
        "fingerprint": fingerprint,
        "program": program[:200],
        "pid": os.getpid(),
        "since": text_of(now),
    }
    held = HeldFile.create(
        os.path.join(directory, f"{os.getpid()}-{os.urandom(4).hex()}"), dumps(facts).encode("ascii")
    )
    held.pass_on()
    return held


def holders(directory: str, label: str = "") -> list[Holder]:
    """Who has a key now, of one label or of all, the longest-running first. What ended programs left is removed."""
    found = []
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    for name in names:
        path = os.path.join(directory, name)
        try:
            ended = HeldFile.take(path)
            if ended is not None:
                ended.remove()
                continue
            facts: Any = loads((read_file(path, _MAX) or b"").decode("ascii"))
            holder = Holder(*(facts[fact] for fact in ("key", "fingerprint", "program", "pid", "since")))
        except (FileProblem, Malformed, ValueError, KeyError, TypeError):
            continue
        if label in ("", holder.label):
            found.append(holder)
    return sorted(found, key=lambda holder: holder.since)
