"""What calls can be grouped and filtered by: tags, fields of the usage line, and buckets of time."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from operator import attrgetter

from callmeter.words.errors import UsageError
from callmeter.words.instant import parse_instant, text_of
from callmeter.words.period import UNITS, Period, bucket, bucket_label
from callmeter.words.record import UsageRecord
from callmeter.words.tags import tag_name

NONE = "(none)"
FIELDS = (
    "model",
    "served_model",
    "provider",
    "status",
    "key",
    "key_fingerprint",
    "host",
    "finish_reason",
    "error",
    "cost_source",
    "generation_id",
    "pool",
)
Reads = Callable[[UsageRecord], str]
_HOUR = timedelta(hours=1)
_MILLISECOND = timedelta(milliseconds=1)
_TITLES = {"week": "week from"}


def key_name(text: str, aliases: Mapping[str, str]) -> str:
    """A grouping's name in its one form: a field, a unit of time or a tag, aliases resolved. Raises UsageError."""
    name = tag_name(text)
    return aliases.get(name, name)


def title_of(name: str) -> str:
    """What stands over a grouping's column."""
    return _TITLES.get(name, name.replace("_", " "))


def column_names(names: Sequence[str], columns: Collection[str]) -> list[str]:
    """What the columns of groupings are called beside other columns: by their names, and `tag:cost` for a tag whose
    name one of the others has. No tag's name has a colon."""
    taken = {*columns, "row", "section"}
    return [f"tag:{name}" if name in taken else name for name in names]


def is_time(name: str) -> bool:
    """Whether a grouping is a unit of time, which sorts by itself."""
    return name in UNITS


def reader_of(name: str, zone: tzinfo) -> Reads:
    """What reads a grouping's value from a record; `(none)` where the record has none."""
    if name in UNITS:
        return _bucket_reader(name, zone)
    if name in FIELDS:
        field = attrgetter(name)
        return lambda record: field(record) or NONE
    return lambda record: record.tags.get(name) or NONE


def condition_of(
    where: Sequence[str], zone: tzinfo, aliases: Mapping[str, str]
) -> Callable[[UsageRecord], bool] | None:
    """What tells whether a record satisfies every `NAME=VALUE`; None when there is no condition.

    `*` stands for any text, `(none)` for a missing value; of several values for one name, one has to match.
    Raises UsageError for text without `=` and for bad names.
    """
    tests = [(reader_of(name, zone), matcher_of(values)) for name, values in patterns_of(where, aliases).items()]
    if not tests:
        return None
    return lambda record: all(matches(read(record)) for read, matches in tests)


def patterns_of(where: Sequence[str], aliases: Mapping[str, str]) -> dict[str, list[str]]:
    """The values of every `NAME=VALUE`, by name. Raises UsageError as `condition_of` does."""
    patterns: dict[str, list[str]] = {}
    for text in where:
        name, separator, value = text.partition("=")
        if not separator:
            raise UsageError(
                f"--where {text!r} is not NAME=VALUE", "write `--where agent=code` or `--where 'model=anthropic/*'`"
            )
        patterns.setdefault(key_name(name, aliases), []).append(value.strip())
    return patterns


def condition_on(name: str, value: str) -> str:
    """The `NAME=VALUE` that lets a group through. Others pass as well where its name holds a `*` or has blank ends."""
    bare = value.strip()
    return f"{name}={value}" if bare == value else f"{name}=*{bare}*"


def within(period: Period, as_of: datetime | None) -> Callable[[UsageRecord], bool] | None:
    """What tells whether a record lies in the period and was known at `as_of`; None when every record does."""
    if period.start is None and period.end is None and as_of is None:
        return None
    start = None if period.start is None else bound_text(period.start)
    end = None if period.end is None else bound_text(period.end)
    if as_of is not None:
        after = as_of + timedelta(microseconds=1)
        end = bound_text(after) if period.end is None or after < period.end else end

    def inside(record: UsageRecord) -> bool:
        if as_of is not None and record.recorded_at is not None and _instant(record.recorded_at, as_of) > as_of:
            return False
        time = time_text(record)
        return (start is None or start <= time) and (end is None or time < end)

    return inside


def time_text(record: UsageRecord) -> str:
    """When a call began, in the one shape that sorts by time."""
    time = record.timestamp
    return time if _is_plain(time) else text_of(parse_instant(time))


def bound_text(bound: datetime) -> str:
    """A bound to compare `time_text` with: the first millisecond that is not before it."""
    return text_of(bound if bound.microsecond % 1000 == 0 or bound.year == 9999 else bound + _MILLISECOND)


def _is_plain(time: str) -> bool:
    """Whether a time is written as callmeter writes it: `2026-11-21T09:30:01.123Z`."""
    return len(time) == 24 and time[23] == "Z" and time[10] == "T" and time[19] == "." and time[5] != "W"


def _instant(text: str, default: datetime) -> datetime:
    try:
        return parse_instant(text)
    except ValueError:
        return default


def matcher_of(values: Sequence[str]) -> Callable[[str], bool]:
    """What tells whether a text is one of the values, in which `*` stands for any text."""
    exact = frozenset(value for value in values if "*" not in value)
    patterns = [value for value in values if "*" in value]
    if not patterns:
        return exact.__contains__
    either = "|".join(".*".join(map(re.escape, value.split("*"))) for value in patterns)
    matches = re.compile(either, re.DOTALL).fullmatch
    return lambda text: text in exact or matches(text) is not None


def _bucket_reader(unit: str, zone: tzinfo) -> Reads:
    """Reads a record's bucket of time. Answers are kept for each hour of UTC that lies in one bucket as a whole."""
    known: dict[str, str | None] = {}

    def read(record: UsageRecord) -> str:
        time = record.timestamp
        hour = time[:13] if _is_plain(time) else ""
        label = known.get(hour)
        if label is None:
            instant = parse_instant(time)
            start, end = bucket(instant, unit, zone)
            label = bucket_label(start, unit, zone)
            if hour and hour not in known:
                whole = instant.replace(minute=0, second=0, microsecond=0)
                known[hour] = label if start <= whole and end - whole >= _HOUR else None
        return label

    return read
