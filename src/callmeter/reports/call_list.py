"""Calls one by one: a row each, in the order in which they come."""

from __future__ import annotations

from collections.abc import Iterable

from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.words.money import nano
from callmeter.words.period import Period
from callmeter.words.record import Tokens, UsageRecord
from callmeter.words.tags import BUILT_IN

_COLUMNS = (
    Column("timestamp", "time", Kind.INSTANT),
    Column("id", "id", Kind.TEXT, optional=9),
    Column("status", "status", Kind.TEXT),
    Column("error", "error", Kind.TEXT, optional=6, quiet=True),
    *(Column(name, name.replace("_", " "), Kind.TEXT, optional=5, quiet=True) for name in BUILT_IN),
    Column("tags", "other tags", Kind.TEXT, optional=8, quiet=True),
    Column("provider", "provider", Kind.TEXT, optional=7),
    Column("model", "model", Kind.TEXT),
    Column("served_model", "served model", Kind.TEXT, optional=8, quiet=True),
    Column("tokens_in", "in", Kind.COUNT, optional=2),
    Column("tokens_out", "out", Kind.COUNT, optional=2),
    Column("tokens_cached", "cached", Kind.COUNT, optional=7, quiet=True),
    Column("tokens_reasoning", "reasoning", Kind.COUNT, optional=7, quiet=True),
    Column("cost", "cost", Kind.MONEY),
    Column("cost_source", "says", Kind.TEXT, optional=6),
    Column("estimate", "estimate", Kind.RATE, optional=7),
    Column("duration_ms", "took", Kind.MILLISECONDS, optional=1),
    Column("first_token_ms", "first token", Kind.MILLISECONDS, optional=7),
    Column("attempts", "attempts", Kind.COUNT, optional=8),
    Column("key", "key", Kind.TEXT, optional=7, quiet=True),
    Column("generation_id", "generation", Kind.TEXT, optional=9, quiet=True),
    Column("host", "host", Kind.TEXT, optional=8),
    Column("corrects", "corrects", Kind.TEXT, optional=9, quiet=True),
)


def call_list(records: Iterable[UsageRecord], period: Period, zone: str) -> Report:
    """A report with a row for each record, tags as columns; times as they stand in the log."""
    return Report("Calls", _COLUMNS, [Row(_cells(record)) for record in records], period=period, zone=zone)


def _cells(record: UsageRecord) -> dict[str, Cell]:
    tokens = record.tokens or Tokens()
    others = {name: value for name, value in record.tags.items() if name not in BUILT_IN}
    known = record.tokens is not None
    return {
        "timestamp": record.timestamp,
        "id": record.id,
        "status": record.status,
        "error": record.error,
        **{name: record.tags.get(name) for name in BUILT_IN},
        "tags": " ".join(f"{name}={value}" for name, value in others.items()) or None,
        "provider": record.provider,
        "model": record.model,
        "served_model": record.served_model,
        "tokens_in": tokens.in_ if known else None,
        "tokens_out": tokens.out if known else None,
        "tokens_cached": tokens.cached if known else None,
        "tokens_reasoning": tokens.reasoning if known else None,
        "cost": record.cost_nano,
        "cost_source": record.cost_source,
        "estimate": None if record.estimate is None else nano(record.estimate),
        "duration_ms": record.duration_ms,
        "first_token_ms": record.first_token_ms,
        "attempts": record.attempts,
        "key": record.key,
        "generation_id": record.generation_id,
        "host": record.host,
        "corrects": record.corrects,
    }
