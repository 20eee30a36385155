"""Plain lines as rows of the usage index, in SQL.

What a line means is `parse_record`'s to say. SQL takes a line only if writing its values again, in the one shape in
which callmeter writes lines, gives the same bytes: then its values are beyond doubt, and the same as `parse_record`'s.
Money never goes through a binary float unchecked for the same reason.

Only the order of tags is free, which depends on who called. `names` are tags in the order that most lines have; a line
in that order is compared as a whole. Of a line in another order, all but the tags is compared; and its tags are what
was read of them, because their texts are all in it, between quotes, and leave no byte for anything else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from callmeter.reports.sums import FAILED
from callmeter.store.index_columns import (
    ANSWER,
    COLUMNS,
    CORRECTION,
    ERROR,
    PACES,
    PRICED,
    REFUSED,
    RETRIED,
    SENT,
    SIZED,
    SKETCH,
    SKETCH_DIGITS,
    TEXTS,
)
from callmeter.words.tags import BUILT_IN
from callmeter.words.usage import COST_SOURCES, FIELDS, MAX_LINE, STATUSES, TOKENS, VERSION

_NUMBERS = ("duration_ms", "first_token_ms", "attempts")
_MONEY = ("cost", "estimate")
# Texts that every line of callmeter's own has; and the last fields, which few lines have.
_ALWAYS = ("provider", "model", "cost_source", "status")
_RARE = FIELDS[FIELDS.index("corrects") :]
_QUOTE = "'\"'"
_AROUND = 6  # bytes of a tag beside its name and value: quotes, a colon, a comma
_TIME = "%Y-%m-%dT%H:%M:%S.%gZ"
# A line's beginning, before the id, the time and the tags; and the size of all that.
_HEAD = (f'{{"v":{VERSION},"id":"', '","timestamp":"', '","tags":{')
_HEAD_SIZE = sum(map(len, _HEAD)) + len("01a0c669-8800-7417-81c9-000000000000") + len("2026-09-22T00:00:00.000Z")


def plain_rows(lines: str, numbers: str, names: Sequence[str]) -> str:
    """A query for the rows of the plain lines of a relation `lines`, in its order.

    `numbers` says what `n`, `start` and `size` of a line are, if `lines` has more than its `text`. `names` are tags:
    letters, digits, `_` and `.`; a line with others is not plain. Parameters of the query are `source`, and `line` and
    `start`, those before the first line.
    """
    names = [*dict.fromkeys([*names, *BUILT_IN])]
    columns = ", ".join(f"({value})::{COLUMNS[name]} AS {name}" for name, value in _row(names).items())
    money = ", ".join(f"{_decimal(f'x.{name}')} AS {name}_text" for name in _MONEY)
    # The window keeps conditions from moving below it, where each of them would parse the line anew.
    return f"""
        SELECT {columns} FROM (
            SELECT *, row_number() OVER () AS place, {numbers} FROM (
                SELECT *, x.tags AS tags, x.tokens AS tokens, {money}, TRY_CAST(x.timestamp AS TIMESTAMP) AS began,
                    TRY_CAST(x.recorded_at AS TIMESTAMP) AS written, TRY_CAST(x.id AS UUID) AS ident,
                    TRY_CAST(x.corrects AS UUID) AS target
                FROM (SELECT *, TRY(json_transform(text, '{json.dumps(_shape(names))}')) AS x FROM {lines})
            )
        )
        WHERE {_SOUND} AND (text = {_again(names)} OR {_in_another_order(names)})
    """


def _shape(names: Sequence[str]) -> dict[str, object]:
    shape: dict[str, object] = dict.fromkeys(FIELDS[1:], "VARCHAR")
    # What does not fit is NULL, and so not the same when it is written again: what is negative, or beyond all use.
    shape.update(dict.fromkeys(_NUMBERS, "UINTEGER"), tokens=dict.fromkeys(TOKENS, "UINTEGER"))
    shape.update(dict.fromkeys(_MONEY, "DOUBLE"), tags=dict.fromkeys(names, "VARCHAR"))
    return shape


def _decimal(value: str) -> str:
    """A number as callmeter writes it, without an exponent.

    DuckDB writes a binary float with as few digits as tell it from all others, and from 0.0001 on without exponent.
    """
    exact = f"rtrim(rtrim(TRY_CAST({value} AS DECIMAL(15,12))::VARCHAR, '0'), '.')"
    return f"CASE WHEN abs({value}) >= 0.0001 AND {value} <> trunc({value}) THEN {value}::VARCHAR ELSE {exact} END"


def _again(names: Sequence[str]) -> str:
    """The line as callmeter would write it from the values `x`, with its tags in this order."""
    first, *others = names
    tags = [f"""'"{first}":"'""", f'tags."{first}"']
    for name in others:
        tags += [f"""if(tags."{name}" IS NULL, NULL, '","{name}":"')""", f'tags."{name}"']
    return f"concat({', '.join([*_head(), *tags, _QUOTE, *_rest()])})"


def _in_another_order(names: Sequence[str]) -> str:
    """Whether the line is the same but for the order of its tags.

    JSON without backslashes, so that each quote begins or ends a text: what stands before and after the tags is then
    nothing else. A value that was no text is two bytes shorter than a text; so there would be room for more, but not
    for the text that is looked for: unless that is no tag, but a field.
    """
    size = " + ".join(f'coalesce(strlen(tags."{name}") + {len(name) + _AROUND}, 0)' for name in names)
    texts = []
    for name in names:
        value = f'tags."{name}"'
        found = f"""NOT contains({value}, '"') AND contains(text, '"{name}":"' || {value} || '"')"""
        texts.append(f"({value} IS NULL{'' if name in FIELDS or name in TOKENS else f' OR {found}'})")
    rest = f"concat({', '.join(_rest())})"
    return f"""(
        starts_with(text, concat({", ".join(_head())})) AND ends_with(text, {rest})
        AND strlen(text) = {_HEAD_SIZE} + greatest(0, {size} - 1) + strlen({rest}) AND {" AND ".join(texts)}
    )"""


def _head() -> list[str]:
    return [f"'{_HEAD[0]}'", "ident", f"'{_HEAD[1]}'", f"strftime(began, '{_TIME}')", f"'{_HEAD[2]}'"]


def _rest() -> list[str]:
    """What follows the tags.

    Every piece costs time for every line: so a text's closing quote is left to what follows it, and fields that few
    lines have are one piece of all others.
    """
    pieces = ["'}'"]
    is_open = False  # whether a quote is still to be closed
    for name in FIELDS[FIELDS.index("tags") + 1 : FIELDS.index(_RARE[0])]:
        piece, is_open = _member(name, is_open)
        pieces += piece
    end = "'\"}'" if is_open else "'}'"
    rare: list[str] = []
    for name in _RARE:
        piece, is_open = _member(name, is_open)
        rare += piece
    absent = " AND ".join(f"x.{name} IS NULL" for name in _RARE)
    return [*pieces, f"if({absent}, {end}, concat({', '.join(rare)}, {end}))"]


def _member(name: str, is_open: bool) -> tuple[list[str], bool]:
    """A member of a line, as arguments of `concat`; and whether it leaves a quote to be closed."""
    value = f'x."{name}"'
    close = '"' if is_open else ""
    before = f'{close},"{name}":'
    if name == "tokens":
        parts = ", ".join(f"""'{"," if part != TOKENS[0] else ""}"{part}":', tokens['{part}']""" for part in TOKENS)
        return [f"if(tokens IS NULL, '{close}', concat('{before}{{', {parts}, '}}'))"], False
    if name in _MONEY:
        unknown = f"if(contains(text, ',\"{name}\":null'), '{before}null', '{close}')"
        return [f"if({value} IS NULL, {unknown}, '{before}')", f"{name}_text"], False
    if name in _NUMBERS:
        return [f"if({value} IS NULL, '{close}', '{before}')", value], False
    # A line without one of these is none of callmeter's own.
    if name in _ALWAYS:
        return [f"""'{before}"'""", value], True
    # The quote before it stays open if there is no such field.
    if is_open:
        return [f"""if({value} IS NULL, NULL, '{before}"')""", value], True
    return [f"""if({value} IS NULL, NULL, '{before}"')""", value, f"if({value} IS NULL, NULL, {_QUOTE})"], False


def _one_of(value: str, words: Iterable[str]) -> str:
    # Not IN, which becomes a join.
    return "(" + " OR ".join(f"{value} = '{word}'" for word in words) + ")"


# What `parse_record` asks for beyond types; that ids and times have the one shape from which they can be told; and
# that money has so few digits that a binary float, which JSON's numbers go through here, loses none.
_SOUND = f"""
    size <= {MAX_LINE} AND NOT contains(text, '\\')
    AND ident IS NOT NULL AND year(began) BETWEEN 1000 AND 9998
    AND (x.corrects IS NULL OR x.corrects = target::VARCHAR)
    AND (x.recorded_at IS NULL OR x.recorded_at = strftime(written, '{_TIME}'))
    AND {_one_of("x.status", STATUSES)} AND {_one_of("x.cost_source", COST_SOURCES)}
    AND (x.cost IS NULL OR x.cost >= 0 OR x.corrects IS NOT NULL)
    AND (x.cost IS NULL OR abs(x.cost) < 1000 AND strlen(cost_text) <= 14)
    AND (x.estimate IS NULL OR abs(x.estimate) < 1000 AND strlen(estimate_text) <= 14)
    AND (x.prompt_sketch IS NULL
        OR strlen(x.prompt_sketch) = {SKETCH} AND translate(x.prompt_sketch, '{SKETCH_DIGITS}', '') = '')
"""


def _row(names: Sequence[str]) -> dict[str, str]:
    def count(*parts: str) -> str:
        return " + ".join(f"coalesce(tokens['{part}'], 0)::BIGINT" for part in parts)

    def money(name: str) -> str:
        # Of so few digits, all of this is exact.
        return f"ceil(round(x.{name} * 1e12) / 1000)"

    return {
        "source": "$source",
        "line": "$line + n",
        "start": "$start + start",
        "size": "size",
        "ident": "ident",
        "rank": "((ident::UHUGEINT >> 80) << 16 | (ident::UHUGEINT & 65535))",
        "id": "NULL",
        "ms": "epoch_ms(began)",
        "recorded": "epoch_us(written)",
        "target": "target",
        "corrects": "NULL",
        "cost": money("cost"),
        "estimate": money("estimate"),
        "sized": "tokens IS NOT NULL",
        "tokens_in": count("in"),
        "tokens_out": count("out"),
        "tokens_cached": count("cached"),
        "tokens_cache_write": count("cache_write", "cache_write_1h"),
        "tokens_cache_write_1h": count("cache_write_1h"),
        "tokens_reasoning": count("reasoning"),
        "duration_ms": "x.duration_ms",
        "attempts": "coalesce(x.attempts, 1)",
        "kind": f"""{CORRECTION} * (target IS NOT NULL)::INT + {REFUSED} * (x.status = 'refused')::INT
            + {ERROR} * {_one_of("x.status", sorted(FAILED))}::INT + {RETRIED} * (x.attempts > 1)::INT
            + {SENT} * (x.attempts > 0)::INT + {PRICED} * (x.cost IS NOT NULL)::INT
            + {SIZED} * (tokens IS NOT NULL)::INT + {ANSWER} * (x.status = 'ok' AND x.duration_ms IS NOT NULL)::INT
        """.replace("x.attempts", "coalesce(x.attempts, 1)"),
        "pace": f"if(x.status = 'ok' AND target IS NULL, trunc({PACES} * log2(x.duration_ms::BIGINT + 1)), NULL)",
        "sketch": "('0x' || x.prompt_sketch)",
        "prompt_sketch": "NULL",
        **{name: f"x.{name}" for name in TEXTS},
        **{f"tag_{name}": f'tags."{name}"' for name in BUILT_IN},
        "more": _more([name for name in names if name not in BUILT_IN]),
    }


def _more(names: Sequence[str]) -> str:
    """The map of tags that have no column."""
    if not names:
        return "NULL"
    entries = ", ".join(f"""{{'k': '{name}', 'v': tags."{name}"}}""" for name in names)
    some = " OR ".join(f'tags."{name}" IS NOT NULL' for name in names)
    return f"if({some}, map_from_entries(list_filter([{entries}], lambda each: each.v IS NOT NULL)), NULL)"
