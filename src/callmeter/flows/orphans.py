"""Holds in the ledger without a breadcrumb: of another host that is gone, or of this one after a power failure.

A reservation is made after its breadcrumb and ends before it. So one without a breadcrumb belongs to a call that is
over, unless it belongs to another host, or to a process with another home; those are asked for themselves, or given
until their deadline.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from callmeter.flows.booking import is_of, write_owed
from callmeter.flows.breaker import remember_cost
from callmeter.flows.owner import is_gone
from callmeter.flows.rebuild import by_index
from callmeter.flows.recovery import Recovery, lines_since, recover
from callmeter.ledger.protocol import Amount, Ledger, LedgerProblem, Reservation
from callmeter.policy.document import Policy
from callmeter.store.inflight import SUFFIX
from callmeter.store.log_identity import log_identity
from callmeter.store.usage_log import end_of_lines, opened, read_records
from callmeter.words.errors import CallmeterError
from callmeter.words.instant import text_of
from callmeter.words.jsontext import loads
from callmeter.words.money import usd
from callmeter.words.period import Period
from callmeter.words.record import UsageRecord


def recover_all(
    ledger: Ledger,
    directory: str,
    log_path: str,
    now: datetime,
    recent: str | None = None,
    *,
    policy: Policy | None = None,
    index: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> Recovery:
    """Finish the calls of dead processes: those of the breadcrumbs in `directory`, then those that only the ledger
    knows. `recent` as for `recover`; with the `policy` and where the log's usage index lies, a long log does not take
    long; `tell` hears what takes its time. Safe to run in many processes at once and after being killed at any point.
    """
    recovery = recover(directory, now, ledger=lambda: ledger, recent=recent)
    try:
        log = log_identity(log_path)
        gone = [
            reservation
            for reservation in [*ledger.open_reservations(), *ledger.taken_over(log)]
            if not os.path.exists(os.path.join(directory, reservation.call_id + SUFFIX))
            and is_gone(reservation.owner, reservation.deadline, now.timestamp())
        ]
        if gone:
            since = _extent(log_path)
            lines = _lines(log_path, gone, policy, index, tell)
            _finish(gone, lines, since, log, ledger, log_path, now, recovery, recent)
    except CallmeterError as problem:
        if not (recovery.unreachable and isinstance(problem, LedgerProblem)):
            recovery.problems.append(f"what dead processes hold cannot be settled: {problem.message}")
        recovery.unreachable = recovery.unreachable or isinstance(problem, LedgerProblem)
    return recovery


def _finish(
    gone: list[Reservation],
    lines: dict[str, list[dict[str, object]]],
    since: tuple[int, int],
    log: str,
    ledger: Ledger,
    log_path: str,
    now: datetime,
    recovery: Recovery,
    recent: str | None,
) -> None:
    held = {reservation.call_id for reservation in ledger.open_reservations()}
    for reservation in gone:
        owed = _Owed(reservation, lines.get(reservation.call_id, []), since, log_path, now, recovery)
        if reservation.basis.log != log:
            ledger.take_over(reservation.call_id, log, owed.write_for_another, logged=owed.is_logged)
            continue
        if not owed.is_logged() and reservation.call_id not in held:
            continue  # another host has booked it, and nothing was heard of it since
        # Without its hold, somebody else was quicker, or this is another ledger, which knows nothing of it.
        if ledger.settle(reservation.call_id, owed.write, only_held=True) and recent is not None:
            for line in owed.lines or [_record(reservation, now)]:
                remember_cost(recent, line, now)


class _Owed:
    """The line that a dead call owes, unless it is there already: in `lines`, which were read when the log was of the
    extent `since`, or in what was appended meanwhile."""

    def __init__(
        self,
        reservation: Reservation,
        lines: list[dict[str, object]],
        since: tuple[int, int],
        log_path: str,
        now: datetime,
        recovery: Recovery,
    ) -> None:
        self.lines = lines
        self._reservation = reservation
        self._since = since
        self._log_path = log_path
        self._now = now
        self._recovery = recovery

    def is_logged(self) -> bool:
        """Whether the log had lines of the call before this."""
        return bool(self.lines)

    def write(self, assumed: Amount) -> Amount:
        """Append it, and give what it counts for."""
        record = _record(self._reservation, self._now)
        # Whoever else looked for the dead may have written it and been killed: behind the gate nobody does any more.
        known = {line.get("id") for line in self.lines}
        later = lines_since(self._log_path, self._since, self._reservation.call_id, str(record["timestamp"])[:7])
        self.lines = [*self.lines, *(line for line in later if line.get("id") not in known)]
        amount = write_owed(self._log_path, self.lines, record, assumed, self._now)
        if not self.lines:
            self._recovery.records.append(record)
        return amount

    def write_for_another(self, _: Reservation) -> Amount:
        """The same in this host's log, for a call of another one's."""
        return self.write(Amount())


def _lines(
    log_path: str, reservations: Iterable[Reservation], policy: Policy | None, index: str, tell: Callable[[str], None]
) -> dict[str, list[dict[str, object]]]:
    """What the log has of these calls already: whoever wrote their line died, or lost the ledger, after it."""
    wanted = {reservation.call_id: reservation.created for reservation in reservations}
    since = datetime.fromtimestamp(min(wanted.values()), UTC) - timedelta(days=1)
    period = Period(since, None, "")
    found: dict[str, list[dict[str, object]]] = {}
    entries: Iterable[tuple[UsageRecord, bytes]] | None = None
    if policy is not None:
        entries = by_index(policy, log_path, index, period, lambda usage: usage.entries_of(wanted, period=period), tell)
    for record, line in read_records(log_path, period).entries() if entries is None else entries:
        call_id = record.corrects or record.id
        if call_id in wanted:
            fields = loads(line)
            if isinstance(fields, dict) and is_of(fields, call_id):
                found.setdefault(call_id, []).append(fields)
    return found


def _extent(log_path: str) -> tuple[int, int]:
    """The size of the log in whole lines, and its inode; 0 when there is none."""
    live = opened(log_path)
    if live is None:
        return 0, 0
    with live:
        return end_of_lines(live), os.fstat(live.fileno()).st_ino


def _record(reservation: Reservation, now: datetime) -> dict[str, object]:
    """The line of a call of which nothing is known but that it was reserved: it may have been charged in full."""
    found = loads(reservation.record)
    record: dict[str, object] = dict(found) if isinstance(found, dict) else {}
    estimate = record.get("estimate")
    if not isinstance(estimate, Decimal | int) or isinstance(estimate, bool):
        estimate = usd(reservation.hold.usd) if reservation.hold.usd else None
    record.update(
        id=reservation.call_id,
        cost=estimate if estimate is None else Decimal(estimate),
        cost_source="unknown" if estimate is None else "estimate",
        status="unknown",
        attempts=1,
        recorded_at=text_of(now),
        note="its process ended before the outcome was logged",
    )
    record.setdefault("v", 1)
    record.setdefault("timestamp", text_of(datetime.fromtimestamp(reservation.created, now.tzinfo)))
    return record
