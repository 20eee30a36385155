"""The ledger's totals, counted from the usage log: when a policy has new quotas, when the ledger is new or was lost,
and to see that the two agree.

The log is the truth. What was appended while it is read is counted at the end, behind the ledger's gate, where no
reserved call appends; so the totals are exact however busy the log is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from callmeter.flows.booking import basis_of, booked, mark_of, windows_of
from callmeter.ledger.protocol import BACKWARDS, MOST, Amount, Basis, Difference, Ledger, Reservation, Window
from callmeter.policy.document import Policy
from callmeter.policy.quotas import window_of
from callmeter.store.files import Lock
from callmeter.store.log_identity import log_identity
from callmeter.store.usage_log import end_of_lines, opened, read_records, split_lines, unpacked
from callmeter.words.jsontext import loads
from callmeter.words.period import Period, zone_named
from callmeter.words.record import UsageRecord, parse_record
from callmeter.words.subject import facts_of

# Counting a long log takes a while, and everybody whose totals depend on it waits for one process.
_PATIENCE = 120.0
_MOST_FACTS = 100_000
# Kept in the ledger: when a clock that had been ahead was accepted, and from when on a log's lines were left out then.
_ACCEPTED = "clock/accepted"
_AHEAD = "clock/ahead/"


def ensure(policy: Policy, ledger: Ledger, log_path: str, now: datetime) -> bool:
    """Have the log counted for the policy's quotas; False when it was already. One process counts, the others wait
    for it. Raises LedgerProblem, FileProblem, Busy."""
    basis = basis_of(policy, log_path)
    if ledger.counted(basis.log) == basis.mark:
        return False
    with Lock(log_path + ".count", _PATIENCE):
        if ledger.counted(basis.log) == basis.mark:
            return False
        rebuild(policy, ledger, log_path, now)
    return True


def rebuild(policy: Policy, ledger: Ledger, log_path: str, now: datetime) -> list[Difference]:
    """Set the log's share of every window that has not ended to what the log says, and give what was different.

    The log alone counts: spending whose lines were deleted or pruned is forgotten. Raises LedgerProblem, FileProblem,
    Busy.
    """
    differences = _recount(policy, ledger, log_path, now, write=True)
    ledger.remember(f"log/{log_identity(log_path)}", _place(log_path))
    return differences


def accept_clock(policy: Policy, ledger: Ledger, log_path: str, now: datetime) -> int:
    """Drop what a clock that was ahead has left in the ledger, and give how many windows that were. Its lines stay in
    the log at the time that they name, and are left out of the totals until that comes. Raises as `rebuild`."""
    dropped = ledger.forget_ahead(int(now.timestamp()))
    ledger.remember(_ACCEPTED, str(int(now.timestamp())))
    rebuild(policy, ledger, log_path, now)
    return dropped


def catch_up(policy: Policy, ledger: Ledger, log_path: str, now: datetime) -> None:
    """Count the lines whose time has come since `accept_clock` left them out. Raises as `rebuild`."""
    ahead = ledger.remember(_AHEAD + log_identity(log_path))
    if ahead and int(ahead) <= now.timestamp():
        rebuild(policy, ledger, log_path, now)


def drop_lost(policy: Policy, ledger: Ledger, now: datetime) -> list[Difference]:
    """Take out the shares of logs that lay on this host and are known there under this identity no more: their file
    with the identity was removed, and their lines are counted under another one. Raises as `rebuild`."""
    differences = []
    for log in ledger.logs():
        host, _, path = ledger.remember(f"log/{log}").partition(" ")
        if host == os.uname().nodename and os.path.exists(path) and log_identity(path) != log:
            differences += ledger.recount(
                Basis(log, mark_of(policy)),
                int(now.timestamp()),
                count=dict,
                windows_of=lambda reservation: reservation.windows,
            )
    return differences


def check(policy: Policy, ledger: Ledger, log_path: str, now: datetime) -> list[Difference]:
    """The windows in which ledger and log differ; nothing is changed. Raises LedgerProblem, FileProblem, Busy."""
    return _recount(policy, ledger, log_path, now, write=False)


def _place(log_path: str) -> str:
    return f"{os.uname().nodename} {os.path.abspath(log_path)}"


def _recount(policy: Policy, ledger: Ledger, log_path: str, now: datetime, *, write: bool) -> list[Difference]:
    basis = basis_of(policy, log_path)
    # A clock that is behind must not drop what was spent today: only an accepted one says what is still to come.
    accepted = ledger.remember(_ACCEPTED)
    right = accepted and int(accepted) <= now.timestamp()
    with _Count(policy, log_path, now, int(now.timestamp()) + BACKWARDS if right else None) as count:

        def windows_of_open(reservation: Reservation) -> Iterable[Window] | None:
            if count.has(reservation.call_id):
                return None
            record = loads(reservation.record)
            return windows_of(policy, record) if isinstance(record, dict) and "timestamp" in record else ()

        differences = ledger.recount(
            basis, int(now.timestamp()), count=count.finish, windows_of=windows_of_open, write=write
        )
    if write and right:
        ledger.remember(_AHEAD + basis.log, str(count.ahead) if count.ahead else "")
    return differences


class _Count:
    """What a log adds up to in each window that begins by `last`; `ahead` is when the first later one begins. The
    `with` block holds the live file open: while it is, its inode is not given to another file."""

    def __init__(self, policy: Policy, log_path: str, now: datetime, last: int | None) -> None:
        self._last = last
        self.ahead = 0
        self._policy = policy
        self._zone = zone_named(policy.time_zone)
        self._path = log_path
        self._totals: dict[Window, Amount] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        self._keys: dict[tuple[object, ...], list[tuple[str, str]]] = {}
        starts = [window_of(quota.period, now, self._zone)[0] for quota in policy.quotas]
        first = min(starts, default=0)  # 0 for `life`
        since = datetime.fromtimestamp(first, UTC) if first else None
        self._reader = read_records(log_path, Period(since, None, ""))

    def __enter__(self) -> _Count:
        self._live = opened(self._path)
        self._size = end_of_lines(self._live) if self._live is not None else 0
        try:
            if self._policy.quotas:
                for record in self._reader:
                    self._add(record)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.close()

    def has(self, call_id: str) -> bool:
        """Whether the call's line was counted."""
        return call_id in self._reader.seen

    def finish(self) -> dict[Window, Amount]:
        """The totals, with what was appended since the log was read."""
        if self._policy.quotas:
            for record in self._later():
                if self._reader.seen.add(record.id):
                    self._add(record)
        later = [] if self._last is None else [window for window in self._totals if window.start > self._last]
        self.ahead = min((window.start for window in later), default=0)
        for window in later:
            del self._totals[window]
        return {window: _bounded(amount) for window, amount in self._totals.items()}

    def _later(self) -> Iterator[UsageRecord]:
        live = opened(self._path)
        if live is None:
            return
        with live:
            found = os.fstat(live.fileno())
            same = self._live is not None and os.path.samestat(found, os.fstat(self._live.fileno()))
            if same and found.st_size >= self._size:
                live.seek(self._size)
                for line, _ in split_lines(unpacked(self._path, live)):
                    record = _parsed(line)
                    if record is not None:
                        yield record
                return
        # It was closed into a segment, or replaced: what was seen is not counted again.
        yield from read_records(self._path, self._reader.period)

    def _add(self, record: UsageRecord) -> None:
        tokens = record.tokens
        amount = booked(
            record.cost,
            None if tokens is None else {"in": tokens.in_, "out": tokens.out},
            0 if record.corrects is not None else record.attempts,
        )
        if not amount:
            return
        at = record.instant
        for bucket, period in self._buckets(record):
            start, end = self._span(period, at)
            window = Window(bucket, period, start, end)
            self._totals[window] = self._totals.get(window, Amount()) + amount

    def _buckets(self, record: UsageRecord) -> list[tuple[str, str]]:
        """`policy.quotas.buckets_for`, remembered: a log has few combinations of tags for its length."""
        facts = (tuple(record.tags.items()), record.key, record.model, record.provider, record.pool)
        known = self._keys.get(facts)
        if known is None:
            named = facts_of(
                record.tags,
                key=record.key or "",
                model=record.model,
                provider=record.provider,
                pool=record.pool or "",
            )
            found = {(quota.bucket(named), quota.period) for quota in self._policy.quotas}
            known = [(bucket, period) for bucket, period in found if bucket is not None]
            if len(self._keys) < _MOST_FACTS:
                self._keys[facts] = known
        return known

    def _span(self, period: str, at: datetime) -> tuple[int, int]:
        start, end = self._spans.get(period, (0, -1))
        if not start <= at.timestamp() < end and (end or period != "life"):
            start, end = self._spans[period] = window_of(period, at, self._zone)
        return start, end


def _bounded(amount: Amount) -> Amount:
    return Amount(*(max(-MOST, min(MOST, part)) for part in amount.parts))


def _parsed(line: bytes | None) -> UsageRecord | None:
    if not line:
        return None
    try:
        return parse_record(line.strip(b"\0").removesuffix(b"\r"))
    except ValueError:
        return None
