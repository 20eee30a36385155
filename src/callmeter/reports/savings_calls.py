"""The calls of a period by what they could have cost less: what to ask the usage log for it, and its answer as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from callmeter.reports.savings_models import Cheaper
from callmeter.reports.savings_pricing import Charge, Tariffs
from callmeter.reports.savings_question import ZOMBIE_AFTER, AnswerSizes, Question, Saved, Saving, Work
from callmeter.reports.usage import Usage
from callmeter.words.period import Period

_FEWEST = 20  # answers, before a ceiling is thought of
_TIMES_USUAL = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# By agent and session: when a zombie was first and last awake.
Zombies = Mapping[tuple[str, str], tuple[datetime, datetime]]


class Place(NamedTuple):
    """What a row is about: the kind of saving; whose calls, a purpose or, of a zombie, an agent; the model or session
    that they had; the model to change to; and how a prompt repeats, or what speaks for the other model."""

    kind: Saving
    where: str
    what: str = ""
    to: str = ""
    why: str = ""


@dataclass
class Found:
    """What a row adds up to, in nano-dollars; `tokens` that a cache would have had; calls by how they `ended`; and how
    many more do not fit the other model (`unfit`)."""

    calls: int = 0
    cost: int = 0
    saved: int = 0
    tokens: int = 0
    unfit: int = 0
    ended: Counter[str] = field(default_factory=Counter)


@dataclass
class Calls:
    """Each call in one row; `alone` is what each kind would save without the others, `untried` what the rows come to of
    models that were not tried for such work. By purpose, in tokens, `usual` is
    the median answer, and `ceilings` would have cut only the answers far above it."""

    rows: dict[Place, Found]
    alone: dict[Saving, int]
    untried: int
    usual: dict[str, int]
    ceilings: dict[str, int]


def calls_of(usage: Usage, cheaper: Cheaper, tariffs: Tariffs, period: Period, zombies: Zombies) -> Calls:
    """The calls of the period."""
    sizes = usage.answer_sizes(period=period)
    ceilings = {purpose: ceiling for purpose, found in sizes.items() if (ceiling := _ceiling(found)) is not None}
    question = _question(cheaper, tariffs, ceilings, zombies)
    answer = usage.savings(question, period=period)
    dearer = _dearer(answer.saved)
    if dearer:
        works = [
            work._replace(other=None, tried=True) if number in dearer else work
            for number, work in enumerate(question.works)
        ]
        answer = usage.savings(replace(question, works=works), period=period)
    rows: dict[Place, Found] = {}
    for saved in answer.saved:
        found = rows.setdefault(_place(saved, question, cheaper), Found())
        found.calls += saved.calls
        found.cost += saved.cost
        found.saved += saved.saved
        found.tokens += saved.tokens
        found.ended[saved.ended] += saved.calls
    for number, count in answer.unfit.items():
        names, target = question.works[number].names, cheaper.targets[question.works[number].names]
        place = None if target is None else Place(Saving.MODEL, names[0], names[2], target.model, target.evidence)
        if place in rows:
            rows[place].unfit += count
    untried = sum(
        saved.saved
        for saved in answer.saved
        if saved.saving == Saving.MODEL and saved.work is not None and not question.works[saved.work].tried
    )
    usual = {purpose: found.usual for purpose, found in sizes.items()}
    return Calls(rows, {kind: nano for kind, nano in answer.alone.items() if nano > 0}, untried, usual, ceilings)


def _dearer(saved: Iterable[Saved]) -> set[int | None]:
    """The works that the model to change to would make no cheaper, call by call at the prices of their instants."""
    sums = Counter[int | None]()
    for each in saved:
        if each.saving == Saving.MODEL:
            sums[each.work] += each.saved
    return {work for work, nano in sums.items() if nano <= 0}


def _question(cheaper: Cheaper, tariffs: Tariffs, ceilings: Mapping[str, int], zombies: Zombies) -> Question:
    days: dict[tuple[str, str], set[int]] = {}
    for provider, model, day in cheaper.days:
        # A day of the reader's zone lies in the day of UTC with its date and in those beside it.
        at = date.fromisoformat(day).toordinal()
        days.setdefault((provider, model), set()).update({max(at - 1, 1), at, min(at + 1, date.max.toordinal())})
    numbers = {place: number for number, place in enumerate(days)}
    asked = list(days.values())
    works = []
    for names, target in cheaper.targets.items():
        purpose, provider, model = names[:3]
        own, other = numbers[provider, model], None
        if target is not None:
            place = provider, target.model
            other = numbers.setdefault(place, len(numbers))
            if other == len(asked):
                asked.append(set())
            asked[other] |= asked[own]
        works.append(Work(names, own, other, target is None or target.tried, ceilings.get(purpose)))
    charged: list[list[Charge]] = [
        tariffs.charges(provider, model, asked[number]) for (provider, model), number in numbers.items()
    ]
    wasted = {
        name: ((first + ZOMBIE_AFTER - _EPOCH) // _MILLISECOND, (last - _EPOCH) // _MILLISECOND)
        for name, (first, last) in zombies.items()
    }
    return Question(cheaper.keys, works, charged, wasted)


def _place(saved: Saved, question: Question, cheaper: Cheaper) -> Place:
    kind = saved.saving
    if saved.session is not None:
        return Place(kind, *saved.session)
    assert saved.work is not None
    names = question.works[saved.work].names
    purpose, _, model = names[:3]
    match kind:
        case Saving.MODEL:
            target = cheaper.targets[names]
            assert target is not None
            return Place(kind, purpose, model, target.model, target.evidence)
        case Saving.CACHE:
            return Place(kind, purpose, model, why="grown" if saved.grown else "same")
        case Saving.RETRIES:
            return Place(kind, purpose, model)
    return Place(kind, purpose)


def _ceiling(sizes: AnswerSizes) -> int | None:
    """What cuts off answers that are far above the usual, if there are some, and at most one of ten."""
    ceiling = _rounded(max(sizes.usual, 1) * _TIMES_USUAL)
    return ceiling if sizes.answers >= _FEWEST and sizes.most <= ceiling < sizes.largest else None


def _rounded(tokens: int) -> int:
    """Up to two digits, and to 64 at least: a ceiling that a person would write."""
    step: int = 10 ** max(len(str(tokens)) - 2, 0)
    return max(-(-tokens // step) * step, 64)
