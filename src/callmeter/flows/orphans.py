"""Holds in the ledger without a breadcrumb: of another host that is gone, or of this one after a power failure.

A reservation is made after its breadcrumb and ends before it. So one without a breadcrumb belongs to a call that is
over, unless it belongs to another host, or to a process with another home; those are asked for themselves, or given
until their deadline.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from callmeter.flows.booking import booked_line, write_line
from callmeter.flows.owner import is_gone
from callmeter.flows.recovery import Recovery, recover
from callmeter.ledger.protocol import Amount, Ledger, LedgerProblem, Reservation
from callmeter.store.inflight import SUFFIX
from callmeter.store.log_identity import log_identity
from callmeter.store.usage_log import read_records
from callmeter.words.errors import CallmeterError
from callmeter.words.instant import text_of
from callmeter.words.jsontext import loads
from callmeter.words.money import usd
from callmeter.words.period import Period


def recover_all(ledger: Ledger, directory: str, log_path: str, now: datetime) -> Recovery:
    """Finish the calls of dead processes: those of the breadcrumbs in `directory`, then those that only the ledger
    knows. Safe to run in many processes at once and after being killed at any point."""
    recovery = recover(directory, now, ledger=lambda: ledger)
    try:
        gone = [
            reservation
            for reservation in ledger.open_reservations()
            if not os.path.exists(os.path.join(directory, reservation.call_id + SUFFIX))
            and is_gone(reservation.owner, reservation.deadline, now.timestamp())
        ]
        if gone:
            _finish(gone, ledger, log_path, now, recovery)
    except CallmeterError as problem:
        if not (recovery.unreachable and isinstance(problem, LedgerProblem)):
            recovery.problems.append(f"what dead processes hold cannot be settled: {problem.message}")
        recovery.unreachable = recovery.unreachable or isinstance(problem, LedgerProblem)
    return recovery


def _finish(gone: list[Reservation], ledger: Ledger, log_path: str, now: datetime, recovery: Recovery) -> None:
    log = log_identity(log_path)
    lines = _lines(log_path, gone)
    for reservation in gone:
        owed = _Owed(reservation, lines.get(reservation.call_id), log_path, now, recovery)
        if reservation.basis.log == log:
            ledger.settle(reservation.call_id, owed.write)
        else:
            ledger.take_over(reservation.call_id, log, lambda _, owed=owed: owed.write(Amount()))  # type: ignore[misc]


class _Owed:
    """The line that a dead call owes, unless it is there already."""

    def __init__(
        self, reservation: Reservation, line: Amount | None, log_path: str, now: datetime, recovery: Recovery
    ) -> None:
        self._reservation = reservation
        self._line = line
        self._log_path = log_path
        self._now = now
        self._recovery = recovery

    def write(self, assumed: Amount) -> Amount:
        """Append it, and give what it counts for."""
        if self._line is not None:
            return self._line
        record = _record(self._reservation, self._now)
        amount = write_line(self._log_path, record, assumed, self._now)
        self._recovery.records.append(record)
        return amount


def _lines(log_path: str, reservations: Iterable[Reservation]) -> dict[str, Amount]:
    """What the log says of these calls already: whoever wrote their line died, or lost the ledger, after it."""
    wanted = {reservation.call_id: reservation.created for reservation in reservations}
    since = datetime.fromtimestamp(min(wanted.values()), UTC) - timedelta(days=1)
    found = {}
    for record in read_records(log_path, Period(since, None, "")):
        if record.id in wanted:
            found[record.id] = booked_line(
                {
                    "cost": record.cost,
                    "tokens": record.tokens and {"in": record.tokens.in_, "out": record.tokens.out},
                    "attempts": record.attempts,
                }
            )
    return found


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
