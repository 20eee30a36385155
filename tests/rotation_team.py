"""A team under rotation: agents that call without pause in processes of their own, and `budget rotate-key` in others,
which are killed where a test says.

The processes are forked from one that has imported callmeter already, so that a run costs milliseconds; the commands
are those of the command line, with their arguments, environment and exit statuses. `shift` lets days pass for all.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from callmeter.flows.keys import add_key
from callmeter.policy.rotation import read_rotation
from callmeter.secrets.open_store import Stores
from callmeter.secrets.secret import Secret
from callmeter.store.rotation_journal import journal_of, read_journal
from servers.openrouter import OpenRouter

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(
    [
        "rotation_team",
        "kill_points",
        *(
            f"callmeter.{name}"
            for name in (
                "cli.app",
                "cli.lane",
                "cli.agent_key",
                "cli.commands.rotate_key",
                "cli.commands.llm_call",
                "cli.calling",
                "flows.call",
                "flows.recovery",
                "providers.plain",
                "store.index",
                "store.index_build",
                "store.index_query",
            )
        ),
    ]
)
MODEL = "openai/gpt-5-mini"
WAITS, KILLED = 3, -signal.SIGKILL
# For how long a caller that keeps its key in memory does so.
CACHED = 0.5


def command(
    home: str, log: str, arguments: list[str], env: dict[str, str], shift: float, kill_at: int, crash: str
) -> None:
    """A command line of callmeter in this process, killed before its `kill_at`-th change to the file system; `crash`
    names a function that has a defect."""
    _become(home, log, env, shift)
    from callmeter.cli.main import start
    from kill_points import _arm

    if kill_at > 0:
        _arm(kill_at)
    if crash:
        import importlib

        module, _, name = crash.rpartition(".")
        for place in (module, "callmeter.flows.rotation"):
            setattr(importlib.import_module(place), name, _defect)
    status = start(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def calls(home: str, log: str, agent: str, pause: float, cached: bool, stop: Event, tally: Any) -> None:
    """`llm-call` again and again, or a program that keeps the agent's key for a while; counts calls and failures."""
    _become(home, log, {}, 0.0)
    from callmeter import get_secret
    from callmeter.cli.main import start
    from callmeter.cli.world import World
    from callmeter.words.errors import NoKey

    base_url = World().settings.providers["openrouter"]["base_url"]
    key, since = "", 0.0
    while not stop.is_set():
        if cached:
            if time.monotonic() - since > CACHED:
                key, since = get_secret(agent, "llm_api_key"), time.monotonic()
            refused: list[str] = []
            failed = not _ask(str(base_url), key)
            while failed and len(refused) < 2:  # as docs/rotation.md tells programs to do
                refused.append(key)
                try:
                    key = get_secret(agent, "llm_api_key", refused=refused)
                except NoKey:
                    break
                failed = not _ask(str(base_url), key)
        else:
            failed = start(["llm-call", "--agent", agent, "-m", MODEL, "-q", os.urandom(16).hex()]) != 0
        with tally.get_lock():
            tally[0] += 1
            tally[1] += failed
        time.sleep(pause)
    os._exit(0)


def _defect(*given: object) -> None:
    raise RuntimeError(f"a defect at {given}")


def _ask(base_url: str, key: str) -> bool:
    body = json.dumps({"model": MODEL, "messages": [], "max_tokens": 9}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{base_url}/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return b"[DONE]" in answer.read()
    except urllib.error.HTTPError as error:
        print(error, file=sys.stderr)
        return False


def _become(home: str, log: str, env: dict[str, str], shift: float) -> None:
    for name in [name for name in os.environ if name.startswith(("CALLMETER_", "OPENROUTER_", "OPENAI_"))]:
        del os.environ[name]
    os.environ.update({"CALLMETER_HOME": home, **env})
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(sink, 2)
    os.dup2(sink if env else os.open(os.devnull, os.O_WRONLY), 1)
    import callmeter.cli.world as module

    plain = module.World.now
    if shift:
        from datetime import timedelta

        module.World.now = lambda world: plain(world) + timedelta(seconds=shift)  # type: ignore


@dataclass
class Team:
    """Agents with a key each, all of them calling. `close` stops them and gives calls and failed calls."""

    home: Path
    router: OpenRouter
    agents: Sequence[str] = ("a", "b")
    callers: int = 8
    shift: float = 0.0
    pid: int = 0
    crash: str = ""
    _stop: Any = None
    _tally: Any = None
    _running: list[BaseProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.home / "config.toml").write_text(f'[providers.openrouter]\nbase_url = "{self.router.base_url}"\n')
        self.stores = Stores(str(self.home / "secrets"), {})
        for agent in self.agents:
            add_key(
                str(self.home / "keys.toml"),
                self.stores,
                f"{agent}@openrouter",
                Secret(self.router.give_key(agent, limit="1000", reset="monthly")),
                lambda event, facts: None,
                given={"agent": agent},
                otherwise={"provider": "openrouter", "base_url": self.router.base_url, "created": "2026-01-01"},
                replace=False,
            )

    def begin(self) -> None:
        """Let the callers call: half of them without a pause, one for each agent with its key in memory."""
        self._stop, self._tally = _fork.Event(), _fork.Array("q", 2)
        for number in range(self.callers):
            agent = self.agents[number % len(self.agents)]
            cached = number >= self.callers - len(self.agents)
            pause = 0.02 if number % 4 < 2 else 0.1
            given = (str(self.home), self.log, agent, pause, cached, self._stop, self._tally)
            process = _fork.Process(target=calls, args=given, daemon=True)
            process.start()
            self._running.append(process)

    def end(self) -> tuple[int, int]:
        """Stop the callers; calls and failed calls."""
        if self._stop is None:
            return 0, 0
        self._stop.set()
        for process in self._running:
            process.join(120)
            assert process.exitcode == 0, (process.exitcode, Path(self.log).read_text()[-2000:])
        self._running.clear()
        return self._tally[0], self._tally[1]

    @property
    def log(self) -> str:
        return str(self.home.parent / f"{self.home.name}.log")

    def current(self, agent: str) -> str:
        return (self.home / "secrets" / f"{agent}@openrouter").read_text().strip()

    def rotate(self, *options: str, kill_at: int = 0) -> int:
        """`budget rotate-key` as a process of its own: its exit status, KILLED when it was killed."""
        return self.run("budget", "rotate-key", *options, kill_at=kill_at)

    def run(self, *arguments: str, kill_at: int = 0) -> int:
        """A command with the management key, as `rotate`."""
        env = {"CALLMETER_MANAGEMENT_KEY": self.router.management_key}
        given = (str(self.home), self.log, list(arguments), env, self.shift, kill_at, self.crash)
        process = _fork.Process(target=command, args=given)
        process.start()
        self.pid = process.pid or 0
        process.join(120)
        assert process.exitcode is not None, "the command never ends"
        return process.exitcode

    def kill_now(self) -> None:
        """kill -9 of the command that runs."""
        os.kill(self.pid, signal.SIGKILL)

    def to_the_end(self, *options: str) -> None:
        """Run the same command again until it is done, as cron would for weeks; nobody keeps a key in memory for as
        long as the grace period."""
        for skip in (26 * 3600, 8 * 86_400, 32 * 86_400, 86_400, 86_400, 86_400):
            status = self.rotate(*options, "--resume")
            if status == 0:
                return
            time.sleep(2 * CACHED if self._running and skip == 26 * 3600 else 0)
            self.pass_time(skip)
        raise AssertionError(Path(self.log).read_text()[-3000:])

    def finish(self, label: str, tries: int = 4) -> None:
        """Run the same command again, as somebody does who is told that it failed, and then to the end."""
        for _ in range(tries):
            if self.rotate(label) in (0, WAITS):
                break
        self.to_the_end(label)

    def state(self, label: str) -> str:
        rotation = read_rotation(read_journal(journal_of(str(self.home / "rotations"), label)))
        return rotation.state if rotation else ""

    @property
    def so_far(self) -> tuple[int, int]:
        """Calls and failed calls until now."""
        return (self._tally[0], self._tally[1]) if self._tally is not None else (0, 0)

    def pass_time(self, seconds: float) -> None:
        from datetime import timedelta

        self.router.wait_until_quiet()
        self.shift += seconds
        self.router.shift += timedelta(seconds=seconds)
        for record in self.router.keys:
            record.made -= seconds

    def faults(self) -> list[str]:
        """What is not as it should be at the end: keys too many, agents without one, ceilings, left-overs."""
        found = []
        working = {record.secret: record for record in self.router.working()}
        for agent in self.agents:
            record = working.pop(self.current(agent), None)
            if record is None:
                found.append(f"{agent} has no working key")
            elif record.limit != 1000:
                found.append(f"the limit of {agent} is {record.limit}")
        found += [f"one key too many: {record.name}" for record in working.values()]
        found += [f"left: {record.name}" for record in self.router.keys if record.disabled]
        names = [path.name for path in (self.home / "secrets").iterdir()]
        found += [f"left: {name}" for name in names if name.endswith((".pending", ".previous", ".tmp"))]
        return found
