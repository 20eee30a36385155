"""A report in the chosen format: the same rows in each. What a terminal changes is colour and width, never shape.

Text from tags, models and log lines is data: nothing in it reaches a terminal, a spreadsheet or a Markdown page as
anything but text. Machine formats give exact values: USD as JSON numbers, times in RFC 3339, milliseconds.
"""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TextIO, TypeVar

from callmeter.cli.cells import shown_column
from callmeter.cli.look import Look, escaped, look_of
from callmeter.cli.tables import table, visible
from callmeter.reports.report import Board, Cell, Kind, Report
from callmeter.words.instant import text_of
from callmeter.words.jsontext import dumps
from callmeter.words.money import usd

# What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection), full-width twins included.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_AMOUNTS = (Kind.MONEY, Kind.RATE, Kind.EXACT, Kind.PRICE, Kind.DIFFERENCE)
_AT_ONCE = 1_000
_NO_ROWS = '"rows":[]'
_Item = TypeVar("_Item")
_MARKDOWN = re.compile(r"([\\`*\[\]<>|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def render(report: Report | Board, shape: str, stream: TextIO | None, env: Mapping[str, str]) -> str:
    """The whole text of a report, newline at its end, for a stream that may be a terminal."""
    return "".join(pieces(report, shape, stream, env))


def pieces(report: Report | Board, shape: str, stream: TextIO | None, env: Mapping[str, str]) -> Iterator[str]:
    """The same in pieces, where it may be long."""
    if shape != "text" and isinstance(report, Report):
        report = replace(report, columns=[column for column in report.columns if column.kind is not Kind.MARKS])
    match shape:
        case "json" if isinstance(report, Report):
            yield from _json(report)
        case "json":
            yield dumps(_object(report)) + "\n"
        case "jsonl":
            for records in _batches(_records(report)):
                yield "".join(dumps(record) + "\n" for record in records)
        case "csv":
            for lines in _batches(_lines(report)):
                yield _csv(lines)
        case "tsv":
            for lines in _batches(_lines(report)):
                yield "".join("\t".join(line) + "\n" for line in lines)  # what is in cells, are escapes such as `\t`
        case "markdown":
            yield _markdown(report)
        case _:
            yield _text(report, look_of(stream, env))


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    left = iter(items)
    while batch := list(islice(left, _AT_ONCE)):
        yield batch


def _json(report: Report) -> Iterator[str]:
    """The object of a report, without holding all of its rows."""
    before, after = dumps(_object(replace(report, rows=()))).split(_NO_ROWS, 1)
    yield before + _NO_ROWS[:-1]
    for number, records in enumerate(_batches(_rows(report))):
        yield ("," if number else "") + ",".join(map(dumps, records))
    yield _NO_ROWS[-1] + after + "\n"


def _text(report: Report | Board, look: Look) -> str:
    if isinstance(report, Board):
        title = _folded(escaped(report.title), look, look.bold)
        sections = ["\n".join(_parts(each, look)) for each in report.sections.values()]
        return "\n\n".join([title, *_lead(report.lead, look), *sections, *_notes(report.notes, look)]) + "\n"
    heading, *rest = _parts(report, look)
    return "\n\n".join([heading, *rest]) + "\n"


def _parts(report: Report, look: Look) -> list[str]:
    """Heading, table and notes."""
    heading = _folded(escaped(report.title), look, look.bold)
    if report.period is not None:
        heading += "\n" + _folded(_span(report), look, look.dim)
    drawn, left_out = table(report, look)
    return [heading, drawn or "none", *_notes([*report.notes, *_no_room(report, left_out)], look)]


def _no_room(report: Report, left_out: Sequence[str]) -> list[str]:
    """What is said of columns that were asked for; charts are in text alone."""
    charts = {column.name for column in report.columns if column.kind is Kind.MARKS}
    other = "" if charts.issuperset(left_out) else ", or use `--format csv`"
    return [f"No room for {', '.join(left_out)}: make the terminal wider{other}."] if left_out else []


def _folded(text: str, look: Look, style: Callable[[str], str]) -> str:
    if len(text) <= look.width:
        return style(text)
    return "\n".join(
        style(line) for line in textwrap.wrap(text, look.width, break_long_words=False, break_on_hyphens=False)
    )


def _lead(sentences: Sequence[str], look: Look) -> list[str]:
    """The first sentence as a paragraph, the others as a list."""
    marks = ["" if number == 0 else "- " for number in range(len(sentences))]
    folded = [
        textwrap.wrap(
            escaped(sentence),
            look.width,
            initial_indent=mark,
            subsequent_indent=" " * len(mark),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for mark, sentence in zip(marks, sentences, strict=True)
    ]
    return ["\n".join(line for lines in part for line in lines) for part in (folded[:1], folded[1:]) if part]


def _notes(notes: Sequence[str], look: Look) -> list[str]:
    fold = textwrap.TextWrapper(look.width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return ["\n".join(look.dim(line) for note in notes for line in fold.wrap(escaped(note)))] if notes else []


def _span(report: Report) -> str:
    return f"{report.period.label if report.period else ''} ({report.zone})"


def _object(report: Report | Board) -> dict[str, object]:
    if isinstance(report, Board):
        return {
            "title": report.title,
            **({"lead": list(report.lead)} if report.lead else {}),
            "sections": {name: _object(each) for name, each in report.sections.items()},
            "notes": list(report.notes),
            "facts": dict(report.facts),
        }
    period = report.period
    return {
        "title": report.title,
        "period": None
        if period is None
        else {
            "label": period.label,
            "start": None if period.start is None else text_of(period.start),
            "end": None if period.end is None else text_of(period.end),
            "zone": report.zone,
        },
        "rows": list(_rows(report)),
        "total": None if report.total is None else _values(_columns(report), report.total),
        "notes": list(report.notes),
        "facts": dict(report.facts),
    }


def _records(report: Report | Board) -> Iterator[dict[str, object]]:
    """Each row, and the total as the last one, as an object."""
    if isinstance(report, Board):
        for name, each in report.sections.items():
            for record in _records(each):
                yield {"section": name, **record}
        return
    yield from _rows(report)
    if report.total is not None:
        yield {"row": "total", **_values(_columns(report), report.total)}


def _rows(report: Report) -> Iterator[dict[str, object]]:
    """The rows by their columns' names. Where some rows repeat what others hold, `row` tells them apart."""
    columns = _columns(report)
    for row in report.rows:
        values = _values(columns, row.cells)
        if report.total is not None:
            values = {"row": "rest" if row.rest else "subtotal" if row.subtotal else "group", **values}
        yield values


def _columns(report: Report) -> list[tuple[str, bool]]:
    """The names of the columns, and whether they are amounts: looked up once, for there may be a million rows."""
    return [(column.name, column.kind in _AMOUNTS) for column in report.columns]


def _values(columns: Sequence[tuple[str, bool]], cells: Mapping[str, Cell]) -> dict[str, object]:
    return {name: _amount(cells.get(name)) if is_amount else cells.get(name) for name, is_amount in columns}


def _amount(cell: Cell) -> Cell:
    return usd(cell) if isinstance(cell, int) else cell


def _lines(report: Report | Board) -> Iterator[list[str]]:
    """Header and rows for the formats that are one table. A board is one table of all its sections' columns."""
    header: dict[str, None] = {}
    for each in [report] if isinstance(report, Report) else report.sections.values():
        header.update(dict.fromkeys(column.name for column in each.columns))
    names = [*(["section"] if isinstance(report, Board) else []), *(["row"] if _is_marked(report) else []), *header]
    yield names
    for record in _records(report):
        yield list(map(_cell, map(record.get, names)))


def _is_marked(report: Report | Board) -> bool:
    if isinstance(report, Board):
        return any(_is_marked(each) for each in report.sections.values())
    return report.total is not None


def _cell(value: object) -> str:
    if value is None:
        return ""
    if type(value) is int:
        return str(value)
    if isinstance(value, str):
        text = escaped(value)
        return f"'{text}" if value.startswith(_FORMULA) else text
    return dumps(value)


def _csv(lines: Iterable[Sequence[str]]) -> str:
    """RFC 4180, every cell quoted."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(lines)
    return text.getvalue()


def _markdown(report: Report | Board, level: int = 2) -> str:
    """A GitHub table; the levels of a tree are columns of their own, subtotals and the total are bold."""
    heading = f"{'#' * level} {_marked_up(report.title)}\n"
    notes = "".join(f"- {_marked_up(note)}\n" for note in report.notes)
    if isinstance(report, Board):
        first = "".join(f"{_marked_up(sentence)}\n" for sentence in report.lead[:1])
        others = "".join(f"- {_marked_up(sentence)}\n" for sentence in report.lead[1:])
        parts = [heading, first, others, *(_markdown(each, level + 1) for each in report.sections.values()), notes]
        return "\n".join(part for part in parts if part)
    span = f"{_marked_up(_span(report))}\n" if report.period is not None else ""
    columns = visible(report)
    every = [row.cells for row in report.rows]
    strong = [row.subtotal for row in report.rows]
    if report.total is not None:
        every.append({**report.total, columns[0].name: "total"})
        strong.append(True)
    cells = [
        [_marked_up(text) for text in shown_column(column, [each.get(column.name) for each in every])]
        for column in columns
    ]
    lines = [
        [_marked_up(column.title) for column in columns],
        ["---" if column.kind in (Kind.TEXT, Kind.INSTANT, Kind.COMMAND) else "---:" for column in columns],
        *(
            [f"**{cell}**" if bold and cell else cell for cell in line]
            for bold, line in zip(strong, zip(*cells, strict=True), strict=True)
        ),
    ]
    rows = "".join("| " + " | ".join(line) + " |\n" for line in lines) if report.rows else "none\n"
    return "\n".join(part for part in (heading, span, rows, notes) if part)


def _marked_up(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    return _MARKDOWN.sub(r"\\\1", escaped(text).replace("&", "&amp;")).replace("\\<", "&lt;").replace("\\>", "&gt;")
