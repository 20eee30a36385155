"""What `budget log close` and `budget log prune` share: one log, its segments, and how long they are kept."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from datetime import datetime, timedelta

from callmeter.cli.world import World
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.store.segments import Segment
from callmeter.store.usage_log import is_live
from callmeter.words.errors import UsageError

# Disputes with a provider, and the audit of a quarter, need the calls themselves.
SHORTEST = 90


def one_log(world: World, log: str | None) -> str:
    """The path of the log that is to be changed. Raises UsageError for a glob, since each host closes its own, and for
    what is no live log by its name."""
    path = log or world.paths.log
    if glob.has_magic(path) and not os.path.exists(path):
        raise UsageError(f"{path} is a glob, and one log is wanted", "name the log itself, such as `usage.jsonl`")
    if not is_live(path):
        raise UsageError(f"{path} is not named like a log that is being written", "name one such as `usage.jsonl`")
    return os.path.abspath(path)


def cutoff(world: World, keep: str | None, force: bool) -> datetime:
    """The instant before which calls may be deleted. Raises UsageError for less than 90 days without `force`."""
    if keep is None:
        days = world.settings.number("retention_days")
    else:
        unit = {"d": 1, "w": 7}.get(keep[-1:], 0)
        number = keep[:-1] if unit else keep
        if not number.isascii() or not number.isdigit() or len(number) > 5:
            raise UsageError(f"--keep {keep!r} is not a span of days", "write `--keep 400d` or `--keep 60w`")
        days = int(number) * (unit or 1)
    if days < SHORTEST and not force:
        raise UsageError(
            f"calls would be kept for {days} days, and {SHORTEST} are the least",
            "add `--force` if nobody will ask for them any more",
        )
    return world.now() - timedelta(days=days)


def segment_list(title: str, segments: Iterable[Segment], notes: Iterable[str] = ()) -> Report:
    """A row for each segment."""
    columns = [
        Column("segment", "segment", Kind.TEXT),
        Column("lines", "lines", Kind.COUNT),
        Column("cost", "cost", Kind.MONEY),
        Column("first", "first call", Kind.INSTANT, optional=1),
        Column("last", "last call", Kind.INSTANT),
        Column("bytes", "bytes", Kind.COUNT, optional=2),
    ]
    rows = [
        Row(
            {
                "segment": segment.name,
                "lines": segment.lines,
                "cost": segment.cost,
                "first": segment.first,
                "last": segment.last,
                "bytes": segment.size,
            }
        )
        for segment in segments
    ]
    return Report(title, columns, rows, notes=list(notes))
