"""The loop breaker on real calls: the stories of two runaways, and of a batch that is none."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from conftest import Run
from log_text import at
from servers.counting import COST, CountingServer

KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
MORNING = at("2026-11-21T09:00Z").timestamp()
DAY = 86_400
FAILURE = "the patch does not apply: hunk #{} of billing.py failed at line {}; read the file again and retry. "


class Agents:
    """Makes calls at a clock of its own: `now` in seconds since 1970, five of them a call."""

    def __init__(self, home: Path, server: CountingServer) -> None:
        self.home = home
        self.server = server
        self.now = MORNING

    def policy(self, **breaker: object) -> None:
        (self.home / "budget.json").write_text(json.dumps({"loop_breaker": breaker} if breaker else {}))

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), obj=World(clock=lambda: self.now))

    def call(self, prompt: str, *options: str, agent: str | None = "code", session: str | None = "s1") -> Result:
        self.now += 5
        tags = [f"--tag={name}={value}" for name, value in (("agent", agent), ("session", session)) if value]
        place = ["--base-url", self.server.base_url, "-m", "openai/gpt-4o-mini"]
        return self.run("llm-call", "-q", *place, *tags, *options, prompt)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.home / "usage.jsonl").read_text().splitlines()]

    def trips(self) -> list[dict[str, Any]]:
        audit = self.home / "audit.jsonl"
        events = [json.loads(line) for line in audit.read_text().splitlines()] if audit.exists() else []
        return [event for event in events if event["event"] == "breaker.trip"]


@pytest.fixture
def agents(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agents]:
    monkeypatch.setenv("CALLMETER_API_KEY", KEY)
    with CountingServer() as server:
        yield Agents(home, server)


def retry(number: int) -> str:
    """What a retry loop asks: the task, and each failure so far."""
    task = f"Fix the failing test of ticket {4711}, answer with a patch. "
    return task + "".join(FAILURE.format(count, 10 * count) for count in range(number))


def error_of(result: Result) -> dict[str, Any]:
    found = json.loads(result.stderr.splitlines()[-1], parse_float=Decimal)
    assert isinstance(found, dict)
    return found


def test_a_retry_loop_with_growing_prompts_is_stopped_and_its_agent_frozen(agents: Agents) -> None:
    agents.policy(mode="block", freeze_minutes=30)
    statuses = [agents.call(retry(number)).exit_code for number in range(20)]
    stopped = statuses.index(3)
    assert 9 <= stopped < 15
    assert statuses == [0] * stopped + [3] * (20 - stopped)
    assert len(agents.server.prompts) == stopped
    (trip,) = agents.trips()
    assert (trip["subject"], trip["rule"], trip["mode"]) == ("agent:code", "repeats", "block")
    first, *others = [line for line in agents.lines() if line["status"] == "refused"]
    assert first["error"] == "loop" and {line["error"] for line in others} == {"frozen"}
    assert "grew from" in first["note"]
    # Another agent goes on, and so does this one when its time is over.
    assert agents.call("something else", agent="docs").exit_code == 0
    agents.now += 30 * 60
    assert agents.call("something else").exit_code == 0


def test_a_refusal_says_why_with_figures_and_what_lifts_it(agents: Agents) -> None:
    agents.policy(mode="block")
    results = [agents.call("again, please", "--json") for _ in range(10)]
    error = error_of(results[-1])
    assert error["error"] == "loop" and error["exit_status"] == 3
    assert (error["similar"], error["of_last"], error["seconds"]) == (10, 10, 45)
    assert error["spent"] == Decimal(COST) * 9
    assert "10 of the last 10 prompts are near-identical, within 45 s, for $0.00112" in error["message"]
    assert "`callmeter budget thaw agent:code`" in error["hint"]
    assert agents.run("budget", "thaw", "agent:code", "--reason", "looked at it").exit_code == 0
    assert [agents.call("again, please").exit_code for _ in range(10)] == [0] * 9 + [3]


def test_by_default_a_trip_is_logged_and_nobody_is_stopped_or_told(agents: Agents) -> None:
    agents.policy()
    results = [agents.call("again, please", "-v") for _ in range(25)]
    assert {result.exit_code for result in results} == {0}
    assert {result.stderr for result in results[1:]} == {""}
    assert len(agents.trips()) == 2  # after each it begins to count anew
    noted = [line["note"] for line in agents.lines() if "note" in line]
    assert [note.partition(":")[0] for note in noted] == [
        "this may be a runaway loop",
        "the loop breaker tripped",
    ] * 2 + ["this may be a runaway loop"]


def test_a_loop_that_succeeds_each_time_is_stopped_by_its_cost(agents: Agents) -> None:
    """A call costs 0.000125, the usual session has eight: 24 fit into three of them, the call after the 25th does
    not."""
    agents.policy(mode="block", session_floor="0.0001")
    for day in range(4):
        agents.now = MORNING - (10 - day) * DAY
        for number in range(8):
            assert (
                agents.call(f"{'abcdefgh'[number] * 9} of day {'wxyz'[day] * 5}", session=f"day-{day}").exit_code == 0
            )
    agents.now = MORNING
    words = ["".join(chr(97 + (number * place) % 26) for place in range(3, 20)) for number in range(1, 40)]
    statuses = [agents.call(word, session="today").exit_code for word in words]
    assert statuses == [0] * 25 + [3] * 14
    (trip,) = agents.trips()
    assert trip["rule"] == "cost"
    assert (trip["spent"], trip["largest_session"], trip["limit"]) == (0.003125, 0.001, 0.003)


def test_a_quiet_batch_of_like_prompts_does_not_trip(agents: Agents, tmp_path: Path) -> None:
    agents.policy(mode="block")
    lines = [{"prompt": f"Classify ticket {number}: late parcel"} for number in range(60)]
    (tmp_path / "batch.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    place = ["--base-url", agents.server.base_url, "-m", "openai/gpt-4o-mini", "--agent", "code"]
    result = agents.run("llm-call", "-q", "--batch", str(tmp_path / "batch.jsonl"), *place)
    assert result.exit_code == 0
    assert agents.trips() == []
    assert all("note" not in line for line in agents.lines())


def test_a_check_by_cron_every_five_minutes_does_not_trip(agents: Agents) -> None:
    agents.policy(mode="block")
    for _ in range(30):
        agents.now += 300
        assert agents.call("Is the site up? Answer yes or no.", session=None).exit_code == 0


def test_the_memory_is_shared_by_processes(agents: Agents, run_llm_call: Run) -> None:
    agents.policy(mode="block")
    call = ("-q", "--base-url", agents.server.base_url, "-m", "openai/gpt-4o-mini", "--agent", "code", "go on")
    done: list[subprocess.CompletedProcess[str]] = [
        run_llm_call(*call, env={"CALLMETER_API_KEY": KEY}) for _ in range(11)
    ]
    assert [one.returncode for one in done] == [0] * 9 + [3] * 2


def test_many_at_once_trip_once(agents: Agents, start: Callable[..., subprocess.Popen[bytes]]) -> None:
    agents.policy()
    call = (
        "llm-call",
        "-q",
        "--base-url",
        agents.server.base_url,
        "-m",
        "openai/gpt-4o-mini",
        "--agent",
        "code",
        "go on",
    )
    running = [start(*call, env={"CALLMETER_API_KEY": KEY}) for _ in range(19)]
    for process in running:
        process.communicate(timeout=60)
    assert {process.returncode for process in running} == {0}
    assert len(agents.trips()) == 1


def test_a_name_with_a_star_freezes_nobody_else(agents: Agents) -> None:
    agents.policy(mode="block")
    statuses = [agents.call("again, please", agent="*").exit_code for _ in range(12)]
    assert statuses == [0] * 9 + [3] * 3
    assert agents.call("hello", agent="docs").exit_code == 0


def test_a_loop_without_an_agent_is_refused_as_long_as_it_goes_on(agents: Agents) -> None:
    agents.policy(mode="block")
    assert [agents.call("again, please", agent=None).exit_code for _ in range(12)] == [0] * 9 + [3] * 3
    assert agents.call("translate this letter into French", agent=None).exit_code == 0


@pytest.mark.parametrize("policy", [None, {"mode": "off"}])
def test_without_a_policy_or_switched_off_nothing_is_sketched_or_kept(
    agents: Agents, policy: dict[str, str] | None
) -> None:
    if policy:
        agents.policy(**policy)
    assert {agents.call("again, please").exit_code for _ in range(12)} == {0}
    assert all("prompt_sketch" not in line and "note" not in line for line in agents.lines())
    assert not (agents.home / "recent").exists()


def test_the_sketch_is_in_the_line_and_the_prompt_nowhere(agents: Agents) -> None:
    agents.policy()
    agents.call("the secret plan is to sell cheese")
    agents.call("the secret plan is to sell cheese")
    one, other = [line["prompt_sketch"] for line in agents.lines()]
    assert one == other and len(one) == 16
    for path in agents.home.rglob("*"):
        assert not path.is_file() or b"cheese" not in path.read_bytes(), path


@pytest.mark.parametrize("damage", ["", "{", '{"v":1}', "[]", '{"v":1,"day":"x","sessions":{},"minutes":{},"days":{}}'])
def test_a_damaged_memory_stops_no_call(agents: Agents, damage: str) -> None:
    agents.policy(mode="block")
    agents.call("hello")
    (memory,) = (agents.home / "recent").glob("*.json")
    memory.write_text(damage)
    assert agents.call("hello").exit_code == 0
    assert json.loads(memory.read_text())["v"] == 1


def test_a_memory_that_cannot_be_written_stops_no_call_and_is_noted(agents: Agents) -> None:
    agents.policy(mode="block")
    (agents.home / "recent").write_text("in the way")
    assert agents.call("hello").exit_code == 0
    assert "the loop breaker has no memory" in agents.lines()[-1]["note"]


def test_agents_that_are_gone_are_forgotten_after_a_month(agents: Agents) -> None:
    agents.policy()
    known: set[Path] = set()
    for agent in ("old", "seldom", "code"):
        agents.call("hello", agent=agent)
        (memory,) = set((agents.home / "recent").glob("*.json")) - known
        known.add(memory)
        os.utime(memory, (MORNING - {"old": 30, "seldom": 28, "code": 0}[agent] * DAY,) * 2)
    agents.call("hello")
    assert len(list((agents.home / "recent").glob("*.json"))) == 3
    agents.now += DAY
    agents.call("hello")
    assert len(list((agents.home / "recent").glob("*.json"))) == 2


def test_what_killed_calls_cost_counts_for_the_session(
    agents: Agents, start: Callable[..., subprocess.Popen[bytes]], run_llm_call: Run, run_callmeter: Run
) -> None:
    """Three sessions of one call each, so the limit is three times 0.000125; each killed call is logged at its worst
    case of 0.0001377 or so, and the fourth call has three of them behind it."""
    agents.policy(mode="block", session_floor="0.0001")
    place = ("--base-url", agents.server.base_url, "-m", "openai/gpt-4o-mini", "--agent", "code", "--max-tokens", "96")
    key = {"CALLMETER_API_KEY": KEY}
    for session in ("a", "b", "c"):
        assert run_llm_call("-q", *place, "--session", session, f"{session * 9} of today", env=key).returncode == 0
    for prompt in ("drip one letter", "drip of other things", "drip and leave it"):
        process = start("llm-call", "-q", *place, "--session", "killed", prompt, env=key)
        assert process.stdout is not None and process.stdout.read(1)
        process.kill()
        process.wait()
    assert run_callmeter("budget", "recover").returncode == 0
    assert run_callmeter("budget", "recover").returncode == 0
    refused = run_llm_call("--json", *place, "--session", "killed", "what now", env=key)
    assert refused.returncode == 3, refused.stderr
    error = json.loads(refused.stderr.splitlines()[-1], parse_float=Decimal)
    killed = [line for line in agents.lines() if line["status"] == "unknown"]
    assert error["rule"] == "cost" and len(killed) == 3
    assert error["spent"] == sum(Decimal(str(line["cost"])) for line in killed)


def checked(agents: Agents, *arguments: str) -> Result:
    place = ["--base-url", agents.server.base_url, "-m", "openai/gpt-4o-mini", "--agent", "code", "--session", "s1"]
    return agents.run("budget", "quota", "check", *place, *arguments)


def kept(agents: Agents) -> dict[Path, bytes]:
    """Every file of the home."""
    return {path: path.read_bytes() for path in agents.home.rglob("*") if path.is_file() and "cache" not in path.parts}


def test_a_check_compares_the_prompt_as_the_call_would_and_keeps_nothing(agents: Agents) -> None:
    agents.policy(mode="block", freeze_minutes=30)
    for _ in range(9):
        assert agents.call("again, please").exit_code == 0
    before = kept(agents)
    refused = checked(agents, "again, please", "--json")
    assert refused.exit_code == 3
    error = error_of(refused)
    assert (error["error"], error["rule"], error["similar"]) == ("loop", "repeats", 10)
    assert "it would be frozen for 30 min" in error["message"]
    assert checked(agents, "something else entirely, about the weather").exit_code == 0
    assert checked(agents).exit_code == 0, "without its prompt a call is not compared"
    assert checked(agents, "--prompt-size", "12").exit_code == 0
    assert kept(agents) == before
    assert agents.call("again, please").exit_code == 3


def test_a_check_warns_as_the_call_would_and_the_call_still_warns(agents: Agents) -> None:
    agents.policy(mode="block")
    for _ in range(4):
        agents.call("again, please")
    for _ in range(2):
        assert "this may be a runaway loop: 5 of the last 5" in checked(agents, "again, please").stderr
    agents.call("again, please")
    assert "this may be a runaway loop" in agents.lines()[-1]["note"]


def test_a_check_where_nothing_was_called_yet_makes_no_memory(agents: Agents) -> None:
    agents.policy(mode="block")
    assert checked(agents, "hello").exit_code == 0
    assert not (agents.home / "recent").exists()


def test_a_breaker_that_only_logs_lets_a_check_pass_in_silence(agents: Agents) -> None:
    agents.policy()
    for _ in range(9):
        agents.call("again, please")
    passed = checked(agents, "again, please")
    assert (passed.exit_code, passed.stderr) == (0, "")
