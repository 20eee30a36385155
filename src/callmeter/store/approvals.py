"""The approvals file, which approvers write and agents only read, and the requests file, which agents' calls write.

Two files, so that file permissions can separate the roles: `approvals.jsonl` lies with the configuration, and grants,
refuses, freezes and thaws; `requests.jsonl` lies with the state, and can ask and, for the loop breaker, freeze.
"""

from __future__ import annotations

import os

from callmeter.policy.grants import Allowances, Request
from callmeter.store.files import Lock, append_line, read_file, replace_file
from callmeter.words.jsontext import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType

    from callmeter.store.places import Places

# Nothing in the approvals is secret, and agents of other users have to read them.
_READABLE = 0o644
_MOST_REQUESTS = 1 << 20


def read_allowances(places: Places, now: datetime) -> Allowances:
    """What is granted, refused and stopped at this instant. Raises FileProblem or Malformed when a file cannot be
    read: then nobody knows what is frozen."""
    return _read(places, now, everything=False)


class ApprovalsFile:
    """Both files, read in full and held against other writers for a `with` block."""

    def __init__(self, places: Places, now: datetime) -> None:
        self._places = places
        self._now = now
        self._lock = Lock(lock_of(places.approvals))

    def __enter__(self) -> ApprovalsFile:
        self._lock.__enter__()
        try:
            self.allowances = read_everything(self._places, self._now)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, value, trace)

    def append(self, fields: Mapping[str, object]) -> None:
        """Write one event, durably."""
        append_line(self._places.approvals, _line(fields), sync=True, mode=_READABLE)


def read_everything(places: Places, now: datetime, *, past: bool = False) -> Allowances:
    """All events, what is over included; with `past` as they stood at `now`."""
    return _read(places, now, everything=True, past=past)


def file_request(places: Places, now: datetime, request: Request) -> Request:
    """File a request, and give it back; or the one that asks for the same already. One for another amount takes the
    place of the earlier one."""
    with Lock(lock_of(places.requests)):
        allowances = read_everything(places, now)
        found = allowances.open_request(request.place)
        if found is not None and found.amount == request.amount:
            return found
        _shorten(places.requests, allowances)
        from callmeter.policy.grant_lines import request_fields, request_id

        while request.id in allowances.requests:  # the same was asked and answered within this second
            request.at += 1
            request.id = request_id(request)
        append_line(places.requests, _line(request_fields(request)))
        return request


def append_freeze(places: Places, fields: Mapping[str, object]) -> None:
    """Write a freeze of the loop breaker, from a process that may not be able to write the approvals file."""
    with Lock(lock_of(places.requests)):
        append_line(places.requests, _line(fields), sync=True)


def lock_of(path: str) -> str:
    """`approvals.lock` beside `approvals.jsonl`."""
    return path.removesuffix(".jsonl") + ".lock"


def _read(places: Places, now: datetime, *, everything: bool, past: bool = False) -> Allowances:
    allowances = Allowances(now)
    for path, trusted in ((places.approvals, True), (places.requests, False)):
        data = read_file(path)
        if data:
            from callmeter.policy.grant_lines import read_lines

            read_lines(allowances, data, path, trusted=trusted, everything=everything, past=past)
    return allowances


def _shorten(path: str, allowances: Allowances) -> None:
    """Leave out what is over, once the file is long: each call that asks reads all of it."""
    try:
        if os.stat(path).st_size < _MOST_REQUESTS:
            return
    except FileNotFoundError:
        return
    from callmeter.policy.grant_lines import freeze_fields, request_fields

    live = [request_fields(one) for one in allowances.requests.values() if allowances.state(one) == "open"]
    live += [freeze_fields(one) for one in allowances.live_freezes() if one.automatic]
    replace_file(path, b"".join(_line(fields) for fields in live))


def _line(fields: Mapping[str, object]) -> bytes:
    return dumps(dict(fields)).encode("ascii") + b"\n"
