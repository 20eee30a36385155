"""The usage protocol over records in memory: one plain loop, nothing clever, so that it can be believed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo

from callmeter.reports.grouping import NONE, key_name, matcher_of, patterns_of, reader_of, time_text, within
from callmeter.reports.savings_question import Answer, AnswerSizes, Question
from callmeter.reports.sums import FAILED
from callmeter.reports.usage import SUMS, Figures, Group, Reading, Spent, Top
from callmeter.words.instant import parse_instant
from callmeter.words.money import nano
from callmeter.words.period import EVER, Period
from callmeter.words.record import UsageRecord
from plain_savings import answer_sizes, savings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ORDERS: dict[str, Callable[[Figures], tuple[int, ...]]] = {
    "cost": lambda each: (-each.nano, -each.calls),
    "calls": lambda each: (-each.calls, -each.nano),
    "tokens": lambda each: (-each.tokens_in - each.tokens_out,),
    "errors": lambda each: (-each.errors, -each.calls),
    "latency": lambda each: (-each.latency.get(95, 0),),
    "name": lambda each: (),
}
_DECIDING = ("nano", "calls", "tokens_in", "tokens_out", "errors")


class PlainUsage:
    """Usage of records that are held in memory."""

    def __init__(
        self,
        records: Iterable[UsageRecord],
        zone: tzinfo = UTC,
        as_of: datetime | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.zone = zone
        self.as_of = as_of
        self._aliases = aliases or {}
        known = within(EVER, as_of)
        self._records = list(records if known is None else filter(known, records))
        self._records.sort(key=lambda record: (time_text(record), record.id))
        self._corrections: dict[str, list[UsageRecord]] = {}
        for record in self._records:
            if record.corrects is not None and record.cost is not None:
                self._corrections.setdefault(record.corrects, []).append(record)

    @property
    def reading(self) -> Reading:
        """How the records were read: each is good."""
        first = parse_instant(self._records[0].timestamp) if self._records else None
        return Reading(("memory",), len(self._records), 0, 0, first)

    def groups(
        self,
        by: Sequence[str] = (),
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
        only: Collection[str] = SUMS,
    ) -> list[Group]:
        """See `Usage.groups`."""
        found = self._grouped(by, period, where, latency, costs, whole_only=True)
        for figures in found.values():
            for name in set(SUMS).difference(only):
                setattr(figures, name, getattr(Figures(), name))
        return sorted(found.items())

    def groupings(
        self, bys: Sequence[Sequence[str]], only: Collection[str], *, period: Period = EVER, where: Sequence[str] = ()
    ) -> list[list[Group]]:
        """See `Usage.groupings`."""
        return [self.groups(by, period=period, where=where, only=only) for by in bys]

    def levels(
        self,
        by: Sequence[str],
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
    ) -> dict[tuple[str, ...], Figures]:
        """See `Usage.levels`."""
        return {(): Figures()} | self._grouped(by, period, where, latency, costs, whole_only=False)

    def top(
        self,
        by: Sequence[str],
        most: int,
        order: str,
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
    ) -> Top:
        """See `Usage.top`."""
        levels = self.levels(by, period=period, where=where, latency=latency, costs=costs)
        kept: dict[tuple[str, ...], Figures] = {(): levels[()]}
        others: dict[tuple[str, ...], tuple[int, Figures]] = {}
        for depth in range(len(by)):
            for outer in [path for path in kept if len(path) == depth]:
                inner = [path for path in levels if path[:-1] == outer and len(path) == depth + 1]
                inner.sort(key=lambda path: (_ORDERS[order](levels[path]), path))
                kept |= {path: levels[path] for path in inner[:most]}
                if inner[most:]:
                    names = [path[-1] for path in inner[:most]]
                    rest = self.rest(by, outer, names, period=period, where=where, latency=latency, costs=costs)
                    others[outer] = len(inner) - most, rest
        return Top(kept, others)

    def courses(
        self,
        by: Sequence[str],
        kept: Collection[tuple[str, ...]],
        unit: str,
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
    ) -> dict[tuple[str, ...], dict[str, int]]:
        """See `Usage.courses`."""
        found: dict[tuple[str, ...], dict[str, int]] = {}
        for (*path, label), figures in self.groups([*by, unit], period=period, where=where):
            for depth in range(len(path) + 1):
                if not depth or tuple(path[:depth]) in kept:
                    course = found.setdefault(tuple(path[:depth]), {})
                    course[label] = course.get(label, 0) + figures.nano
        return found

    def walk(
        self,
        by: Sequence[str],
        order: str,
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
        only: Collection[str] = SUMS,
    ) -> PlainWalk:
        """See `Usage.walk`."""
        levels = self.levels(by, period=period, where=where, latency=latency, costs=costs)
        return PlainWalk(levels, order, {*only, *_DECIDING})

    def spent(
        self,
        by: Sequence[str],
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        least: int | None = None,
        times: bool = True,
    ) -> list[Spent]:
        """See `Usage.spent`."""
        found = []
        for names, each in self.groups(by, period=period, where=where):
            if least is None or each.nano >= least:
                begin, end = (_milliseconds(at if times else None) for at in (each.first, each.last))
                found.append(Spent(names, each.nano, each.calls, each.unknown, begin, end))
        return found

    def calls(self, *, period: Period = EVER, where: Sequence[str] = (), last: int = 0) -> Iterator[UsageRecord]:
        """See `Usage.calls`."""
        found = self._chosen(period, where)
        return iter(deque(found, maxlen=last)) if last else found

    def _chosen(self, period: Period, where: Sequence[str]) -> Iterator[UsageRecord]:
        inside = within(period, self.as_of)
        patterns = patterns_of(where, self._aliases)
        tests = [(self._reader(name), matcher_of(values)) for name, values in patterns.items()]
        for record in self._records:
            if (inside is None or inside(record)) and all(matches(read(record)) for read, matches in tests):
                yield record

    def rest(
        self,
        by: Sequence[str],
        outer: tuple[str, ...],
        kept: Sequence[str],
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
    ) -> Figures:
        """See `Usage.rest`."""
        readers = [self._reader(key_name(name, self._aliases)) for name in by]

        def is_rest(record: UsageRecord) -> bool:
            names = tuple(read(record) for read in readers[: len(outer) + 1])
            return names[:-1] == outer and names[-1] not in kept

        found = self._grouped((), period, where, latency, costs, whole_only=True, only=is_rest)
        return found.get((), Figures())

    def taggings(
        self, compared: Collection[str], *, period: Period = EVER, where: Sequence[str] = ()
    ) -> list[tuple[tuple[tuple[str, str], ...], Figures]]:
        """See `Usage.taggings`."""
        found: dict[tuple[tuple[str, str], ...], Figures] = {}
        for record in self._chosen(period, where):
            if record.status != "refused":
                tags = sorted((name, value if name in compared else "") for name, value in record.tags.items())
                self._add(found.setdefault(tuple(tags), Figures()), record)
        return sorted(found.items())

    def answer_sizes(self, *, period: Period = EVER) -> dict[str, AnswerSizes]:
        """See `Usage.answer_sizes`."""
        return answer_sizes(self._sent(period), self._named("purpose"))

    def savings(self, question: Question, *, period: Period = EVER) -> Answer:
        """See `Usage.savings`."""
        return savings(self._sent(period), question, self._named, lambda call: self._whole_cost(call) or 0)

    def _sent(self, period: Period) -> list[UsageRecord]:
        return [each for each in self._chosen(period, ()) if each.corrects is None and each.status != "refused"]

    def _named(self, name: str) -> Callable[[UsageRecord], str]:
        return self._reader(key_name(name, self._aliases))

    def _grouped(
        self,
        by: Sequence[str],
        period: Period,
        where: Sequence[str],
        latency: Sequence[int],
        costs: Sequence[int],
        *,
        whole_only: bool,
        only: Callable[[UsageRecord], bool] | None = None,
    ) -> dict[tuple[str, ...], Figures]:
        readers = [self._reader(key_name(name, self._aliases)) for name in by]
        found: dict[tuple[str, ...], Figures] = {}
        latencies: dict[tuple[str, ...], list[int]] = {}
        paid: dict[tuple[str, ...], list[int]] = {}
        for record in self._chosen(period, where):
            if only is not None and not only(record):
                continue
            names = tuple(read(record) for read in readers)
            for depth in [len(names)] if whole_only else range(len(names) + 1):
                figures = found.setdefault(names[:depth], Figures())
                self._add(figures, record)
                if record.corrects is None and record.status != "refused":
                    if record.status == "ok" and record.duration_ms is not None:
                        latencies.setdefault(names[:depth], []).append(record.duration_ms)
                    cost = self._whole_cost(record)
                    if cost is not None:
                        paid.setdefault(names[:depth], []).append(cost)
        for names, figures in found.items():
            figures.latency = _ranks(latencies.get(names, []), latency)
            figures.costs = _ranks(paid.get(names, []), costs)
        return found

    def _reader(self, name: str) -> Callable[[UsageRecord], str]:
        return self._origin if name == "origin" else reader_of(name, self.zone)

    def _origin(self, record: UsageRecord) -> str:
        corrections = self._corrections.get(record.id)
        source = (corrections[-1] if corrections else record).cost_source
        return source or NONE

    def _whole_cost(self, record: UsageRecord) -> int | None:
        corrections = [each.cost_nano or 0 for each in self._corrections.get(record.id, ())]
        if record.cost_nano is None and not corrections:
            return None
        return (record.cost_nano or 0) + sum(corrections)

    def _add(self, figures: Figures, record: UsageRecord) -> None:
        cost, tokens = record.cost_nano, record.tokens
        size = 0
        if cost is not None:
            figures.nano += cost
        if tokens is not None:
            size = tokens.in_ + tokens.out
            figures.tokens_in += tokens.in_
            figures.tokens_out += tokens.out
            figures.tokens_cached += tokens.cached
            figures.tokens_cache_write += tokens.cache_write + tokens.cache_write_1h
            figures.tokens_reasoning += tokens.reasoning
        corrections = self._corrections.get(record.id, [])
        corrected = cost is None and bool(corrections)
        is_sized = tokens is not None or any(each.tokens is not None for each in corrections)
        if tokens is not None and (cost is not None or corrected):
            figures.priced_tokens += size
        if cost is not None and tokens is not None:
            figures.priced_nano += cost
        elif cost is not None and is_sized and record.corrects is None:
            figures.priced_nano += cost
        if is_sized and record.corrects is None:
            # Of corrections with tokens the cost is counted where they stand, as those are.
            figures.priced_nano += sum(each.cost_nano or 0 for each in corrections if each.tokens is None)
        figures.sent += record.corrects is None and record.attempts > 0
        if record.status == "refused":
            figures.refused += record.corrects is None
            figures.corrections += record.corrects is not None
            return
        figures.priced += cost is not None
        if record.corrects is not None:
            figures.corrections += 1
            return
        figures.calls += 1
        figures.calls_nano += self._whole_cost(record) or 0
        figures.unknown += cost is None and not corrected
        figures.errors += record.status in FAILED
        if record.attempts > 1:
            figures.retried += 1
            figures.retried_nano += self._whole_cost(record) or 0
            figures.retried_unknown += cost is None and not corrected
        figures.without_tokens += not is_sized
        figures.estimate_nano += _nano_of(record)
        if record.status == "ok" and record.duration_ms is not None:
            figures.answers += 1
            figures.answers_ms += record.duration_ms
        time = time_text(record)
        figures.first = min(filter(None, (figures.first, time)))
        figures.last = max(filter(None, (figures.last, time)))


class PlainWalk:
    """See `Walk`: of all groups, held in memory."""

    def __init__(self, levels: Mapping[tuple[str, ...], Figures], order: str, only: Collection[str]) -> None:
        self.total = levels[()]
        self.count = len(levels) - 1
        self._levels = levels
        self._order = order
        self._lacking = {*SUMS, "first", "last"}.difference(only) | {"first", "last"}

    def named(self, depth: int) -> bool:
        """See `Walk.named`."""
        return any(path[-1] != NONE for path in self._level(depth))

    def costs(self, depth: int) -> Iterator[int]:
        """See `Walk.costs`."""
        return (self._levels[path].nano for path in self._level(depth))

    def groups(self, depth: int) -> Iterator[tuple[str, Figures, int]]:
        """See `Walk.groups`."""
        for path in self._level(depth):
            figures = replace(self._levels[path])
            for name in self._lacking:
                setattr(figures, name, getattr(Figures(), name))
            yield path[-1], figures, sum(other[:-1] == path for other in self._levels if other)

    def _level(self, depth: int) -> list[tuple[str, ...]]:
        outers = self._level(depth - 1) if depth else [()]
        found = []
        for outer in outers:
            inner = [path for path in self._levels if path and path[:-1] == outer]
            found += sorted(inner, key=lambda path: (_ORDERS[self._order](self._levels[path]), path))
        return found


def _milliseconds(text: str | None) -> int | None:
    return None if text is None else (parse_instant(text) - _EPOCH) // timedelta(milliseconds=1)


def _nano_of(record: UsageRecord) -> int:
    return 0 if record.estimate is None else nano(record.estimate)


def _ranks(values: list[int], percentiles: Sequence[int]) -> dict[int, int]:
    if not values:
        return {}
    values = sorted(values)
    return {rank: values[max(0, -(-rank * len(values) // 100) - 1)] for rank in percentiles}
