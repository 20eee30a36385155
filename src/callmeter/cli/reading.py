"""What the commands that read the usage log share: which log, whose zone, which now."""

from __future__ import annotations

import os
import shlex
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import typer

from callmeter.cli.ledgers import ledger_of
from callmeter.cli.waiting import told
from callmeter.cli.world import World
from callmeter.flows.recovery import recover
from callmeter.reports.report import Board, Report, with_reading
from callmeter.reports.usage import Usage
from callmeter.store.log_size import text_size
from callmeter.store.usage_log import LogReader, files_of, read_records, segments_of
from callmeter.words.errors import UsageError
from callmeter.words.period import Period, as_of, chosen_period, zone_named

if TYPE_CHECKING:
    from callmeter.store.index import UsageIndex

_Page = TypeVar("_Page", Report, Board)
# As commands call those of `options`; not every command has all of them.
_OPTIONS_OF_TIME = (
    "since",
    "until",
    "last",
    "month",
    "today",
    "yesterday",
    "this_week",
    "last_week",
    "this_month",
    "last_month",
)
# Seconds for which nobody minds that an index is not kept.
_LONG = 1.0
# So many bytes are read line by line in about a second, and indexed likewise.
_PLAIN = 100 << 20


class Clock:
    """`zone` is the policy's; `now` the world's or `--as-of`'s instant; `as_of` None unless that was given."""

    def __init__(self, world: World, text: str | None) -> None:
        self.zone: tzinfo = zone_named(world.policy.time_zone)
        self.as_of: datetime | None = None if text is None else as_of(text, self.zone)
        self.now: datetime = self.as_of or world.now()
        today = world.now().astimezone(self.zone).date()
        if self.now.astimezone(self.zone).date() > today:
            world.out.note(
                f"callmeter: note: --as-of {text} is still to come: days after {today} are shown without calls"
            )

    def period(self, ctx: typer.Context, default: str | None = None) -> Period:
        """The period that the command's options of time name; without any, the last span that is the `default`, or
        all time. Raises UsageError as `chosen_period` does."""
        named = {name: ctx.params[name] for name in _OPTIONS_OF_TIME if name in ctx.params}
        return chosen_period(self.now, self.zone, **named, default=default)


def open_log(world: World, log: str | None, period: Period, clock: Clock) -> LogReader:
    """The lines of the period that had been written at `--as-of`, from `--log` or the settings' log.

    Calls whose processes died are finished first, so that their cost is in the report.
    """
    require_log(log)
    if log is None and clock.as_of is None:
        _finish_dead_calls(world)
    end = period.end
    if clock.as_of is not None:
        after = clock.as_of + timedelta(microseconds=1)
        end = after if end is None else min(end, after)
    return read_records(log or world.paths.log, Period(period.start, end, period.label))


def open_usage(world: World, log: str | None, clock: Clock) -> UsageIndex:
    """What the log adds up to, at `--as-of`; from `--log` or the settings' log.

    Calls whose processes died are finished first, so that their cost is in the report.
    """
    require_log(log)
    if log is None and clock.as_of is None:
        _finish_dead_calls(world)
    from callmeter.store.index import UsageIndex

    path, directory = log or world.paths.log, _directory_of(world, log)
    begun = world.monotonic()
    tell = told(world, since=begun, scripts=False)
    usage = UsageIndex([path], directory, clock.zone, clock.as_of, world.policy.aliases, tell)
    if usage.unkept and world.monotonic() - begun >= _LONG:
        world.out.note(f"callmeter: the usage index is made anew for each report: {usage.unkept}")
    return usage


def is_indexed(world: World, log: str | None, period: Period) -> bool:
    """Whether a period's lines are so many, and the index so far, that it finds some of them sooner than reading all
    does. Raises FileProblem."""
    path = log or world.paths.log
    if text_size(path, period) < _PLAIN:
        return False
    from callmeter.store.index_steps import unread

    return unread(path, _directory_of(world, log)) <= _PLAIN


def _directory_of(world: World, log: str | None) -> str:
    """Where a log's usage index lies."""
    directory = world.paths.index
    if log is None or os.path.abspath(log) == os.path.abspath(world.paths.log):
        return directory
    from callmeter.store.index_folders import folder_of

    return folder_of(directory, log)


def show_usage(world: World, page: _Page, usage: Usage, log: str | None) -> None:
    """Show what was made of a log. Raises UsageError when `--log` names no file."""
    world.out.report(page_of(world, page, usage, log))


def page_of(world: World, page: _Page, usage: Usage, log: str | None) -> _Page:
    """The page with what its reader left out of the log. Raises UsageError when `--log` names no file."""
    reading = usage.reading
    if log is not None and not reading.files:
        raise no_log(log)
    if not reading.lines:
        hint = "make a call with `callmeter llm-call`, or run `callmeter demo`"
        world.out.note(f"callmeter: note: the usage log is empty: {hint}")
    return with_reading(page, reading.bad_lines, reading.duplicates, log)


def no_log(log: str) -> UsageError:
    """What `--log` is told when it names no file."""
    return UsageError(f"there is no usage log {log}", "name a file, or a glob of files in quotes", code="no_log")


def require_log(log: str | None) -> None:
    """Raises UsageError for a `--log` that names nothing to be read: for a directory, with the glob that names the logs
    in it, and for no name at all, since a variable that is not set does not mean one's own log."""
    if log is None:
        return
    if not log:
        raise UsageError("--log names no file", "name a file, or leave out `--log` to read your own log", code="no_log")
    if os.path.isdir(log):
        glob = shlex.quote(os.path.join(log, "usage*.jsonl*"))
        raise UsageError(f"--log {log} is a directory", f"name the logs in it: `--log {glob}`", code="no_log")
    if not os.path.lexists(log) and not files_of(log) and not segments_of(log):
        raise no_log(log)


def _finish_dead_calls(world: World) -> None:
    paths, ledger = world.paths, partial(ledger_of, world) if world.policy.quotas else None
    for problem in recover(paths.inflight, world.now(), ledger=ledger, recent=paths.recent).problems:
        world.out.warn(problem)
