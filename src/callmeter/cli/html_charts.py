"""Bar charts as geometry: what the HTML template draws as inline SVG. Floats are for pixels only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from callmeter.cli.look import escaped
from callmeter.reports.report import Report
from callmeter.words.money import NANO, shown

_WIDTH, _HEIGHT = 480, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 6, 22, 26
_TICKS = 4
_MOST_LABELS = 8


@dataclass(frozen=True)
class Bar:
    """A rectangle; `kind` is its class (`now`, `past`, `before`), `title` what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True)
class Mark:
    """A text at a place."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    """`title` and `description` are for those who do not see it; `legend` names the classes of bars."""

    id: str
    title: str
    description: str
    bars: Sequence[Bar]
    ticks: Sequence[Mark]
    labels: Sequence[Mark]
    values: Sequence[Mark]
    legend: Sequence[tuple[str, str]] = ()
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _WIDTH - _RIGHT


def chart_of(name: str, report: Report, span_name: str, before_name: str) -> Chart | None:
    """The chart of a section, if it has one: costs by part, beside those before; or the course up to this span."""
    if name not in ("parts", "course") or len(report.rows) < 2:
        return None
    key = report.columns[0].name
    labels = [str(row.cells[key]) for row in report.rows]
    costs = [_amount(row.cells.get("cost")) for row in report.rows]
    if not any(costs):
        return None
    if name == "course":
        kinds = [*["past"] * (len(costs) - 1), "now"]
        return _bars(name, report.title, labels, [(costs, kinds)], values=len(costs) <= _MOST_LABELS)
    before = [_amount(row.cells.get("before")) for row in report.rows]
    series = [(costs, ["now"] * len(costs))]
    legend = []
    if any(before):
        series.insert(0, (before, ["before"] * len(before)))
        legend = [("now", span_name), ("before", before_name)]
    return _bars(name, report.title, labels, series, legend=legend)


def short_label(text: str) -> str:
    """`Mon 9` for `2026-11-09 Mon`, `W46` for `2026-W46`, `Oct` for `2026-10`, `9 Nov` for `2026-11-09`, `09` for
    `2026-11-09 09:00`, else the text."""
    first, _, rest = text.partition(" ")
    if rest[:1].isdigit():
        return rest[:2]
    if text[4:6] == "-W":
        return text[5:]
    try:
        day = date.fromisoformat(first if len(first) > 7 else f"{first}-01")
    except ValueError:
        return text
    if len(first) == 7:
        return f"{day:%b}"
    return f"{rest} {day.day}" if rest else f"{day.day} {day:%b}"


def _bars(
    id: str,
    title: str,
    labels: Sequence[str],
    series: Sequence[tuple[Sequence[int], Sequence[str]]],
    *,
    values: bool = False,
    legend: Sequence[tuple[str, str]] = (),
) -> Chart:
    step = _step(max(max(amounts) for amounts, _ in series))
    top = step * max(1, -(-max(max(amounts) for amounts, _ in series) // step))
    scale = (_HEIGHT - _TOP - _BOTTOM) / top
    base = _HEIGHT - _BOTTOM
    slot = (_WIDTH - _LEFT - _RIGHT) / len(labels)
    bar = slot * (0.76 if len(series) == 1 else 0.4)
    exact = max(_places(step), 0 if top >= 100 * NANO else 2)
    bars, tops = [], []
    for number, (amounts, kinds) in enumerate(series):
        for index, (amount, kind) in enumerate(zip(amounts, kinds, strict=True)):
            height = max(0, amount) * scale
            x = _LEFT + slot * index + (slot - bar * len(series)) / 2 + bar * number
            text = f"{escaped(labels[index])}{', before' if kind == 'before' else ''}: {shown(amount)}"
            bars.append(Bar(round(x, 1), round(base - height, 1), round(bar, 1), round(height, 1), kind, text))
            if values:
                tops.append(Mark(round(x + bar / 2, 1), round(base - height - 6, 1), shown(amount, exact)))
    every = -(-len(labels) // _MOST_LABELS)
    names = [
        Mark(round(_LEFT + slot * (index + 0.5), 1), base + 17, escaped(short_label(label)))
        for index, label in enumerate(labels)
        if index % every == 0
    ]
    ticks = [
        Mark(_LEFT, round(base - amount * scale, 1), shown(amount, _places(step))) for amount in range(0, top + 1, step)
    ]
    last = series[-1][0]
    said = ", ".join(f"{label}: {shown(amount)}" for label, amount in zip(labels, last, strict=True))
    return Chart(id, title, escaped(said), bars, ticks, names, tops, legend)


def _amount(cell: object) -> int:
    return cell if isinstance(cell, int) else 0


def _step(most: int) -> int:
    """A round distance (1, 2 or 5 times a power of ten) of which about four reach the largest amount."""
    size = int("1" + "0" * (len(str(max(1, most // _TICKS))) - 1))
    return next(size * factor for factor in (1, 2, 5, 10) if size * factor * _TICKS >= most)


def _places(step: int) -> int:
    """The decimal places that a distance in nano-dollars needs; none or two at least."""
    exact = max(0, -int(Decimal(step).scaleb(-9).normalize().as_tuple().exponent))
    return 0 if exact == 0 else max(2, exact)
