"""The same totals as `counting` gives, for a long log: added up by its usage index, but for its newest lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial

from callmeter.flows.counting import Tally
from callmeter.ledger.protocol import MOST, Amount, Window
from callmeter.policy.quotas import SHORT_PERIODS, Quota, window_of
from callmeter.store.index_log import IndexedLog, Sum


class IndexCount:
    """See `counting.Count`. Everything raises IndexTrouble."""

    def __init__(
        self,
        tally: Tally,
        log_path: str,
        directory: str,
        now: datetime,
        *,
        fresh: bool,
        tell: Callable[[str], None],
    ) -> None:
        self.tally = tally
        self._now = now
        self._known: dict[str, bool] = {}
        self._log = IndexedLog(log_path, directory, tally.period, MOST, fresh=fresh, tell=tell)

    def __enter__(self) -> IndexCount:
        self._log.__enter__()
        try:
            for (kind, period), quotas in _by_kind(self.tally.quotas):
                for window, each in self._sums(kind, period, any(quota.pools for quota in quotas)):
                    for bucket in _buckets(kind, each, quotas):
                        self.tally.book(Window(bucket, period, *window), Amount(each.usd, each.tokens, each.calls))
            for record in self._log.unfinished():
                self.tally.add(record)
            self._add_appended()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._log.__exit__()

    def look_up(self, call_ids: list[str]) -> None:
        """Whoever has a reservation from now on appends its line after those that the index has."""
        found = self._log.has(call_ids)
        self._known = {id: id in found for id in call_ids}

    def has(self, call_id: str) -> bool:
        """Whether the call's line was counted."""
        if call_id in self._known:
            return self._known[call_id] or self._log.has_appended(call_id)
        return bool(self._log.has([call_id]))

    def finish(self) -> dict[Window, Amount]:
        """The totals, with what was appended since the log was read."""
        self._add_appended()
        return self.tally.totals()

    def _add_appended(self) -> None:
        for record in self._log.appended():
            self.tally.add(record)

    def _sums(self, kind: str, period: str, pools: bool) -> Iterator[tuple[tuple[int, int], Sum]]:
        window = partial(window_of, period, zone=self.tally.zone)
        start, end = window(self._now)
        for each in self._log.sums(kind, start, end, pools=pools):
            yield (start, end), each
        if end:
            size = end - start if period in SHORT_PERIODS else 0
            for each, until in self._log.later(kind, end, window, size, pools=pools):
                yield (each.start, until), each


def _by_kind(quotas: Iterable[Quota]) -> Iterable[tuple[tuple[str, str], list[Quota]]]:
    """Quotas on one kind of subject for one period need one question."""
    found: dict[tuple[str, str], list[Quota]] = {}
    for quota in quotas:
        found.setdefault((quota.subject.kind, quota.period), []).append(quota)
    return found.items()


def _buckets(kind: str, each: Sum, quotas: Iterable[Quota]) -> set[str]:
    facts = {kind: each.value}
    if each.paid:
        facts.setdefault("pool", "(one)")
    found = {quota.bucket(facts) for quota in quotas}
    return {bucket for bucket in found if bucket is not None}
