"""The cells of a report as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from callmeter.cli.look import escaped
from callmeter.reports.forecast_words import chance_text
from callmeter.reports.report import Cell, Column, Kind
from callmeter.words.money import more_or_less, shown


def shown_column(column: Column, cells: Sequence[Cell]) -> list[str]:
    """A column's cells as people read them; amounts of money with the same number of decimal places."""
    if column.kind in (Kind.MONEY, Kind.RATE):
        amounts = [cell for cell in cells if isinstance(cell, int)]
        none = "unknown" if column.kind is Kind.MONEY else ""
        places = _places(amounts)
        return [_money(cell, places) if isinstance(cell, int) else none for cell in cells]
    if column.kind is Kind.DIFFERENCE:
        places = _places([cell for cell in cells if isinstance(cell, int)])
        return [_signed(cell, places) if isinstance(cell, int) else "" for cell in cells]
    if column.kind is Kind.EXACT:
        places = max((_exact_places(cell) for cell in cells if isinstance(cell, int)), default=2)
        return [_money(cell, places) if isinstance(cell, int) else "" for cell in cells]
    if column.kind is Kind.PRICE:
        return [_exact(cell) if isinstance(cell, int) else "unknown" for cell in cells]
    return ["" if column.quiet and cell == 0 else shown_cell(column.kind, cell) for cell in cells]


def shown_cell(kind: Kind, cell: Cell) -> str:
    """One cell that is not money."""
    if cell is None:
        return ""
    match kind, cell:
        case Kind.COUNT, int():
            return f"{cell:,}"
        case ((Kind.SHARE | Kind.FILL), Decimal()):
            return f"{cell * 100:.1f}%"
        case Kind.PART, Decimal():
            return f"{(cell * 100).normalize():f}%"
        case Kind.DAYS, Decimal():
            return f"{cell} d"
        case Kind.CHANGE, Decimal():
            return more_or_less(cell)
        case Kind.CHANCE, Decimal():
            return chance_text(cell)
        case Kind.RATIO, Decimal():
            return f"{cell:,.{0 if cell >= 100 else 1 if cell >= 10 else 2}f}x"
        case Kind.MILLISECONDS, int():
            return f"{cell} ms" if cell < 1000 else f"{Decimal(cell) / 1000:,.{2 if cell < 10_000 else 1}f} s"
        case Kind.INSTANT, str():
            return escaped(_instant(cell))
        case _:
            return escaped(str(cell))


def _instant(text: str) -> str:
    """`2026-11-21 09:30:01Z` for `2026-11-21T09:30:01.123Z`."""
    date, _, time = text.partition("T")
    seconds, dot, rest = time.partition(".")
    return f"{date} {seconds}{rest.lstrip('0123456789') if dot else ''}"


def _places(amounts: Sequence[int]) -> int:
    """Decimal places for a column: three digits of its largest amount, up to two more for its smallest."""
    sizes = [abs(amount) for amount in amounts if amount]
    if not sizes:
        return 2
    most, least = 2, 2
    while most < 9 and max(sizes) < 10 ** (11 - most):
        most += 1
    while least < 9 and min(sizes) < 10 ** (9 - least):
        least += 1
    return min(max(most, least), most + 2, 9)


def _exact(nano: int) -> str:
    """An amount to its last digit, at least in cents."""
    return _money(nano, _exact_places(nano))


def _exact_places(nano: int) -> int:
    return next(places for places in range(2, 10) if nano % 10 ** (9 - places) == 0)


def _signed(nano: int, places: int) -> str:
    return f"+{_money(nano, places)}" if nano > 0 else _money(nano, places)


def _money(nano: int, places: int) -> str:
    least = 10 ** (9 - places)
    if nano and abs(nano) * 2 < least:
        return f"{'-' if nano < 0 else ''}<{shown(least, places)}"
    return shown(nano, places)
