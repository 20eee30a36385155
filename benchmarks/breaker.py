"""How often the loop breaker stops a session that is none, and how soon one that is, on made sessions.

    python benchmarks/breaker.py [--sessions 1000] [--write]

Each kind of work is done by agents of 125 sessions, five a day: so most sessions have a past of weeks, and the first
ones none. Session lengths are log-normal. The prompts are of made words; what they share and in what they differ is
the point of each kind. The rules run as in a call, through `store.recent_calls` and `policy.loop_rule`, with
the memory kept here and not in a file, and without the floor of `session_floor`, below which no cost stops anybody.
`--write` puts the tables into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from callmeter.policy.controls import LoopBreaker
from callmeter.policy.loop_rule import Verdict, judge
from callmeter.store.recent_calls import RecentCalls
from callmeter.words.sketch import prompt_sketch

HERE = Path(__file__).parent
DAY = 86_400
SALT = b"benchmark"
SESSIONS_A_DAY = 5
SESSIONS_OF_AN_AGENT = 125
# Nano-dollars for each character sent, and for an answer.
CHARACTER, ANSWER = 40, 60_000

# One call: seconds since the one before, the user's last message, and all characters that are sent.
Call = tuple[int, str, int]
Session = Iterator[Call]


def _text(chance: random.Random, count: int) -> list[str]:
    """Made words, the common ones more often, as in a language."""
    return [f"{'bdfgklmnprstvz'[chance.randrange(14)]}{int(4000 * chance.random() ** 3):x}" for _ in range(count)]


_BOOK = _text(random.Random(0), 500_000)


def words(chance: random.Random, count: int) -> str:
    """A passage from a long made text."""
    start = chance.randrange(len(_BOOK) - count)
    return " ".join(_BOOK[start : start + count])


@lru_cache(10_000)
def sketch(said: str) -> str:
    return prompt_sketch(said, SALT)


def length(chance: random.Random, median: float, spread: float = 0.6) -> int:
    """How many calls a session has."""
    return max(1, min(400, round(median * chance.lognormvariate(0, spread))))


def coding(chance: random.Random) -> Session:
    """A conversation that grows: results of tools, next steps."""
    sent = 3000
    for _ in range(length(chance, 15)):
        said = words(chance, chance.randint(10, 300))
        sent += len(said) + 400
        yield chance.randint(5, 90), said, sent


def chatting(chance: random.Random) -> Session:
    """A person's questions."""
    sent = 200
    for _ in range(length(chance, 6)):
        said = words(chance, chance.randint(3, 40))
        sent += len(said) + 600
        yield chance.randint(20, 600), said, sent


def template(instruction: str, fewest: int, most: int, median: float) -> Callable[[random.Random], Session]:
    def session(chance: random.Random) -> Session:
        for _ in range(length(chance, median)):
            said = f"{instruction}\n\n{words(chance, chance.randint(fewest, most))}"
            yield chance.randint(1, 20), said, len(said)

    return session


def flaky(chance: random.Random) -> Session:
    """Tasks of which one in three is asked again, up to four times, with the failure at its end."""
    for _ in range(length(chance, 10)):
        said = words(chance, chance.randint(20, 120))
        for number in range(1 + (chance.randint(1, 4) if chance.random() < 0.33 else 0)):
            text = said + f" attempt {number} failed with status {500 + number}, please try again" * (number > 0)
            yield chance.randint(2, 30), text, len(text) + 500


def checking(chance: random.Random) -> Session:
    """Cron's check of the same thing every five minutes."""
    for _ in range(length(chance, 60, 0.2)):
        yield 300, "is the site up, and does it look as always? answer yes or no", 60


_INSTRUCTION = words(random.Random(1), 120)
KINDS: dict[str, Callable[[random.Random], Session]] = {
    "a coding agent, its context growing": coding,
    "a person's chat": chatting,
    "long instruction + ticket of 10 to 60 words": template(_INSTRUCTION, 10, 60, 25),
    "long instruction + item of 3 words": template(_INSTRUCTION, 3, 3, 25),
    "short instruction + document": template("summarise this for a manager:", 150, 600, 12),
    "tasks, a third retried up to 4 times": flaky,
    "the same check every 5 minutes": checking,
}


class Memory(RecentCalls):
    """An agent's memory that lives in this process."""

    def __init__(self, keep: int) -> None:
        super().__init__("", "agent", 0, keep, look=True)
        self._today = 0
        self._sessions: dict[str, Any] = {}
        self._minutes: dict[str, int] = {}
        self._days: dict[str, list[int]] = {}

    def begin_at(self, at: int) -> None:
        """What is known at a time, as if it were read from a file."""
        if at // DAY == self._today:
            self._at = at
            self._minutes = {minute: count for minute, count in self._minutes.items() if at // 60 - int(minute) < 10}
            return
        document = {"day": self._today, "sessions": self._sessions, "minutes": self._minutes, "days": self._days}
        self._at, self._today = at, at // DAY
        self._sessions = {}
        self._take(document)

    def end(self) -> None:
        """What is written at the end of a call."""
        while len(self._sessions) > 64:
            self._close(next(iter(self._sessions)))


def trips(memory: Memory, name: str, calls: Session, at: int, rules: list[LoopBreaker]) -> Iterator[list[Verdict]]:
    """The verdicts on each call of a session, one for each set of rules; nobody is stopped."""
    for number, (pause, said, sent) in enumerate(calls):
        at += pause
        memory.begin_at(at)
        memory.begin(name, str(number), sketch(said), sent)
        found, spent = memory.calls(name), memory.spent(name)
        usual = memory.usual(name)
        yield [judge(found, spent, memory.in_ten_minutes, usual, each) for each in rules]
        memory.spend(name, str(number), sent * CHARACTER + ANSWER)
        memory.end()


def false_stops(kind: Callable[[random.Random], Session], count: int, rules: list[LoopBreaker]) -> list[list[int]]:
    """Of so many sessions, how many trip by likeness, by cost, and by cost though ten sessions are known."""
    stops = [[0, 0, 0] for _ in rules]
    for agent in range(count // SESSIONS_OF_AN_AGENT):
        chance = random.Random(agent)
        memory = Memory(20)
        for number in range(SESSIONS_OF_AN_AGENT):
            day, place = divmod(number, SESSIONS_A_DAY)
            tripped: list[set[str]] = [set() for _ in rules]
            known = 0
            for verdicts in trips(memory, f"s{number}", kind(chance), day * DAY + place * 4 * 3600, rules):
                known = memory.usual(f"s{number}").sessions
                for place_of, verdict in zip(tripped, verdicts, strict=True):
                    if verdict.level == "trip":
                        place_of.add(verdict.rule)
            for one, rule_names in zip(stops, tripped, strict=True):
                one[0] += "repeats" in rule_names
                one[1] += "cost" in rule_names
                one[2] += "cost" in rule_names and known >= 10
    return stops


def runaway(prompts: Callable[[int], str], grows: int, rules: LoopBreaker) -> list[tuple[int, str, float]]:
    """For 40 agents with a past: at which call a runaway trips, by which rule, and at which share of the largest
    session of the agent."""
    found = []
    for agent in range(40):
        chance = random.Random(agent)
        memory = Memory(20)
        for number in range(40):
            day, place = divmod(number, SESSIONS_A_DAY)
            for _ in trips(memory, f"s{number}", coding(chance), day * DAY + place * 4 * 3600, [rules]):
                pass
        loop = ((20, prompts(number), 3000 + grows * number) for number in range(20_000))
        for number, (verdict,) in enumerate(trips(memory, "loop", loop, 9 * DAY, [rules]), 1):
            if verdict.level == "trip":
                found.append((number, verdict.rule, memory.spent("loop") / memory.usual("loop").largest))
                break
    return found


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def table(count: int) -> list[str]:
    used, tighter = LoopBreaker(), LoopBreaker()
    used.session_floor = tighter.session_floor = 0
    tighter.similar, tighter.times_largest_session = 5, 2
    lines = [
        f"{count} made sessions of each kind; how many of 1,000 are stopped by mistake:",
        "",
        "| kind of work | 10 of 20 alike | 3 × largest session | of these, with 10 known | 5 of 20 | 2 × largest |",
        "|---|---|---|---|---|---|",
    ]
    for name, kind in KINDS.items():
        (alike, cost, known), (alike_5, cost_2, _) = false_stops(kind, count, [used, tighter])
        shown = [f"{1000 * each / count:.0f}" for each in (alike, cost, known, alike_5, cost_2)]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    texts = [words(random.Random(number), 60) for number in range(3000)]
    stories: list[tuple[str, Callable[[int], str], int]] = [
        ("one prompt, again and again", lambda number: texts[0], 0),
        ("one prompt, its failures appended", lambda number: texts[0] + " it failed again, try once more" * number, 30),
        ("three prompts in turn", lambda number: texts[number % 3], 0),
        ("another prompt each time (it succeeds)", lambda number: texts[number % 3000], 0),
        ("another prompt each time, context growing", lambda number: texts[number % 3000], 600),
    ]
    lines += [
        "",
        "Runaways of a coding agent with 40 sessions behind it (medians of 40 agents):",
        "",
        "| runaway | stopped | by | at call | × its largest session |",
        "|---|---|---|---|---|",
    ]
    for name, prompts, grows in stories:
        found = runaway(prompts, grows, used)
        by = " and ".join(sorted({rule for _, rule, _ in found}))
        at, share = middle([number for number, _, _ in found]), middle([share for _, _, share in found])
        lines.append(f"| {name} | {len(found)} of 40 | {by} | {at:.0f} | {share:.2f} |")
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sessions", type=int, default=1000)
    options.add_argument("--write", action="store_true")
    arguments = options.parse_args()
    found = table(arguments.sessions)
    print("\n".join(found))
    if arguments.write:
        sys.path.insert(0, str(HERE))
        from startup import write

        write("breaker", found)


if __name__ == "__main__":
    main()
