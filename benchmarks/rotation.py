"""Rotation while eight callers call without pause: killed everywhere, answered badly, and beside it a naive rotation.

    python benchmarks/rotation.py [--every 1] [--write]

The commands and the callers are processes of their own, forked from one that has imported callmeter; the account is
`tests/servers/openrouter.py`. Two agents, eight callers: six run `llm-call`, two are programs that keep their key
in memory for half a second. After each scenario the same command is run again until it is done, days pass in
between, and then the account and the store are searched for what should not be there. `--every 5` takes every fifth
scenario only. `--write` puts the table into docs/benchmarks.md.

The naive rotation mints a key, tests it once, writes it over the old one and disables the old one; its callers read the
key for each call and give up at a 401.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from rotation_team import KILLED, MODEL, Team, _fork  # noqa: E402
from servers.openrouter import OpenRouter  # noqa: E402

LABEL = "a@openrouter"
METHODS = (
    ("POST", "/keys"),
    ("GET", "/keys"),
    ("GET", "/keys/.+"),
    ("PATCH", "/keys/.+"),
    ("DELETE", "/keys/.+"),
    ("GET", "/key"),
)
ANSWERS = ("lost before", "lost after", "half", "500 before", "500 after", "429", "html", "empty", "list")


@dataclass
class Line:
    """What a kind of scenario came to."""

    what: str
    scenarios: int = 0
    fired: int = 0
    calls: int = 0
    failed: int = 0
    extra: int = 0
    keyless: int = 0
    left: int = 0
    other: int = 0

    def row(self) -> str:
        found = (self.extra, self.keyless, self.left, self.other)
        return (
            f"| {self.what} | {self.scenarios} | {self.fired} | {self.calls:,} | {self.failed:,} | "
            + ", ".join(map(str, found))
            + " |"
        )

    def count(self, faults: Iterable[str]) -> None:
        for fault in faults:
            if "too many" in fault:
                self.extra += 1
            elif "no working" in fault:
                self.keyless += 1
            elif fault.startswith("left"):
                self.left += 1
            else:
                self.other += 1


def run(what: str, scenarios: Iterable[Callable[[Team], bool]], home: Path) -> Line:
    """Scenarios one after the other, with the same callers; each tells whether what it was to do happened."""
    line = Line(what)
    with OpenRouter(seed=hash(what) % 1000) as router:
        team = Team(home, router)
        team.begin()
        for scenario in scenarios:
            line.scenarios += 1
            line.fired += scenario(team)
            team.finish(LABEL)
            faults = team.faults()
            if faults:
                print(what, line.scenarios, faults, file=sys.stderr)
            line.count(faults)
        line.calls, line.failed = team.end()
    print(line.row(), flush=True)
    return line


def killed_at_change(number: int) -> Callable[[Team], bool]:
    return lambda team: team.rotate(LABEL, kill_at=number) == KILLED


def killed_at_request(number: int) -> Callable[[Team], bool]:
    def scenario(team: Team) -> bool:
        return killed_by_server(team, {number}) == 1

    return scenario


def killed_by_server(team: Team, numbers: set[int]) -> int:
    """Rotate, killed when the n-th request of the management key has arrived; the request has its effect."""
    seen = kills = 0

    def arrived(method: str, path: str) -> None:
        nonlocal seen, kills
        if path.startswith(("/keys", "/guardrails")) or (method, path) == ("GET", "/key"):
            seen += 1
            if seen in numbers and team.pid:
                kills += 1
                team.kill_now()

    team.router.on_request = arrived
    for _ in range(len(numbers) + 1):
        if team.rotate(LABEL) != KILLED:
            break
    team.router.on_request = lambda method, path: None
    return kills


def answered_badly(method: str, path: str, kind: str) -> Callable[[Team], bool]:
    def scenario(team: Team) -> bool:
        team.router.fault(method, path, kind, times=2)
        team.rotate(LABEL)
        team.to_the_end(LABEL) if method == "DELETE" else None
        fired = team.router.faults_left < 2
        team.router._faults.clear()
        return fired

    return scenario


def mixed(seed: int) -> Callable[[Team], bool]:
    def scenario(team: Team) -> bool:
        chance = random.Random(seed)
        router = team.router
        router.page, router.nested_key = chance.choice((1, 100)), chance.random() < 0.3
        router.visible_lag, router.flicker = chance.choice((0.0, 0.3)), chance.choice((0.0, 0.3))
        router.list_lag, router.usage_lag, router.revoke_lag = (chance.choice((0.0, 0.5)) for _ in range(3))
        for _ in range(chance.randint(1, 4)):
            router.fault(*chance.choice(METHODS), chance.choice(ANSWERS))
        killed_by_server(team, set(chance.sample(range(1, 30), chance.randint(0, 4))))
        fired = bool(router.faults_left < 4)
        team.finish(LABEL)
        router._faults.clear()
        router.page, router.nested_key, router.visible_lag, router.flicker = 100, False, 0.0, 0.0
        router.list_lag = router.usage_lag = router.revoke_lag = 0.0
        return fired

    return scenario


def naive(seeds: range, home: Path) -> Line:
    """The naive rotation under the same mixes: killed by the server, answered badly, keys that come late."""
    line = Line("naive rotation, the same mixes")
    for seed in seeds:
        chance = random.Random(seed)
        with OpenRouter(seed=seed) as router:
            directory = home / str(seed)
            directory.mkdir(parents=True)
            for agent in "ab":
                (directory / agent).write_text(router.give_key(agent, limit="1000", reset="monthly"))
            stop, tally = _fork.Event(), _fork.Array("q", 2)
            given = (router.base_url, stop, tally)
            callers = [
                _fork.Process(target=naive_calls, args=(str(directory / "ab"[number % 2]), *given), daemon=True)
                for number in range(8)
            ]
            for caller in callers:
                caller.start()
            router.visible_lag, router.flicker = chance.choice((0.0, 0.3)), chance.choice((0.0, 0.3))
            for _ in range(chance.randint(1, 4)):
                router.fault(*chance.choice(METHODS), chance.choice(ANSWERS))
            for _ in range(4):
                process = _fork.Process(
                    target=naive_rotation, args=(router.base_url, router.management_key, str(directory / "a"))
                )
                process.start()
                process.join(60)
                if process.exitcode == 0:
                    break
            stop.set()
            for caller in callers:
                caller.join(30)
            line.scenarios += 1
            line.fired += 1
            line.calls += tally[0]
            line.failed += tally[1]
            working = {record.secret for record in router.working()}
            held = {(directory / agent).read_text() for agent in "ab"}
            line.extra += len(working - held)
            line.keyless += len(held - working)
    print(line.row(), flush=True)
    return line


def naive_calls(path: str, base_url: str, stop: Any, tally: Any) -> None:
    while not stop.is_set():
        key = Path(path).read_text()
        answer = ask("POST", f"{base_url}/chat/completions", key, {"model": MODEL, "messages": [], "max_tokens": 9})
        with tally.get_lock():
            tally[0] += 1
            tally[1] += answer is None


def naive_rotation(base_url: str, management: str, path: str) -> None:
    old = Path(path).read_text()
    for _ in range(3):
        made = ask("POST", f"{base_url}/keys", management, {"name": "a"})
        found = re.search(rb'"key": ?"([^"]+)"', made or b"")
        if found:
            break
    else:
        os._exit(1)
    new = found[1].decode()
    if ask("GET", f"{base_url}/key", new, None) is None:
        os._exit(1)
    Path(path).write_text(new)
    import hashlib

    hash = hashlib.sha256(old.encode()).hexdigest()
    os._exit(0 if ask("PATCH", f"{base_url}/keys/{hash}", management, {"disabled": True}) else 1)


def ask(method: str, url: str, key: str, fields: dict[str, Any] | None) -> bytes | None:
    data = None if fields is None else json.dumps(fields).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {key}"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return None


def points(home: Path) -> tuple[int, int]:
    """How many changes to the file system, and how many requests, the first run of a rotation has."""
    with OpenRouter(seed=0) as router:
        team = Team(home / "r", router)
        team.rotate(LABEL)
        requests = len(router.requests)
        for count in range(8, 2000, 8):
            other = Team(home / f"c{count}", router, agents=("a",))
            if other.rotate(LABEL, kill_at=count) != KILLED:
                return count, requests
    raise AssertionError("a rotation never ends")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--every", type=int, default=1, metavar="N")
    options.add_argument("--write", action="store_true")
    given = options.parse_args()
    every = given.every
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        base = Path(directory)
        changes, requests = points(base / "count")
        kinds = [(method, path, kind) for method, path in METHODS for kind in ANSWERS]
        lines = [
            run(
                "kill -9 before each change to a file",
                [killed_at_change(number) for number in range(1, changes, every)],
                base / "kills",
            ),
            run(
                "kill -9 at each request",
                [killed_at_request(number) for number in range(1, requests + 1, every)],
                base / "asks",
            ),
            run(
                f"{len(METHODS)} requests × {len(ANSWERS)} kinds of bad answer, twice each",
                [answered_badly(*each) for each in kinds[::every]],
                base / "answers",
            ),
            run(
                "seeded mixes of lags, flicker, faults and kills",
                [mixed(seed) for seed in range(0, 40, every)],
                base / "mixes",
            ),
            naive(range(0, 40, every), base / "naive"),
        ]
    table = [
        "| what | scenarios | fired | calls | failed calls | extra keys, keyless agents, left-overs, wrong ceilings |",
        "|---|---|---|---|---|---|",
        *(line.row() for line in lines),
    ]
    print("\n".join(table))
    if given.write:
        from startup import write

        write("rotation", table)


if __name__ == "__main__":
    main()
