"""Alerts on their way: calls append them to a spool, a flush moves them to what is pending and delivers that.

    alerts.jsonl           the spool: one line an alert, from any process
    alerts.pending.json    what is to be delivered, to whom still, and which keys were told lately

An alert is told once for its key (a threshold and its period, a request, a trip). It is delivered at least once, with
an id by which a receiver knows a repetition: whoever is killed between a delivery and its record repeats it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from callmeter.policy.controls import Alert
from callmeter.store.files import FileProblem, Lock, append_line, read_file, remove_file, replace_file
from callmeter.words.digest import hex_digest
from callmeter.words.errors import Malformed
from callmeter.words.ids import uuid7
from callmeter.words.instant import text_of
from callmeter.words.jsontext import dumps, loads

VERSION = 1
# Where nobody flushes, the spool stops growing here.
_MOST_SPOOL = 1 << 20
_MOST_PENDING = 64 << 20
_MOST_TEXT = 2000
# Nobody is told the same again within this many days; no period of a quota is longer but `life`.
_REMEMBERED_DAYS = 400
_COMMAND_SECONDS = 30
# What a command needs to run; never a key that stands in the environment.
_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "DBUS_SESSION_BUS_ADDRESS")


@dataclass
class Event:
    """One alert. `to` are the marks of those who still have to be told."""

    id: str
    at: str
    occasion: str
    key: str
    text: str
    facts: dict[str, object]
    to: list[str] = field(default_factory=list)
    tries: int = 0

    def message(self) -> dict[str, object]:
        """What a receiver gets: `text` for people, as Slack and those like it show it, and the rest for programs."""
        about = {"id": self.id, "at": self.at, "occasion": self.occasion, "key": self.key, **self.facts}
        return {"text": f"callmeter: {_unmarked(self.text)}", "callmeter": about}


def mark_of(alert: Alert) -> str:
    """What stands for a receiver in the files: its address may hold a secret."""
    return hex_digest(f"{alert.kind}\n{alert.target}".encode("utf-8", "surrogatepass"))[:16]


def name_of(alert: Alert) -> str:
    """A receiver's name for people, without what may be secret in it: a webhook's path, a command's arguments."""
    if alert.kind == "webhook":
        scheme, _, rest = alert.target.partition("://")
        authority = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
        return f"{scheme}://{authority}/…"
    return alert.target.split()[0] + (" …" if len(alert.target.split()) > 1 else "")


def spool(path: str, at: datetime, occasion: str, key: str, text: str, facts: Mapping[str, object]) -> None:
    """Append an alert, quickly or not at all; one whose key is in the spool already is told. Raises FileProblem or
    Busy."""
    event = {
        "v": VERSION,
        "id": uuid7(int(at.timestamp() * 1000)),
        "at": text_of(at),
        "occasion": occasion,
        "key": key,
        "text": text[:_MOST_TEXT],
        "facts": dict(facts),
    }
    with Lock(_lock_of(path), 1.0):
        if _is_there(path, key):
            return
        append_line(path, dumps(event).encode("ascii") + b"\n")


class Pending:
    """What is to be delivered, held against another flush for a `with` block. Entering takes what was spooled since:
    each event goes to those of `alerts` that want it. Raises Busy when another flush runs, Malformed, FileProblem.

    `events` are in the order in which they happened. Those that a receiver was told, or that nobody wants any more, go
    with `delivered` and `drop`, durably.
    """

    def __init__(self, path: str, alerts: Iterable[Alert], now: datetime) -> None:
        self.events: list[Event] = []
        self._spool = path
        self._path = path.removesuffix(".jsonl") + ".pending.json"
        self._alerts = list(alerts)
        self._now = now
        self._told: dict[str, str] = {}
        self._tried: set[str] = set()
        self._lock = Lock(path.removesuffix(".jsonl") + ".flush.lock", 1.0)

    def __enter__(self) -> Pending:
        self._lock.__enter__()
        try:
            self._read()
            with Lock(_lock_of(self._spool)):
                if self._take():
                    self._write()
                # A kill before this line: the next flush finds the same events again, and knows their keys.
                remove_file(self._spool)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__(None, None, None)

    def delivered(self, event: Event, alert: Alert) -> None:
        """This receiver has been told."""
        event.to.remove(mark_of(alert))
        if not event.to:
            self.events.remove(event)
        self._write()

    def failed(self, events: Iterable[Event]) -> None:
        """Some receiver of these could not be told. However many cannot, this flush is one try."""
        for event in events:
            if event.id not in self._tried:
                self._tried.add(event.id)
                event.tries += 1
        self._write()

    def drop(self, event: Event) -> None:
        """Nobody is told of it any more."""
        self.events.remove(event)
        self._write()

    def _read(self) -> None:
        self.events, self._told = read_pending(self._spool)

    def _take(self) -> bool:
        data = read_file(self._spool, 4 * _MOST_SPOOL)
        taken = False
        for line in (data or b"").split(b"\n"):
            event = _event_of(line)
            if event is None or event.key in self._told:
                continue
            taken = True
            self._told[event.key] = event.at
            event.to = [mark_of(alert) for alert in self._alerts if event.occasion in alert.on]
            if event.to:
                self.events.append(event)
        return taken

    def _write(self) -> None:
        oldest = text_of(self._now - timedelta(days=_REMEMBERED_DAYS))
        document = {
            "v": VERSION,
            "events": [vars(event) for event in self.events],
            "told": {key: at for key, at in self._told.items() if at >= oldest},
        }
        replace_file(self._path, dumps(document).encode("ascii"), locked=True)


def read_pending(path: str) -> tuple[list[Event], dict[str, str]]:
    """What earlier flushes left, and the keys that were told, with their times. Raises Malformed, FileProblem."""
    pending = path.removesuffix(".jsonl") + ".pending.json"
    data = read_file(pending, _MOST_PENDING)
    if not data:
        return [], {}
    try:
        document: Any = loads(data)
        return [Event(**event) for event in document["events"]], dict(document["told"])
    except (ValueError, TypeError, KeyError) as error:
        raise Malformed(
            f"{pending} is not what callmeter wrote: {error}", f"move it away: `mv {pending} {pending}.damaged`"
        ) from None


def read_spool(path: str) -> list[Event]:
    """What was spooled and not taken by a flush yet. Raises FileProblem."""
    found = (_event_of(line) for line in (read_file(path, 4 * _MOST_SPOOL) or b"").split(b"\n"))
    return [event for event in found if event is not None]


def append_to_file(path: str, event: Event) -> None:
    """Deliver to a file of JSON lines. Raises FileProblem or Busy."""
    with Lock(path + ".lock"):
        append_line(path, dumps(event.message()).encode("ascii") + b"\n", sync=True)


def run_command(command: str, event: Event, environment: Mapping[str, str]) -> None:
    """Deliver to a command, as JSON on its standard input, without a shell. Raises FileProblem when it fails or takes
    longer than 30 s."""
    import shlex
    import signal
    import subprocess

    variables = {name: environment[name] for name in _VARIABLES if name in environment}
    try:
        words = shlex.split(command)
        child = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=variables,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "its quotes do not match").lower()
        raise FileProblem(f"it cannot be started: {reason}") from None
    try:
        child.communicate(dumps(event.message()).encode("ascii") + b"\n", timeout=_COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        raise FileProblem(f"it took longer than {_COMMAND_SECONDS} s") from None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode:
        raise FileProblem(f"it ended with status {child.returncode}")


def _event_of(line: bytes) -> Event | None:
    """The event of a spooled line; None for what is none, such as half a line of a process that was killed."""
    try:
        found: Any = loads(line) if line else None
        if found is None or found["v"] != VERSION:
            return None
        return Event(
            str(found["id"]),
            str(found["at"]),
            str(found["occasion"]),
            str(found["key"]),
            str(found["text"]),
            dict(found["facts"]),
        )
    except (ValueError, TypeError, KeyError):
        return None


def _is_there(path: str, key: str) -> bool:
    """Whether the end of the spool has this key already, or nothing more fits: a caller that is stopped again and
    again must not fill it."""
    data = read_file(path, 4 * _MOST_SPOOL) or b""
    return len(data) > _MOST_SPOOL or b'"key":' + dumps(key).encode("ascii") in data


def _lock_of(path: str) -> str:
    return path.removesuffix(".jsonl") + ".lock"


def _unmarked(text: str) -> str:
    """Text that is no markup to Slack: a tag called `<!channel>` calls nobody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
