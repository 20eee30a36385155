"""The columns of the usage index, and how a usage line becomes a row: in SQL for plain lines, here for all others.

What a line means is `parse_record`'s to say. SQL takes a line only if writing its values again, in the one shape in
which callmeter writes lines, gives the same bytes: then its values are beyond doubt, and the same as `parse_record`'s.
Money never goes through a binary float unchecked for the same reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from callmeter.reports.sums import FAILED
from callmeter.store.seen_ids import key_of
from callmeter.words.instant import parse_instant
from callmeter.words.money import nano
from callmeter.words.record import UsageRecord
from callmeter.words.tags import BUILT_IN
from callmeter.words.usage import COST_SOURCES, FIELDS, MAX_LINE, STATUSES, TOKENS, VERSION

# Fields that calls are grouped by, in columns of the same name.
TEXTS = (
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
_PACES = 24
_SKETCH, _DIGITS = 16, "0123456789abcdef"
_NUMBERS = ("duration_ms", "first_token_ms", "attempts")
_MONEY = ("cost", "estimate")
# Texts that every line of callmeter's own has; and the last fields, which few lines have.
_ALWAYS = ("id", "timestamp", "provider", "model", "cost_source", "status")
_RARE = FIELDS[FIELDS.index("corrects") :]
CORRECTION, REFUSED, ERROR, RETRIED, SENT, PRICED, SIZED, ANSWER = (1 << bit for bit in range(8))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# `source` and `line` name the line, `start` and `size` are its bytes in the source's text. `ident` is the id as 128
# bits, `rank` 64 of them that sort by time where ids do; `id` and `corrects` are None where `ident` and `target` say
# it all. Times count from 1970: `ms` in milliseconds, `recorded` in microseconds. Money is in nano-dollars. `kind` is
# made of the bits below; `pace` grows with the duration of an answer, by one for every three per cent.
# `tokens_cache_write` has both kinds in it. `prompt_sketch` is None where `sketch` says it all.
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
    "more": "MAP(VARCHAR, VARCHAR)",
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
        "more": {name: value for name, value in record.tags.items() if name not in BUILT_IN} or None,
    }
    row["kind"] = _kind(record)
    if record.status == "ok" and record.duration_ms is not None and record.corrects is None:
        row["pace"] = int(_PACES * math.log2(record.duration_ms + 1)) if record.duration_ms > 0 else 0
    if record.corrects is not None:
        target = _uuid(key_of(record.corrects))
        row["target"] = target
        row["corrects"] = None if record.corrects == target else record.corrects
    if record.prompt_sketch is not None:
        is_plain = len(record.prompt_sketch) == _SKETCH and not record.prompt_sketch.strip(_DIGITS)
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


def plain_rows(lines: str, numbers: str) -> str:
    """A query for the rows of the plain lines of a relation `lines`, in its order.

    `numbers` says what `n`, `start` and `size` of a line are, if `lines` has more than its `text`. Parameters of the
    query are `source`, and `line` and `start`, those before the first line.
    """
    columns = ", ".join(f"({value})::{COLUMNS[name]} AS {name}" for name, value in _row().items())
    # The window keeps conditions from moving below it, where each of them would parse the line anew.
    return f"""
        SELECT {columns} FROM (
            SELECT *, row_number() OVER () AS place, {numbers} FROM (
                SELECT *, CASE WHEN pairs <> {_count_of_built_in()}
                    THEN json_transform(x.tags, '"MAP(VARCHAR, VARCHAR)"') END AS every_tag
                FROM (
                    SELECT *, TRY_CAST(x.timestamp AS TIMESTAMP) AS began,
                        TRY_CAST(x.recorded_at AS TIMESTAMP) AS written, x.tokens AS tokens,
                        TRY_CAST(x.id AS UUID) AS ident, TRY_CAST(x.corrects AS UUID) AS target,
                        TRY(json_transform(x.tags, '{json.dumps(dict.fromkeys(BUILT_IN, "VARCHAR"))}')) AS built_in,
                        (strlen(x.tags) - strlen(replace(x.tags, '":"', ''))) // 3 AS pairs
                    FROM (SELECT *, TRY(json_transform(text, '{json.dumps(_shape())}')) AS x FROM {lines})
                )
            )
        )
        WHERE text = {_again()} AND {_SOUND} AND {_TAGS_ARE_TEXTS}
    """


def _shape() -> dict[str, object]:
    shape: dict[str, object] = dict.fromkeys(FIELDS, "VARCHAR")
    # What does not fit is NULL, and so not the same when it is written again: what is negative, or beyond all use.
    shape.update(dict.fromkeys(_NUMBERS, "UINTEGER"), tags="JSON", tokens=dict.fromkeys(TOKENS, "UINTEGER"))
    # Twelve places hold what providers charge; and of fifteen digits a binary float, which JSON's numbers go through
    # here, loses none.
    shape.update(dict.fromkeys(_MONEY, "DECIMAL(15,12)"))
    return shape


def _count_of_built_in() -> str:
    return "(" + " + ".join(f'(built_in."{name}" IS NOT NULL)::BIGINT' for name in BUILT_IN) + ")"


def _again() -> str:
    """The line as callmeter would write it from the values `x`.

    Every piece costs time for every line: so a text's closing quote is left to what follows it, and fields that few
    lines have are one piece of all others.
    """
    pieces = [f"'{{\"v\":{VERSION}'"]
    is_open = False  # whether a quote is still to be closed
    common = [name for name in FIELDS[1:] if name not in _RARE]
    for name in common:
        piece, is_open = _member(name, is_open)
        pieces += piece
    end = "'\"}'" if is_open else "'}'"
    rare: list[str] = []
    for name in _RARE:
        piece, is_open = _member(name, is_open)
        rare += piece
    absent = " AND ".join(f"x.{name} IS NULL" for name in _RARE)
    return f"concat({', '.join(pieces)}, if({absent}, {end}, concat({', '.join(rare)}, {end})))"


def _member(name: str, is_open: bool) -> tuple[list[str], bool]:
    """A member of a line, as arguments of `concat`; and whether it leaves a quote to be closed."""
    value = f'x."{name}"'
    close = '"' if is_open else ""
    before = f'{close},"{name}":'
    if name == "tags":
        return [f"'{before}'", value], False
    if name == "tokens":
        parts = ", ".join(f"""'{"," if part != TOKENS[0] else ""}"{part}":', tokens['{part}']""" for part in TOKENS)
        return [f"if(tokens IS NULL, '{close}', concat('{before}{{', {parts}, '}}'))"], False
    if name in _MONEY:
        unknown = f"if(contains(text, ',\"{name}\":null'), '{before}null', '{close}')"
        return [f"if({value} IS NULL, {unknown}, '{before}')", f"rtrim(rtrim({value}::VARCHAR, '0'), '.')"], False
    if name in _NUMBERS:
        return [f"if({value} IS NULL, '{close}', '{before}')", value], False
    # A line without one of these is none of callmeter's own.
    if name in _ALWAYS:
        return [f"""'{before}"'""", value], True
    # The quote before it stays open if there is no such field.
    if is_open:
        return [f"""if({value} IS NULL, NULL, '{before}"')""", value], True
    return [f"""if({value} IS NULL, NULL, '{before}"')""", value, f"""if({value} IS NULL, NULL, '"')"""], False


def _one_of(value: str, words: Iterable[str]) -> str:
    # Not IN, which becomes a join.
    return "(" + " OR ".join(f"{value} = '{word}'" for word in words) + ")"


# What `parse_record` asks for beyond types; and that ids and times have the one shape from which they can be told.
_SOUND = f"""
    size <= {MAX_LINE}
    AND x.id = ident::VARCHAR
    AND (x.corrects IS NULL OR x.corrects = target::VARCHAR)
    AND x.timestamp = strftime(began, '%Y-%m-%dT%H:%M:%S.%gZ') AND year(began) BETWEEN 1000 AND 9998
    AND (x.recorded_at IS NULL OR x.recorded_at = strftime(written, '%Y-%m-%dT%H:%M:%S.%gZ'))
    AND (x.status IS NULL OR {_one_of("x.status", STATUSES)})
    AND (x.cost_source IS NULL OR {_one_of("x.cost_source", COST_SOURCES)})
    AND (x.cost IS NULL OR x.cost >= 0 OR x.corrects IS NOT NULL)
    AND (x.prompt_sketch IS NULL
        OR strlen(x.prompt_sketch) = {_SKETCH} AND translate(x.prompt_sketch, '{_DIGITS}', '') = '')
"""


# Without backslashes, no value holds a quote: a member whose value is a text takes four of them, any other member two
# more or fewer. Names that stand twice give no map.
_TAGS_ARE_TEXTS = f"""
    NOT contains(x.tags, '\\') AND strlen(x.tags) - strlen(replace(x.tags, '"', '')) = 4 * pairs
    AND (pairs = {_count_of_built_in()} OR every_tag IS NOT NULL)
"""


def _row() -> dict[str, str]:
    def tokens(*names: str) -> str:
        return " + ".join(f"coalesce(tokens['{name}'], 0)::BIGINT" for name in names)

    def money(name: str) -> str:
        # Of so few digits, all of this is exact.
        return f"ceil(round(x.{name}::DOUBLE * 1e12) / 1000)"

    return {
        "source": "$source",
        "line": "$line + n",
        "start": "$start + start",
        "size": "size",
        "ident": "ident",
        "rank": "('0x' || x.id[1:8] || x.id[10:13] || x.id[33:36])",
        "id": "NULL",
        "ms": "epoch_ms(began)",
        "recorded": "epoch_us(written)",
        "target": "target",
        "corrects": "NULL",
        "cost": money("cost"),
        "estimate": money("estimate"),
        "sized": "tokens IS NOT NULL",
        "tokens_in": tokens("in"),
        "tokens_out": tokens("out"),
        "tokens_cached": tokens("cached"),
        "tokens_cache_write": tokens("cache_write", "cache_write_1h"),
        "tokens_cache_write_1h": tokens("cache_write_1h"),
        "tokens_reasoning": tokens("reasoning"),
        "duration_ms": "x.duration_ms",
        "attempts": "coalesce(x.attempts, 1)",
        "kind": f"""{CORRECTION} * (target IS NOT NULL)::INT + {REFUSED} * (x.status = 'refused')::INT
            + {ERROR} * {_one_of("x.status", sorted(FAILED))}::INT + {RETRIED} * (x.attempts > 1)::INT
            + {SENT} * (x.attempts > 0)::INT + {PRICED} * (x.cost IS NOT NULL)::INT
            + {SIZED} * (tokens IS NOT NULL)::INT + {ANSWER} * (x.status = 'ok' AND x.duration_ms IS NOT NULL)::INT
        """.replace("x.status", "coalesce(x.status, 'ok')").replace("x.attempts", "coalesce(x.attempts, 1)"),
        "pace": f"""if(coalesce(x.status, 'ok') = 'ok' AND target IS NULL,
            trunc({_PACES} * log2(x.duration_ms::BIGINT + 1)), NULL)""",
        "sketch": "('0x' || x.prompt_sketch)",
        "prompt_sketch": "NULL",
        **{name: f"x.{name}" for name in TEXTS},
        "model": "coalesce(x.model, '')",
        "provider": "coalesce(x.provider, '')",
        "status": "coalesce(x.status, 'ok')",
        "cost_source": "coalesce(x.cost_source, 'unknown')",
        **{f"tag_{name}": f'built_in."{name}"' for name in BUILT_IN},
        "more": f"""map_from_entries(list_filter(map_entries(every_tag),
            lambda each: NOT list_contains([{", ".join(map(repr, BUILT_IN))}], each.key)))""",
    }


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
