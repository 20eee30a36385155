"""Where the lines stand that a question is about, in the order of the log: of a long log a day is found at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from callmeter.store.index_query import Query
from callmeter.store.index_relation import Asked, Relation
from callmeter.store.seen_ids import key_of
from callmeter.words.period import Period

Place = tuple[int, int, int, int]  # source, line, start, size
_AT_ONCE = 10_000


def places(relation: Relation, period: Period, where: Sequence[str]) -> Iterator[Place]:
    """The places of the lines that count, of the period and with such values."""
    yield from _in_order(relation, relation.query(Asked(period, where)))


def places_of(relation: Relation, period: Period, ids: Collection[str]) -> Iterator[Place]:
    """The places of the lines that count, of the period, with one of these ids, or that correct a call with one."""
    query = relation.query(Asked(period, ()))
    idents = f"SELECT unnest({query.bind([f'{key_of(id):032x}' for id in ids])}::UUID[])"
    query.conditions.append(f"(rows.ident IN ({idents}) OR rows.target IN ({idents}))")
    yield from _in_order(relation, query)


def _in_order(relation: Relation, query: Query) -> Iterator[Place]:
    found = relation.run(
        f"""SELECT rows.source, rows.line, rows.start, rows.size {relation.source(query)}
            ORDER BY list_position(getvariable('sources'), rows.source), rows.line""",
        query.given,
        relation.cursor(),  # other questions may be asked before it is read to its end
    )
    while batch := found.fetchmany(_AT_ONCE):
        yield from batch
