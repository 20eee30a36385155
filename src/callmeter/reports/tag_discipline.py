"""How well calls are tagged: what is missing, unknown, drifting or too much, for each agent, with the money behind it.

Money whose tags are wrong stands under the wrong name in every other report. Findings come by cost, the dearest
first; a call with several findings stands in several rows, and once in the total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from callmeter.policy.document import Policy
from callmeter.reports.grouping import NONE
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.reports.sums import apportion, share_of
from callmeter.reports.usage import Usage
from callmeter.words.money import shown
from callmeter.words.period import EVER, Period
from callmeter.words.tags import BUILT_IN, MAX_TAGS
from callmeter.words.wording import counted

# What a call lacks is told of these in any case: without them nobody knows who spent it, and on what.
WANTED = ("agent", "purpose")
# Tags that have few values, which can be compared with each other; ids of sessions and tickets cannot.
FEW_VALUES = ("agent", "purpose", "priority", "environment", "cost_center", "workflow")
# So many values of such a tag, if most of them stand for a few calls only, are numbers or dates in a name.
MOST_VALUES = 50
# Each is compared with each: beyond the most common ones, that would take long and find little.
_MOST_COMPARED = 200
# An unlike spelling is taken for a slip only if the other one is so many times as common.
_SLIP = 5
# Two names for one thing often differ in such a word only: `ticket_id`, `ticket_uuid`.
_ENDINGS = frozenset(("id", "uuid", "guid", "num", "number", "no", "nr", "key", "ref", "name", "tag"))

MISSING, UNKNOWN, ALIAS, DRIFT, VALUE, FORBIDDEN, TOO_MANY, TOO_DIVERSE = (
    "missing",
    "unknown",
    "alias",
    "drifting name",
    "drifting value",
    "not allowed",
    "too many tags",
    "too many values",
)
_COLUMNS = (
    Column("agent", "agent", Kind.TEXT),
    Column("finding", "finding", Kind.TEXT),
    Column("tag", "tag", Kind.TEXT),
    Column("value", "value", Kind.TEXT, optional=1),
    Column("instead", "instead", Kind.TEXT),
    Column("cost", "cost", Kind.MONEY),
    Column("calls", "calls", Kind.COUNT),
    Column("share", "of its calls", Kind.SHARE, optional=2),
)
_Tags = tuple[tuple[str, str], ...]


@dataclass
class _Part:
    """What several calls come to."""

    calls: int = 0
    nano: int = 0
    unknown: int = 0

    def add(self, other: _Part) -> None:
        self.calls += other.calls
        self.nano += other.nano
        self.unknown += other.unknown

    @property
    def cost(self) -> int | None:
        return None if self.unknown and self.unknown == self.calls and not self.nano else self.nano


@dataclass(frozen=True)
class _Finding:
    kind: str
    tag: str
    value: str = ""
    instead: str = ""


class _Log:
    """The calls by the tags that matter here: names, and the values of those tags that have few."""

    def __init__(self, usage: Usage, policy: Policy, period: Period, where: Sequence[str]) -> None:
        self.policy = policy
        self._compared = {*FEW_VALUES, *policy.allowed}
        self.parts = {
            tags: _Part(figures.calls, figures.nano, figures.unknown)
            for tags, figures in usage.taggings(self._compared, period=period, where=where)
        }

    def names(self) -> Counter[str]:
        """The calls of each name."""
        found: Counter[str] = Counter()
        for tags, part in self.parts.items():
            for name, _ in tags:
                found[name] += part.calls
        return found

    def values(self) -> dict[str, Counter[str]]:
        """The calls of each value, for the names whose values are compared."""
        found: dict[str, Counter[str]] = {name: Counter() for name in self._compared}
        for tags, part in self.parts.items():
            for name, value in tags:
                if name in found:
                    found[name][value] += part.calls
        return found


def tag_discipline(
    usage: Usage, policy: Policy, known: Sequence[str], *, period: Period = EVER, where: Sequence[str] = ()
) -> Report:
    """The findings in the calls of a period, as a report whose `facts` say how many there are. Names in `known` are in
    order, besides those that are built in or in the policy. Calls that were refused are left out: they cost nothing."""
    log = _Log(usage, policy, period, where)
    find = _finder(log, {*BUILT_IN, *policy.required, *policy.allowed, *known})
    rows: dict[tuple[str, _Finding], _Part] = {}
    agents: Counter[str] = Counter()
    all_calls, wrong = _Part(), _Part()
    for tags, part in log.parts.items():
        agent = dict(tags).get("agent", NONE)
        agents[agent] += part.calls
        all_calls.add(part)
        findings = list(find(tags))
        for finding in findings:
            rows.setdefault((agent, finding), _Part()).add(part)
        if findings:
            wrong.add(part)
    # A correction alone, of a call before the period, is no call without a tag.
    counted = [(agent, finding, part) for (agent, finding), part in rows.items() if part.calls]
    counted.sort(key=lambda row: (-row[2].nano, -row[2].calls, row[0], row[1].kind, row[1].tag, row[1].value))
    return Report(
        title="Tag discipline",
        columns=_COLUMNS,
        rows=[_row(agent, finding, part, agents[agent]) for agent, finding, part in counted],
        total={"cost": wrong.cost, "calls": wrong.calls, "share": _share(wrong.calls, all_calls.calls)}
        if counted
        else None,
        notes=_notes(wrong, all_calls, bool(counted)),
        facts={
            "findings": len(counted),
            "calls": all_calls.calls,
            "calls_with_findings": wrong.calls,
            "kinds": dict(sorted(Counter(finding.kind for _, finding, _ in counted).items())),
        },
        period=period,
        zone=str(usage.zone),
    )


def _finder(log: _Log, known: set[str]) -> Callable[[_Tags], Iterator[_Finding]]:
    """What finds faults in the tags of a call, once all names and values have been seen."""
    policy = log.policy
    renamed = _drifting_names(log.names(), known, policy)
    values = {name: _drifting_values(counts, policy.allowed.get(name, ())) for name, counts in log.values().items()}
    diverse = {
        name: len(counts)
        for name, counts in log.values().items()
        if name not in policy.allowed and len(counts) > MOST_VALUES and len(counts) * 5 > counts.total()
    }
    wanted = dict.fromkeys([*policy.required, *WANTED])

    def find(tags: _Tags) -> Iterator[_Finding]:
        names = {policy.aliases.get(name, renamed.get(name, name)) for name, _ in tags}
        for name in wanted:
            if name not in names:
                yield _Finding(MISSING, name)
        if len(tags) > MAX_TAGS:
            yield _Finding(TOO_MANY, "", instead=f"at most {MAX_TAGS}")
        for name, value in tags:
            if name in policy.aliases:
                yield _Finding(ALIAS, name, instead=policy.aliases[name])
            elif name in renamed:
                yield _Finding(DRIFT, name, instead=renamed[name])
            elif name not in known:
                yield _Finding(UNKNOWN, name)
            if name in policy.allowed and value not in policy.allowed[name]:
                yield _Finding(FORBIDDEN, name, value, values[name].get(value, ""))
            elif value in values.get(name, ()):
                yield _Finding(VALUE, name, value, values[name][value])
            elif name in diverse:
                yield _Finding(TOO_DIVERSE, name, instead=f"{diverse[name]:,} different values")

    return find


def _drifting_names(names: Counter[str], known: set[str], policy: Policy) -> dict[str, str]:
    """Names that seem to mean another one: a known one, or one that is more common."""
    found: dict[str, str] = {}
    certain = known | set(policy.aliases)
    uncertain = [name for name, _ in names.most_common() if name not in certain][:_MOST_COMPARED]
    for name in uncertain:
        others = [*sorted(certain), *uncertain]
        for other in others:
            rarer = (names[name], other) < (names[other], name) or other in certain
            if other != name and rarer and (_same(name, other) or _one_thing(name, other) or _slip(name, other)):
                found[name] = policy.aliases.get(other, other)
                break
    return found


def _drifting_values(counts: Counter[str], allowed: Sequence[str]) -> dict[str, str]:
    """Values that seem to mean another one: an allowed one, one that is spelled alike, or one that is far more common
    and differs by a slip."""
    found: dict[str, str] = {}
    ranked = sorted(counts, key=lambda value: (value not in allowed, -counts[value], value))[:_MOST_COMPARED]
    for place, value in enumerate(ranked):
        if value in allowed:
            continue
        for other in [*(one for one in allowed if one not in counts), *ranked[:place]]:
            far = other in allowed or counts[value] * _SLIP <= counts[other]
            if other not in found and (_same(value, other) or (far and _slip(value, other))):
                found[value] = other
                break
    return found


def _same(one: str, other: str) -> bool:
    """Whether two words differ in case, punctuation or a plural only."""
    return _plain(one) == _plain(other)


def _plain(text: str) -> str:
    letters = "".join(character for character in text.casefold() if character.isalnum())
    return letters.removesuffix("s") if len(letters) > 3 else letters


def _one_thing(one: str, other: str) -> bool:
    """Whether two names have the same stem: `ticket_id` and `ticket_uuid`, `team` and `team_name`."""
    return _stem(one) == _stem(other)


def _stem(name: str) -> str:
    stem, _, ending = name.rpartition("_")
    return stem if stem and ending in _ENDINGS else name


def _slip(one: str, other: str) -> bool:
    """Whether two words differ by a slip of the keyboard. What differs in digits is numbered, not misspelled."""
    longest = max(len(one), len(other))
    digits = [[character for character in word if character.isdigit()] for word in (one, other)]
    return longest >= 5 and digits[0] == digits[1] and _edits(one, other) <= (1 if longest < 9 else 2)


def _edits(one: str, other: str) -> int:
    """How many characters have to be inserted, removed, replaced or swapped with their neighbour (optimal string
    alignment); 3 for three and more."""
    if abs(len(one) - len(other)) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(other) + 1))
    for place, character in enumerate(one):
        before, last, row = row, before, [place + 1]
        for column, wanted in enumerate(other):
            edits = min(before[column + 1] + 1, row[column] + 1, before[column] + (character != wanted))
            if place and column and character == other[column - 1] and one[place - 1] == wanted:
                edits = min(edits, last[column - 1] + 1)
            row.append(edits)
    return min(row[-1], 3)


def _row(agent: str, finding: _Finding, part: _Part, calls: int) -> Row:
    return Row(
        {
            "agent": agent,
            "finding": finding.kind,
            "tag": finding.tag,
            "value": finding.value,
            "instead": finding.instead,
            "cost": part.cost,
            "calls": part.calls,
            "share": _share(part.calls, calls),
        }
    )


def _share(part: int, whole: int) -> Decimal | None:
    return share_of(apportion([part, whole - part], whole, 1000)[0]) if whole else None


def _notes(wrong: _Part, everything: _Part, found: bool) -> list[str]:
    if not everything.calls:
        return ["No calls."]
    if not found:
        return [f"All tags are in order, in {counted(everything.calls, 'call')}."]
    notes = [
        f"{wrong.calls:,} of {everything.calls:,} calls have a finding, with {shown(wrong.nano)} of "
        f"{shown(everything.nano)}. A call with several findings stands in several rows."
    ]
    if wrong.unknown:
        notes.append(f"The cost of {wrong.unknown:,} of them is unknown and in no sum.")
    return notes
