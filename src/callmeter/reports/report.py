"""A report as a value: typed rows under typed columns. Text, JSON, CSV and Markdown are renderings of it."""

from __future__ import annotations

import enum
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TypeVar

from callmeter.words.period import Period

Cell = str | int | Decimal | None


class Kind(enum.Enum):
    """What a column holds, which decides how it is aligned and shown; machine formats get the plain value."""

    TEXT = "text"
    COUNT = "count"  # int
    MONEY = "money"  # int, nano-dollars; None is unknown
    RATE = "rate"  # int, nano-dollars for so much of something; None when there is none of it
    EXACT = "exact"  # int, nano-dollars that add up: all shown to the last digit of any
    PRICE = "price"  # int, nano-dollars, shown to its last digit; None is unknown
    SHARE = "share"  # Decimal from 0 to 1; text draws a bar beside it
    PART = "part"  # Decimal from 0 to 1, without a bar
    FILL = "fill"  # Decimal, 1 is full; text draws a bar that is full at 1
    DAYS = "days"  # Decimal
    DIFFERENCE = "difference"  # int, nano-dollars more (or less), shown with its sign; None when nobody knows
    CHANGE = "change"  # Decimal, 0.12 is 12 % more; None when there is nothing to compare with
    CHANCE = "chance"  # Decimal from 0 to 1, a probability; text gives it in tens of a per cent
    RATIO = "ratio"  # Decimal, 3 is three times as much; None when there is nothing to compare with
    MARKS = "marks"  # str of digits from 0 to 8, a small chart; only text has such columns
    MILLISECONDS = "milliseconds"  # int
    INSTANT = "instant"  # str, RFC 3339
    COMMAND = "command"  # str, for a shell; text has such columns `below` only, and folds them so that they still run


@dataclass(frozen=True)
class Column:
    """`name` is the key in JSON and the CSV header; `title` stands over the column in a table.

    `optional` columns give way first on a narrow terminal, the highest number first. `quiet` ones are left out of
    text and Markdown as long as they hold nothing but zeros. Text shows `below` ones, which hold sentences and
    commands, under their row over the whole width. Of `asked` ones, which an option asked for, it says when there is no
    room for them.
    """

    name: str
    title: str
    kind: Kind
    optional: int = 0
    quiet: bool = False
    below: bool = False
    asked: bool = False


@dataclass(frozen=True)
class Row:
    """`depth` is the place in a tree (0 outermost); `subtotal` rows repeat the sum of deeper rows below them;
    `rest` rows stand for several that are not shown."""

    cells: Mapping[str, Cell]
    depth: int = 0
    subtotal: bool = False
    rest: bool = False


@dataclass(frozen=True)
class Report:
    """`total` has the columns' names; `notes` are sentences under the table; `facts` are further figures that
    machine formats give beside the rows (JSON only).

    The first `tree` columns are levels of one tree: text shows them as one indented column.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    total: Mapping[str, Cell] | None = None
    notes: Sequence[str] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    tree: int = 1
    period: Period | None = None
    zone: str = "UTC"


@dataclass(frozen=True)
class Board:
    """Several reports on one page, by name: a JSON object holds them under `sections`, the lines of the other
    machine formats begin with the section's name. `lead` are sentences before the first section."""

    title: str
    sections: Mapping[str, Report]
    notes: Sequence[str] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    lead: Sequence[str] = ()


_Page = TypeVar("_Page", Report, Board)


def verifying(log: str | None) -> str:
    """The command that shows the bad lines of a log."""
    return f"callmeter budget log verify{'' if log is None else f' --log {shlex.quote(log)}'}"


def with_reading(page: _Page, bad_lines: int, duplicates: int, log: str | None = None) -> _Page:
    """The page with what its reader left out of the log, which `--log` named unless None: nobody should take a sum for
    more than it is."""
    notes = list(page.notes)
    if bad_lines:
        said = "1 line is no usage record" if bad_lines == 1 else f"{bad_lines:,} lines are no usage records"
        notes.append(f"{said} and left out: see `{verifying(log)}`.")
    counts = {"bad_lines": bad_lines, "duplicates": duplicates}
    return replace(page, notes=notes, facts={**page.facts, "log": counts})
