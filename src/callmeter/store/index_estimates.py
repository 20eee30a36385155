"""Calls whose cost nobody has settled, found by the usage index: of ten million lines the few that are worth asking."""

from __future__ import annotations

from callmeter.store.index_columns import CORRECTION
from callmeter.store.index_relation import Asked, Relation
from callmeter.words.period import Period

Place = tuple[int, int, int, int]  # source, line, start, size


def unsettled(relation: Relation, period: Period, provider: str, prefix: str, most: int) -> list[Place]:
    """Where the lines stand of the calls whose cost is an estimate or unknown, and which no line corrects: those of a
    provider whose generation ids begin so, the newest first, at most so many."""
    query = relation.query(Asked(period, ()))
    query.conditions += [
        f"kind & {CORRECTION} = 0",
        "cost_source IN ('estimate', 'unknown')",
        f"provider = {query.bind(provider)}",
        f"starts_with(generation_id, {query.bind(prefix)})",
    ]
    if relation.has_corrections():
        query.last_joins.append("ANTI JOIN fixed ON fixed.source = rows.source AND fixed.line = rows.line")
    return relation.all(
        f"""SELECT rows.source, rows.line, rows.start, rows.size {relation.source(query)}
            ORDER BY ms DESC, coalesce(id, ident::VARCHAR) DESC LIMIT {int(most)}""",
        query.given,
    )
