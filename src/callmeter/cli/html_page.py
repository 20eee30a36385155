"""A page of reports as one HTML file: tables, charts as inline SVG, no script, nothing from the network.

Names of agents, models and errors are data here too: the template escapes every text, control characters are shown as
escapes before, and the page forbids itself scripts and requests (Content Security Policy).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib.resources import files

from callmeter.cli.cells import shown_column
from callmeter.cli.html_charts import Chart, chart_of
from callmeter.cli.look import escaped
from callmeter.cli.tables import visible
from callmeter.reports.report import Board, Cell, Column, Kind, Report
from callmeter.words.money import more_or_less, shown

_TEMPLATE = "review.html.jinja"
_BESIDE = (("course", "parts"), ("trouble", "errors"))
_LEFT = (Kind.TEXT, Kind.INSTANT, Kind.COMMAND)
# A text of so many letters, such as a date, stays on its line.
_SHORT = 14
_FULL = Decimal(1)
# Columns that tables give up as easily as this are for scripts: on a page they would push others over the edge.
_FOR_SCRIPTS = 10
_NEARLY = Decimal("0.9")


@dataclass(frozen=True)
class Shown:
    """A cell: its text, whether it is a number, the class that colours it; `bar` is the length of its bar in per cent,
    `from_` where that begins; `beside` leaves room for one where others have theirs."""

    text: str
    number: bool
    tone: str = ""
    bar: Decimal | None = None
    from_: Decimal = Decimal(0)
    beside: bool = False


@dataclass(frozen=True)
class Section:
    """A report as the template draws it: of each row its kind, its cells, and the sentences below it. `aside`
    means that its chart says it all, and the table is folded away; `half`, that another section stands beside it."""

    id: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[tuple[str, Sequence[Shown], Sequence[str]]]
    total: Sequence[Shown]
    notes: Sequence[str]
    chart: Chart | None = None
    aside: bool = False
    half: bool = False


@dataclass(frozen=True)
class Tile:
    """A figure in large letters."""

    name: str
    text: str
    detail: str = ""
    tone: str = ""


def html_page(board: Board) -> str:
    """The whole page."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files("callmeter.data").joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        title=escaped(board.title),
        facts={name: escaped(str(value)) for name, value in board.facts.items()},
        lead=[escaped(sentence) for sentence in board.lead],
        tiles=_tiles(board),
        sections=_arranged([_section(name, report, board) for name, report in board.sections.items()]),
        notes=[escaped(note) for note in board.notes],
    )


def _arranged(sections: Sequence[Section]) -> list[Section]:
    """Those that fit beside each other do so, if both are there and are alike."""
    found = {section.id: section for section in sections}
    halves = {
        name
        for first, second in _BESIDE
        if first in found and second in found and found[first].aside == found[second].aside
        for name in (first, second)
    }
    return [replace(section, half=section.id in halves) for section in sections]


def _section(name: str, report: Report, board: Board) -> Section:
    course = board.sections.get("course")
    names = [str(row.cells[course.columns[0].name]) for row in course.rows[-2:]] if course else []
    chart = chart_of(name, report, names[-1] if names else "", names[0] if len(names) > 1 else "before")
    columns = [column for column in visible(report) if not column.below and column.optional < _FOR_SCRIPTS]
    below = [column.name for column in visible(report) if column.below]
    every: list[Mapping[str, Cell]] = [row.cells for row in report.rows]
    if report.total is not None:
        every.append({**report.total, columns[0].name: "total"})
    drawn = [_column(column, [cells.get(column.name) for cells in every], len(report.rows)) for column in columns]
    lines = [list(line) for line in zip(*drawn, strict=True)] if every else []
    kinds = ["subtotal" if row.subtotal else "rest" if row.rest else "" for row in report.rows]
    return Section(
        id=name,
        title=escaped(report.title),
        columns=columns,
        rows=[
            (kind, line, [escaped(str(row.cells[name])) for name in below if row.cells.get(name)])
            for kind, line, row in zip(kinds, lines, report.rows, strict=False)
        ],
        total=lines[-1] if report.total is not None else [],
        notes=[escaped(note) for note in report.notes],
        chart=chart,
        aside=chart is not None,
    )


def _column(column: Column, cells: Sequence[Cell], rows: int) -> list[Shown]:
    """A column's cells with their bars, which the total has not."""
    texts = shown_column(column, cells)
    number = column.kind not in _LEFT
    if column.kind in (Kind.SHARE, Kind.FILL):
        shares = [cell if isinstance(cell, Decimal) else Decimal(0) for cell in cells]
        most = _FULL if column.kind is Kind.FILL else max(shares[:rows], default=_FULL) or _FULL
        return [
            Shown(text, True, _fullness(share) if column.kind is Kind.FILL else "", _percent(share, most))
            if index < rows
            else Shown(text, True, beside=True)
            for index, (text, share) in enumerate(zip(texts, shares, strict=True))
        ]
    if column.kind is Kind.DIFFERENCE:
        amounts = [cell if isinstance(cell, int) else 0 for cell in cells]
        most = Decimal(max(map(abs, amounts[:rows]), default=0) or 1)
        shown_cells = []
        for index, (text, amount) in enumerate(zip(texts, amounts, strict=True)):
            length = _percent(Decimal(abs(amount)), most * 2) if index < rows and text else None
            begin = Decimal(50) - (length or 0) if amount < 0 else Decimal(50)
            shown_cells.append(Shown(text, True, _tone(amount), length, begin, beside=True))
        return shown_cells
    if column.kind is Kind.CHANGE:
        signs = [cell if isinstance(cell, Decimal) else Decimal(0) for cell in cells]
        return [Shown(text, True, _tone(sign)) for text, sign in zip(texts, signs, strict=True)]
    return [Shown(text, number, "" if number or len(text) > _SHORT else "short") for text in texts]


def _tiles(board: Board) -> list[Tile]:
    """The figures of the span, from the last row of its course."""
    course = board.sections.get("course")
    if course is None or not course.rows:
        return []
    row = course.rows[-1].cells
    cost, calls, tokens = row.get("cost"), row.get("calls"), row.get("tokens")
    difference, change, errors = row.get("difference"), row.get("change"), row.get("errors")
    tiles = [Tile("spent", shown(cost) if isinstance(cost, int) else "unknown")]
    if isinstance(difference, int):
        share = more_or_less(change) if isinstance(change, Decimal) else ""
        sign = "+" if difference > 0 else ""
        tiles.append(Tile("change", f"{sign}{shown(difference)}", share, _tone(difference)))
    tiles.append(Tile("calls", f"{calls:,}", f"{row['refused']:,} refused" if row.get("refused") else ""))
    if isinstance(tokens, int):
        per_1k = row.get("cost_per_1k_tokens")
        tiles.append(Tile("tokens", _short(tokens), f"{shown(per_1k)} per 1k" if isinstance(per_1k, int) else ""))
    if isinstance(errors, int) and isinstance(calls, int):
        share = f"{Decimal(100 * errors) / calls:.1f}% of calls" if calls else ""
        tiles.append(Tile("errors", f"{errors:,}", share))
    shares = board.facts.get("share_by_origin")
    if isinstance(shares, Mapping) and isinstance(shares.get("billed"), Decimal):
        tiles.append(Tile("billed", f"{shares['billed'] * 100:.0f}%", "of the cost, by the provider"))
    return tiles


def _short(number: int) -> str:
    """`3.08 M`, `25.4 k`."""
    # Rounded before its unit is chosen: 999,999 is 1 M.
    rounded = int(Decimal(f"{Decimal(number):.3g}"))
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if rounded >= size:
            return f"{Decimal(rounded) / size:,f} {letter}"
    return str(number)


def _percent(share: Decimal, most: Decimal) -> Decimal:
    return min(max(share / most, Decimal(0)), Decimal(1)).quantize(Decimal("0.001")) * 100


def _fullness(share: Decimal) -> str:
    return "over" if share >= _FULL else "near" if share >= _NEARLY else "calm"


def _tone(amount: int | Decimal) -> str:
    return "more" if amount > 0 else "less" if amount < 0 else ""
