"""How often anomalies are found that are none, and how many of those that are planted.

    python benchmarks/anomalies.py [--series 200] [--write]

Two levels. Day sums: made series of 180 days, judged day by day as `budget anomalies` does, without a floor in money;
the last 84 days count, once as they are and once with each thing planted. A quiet subject makes 20 to 300 calls a day,
with weekdays, a level that moves by itself, ups and downs of its own days, and calls whose costs vary; a monthly one
has a job at each month's end besides; an idle one spends on one day in four.

Usage lines: made logs of 70 days with five agents, each with an agent's, a purpose's, a model's and a key's view of it,
read through the whole command with its floor of 1 USD; the last 28 days count. Into each, one thing of each kind is
planted. The bars decide the exit status. `--write` puts the tables into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median

from callmeter.reports.anomalies import examine
from callmeter.reports.anomaly_days import Event, shifts, spikes, told_once
from callmeter.reports.anomaly_finding import Finding, Scope
from callmeter.words.instant import text_of
from callmeter.words.money import NANO
from callmeter.words.period import Period
from callmeter.words.record import Tokens, UsageRecord

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from plain_usage import PlainUsage

FIRST = date(2026, 1, 5)  # a Monday
DAYS, JUDGED = 180, 84
MONTH = 30
# The bars: false alarms for a subject and month on quiet data, and catches of a day of ten times as much.
MOST_FALSE, LEAST_CAUGHT = 0.1, 0.95
DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEADING = "## Anomalies\n"
Days = list[int]


def quiet(draw: random.Random) -> Days:
    """Calls on every day, fewer at weekends for most."""
    calls = draw.choice((20.0, 60.0, 120.0, 300.0))
    cost = draw.uniform(0.005, 0.1) * NANO
    weekend = draw.choice((1.0, 0.6, 0.3))
    unrest = draw.uniform(0.05, 0.35)
    found = []
    for number in range(DAYS):
        # The level moves by some 8 % in a week.
        calls *= draw.lognormvariate(0, 0.03)
        share = weekend if (FIRST + timedelta(number)).weekday() >= 5 else 1.0
        count = calls * share * draw.lognormvariate(-unrest * unrest / 2, unrest)
        # A sum of `count` calls, whose costs vary by as much as they are.
        found.append(round(draw.gammavariate(max(count, 0.5), cost)))
    return found


def monthly(draw: random.Random) -> Days:
    """As quiet, with a job that makes the last day of each month cost three times as much."""
    return [3 * each if (FIRST + timedelta(number + 1)).day == 1 else each for number, each in enumerate(quiet(draw))]


def idle(draw: random.Random) -> Days:
    """Nothing on three days of four, and on the others what comes."""
    mean = draw.uniform(0.5, 5) * NANO
    return [round(draw.lognormvariate(-0.32, 0.8) * mean) if draw.random() < 0.25 else 0 for _ in range(DAYS)]


def judged(days: Days) -> tuple[list[Event], list[Event]]:
    """Spikes and shifts in the days that count."""
    spiked = spikes(FIRST, days, 0)
    told = told_once(spiked, shifts(FIRST, days, 0, spiked))
    start = FIRST + timedelta(DAYS - JUDGED)
    return tuple([event for event in events if event.last >= start] for events in told)  # type: ignore[return-value]


@dataclass
class Score:
    """Of one set: false alarms, and catches of each thing that was planted, with delays in days."""

    months: float = 0
    spikes: int = 0
    shifts: int = 0
    caught: dict[str, list[int | None]] = field(default_factory=dict)

    def share(self, name: str) -> float:
        """How many were caught."""
        found = self.caught[name]
        return sum(each is not None for each in found) / len(found)

    def cell(self, name: str) -> str:
        """For the table: the share, and the median delay if there is one."""
        delays = [each for each in self.caught[name] if each is not None]
        late = round(median(delays)) if delays else 0
        return f"{self.share(name):.0%}" + (f" ({late} d)" if late else "")


def _times(factor: float) -> Callable[[Days, int], Days]:
    return lambda days, at: [round(each * factor) if day == at else each for day, each in enumerate(days)]


def _more(days: Days, at: int) -> Days:
    mean = sum(days[at - 28 : at]) // 28
    return [each + 8 * mean if day == at else each for day, each in enumerate(days)]


def _for_good(days: Days, at: int) -> Days:
    return [each * 2 if day >= at else each for day, each in enumerate(days)]


def _doubling(days: Days, at: int) -> Days:
    return [round(each * (1 + min(max(day - at, 0), 28) / 28)) for day, each in enumerate(days)]


PLANTED: dict[str, tuple[Callable[[Days, int], Days], int]] = {  # and within how many days it must be found
    "×5 day": (_times(5), 0),
    "×10 day": (_times(10), 0),
    "+ 8 mean days": (_more, 0),
    "×2 for good": (_for_good, 20),
    "doubling over 28 days": (_doubling, 41),
}


def day_sums(make: Callable[[random.Random], Days], series: int) -> Score:
    """The score of a set of series."""
    draw = random.Random(1)
    score = Score()
    for _ in range(series):
        days = make(draw)
        spiked, shifted = judged(days)
        score.months += JUDGED / MONTH
        score.spikes += len(spiked)
        score.shifts += len(shifted)
        with_spend = [day for day in range(DAYS - JUDGED, DAYS - 42) if days[day]]
        if not with_spend:
            continue
        at = draw.choice(with_spend)
        for name, (plant, within) in PLANTED.items():
            score.caught.setdefault(name, []).append(_delay(plant(days, at), at, within))
    return score


def _delay(days: Days, at: int, within: int) -> int | None:
    """After how many days an event was told that has day `at` or one of the next `within` in it."""
    first = FIRST + timedelta(at)
    for age in range(within + 1):
        spiked, shifted = judged(days[: at + age + 1])
        if any(event.first <= first + timedelta(age) and event.last >= first for event in [*spiked, *shifted]):
            return age
    return None


# Usage lines

LOG_DAYS, LOG_JUDGED = 70, 28
AGENTS = ("code", "docs", "review", "support", "triage")
BEGUN = datetime(2026, 1, 5, tzinfo=UTC)
PLANTS = ("runaway by its prompts", "runaway by its cost", "zombie", "error storm", "new model", "price change")


class MadeLog:
    """The lines of a made log."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.records: list[UsageRecord] = []

    def call(
        self,
        at: datetime,
        agent: str,
        session: str,
        model: str = "anthropic/claude-sonnet-4.5",
        size: tuple[int, int] = (0, 0),
        price: str = "1",
        status: str = "ok",
        sketch: str = "",
    ) -> None:
        """One call, whose cost follows from its tokens."""
        prompt, answer = size if any(size) else (self.draw.randint(2000, 9000), self.draw.randint(200, 900))
        cost = (prompt * 3 + answer * 15) * Decimal("1e-6") * Decimal(price)
        self.records.append(
            UsageRecord(
                1,
                f"made-{len(self.records)}",
                text_of(at),
                model,
                {"agent": agent, "session": session, "purpose": f"of-{agent[0]}"},
                "openrouter",
                tokens=Tokens(prompt, answer),
                cost=Decimal(0) if status == "error" else cost,
                cost_source="provider",
                status=status,
                error="http_503" if status == "error" else None,
                key=f"{agent}@openrouter",
                prompt_sketch=sketch or f"{self.draw.getrandbits(64):016x}",
            )
        )

    def quiet(self) -> None:
        """Working days of each agent, in sessions, with a failure now and then."""
        for agent in AGENTS:
            calls = self.draw.choice((20, 40, 80))
            weekend = self.draw.choice((1.0, 0.5))
            for number in range(LOG_DAYS):
                share = weekend if (BEGUN + timedelta(number)).weekday() >= 5 else 1.0
                for piece in range(self.draw.randint(4, 6)):
                    start = BEGUN + timedelta(number, hours=self.draw.uniform(7, 19))
                    for _ in range(max(1, round(self.draw.gauss(calls * share / 5, (calls / 5) ** 0.5)))):
                        start += timedelta(seconds=self.draw.expovariate(1 / 90))
                        status = "error" if self.draw.random() < 0.01 else "ok"
                        self.call(start, agent, f"{agent}-{number}-{piece}", status=status)

    def plant(self, name: str, agent: str) -> str:
        """One thing on some day of those that count, and the subject in which it must be found."""
        day = LOG_DAYS - LOG_JUDGED + self.draw.randrange(3, LOG_JUDGED - 6)
        at = BEGUN + timedelta(day, hours=self.draw.uniform(9, 15))
        if name == "runaway by its prompts":
            sketch = self.draw.getrandbits(64)
            for number in range(self.draw.randint(40, 200)):
                near = f"{sketch ^ (1 << self.draw.randrange(64)):016x}"
                self.call(
                    at + timedelta(seconds=15 * number), agent, "loop", size=(9000 + 100 * number, 500), sketch=near
                )
            return "session:loop"
        if name == "runaway by its cost":
            for number in range(self.draw.randint(150, 300)):
                self.call(at + timedelta(seconds=30 * number), agent, "deep", size=(9000, 1500))
            return "session:deep"
        if name == "zombie":
            minutes = self.draw.choice((10, 30, 60))
            for number in range(self.draw.randint(80, 120) * 60 // minutes):
                self.call(
                    at + timedelta(minutes=minutes * number), agent, "left-open", size=(60 * minutes, 40 * minutes // 3)
                )
            return "session:left-open"
        if name == "error storm":
            for number in range(self.draw.randint(40, 200)):
                self.call(at + timedelta(seconds=20 * number), agent, f"{agent}-{day}-x", status="error")
            return f"agent:{agent}"
        if name == "new model":
            for number in range(60):
                self.call(at + timedelta(minutes=number), agent, f"{agent}-{day}-{number // 9}", "x/new", (8000, 900))
            return "model:x/new"
        until = text_of(BEGUN + timedelta(day))
        price = Decimal(self.draw.choice(("0.8", "1.2", "1.5")))
        self.records = [
            each
            if each.timestamp < until or each.cost is None or each.model == "x/new"
            else _repriced(each, each.cost * price)
            for each in self.records
        ]
        return "model:anthropic/claude-sonnet-4.5"

    def found(self) -> list[Finding]:
        """What the command finds."""
        end = BEGUN + timedelta(LOG_DAYS)
        scope = Scope(end, UTC, Period(end - timedelta(LOG_JUDGED), end, ""))
        return list(examine(PlainUsage(self.records), scope).findings)


def _repriced(record: UsageRecord, cost: Decimal) -> UsageRecord:
    import msgspec

    return msgspec.structs.replace(record, cost=cost)


def lines(logs: int) -> tuple[float, dict[str, int], Sequence[str]]:
    """False alarms for a subject and month in quiet logs; how many of each plant were found; what was missed."""
    false = subjects = 0
    caught = dict.fromkeys(PLANTS, 0)
    missed = []
    for seed in range(logs):
        log = MadeLog(random.Random(seed))
        log.quiet()
        # Each agent, its purpose and its key, and the one model.
        subjects += 3 * len(AGENTS) + 1
        false += len(log.found())
        for number, name in enumerate(PLANTS):
            planted = MadeLog(random.Random(1000 * seed + number))
            planted.records = list(log.records)
            subject = planted.plant(name, AGENTS[(seed + number) % len(AGENTS)])
            kind = "runaway" if name.startswith("runaway") else name
            if any(each.kind == kind and each.subject == subject for each in planted.found()):
                caught[name] += 1
            else:
                missed.append(f"{name} in log {seed}")
    return false / (subjects * LOG_JUDGED / MONTH), caught, missed


def main() -> int:
    parser = argparse.ArgumentParser(description="How well anomalies are found.")
    parser.add_argument("--series", type=int, default=200, help="series of each kind")
    parser.add_argument("--logs", type=int, default=8, help="logs of usage lines")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    options = parser.parse_args()
    makers = {"quiet": quiet, "monthly": monthly, "idle": idle}
    sets = {name: day_sums(make, options.series) for name, make in makers.items()}
    text = [
        f"Day sums, {options.series} made series of each kind, no floor in money; false alarms are for a subject and "
        "month, delays medians:",
        "",
        "| set | false spikes | false shifts | " + " | ".join(PLANTED) + " |",
        "|---|---" + "|---" * (1 + len(PLANTED)) + "|",
    ]
    for name, score in sets.items():
        cells = [f"{score.spikes / score.months:.2f}", f"{score.shifts / score.months:.2f}"]
        text.append(f"| {name} | " + " | ".join([*cells, *map(score.cell, PLANTED)]) + " |")
    false, caught, missed = lines(options.logs)
    text += [
        "",
        f"Usage lines, {options.logs} made logs of {LOG_DAYS} days through the whole command, floor 1 USD: "
        f"{false:.3f} findings for a subject and month where nothing is planted. Planted and found:",
        "",
        "| " + " | ".join(PLANTS) + " |",
        "|---" * len(PLANTS) + "|",
        "| " + " | ".join(f"{caught[name]} of {options.logs}" for name in PLANTS) + " |",
    ]
    print("\n".join(text))
    if options.write:
        write(text)
    calm = sets["quiet"]
    faults = [f"missed: {each}" for each in missed]
    if (calm.spikes + calm.shifts) / calm.months > MOST_FALSE or false > MOST_FALSE:
        faults.append(f"more than {MOST_FALSE} false alarms for a subject and month on quiet data")
    if calm.share("×10 day") < LEAST_CAUGHT:
        faults.append(f"less than {LEAST_CAUGHT:.0%} of the ×10 days were caught")
    for fault in faults:
        print(fault, file=sys.stderr)
    return bool(faults)


def write(text: Sequence[str]) -> None:
    """Replace this benchmark's section of docs/benchmarks.md, or add it."""
    page = DOCS.read_text()
    before, heading, rest = page.partition(HEADING)
    _, following, after = rest.partition("\n## ")
    section = f"{HEADING}\n    python benchmarks/anomalies.py --write\n\n" + "\n".join(text) + "\n"
    DOCS.write_text(f"{before if heading else before.rstrip() + chr(10) * 2}{section}{following}{after}")


if __name__ == "__main__":
    sys.exit(main())
