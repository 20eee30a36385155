"""What a report costs at a million and at ten million calls: the first build of the index, and reports from it.

    python benchmarks/reports.py [--lines N ...] [--write]

The build is set against DuckDB's own `read_json` of the raw log, four values of each line and every field, against its
writing all of it to Parquet, which no index of all columns can undercut, and `wc -l`; `budget breakdown --by-agent
--by-purpose` against a DuckDB query over the raw log that gives the same groups, and `jq` (a million lines only). Each
is a process of its own; the figures are wall time and CPU of the whole process, of three runs the fastest, both also as
multiples of the raw read's, and its largest memory. A log of ten million lines takes 7 GB while this runs, and its
Parquet another.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from callmeter.store.usage_append import append_usage
from callmeter.words.ids import uuid7
from callmeter.words.instant import text_of
from callmeter.words.usage import usage_line

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
GENERATOR = Path(__file__).with_name("usage_generator.py")
CALLMETER = Path(sys.executable).parent / "callmeter"
NEW_LINES = 1000
RAW = """
    import sys, duckdb
    found = duckdb.connect().execute("SELECT tags.agent, tags.purpose, count(*), sum(cost) FROM"
        " read_json(?, format = 'newline_delimited') GROUP BY ALL", [sys.argv[1]]).fetchall()
"""
EVERY_FIELD = """
    import sys, duckdb
    duckdb.connect().execute("SELECT max(COLUMNS(*)) FROM read_json(?, format = 'newline_delimited')", [sys.argv[1]])
"""
FLOOR = """
    import sys, duckdb
    duckdb.connect().execute("COPY (SELECT * FROM read_json(?, format = 'newline_delimited')) TO '" + sys.argv[2] + "'"
        " (FORMAT parquet, COMPRESSION lz4_raw, PARQUET_VERSION v2)", [sys.argv[1]])
"""
IN_SQL = """
    from callmeter.cli.main import main
    from callmeter.store import index_rows, index_text
    index_rows.native = index_text.native = lambda: None
    main()
"""
JQ = 'reduce inputs as $x ({}; .[$x.tags.agent + "/" + $x.tags.purpose] += ($x.cost // 0))'


@dataclass(frozen=True)
class Cost:
    """Of a whole process: seconds of wall time and of all processors, MiB."""

    wall: float
    cpu: float
    memory: int


def measure(command: list[str], env: dict[str, str], runs: int = 3, without: Path | None = None) -> Cost:
    """The fastest run of a command, and the largest memory of all; each `without` a directory that is there before."""
    costs = []
    for _ in range(runs):
        if without is not None and without.exists():
            shutil.rmtree(without)
        before = time.monotonic()
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[0]} failed with status {process.returncode}")
        costs.append(Cost(time.monotonic() - before, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024))
    best = min(costs, key=lambda cost: cost.wall)
    return Cost(best.wall, best.cpu, max(cost.memory for cost in costs))


def script(text: str) -> str:
    """A program for `python -c`."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def append_calls(log: Path, count: int) -> None:
    """New calls at the end of the log."""
    now = datetime.now(UTC)
    for _ in range(count):
        append_usage(
            str(log),
            usage_line(
                {
                    "v": 1,
                    "id": uuid7(int(now.timestamp() * 1000)),
                    "timestamp": text_of(now),
                    "tags": {"agent": "code", "purpose": "chat"},
                    "model": "openai/o3",
                    "cost": None,
                    "cost_source": "unknown",
                    "status": "ok",
                }
            ),
        )


def table(lines: int, log: Path) -> list[str]:
    """The rows for a log of so many lines."""
    home = log.parent / "home"
    home.mkdir()
    env = {"PATH": os.environ["PATH"], "CALLMETER_HOME": str(home), "CALLMETER_LOG": str(log), "LANG": "C.UTF-8"}
    breakdown = [str(CALLMETER), "budget", "breakdown", "--by-agent", "--by-purpose"]
    size = log.stat().st_size / 1e9
    raw = measure([sys.executable, "-c", script(RAW), str(log)], env)
    parquet = log.parent / "raw.parquet"
    floor = measure([sys.executable, "-c", script(FLOOR), str(log), str(parquet)], env, runs=1 if size > 2 else 3)
    parquet.unlink()
    rows = [
        (f"**{lines:,} lines, {size:.1f} GB**", None),
        ("`wc -l`", measure(["wc", "-l", str(log)], env)),
        ("DuckDB `read_json` over the raw log, the same groups", raw),
        ("… every field of it", measure([sys.executable, "-c", script(EVERY_FIELD), str(log)], env)),
        ("… all of it to Parquet", floor),
    ]
    if lines <= 1_000_000 and shutil.which("jq"):
        rows.append(("`jq` over the raw log, the same groups", measure(["jq", "-n", JQ, str(log)], env, runs=1)))
    first, index = "`budget breakdown --by-agent --by-purpose`, first: builds the index", home / "index"
    in_sql = [sys.executable, "-c", script(IN_SQL), *breakdown[1:]]
    rows.append(("… the same, where callmeter was installed without a C compiler", measure(in_sql, env, 1, index)))
    rows.insert(-1, (first, measure(breakdown, env, without=index)))
    rows.append(("… again", measure(breakdown, env)))
    append_calls(log, NEW_LINES)
    rows.append((f"… after {NEW_LINES:,} new lines", measure(breakdown, env, 1)))
    for options in ("--by-day --by-model", "--last 7d", "--by-session --top 10"):
        command = [*breakdown[:3], *options.split()]
        rows.append((f"`budget breakdown {options}`", measure(command, env)))
    for options in ("status", "forecast", "metrics", "value", "anomalies", "savings", "report --weekly"):
        rows.append((f"`budget {options}`", measure([*breakdown[:2], *options.split()], env)))
    size_of_index = sum(path.stat().st_size for path in index.glob("*"))
    found = []
    for name, cost in rows:
        if cost is None:
            found.append(f"| {name}, index {size_of_index / 1e6:,.0f} MB | | | | | |")
        else:
            ratios = f"{cost.wall / raw.wall:.2f} | {cost.cpu / raw.cpu:.2f}"
            found.append(f"| {name} | {cost.wall:.2f} s | {cost.cpu:.2f} s | {ratios} | {cost.memory} MB |")
        print(found[-1], flush=True)
    return found


def main() -> None:
    """Print the table; with --write also into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args()
    rows = ["| what | wall | CPU | × raw wall | × raw CPU | memory |", "|---|---|---|---|---|---|"]
    print("\n".join(rows))
    for lines in given.lines:
        with tempfile.TemporaryDirectory(prefix="callmeter-") as directory:
            log = Path(directory) / "usage.jsonl"
            # Not in this process: what it ever used of memory would count as its children's.
            subprocess.run([sys.executable, str(GENERATOR), str(lines), str(log)], check=True)
            rows += table(lines, log)
    if given.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        start, end = "<!-- reports -->", "<!-- end reports -->"
        before, after = text.index(start) + len(start), text.index(end)
        DOCUMENT.write_text(text[:before] + "\n" + "\n".join(rows) + "\n" + text[after:], encoding="utf-8")


if __name__ == "__main__":
    main()
