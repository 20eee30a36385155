"""The calls that are running on this machine, as their breadcrumbs tell: looked at, never held or changed."""

from __future__ import annotations

import os

from callmeter.store.files import FileProblem, read_file
from callmeter.store.inflight import SUFFIX
from callmeter.words.errors import CallmeterError
from callmeter.words.jsontext import dumps, loads
from callmeter.words.record import UsageRecord, parse_record


class RunningCalls:
    """The breadcrumbs of a directory, each as the line that its call would get if nothing more became known. Each is
    read once; later looks cost one listing."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._known: dict[str, UsageRecord] = {}

    def look(self) -> list[UsageRecord]:
        """The running calls, oldest first; a breadcrumb that is just being written comes with the next look.

        Raises FileProblem when the directory cannot be listed.
        """
        try:
            names = {name for name in os.listdir(self._directory) if name.endswith(SUFFIX)}
        except FileNotFoundError:
            names = set()
        except OSError as error:
            raise FileProblem(f"cannot list {self._directory}: {(error.strerror or str(error)).lower()}") from None
        self._known = {name: record for name, record in self._known.items() if name in names}
        for name in names - self._known.keys():
            record = _read(os.path.join(self._directory, name))
            if record is not None:
                self._known[name] = record
        return sorted(self._known.values(), key=lambda record: (record.timestamp, record.id))


def _read(path: str) -> UsageRecord | None:
    try:
        line, newline, _ = (read_file(path) or b"").partition(b"\n")
        head = loads(line) if newline else None
        if not isinstance(head, dict):
            return None
        return parse_record(dumps(head["record"]).encode())
    except (CallmeterError, ValueError, KeyError, TypeError):
        return None  # `budget recover` says what is wrong with it
