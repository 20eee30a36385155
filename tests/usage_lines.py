"""Usage lines for tests: ids, times and money that can be told apart."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from callmeter.words.ids import uuid7
from callmeter.words.instant import text_of
from callmeter.words.usage import usage_line

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def call(at: datetime = NOW, id: str = "", **fields: object) -> bytes:
    """One line, newline included."""
    record: dict[str, object] = {
        "v": 1,
        "id": id or uuid7(int(at.timestamp() * 1000)),
        "timestamp": text_of(at),
        "tags": {"agent": "code", "purpose": "triage"},
        "provider": "openrouter",
        "model": "anthropic/claude-3.5-sonnet",
        "tokens": {"in": 1200, "out": 400},
        "cost": Decimal("0.0096"),
        "cost_source": "provider",
        "status": "ok",
        "duration_ms": 2310,
        **fields,
    }
    return usage_line(record)


def calls(count: int, first: datetime, step: timedelta = timedelta(hours=1)) -> list[bytes]:
    """Several lines, one `step` after the other."""
    return [call(first + step * number) for number in range(count)]


def write(path: Path | str, lines: Iterable[bytes]) -> str:
    """A log with these lines."""
    Path(path).write_bytes(b"".join(lines))
    return str(path)
