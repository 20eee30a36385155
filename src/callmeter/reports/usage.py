"""What reports ask of the usage log. The usage index answers; whoever asks sees groups and sums, never files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from callmeter.reports.sums import relative
from callmeter.words.period import EVER, Period
from callmeter.words.record import UsageRecord

if TYPE_CHECKING:
    from callmeter.reports.savings_question import Answer, AnswerSizes, Question


@dataclass(slots=True)
class Figures:
    """What a group of usage lines adds up to. Money in nano-dollars, time in milliseconds; all exact.

    A call is a line that was sent. Refused lines were not, and adjustment lines (`corrects`) change what an earlier
    call cost: both count their money and tokens, but they are no calls. A correction counts on the day of its call.
    """

    calls: int = 0
    refused: int = 0
    errors: int = 0  # calls that brought no whole answer, though nobody asked for their end
    retried: int = 0  # calls that took more than one attempt
    retried_nano: int = 0  # what those came to, with their corrections
    retried_unknown: int = 0  # those of them whose cost nobody knows
    sent: int = 0  # calls, and refused ones, of which anything was sent: what quotas of calls count
    corrections: int = 0
    unknown: int = 0  # calls whose cost nobody knows: in no sum of money
    without_tokens: int = 0  # calls, and no correction of them says any
    nano: int = 0
    calls_nano: int = 0  # what the calls among them came to, with their corrections, wherever those stand
    priced: int = 0  # lines with a known cost
    priced_nano: int = 0  # of calls that have both cost and tokens, each of them perhaps from a correction
    priced_tokens: int = 0
    estimate_nano: int = 0  # worst cases of the calls that have one
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0  # part of `tokens_in`
    tokens_cache_write: int = 0  # part of `tokens_in`, of both kinds
    tokens_reasoning: int = 0  # part of `tokens_out`
    answers: int = 0  # calls with status `ok` that say how long they took
    answers_ms: int = 0
    first: str | None = None  # when the earliest and the latest call began, `2026-11-21T09:30:01.123Z`
    last: str | None = None
    # Percentile -> value by nearest rank, if asked for: of the answers' latency, of calls' costs with corrections.
    latency: dict[int, int] = field(default_factory=dict)
    costs: dict[int, int] = field(default_factory=dict)

    @property
    def lines(self) -> int:
        """Lines of the log, of whatever kind."""
        return self.calls + self.refused + self.corrections

    @property
    def cost(self) -> int | None:
        """Nano-dollars, exact; None when the costs of all calls are unknown."""
        return None if self.unknown and not self.priced and not self.nano else self.nano

    @property
    def per_1k(self) -> int | None:
        """Nano-dollars for 1,000 tokens in and out, rounded; over the lines whose cost and tokens are known."""
        if self.priced_tokens <= 0:
            return None
        return (2000 * self.priced_nano + self.priced_tokens) // (2 * self.priced_tokens)

    @property
    def mean_ms(self) -> int | None:
        """Mean latency of the answered calls, rounded."""
        return (2 * self.answers_ms + self.answers) // (2 * self.answers) if self.answers else None

    def amount(self, unit: str) -> int:
        """What a quota in this unit (`usd`, `tokens` or `calls`) counts, money in nano-dollars. Calls of which nothing
        was sent are not counted."""
        if unit == "usd":
            return self.nano
        return self.tokens_in + self.tokens_out if unit == "tokens" else self.sent

    def merge(self, other: Figures) -> None:
        """Add another group's sums; percentiles cannot be added up and are dropped."""
        for name in _SUMMED:
            value = getattr(other, name)
            if value:
                setattr(self, name, getattr(self, name) + value)
        if other.first is not None and (self.first is None or other.first < self.first):
            self.first = other.first
        if other.last is not None and (self.last is None or other.last > self.last):
            self.last = other.last
        self.latency = {}
        self.costs = {}


def summed(groups: Iterable[Figures]) -> Figures:
    """The sum of several groups, without percentiles."""
    each, total = list(groups), Figures()
    if not each:
        return total
    # There may be thousands: this takes a fifth of the time of merging one after the other.
    for name, values in zip(_SUMMED, zip(*map(_sums_of, each), strict=True), strict=True):
        setattr(total, name, sum(values))
    total.first = min((figures.first for figures in each if figures.first is not None), default=None)
    total.last = max((figures.last for figures in each if figures.last is not None), default=None)
    return total


def difference(now: Figures, before: Figures) -> int | None:
    """How many nano-dollars more a group came to than before, below 0 for less; None where nobody knows the cost of
    one of them."""
    return None if now.cost is None or before.cost is None else now.nano - before.nano


def growth(now: Figures, before: Figures) -> Decimal | None:
    """The difference as a share of before (0.12 is 12 % more); None where there is none, or nothing to compare with."""
    return None if difference(now, before) is None else relative(now.nano, before.nano)


# All that can be asked for of a group, but percentiles.
SUMS = tuple(name for name in Figures.__slots__ if name not in ("latency", "costs"))
_SUMMED = SUMS[:-2]
_sums_of = attrgetter(*_SUMMED)
Group = tuple[tuple[str, ...], Figures]


class Spent(NamedTuple):
    """What a group came to, and no more: there may be a million of them. Money in nano-dollars, `unknown` calls in no
    sum of it; `begin` and `end` are when the first and the last call began, in milliseconds since 1970, None without
    calls."""

    names: tuple[str, ...]
    nano: int
    calls: int
    unknown: int
    begin: int | None
    end: int | None


class Top(NamedTuple):
    """The first groups of each level: `levels` as of `Usage.levels`, and what is left of a level under the path of the
    group that it is about, how many groups and their figures as one."""

    levels: dict[tuple[str, ...], Figures]
    others: dict[tuple[str, ...], tuple[int, Figures]]


class Walk(Protocol):
    """All groups of a tree, level by level, `depth` 0 being the first: those of one group stand together, in the order
    of their own groups above; so a tree is read from the levels side by side, however many groups it has."""

    total: Figures
    count: int  # of all groups

    def named(self, depth: int) -> bool:
        """Whether any group of a level has a name."""

    def costs(self, depth: int) -> Iterator[int]:
        """The nano-dollars of each group of a level."""

    def groups(self, depth: int) -> Iterator[tuple[str, Figures, int]]:
        """Each group of a level: its name, its figures, and how many groups of the next level are its own."""


@dataclass(frozen=True)
class Reading:
    """How the log was read: `files` that hold lines of it, lines in all, lines that are no usage records, and lines
    whose id was read before (both left out of every sum); when the earliest call began. `bad` lists the first bad
    lines of each file, as file, line number and reason."""

    files: Sequence[str] = ()
    lines: int = 0
    bad_lines: int = 0
    duplicates: int = 0
    first: datetime | None = None
    bad: Sequence[tuple[str, int, str]] = ()


class Usage(Protocol):
    """One or more logs as they stood at one moment; lines recorded after `as_of` are not in it.

    `by` and `where` take what `budget breakdown` takes: tags (their aliases resolved), fields of the usage line and
    units of time in `zone`; and `origin`, which is `cost_source` with corrected calls under their correction's.
    Group names are as printed: `(none)` for a missing value, a unit of time by its label (`2026-11-21`).
    `latency` and `costs` are the percentiles that the figures get of each; those of costs take the longest.
    Methods raise UsageError for names and conditions that are malformed.
    """

    zone: tzinfo
    as_of: datetime | None

    @property
    def reading(self) -> Reading:
        """How the log was read."""

    def groups(
        self,
        by: Sequence[str] = (),
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
        only: Collection[str] = SUMS,
    ) -> list[Group]:
        """The innermost groups, by name; one without names for `by=()`, none when there is no line. Of the sums they
        have `only` these, the others stay as in `Figures()`: few take half of the time, and groups by `origin` a tenth
        without `first` and `last`."""

    def groupings(
        self, bys: Sequence[Sequence[str]], only: Collection[str], *, period: Period = EVER, where: Sequence[str] = ()
    ) -> list[list[Group]]:
        """The `groups` by each of several groupings, in a fraction of the time of asking one by one."""

    def levels(
        self,
        by: Sequence[str],
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
    ) -> dict[tuple[str, ...], Figures]:
        """The figures of every group and of every group of groups; the total under `()`."""

    def top(
        self,
        by: Sequence[str],
        most: int,
        order: str,
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
    ) -> Top:
        """Of each level the first `most` groups by `cost`, `calls`, `tokens`, `errors` or `latency` (their 95th
        percentile), the largest first, or by `name`: with a million groups in the log, far cheaper than `levels`. Of
        equal costs the group with more calls comes first, of equal calls that with more cost, of equal errors that with
        more calls; then names decide."""

    def courses(
        self,
        by: Sequence[str],
        kept: Collection[tuple[str, ...]],
        unit: str,
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
    ) -> dict[tuple[str, ...], dict[str, int]]:
        """The nano-dollars of the total and of the groups of `levels` that are `kept`, with all groups above each, by a
        unit of time that is not among `by`."""

    def walk(
        self,
        by: Sequence[str],
        order: str,
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
        only: Collection[str] = SUMS,
    ) -> Walk:
        """The groups of `levels` one after the other, each level in one of the orders of `top`: a million of them do
        not fit into memory. `by` is not empty, `latency` has the 95th percentile if that is the order. Groups have
        `only` these sums and those of the order, but neither `first` nor `last`; the total has all. The next walk ends
        this one."""

    def spent(
        self,
        by: Sequence[str],
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        least: int | None = None,
        times: bool = True,
    ) -> list[Spent]:
        """What the innermost groups came to, in no order; only those that came to `least` nano-dollars, if given.
        Without `times`, `begin` and `end` are None, which takes two thirds of the time."""

    def calls(self, *, period: Period = EVER, where: Sequence[str] = (), last: int = 0) -> Iterator[UsageRecord]:
        """The lines themselves in order of time (corrections too), for what sums cannot tell; or the `last` so many."""

    def rest(
        self,
        by: Sequence[str],
        outer: tuple[str, ...],
        kept: Sequence[str],
        *,
        period: Period = EVER,
        where: Sequence[str] = (),
        latency: Sequence[int] = (),
        costs: Sequence[int] = (),
    ) -> Figures:
        """The group `outer` of `levels` without those of its own groups that are `kept`, as one group."""

    def taggings(
        self, compared: Collection[str], *, period: Period = EVER, where: Sequence[str] = ()
    ) -> list[tuple[tuple[tuple[str, str], ...], Figures]]:
        """The lines by the names of all their tags, in order, each with its value if it is `compared` and else an
        empty one. Lines that were refused are left out: nobody paid for them."""

    def answer_sizes(self, *, period: Period = EVER) -> dict[str, AnswerSizes]:
        """How long the whole answers (status `ok`) of each purpose are, where their tokens are known."""

    def savings(self, question: Question, *, period: Period = EVER) -> Answer:
        """What calls could have cost less (see `savings_question`)."""
