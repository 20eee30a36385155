"""What calls could have cost less, from the rows of the usage index: `Usage.savings` and `Usage.answer_sizes` in SQL.

The question comes as tables of some thousand rows. The period is read in stretches of about a million lines, since it
takes room for each of them to tell who follows whom. Whatever a user wrote is a parameter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import add
from typing import Any, NamedTuple

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
from callmeter.store.index_columns import CORRECTION, ERROR, REFUSED, RETRIED
from callmeter.store.index_figures import printed
from callmeter.store.index_query import Query
from callmeter.store.index_rates import NO_LIMIT, YEAR_1, Pieces, columns_of
from callmeter.store.index_relation import Asked, Relation

_AT_ONCE = 1_000_000
_HOUR = 3_600_000
_CALL = f"(rows.kind & {CORRECTION | REFUSED}) = 0"
_WHOLE = f"{_CALL} AND rows.status = 'ok' AND sized"
# How many tokens have which amount; those of a part that exceeds its whole are none.
_COUNTS = {
    "in_": "greatest(tokens_in - tokens_cached - tokens_cache_write, 0)",
    "out": "greatest(tokens_out - tokens_reasoning, 0)",
    "cached": "tokens_cached",
    "write": "(tokens_cache_write - tokens_cache_write_1h)",
    "write_1h": "tokens_cache_write_1h",
    "reasoning": "tokens_reasoning",
}
_SIZES = ("tokens_in", "tokens_out", "tokens_cached", "tokens_cache_write", "tokens_cache_write_1h", "tokens_reasoning")
# What each kind would save, up to `paid`, of a call with the columns of `_largest`; below 0 only another model.
_SAVES = {
    Saving.ZOMBIE: "if(zombie IS NOT NULL, paid, 0)",
    Saving.FAILED: "if(failed, paid, 0)",
    Saving.RETRIES: "if(whole AND retried, greatest(paid - coalesce(own, paid), 0), 0)",
    Saving.MODEL: f"""if(whole AND other IS NOT NULL,
        if(retried OR other >= coalesce(own, {NO_LIMIT}), least(coalesce(own, paid), paid), paid) - other, 0)""",
    Saving.ANSWERS: """if(whole AND tokens_out > ceiling AND own_in_ IS NOT NULL,
        least((tokens_out - ceiling) * own_out // own_unit, paid), 0)""",
    Saving.CACHE: """if(read IS NOT NULL AND own_in_ IS NOT NULL, greatest(least(
        (read * (own_in_ - own_cached) - written * greatest(own_write - own_in_, 0)) // own_unit, paid), 0), 0)""",
}
_KINDS = tuple(_SAVES)
_BITS = [(1 << place, name) for place, name in enumerate(_COUNTS)]


class _Rates(NamedTuple):
    """Of a table of rates: `conditions` for a row's piece of its work's; whether all amounts are `known`, and whether
    any call has a price of its own besides its tokens'; the `unit` that all have in common, if they do."""

    conditions: list[str]
    known: bool
    requests: bool
    unit: int | None


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
        purpose = self._relation.columns(query, self._relation.names(["purpose"]), self._asked)
        query.conditions.append(_WHOLE)
        # So many answers have no more tokens than `size`: `passed`.
        sql = f"""
            SELECT name0, any_value(total), min(size) FILTER (2 * passed >= total),
                min(size) FILTER (10 * passed >= 9 * total), max(size)
            FROM (
                SELECT name0, size, sum(number) OVER (PARTITION BY name0 ORDER BY size) AS passed,
                    sum(number) OVER (PARTITION BY name0) AS total
                FROM (
                    SELECT {printed(1)} size, number
                    FROM (SELECT {purpose} tokens_out AS size, count(*) AS number {self._source(query)} GROUP BY ALL)
                )
            )
            GROUP BY name0
        """
        return {name: AnswerSizes(*map(int, sizes)) for name, *sizes in self._run(sql, query.given)}

    def answer(self, question: Question) -> Answer:
        """See `Usage.savings`."""
        stretches, used = self._stretches()
        money = self._money(question, max(used.values(), default=0))
        self._make_zombies(question)
        pieces = Pieces(question)
        sessions = list(question.zombies)
        sums: dict[tuple[Any, ...], list[int]] = {}
        alone = [0] * len(_KINDS)
        unfit: Counter[int] = Counter()
        for begin, end in stretches:
            repeats = self._find_repeats(begin, end, sketches=used["sketches"] > 0)
            rates = self._make_rates(question, pieces, money, begin, end)
            query = self._query()
            query.conditions.append(f"ms >= {begin} AND ms < {end}")
            found = self._largest(query, question, money, rates, _counts(used), repeats=repeats)
            for kind, number, work, *group, calls, cost, saved, tokens, by_itself in found:
                if work is not None:
                    unfit[work] += calls
                if kind is None:
                    continue
                alone = list(map(add, alone, map(int, by_itself)))
                before = sums.setdefault((kind, number, *group), [0] * 4)
                before[:] = map(add, before, map(int, (calls, cost, saved, tokens)))
        answers = []
        for (kind, number, ended, grown), four in sums.items():
            is_zombie = _KINDS[kind] == Saving.ZOMBIE
            name = sessions[number] if is_zombie else None
            answers.append(Saved(_KINDS[kind], None if is_zombie else number, name, ended, grown, *four))
        return Answer(answers, dict(zip(_KINDS, alone, strict=True)), dict(unfit))

    def _query(self) -> Query:
        return self._relation.query(self._asked)

    def _named(self, query: Query, names: Sequence[str]) -> list[str]:
        """What the groups are called by these groupings."""
        return [query.name(name) for name in self._relation.names(names)]

    def _stretches(self) -> tuple[list[tuple[int, int]], dict[str, int]]:
        """Parts of the period, in milliseconds, half-open; and what calls have of tokens at most, by column, and how
        many have a sketch."""
        query = self._query()
        query.conditions.append(_CALL)
        largest = ", ".join(f"max({name})" for name in _SIZES)
        hours = self._run(
            f"""SELECT (ms + {YEAR_1}) // {_HOUR} AS hour, count(*), {largest}, count(sketch) {self._source(query)}
                GROUP BY hour ORDER BY hour""",
            query.given,
        )
        found: list[tuple[int, int]] = []
        lines = 0
        used = dict.fromkeys((*_SIZES, "sketches"), 0)
        for hour, count, *sizes in hours:
            used = {name: max(most, size) for (name, most), size in zip(used.items(), sizes, strict=True)}
            begin = hour * _HOUR - YEAR_1
            if found and lines + count <= _AT_ONCE:
                found[-1] = found[-1][0], begin + _HOUR
                lines += count
            else:
                found.append((begin, begin + _HOUR))
                lines = count
        return found, used

    def _money(self, question: Question, largest: int) -> str:
        """The type that holds money, of calls with so many tokens at most."""
        rates = [each.rates for tariff in question.tariffs for each in tariff]
        most = max((4 * largest * each.most + each.request + each.unit for each in rates), default=0)
        if self._has_corrections():
            ((change,),) = self._run("SELECT max(abs(change)) FROM fixed", {})
            most = max(most, 4 * change)
        return "BIGINT" if most < NO_LIMIT else "HUGEINT"

    def _make_zombies(self, question: Question) -> None:
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

    def _make_rates(self, question: Question, pieces: Pieces, money: str, begin: int, end: int) -> _Rates:
        """The table of what holds in a stretch for each work."""
        found, conditions = pieces.within(begin, end)
        works = [question.works[piece.work] for piece in found]
        self._table(
            "rates",
            {
                **{
                    f"name{place}": ("VARCHAR", [work.names[place] for work in works])
                    for place in range(len(question.by))
                },
                "tried": ("BOOLEAN", [work.tried for work in works]),
                "ceiling": ("BIGINT", [work.ceiling for work in works]),
                **columns_of(found, money, tuple(_COUNTS)),
            },
        )
        rates = {charge.rates for piece in found for charge in (piece.own, piece.other) if charge is not None}
        units = {each.unit for each in rates}
        return _Rates(
            conditions,
            known=all(getattr(each, name) is not None for each in rates for name in _COUNTS),
            requests=any(each.request for each in rates),
            unit=units.pop() if len(units) == 1 else None,
        )

    def _table(self, name: str, columns: Mapping[str, tuple[str, Sequence[object]]]) -> None:
        """A table `saved_NAME` of some columns, each with its type and its values."""
        listed = ", ".join(f"unnest(${column}::{kind}[]) AS {column}" for column, (kind, _) in columns.items())
        given = {column: list(values) for column, (_, values) in columns.items()}
        self._run(f"CREATE OR REPLACE TEMP TABLE saved_{name} AS SELECT {listed}", given)

    def _find_repeats(self, begin: int, end: int, *, sketches: bool) -> bool:
        """The table `saved_repeats` of the calls of a stretch whose prompts repeat, by their sketches too if there are
        some; whether there are any."""
        query = self._query()
        agent, session = self._named(query, ["agent", "session"])
        query.conditions += [
            _WHOLE,
            f"tokens_in >= {LEAST_CACHED}",
            # What makes evidence may lie before the stretch and behind it.
            f"ms >= {begin - IN_A_ROW * KEPT_MS} AND ms < {end + IN_A_ROW * KEPT_MS}",
        ]
        same, either = (
            (f", {_repeats('same', 'sketch')}", "FROM grown UNION ALL FROM same") if sketches else ("", "FROM grown")
        )
        ((found,),) = self._run(
            f"""
            CREATE OR REPLACE TEMP TABLE saved_repeats AS
            WITH asked AS (
                SELECT rows.source, rows.line, ms, ident, {agent} AS agent, provider, model,
                    nullif({session}, '{NONE}') AS session, sketch, tokens_in AS size,
                    tokens_out - tokens_reasoning AS said, tokens_cached + tokens_cache_write AS had
                {self._source(query)}
            ), {_repeats("grown", "session")}{same}
            SELECT DISTINCT ON (source, line) source, line, read, written, grown
            FROM ({either})
            WHERE read > 0 AND ms >= {begin} AND ms < {end}
            ORDER BY source, line, read DESC, grown DESC
            """,
            query.given,
        )
        return bool(found)

    def _largest(
        self,
        query: Query,
        question: Question,
        money: str,
        rates: _Rates,
        counts: Mapping[str, str],
        *,
        repeats: bool,
    ) -> list[tuple[Any, ...]]:
        """The calls of a stretch by their largest saving: its kind, if any, the number of the work or the zombie, that
        of the work if they do not fit its other model, how failed calls ended and prompts repeat; how many there are,
        cost, saving, tokens for a cache, each kind's saving."""
        query.needs_fixed = self._has_corrections()
        paid = f"coalesce(cost, 0) + coalesce(fixed.change, 0)::{money}" if query.needs_fixed else "coalesce(cost, 0)"
        names = self._named(query, question.by)
        same = [f"rates.name{place} = {name}" for place, name in enumerate(names)]
        query.joins.append(f"JOIN saved_rates AS rates ON {' AND '.join([*same, *rates.conditions])}")
        repeated = "NULL::BIGINT AS read, NULL::BIGINT AS written, NULL::BOOLEAN AS grown"
        if repeats:
            query.joins.append(
                "LEFT JOIN saved_repeats AS repeats ON repeats.source = rows.source AND repeats.line = rows.line"
            )
            repeated = "read, written, grown"
        zombie_of = "NULL::INTEGER AS zombie"
        if question.zombies:
            agent, session = self._named(query, ["agent", "session"])
            query.joins.append(
                f"""LEFT JOIN saved_zombies AS zombies ON zombies.agent = {agent} AND zombies.session = {session}
                    AND ms BETWEEN zombies.first AND zombies.last"""
            )
            zombie_of = "zombie"
        # Most calls could cost no less; what each kind would save is not worked out for them.
        could = ["rates.other_unit IS NOT NULL", f"kind & {ERROR | RETRIED} > 0", "tokens_out > ceiling"]
        could += ["read IS NOT NULL"] * repeats + ["zombie IS NOT NULL"] * bool(question.zombies)
        query.conditions += [_CALL, "rows.status <> 'cancelled'", f"({' OR '.join(could)})"]
        saves = [f"saves{kind}" for kind in range(len(_KINDS))]
        listed = ", ".join(f"{value} AS {name}" for value, name in zip(_SAVES.values(), saves, strict=True))
        zombie, failed, model, cache = map(_KINDS.index, (Saving.ZOMBIE, Saving.FAILED, Saving.MODEL, Saving.CACHE))
        sure = [f"if(tried, {name}, 0)" if kind == model else name for kind, name in enumerate(saves)]
        kinds = " ".join(f"WHEN {name} = most THEN {kind}" for kind, name in enumerate(sure))
        return self._run(
            f"""
            WITH priced AS (
                SELECT work, {zombie_of}, rows.status AS status, {paid} AS paid,
                    sized AND rows.status = 'ok' AND tokens_in + tokens_out > 0 AS whole,
                    kind & {ERROR} > 0 AS failed, kind & {RETRIED} > 0 AS retried, tokens_out, tried, ceiling,
                    {_price("own", counts, rates)} AS own,
                    tokens_in + tokens_out <= takes AND tokens_out <= gives AS fits,
                    if(fits, {_price("other", counts, rates)}, NULL) AS other,
                    if(whole AND rates.other_unit IS NOT NULL AND NOT fits, work, NULL) AS unfit,
                    own_in_, own_out, own_cached, own_write, {_unit("own", rates)} AS own_unit, {repeated}
                {self._source(query)}
            ),
            saving AS (SELECT *, {listed} FROM priced WHERE paid > 0),
            best AS (SELECT *, greatest({", ".join(sure)}) AS most FROM saving),
            largest AS (
                SELECT * REPLACE (if(most = 0, saves{model}, most) AS most),
                    -- What saves nothing is left out at the end: a condition here would work out all savings twice.
                    CASE WHEN most = 0 THEN if(saves{model} <> 0, {model}, NULL) {kinds} END AS saving
                FROM best
            )
            SELECT saving, if(saving = {zombie}, zombie, if(saving >= 0, work, NULL)) AS number, unfit,
                if(saving = {failed}, status, '') AS ended,
                saving = {cache} AND grown AS how, count(*), sum(paid), sum(most),
                coalesce(sum(read) FILTER (saving = {cache}), 0), [{", ".join(f"sum({name})" for name in saves)}]
            FROM largest
            GROUP BY saving, number, unfit, ended, how HAVING saving IS NOT NULL OR unfit IS NOT NULL
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


def _counts(used: Mapping[str, int]) -> dict[str, str]:
    """How many tokens have which amount, without the amounts of which no call has a token."""
    parts = {"cached": "tokens_cached", "write": "tokens_cache_write", "write_1h": "tokens_cache_write_1h"}
    none = [name for name, column in {**parts, "reasoning": "tokens_reasoning"}.items() if not used[column]]
    counts = {name: count for name, count in _COUNTS.items() if name not in none}
    if not used["tokens_cached"] and not used["tokens_cache_write"]:
        counts["in_"] = "tokens_in"
    if not used["tokens_reasoning"]:
        counts["out"] = "tokens_out"
    return counts


def _price(side: str, counts: Mapping[str, str], rates: _Rates) -> str:
    """What a call's tokens cost, in nano-dollars, rounded up; NULL if an amount that it needs is unknown."""
    total = " + ".join(f"{count} * {side}_{name}" for name, count in counts.items())
    total += f" + {side}_request" if rates.requests else ""
    unit = _unit(side, rates)
    price = f"({total})" if rates.unit == 1 else f"({total} + {unit} - 1) // {unit}"
    if rates.known:
        return price
    bits = [(bit, counts[name]) for bit, name in _BITS if name in counts]
    unknown = " OR ".join(f"{side}_unknown & {bit} > 0 AND {count} > 0" for bit, count in bits)
    return f"if({side}_unknown > 0 AND ({unknown}), NULL, {price})"


def _unit(side: str, rates: _Rates) -> str:
    return f"{side}_unit" if rates.unit is None else f"{rates.unit}::BIGINT"
