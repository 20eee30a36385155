"""What the lines of a usage log add up to in the windows of a policy's quotas: read one by one.

That is what a total means, and how a short log is counted. `index_counting` does the same for a long one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Protocol

from callmeter.flows.booking import booked
from callmeter.ledger.protocol import MOST, Amount, Window
from callmeter.policy.document import Policy
from callmeter.policy.quotas import window_of
from callmeter.store.usage_log import end_of_lines, opened, read_records, split_lines, unpacked
from callmeter.words.period import Period, zone_named
from callmeter.words.record import UsageRecord, parse_record
from callmeter.words.subject import facts_of

_MOST_FACTS = 100_000


class Count(Protocol):
    """A log that is counted in a `with` block, which holds its live file open: while it is, the file's inode is not
    given to another one."""

    tally: Tally

    def __enter__(self) -> Count:
        """The lines that are there are counted."""

    def __exit__(self, *_: object) -> None: ...

    def look_up(self, call_ids: list[str]) -> None:
        """What `has` will be asked, as far as it is known: then it need not be found out behind the gate."""

    def has(self, call_id: str) -> bool:
        """Whether the call's line was counted."""

    def finish(self) -> dict[Window, Amount]:
        """The totals, with what was appended since. Once more is no harm."""


class Tally:
    """What lines add up to in each window that begins by `last` (seconds; None: in each). `period` has all lines that
    such a window can hold which has not ended by `now`; `ahead` is when the first window after `last` begins, or 0."""

    def __init__(self, policy: Policy, now: datetime, last: int | None) -> None:
        self.ahead = 0
        self.quotas = policy.quotas
        self.zone = zone_named(policy.time_zone)
        self._last = last
        self._totals: dict[Window, Amount] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        self._keys: dict[tuple[object, ...], list[tuple[str, str]]] = {}
        first = min((window_of(quota.period, now, self.zone)[0] for quota in policy.quotas), default=0)  # 0 for `life`
        self.period = Period(datetime.fromtimestamp(first, UTC) if first else None, None, "")

    def add(self, record: UsageRecord) -> None:
        """Count a line."""
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
            self.book(Window(bucket, period, start, end), amount)

    def book(self, window: Window, amount: Amount) -> None:
        """Add what lines of a window come to."""
        self._totals[window] = self._totals.get(window, Amount()) + amount

    def totals(self) -> dict[Window, Amount]:
        """The totals, as a ledger keeps them."""
        last = MOST if self._last is None else self._last
        self.ahead = min((window.start for window in self._totals if window.start > last), default=0)
        return {window: _bounded(amount) for window, amount in self._totals.items() if window.start <= last}

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
            found = {(quota.bucket(named), quota.period) for quota in self.quotas}
            known = [(bucket, period) for bucket, period in found if bucket is not None]
            if len(self._keys) < _MOST_FACTS:
                self._keys[facts] = known
        return known

    def _span(self, period: str, at: datetime) -> tuple[int, int]:
        start, end = self._spans.get(period, (0, -1))
        if not start <= at.timestamp() < end and (end or period != "life"):
            start, end = self._spans[period] = window_of(period, at, self.zone)
        return start, end


class PlainCount:
    """See `Count`."""

    def __init__(self, tally: Tally, log_path: str) -> None:
        self.tally = tally
        self._path = log_path
        self._reader = read_records(log_path, tally.period)

    def __enter__(self) -> PlainCount:
        self._live = opened(self._path)
        self._size = end_of_lines(self._live) if self._live is not None else 0
        try:
            for record in self._reader:
                self.tally.add(record)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.close()

    def look_up(self, call_ids: list[str]) -> None:
        """All ids are known."""

    def has(self, call_id: str) -> bool:
        """Whether the call's line was counted."""
        return call_id in self._reader.seen

    def finish(self) -> dict[Window, Amount]:
        """The totals, with what was appended since the log was read."""
        for record in self._later():
            if self._reader.seen.add(record.id):
                self.tally.add(record)
        return self.tally.totals()

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
                    if record is not None and record.instant in self.tally.period:
                        yield record
                return
        # It was closed into a segment, or replaced: what was seen is not counted again.
        yield from read_records(self._path, self._reader.period)


def _bounded(amount: Amount) -> Amount:
    if max(amount.parts) <= MOST and min(amount.parts) >= -MOST:
        return amount
    return Amount(*(max(-MOST, min(MOST, part)) for part in amount.parts))


def _parsed(line: bytes | None) -> UsageRecord | None:
    if not line:
        return None
    try:
        return parse_record(line.strip(b"\0").removesuffix(b"\r"))
    except ValueError:
        return None
