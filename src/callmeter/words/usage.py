"""The usage line as it is written: one JSON object a call, in the order and with the names of `docs/formats.md`.

Only this module and `record` know a key of the usage log.
"""

from __future__ import annotations

from callmeter.words.jsontext import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

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
    "asked_model",
    "pool",
    "prompt_sketch",
    "audit",
)
TOKENS = ("in", "out", "cached", "cache_write", "cache_write_1h", "reasoning")


def usage_line(fields: dict[str, object]) -> bytes:
    """One line of the log, newline included, at most 64 KiB.

    `cost` and `estimate` are Decimal in USD or None (unknown); absent optional fields are left out. A record
    that is too long loses its `note`, then the ends of its texts, never a number. Raises ValueError for a name
    that is no field.
    """
    unknown = set(fields) - set(FIELDS)
    if unknown:
        raise ValueError(f"not fields of a usage line: {sorted(unknown)}")
    record = {name: fields[name] for name in FIELDS if name in fields}
    line = dumps(record).encode("ascii") + b"\n"
    if b"\\ud" in line:
        # Half of a surrogate pair, as a provider's JSON can hold it, would make the line unreadable for most readers.
        record = _texts(record, _whole_characters)
        line = dumps(record).encode("ascii") + b"\n"
    if len(line) > MAX_LINE:
        record.pop("note", None)
        for room in (1024, 128, 16):
            record = _texts(record, _first(room))
            tags = record.get("tags")
            if isinstance(tags, dict):
                record["tags"] = {str(name)[:64]: value for name, value in list(tags.items())[:16]}
            line = dumps(record).encode("ascii") + b"\n"
            if len(line) <= MAX_LINE:
                break
    return line


def _texts(record: dict[str, object], change: Callable[[str], str]) -> dict[str, object]:
    """The record with each of its texts, and those of its tags, changed; ids and times are of our own making."""
    changed: dict[str, object] = {}
    for name, value in record.items():
        if isinstance(value, str) and name not in ("id", "timestamp", "corrects"):
            value = change(value)
        elif name == "tags" and isinstance(value, dict):
            value = {change(str(tag)): change(str(text)) for tag, text in value.items()}
        changed[name] = value
    return changed


def _whole_characters(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _first(count: int) -> Callable[[str], str]:
    return lambda text: text[:count]
