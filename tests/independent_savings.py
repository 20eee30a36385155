"""What could be saved, counted again from raw lines as docs/value.md says: loops, with nothing of callmeter in them.

Money is in nano-dollars. What a policy's lists permit, and what prices hold when, is the caller's to say.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

ZOMBIE, FAILED, RETRIES, MODEL, ANSWERS, CACHE = (
    "zombie session", "failed calls", "retries", "cheaper model", "long answers", "prompt cache"
)  # fmt: skip
KINDS = (ZOMBIE, FAILED, RETRIES, MODEL, ANSWERS, CACHE)
TOKENS = ("in", "out", "cached", "cache_write", "cache_write_1h", "reasoning")
NONE = "(none)"
# Nano-dollars for a token by name, for a call by `request`; None where nobody knows the price.
Prices = Callable[[str, str, datetime], Mapping[str, Fraction] | None]
# Kind, whose, what.
Place = tuple[str, str, str]


@dataclass
class Call:
    """A call with its corrections."""

    id: str
    at: datetime
    tags: Mapping[str, str]
    provider: str
    model: str
    key: str
    status: str
    attempts: int
    sketch: str | None
    tokens: Mapping[str, int] | None
    cost: int | None

    @property
    def purpose(self) -> str:
        return self.tags.get("purpose", NONE)

    @property
    def has_failed(self) -> bool:
        return self.status in ("error", "timeout", "truncated", "unknown")

    @property
    def paid(self) -> int:
        """What could be saved at most."""
        return max(self.cost or 0, 0) if self.status != "cancelled" else 0

    @property
    def is_priced(self) -> bool:
        return self.status == "ok" and self.tokens is not None and self.tokens["in"] + self.tokens["out"] > 0


@dataclass
class Lists:
    """Lists of models: what they permit a call, and name in full for it; whose `alike` is equal are treated alike."""

    permits: Callable[[Call, str], bool] = lambda call, model: True
    named: Callable[[Call], Iterable[str]] = lambda call: ()
    alike: Callable[[Call], tuple[str, ...]] = lambda call: ()


@dataclass
class Answer:
    """Calls, cost and saving of each row, what each kind saves and would save alone, what was spent."""

    rows: dict[Place, tuple[int, int, int]]
    kinds: dict[str, int] = field(default_factory=dict)
    alone: dict[str, int] = field(default_factory=dict)
    spent: int = 0


def read_calls(lines: Iterable[bytes], as_of: datetime) -> tuple[list[Call], list[tuple[datetime, int]]]:
    """The calls that were logged by then, but the refused ones; and when other lines say what money."""
    seen: set[str] = set()
    calls: dict[str, Call] = {}
    corrections: list[tuple[str, datetime, int]] = []
    rest: list[tuple[datetime, int]] = []
    for line in lines:
        try:
            found = json.loads(line, parse_float=Decimal)
        except ValueError:
            continue
        if not isinstance(found, dict) or found.get("v") != 1 or found["id"] in seen:
            continue
        seen.add(found["id"])
        at = _instant(found["timestamp"])
        if at >= as_of or ("recorded_at" in found and _instant(found["recorded_at"]) >= as_of):
            continue
        cost = None if found.get("cost") is None else int(Decimal(found["cost"]).scaleb(9))
        if "corrects" in found:
            corrections += [(found["corrects"], at, cost)] if cost is not None else []
        elif found["status"] == "refused":
            rest.append((at, cost or 0))
        else:
            said = found.get("tokens")
            tokens = None if said is None else {name: int(said.get(name, 0)) for name in TOKENS}
            calls[found["id"]] = Call(
                found["id"], at, found["tags"], found["provider"], found["model"], found.get("key", NONE),
                found["status"], found.get("attempts", 1), found.get("prompt_sketch"), tokens, cost,
            )  # fmt: skip
    for id, at, change in corrections:
        if id in calls:
            calls[id].cost = (calls[id].cost or 0) + change
        else:
            rest.append((at, change))
    return list(calls.values()), rest


def saved(
    every: Sequence[Call], start: datetime, end: datetime, prices: Prices, lists: Lists, asked: str = ""
) -> Answer:
    """What the calls of a period could have saved; `asked` is the model that was asked about."""
    calls = [call for call in every if start <= call.at < end]
    models = _models(calls, end, prices, lists, asked)
    ceilings = {purpose: _ceiling(calls, purpose) for purpose in {call.purpose for call in calls}}
    kinds = _kinds(every, calls, prices, models, ceilings)
    # A model that saves nothing call by call is not proposed.
    sums: dict[tuple[str, ...], int] = defaultdict(int)
    for id, (kind, nano) in _counted(calls, kinds, models).items():
        if kind == MODEL:
            sums[models[id][2]] += nano
    models = {id: found for id, found in models.items() if sums.get(found[2], 1) > 0}
    kinds = _kinds(every, calls, prices, models, ceilings)
    answer = _counted(calls, kinds, models)
    rows: dict[Place, list[int]] = defaultdict(lambda: [0, 0, 0])
    by_id = {call.id: call for call in calls}
    for id, (kind, nano) in answer.items():
        call = by_id[id]
        place = {
            ZOMBIE: (call.tags.get("agent", NONE), call.tags.get("session", NONE)),
            MODEL: (call.purpose, f"{call.model} to {models[id][0] if id in models else ''}"),
            FAILED: (call.purpose, "no whole answer"),
            ANSWERS: (call.purpose, f"above {ceilings[call.purpose] or 0:,} tokens"),
        }.get(kind, (call.purpose, call.model))
        row = rows[kind, place[0], place[1]]
        row[:] = row[0] + 1, row[1] + call.paid, row[2] + nano
    return Answer(
        {place: (row[0], row[1], row[2]) for place, row in rows.items()},
        {kind: sum(nano for each, nano in answer.values() if each == kind) for kind in KINDS},
        {kind: max(sum(kinds[kind].values()), 0) for kind in KINDS},
        sum(call.cost or 0 for call in calls),
    )


def _counted(
    calls: Sequence[Call], kinds: Mapping[str, Mapping[str, int]], models: _Models
) -> dict[str, tuple[str, int]]:
    """By id, the one saving that each call counts under."""
    found = {}
    for call in calls:
        least = [kind for kind in KINDS if kind != MODEL or (call.id in models and models[call.id][1])]
        best = max(least, key=lambda kind: kinds[kind].get(call.id, 0))
        if kinds[best].get(call.id, 0) <= 0:
            best = MODEL
        if kinds[best].get(call.id, 0):
            found[call.id] = best, kinds[best][call.id]
    return found


# By id: the model to change to, whether it was tried, and which calls change together.
_Models = Mapping[str, tuple[str, bool, tuple[str, ...]]]


def _kinds(
    every: Sequence[Call],
    calls: Sequence[Call],
    prices: Prices,
    models: _Models,
    ceilings: Mapping[str, int | None],
) -> dict[str, dict[str, int]]:
    """By kind and id, what calls could have cost less."""
    found: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    zombies, repeats = _zombies(every), _repeats(calls)
    for call in calls:
        if not call.paid:
            continue
        found[ZOMBIE][call.id] = zombies.get(call.id, 0)
        if call.has_failed:
            found[FAILED][call.id] = call.paid
        amounts = prices(call.provider, call.model, call.at)
        if not call.is_priced or call.tokens is None:
            continue
        own = _price(call.tokens, amounts)
        if call.attempts > 1 and own is not None:
            found[RETRIES][call.id] = max(call.paid - own, 0)
        if call.id in models:
            other = _price(call.tokens, prices(call.provider, models[call.id][0], call.at))
            if other is not None:
                dearer = own is not None and other >= own
                billed = call.paid if own is None or not (dearer or call.attempts > 1) else min(call.paid, own)
                found[MODEL][call.id] = billed - other
        if amounts is None:
            continue
        ceiling = ceilings[call.purpose]
        if ceiling is not None and call.tokens["out"] > ceiling:
            more = math.floor((call.tokens["out"] - ceiling) * amounts["out"])
            found[ANSWERS][call.id] = min(more, call.paid)
        if call.id in repeats:
            again, written = repeats[call.id]
            less = again * (amounts["in"] - amounts["cached"])
            dearer_by = max(amounts["cache_write"] - amounts["in"], Fraction(0))
            found[CACHE][call.id] = min(max(math.floor(less - written * dearer_by), 0), call.paid)
    return found


def _models(calls: Sequence[Call], end: datetime, prices: Prices, lists: Lists, asked: str) -> _Models:
    sent: dict[tuple[str, str, str], list[Call]] = defaultdict(list)
    groups: dict[tuple[str, ...], list[Call]] = defaultdict(list)
    for call in calls:
        sent[call.purpose, call.provider, call.model].append(call)
        groups[call.purpose, call.provider, call.model, *lists.alike(call)].append(call)
    used: dict[str, set[str]] = defaultdict(set)
    for (_, provider, model, *_), alike in groups.items():
        if not all(call.has_failed for call in alike):
            used[provider].add(model)
    found: dict[str, tuple[str, bool, tuple[str, ...]]] = {}
    for names, alike in groups.items():
        purpose, provider, model = names[:3]
        known = [call for call in alike if call.cost is not None and call.tokens is not None]
        whole = sum(call.tokens["in"] + call.tokens["out"] for call in known if call.tokens)
        if all(call.has_failed for call in alike) or whole <= 0:
            continue
        most = sum(call.cost or 0 for call in known)
        own = _all_at(known, prices(provider, model, end))
        most = most if own is None else min(most, own)
        best: tuple[bool, int, str] | None = None
        for name in {asked} if asked else used[provider] | set(lists.named(alike[0])):
            cost = _all_at(known, prices(provider, name, end))
            if name == model or cost is None or cost >= most or not lists.permits(alike[0], name):
                continue
            there, here = sent[purpose, provider, name], sent[purpose, provider, model]
            if len(here) < 20:
                here = [call for call in calls if call.provider == provider and call not in there]
            if not asked and min(len(there), len(here)) >= 20 and _failed(there) > _failed(here) + Fraction(5, 100):
                continue
            best = min(best or (True, cost, name), (not asked and len(there) < 20, cost, name))
        if best is not None:
            found |= {call.id: (best[2], not best[0], names) for call in alike}
    return found


def _failed(calls: Sequence[Call]) -> Fraction:
    return Fraction(sum(call.has_failed for call in calls), len(calls))


def _all_at(calls: Sequence[Call], amounts: Mapping[str, Fraction] | None) -> int | None:
    found = [_price(call.tokens, amounts) for call in calls if call.tokens is not None]
    return None if None in found else sum(filter(None, found))


def _price(tokens: Mapping[str, int], amounts: Mapping[str, Fraction] | None) -> int | None:
    if amounts is None:
        return None
    plain = tokens["in"] - tokens["cached"] - tokens["cache_write"] - tokens["cache_write_1h"]
    counts = {**tokens, "in": max(plain, 0), "out": max(tokens["out"] - tokens["reasoning"], 0)}
    return math.ceil(amounts["request"] + sum(count * amounts[name] for name, count in counts.items()))


def _ceiling(calls: Sequence[Call], purpose: str) -> int | None:
    sizes = sorted(
        call.tokens["out"] for call in calls if call.purpose == purpose and call.status == "ok" and call.tokens
    )
    if len(sizes) < 20:
        return None
    four = 4 * max(sizes[(len(sizes) - 1) // 2], 1)
    step = 10 ** max(len(str(four)) - 2, 0)
    ceiling = max(-(-four // step) * step, 64)
    return ceiling if sizes[-(-9 * len(sizes) // 10) - 1] <= ceiling < sizes[-1] else None


def _repeats(calls: Sequence[Call]) -> dict[str, tuple[int, int]]:
    """By id, the tokens that a cache would have had, and those that are written to it."""
    runs: dict[tuple[str, ...], list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: (call.at, call.id)):
        if call.is_priced and call.tokens is not None and call.tokens["in"] >= 1024:
            own = call.tags.get("agent", NONE), call.provider, call.model
            if "session" in call.tags:
                runs["grown", *own, call.tags["session"]].append(call)
            if call.sketch is not None:
                runs["same", *own, call.sketch].append(call)
    found: dict[str, tuple[int, int]] = {}
    for (how, *_), run in runs.items():
        row = run[:1]
        for call in run[1:]:
            if not _follows(row[-1], call, how):
                _keep(found, row)
                row = []
            row.append(call)
        _keep(found, row)
    return found


def _follows(before: Call, call: Call, how: str) -> bool:
    assert before.tokens is not None and call.tokens is not None
    size, last = call.tokens["in"], before.tokens["in"]
    if call.at - before.at > timedelta(minutes=5):
        return False
    if how == "grown":
        return size >= last + max(before.tokens["out"] - before.tokens["reasoning"], 1)
    return abs(size - last) * 50 <= last


def _keep(found: dict[str, tuple[int, int]], row: Sequence[Call]) -> None:
    if len(row) < 4:
        return
    for place in range(1, len(row)):
        before, tokens = row[place - 1].tokens, row[place].tokens
        assert before is not None and tokens is not None
        repeated = min(before["in"], tokens["in"])
        again = repeated - tokens["cached"] - tokens["cache_write"] - tokens["cache_write_1h"]
        written = tokens["in"] - repeated + (before["in"] if place == 1 else 0)
        if again > found.get(row[place].id, (0, 0))[0]:
            found[row[place].id] = again, written


def _zombies(every: Sequence[Call]) -> dict[str, int]:
    """By id, of an agent's only long session: calls from 72 hours after its beginning."""
    sessions: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in sorted(every, key=lambda call: call.at):
        if "session" in call.tags:
            sessions[call.tags.get("agent", NONE), call.tags["session"]].append(call)
    found: dict[str, int] = {}
    for (agent, name), calls in sessions.items():
        runs = [calls[:1]]
        for before, call in pairwise(calls):
            if call.at - before.at > timedelta(hours=6):
                runs.append([])
            runs[-1].append(call)
        run = max(runs, key=lambda run: run[-1].at - run[0].at)
        others = [c[-1].at - c[0].at for (a, n), c in sessions.items() if a == agent and n != name]
        long = max([timedelta(hours=48), *(3 * each for each in others)])
        if run[-1].at - run[0].at >= long and sum(call.cost or 0 for call in run) > 10**9:
            found |= {call.id: call.paid for call in run if call.at >= run[0].at + timedelta(hours=72)}
    return found


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
