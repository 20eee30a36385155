"""Tables of text for people: aligned cells, trees by indentation, bars, whatever the width.

On a narrow terminal optional columns give way first, the bar shrinks and goes, then long names are cut in the middle
and sentences folded, then titles; what is too wide even so has its cells one below the other. Without a terminal the
width is that of COLUMNS, or 100.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from callmeter.cli.cells import shown_cell, shown_column
from callmeter.cli.look import Look, cells_of, cut, escaped
from callmeter.reports.report import Cell, Column, Kind, Report, Row

_GUTTER = 2
_NAME = 20  # a longer text does not make columns give way: it is cut
_NARROWEST = 8
_BAR = Column("", "", Kind.TEXT, optional=3)
_BAR_WIDTHS = (6, 20)
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEFT = (Kind.TEXT, Kind.INSTANT, Kind.MARKS)
# Nothing is a mark, too: else nobody saw how far a chart reaches.
_MARKS = str.maketrans("012345678", "·▁▂▃▄▅▆▇█")
_PLAIN_MARKS = str.maketrans("012345678", "_.:-=+*#@")


def visible(report: Report) -> list[Column]:
    """The columns for people: quiet ones only when they hold something."""
    every = [row.cells for row in report.rows] + ([report.total] if report.total else [])
    return [column for column in report.columns if not column.quiet or any(cells.get(column.name) for cells in every)]


def table(report: Report, look: Look) -> tuple[str, list[str]]:
    """The rows of a report with their header and total, empty without rows; and the names of the columns that were
    asked for and found no room."""
    if not report.rows:
        return "", []
    below = [column for column in visible(report) if column.below]
    columns = [column for column in visible(report) if not column.below]
    tree, others = columns[: report.tree], columns[report.tree :]
    every = [row.cells for row in report.rows] + ([report.total] if report.total else [])
    names = [_tree_name(tree[row.depth], row) for row in report.rows] + ([_Name("total", 0)] if report.total else [])
    first = replace(tree[0], title=" / ".join(column.title for column in tree))
    drawn = [_Drawn(first, [" " * name.indent + name.text for name in names], [name.indent for name in names])]
    for column in others:
        cells = [each.get(column.name) for each in every]
        texts = shown_column(column, cells)
        if column.kind is Kind.MARKS:
            texts = [text.translate(_MARKS if look.blocks else _PLAIN_MARKS) for text in texts]
        drawn.append(_Drawn(column, texts))
        if column.kind in (Kind.SHARE, Kind.FILL):
            shares = [cell if isinstance(cell, Decimal) else None for cell in cells]
            drawn.append(_Bars(column, shares[: len(report.rows)], len(cells), look.blocks))
    every_one, drawn = drawn, _fitted(drawn, look)
    left_out = {each.column.name for each in every_one if each.column.asked} - {each.column.name for each in drawn}
    is_stacked = _width(drawn) > look.width
    lines = [] if is_stacked else [look.dim(_line(drawn, [each.titles(look) for each in drawn]))]

    def line(index: int) -> str:
        cells = [each.lines(index, look) for each in drawn]
        return _stack(drawn, cells, look.width) if is_stacked else _line(drawn, cells)

    if is_stacked:
        for each in drawn:
            each.width = look.width - 2 * _GUTTER
    for index, row in enumerate(report.rows):
        text = line(index)
        lines.append(look.bold(text) if row.subtotal else look.dim(text) if row.rest else text)
        lines += _below([(column.kind, row.cells.get(column.name)) for column in below], look)
    if report.total is not None:
        lines.append(look.dim(("─" if look.blocks else "-") * min(look.width, _width(drawn))))
        lines.append(look.bold(line(len(report.rows))))
    return "\n".join(lines), [column.name for column in others if column.name in left_out]


@dataclass(frozen=True)
class _Name:
    text: str
    indent: int


def _tree_name(column: Column, row: Row) -> _Name:
    return _Name(shown_cell(column.kind, row.cells.get(column.name)), 2 * row.depth)


class _Drawn:
    """A column as text, and the width it has been given."""

    def __init__(self, column: Column, texts: Sequence[str], indents: Sequence[int] = ()) -> None:
        self.column = column
        self.texts = texts
        self.indents = indents
        self.natural = max(map(cells_of, [column.title, *texts]))
        self.width = self.natural

    def wanted(self, look: Look) -> int:
        """The width without which optional columns give way: what rows are named by gets up to a third."""
        if self.column.kind is not Kind.TEXT:
            return self.natural
        return min(self.natural, max(_NAME, look.width // 3) if self.indents else _NAME)

    def least(self) -> int:
        """The width that its cells and the words of its title need."""
        return min(self.natural, max(map(cells_of, [*self.column.title.split(" "), *self.texts])))

    def titles(self, look: Look) -> list[str]:
        """The lines of its title."""
        title = self.column.title
        return [title] if cells_of(title) <= self.width else _folded(title, self.width, look)

    def lines(self, index: int, look: Look) -> list[str]:
        """The lines of one cell."""
        text = self.texts[index]
        if cells_of(text) <= self.width:
            return [text]
        if self.indents:
            indent = min(self.indents[index], self.width - 4)
            return [" " * indent + cut(text.lstrip(" "), self.width - indent, look)]
        if " " in text and self.column.kind is Kind.TEXT:
            return _folded(text, self.width, look)
        return [cut(text, self.width, look)]


class _Bars(_Drawn):
    """Bars for a column of shares, the longest as wide as the bars' own; of a column of fills, that is 1."""

    def __init__(self, column: Column, shares: Sequence[Decimal | None], count: int, blocks: bool) -> None:
        # A bar does not outlive the figure that it is about.
        super().__init__(replace(_BAR, optional=max(_BAR.optional, column.optional + 2)), [""] * count)
        self._shares = [*shares, *[None] * (count - len(shares))]
        self._full = column.kind is Kind.FILL
        self._most = (
            Decimal(1) if self._full else max((share for share in shares if share is not None), default=Decimal(0))
        )
        self._blocks = blocks
        self.natural = self.width = _BAR_WIDTHS[0] if self._most > 0 else 0

    def wanted(self, look: Look) -> int:
        return self.natural

    def lines(self, index: int, look: Look) -> list[str]:
        share = self._shares[index]
        if share is None:
            return [""]
        bar = self._bar(min(share, self._most))
        return [bar.ljust(self.width, "░" if self._blocks else ".") if self._full else bar]

    def _bar(self, share: Decimal) -> str:
        if share <= 0:
            return ""
        eighths = int(share / self._most * self.width * 8)
        if not self._blocks:
            return "#" * max(eighths // 8, 1)
        return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip() or _EIGHTHS[1]


def _fitted(drawn: list[_Drawn], look: Look) -> list[_Drawn]:
    """The columns that find room, with their widths."""
    drawn = [each for each in drawn if each.natural]

    def needed(width: Callable[[_Drawn], int]) -> int:
        return sum(width(each) for each in drawn) + _GUTTER * (len(drawn) - 1)

    while needed(lambda each: each.wanted(look)) > look.width and any(each.column.optional for each in drawn):
        gone = max(reversed(drawn), key=lambda each: each.column.optional).column
        # Where a range begins says nothing without its end.
        drawn = [
            each
            for each in drawn
            if each.column is not gone and (gone.title != "to" or each.column.optional != gone.optional)
        ]
    texts = [each for each in drawn if each.column.kind is Kind.TEXT and not isinstance(each, _Bars)]

    def shrink(which: Sequence[_Drawn], least: Callable[[_Drawn], int]) -> None:
        while needed(lambda each: each.width) > look.width:
            widest = max(which, key=lambda each: each.width - least(each))
            if widest.width <= least(widest):
                break
            widest.width -= 1

    shrink(texts, lambda each: _NARROWEST)
    if needed(lambda each: each.width) > look.width:
        # Titles have to fold: names then get back what they need not give.
        least = {id(each): each.least() for each in drawn}
        for each in drawn:
            each.width = each.natural
        shrink(drawn, lambda each: least[id(each)])
        shrink(texts, lambda each: _NARROWEST)
    for bars in drawn:
        if isinstance(bars, _Bars):
            bars.width = min(bars.width + max(look.width - needed(lambda each: each.width), 0), _BAR_WIDTHS[1])
    return drawn


def _width(drawn: Sequence[_Drawn]) -> int:
    return sum(each.width for each in drawn) + _GUTTER * (len(drawn) - 1)


def _line(drawn: Sequence[_Drawn], cells: Sequence[Sequence[str]]) -> str:
    lines = []
    for level in range(max(map(len, cells))):
        parts = []
        for each, texts in zip(drawn, cells, strict=True):
            text = texts[level] if level < len(texts) else ""
            padding = " " * (each.width - cells_of(text))
            parts.append(text + padding if each.column.kind in _LEFT else padding + text)
        lines.append((" " * _GUTTER).join(parts).rstrip())
    return "\n".join(lines)


def _stack(drawn: Sequence[_Drawn], cells: Sequence[Sequence[str]], width: int) -> str:
    """A row's cells one below the other, each beside its title or under it."""
    (name, *more), *others = cells
    indent = " " * (len(name) - len(name.lstrip(" ")) + _GUTTER)
    title_width = max((cells_of(each.column.title) for each in drawn[1:]), default=0)
    lines = [name, *more]
    for each, texts in zip(drawn[1:], others, strict=True):
        title, text = each.column.title, texts[0].strip()
        if isinstance(each, _Bars) or not text:
            continue
        beside = f"{indent}{title}{' ' * (title_width - cells_of(title) + _GUTTER)}{text}"
        if len(texts) == 1 and cells_of(beside) <= width:
            lines.append(beside)
        else:
            lines += [indent + title, *(f"{indent}  {text}" for text in texts)]
    return "\n".join(line.rstrip() for line in lines)


def _below(cells: Sequence[tuple[Kind, Cell]], look: Look) -> list[str]:
    """Sentences and commands under a row, each folded and indented."""
    lines: list[str] = []
    for kind, cell in cells:
        if cell:
            text, width = escaped(str(cell)), look.width - 2
            lines += _continued(text, width) if kind is Kind.COMMAND else _folded(text, width, look)
    return [f"  {line}" for line in lines]


def _continued(command: str, width: int) -> list[str]:
    """A command on lines that a shell takes for one; a word that is too long has a line of its own, and is whole."""
    words = [""]
    quote = ""
    for character in command:
        if character == " " and not quote:
            words.append("")
            continue
        if character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        words[-1] += character
    lines = words[:1]
    for word in words[1:]:
        if cells_of(f"{lines[-1]} {word} \\") <= width:
            lines[-1] += f" {word}"
        else:
            lines[-1] += " \\"
            lines.append(word)
    return lines


def _folded(text: str, width: int, look: Look) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        word = cut(word, width, look)
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cells_of(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
