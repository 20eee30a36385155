"""What calls could have cost less, from the rows of the usage index: `Usage.savings` and `Usage.answer_sizes` in SQL.

The question comes as tables of some thousand rows. The period is read in stretches of about a million lines, since it
takes room for each of them to tell who follows whom. Whatever a user wrote is a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import add
from typing import Any

from callmeter.reports.grouping import NONE
from callmeter.reports.savings_question import (
    IN_A_ROW,
    KEPT_MS,
    LEAST_CACHED,
    SAME_SIZE,
    Answer,
    AnswerSizes,
    Question,
    Saved,
    Saving,
)
from callmeter.reports.sums import FAILED
from callmeter.store.index_columns import CORRECTION, REFUSED
from callmeter.store.index_query import Query
from callmeter.store.index_relation import Asked, Relation

_AT_ONCE = 1_000_000
_HOUR, _DAY = 3_600_000, 86_400_000
_YEAR_1 = 62_135_596_800_000  # milliseconds from then to 1970: what is divided is not negative
_NO_LIMIT = (1 << 63) - 1
_CALL = f"(rows.kind & {CORRECTION | REFUSED}) = 0"
_WHOLE = f"{_CALL} AND rows.status = 'ok' AND sized"
_FAILED = " OR ".join(f"status = '{word}'" for word in sorted(FAILED))
# How many tokens have which amount; those of a part that exceeds its whole are none.
_COUNTS = {
    "in_": "greatest(tokens_in - tokens_cached - tokens_cache_write, 0)",
    "out": "greatest(tokens_out - tokens_reasoning, 0)",
    "cached": "tokens_cached",
    "write": "(tokens_cache_write - tokens_cache_write_1h)",
    "write_1h": "tokens_cache_write_1h",
    "reasoning": "tokens_reasoning",
}
_LARGEST = "greatest(tokens_in, tokens_out, tokens_cached, tokens_cache_write, tokens_reasoning)"
# What each kind would save, from 0 to `paid`, of a call with the columns of `_largest`.
_SAVES = {
    Saving.ZOMBIE: "if(zombie IS NOT NULL, paid, 0)",
    Saving.FAILED: f"if({_FAILED}, paid, 0)",
    Saving.RETRIES: "if(whole AND retried, greatest(paid - coalesce(own, paid), 0), 0)",
    Saving.MODEL: f"""if(whole AND other < coalesce(own, {_NO_LIMIT}),
        greatest(if(retried, least(own, paid), paid) - other, 0), 0)""",
    Saving.ANSWERS: """if(whole AND tokens_out > ceiling AND own_unit IS NOT NULL,
        least((tokens_out - ceiling) * own_out // own_unit, paid), 0)""",
    Saving.CACHE: """if(read IS NOT NULL AND own_unit IS NOT NULL, greatest(least(
        (read * (own_in_ - own_cached) - written * greatest(own_write - own_in_, 0)) // own_unit, paid), 0), 0)""",
}
_KINDS = tuple(_SAVES)
_BITS = [(1 << place, name) for place, name in enumerate(_COUNTS)]


class Savings:
    """Answers about some lines of a relation."""

    def __init__(self, relation: Relation, asked: Asked) -> None:
        self._relation = relation
        self._asked = asked
        self._run = relation.all
        self._source = relation.source
        self._has_corrections = relation.has_corrections

    def answer_sizes(self) -> dict[str, AnswerSizes]:
        """See `Usage.answer_sizes`."""
        query = self._query()
        (purpose,) = self._named(query, ["purpose"])
        query.conditions.append(_WHOLE)
        # So many answers have no more tokens than `size`: `passed`.
        sql = f"""
            SELECT purpose, any_value(total), min(size) FILTER (2 * passed >= total),
                min(size) FILTER (10 * passed >= 9 * total), max(size)
            FROM (
                SELECT purpose, size, sum(number) OVER (PARTITION BY purpose ORDER BY size) AS passed,
                    sum(number) OVER (PARTITION BY purpose) AS total
                FROM (
                    SELECT {purpose} AS purpose, tokens_out AS size, count(*) AS number {self._source(query)}
                    GROUP BY ALL
                )
            )
            GROUP BY purpose
        """
        return {name: AnswerSizes(*map(int, sizes)) for name, *sizes in self._run(sql, query.given)}

    def answer(self, question: Question) -> Answer:
        """See `Usage.savings`."""
        stretches, largest = self._stretches()
        money = self._make_tables(question, largest)
        sessions = list(question.zombies)
        sums: dict[tuple[Any, ...], list[int]] = {}
        alone = [0] * len(_KINDS)
        for begin, end in stretches:
            self._find_repeats(begin, end)
            for *group, calls, cost, saved, tokens, by_itself in self._largest(question, money, begin, end):
                alone = list(map(add, alone, map(int, by_itself)))
                before = sums.setdefault(tuple(group), [0] * 4)
                before[:] = map(add, before, map(int, (calls, cost, saved, tokens)))
        found = []
        for (kind, number, ended, grown), four in sums.items():
            is_zombie = _KINDS[kind] == Saving.ZOMBIE
            name = sessions[number] if is_zombie else None
            found.append(Saved(_KINDS[kind], None if is_zombie else number, name, ended, grown, *four))
        return Answer(found, dict(zip(_KINDS, alone, strict=True)))

    def _query(self) -> Query:
        return self._relation.query(self._asked)

    def _named(self, query: Query, names: Sequence[str]) -> list[str]:
        """What the groups are called by these groupings."""
        return [query.name(name) for name in self._relation.names(names)]

    def _stretches(self) -> tuple[list[tuple[int, int]], int]:
        """Parts of the period, in milliseconds, half-open; and the largest count of tokens that a call has."""
        query = self._query()
        query.conditions.append(_CALL)
        hours = self._run(
            f"""SELECT (ms + {_YEAR_1}) // {_HOUR} AS hour, count(*), max({_LARGEST}) {self._source(query)}
                GROUP BY hour ORDER BY hour""",
            query.given,
        )
        found: list[tuple[int, int]] = []
        lines = 0
        for hour, count, _ in hours:
            begin = hour * _HOUR - _YEAR_1
            if found and lines + count <= _AT_ONCE:
                found[-1] = found[-1][0], begin + _HOUR
                lines += count
            else:
                found.append((begin, begin + _HOUR))
                lines = count
        return found, max((largest for _, _, largest in hours), default=0)

    def _make_tables(self, question: Question, largest: int) -> str:
        """The tables of a question; and the type that holds money, of calls with so many tokens at most."""
        charges = [(number, each) for number, tariff in enumerate(question.tariffs) for each in tariff]
        rates = [each.rates for _, each in charges]
        most = max((4 * largest * each.most + each.request + each.unit for each in rates), default=0)
        if self._has_corrections():
            ((change,),) = self._run("SELECT max(abs(change)) FROM fixed", {})
            most = max(most, 4 * change)
        money = "BIGINT" if most < _NO_LIMIT else "HUGEINT"
        self._table(
            "charges",
            {
                "tariff": ("INTEGER", [number for number, _ in charges]),
                "day": ("BIGINT", [(each.begin + _YEAR_1) // _DAY for _, each in charges]),
                "begins": ("BIGINT", [each.begin for _, each in charges]),
                "ends": ("BIGINT", [each.end for _, each in charges]),
                "above": ("BIGINT", [each.above for _, each in charges]),
                "upto": ("BIGINT", [_NO_LIMIT if each.upto is None else each.upto for _, each in charges]),
                "takes": ("BIGINT", [_NO_LIMIT if each.context is None else each.context for _, each in charges]),
                "gives": ("BIGINT", [_NO_LIMIT if each.max_output is None else each.max_output for _, each in charges]),
                "request": (money, [each.request for each in rates]),
                "unit": (money, [each.unit for each in rates]),
                # Arithmetic is several times as fast without NULL, so a bit says which amounts are unknown.
                **{name: (money, [getattr(each, name) or 0 for each in rates]) for name in _COUNTS},
                "unknown": (
                    "INTEGER",
                    [sum(bit for bit, name in _BITS if getattr(each, name) is None) for each in rates],
                ),
            },
        )
        works = question.works
        self._table(
            "works",
            {
                "work": ("INTEGER", list(range(len(works)))),
                "own": ("INTEGER", [work.own for work in works]),
                "other": ("INTEGER", [work.other for work in works]),
                "tried": ("BOOLEAN", [work.tried for work in works]),
                "ceiling": ("BIGINT", [work.ceiling for work in works]),
                **{
                    f"name{place}": ("VARCHAR", [work.names[place] for work in works])
                    for place in range(len(question.by))
                },
            },
        )
        self._table(
            "zombies",
            {
                "zombie": ("INTEGER", list(range(len(question.zombies)))),
                "agent": ("VARCHAR", [agent for agent, _ in question.zombies]),
                "session": ("VARCHAR", [session for _, session in question.zombies]),
                "first": ("BIGINT", [first for first, _ in question.zombies.values()]),
                "last": ("BIGINT", [last for _, last in question.zombies.values()]),
            },
        )
        return money

    def _table(self, name: str, columns: Mapping[str, tuple[str, Sequence[object]]]) -> None:
        """A table `saved_NAME` of some columns, each with its type and its values."""
        listed = ", ".join(f"unnest(${column}::{kind}[]) AS {column}" for column, (kind, _) in columns.items())
        given = {column: list(values) for column, (_, values) in columns.items()}
        self._run(f"CREATE OR REPLACE TEMP TABLE saved_{name} AS SELECT {listed}", given)

    def _find_repeats(self, begin: int, end: int) -> None:
        """The table `saved_repeats` of the calls of a stretch whose prompts repeat."""
        query = self._query()
        agent, session = self._named(query, ["agent", "session"])
        query.conditions += [
            _WHOLE,
            f"tokens_in >= {LEAST_CACHED}",
            # What makes evidence may lie before the stretch and behind it.
            f"ms >= {begin - IN_A_ROW * KEPT_MS} AND ms < {end + IN_A_ROW * KEPT_MS}",
        ]
        self._run(
            f"""
            CREATE OR REPLACE TEMP TABLE saved_repeats AS
            WITH asked AS (
                SELECT rows.source, rows.line, ms, ident, {agent} AS agent, provider, model,
                    nullif({session}, '{NONE}') AS session, sketch, tokens_in AS size,
                    tokens_out - tokens_reasoning AS said, tokens_cached + tokens_cache_write AS had
                {self._source(query)}
            ), {_repeats("grown", "session")}, {_repeats("same", "sketch")}
            SELECT DISTINCT ON (source, line) source, line, read, written, grown
            FROM (FROM grown UNION ALL FROM same)
            WHERE read > 0 AND ms >= {begin} AND ms < {end}
            ORDER BY source, line, read DESC, grown DESC
            """,
            query.given,
        )

    def _largest(self, question: Question, money: str, begin: int, end: int) -> list[tuple[Any, ...]]:
        """The calls of a stretch by their largest saving: its kind, the number of the work or the zombie, how failed
        calls ended and prompts repeat; how many there are, cost, saving, tokens for a cache, each kind's saving."""
        query = self._query()
        query.needs_fixed = self._has_corrections()
        paid = f"coalesce(cost, 0) + coalesce(fixed.change, 0)::{money}" if query.needs_fixed else "coalesce(cost, 0)"
        names = self._named(query, question.by)
        same = " AND ".join(f"works.name{place} = {name}" for place, name in enumerate(names))
        query.joins += [
            f"JOIN saved_works AS works ON {same}",
            _charge("own", "works.own"),
            f"""{_charge("other", "works.other")}
                AND tokens_in + tokens_out <= other.takes AND tokens_out <= other.gives""",
            "LEFT JOIN saved_repeats AS repeats ON repeats.source = rows.source AND repeats.line = rows.line",
        ]
        agent, session = "''", "''"
        if question.zombies:
            agent, session = self._named(query, ["agent", "session"])
        query.joins.append(
            f"""LEFT JOIN saved_zombies AS zombies ON zombies.agent = {agent} AND zombies.session = {session}
                AND ms BETWEEN zombies.first AND zombies.last"""
        )
        query.conditions += [_CALL, "rows.status <> 'cancelled'", f"ms >= {begin} AND ms < {end}"]
        saves = [f"saves{kind}" for kind in range(len(_KINDS))]
        listed = ", ".join(f"{value} AS {name}" for value, name in zip(_SAVES.values(), saves, strict=True))
        zombie, failed, model, cache = map(_KINDS.index, (Saving.ZOMBIE, Saving.FAILED, Saving.MODEL, Saving.CACHE))
        sure = [f"if(tried, {name}, 0)" if kind == model else name for kind, name in enumerate(saves)]
        kinds = " ".join(f"WHEN {name} = most THEN {kind}" for kind, name in enumerate(sure))
        return self._run(
            f"""
            WITH priced AS (
                SELECT work, zombie, rows.status AS status, {paid} AS paid, sized AND rows.status = 'ok' AS whole,
                    attempts > 1 AS retried, tokens_out, tried, ceiling, {_price("own")} AS own,
                    {_price("other")} AS other, own.in_ AS own_in_, own.out AS own_out,
                    own.cached AS own_cached, own.write AS own_write, own.unit AS own_unit, read, written, grown
                {self._source(query)}
            ),
            saving AS (SELECT *, {listed} FROM priced WHERE paid > 0),
            best AS (SELECT *, greatest({", ".join(sure)}) AS most FROM saving),
            largest AS (
                SELECT * REPLACE (if(most = 0, saves{model}, most) AS most),
                    CASE WHEN most = 0 THEN {model} {kinds} END AS kind
                FROM best WHERE most > 0 OR saves{model} > 0
            )
            SELECT kind, if(kind = {zombie}, zombie, work) AS number, if(kind = {failed}, status, '') AS ended,
                kind = {cache} AND grown AS how, count(*), sum(paid), sum(most),
                coalesce(sum(read) FILTER (kind = {cache}), 0), [{", ".join(f"sum({name})" for name in saves)}]
            FROM largest
            GROUP BY kind, number, ended, how
            """,
            query.given,
        )


def _repeats(name: str, key: str) -> str:
    """The relation `name` of the calls that repeat a prompt, from the relation `asked`: by session or by sketch."""
    grown = name == "grown"
    follows = "size >= before + greatest(said_before, 1)" if grown else f"abs(size - before) * {SAME_SIZE} <= before"
    return f"""
        {name}_runs AS (
            SELECT agent, provider, model, {key}, row_number() OVER () AS run FROM asked WHERE {key} IS NOT NULL
            GROUP BY agent, provider, model, {key} HAVING count(*) > {IN_A_ROW}
        ), {name}_calls AS (
            SELECT source, line, ms, size, had, run, row_number() OVER calls AS place, lag(ms) OVER calls AS ms_before,
                lag(size) OVER calls AS before, lag(said) OVER calls AS said_before
            FROM asked JOIN {name}_runs USING (agent, provider, model, {key})
            WINDOW calls AS (PARTITION BY run ORDER BY ms, ident)
        ), {name}_steps AS (
            SELECT *, place - row_number() OVER (PARTITION BY run ORDER BY place) AS stretch FROM {name}_calls
            WHERE ms - ms_before <= {KEPT_MS} AND {follows}
        ), {name} AS (
            SELECT source, line, ms, least(before, size) - had AS read,
                size - least(before, size) + if(place = min(place) OVER steps, before, 0) AS written, {grown} AS grown
            FROM {name}_steps
            WINDOW steps AS (PARTITION BY run, stretch)
            QUALIFY count(*) OVER steps >= {IN_A_ROW}
        )"""


def _charge(name: str, tariff: str) -> str:
    """A join of the rates for a call."""
    return f"""LEFT JOIN saved_charges AS {name} ON {name}.tariff = {tariff}
        AND {name}.day = (rows.ms + {_YEAR_1}) // {_DAY} AND rows.ms >= {name}.begins AND rows.ms < {name}.ends
        AND tokens_in > {name}.above AND tokens_in <= {name}.upto"""


def _price(rates: str) -> str:
    """What a call's tokens cost, in nano-dollars, rounded up; NULL if an amount that it needs is unknown."""
    total = " + ".join(f"{count} * {rates}.{name}" for name, count in _COUNTS.items())
    unknown = " OR ".join(f"{rates}.unknown & {bit} > 0 AND {_COUNTS[name]} > 0" for bit, name in _BITS)
    return f"""if({rates}.unknown > 0 AND ({unknown}), NULL,
        ({total} + {rates}.request + {rates}.unit - 1) // {rates}.unit)"""
