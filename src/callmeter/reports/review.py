"""The review of a day, a week or a month: what was spent, by whom, why it changed, what went wrong, what comes next.

A function of the log, the policy, the prices, the audit log and the key registry, and of the moment from which it looks
back; made again with the same `--as-of`, it says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from callmeter.policy.grants import Allowances
from callmeter.policy.quotas import Quota
from callmeter.reports.change import Rates
from callmeter.reports.report import Board, Report
from callmeter.reports.review_account import DIMENSIONS, Account, Groups
from callmeter.reports.review_causes import causes, in_words, is_telling, signed
from callmeter.reports.review_events import KeyAge, decisions, keys_due
from callmeter.reports.review_groups import by_group, by_part, course
from callmeter.reports.review_quotas import Level, levels, quota_tables, subject_of
from callmeter.reports.review_span import Span
from callmeter.reports.review_trouble import origin, trouble
from callmeter.reports.sums import share_of
from callmeter.reports.usage import Figures, Usage, difference, growth
from callmeter.words.instant import text_of
from callmeter.words.money import more_or_less, shown, usd
from callmeter.words.period import bucket
from callmeter.words.wording import capitalised, counted, listed

_SHORT_DAYS = 7
# A move of less than one in so many of the largest is not worth a sentence.
_MATTERS = 20
# So many names stand in a sentence; of what is frozen more, since somebody waits for it.
_NAMED, _FROZEN = 3, 5


@dataclass(frozen=True)
class Sources:
    """What a review is made of besides the log. `now` is when it is made, or `--as-of`. `outlook`, `findings` and
    `savings` are sections made elsewhere, by their names; of the sentences about them at the beginning, `remarks` are
    about what was and `prospects` about what comes."""

    now: datetime
    rates: Rates
    quotas: Sequence[Quota] = ()
    allowances: Allowances | None = None
    events: Iterable[Mapping[str, object]] = ()
    keys: Sequence[KeyAge] = ()
    outlook: Mapping[str, Report] = field(default_factory=dict)
    findings: Mapping[str, Report] = field(default_factory=dict)
    savings: Mapping[str, Report] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    prospects: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass
class _Draft:
    """A review as far as it is written: sentences for its beginning, and sections by name, both in their order."""

    lead: list[str] = field(default_factory=list)
    sections: dict[str, Report] = field(default_factory=dict)


def review(usage: Usage, span: Span, sources: Sources) -> Board:
    """The review of a span. Sections that have nothing to say are left out."""
    account = Account(usage, span)
    first = account.first
    now = account.total(span)
    before = account.total(span.before) if first is not None and first < span.start else None
    active = bool(now.calls or now.nano or now.refused)
    draft = _Draft([_headline(span, now, before)])
    if before is not None and first is not None:
        draft.lead += _begun(span, first)
    _add_costs(draft, account, sources.rates, now, before)
    draft.lead += sources.remarks
    found = levels(usage, sources.quotas, sources.allowances, span)
    draft.sections |= quota_tables(found, span)
    draft.lead += _tight(found)
    draft.sections |= {**sources.outlook, **sources.findings}
    if active:
        draft.sections |= trouble(account, compared=before is not None)
    _add_keys(draft, keys_due(sources.keys, sources.now))
    draft.sections |= sources.savings
    decided, counts = decisions(sources.events, span)
    if decided is not None:
        draft.sections["decisions"] = decided
    draft.lead += _waiting(sources.allowances)
    shares: Mapping[str, int] = {}
    if active:
        table, shares = origin(account)
        if table.rows:
            draft.sections["origin"] = table
    draft.lead += sources.prospects
    return Board(
        title=f"Review of {span.title}",
        lead=draft.lead,
        sections=draft.sections,
        notes=[*_notes(span, now, before, first), *sources.notes],
        facts={
            "unit": span.unit,
            "name": span.iso,
            "start": text_of(span.start),
            "end": text_of(span.end),
            "zone": str(span.zone),
            "now": text_of(sources.now),
            "cost": None if now.cost is None else usd(now.nano),
            "before": None if before is None or before.cost is None else usd(before.nano),
            "change": None if before is None else growth(now, before),
            "calls": now.calls,
            "events": dict(counts),
            "share_by_origin": {name: share_of(share) for name, share in shares.items()},
        },
    )


def subject_line(board: Board) -> str:
    """What a mail with this review is about: `LLM spend 2026-W46: 41.20 USD (+12%)`."""
    facts = board.facts
    cost, change = facts["cost"], facts["change"]
    money = f"{cost:.2f} USD" if isinstance(cost, Decimal) else "cost unknown"
    money = money if facts["calls"] or cost else "no calls"
    more = f" ({more_or_less(change)})" if isinstance(change, Decimal) else ""
    return f"LLM spend {facts['name']}: {money}{more}"


def _add_costs(draft: _Draft, account: Account, rates: Rates, now: Figures, before: Figures | None) -> None:
    """What was spent: among the spans before, by its days, why it changed, and by agent and the like."""
    first, compared = account.first, before is not None
    if first is not None and first < account.span.end:
        draft.sections["course"] = course(account, first)
    if now.calls or now.nano:
        draft.sections["parts"] = by_part(account, compared=compared)
    if before is not None and before.calls and now.calls and difference(now, before) is not None:
        why, change = causes(account, rates)
        if any(change.parts.values()):
            draft.sections["why"] = why
        if change.total and is_telling(change, (before, now)):
            draft.lead.append(f"Why: {in_words(change)}.")
    if not (now.calls or now.nano or now.refused or (before is not None and before.calls)):
        return
    for key, (name, _) in DIMENSIONS.items():
        groups = account.now(key)
        earlier = account.before(key) if compared else None
        report = by_group(key, groups, earlier)
        if report is not None:
            draft.sections[name] = report
        if key == "agent" and earlier is not None:
            draft.lead += _movers(groups, earlier)


def _add_keys(draft: _Draft, keys: Report | None) -> None:
    if keys is not None:
        draft.sections["keys"] = keys
        names = listed([str(row.cells["key"]) for row in keys.rows], _NAMED)
        draft.lead.append(f"{counted(len(keys.rows), 'key')} to rotate: {names}.")


def _headline(span: Span, now: Figures, before: Figures | None) -> str:
    if not now.calls and not now.nano:
        said = f"No calls {_in(span)}"
        if now.refused:
            said += f"; {counted(now.refused, 'call')} refused before anything was sent"
        if before is not None and before.calls:
            said += f". {capitalised(span.before.name)} had {counted(before.calls, 'call')} for {shown(before.cost)}"
        return f"{said}."
    said = (
        f"{capitalised(span.name)} cost {shown(now.cost)} in {counted(now.calls, 'call')}"
        if now.cost is not None
        else (f"{capitalised(span.name)} had {counted(now.calls, 'call')}, whose cost nobody knows")
    )
    if before is None:
        return f"{said}. It is the first {span.unit} of this log: there is nothing to compare with."
    if not before.calls and not before.nano:
        return f"{said}. There were no calls {_in(span.before)}."
    more, share = difference(now, before), growth(now, before)
    if more is None:
        return f"{said}."
    if not more:
        return f"{said}, as much as {span.before.name}."
    by = f" ({more_or_less(abs(share)).lstrip('+')})" if share else ""
    return f"{said}: {shown(abs(more))}{by} {'more' if more > 0 else 'less'} than {span.before.name}."


def _begun(span: Span, first: datetime) -> Iterator[str]:
    """That the span before is not whole, where the log begins in it."""
    if first - span.before.start > (span.before.end - span.before.start) / 10:
        begun = first.astimezone(span.zone)
        yield f"The log begins on {begun.day} {begun:%B}: {span.before.name} is not whole."


def _in(span: Span) -> str:
    return f"{'on' if span.unit == 'day' else 'in'} {span.name}"


def _movers(now: Groups, before: Groups) -> list[str]:
    """The agents whose spend rose and fell most, as far as it is known."""
    pairs = {names[0]: (now.get(names, Figures()), before.get(names, Figures())) for names in {*now, *before}}
    moves = {name: more for name, pair in pairs.items() if (more := difference(*pair)) is not None}
    largest = max(map(abs, moves.values()), default=0)
    said = []
    for what, way in (("Largest rise", 1), ("Largest fall", -1)):
        name = max(moves, key=lambda each: (moves[each] * way, each), default="")
        if len(moves) > 1 and moves[name] * way * _MATTERS > largest:
            rate = growth(*pairs[name])
            share = f" ({more_or_less(rate)})" if rate is not None else ""
            said.append(f"{what}: agent {name}, {signed(moves[name])}{share}.")
    return said


def _tight(found: Sequence[Level]) -> list[str]:
    said = []
    over = [level for level in found if level.share > 1 and level.quota.enforcement != "showback"]
    if over:
        names = [f"{subject_of(level)} per {level.quota.period} ({level.share:.0%})" for level in over]
        said.append(f"Over the limit: {listed(names, _NAMED)}.")
    short = sorted(
        (level for level in found if level.lasts is not None and level.lasts <= _SHORT_DAYS and level.share <= 1),
        key=lambda level: level.lasts or 0,
    )
    if short:
        names = [f"{subject_of(level)} per {level.quota.period} ({level.lasts} d)" for level in short]
        said.append(f"Used up within a week at this pace: {listed(names, _NAMED)}.")
    return said


def _waiting(allowances: Allowances | None) -> list[str]:
    """What waits for somebody now."""
    if allowances is None:
        return []
    waiting = [one for one in allowances.requests.values() if allowances.state(one) == "open"]
    frozen = allowances.live_freezes()
    said = []
    if waiting:
        names = listed([one.id for one in waiting], _NAMED)
        said.append(f"{counted(len(waiting), 'request')} waiting for an answer: {names}.")
    if frozen:
        said.append(f"Frozen now: {listed([str(one.subject) for one in frozen], _FROZEN)}.")
    return said


def _notes(span: Span, now: Figures, before: Figures | None, first: datetime | None) -> list[str]:
    notes = []
    if now.unknown:
        notes.append(f"The cost of {counted(now.unknown, 'call')} is unknown and in no sum.")
    if first is not None and before is not None and first > span.before.start:
        day = bucket(first, "day", span.zone)[0].astimezone(span.zone).date()
        if day > span.before.first:
            notes.append(f"The log begins on {day}, within {span.before.name}: the change is against a part of it.")
    lengths = [(each.last - each.first).days + 1 for each in (span, span.before)]
    if before is not None and lengths[0] != lengths[1]:
        days = f"{capitalised(span.name)} has {lengths[0]} days, {span.before.name} {lengths[1]}"
        notes.append(f"{days}: part of the change is that.")
    if now.corrections:
        notes.append(f"{counted(now.corrections, 'correction')} of costs counted on the days of their calls.")
    return notes
