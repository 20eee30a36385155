"""The calls of `budget log show`, in each format: as they are read where the format allows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from callmeter.cli.call_lines import call_line
from callmeter.cli.look import look_of
from callmeter.cli.reading import Clock, is_indexed, open_log, open_usage, require_log
from callmeter.cli.world import World
from callmeter.reports.call_list import call_list
from callmeter.reports.grouping import condition_of, within
from callmeter.reports.report import verifying, with_reading
from callmeter.store.usage_tail import Follower, Found, latest
from callmeter.words.errors import CallmeterError, UsageError
from callmeter.words.jsontext import dumps
from callmeter.words.period import Period
from callmeter.words.record import UsageRecord

if TYPE_CHECKING:
    from callmeter.store.index import UsageIndex

_PAUSE = 0.5
_STREAMED = ("text", "jsonl")


class CallStream:
    """Which calls to show, and how."""

    def __init__(self, world: World, log: str | None, clock: Clock, period: Period, conditions: Sequence[str]) -> None:
        self._world = world
        self._log = log
        self._clock = clock
        self._period = period
        self._conditions = conditions
        self._inside = within(period, clock.as_of)
        self._condition = condition_of(conditions, clock.zone, world.policy.aliases)
        self._look = look_of(world.out.stdout, world.env)

    def show(self, count: int | None) -> None:
        """The calls that are there; the last `count` if it is given. Raises UsageError when `--log` names no file."""
        out = self._world.out
        reader = open_log(self._world, self._log, self._period, self._clock)
        usage = self._usage() if count is None else None
        if count is not None:
            entries: Iterable[Found] = self._latest(count)
        elif usage is not None:
            entries = usage.entries(period=self._period, where=self._conditions)
        else:
            entries = (entry for entry in reader.entries() if self._matches(entry[0]))
        if out.format in _STREAMED:
            for entry in entries:
                out.text(self._line(entry))
        else:
            page = call_list((record for record, _ in entries), self._period, str(self._clock.zone))
            bad, twice = reader.bad_count, reader.duplicates
            if usage is not None:
                bad, twice = usage.reading.bad_lines, usage.reading.duplicates
            out.report(with_reading(page, bad, twice, self._log))
        bad = reader.bad_count if usage is None else usage.reading.bad_lines
        if out.format in _STREAMED and bad:
            lines = "1 line is no usage record" if bad == 1 else f"{bad:,} lines are no usage records"
            out.warn(f"{lines}: see `{verifying(self._log)}`")

    def follow(self, count: int) -> None:
        """The last `count` calls, then each as its line is written, until the process is stopped or stdout's reader
        goes away. Raises UsageError for a format that has an end, and when `--log` names no file."""
        out, world = self._world.out, self._world
        if out.format not in _STREAMED:
            raise UsageError(f"--follow has no end, and --format {out.format} wants one", "use `--format jsonl`")
        require_log(self._log)
        follower = Follower(self._log or world.paths.log)  # before the last lines are read: none is missed between
        shown = set()
        for entry in self._latest(count):
            shown.add(entry[0].id)
            out.text(self._line(entry))
        while True:
            for entry in follower.poll():
                if entry[0].id not in shown and self._matches(entry[0]):
                    out.text(self._line(entry))
            shown.clear()
            out.require_reader()
            world.sleep(_PAUSE)

    def _usage(self) -> UsageIndex | None:
        """The index, where that finds some of a long log's calls sooner."""
        period = self._period
        if period.start is None and period.end is None and self._clock.as_of is None and not self._conditions:
            return None
        # Nobody's error: without DuckDB, memory or a place for it, it only takes longer.
        with suppress(CallmeterError, ImportError):
            if is_indexed(self._world, self._log, period):
                return open_usage(self._world, self._log, self._clock)
        return None

    def _latest(self, count: int) -> list[Found]:
        return latest(self._log or self._world.paths.log, count, self._matches, self._period)

    def _matches(self, record: UsageRecord) -> bool:
        return (self._inside is None or self._inside(record)) and (self._condition is None or self._condition(record))

    def _line(self, entry: Found) -> str:
        record, line = entry
        if self._world.out.format == "jsonl":
            return _printable(line.decode("utf-8", "replace"))
        return call_line(record, self._clock.zone, self._look)


def _printable(text: str) -> str:
    """JSON that cannot drive a terminal and means the same: strings hold invisible characters as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\t" else dumps(c)[1:-1] for c in text)
