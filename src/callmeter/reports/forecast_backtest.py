"""The forecast graded on a log's own past: what it would have said from each week's end, against what came.

Errors are compared with those of two simple rules over the same weeks: the last seven days repeated, and the mean of
the last 30 days. Below 1 the forecast was the better one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from callmeter.reports.forecast_grades import hits_text
from callmeter.reports.forecast_history import History, together
from callmeter.reports.forecast_model import fit
from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.words.errors import UsageError

LEAST_DAYS = 28
HORIZONS = (7, 28)
_FIRST = 14
_BURN = 30
_DAY = timedelta(1)


@dataclass
class Trial:
    """Forecasts of so many days that were compared with what came. The figures are sums over them, in the amounts'
    unit."""

    count: int = 0
    error: float = 0
    error_of_median: float = 0
    error_of_repeating: float = 0
    error_of_burn_rate: float = 0
    said: float = 0
    came: float = 0
    inside: int = 0
    nearly: int = 0

    def add(self, past: Sequence[int | None], newest: date, future: Sequence[int]) -> None:
        """Forecast what followed a past whose last day is `newest`, and compare."""
        found = fit(past, newest)
        if found is None:
            return
        length, came = len(future), sum(future)
        said = found.sum((newest + (1 + ahead) * _DAY, 1.0) for ahead in range(length))
        self.count += 1
        self.error += abs(said.mean - came)
        self.error_of_median += abs(said.median - came)
        self.error_of_repeating += abs(_mean(past[-7:]) * length - came)
        self.error_of_burn_rate += abs(_mean(past[-_BURN:]) * length - came)
        self.said += said.mean
        self.came += came
        self.inside += said.likely[0] <= came <= said.likely[1]
        self.nearly += said.nearly_sure[0] <= came <= said.nearly_sure[1]


def backtest(days: Sequence[int | None], newest: date, length: int) -> Trial:
    """Forecasts of `length` days from every seventh day on, the first after two weeks of log. None is made for days of
    which one is missing, or after a week of which all are."""
    trial = Trial()
    for origin in range(len(days) - length, _FIRST - 1, -7):
        future = [amount for amount in days[origin : origin + length] if amount is not None]
        if len(future) == length and any(amount is not None for amount in days[origin - 7 : origin]):
            trial.add(days[:origin], newest - (len(days) - origin) * _DAY, future)
    return trial


def pasts_of(
    found: Mapping[tuple[str, ...], History], by: Sequence[str], until: date, top: int | None = None
) -> dict[str, list[int | None]]:
    """What the total and its parts, grouped `by` so many tags, took on each day before `until`, by name (`agent:code`);
    of the parts the `top` dearest, or all."""
    parts = {
        " ".join(f"{name}:{value}" for name, value in zip(by, values, strict=True)): history.days(until)
        for values, history in sorted(found.items())
        if by
    }
    dearest = sorted(parts, key=lambda name: -sum(filter(None, parts[name])))[:top]
    total = {"total": together(found.values()).days(until)}
    return total | {name: days for name, days in parts.items() if name in dearest}


def backtest_report(found: Mapping[str, Sequence[int | None]], until: date) -> Report:
    """The trials of each subject, by its name, over its days before `until`; the first of them is the total. Raises
    UsageError when its log is too short to say anything."""
    newest = until - _DAY
    length = sum(amount is not None for amount in next(iter(found.values()), ()))
    if length < LEAST_DAYS:
        raise UsageError(
            f"a backtest needs {LEAST_DAYS} complete days of log, and there are {length}",
            "see `callmeter budget forecast` for what the forecast says of its own range",
            code="short_log",
        )
    rows = [
        Row(_cells(name, horizon, trial))
        for name, days in found.items()
        for horizon in HORIZONS
        if (trial := backtest(days, newest, horizon)).count
    ]
    columns = [
        Column("subject", "subject", Kind.TEXT),
        Column("days", "days ahead", Kind.COUNT),
        Column("forecasts", "forecasts", Kind.COUNT),
        Column("against_last_week", "error / last week", Kind.RATIO),
        Column("against_burn_rate", "error / 30-day rate", Kind.RATIO),
        Column("bias", "said / came", Kind.CHANGE, optional=3),
        Column("inside", "in 8 of 10 range", Kind.TEXT),
        Column("inside_80", "in 80%", Kind.COUNT, optional=5),
        Column("inside_95", "in 95%", Kind.COUNT, optional=4),
    ]
    notes = [
        "From every seventh day of the log, the first after two weeks: what the forecast would have said then, against "
        "what came.",
        "The error is the mean absolute error of the sums, divided by that of repeating the last seven days, or of the "
        "mean of the last 30 days: below 1.00 the forecast was better.",
    ]
    if any(trial_row.cells["days"] == HORIZONS[1] for trial_row in rows):
        notes.append("28 days overlap from week to week, so their count says less than it seems.")
    return Report("Backtest", columns, rows, notes=notes)


def _cells(name: str, horizon: int, trial: Trial) -> dict[str, Cell]:
    return {
        "subject": name,
        "days": horizon,
        "forecasts": trial.count,
        "against_last_week": _ratio(trial.error, trial.error_of_repeating),
        "against_burn_rate": _ratio(trial.error, trial.error_of_burn_rate),
        "bias": _rounded(trial.said / trial.came - 1, "0.001") if trial.came else None,
        "inside": hits_text(trial.inside, trial.count),
        "inside_80": trial.inside,
        "inside_95": trial.nearly,
    }


def _ratio(error: float, other: float) -> Decimal | None:
    return _rounded(error / other, "0.01") if other else None


def _rounded(value: float, unit: str) -> Decimal:
    return Decimal(value).quantize(Decimal(unit))


def _mean(days: Sequence[int | None]) -> float:
    known = [day for day in days if day is not None]
    return sum(known) / len(known) if known else 0.0
