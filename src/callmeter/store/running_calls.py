"""The calls that are running on this machine, as their breadcrumbs tell: looked at, never held or changed."""

from __future__ import annotations

import os
from dataclasses import dataclass

from callmeter.store.files import FileProblem, read_file
from callmeter.store.inflight import SUFFIX
from callmeter.words.errors import CallmeterError
from callmeter.words.jsontext import dumps, loads
from callmeter.words.record import UsageRecord, parse_record


@dataclass(frozen=True)
class RunningCall:
    """A call that has no line yet: `record` is the one it would get if nothing more became known."""

    record: UsageRecord
    pid: int
    host: str


class RunningCalls:
    """The breadcrumbs of a directory. Each is read once; later looks cost one listing."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._known: dict[str, RunningCall] = {}

    def look(self) -> list[RunningCall]:
        """The running calls, oldest first; a breadcrumb that is just being written comes with the next look.

        Raises FileProblem when the directory cannot be listed.
        """
        try:
            names = {name for name in os.listdir(self._directory) if name.endswith(SUFFIX)}
        except FileNotFoundError:
            names = set()
        except OSError as error:
            raise FileProblem(f"cannot list {self._directory}: {(error.strerror or str(error)).lower()}") from None
        self._known = {name: call for name, call in self._known.items() if name in names}
        for name in names - self._known.keys():
            call = _read(os.path.join(self._directory, name))
            if call is not None:
                self._known[name] = call
        return sorted(self._known.values(), key=lambda call: (call.record.timestamp, call.record.id))


def _read(path: str) -> RunningCall | None:
    try:
        line, newline, _ = (read_file(path) or b"").partition(b"\n")
        head = loads(line) if newline else None
        if not isinstance(head, dict):
            return None
        return RunningCall(parse_record(dumps(head["record"]).encode()), int(head["pid"]), str(head["host"]))
    except (CallmeterError, ValueError, KeyError, TypeError):
        return None  # `budget recover` says what is wrong with it
