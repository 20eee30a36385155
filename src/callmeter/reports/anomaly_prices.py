"""Models that were never called before, and models whose calls cost more, or less, for the same tokens.

What a token of each kind costs is fitted to the days before, leaning on the price list where they say little. A change
that the price list has too is a known one, and so is one of the tokens' mix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from statistics import median

from callmeter.policy.prices import part_price
from callmeter.reports.anomaly_finding import (
    NEW_MODEL,
    PRICE,
    USUAL_RATES,
    Finding,
    Scope,
    breakdown,
    days_period,
    earlier,
    subject_of,
    times,
)
from callmeter.reports.usage import Figures, Usage, summed
from callmeter.words.money import shown
from callmeter.words.wording import counted, listed

# A log that is younger than this has only new models.
_LEAST_LOG = timedelta(7)
# A price is known from so many days and calls; it has changed when so many calls, or two days, are off by so much.
_LEAST_DAYS, _LEAST_CALLS, _ENOUGH_CALLS = 3, 10, 20
_OFF, _DEVIATIONS = 0.1, 4
_FITTED = 28
# The standard deviation of a normal distribution is about so many times its median absolute deviation.
_NORMAL = 1.5
_KINDS = ("in", "cached", "cache_write", "out")
# What the price list weighs in the fit, against a day's weight of 1: next to nothing where days tell the rates apart.
_LEANING = 1e-3
_COUNTED = (
    "nano", "calls", "without_tokens", "tokens_in", "tokens_out", "tokens_cached", "tokens_cache_write",
)  # fmt: skip
_OF_MODELS = (
    "calls", "unknown", "nano", "priced_nano", "priced_tokens", "estimate_nano", "first", "last",
)  # fmt: skip
Model = tuple[str, str]  # provider, model
# A model's list prices of some days.
_Lists = Mapping[date, list[float] | None]


@dataclass
class _Day:
    """What a model's calls of one day took, as far as their cost is known."""

    day: date
    nano: int = 0
    calls: int = 0
    tokens: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # by _KINDS, which do not overlap

    def add(self, figures: Figures) -> None:
        read, written = figures.tokens_cached, figures.tokens_cache_write
        fresh = max(0, figures.tokens_in - read - written)
        self.nano += figures.nano
        self.calls += figures.calls
        for index, count in enumerate((fresh, read, written, figures.tokens_out)):
            self.tokens[index] += count

    @property
    def good(self) -> bool:
        return self.nano > 0 and self.calls > 0 and sum(self.tokens) > 0 and min(self.tokens) >= 0


def price_findings(usage: Usage, scope: Scope) -> list[Finding]:
    """New models, and price changes, that touch the period."""
    days: dict[Model, dict[date, _Day]] = {}
    groups = usage.groups(("provider", "model"), period=scope.history, where=scope.where, only=_OF_MODELS)
    whole = {(provider, model): figures for (provider, model), figures in groups}
    names = ("provider", "model", "status", "day", "origin")
    groups = usage.groups(names, period=scope.history, where=scope.where, only=_COUNTED)
    for (provider, model, status, label, origin), figures in groups:
        day = date.fromisoformat(label)
        # What was guessed says nothing about a price, nor does what failed: its tokens may have cost nothing.
        if status == "ok" and origin not in ("unknown", "estimate") and not figures.without_tokens:
            days.setdefault((provider, model), {}).setdefault(day, _Day(day)).add(figures)
    return [*_new_models(usage, scope, whole), *_changes(scope, days)]


def _new_models(usage: Usage, scope: Scope, whole: Mapping[Model, Figures]) -> list[Finding]:
    firsts: dict[str, str] = {}
    for (_, model), figures in whole.items():
        if figures.first is not None:
            firsts[model] = min(figures.first, firsts.get(model, figures.first))
    if not firsts:
        return []
    begun = datetime.fromisoformat(min(firsts.values()))
    found = []
    for model, first in firsts.items():
        instant = datetime.fromisoformat(first)
        day = scope.day(instant).isoformat()
        if instant - begun < _LEAST_LOG or not scope.touches(day, day):
            continue
        of_it = summed(figures for (_, other), figures in whole.items() if other == model)
        floor = scope.floors.of("model", model)
        if of_it.nano > floor or (of_it.unknown and of_it.estimate_nano > floor):
            found.append(_new_model(usage, scope, model, instant, of_it))
    return found


def _new_model(usage: Usage, scope: Scope, model: str, first: datetime, of_it: Figures) -> Finding:
    """Its excess is all that it cost: nobody expected it."""
    day = scope.day(first).isoformat()
    callers = [
        (agent, figures)
        for (name, agent), figures in usage.groups(
            ("model", "agent"), period=scope.history, where=scope.narrowed([f"model={model}"])
        )
        if name == model
    ]
    callers.sort(key=lambda each: -each[1].nano)
    period = days_period(earlier(scope.day(first), _FITTED), earlier(scope.day(first), 1), usage.zone)
    before = summed(figures for _, figures in usage.groups(period=period, where=scope.where))
    last = day if of_it.last is None else scope.day(datetime.fromisoformat(of_it.last)).isoformat()
    names = listed([agent for agent, _ in callers], 3)
    evidence = [f"first called on {day}, {counted(of_it.calls, 'call')} since by {names}"]
    if of_it.per_1k is not None and before.per_1k is not None:
        evidence.append(f"{shown(of_it.per_1k)} for 1,000 tokens, the others {shown(before.per_1k)} before")
    if of_it.unknown:
        evidence.append(f"the cost of {counted(of_it.unknown, 'call')} is unknown")
    return Finding(
        scope.id(NEW_MODEL, model),
        NEW_MODEL,
        subject_of("model", model),
        day,
        last,
        None,
        None,
        of_it.nano,
        of_it.nano,
        "; ".join(evidence),
        breakdown(scope, ["agent", "purpose"], [f"model={model}"], day, last),
    )


def _changes(scope: Scope, models: Mapping[Model, Mapping[date, _Day]]) -> Iterable[Finding]:
    for (provider, model), days in models.items():
        for run in _runs(scope, (provider, model), [days[day] for day in sorted(days) if days[day].good]):
            first, last = run.days[0].day.isoformat(), run.days[-1].day.isoformat()
            actual = sum(each.nano for each in run.days)
            # Of a model that was next to free this may be less than half a nano-dollar.
            was = sum(run.expected)
            expected = round(was)
            floor = scope.floors.of("model", model)
            if not _tells(actual, was, floor):
                continue  # one odd day, such as one of retries: the price was soon what it had been
            # It is news until it can be told, not for the weeks in which it is paid.
            if not scope.touches(first, _told_on(run, floor).isoformat()):
                continue
            part = actual / was - 1
            calls = sum(each.calls for each in run.days)
            yield Finding(
                scope.id(PRICE, provider, model, first),
                PRICE,
                subject_of("model", model),
                first,
                last,
                expected,
                expected,
                actual,
                actual - expected,
                f"the same tokens cost {_than_before(part)} in the days before, in {counted(calls, 'call')} at "
                f"{provider}; neither the price list nor the mix of tokens explains it",
                breakdown(scope, ["day", "agent"], [f"model={model}", f"provider={provider}"], first, last),
            )


def _tells(actual: int, expected: float, floor: int) -> bool:
    return abs(actual - expected) > floor and abs(actual - expected) > _OFF * expected


def _told_on(run: _Run, floor: int) -> date:
    """The first day by which the change was beyond doubt, and had cost enough to be told."""
    actual, expected = 0, 0.0
    for number, (day, was) in enumerate(zip(run.days, run.expected, strict=True), 1):
        actual, expected = actual + day.nano, expected + was
        if number >= run.odd and _tells(actual, expected, floor):
            return day.day
    return run.days[-1].day


def _than_before(part: float) -> str:
    """`12% more than`; what is more than double, `16.5 times as much as`."""
    if part > 1:
        return f"{times(1 + part, 1)} times as much as"
    return f"{abs(part):.0%} {'more' if part > 0 else 'less'} than"


@dataclass
class _Run:
    """Days at a new price, and what they would have cost at the one of the days `before`. The first `odd` of them were
    needed to see it."""

    days: list[_Day]
    expected: list[float]
    before: list[_Day]
    odd: int


def _runs(scope: Scope, model: Model, days: Sequence[_Day]) -> list[_Run]:
    """The stretches of days since a price changed, each up to the next change or for four weeks."""
    lists = {each.day: _amounts(scope, model, each.day) for each in days}
    found: list[_Run] = []
    past: list[_Day] = []
    odd: list[tuple[_Day, float]] = []
    for day in days:
        known = [_relisted(lists, each, day) for each in past[-_FITTED:]]
        if len(known) < _LEAST_DAYS or sum(each.calls for each in known) < _LEAST_CALLS:
            if found:
                _go_on(lists, found[-1], day)
            past.append(day)
            continue
        rates, spread = _fit(lists, known)
        expected = _cost(rates, day)
        off = day.nano / expected - 1 if expected > 0 else 0.0
        if abs(off) <= max(_OFF, _DEVIATIONS * spread):
            # Single odd days were none of the price's.
            odd = []
            past.append(day)
            if found:
                _go_on(lists, found[-1], day)
            continue
        if odd and (odd[0][0].nano - odd[0][1]) * off < 0:
            odd = []
        odd.append((day, expected))
        if len(odd) > 1 or day.calls >= _ENOUGH_CALLS:
            found.append(_Run([each for each, _ in odd], [was for _, was in odd], past[-_FITTED:], len(odd)))
            # What was before the change says nothing about what comes.
            past = [each for each, _ in odd]
            odd = []
    return found


def _go_on(lists: _Lists, run: _Run, day: _Day) -> None:
    """One more day at the new price, against the old one."""
    if (day.day - run.days[0].day).days < _FITTED:
        rates, _ = _fit(lists, [_relisted(lists, each, day) for each in run.before])
        run.expected.append(_cost(rates, day))
        run.days.append(day)


def _fit(lists: _Lists, days: Sequence[_Day]) -> tuple[list[float], float]:
    """What a token of each kind cost, in nano-dollars, by least squares of the relative errors; and how far days are
    from it. Kinds lean on the price list's proportions as far as the days do not tell them apart."""
    listed = _proportions(lists, days[-1])
    scale = sum(each.nano for each in days) / sum(_cost(listed, each) for each in days)
    rates = [scale * rate for rate in listed]
    rows = [[rate * count / each.nano for rate, count in zip(rates, each.tokens, strict=True)] for each in days]
    size = len(_KINDS)
    # (X'X + leaning) g = X'1 + leaning: g is what each rate is multiplied by.
    left = [
        [sum(row[i] * row[j] for row in rows) + (_LEANING * len(rows) if i == j else 0) for j in range(size)]
        for i in range(size)
    ]
    right = [sum(row[i] for row in rows) + _LEANING * len(rows) for i in range(size)]
    factors = [max(0.0, factor) for factor in _solved(left, right)]
    rates = [rate * factor for rate, factor in zip(rates, factors, strict=True)]
    offs = [abs(_cost(rates, each) / each.nano - 1) for each in days]
    return rates, _NORMAL * median(offs)


def _solved(left: list[list[float]], right: list[float]) -> list[float]:
    """The solution of a small symmetric positive definite system, by Gauss's elimination."""
    size = len(right)
    for column in range(size):
        for row in range(column + 1, size):
            factor = left[row][column] / left[column][column]
            left[row] = [a - factor * b for a, b in zip(left[row], left[column], strict=True)]
            right[row] -= factor * right[column]
    found = [0.0] * size
    for row in reversed(range(size)):
        rest = sum(left[row][column] * found[column] for column in range(row + 1, size))
        found[row] = (right[row] - rest) / left[row][row]
    return found


def _cost(rates: Sequence[float], day: _Day) -> float:
    return sum(rate * count for rate, count in zip(rates, day.tokens, strict=True))


def _proportions(lists: _Lists, day: _Day) -> list[float]:
    amounts = lists[day.day]
    if amounts is None or not amounts[0] or not amounts[-1]:
        return [float(USUAL_RATES[kind]) for kind in _KINDS]
    return [amount / amounts[0] for amount in amounts]


def _relisted(lists: _Lists, day: _Day, to: _Day) -> _Day:
    """A day as it would have been at another day's list prices."""
    was, now = lists[day.day], lists[to.day]
    if was is None or now is None or was == now:
        return day
    old, new = _cost(was, day), _cost(now, day)
    return replace(day, nano=round(day.nano * new / old)) if old > 0 and new > 0 else day


def _amounts(scope: Scope, model: Model, day: date) -> list[float] | None:
    noon = datetime.combine(day, time(12), UTC)
    amounts: Mapping[str, Decimal] | None = scope.rates(*model, noon)
    if not amounts:
        return None
    found = [part_price(amounts, kind) for kind in _KINDS]
    return None if None in found else [float(each) for each in found if each is not None]
