"""Logs of weeks, made for tests: quiet ones that look like people at work, and what is planted in them.

Everything is drawn from a seed: the same call gives the same log.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from callmeter.words.instant import text_of
from callmeter.words.record import UsageRecord, parse_record
from callmeter.words.usage import usage_line

FIRST = date(2026, 9, 14)  # a Monday
MODEL = "anthropic/claude-3.5-sonnet"
# USD for a token in and out, and of another model.
RATES = {MODEL: (Decimal("0.000003"), Decimal("0.000015")), "openai/gpt-4o-mini": (Decimal("1.5e-7"), Decimal("6e-7"))}


class MadeLog:
    """Usage lines by and by. `lines` are as written to the log, in order of their making; their ids hold the seed."""

    def __init__(self, seed: int = 1) -> None:
        self.lines: list[bytes] = []
        self.random = random.Random(seed)
        self._seed = seed
        self._count = 0

    @property
    def records(self) -> list[UsageRecord]:
        """The lines as reports read them."""
        return [parse_record(line[:-1]) for line in self.lines]

    def call(self, at: datetime, agent: str = "code", session: str = "s", **fields: object) -> None:
        """One call. Without `cost`, it follows from the tokens (`sizes`, in and out) and the model."""
        self._count += 1
        model = str(fields.pop("model", MODEL))
        purpose = str(fields.pop("purpose", "triage"))
        size = fields.pop("sizes", None) or (self.random.randint(3000, 9000), self.random.randint(300, 900))
        assert isinstance(size, tuple)
        cheap, dear = RATES.get(model, RATES[MODEL])
        record: dict[str, object] = {
            "v": 1,
            "id": f"made-{self._seed}-{self._count}",
            "timestamp": text_of(at),
            "tags": {"agent": agent, "session": session, "purpose": purpose},
            "provider": "openrouter",
            "model": model,
            "tokens": {"in": size[0], "out": size[1]},
            "cost": size[0] * cheap + size[1] * dear,
            "cost_source": "provider",
            "status": "ok",
            "duration_ms": 2310,
            "key": f"{agent}@openrouter",
            "prompt_sketch": f"{self.random.getrandbits(64):016x}",
        }
        self.lines.append(usage_line({**record, **fields}))

    def quiet(self, days: int, agents: tuple[str, ...] = ("code", "review"), calls: int = 60) -> MadeLog:
        """Weekdays with about so many calls an agent, weekends with half of them; some five sessions a day."""
        for number in range(days):
            for agent in agents:
                for at in self.times(number, calls):
                    session = f"{agent}-{number}-{at.hour // 3}"
                    self.call(at, agent, session, purpose=self.random.choice(("triage", "triage", "answer")))
        return self

    def times(self, number: int, calls: int) -> Iterator[datetime]:
        """Instants of one day at work, about so many."""
        weekend = (FIRST + timedelta(number)).weekday() >= 5
        count = max(1, round(self.random.gauss(calls, calls**0.5) * (0.5 if weekend else 1)))
        for second in sorted(self.random.randrange(8 * 3600, 20 * 3600) for _ in range(count)):
            yield day(number) + timedelta(seconds=second)


def day(number: int, hour: float = 0) -> datetime:
    """So many days after the first, at this hour, UTC."""
    return datetime.combine(FIRST, datetime.min.time(), UTC) + timedelta(number, hours=hour)
