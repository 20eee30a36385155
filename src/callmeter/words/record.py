"""The usage line as it is read: strict where money is concerned, tolerant of fields that a newer version adds."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

import msgspec

from callmeter.words.instant import parse_instant
from callmeter.words.money import nano, require_amount
from callmeter.words.usage import COST_SOURCES, MAX_LINE, STATUSES, VERSION

# Beyond these, sums of a log would not fit into 64 bits; and JSON's numbers are exact up to here only.
_MOST = 1 << 53
_DEAREST = 9  # digits before the point
Count = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST)]


class Tokens(msgspec.Struct, frozen=True, rename={"in_": "in"}):
    """Token counts. `in_` is the whole prompt; `cached`, `cache_write`, `cache_write_1h` are parts of it;
    `reasoning` is part of `out`."""

    in_: Count = 0
    out: Count = 0
    cached: Count = 0
    cache_write: Count = 0
    cache_write_1h: Count = 0
    reasoning: Count = 0

    def has_negative(self) -> bool:
        """Whether any count is below 0, which only a correction's may be. Spelled out: `min` takes twice as long."""
        return (
            self.in_ < 0
            or self.out < 0
            or self.cached < 0
            or self.cache_write < 0
            or self.cache_write_1h < 0
            or self.reasoning < 0
        )


class UsageRecord(msgspec.Struct, frozen=True):
    """One line of the usage log. `cost` None is unknown; `corrects` marks an adjustment line, whose cost is signed."""

    v: int
    id: str
    timestamp: str
    model: str = ""
    tags: dict[str, str] = {}
    provider: str = ""
    served_model: str | None = None
    tokens: Tokens | None = None
    cost: Decimal | None = None
    cost_source: str = "unknown"
    estimate: Decimal | None = None
    status: str = "ok"
    finish_reason: str | None = None
    error: str | None = None
    duration_ms: Count | None = None
    first_token_ms: Count | None = None
    attempts: Count = 1
    key: str | None = None
    key_fingerprint: str | None = None
    generation_id: str | None = None
    host: str | None = None
    corrects: str | None = None
    recorded_at: str | None = None
    note: str | None = None
    asked_model: str | None = None
    pool: str | None = None
    prompt_sketch: str | None = None
    audit: str | None = None

    @property
    def instant(self) -> datetime:
        """When the call began, aware, UTC."""
        return parse_instant(self.timestamp)

    @property
    def cost_nano(self) -> int | None:
        """Nano-dollars, or None when nobody knows."""
        return None if self.cost is None else nano(self.cost)


_decoder = msgspec.json.Decoder(UsageRecord)


def parse_record(line: bytes) -> UsageRecord:
    """One line (without its newline) as a record. Raises ValueError with the reason for everything else:
    torn or merged lines, other versions, negative or absurd costs, times outside the calendar."""
    if len(line) > MAX_LINE:
        raise ValueError(f"longer than {MAX_LINE} bytes")
    try:
        record = _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if record.v != VERSION:
        raise ValueError(f"version {record.v}, this program reads {VERSION}")
    if not record.id:
        raise ValueError("no id")
    if record.status not in STATUSES:
        raise ValueError(f"status {record.status!r}")
    if record.cost_source not in COST_SOURCES:
        raise ValueError(f"cost_source {record.cost_source!r}")
    if record.cost is not None:
        _require_cost(record.cost)
        if record.cost < 0 and record.corrects is None:
            raise ValueError("negative cost without `corrects`")
    if record.estimate is not None:
        _require_cost(record.estimate)
    if record.tokens is not None and record.corrects is None and record.tokens.has_negative():
        raise ValueError("negative tokens")
    parse_instant(record.timestamp)
    return record


def _require_cost(amount: Decimal) -> None:
    require_amount(amount)
    if amount.adjusted() >= _DEAREST and amount:
        raise ValueError(f"not the cost of a call: {amount}")
