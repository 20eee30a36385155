"""Instants: aware datetimes in UTC inside, RFC 3339 text with milliseconds and `Z` in files."""

from __future__ import annotations

from datetime import UTC, datetime


def text_of(instant: datetime) -> str:
    """`2026-11-21T09:30:01.123Z`, cut (not rounded) to milliseconds, so that it never lies in the future."""
    # Not strftime, which writes the year 999 with three digits.
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def parse_instant(text: str) -> datetime:
    """RFC 3339 or ISO 8601 text as an aware datetime in UTC; text without a zone is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"outside the calendar: {text!r}") from None
