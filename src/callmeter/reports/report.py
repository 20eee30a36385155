"""A report as a value: typed rows under typed columns. Text, JSON, CSV and Markdown are renderings of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

Cell = str | int | Decimal | None


class Kind(enum.Enum):
    """What a column holds, which decides how it is aligned and shown; machine formats get the plain value."""

    TEXT = "text"
    COUNT = "count"  # int
    MONEY = "money"  # int, nano-dollars; None is unknown
    SHARE = "share"  # Decimal from 0 to 1
    MILLISECONDS = "milliseconds"  # int
    INSTANT = "instant"  # str, RFC 3339


@dataclass(frozen=True)
class Column:
    """`name` is the key in JSON and the CSV header; `title` stands over the column in a table.

    `optional` columns give way first on a narrow terminal, the highest number first.
    """

    name: str
    title: str
    kind: Kind
    optional: int = 0


@dataclass(frozen=True)
class Row:
    """`depth` is the place in a tree (0 outermost); `subtotal` rows repeat the sum of deeper rows below them."""

    cells: Mapping[str, Cell]
    depth: int = 0
    subtotal: bool = False


@dataclass(frozen=True)
class Report:
    """`total` has the columns' names; `notes` are sentences under the table; `facts` are further figures that
    machine formats give beside the rows (JSON only)."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    total: Mapping[str, Cell] | None = None
    notes: Sequence[str] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
