"""What holding and settling a call costs in the ledger, and what quotas cost a call.

    python benchmarks/ledger.py [--pairs 300] [--processes 64] [--seconds 5] [--lines 10000000] [--runs 30]
                                [--only ledger|log|calls] [--write]

- `ledger`: reserve + settle (one pair is one call), in one process, and with many at once on one subject and on a
  subject each; for SQLite, and for a PostgreSQL that syncs, directly and through pgbouncer if they are installed.
  Beside them, from the same run, the floors: an appended line with fdatasync; connecting and `SELECT 1`. As calls
  do, each pair opens the ledger anew.
- `log`: the same pair, a whole `llm-call` and `quota left`, with a log of ten lines and with one of --lines lines.
- `calls`: the CPU that a hard policy with 20 quotas adds to `llm-call` against a loopback server.

`--write` puts the tables into docs/benchmarks.md. The long log needs about 400 bytes a line of disk, for a while.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from tests.servers import database  # noqa: E402

import startup  # noqa: E402
from callmeter.ledger.open_ledger import open_ledger  # noqa: E402
from callmeter.ledger.protocol import Amount, Basis, Cap, Reservation, Window  # noqa: E402

BASIS = Basis("benchmark", "1")
PLENTY = 10**15
RECORD = json.dumps({"id": "x" * 36, "tags": {"agent": "code", "session": "s-1"}, "model": "m" * 20, "host": "h" * 20})
END = 2**33


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=300, help="pairs in one process")
    options.add_argument("--processes", type=int, default=64)
    options.add_argument("--seconds", type=float, default=5.0, help="for each of the many at once")
    options.add_argument("--lines", type=int, default=10_000_000, help="of the long log")
    options.add_argument("--runs", type=int, default=30, help="of whole commands")
    options.add_argument("--only", choices=("ledger", "log", "calls"))
    options.add_argument("--write", action="store_true")
    arguments = options.parse_args()
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(HERE.parent / "src")], check=True)
    parts: dict[str, Callable[[argparse.Namespace], list[str]]] = {"ledger": ledgers, "log": log, "calls": calls}
    for name, part in parts.items():
        if arguments.only in (None, name):
            table = part(arguments)
            print("\n".join(table), end="\n\n", flush=True)
            if arguments.write:
                startup.write(f"ledger {name}" if name != "ledger" else name, table)


# The ledger alone


def ledgers(arguments: argparse.Namespace) -> list[str]:
    """The table of pairs."""
    rows = []
    with tempfile.TemporaryDirectory(dir=_disk()) as home:
        append = _floor_of_disk(home)
        rows.append(("append + fdatasync, the floor", append, "", 1.0))
        rows += _measured("SQLite", f"{home}/ledger.db", append, arguments)
    missing = database.missing()
    if missing:
        print(f"without PostgreSQL: {missing}", file=sys.stderr)
    else:
        with database.postgres(durable=True) as server:
            trip = _floor_of_database(server.address)
            rows.append(("connecting + `SELECT 1`, the floor", trip, "", 1.0))
            rows += _measured("PostgreSQL", server.address, trip, arguments)
            if not database.pooler_missing():
                with database.pgbouncer(server.address) as pooled:
                    rows += _measured("through pgbouncer", pooled, trip, arguments)
    return [
        f"{arguments.pairs} pairs in one process; {arguments.processes} processes for {arguments.seconds:g} s; two"
        " windows a call, every cap looked at:",
        "",
        "| reserve + settle | p50 ms | p99 ms | p50 × floor | calls/s |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {_quantile(found, 0.5):.2f} | {_quantile(found, 0.99):.2f} | "
            f"{_quantile(found, 0.5) / floor if floor != 1.0 else 1:.1f} | {rate} |"
            for name, found, rate, floor in rows
        ),
    ]


Row = tuple[str, list[float], str, float]


def _measured(name: str, address: str, floor_times: list[float], arguments: argparse.Namespace) -> list[Row]:
    floor = _quantile(floor_times, 0.5)
    open_ledger(address).recount(BASIS, 0, count=dict, windows_of=lambda reservation: None)
    one = _pairs(address, "agent:alone", most=arguments.pairs)
    rows = [(f"{name}, one process", one, f"{len(one) / sum(one) * 1000:.0f}", floor)]
    many = arguments.processes
    for what, subjects in (
        (f"{many} processes on one subject", ["agent:same"] * many),
        (f"{many} processes on {many} subjects", [f"agent:a{number}" for number in range(many)]),
    ):
        found = _at_once(address, subjects, arguments.seconds)
        rows.append((f"{name}, {what}", found, f"{len(found) / arguments.seconds:.0f}", floor))
    assert not open_ledger(address).open_reservations(), "reservations are left"
    return rows


def _pairs(
    address: str, bucket: str, *, most: int = 10**9, until: float = float("inf"), name: str = "c"
) -> list[float]:
    """Milliseconds of each pair; the first one, which may make the tables, is not counted."""
    windows = [Window(bucket, period, 0, END) for period in ("day", "month")]
    hold, cost = Amount(2_000_000, 900, 1), Amount(900_000, 500, 1)
    caps = [Cap(window, "usd", PLENTY) for window in windows]
    found: list[float] = []
    number = 0
    while number <= most and time.monotonic() < until:
        call_id = f"{name}-{number}"
        reservation = Reservation(
            call_id, windows, hold, created=1, deadline=END, owner="bench", basis=BASIS, record=RECORD
        )
        began = time.perf_counter()
        ledger = open_ledger(address)
        assert ledger.reserve(reservation, caps)
        assert ledger.settle(call_id, lambda assumed: cost)
        del ledger
        if number:
            found.append((time.perf_counter() - began) * 1000)
        number += 1
    return found


def _at_once(address: str, subjects: list[str], seconds: float) -> list[float]:
    """The pairs of forked processes that begin together."""
    start = time.monotonic() + 1.0
    pipes = []
    for number, subject in enumerate(subjects):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            status = 1
            try:
                time.sleep(max(0.0, start - time.monotonic()))
                found = _pairs(address, subject, until=start + seconds, name=f"p{number}-{os.getpid()}")
                with os.fdopen(writing, "wb") as pipe:
                    pipe.write(struct.pack(f"{len(found)}d", *found))
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(writing)
        pipes.append((child, reading))
    times: list[float] = []
    for child, reading in pipes:
        with os.fdopen(reading, "rb") as pipe:
            data = pipe.read()
        times += struct.unpack(f"{len(data) // 8}d", data)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "a process failed"
    return times


def _floor_of_disk(home: str) -> list[float]:
    found = []
    descriptor = os.open(f"{home}/floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for _ in range(300):
        began = time.perf_counter()
        os.write(descriptor, b"x" * 400)
        os.fdatasync(descriptor)
        found.append((time.perf_counter() - began) * 1000)
    os.close(descriptor)
    return found


def _floor_of_database(address: str) -> list[float]:
    import psycopg

    found = []
    for _ in range(100):
        began = time.perf_counter()
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("SELECT 1")
        found.append((time.perf_counter() - began) * 1000)
    return found


# Whole commands


@contextlib.contextmanager
def _server() -> Iterator[str]:
    server = subprocess.Popen([sys.executable, "-c", startup.SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    finally:
        server.terminate()
        server.wait()


def _home(path: str, policy: dict[str, Any] | None) -> dict[str, str]:
    """The environment of commands in a home of their own."""
    os.mkdir(path, 0o700)
    if policy is not None:
        Path(path, "budget.json").write_text(json.dumps(policy))
    return {**os.environ, "CALLMETER_HOME": path, "CALLMETER_API_KEY": "sk-benchmark-0000000000000000"}


def _llm_call(base: str) -> list[str]:
    """A call whose prompt is another one each time: equal ones are a loop, which is written down."""
    tags = ["--agent", "code", "--session", "s-1", "--purpose", "bench"]
    return [str(startup.BIN / "llm-call"), "--base-url", base, "-m", "openai/gpt-4o-mini", *tags, os.urandom(24).hex()]


def _left() -> list[str]:
    return [str(startup.BIN / "callmeter"), "budget", "quota", "left", "--agent", "code"]


def log(arguments: argparse.Namespace) -> list[str]:
    """The table of log sizes."""
    sizes = [10, arguments.lines]
    policy = {"enforcement": "hard", "quotas": startup.quotas()}
    cpu: dict[tuple[str, int], list[float]] = {}
    pairs: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=_disk()) as home, _server() as base:
        homes = {size: _home(f"{home}/{size}", policy) for size in sizes}
        for size, env in homes.items():
            startup.cpu_of(_llm_call(base), env)  # counts the log, which begins here
            _lengthen(f"{home}/{size}/usage.jsonl", size - 1)
        length = os.path.getsize(f"{home}/{sizes[-1]}/usage.jsonl")
        for number in range(arguments.runs + 1):
            for size, env in homes.items():
                for name, command in (("`llm-call`", _llm_call(base)), ("`budget quota left`", _left())):
                    used = startup.cpu_of(command, env)
                    if number:
                        cpu.setdefault((name, size), []).append(used * 1000)
        paths = {size: f"{home}/{size}/ledger.db" for size in sizes}
        for path in paths.values():
            open_ledger(path).recount(BASIS, 0, count=dict, windows_of=lambda reservation: None)
        for number in range(20):
            for size, path in paths.items():
                pairs.setdefault(size, []).extend(_pairs(path, "agent:x", most=20, name=f"c{number}"))
    rows = [("reserve + settle, ms", [statistics.median(pairs[size]) for size in sizes])]
    for name in ("`llm-call`", "`budget quota left`"):
        rows.append((f"{name}, ms of CPU", [statistics.median(cpu[name, size]) for size in sizes]))
    return [
        f"Median of {arguments.runs} runs, of 400 pairs; the long log has {length / 1e9:.2f} GB:",
        "",
        f"| what | {sizes[0]:,} lines | {sizes[1]:,} lines | ratio |",
        "|---|---|---|---|",
        *(f"| {name} | {short:.2f} | {long:.2f} | {long / short:.2f} |" for name, (short, long) in rows),
    ]


def _lengthen(path: str, lines: int) -> None:
    """Append copies of a log's line, with other ids and of an earlier year, as quickly as the disk takes them."""
    line = json.loads(Path(path).read_text().splitlines()[0])
    line.update(id="0193496e-0000-7000-8000-############", timestamp="2025-01-02T03:04:05.678Z")
    head, tail = json.dumps(line, separators=(",", ":")).encode().split(b"############")
    tail += b"\n" + head
    with open(path, "ab", buffering=0) as file:
        for begin in range(0, lines, 100_000):
            some = range(begin, min(lines, begin + 100_000))
            file.write(head + tail.join(b"%012x" % number for number in some) + tail[: -len(head)])
        os.fsync(file.fileno())


def calls(arguments: argparse.Namespace) -> list[str]:
    """The table of what quotas cost a call."""
    policies: dict[str, dict[str, Any] | None] = {
        "no policy": None,
        "an empty policy: the loop breaker watches": {},
        "a hard policy of 20 quotas": {"enforcement": "hard", "quotas": startup.quotas()},
    }
    times: dict[str, list[float]] = {name: [] for name in ("`python -c pass`", *policies)}
    with tempfile.TemporaryDirectory(dir=_disk()) as home, _server() as base:
        homes = {name: _home(f"{home}/{number}", policy) for number, (name, policy) in enumerate(policies.items())}
        for number in range(arguments.runs * 2 + 2):
            used = {"`python -c pass`": startup.cpu_of([sys.executable, "-c", "pass"], dict(os.environ))}
            for name, env in homes.items():
                used[name] = startup.cpu_of(_llm_call(base), env)
            if number > 1:
                for name, seconds in used.items():
                    times[name].append(seconds)
    medians = {name: statistics.median(found) for name, found in times.items()}
    floor, plain = medians["`python -c pass`"], medians["no policy"]
    return [
        f"CPU of one `llm-call`, median of {arguments.runs * 2} runs:",
        "",
        "| under | × `python -c pass` | more than without a policy |",
        "|---|---|---|",
        *(f"| {name} | {medians[name] / floor:.2f} | {medians[name] / plain - 1:.0%} |" for name in policies),
    ]


def _quantile(found: list[float], share: float) -> float:
    return sorted(found)[min(len(found) - 1, int(len(found) * share))]


def _disk() -> str:
    """A directory on a disk: /tmp is memory on some machines, where a sync costs nothing."""
    return os.environ.get("BENCHMARK_DIRECTORY") or "/var/tmp"


if __name__ == "__main__":
    main()
