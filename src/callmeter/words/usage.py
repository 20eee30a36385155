"""The usage line as it is written: one JSON object a call, in the order and with the names of `docs/formats.md`.

Only this module and `record` know a key of the usage log.
"""

from __future__ import annotations

from callmeter.words.jsontext import dumps

VERSION = 1
MAX_LINE = 64 * 1024

# What became of a call. `unknown`: its process died, or its outcome never arrived; the cost is the estimate.
STATUSES = ("ok", "error", "refused", "cancelled", "timeout", "truncated", "unknown")

# Who says what it cost. `unknown` goes with a cost of null: not 0, nobody knows.
COST_SOURCES = ("provider", "price", "estimate", "reconciled", "unknown")

FIELDS = (
    "v",
    "id",
    "timestamp",
    "tags",
    "provider",
    "model",
    "served_model",
    "tokens",
    "cost",
    "cost_source",
    "estimate",
    "status",
    "finish_reason",
    "error",
    "duration_ms",
    "first_token_ms",
    "attempts",
    "key",
    "key_fingerprint",
    "generation_id",
    "host",
    "corrects",
    "recorded_at",
    "note",
)
TOKENS = ("in", "out", "cached", "cache_write", "cache_write_1h", "reasoning")


def usage_line(fields: dict[str, object]) -> bytes:
    """One line of the log, newline included, at most 64 KiB.

    `cost` and `estimate` are Decimal in USD or None (unknown); absent optional fields are left out. A record
    that is too long loses its `note`, then the ends of its tags' values, never a number.
    """
    unknown = set(fields) - set(FIELDS)
    if unknown:
        raise ValueError(f"not fields of a usage line: {sorted(unknown)}")
    record = {name: fields[name] for name in FIELDS if name in fields}
    line = dumps(record).encode("ascii") + b"\n"
    if len(line) <= MAX_LINE:
        return line
    record.pop("note", None)
    tags = record.get("tags")
    if isinstance(tags, dict):
        record["tags"] = {str(name)[:64]: str(value)[:128] for name, value in list(tags.items())[:16]}
    for name in ("error", "model", "served_model", "finish_reason", "generation_id"):
        value = record.get(name)
        if isinstance(value, str):
            record[name] = value[:1024]
    return dumps(record).encode("ascii") + b"\n"
