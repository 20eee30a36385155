"""What an agent did lately, for the loop breaker: one small file for each agent, under its own lock.

    recent/SALT            what prompts are sketched with, one for the installation
    recent/HASH.json       the last calls of the agent's sessions of today, and what was usual on 28 days before

No prompt is in it. It is a memory and no record: where it is lost or damaged, the breaker begins anew. A session is
one of a day: what ran on yesterday under the same name is part of what is usual.
"""

from __future__ import annotations

import os

from callmeter.policy.loop_rule import CLOSE, Seen, Usual
from callmeter.store.files import HeldFile, Lock, read_file, remove_file, replace_file
from callmeter.words.digest import hex_digest
from callmeter.words.jsontext import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

VERSION = 1
_DAY = 86_400
_DAYS = 28
_MOST_SESSIONS = 64
_MOST_BYTES = 16 << 20
# Nobody waits long for what is only watched.
_PATIENCE = 2.0


class RecentCalls:
    """One agent's memory, read and locked for a `with` block, and written at its end if something changed. `at` is
    the time in seconds since 1970; of each session the last `keep` calls are known. With `look`, nothing is locked or
    written, and what is changed is forgotten. Raises FileProblem, Busy."""

    def __init__(self, directory: str, agent: str, at: int, keep: int, *, look: bool = False) -> None:
        name = hex_digest(agent.encode("utf-8", "surrogatepass"))[:40]
        self._path = os.path.join(directory, name + ".json")
        self._directory = directory
        self._at = at
        self._keep = keep
        self._changed = False
        self._look = look
        self._lock = Lock(self._path.removesuffix(".json") + ".lock", _PATIENCE)

    def __enter__(self) -> RecentCalls:
        if self._look:
            self._load()
            return self
        self._lock.__enter__()
        try:
            self._load()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._look:
            return
        try:
            if self._changed and value is None:
                while len(self._sessions) > _MOST_SESSIONS:
                    self._close(next(iter(self._sessions)))
                document = {
                    "v": VERSION,
                    "day": self._today,
                    "sessions": self._sessions,
                    "minutes": self._minutes,
                    "days": self._days,
                }
                replace_file(self._path, dumps(document).encode("ascii"), sync=False, locked=True)
        finally:
            self._lock.__exit__(kind, value, trace)

    def begin(self, session: str, call_id: str, sketch: str, size: int) -> None:
        """A call that is about to be sent."""
        found = self._sessions.pop(session, None) or {"spent": 0, "calls": []}
        self._sessions[session] = found  # the last in use stands last
        found["calls"] = [*found["calls"], [self._at, sketch, size, 0, call_id]][-self._keep :]
        minute = str(self._at // 60)
        self._minutes[minute] = self._minutes.get(minute, 0) + 1
        today = self._days.setdefault(str(self._today), [0, 0, 0])
        today[2] = max(today[2], self.in_ten_minutes)
        self._changed = True

    def spend(self, session: str, call_id: str, cost: int) -> None:
        """What a call came to, in nano-dollars. Of a call that is among the last, the last word counts."""
        found = self._sessions.setdefault(session, {"spent": 0, "calls": []})
        for call in found["calls"]:
            if call[4] == call_id:
                found["spent"] -= call[3]
                call[3] = cost
        found["spent"] += cost
        self._changed = True

    def calls(self, session: str) -> list[Seen]:
        """The last calls of a session."""
        found = self._sessions.get(session)
        return [Seen(*call[:4]) for call in found["calls"]] if found else []

    def spent(self, session: str) -> int:
        """What a session has cost."""
        found = self._sessions.get(session)
        return int(found["spent"]) if found else 0

    @property
    def in_ten_minutes(self) -> int:
        """The agent's calls in this minute and the nine before it."""
        return sum(self._minutes.values())

    def usual(self, session: str) -> Usual:
        """What is usual for the agent; this session is not among it."""
        others = [found["spent"] for name, found in self._sessions.items() if name != session and found["spent"]]
        days = [figures for day, figures in self._days.items() if int(day) < self._today]
        return Usual(
            sum(figures[0] for figures in self._days.values()) + len(others),
            max([*others, *(figures[1] for figures in self._days.values())], default=0),
            max((figures[2] for figures in days), default=0),
        )

    def first_time(self, session: str, what: str) -> bool:
        """Whether this is told of a session for the first time; remembers it."""
        told = self._sessions[session].setdefault("told", [])
        if what in told:
            return False
        told.append(what)
        self._changed = True
        return True

    def forget(self, session: str) -> None:
        """A session has tripped: it begins anew, and what it cost is not what is usual."""
        self._sessions.pop(session, None)
        self._changed = True

    def _load(self) -> None:
        self._today = self._at // _DAY
        self._sessions: dict[str, Any] = {}
        self._minutes: dict[str, int] = {}
        self._days: dict[str, list[int]] = {}
        data = read_file(self._path, _MOST_BYTES)
        if not data:
            return
        try:
            document: Any = loads(data)
            if document["v"] == VERSION:
                self._take(document)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._sessions, self._minutes, self._days = {}, {}, {}

    def _take(self, document: Any) -> None:
        self._days = {day: [int(figure) for figure in figures] for day, figures in document["days"].items()}
        self._minutes = {
            minute: int(count)
            for minute, count in document["minutes"].items()
            if 0 <= self._at // 60 - int(minute) < 10
        }
        for name, found in document["sessions"].items():
            self._sessions[name] = {**found, "spent": int(found["spent"]), "calls": list(found["calls"])}
        if int(document["day"]) != self._today:
            for name in list(self._sessions):
                self._close(name, str(int(document["day"])))
            oldest = self._today - _DAYS
            self._days = {day: figures for day, figures in self._days.items() if oldest <= int(day) <= self._today}
            if not self._look:
                _sweep(self._directory, self._at - (_DAYS + 2) * _DAY)

    def _close(self, name: str, day: str = "") -> None:
        """A session becomes part of what is usual. One that still runs at midnight keeps its prompts."""
        found = self._sessions.pop(name)
        figures = self._days.setdefault(day or str(self._today), [0, 0, 0])
        if found["spent"]:
            figures[0] += 1
            figures[1] = max(figures[1], found["spent"])
        if day and found["calls"] and 0 <= self._at - found["calls"][-1][0] <= CLOSE:
            self._sessions[name] = {**found, "spent": 0}


def salt_in(directory: str, *, look: bool = False) -> bytes:
    """What this installation's prompts are sketched with, made when it is first asked for; with `look`, b"" then.
    Raises FileProblem, Busy."""
    path = os.path.join(directory, "SALT")
    salt = read_file(path, 64) or b""
    if not salt and not look:
        with Lock(path + ".lock", _PATIENCE):
            salt = read_file(path, 64) or b""
            if not salt:
                salt = os.urandom(32)
                replace_file(path, salt, locked=True)
    return salt


def _sweep(directory: str, until: float) -> None:
    """Remove the memories of agents that have not called for long."""
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        try:
            if not name.endswith(".json") or os.stat(path).st_mtime >= until:
                continue
        except OSError:
            continue
        held = HeldFile.take(path.removesuffix(".json") + ".lock")
        if held is not None:
            remove_file(path)
            held.remove()
