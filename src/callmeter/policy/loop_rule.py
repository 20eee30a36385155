"""Does a session look like a runaway loop? Arithmetic over its last calls and over what is usual for its agent.

Two stories. A retry loop asks the same again and again: its prompts are near-identical and close together. A loop
that succeeds each time asks something else each time: only its cost tells, against the agent's own past. A prompt
that grows is normal (a conversation does), so growth is shown as evidence and never stops anybody.

What it stops by mistake, and how soon it stops a runaway, is measured on made sessions: `benchmarks/breaker.py`.
"""

from __future__ import annotations

from callmeter.words.money import shown, usd
from callmeter.words.sketch import NEAR, distance
from callmeter.words.wording import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from callmeter.policy.controls import LoopBreaker

# Prompts further apart than this are no loop: a health check every five minutes repeats itself all day.
CLOSE = 30 * 60
# An agent's largest session says little until there were this many.
LEAST_SESSIONS = 3


class Seen:
    """One call: when (seconds since 1970), its prompt's sketch, the size of all that it sent in characters, and its
    cost in nano-dollars, 0 as long as it runs."""

    __slots__ = ("at", "cost", "size", "sketch")

    def __init__(self, at: int, sketch: str, size: int, cost: int = 0) -> None:
        self.at = at
        self.sketch = sketch
        self.size = size
        self.cost = cost


class Usual:
    """What is usual for an agent, from 28 days: how many sessions there were, the cost of the largest in
    nano-dollars, and the most calls in any ten minutes. The session that is judged is not among them."""

    __slots__ = ("busiest", "largest", "sessions")

    def __init__(self, sessions: int = 0, largest: int = 0, busiest: int = 0) -> None:
        self.sessions = sessions
        self.largest = largest
        self.busiest = busiest


class Verdict:
    """`level` is `none`, `warn` or `trip`; `rule` is `repeats`, `cost` or `rate`; `said` is the reason with its
    figures, and `figures` are the same for machines."""

    __slots__ = ("figures", "level", "rule", "said")

    def __init__(
        self, level: str = "none", rule: str = "", said: str = "", figures: dict[str, object] | None = None
    ) -> None:
        self.level = level
        self.rule = rule
        self.said = said
        self.figures = figures or {}


def judge(
    calls: Sequence[Seen], spent: int, in_ten_minutes: int, usual: Usual, rules: LoopBreaker, *, batch: bool = False
) -> Verdict:
    """The verdict on the newest of `calls`, which are in order of time. `spent` is what the session has cost so far,
    in nano-dollars. The prompts of a batch may be alike: it is judged by its cost only."""
    last = calls[-rules.of_last :]
    alike = [] if batch or not last else _alike(last)
    if len(alike) >= rules.similar and one_thing(alike):
        return _repeats("trip", alike, last)
    limit = max(rules.session_floor, int(usual.largest * rules.times_largest_session))
    if usual.sessions >= LEAST_SESSIONS and spent > limit:
        times = f"{rules.times_largest_session} times its largest of 28 days, {shown(usual.largest)}"
        return Verdict(
            "trip",
            "cost",
            f"this session has cost {shown(spent)}, more than {times}{_growth(last)}",
            {
                "spent": usd(spent),
                "limit": usd(limit),
                "largest_session": usd(usual.largest),
                **_sizes(last),
            },
        )
    if len(alike) >= rules.warn_similar:
        return _repeats("warn", alike, last)
    most = int(usual.busiest * rules.times_busiest)
    if usual.busiest and not batch and in_ten_minutes >= rules.busiest_calls and in_ten_minutes > most:
        return Verdict(
            "warn",
            "rate",
            f"{in_ten_minutes} calls in ten minutes, more than {rules.times_busiest} times its busiest of 28 days, "
            f"{usual.busiest}",
            {"calls": in_ten_minutes, "busiest": usual.busiest},
        )
    return Verdict()


def _alike(calls: Sequence[Seen]) -> list[Seen]:
    """The calls whose prompts are near-identical to the newest one's, and not long before it."""
    newest = calls[-1]
    return [call for call in calls if newest.at - call.at <= CLOSE and distance(call.sketch, newest.sketch) <= NEAR]


def one_thing(alike: Sequence[Seen]) -> bool:
    """Whether calls that are all like the newest one are nearly all like each other. Those of a loop are; items under
    one long instruction may all be near one of them, and apart from each other."""
    sketches = [call.sketch for call in alike]
    pairs = [distance(one, other) <= NEAR for number, one in enumerate(sketches) for other in sketches[:number]]
    return 5 * sum(pairs) >= 4 * len(pairs)


def _repeats(level: str, alike: Sequence[Seen], last: Sequence[Seen]) -> Verdict:
    cost, seconds = sum(call.cost for call in alike), max(0, alike[-1].at - alike[0].at)
    return Verdict(
        level,
        "repeats",
        f"{len(alike)} of the last {len(last)} prompts are near-identical, within {duration(seconds)}, "
        f"for {shown(cost)}{_growth(alike)}",
        {"similar": len(alike), "of_last": len(last), "seconds": seconds, "spent": usd(cost), **_sizes(alike)},
    )


def _growth(calls: Sequence[Seen]) -> str:
    sizes = _sizes(calls)
    if not sizes or sizes["size_last"] * 10 <= sizes["size_first"] * 12:
        return ""
    return f"; what is sent grew from {sizes['size_first']:,} to {sizes['size_last']:,} characters"


def _sizes(calls: Sequence[Seen]) -> dict[str, int]:
    return {"size_first": calls[0].size, "size_last": calls[-1].size} if calls else {}
