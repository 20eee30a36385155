"""Finishing the calls of processes that died: each gets the line in the usage log that it could not write, and its
hold in the ledger becomes what that line says.

Every call begins with a look at the breadcrumbs, so no daemon is needed; with nothing to do it costs one listing.
Whatever a search needs is imported when a dead call is found. What the ledger holds for calls without a breadcrumb is
looked at by `flows/orphans.py`.
"""

from __future__ import annotations

import os

from callmeter.store.files import FileProblem, HeldFile
from callmeter.store.inflight import SUFFIX, VERSION, boot_id
from callmeter.words.errors import CallmeterError
from callmeter.words.jsontext import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from callmeter.ledger.protocol import Ledger

_MAX_BREADCRUMB = 1 << 20


class Recovery:
    """What `recover` did: `records` that it appended, `problems` (sentences) that it could not solve. `unreachable`
    when the ledger could not be used, so that the calls that it must be told of wait."""

    def __init__(self) -> None:
        self.records: list[dict[str, object]] = []
        self.problems: list[str] = []
        self.unreachable = False


def recover(
    directory: str,
    now: datetime,
    limit: int | None = None,
    ledger: Callable[[], Ledger] | None = None,
    recent: str | None = None,
) -> Recovery:
    """Finish the calls whose breadcrumbs in `directory` nobody holds any more.

    A call that was not sent leaves nothing. One that was sent gets one line: its own, when only the log failed it,
    else one with status `unknown` and, as cost, what the provider had said so far, or the estimate. Safe to run in
    many processes at once and after being killed at any point. With `limit`, looks at so many breadcrumbs only,
    other ones each time. A call of another machine is left alone until its deadline has passed.

    `ledger` opens the ledger when a dead call is found; None where the policy has no quotas. When it is out of reach
    the lines are written all the same, and the breadcrumbs stay until it can be told. `recent` is where the loop
    breaker remembers what agents did: it hears what these calls came to.
    """
    recovery = Recovery()
    try:
        names = [name for name in os.listdir(directory) if name.endswith(SUFFIX)]
    except FileNotFoundError:
        return recovery
    except OSError as error:
        recovery.problems.append(f"cannot list {directory}: {(error.strerror or str(error)).lower()}")
        return recovery
    if limit is not None and len(names) > limit:
        first = os.getpid() % len(names)
        names = (names[first:] + names[:first])[:limit]
    for name in names:
        path = os.path.join(directory, name)
        try:
            held = HeldFile.take(path)
            if held is not None:
                try:
                    _finish(held, now, recovery, ledger, recent)
                finally:
                    held.close()
        except (CallmeterError, ValueError, KeyError, TypeError) as error:
            recovery.problems.append(f"the call of {path} cannot be finished: {error}")
    return recovery


def _finish(
    held: HeldFile, now: datetime, recovery: Recovery, ledger: Callable[[], Ledger] | None, recent: str | None
) -> None:
    trail = _Trail(held.read(_MAX_BREADCRUMB))
    if trail.elsewhere(now):
        return
    if ledger is None or not trail.begun:
        record = trail.record(now)
        if record is not None and not _lines_of(trail):
            _append(trail, record, recovery)
    elif not _settle(trail, now, recovery, ledger):
        return
    if recent is not None and trail.sketched:
        from callmeter.flows.breaker import remember_cost

        for line in _lines_of(trail):
            remember_cost(recent, line, now)
    held.remove()


def _settle(trail: _Trail, now: datetime, recovery: Recovery, ledger: Callable[[], Ledger]) -> bool:
    """Bring log and ledger up to date; False when the ledger could not be told, and must be later."""
    from callmeter.flows.booking import booked_line, write_owed
    from callmeter.ledger.protocol import Amount, LedgerProblem
    from callmeter.store.log_identity import log_identity

    lines = _lines_of(trail)
    record = trail.record(now)
    written = bool(lines) or record is None

    def write(assumed: Amount) -> Amount:
        nonlocal written
        if record is None and not lines and not assumed:
            return Amount()
        # Another host may have taken over, and counted, even what was never sent.
        owed = trail.unsent() if record is None else record
        amount = write_owed(trail.log, lines, owed, assumed, now)
        if not written:
            recovery.records.append(owed)
        written = True
        return amount

    try:
        if recovery.unreachable:
            raise LedgerProblem("the ledger was out of reach before")
        if record is None and not lines:
            if not ledger().release(trail.id):
                ledger().settle(trail.id, write)
            return True
        if ledger().settle(trail.id, write):
            return True
        # No hold accounts for this line. Most likely it is booked, and its writer died before the breadcrumb was gone.
        # But its call may have been made without the ledger, or this may be another ledger, counted before the line was
        # written; nothing here tells which. The breadcrumb stays until the log is distrusted.
        if any(booked_line(line) for line in lines or [record or {}]):
            ledger().distrust(log_identity(trail.log))
    except LedgerProblem as problem:
        if not recovery.unreachable:
            recovery.unreachable = True
            recovery.problems.append(f"the calls of dead processes are not settled: {problem.message}")
        if record is not None and not written:
            _append(trail, record, recovery)
        return False
    return True


def _append(trail: _Trail, record: dict[str, object], recovery: Recovery) -> None:
    from callmeter.store.usage_append import append_usage
    from callmeter.words.usage import usage_line

    append_usage(trail.log, usage_line(record))
    recovery.records.append(record)


class _Trail:
    """A breadcrumb as it was found. Raises ValueError, KeyError or TypeError when it cannot be understood."""

    def __init__(self, data: bytes) -> None:
        lines = data.split(b"\n")[:-1]  # half a line at the end: its writer died before it went on
        self.begun = bool(lines)
        self.id = self.log = self.month = ""
        self.sent = False
        self.final: dict[str, object] | None = None
        self.spent: object = None
        if not lines:
            return
        head = _object(lines[0])
        if head["v"] != VERSION:
            raise ValueError(f"it is of version {head['v']}, this program knows {VERSION}")
        self.log = str(head["log"])
        self.log_extent = (head["log_size"], head["log_inode"])
        self._owner = (head["host"], head["boot"], head["deadline"])
        self._record = _members(head["record"])
        self.id = str(self._record["id"])
        self.month = str(self._record["timestamp"])[:7]
        for line in lines[1:]:
            self._follow(_object(line))

    def _follow(self, step: dict[str, object]) -> None:
        if "sent" in step:
            self.sent = True
            self.spent = None  # the new attempt's estimate covers what the earlier ones cost
            self._record.update(_members(step["sent"]))
        elif "generation_id" in step:
            self._record["generation_id"] = step["generation_id"]
        elif "cost" in step:
            self.spent = step["cost"]
            if step["tokens"] is not None:
                self._record["tokens"] = step["tokens"]
        elif "final" in step:
            self.final = _members(step["final"])

    @property
    def sketched(self) -> bool:
        """Whether the loop breaker knows of this call."""
        return self.begun and "prompt_sketch" in self._record

    def elsewhere(self, now: datetime) -> bool:
        """Whether another machine may still be at work on it: there its lock is not seen."""
        if not self.begun:
            return False
        host, boot, deadline = self._owner
        if host == os.uname().nodename or boot == boot_id():
            return False
        return not isinstance(deadline, int) or now.timestamp() < deadline

    def unsent(self) -> dict[str, object]:
        """The line of a call that cost nothing, for what it corrects."""
        from decimal import Decimal

        return {**self._record, "cost": Decimal(0), "attempts": 0, "status": "cancelled"}

    def record(self, now: datetime) -> dict[str, object] | None:
        """The line that is owed, or None."""
        if self.final is not None or not self.sent:
            return self.final
        from callmeter.words.instant import text_of

        record = dict(self._record)
        estimate = record.get("estimate")
        record["cost"] = estimate if self.spent is None else self.spent
        record["cost_source"] = "provider" if self.spent is not None else "unknown" if estimate is None else "estimate"
        record["status"] = "unknown"
        record["recorded_at"] = text_of(now)
        record["note"] = "its process ended before the outcome was logged"
        return record


def _lines_of(trail: _Trail) -> list[dict[str, object]]:
    return lines_since(trail.log, trail.log_extent, trail.id, trail.month)


def lines_since(log_path: str, extent: tuple[object, object], call_id: str, month: str) -> list[dict[str, object]]:
    """The lines of a call of a month: in what was appended since the log was of this extent (size and inode), or, if
    it was closed or replaced since, anywhere. The live log is opened first: a line only ever moves from there into a
    segment. Raises FileProblem."""
    from callmeter.flows.booking import is_of
    from callmeter.store.files import open_to_read
    from callmeter.store.usage_log import Damaged, month_of, segments_of, split_lines, unpacked

    needle = b'"%b"' % call_id.encode("ascii")
    found: dict[object, dict[str, object]] = {}

    def look_in(path: str, descriptor: int | None, start: int = 0) -> None:
        if descriptor is None:
            return
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            file.seek(start)
            try:
                for line, _ in split_lines(unpacked(path, file)):
                    parsed = _parsed(line) if line is not None and needle in line else None
                    if parsed is not None and is_of(parsed, call_id):
                        found.setdefault(parsed.get("id"), parsed)
            except Damaged as error:
                raise FileProblem(f"{path} is damaged: {error}") from None

    descriptor = open_to_read(log_path)
    size, inode = extent
    if descriptor is not None:
        now = os.fstat(descriptor)
        if isinstance(size, int) and now.st_ino == inode and now.st_size >= size:
            look_in(log_path, descriptor, size)
            return list(found.values())
    look_in(log_path, descriptor)
    for segment in segments_of(log_path):
        if month_of(segment) in (None, month):
            look_in(segment, open_to_read(segment))
    return list(found.values())


def _parsed(line: bytes) -> dict[str, object] | None:
    try:
        return _object(line)
    except ValueError:
        return None


def _object(line: bytes) -> dict[str, object]:
    return _members(loads(line))


def _members(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("it is not a breadcrumb")
    return value
