"""Plain lines as rows of the usage index, in SQL.

What a line means is `parse_record`'s to say. SQL takes a line only if writing its values again, in the one shape in
which callmeter writes lines, gives the same bytes: then its values are beyond doubt, and the same as `parse_record`'s.
Money never goes through a binary float unchecked for the same reason.

What is written is what lines of the piece usually have: a line that has more, or lacks what all others have, is not the
same. Only the order of tags is free, which depends on who called. A line whose tags are in the usual order is compared
as a whole. Of a line in another order, all but the tags is compared; and its tags are what was read of them, because
their texts are all in it, between quotes, and leave no byte for anything else.

Plain lines have no backslash, so each quote begins or ends a text. A value that is no text but was read as one (a list,
an object) has its quotes where the line, if it is the same, has them the other way round: letters would follow a quote
without a comma or colon, in one of the two, and neither would be JSON. So no such value gives the same line.
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
from callmeter.store.index_usual import Usual
from callmeter.words.tags import BUILT_IN
from callmeter.words.usage import COST_SOURCES, FIELDS, MAX_LINE, STATUSES, TOKENS, VERSION

_NUMBERS = ("duration_ms", "first_token_ms", "attempts")
_MONEY = ("cost", "estimate")
_IDS = ("id", "corrects")
_TIMES = ("timestamp", "recorded_at")
# What every line of callmeter's own has.
_NEEDED = frozenset(("id", "timestamp", "tags", "provider", "model", "cost", "cost_source", "status"))
_QUOTE = "'\"'"
_AROUND = 6  # bytes of a tag beside its name and value: quotes, a colon, a comma
_TIME = "%Y-%m-%dT%H:%M:%S.%gZ"
# A line's beginning, before the id, the time and the tags; and the size of all that.
_HEAD = (f'{{"v":{VERSION},"id":"', '","timestamp":"', '","tags":{')
_HEAD_SIZE = sum(map(len, _HEAD)) + len("01a0c669-8800-7417-81c9-000000000000") + len("2026-09-22T00:00:00.000Z")


def plain_rows(lines: str, numbers: str, usual: Usual, *, careful: bool) -> str:
    """A query for the rows of the plain lines of a relation `lines`, in its order.

    `numbers` says what `n`, `start` and `size` of a line are, if `lines` has more than its `text`. Tags of `usual` are
    letters, digits, `_` and `.`; a line with others is not plain. Unless it is `careful`, a line that is no JSON fails
    the query. Parameters of it are `source`, and `line` and `start`, those before the first line.
    """
    query = _Plain(usual)
    columns = ", ".join(f"({value})::{COLUMNS[name]} AS {name}" for name, value in query.row().items())
    money = "".join(f", {query.money(name)} AS {name}_text" for name in _MONEY)
    meaning = f"json_transform(text, '{json.dumps(query.shape())}')"
    same = f"text = {query.again()}"
    if usual.mixed:
        same = f"({same} OR {query.in_another_order()})"
    # The window keeps conditions from moving below it, where each of them would parse the line anew.
    return f"""
        SELECT {columns} FROM (
            SELECT *, row_number() OVER () AS place, {numbers} FROM (
                SELECT *, x.tags AS tags, {query.field("tokens")} AS tokens{money}
                FROM (SELECT *, {f"TRY({meaning})" if careful else meaning} AS x FROM {lines})
            )
        )
        WHERE {query.sound()} AND {same}
    """


class _Plain:
    """The parts of the query, for lines as they usually are."""

    def __init__(self, usual: Usual) -> None:
        self._tags = usual.tags
        self._fields = _NEEDED.union(usual.fields)
        self._every_field = _NEEDED.union(usual.every_field)
        self._every_tag = usual.every_tag

    def field(self, name: str) -> str:
        """A field's value; NULL for one that no line is thought to have."""
        return f'x."{name}"' if name in self._fields else "NULL"

    def tag(self, name: str) -> str:
        """A tag's value."""
        return f'tags."{name}"' if name in self._tags else "NULL"

    def money(self, name: str) -> str:
        """An amount as callmeter writes it, without an exponent.

        DuckDB writes a binary float with as few digits as tell it from all others, and from 0.0001 on without exponent.
        """
        if name not in self._fields:
            return "NULL::VARCHAR"
        value = self.field(name)
        exact = f"rtrim(rtrim(TRY_CAST({value} AS DECIMAL(15,12))::VARCHAR, '0'), '.')"
        return f"CASE WHEN abs({value}) >= 0.0001 AND {value} <> trunc({value}) THEN {value}::VARCHAR ELSE {exact} END"

    def shape(self) -> dict[str, object]:
        """What is read of a line."""
        kinds: dict[str, object] = dict.fromkeys(FIELDS[1:], "VARCHAR")
        # What does not fit is NULL, and so not the same when it is written again: what is negative, or beyond all use.
        kinds.update(dict.fromkeys(_NUMBERS, "UINTEGER"), tokens=dict.fromkeys(TOKENS, "UINTEGER"))
        kinds.update(dict.fromkeys(_MONEY, "DOUBLE"), tags=dict.fromkeys(self._tags or BUILT_IN[:1], "VARCHAR"))
        kinds.update(dict.fromkeys(_IDS, "UUID"))
        kinds.update(dict.fromkeys(_TIMES, "TIMESTAMP"))
        return {name: kind for name, kind in kinds.items() if name in self._fields}

    def again(self) -> str:
        """The line as callmeter would write it from the values `x`, with its tags in the usual order."""
        pieces: list[str] = []
        first = next((name for name in self._tags if name in self._every_tag), None)
        is_behind = False
        for name in self._tags if first else ():
            value, is_here = self.tag(name), f"{self.tag(name)} IS NULL"
            if name in self._every_tag:
                pieces += [f"""'{'","' if is_behind else '"'}{name}":"'""", value]
                is_behind = True
            elif is_behind:
                pieces += [f"""if({is_here}, NULL, '","{name}":"')""", value]
            else:
                pieces += [f"""if({is_here}, NULL, '"{name}":"')""", value, f"""if({is_here}, NULL, '",')"""]
        if first:
            pieces.append(_QUOTE)
        return f"concat({', '.join([*self._head(), *pieces, *self._rest()])})"

    def in_another_order(self) -> str:
        """Whether the line is the same but for the order of its tags.

        A value that was no text is two bytes shorter than a text; so there would be room for more, but not for the text
        that is looked for: unless that is no tag, but a field.
        """
        size = " + ".join(f"coalesce(strlen({self.tag(name)}) + {len(name) + _AROUND}, 0)" for name in self._tags)
        texts = []
        for name in self._tags:
            value = self.tag(name)
            found = f"""contains(text, '"{name}":"' || {value} || '"')"""
            texts.append(f"({value} IS NULL{'' if name in FIELDS or name in TOKENS else f' OR {found}'})")
        rest = f"concat({', '.join(self._rest())})"
        return f"""(
            starts_with(text, concat({", ".join(self._head())})) AND ends_with(text, {rest})
            AND strlen(text) = {_HEAD_SIZE} + greatest(0, {size} - 1) + strlen({rest}) AND {" AND ".join(texts)}
        )"""

    def _head(self) -> list[str]:
        return [f"'{_HEAD[0]}'", "x.id", f"'{_HEAD[1]}'", f"strftime(x.timestamp, '{_TIME}')", f"'{_HEAD[2]}'"]

    def _rest(self) -> list[str]:
        """What follows the tags. Every piece costs time for every line: so a text's closing quote is left to what
        follows it."""
        pieces = ["'}'"]
        is_open = False  # whether a quote is still to be closed
        for name in FIELDS[FIELDS.index("tags") + 1 :]:
            if name in self._fields:
                piece, is_open = self._member(name, is_open)
                pieces += piece
        return [*pieces, "'\"}'" if is_open else "'}'"]

    def _member(self, name: str, is_open: bool) -> tuple[list[str], bool]:
        """A member of a line, as arguments of `concat`; and whether it leaves a quote to be closed."""
        value = self.field(name)
        close = '"' if is_open else ""
        before = f'{close},"{name}":'
        is_sure = name in self._every_field
        if name == "tokens":
            opening = before + "{"
            parts = [f"""'{opening if part == TOKENS[0] else ","}"{part}":', tokens['{part}']""" for part in TOKENS]
            if is_sure:
                return [*parts, "'}'"], False
            return [f"if(tokens IS NULL, '{close}', concat({', '.join(parts)}, '}}'))"], False
        if name in _MONEY:
            if is_sure:
                return [f"'{before}'", f"coalesce({name}_text, 'null')"], False
            absent = f"if(contains(text, ',\"{name}\":null'), '{before}null', '{close}')"
            return [f"if({value} IS NULL, {absent}, '{before}')", f"{name}_text"], False
        if name in _NUMBERS:
            return [f"'{before}'" if is_sure else f"if({value} IS NULL, '{close}', '{before}')", value], False
        if name in _TIMES:
            value = f"strftime({value}, '{_TIME}')"
        if is_sure:
            return [f"""'{before}"'""", value], True
        # The quote before it stays open if there is no such field.
        if is_open:
            return [f"""if({value} IS NULL, NULL, '{before}"')""", value], True
        return [f"""if({value} IS NULL, NULL, '{before}"')""", value, f"if({value} IS NULL, NULL, {_QUOTE})"], False

    def sound(self) -> str:
        """What `parse_record` asks for beyond types; that times have the one shape from which they can be told; and
        that money has so few digits that a binary float, which JSON's numbers go through here, loses none."""
        corrects, sketch = self.field("corrects"), self.field("prompt_sketch")
        return f"""
            size <= {MAX_LINE} AND NOT contains(text, '\\') AND x.id IS NOT NULL
            AND year(x.timestamp) BETWEEN 1000 AND 9998
            AND {_one_of("x.status", STATUSES)} AND {_one_of("x.cost_source", COST_SOURCES)}
            AND (x.cost IS NULL OR x.cost >= 0 OR {corrects} IS NOT NULL)
            AND (x.cost IS NULL OR abs(x.cost) < 1000 AND strlen(cost_text) <= 14)
            AND (estimate_text IS NULL OR abs({self.field("estimate")}) < 1000 AND strlen(estimate_text) <= 14)
            AND ({sketch} IS NULL OR strlen({sketch}) = {SKETCH} AND translate({sketch}, '{SKETCH_DIGITS}', '') = '')
        """

    def row(self) -> dict[str, str]:
        """A row's columns."""
        sized, duration = "(tokens IS NOT NULL)", self.field("duration_ms")
        attempts, corrects = f"coalesce({self.field('attempts')}, 1)", self.field("corrects")

        def count(*parts: str) -> str:
            if "tokens" not in self._fields:
                return "0"
            return " + ".join(f"coalesce(tokens['{part}'], 0)::BIGINT" for part in parts)

        def money(name: str) -> str:
            # Of so few digits, all of this is exact.
            return f"ceil(round({self.field(name)} * 1e12) / 1000)"

        return {
            "source": "$source",
            "line": "$line + n",
            "start": "$start + start",
            "size": "size",
            "ident": "x.id",
            "rank": "((x.id::UHUGEINT >> 80) << 16 | (x.id::UHUGEINT & 65535))",
            "id": "NULL",
            "ms": "epoch_ms(x.timestamp)",
            "recorded": f"epoch_us({self.field('recorded_at')}::TIMESTAMP)",
            "target": corrects,
            "corrects": "NULL",
            "cost": money("cost"),
            "estimate": money("estimate"),
            "sized": sized,
            "tokens_in": count("in"),
            "tokens_out": count("out"),
            "tokens_cached": count("cached"),
            "tokens_cache_write": count("cache_write", "cache_write_1h"),
            "tokens_cache_write_1h": count("cache_write_1h"),
            "tokens_reasoning": count("reasoning"),
            "duration_ms": duration,
            "attempts": attempts,
            "kind": f"""if({corrects} IS NULL, 0, {CORRECTION}) + if(x.cost IS NULL, 0, {PRICED})
                + if({sized}, {SIZED}, 0)
                + CASE WHEN {attempts} = 1 THEN {SENT} WHEN {attempts} > 1 THEN {SENT + RETRIED} ELSE 0 END
                + CASE WHEN x.status = 'ok' THEN if({duration} IS NULL, 0, {ANSWER})
                    WHEN x.status = 'refused' THEN {REFUSED}
                    WHEN {_one_of("x.status", sorted(FAILED))} THEN {ERROR} ELSE 0 END""",
            "pace": f"""if(x.status = 'ok' AND {corrects} IS NULL,
                trunc({PACES} * log2({duration}::BIGINT + 1)), NULL)""",
            "sketch": f"('0x' || {self.field('prompt_sketch')})",
            "prompt_sketch": "NULL",
            **{name: self.field(name) for name in TEXTS},
            **{f"tag_{name}": self.tag(name) for name in BUILT_IN},
            "more": self._more([name for name in self._tags if name not in BUILT_IN]),
        }

    def _more(self, names: Sequence[str]) -> str:
        """The object of tags that have no column."""
        if not names:
            return "NULL"
        pairs = ", ".join(f"""'"{name}":"' || {self.tag(name)} || '"'""" for name in names)
        return f"'{{' || nullif(concat_ws(',', {pairs}), '') || '}}'"


def _one_of(value: str, words: Iterable[str]) -> str:
    # Not IN, which becomes a join.
    return "(" + " OR ".join(f"{value} = '{word}'" for word in words) + ")"
