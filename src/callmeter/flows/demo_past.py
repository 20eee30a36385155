"""Three weeks of made-up calls, so that the demo has something to forecast from. Each line says that it is made up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from callmeter.words.instant import text_of
from callmeter.words.money import usd
from callmeter.words.usage import VERSION, usage_line

DAYS = 21
# Agent, purpose, calls on a weekday, tokens in and out of one.
_WORK = (("code", "review", 9, 900, 120), ("docs", "changelog", 5, 400, 90), ("research", "summary", 3, 1500, 200))
_PRICES = (150, 600)  # nano-dollars for a token in and out, as the demo prices its model


def made_up(now: datetime) -> Iterator[bytes]:
    """The lines of the days before `now`'s, the same for the same day: busy on weekdays, quiet at weekends."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for age in range(DAYS, 0, -1):
        day = today - timedelta(days=age)
        for agent, purpose, usual, tokens_in, tokens_out in _WORK:
            count = usual // 4 if day.weekday() > 4 else usual + (day.toordinal() * 7 + usual) % 5 - 2
            for number in range(count):
                at = day + timedelta(hours=8, minutes=number * 50 + usual)
                tokens = {"in": tokens_in + 37 * (number % 7), "out": tokens_out + 11 * (number % 5)}
                cost = tokens["in"] * _PRICES[0] + tokens["out"] * _PRICES[1]
                yield usage_line(
                    {
                        "v": VERSION,
                        "id": f"demo-{day:%Y%m%d}-{agent}-{number}",
                        "timestamp": text_of(at),
                        "tags": {"agent": agent, "session": f"{day:%m-%d}", "purpose": purpose},
                        "provider": "local",
                        "model": "smollm2",
                        "tokens": tokens,
                        "cost": Decimal(usd(cost)),
                        "cost_source": "price",
                        "status": "ok",
                        "finish_reason": "stop",
                        "duration_ms": 400 + 90 * (number % 6),
                        "attempts": 1,
                        "note": "made up by callmeter demo",
                    }
                )
