"""The columns of the usage index, and a record's row."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from callmeter.reports.grouping import FIELDS
from callmeter.reports.sums import FAILED
from callmeter.store.seen_ids import key_of
from callmeter.words.instant import parse_instant
from callmeter.words.money import nano
from callmeter.words.record import UsageRecord
from callmeter.words.tags import BUILT_IN

# Fields that calls are grouped by are columns of the same name.
TEXTS = FIELDS
PACES = 24
SKETCH, SKETCH_DIGITS = 16, "0123456789abcdef"
CORRECTION, REFUSED, ERROR, RETRIED, SENT, PRICED, SIZED, ANSWER = (1 << bit for bit in range(8))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# `source` and `line` name the line, `start` and `size` are its bytes in the source's text. `ident` is the id as 128
# bits, `rank` 64 of them that sort by time where ids do; `id` and `corrects` are None where `ident` and `target` say
# it all. Times count from 1970: `ms` in milliseconds, `recorded` in microseconds. Money is in nano-dollars. `kind` is
# made of the bits below; `pace` grows with the duration of an answer, by one for every three per cent.
# `tokens_cache_write` has both kinds in it. `prompt_sketch` is None where `sketch` says it all. `more` is a JSON object
# of the tags that have no column: as a map, it would take several times as long to read.
COLUMNS: Mapping[str, str] = {
    "source": "INTEGER",
    "line": "BIGINT",
    "start": "BIGINT",
    "size": "INTEGER",
    "ident": "UUID",
    "rank": "UBIGINT",
    "id": "VARCHAR",
    "ms": "BIGINT",
    "recorded": "BIGINT",
    "target": "UUID",
    "corrects": "VARCHAR",
    "cost": "BIGINT",
    "estimate": "BIGINT",
    "sized": "BOOLEAN",
    "tokens_in": "BIGINT",
    "tokens_out": "BIGINT",
    "tokens_cached": "BIGINT",
    "tokens_cache_write": "BIGINT",
    "tokens_cache_write_1h": "BIGINT",
    "tokens_reasoning": "BIGINT",
    "duration_ms": "BIGINT",
    "attempts": "BIGINT",
    "kind": "UTINYINT",
    "pace": "SMALLINT",
    "sketch": "UBIGINT",
    "prompt_sketch": "VARCHAR",
    **dict.fromkeys(TEXTS, "VARCHAR"),
    **{f"tag_{name}": "VARCHAR" for name in BUILT_IN},
    "more": "VARCHAR",
}


def row_of(record: UsageRecord, source: int, line: int, start: int, size: int) -> dict[str, object]:
    """A record's row, for JSON."""
    tokens = record.tokens
    ident = key_of(record.id)
    row: dict[str, object] = {
        "source": source,
        "line": line,
        "start": start,
        "size": size,
        "ident": _uuid(ident),
        "rank": ident >> 80 << 16 | ident & 0xFFFF,
        "id": None if record.id == _uuid(ident) else record.id,
        "ms": milliseconds(record.instant),
        "recorded": _recorded(record.recorded_at),
        "cost": record.cost_nano,
        "estimate": None if record.estimate is None else nano(record.estimate),
        "sized": tokens is not None,
        "tokens_in": 0 if tokens is None else tokens.in_,
        "tokens_out": 0 if tokens is None else tokens.out,
        "tokens_cached": 0 if tokens is None else tokens.cached,
        "tokens_cache_write": 0 if tokens is None else tokens.cache_write + tokens.cache_write_1h,
        "tokens_cache_write_1h": 0 if tokens is None else tokens.cache_write_1h,
        "tokens_reasoning": 0 if tokens is None else tokens.reasoning,
        "duration_ms": record.duration_ms,
        "attempts": record.attempts,
        **{name: getattr(record, name) for name in TEXTS},
        **{f"tag_{name}": record.tags.get(name) for name in BUILT_IN},
        "more": json.dumps(more) if (more := {k: v for k, v in record.tags.items() if k not in BUILT_IN}) else None,
    }
    row["kind"] = _kind(record)
    if record.status == "ok" and record.duration_ms is not None and record.corrects is None:
        row["pace"] = int(PACES * math.log2(record.duration_ms + 1)) if record.duration_ms > 0 else 0
    if record.corrects is not None:
        target = _uuid(key_of(record.corrects))
        row["target"] = target
        row["corrects"] = None if record.corrects == target else record.corrects
    if record.prompt_sketch is not None:
        is_plain = len(record.prompt_sketch) == SKETCH and not record.prompt_sketch.strip(SKETCH_DIGITS)
        row["sketch"] = int(record.prompt_sketch, 16) if is_plain else None
        row["prompt_sketch"] = None if is_plain else record.prompt_sketch
    return row


def _kind(record: UsageRecord) -> int:
    bits = {
        CORRECTION: record.corrects is not None,
        REFUSED: record.status == "refused",
        ERROR: record.status in FAILED,
        RETRIED: record.attempts > 1,
        SENT: record.attempts > 0,
        PRICED: record.cost is not None,
        SIZED: record.tokens is not None,
        ANSWER: record.status == "ok" and record.duration_ms is not None,
    }
    return sum(bit for bit, holds in bits.items() if holds)


def milliseconds(instant: datetime) -> int:
    """Whole milliseconds since 1970, cut as `text_of` cuts them."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def instant_at(ms: int) -> datetime:
    """The instant so many milliseconds after 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


def json_columns() -> str:
    """The columns as `read_json` wants them."""
    return "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items()) + "}"


def _uuid(key: int) -> str:
    text = f"{key:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _recorded(text: str | None) -> int | None:
    """What cannot be read as a time does not make a line unknown at any time."""
    if text is None:
        return None
    try:
        return microseconds(parse_instant(text))
    except ValueError:
        return None
