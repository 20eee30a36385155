"""Why a span cost more or less than the one before it, in a table and in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from callmeter.reports.change import OTHER, Change, Rates, Served, by_model, change
from callmeter.reports.grouping import NONE
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.reports.review_account import Account
from callmeter.reports.usage import Figures, summed
from callmeter.words.money import shown, usd
from callmeter.words.wording import counted, listed

_NAMES = {
    "volume": "number of calls",
    "tokens": "tokens per call",
    "mix": "mix of models",
    "cache": "use of the cache",
    "price": "prices paid",
    OTHER: "not of any call",
}
_COLUMNS = (
    Column("cause", "cause", Kind.TEXT),
    Column("difference", "change", Kind.DIFFERENCE),
    Column("because", "because", Kind.TEXT),
)
_Sides = dict[Served, tuple[Figures, Figures]]
_Callers = dict[Served, dict[str, list[int]]]


def causes(account: Account, rates: Rates) -> tuple[Report, Change]:
    """A row for each cause, with what it rests on; they add up to the change, to the nano-dollar."""
    span = account.span
    by = ("provider", "model", "status")
    before, after = by_model(account.before(*by).items()), by_model(account.now(*by).items())
    callers = _callers(account)
    found = change(before, after, rates)
    sides: _Sides = {
        served: (before.get(served, Figures()), after.get(served, Figures())) for served in {*before, *after}
    }
    whole = summed(before.values()), summed(after.values())
    because = _because(sides, whole, found, callers)
    rows = [
        Row({"cause": _NAMES[cause], "difference": part, "because": because[cause]})
        for cause, part in found.parts.items()
        if cause != OTHER or part
    ]
    notes = ["Each cause is its mean effect over all orders of the causes; they add up to the change."]
    unlisted = [model for _, model in found.unlisted if model]
    if unlisted and any(any(sides[served][side].nano for side in (0, 1)) for served in found.unlisted):
        named = listed(unlisted, 3)
        notes.append(f"No list price for {named}: how long the answers are, and the cache, count as price there.")
    if not is_telling(found, whole):
        notes.append(
            f"The two {span.unit}s differ too much for causes to be told apart: effects larger than what was spent "
            "cancel out."
        )
    moves = sorted(
        ((served, new.nano - old.nano) for served, (old, new) in sides.items()), key=lambda move: -abs(move[1])
    )
    models = [{"provider": served[0], "model": served[1], "difference": usd(nano)} for served, nano in moves]
    title, total = f"Why it changed since {span.before.name}", {"difference": found.total}
    report = Report(title, _COLUMNS, rows, total=total, notes=notes, facts={"method": "shapley", "models": models})
    return report, found


def is_telling(found: Change, whole: tuple[Figures, Figures]) -> bool:
    """Whether no effect is larger than what either span cost."""
    return max(map(abs, found.parts.values())) <= max(figures.nano for figures in whole)


def _callers(account: Account) -> _Callers:
    """How many calls of a model an agent made, before and in the span."""
    found: _Callers = {}
    by = ("provider", "model", "agent")
    for side, groups in enumerate((account.before(*by), account.now(*by))):
        for (provider, model, agent), figures in groups.items():
            found.setdefault((provider, model), {}).setdefault(agent, [0, 0])[side] += figures.calls
    return found


def _by_whom(callers: _Callers, served: Iterable[Served]) -> str:
    """The agent that made more than half of the rise or fall in the calls of these models, if there are others."""
    sums: dict[str, list[int]] = {}
    for each in served:
        for agent, calls in callers.get(each, {}).items():
            both = sums.setdefault(agent, [0, 0])
            both[0] += calls[0]
            both[1] += calls[1]
    way = 1 if sum(new - old for old, new in sums.values()) > 0 else -1
    moves = {agent: way * (new - old) for agent, (old, new) in sums.items()}
    most = max(moves, key=lambda agent: (moves[agent], agent), default=NONE)
    alike = sum(move for move in moves.values() if move > 0)
    if most == NONE or len(_agents(callers)) < 2 or 2 * moves[most] <= alike:
        return ""
    old, new = sums[most]
    return f"; agent {most} made {new:,} of them, {old:,} before"


def _agents(callers: _Callers) -> set[str]:
    return {agent for each in callers.values() for agent in each}


def _because(sides: _Sides, whole: tuple[Figures, Figures], found: Change, callers: _Callers) -> dict[str, str]:
    """What each cause rests on."""
    old, new = whole
    return {
        "volume": f"{counted(new.calls, 'call')}, {old.calls:,} before{_by_whom(callers, callers)}",
        "tokens": _tokens(sides, whole, found),
        "mix": _mix(sides, whole, found, callers),
        "cache": _cache(sides, whole, found),
        "price": _price(found),
        OTHER: "corrections and refused calls that cost something",
    }


def in_words(found: Change) -> str:
    """`number of calls +$5.10, mix of models -$1.20`: what matters of it, the largest first; empty if nothing."""
    ranked = sorted(found.parts.items(), key=lambda part: -abs(part[1]))
    largest = abs(ranked[0][1])
    kept = [(cause, part) for cause, part in ranked if part and abs(part) * 10 >= largest]
    return ", ".join(f"{_NAMES[cause]} {signed(part)}" for cause, part in kept)


def signed(nano: int) -> str:
    """`+$5.10`, `-$1.20`."""
    return f"+{shown(nano)}" if nano > 0 else shown(nano)


def _tokens(sides: _Sides, whole: tuple[Figures, Figures], found: Change) -> str:
    """How large the calls were of the model whose calls moved the sum most by it. Those of all models together can
    have become smaller while each model's became larger."""
    most = _largest(_parts(found, "tokens"))
    named = f"{most[1] or NONE}: " if most is not None and len(sides) > 1 else ""
    old, new = map(_sizes, sides[most] if most is not None else whole)
    return f"{named}{new[0]:,} tokens in and {new[1]:,} out a call, {old[0]:,} and {old[1]:,} before"


def _sizes(figures: Figures) -> tuple[int, int]:
    calls = max(figures.calls, 1)
    return round(Fraction(figures.tokens_in, calls)), round(Fraction(figures.tokens_out, calls))


def _parts(found: Change, cause: str) -> dict[Served, Fraction]:
    """The models by which a cause moved the sum, and by how much."""
    return {served: parts[cause] for served, parts in found.models.items() if round(parts[cause])}


def _largest(parts: Mapping[Served, Fraction]) -> Served | None:
    """The model that moved the sum most; None when none did."""
    return max(parts, key=lambda served: (abs(parts[served]), served), default=None)


def _cache(sides: _Sides, whole: tuple[Figures, Figures], found: Change) -> str:
    """How much the model took from the cache whose use of it moved the sum most."""
    most = _largest(_parts(found, "cache"))
    named = f"{most[1] or NONE}: " if most is not None and len(sides) > 1 else ""
    old, new = sides[most] if most is not None else whole
    return f"{named}{_cached(new)} of prompt tokens from the cache, {_cached(old)} before"


def _cached(figures: Figures) -> str:
    return f"{round(Fraction(100 * figures.tokens_cached, figures.tokens_in))}%" if figures.tokens_in > 0 else "0%"


def _mix(sides: _Sides, whole: tuple[Figures, Figures], found: Change, callers: _Callers) -> str:
    """The model whose share of the calls moved the sum most, and who called it more or less."""
    shares = {
        served: [
            Fraction(figures.calls, total.calls) if total.calls else Fraction(0)
            for figures, total in zip(pair, whole, strict=True)
        ]
        for served, pair in sides.items()
    }
    moved = [served for served, (old, new) in shares.items() if old != new]
    if not moved or not all(total.calls for total in whole):
        return "the same models in the same shares" if all(total.calls for total in whole) else ""
    effects = {served: found.models[served]["mix"] if served in found.models else Fraction(0) for served in moved}
    most = max(moved, key=lambda served: (abs(effects[served]), abs(shares[served][1] - shares[served][0]), served))
    old, new = map(_per_cent, shares[most])
    if old == new:
        old, new = (f"{float(100 * share):.1f}%" for share in shares[most])
    return f"{most[1] or NONE}: {new} of the calls, {old} before{_by_whom(callers, [most])}"


def _per_cent(share: Fraction) -> str:
    return f"{float(100 * share):.{1 if 0 < share < Fraction(1, 100) else 0}f}%"


def _price(found: Change) -> str:
    """The model whose price moved the sum most."""
    parts = _parts(found, "price")
    most = _largest(parts)
    if most is None:
        return "each model cost what it did before"
    return f"{'most of it ' if len(parts) > 1 else ''}{most[1] or NONE}: {signed(round(parts[most]))}"
