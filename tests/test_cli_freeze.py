"""`budget freeze` and `thaw`: the kill switch, which every call checks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from servers.counting import CountingServer


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


def call(run: Run, server: CountingServer, *arguments: str, prompt: str = "hello") -> Any:
    return run("--base-url", server.base_url, "-m", "openai/gpt-4o-mini", *arguments, prompt)


def test_freezing_total_stops_everything_without_any_policy(
    run_callmeter: Run, run_llm_call: Run, server: CountingServer, home: Path
) -> None:
    assert call(run_llm_call, server).returncode == 0
    done = run_callmeter("budget", "freeze", "total", "--reason", "a key leaked")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for arguments in ([], ["--agent", "a"], ["--priority", "critical"]):
        refused = call(run_llm_call, server, *arguments)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "total is frozen" in refused.stderr
        assert "a key leaked" in refused.stderr
        assert "budget thaw total" in refused.stderr
    assert len(server.bodies) == 1
    assert run_callmeter("budget", "thaw", "total").returncode == 0
    assert call(run_llm_call, server).returncode == 0


@pytest.mark.parametrize(
    ("subject", "stopped", "passing"),
    [
        ("agent:code", ["--agent", "code"], ["--agent", "docs"]),
        ("caller:code", ["--agent", "code"], []),
        ("session:*", ["--session", "s-1"], []),
        ("model:openai/*", [], ["-m", "x/gpt"]),
        ("team:search", ["--tag", "team=search"], ["--tag", "team=docs"]),
    ],
)
def test_a_freeze_stops_its_subject_and_nothing_else(
    subject: str, stopped: list[str], passing: list[str], run_callmeter: Run, run_llm_call: Run, server: CountingServer
) -> None:
    assert run_callmeter("budget", "freeze", subject, "--reason", "r", "-q").returncode == 0
    assert call(run_llm_call, server, *stopped).returncode == 3
    assert call(run_llm_call, server, *passing).returncode == (0 if passing or stopped else 3)


def test_a_refused_call_is_logged_at_no_cost_and_answers_in_json(
    run_callmeter: Run, run_llm_call: Run, server: CountingServer, home: Path
) -> None:
    run_callmeter("budget", "freeze", "agent:code", "--for", "2h", "--reason", "loop")
    refused = call(run_llm_call, server, "--agent", "code", "--json")
    said = json.loads(refused.stderr)
    assert (said["error"], said["exit_status"], said["subject"]) == ("frozen", 3, "agent:code")
    assert said["resets_at"]
    (line,) = map(json.loads, (home / "usage.jsonl").read_text().splitlines())
    assert (line["status"], line["error"], line["cost"]) == ("refused", "frozen", 0)


def test_a_call_that_runs_is_not_broken_off_and_the_next_one_does_not_start(
    start: Callable[..., subprocess.Popen[bytes]], run_callmeter: Run, run_llm_call: Run, server: CountingServer
) -> None:
    running = start("llm-call", "--base-url", server.base_url, "-m", "openai/gpt-4o-mini", "hold on")
    server.arrived(1)
    run_callmeter("budget", "freeze", "total", "--reason", "r")
    assert call(run_llm_call, server).returncode == 3
    server.release()
    assert running.communicate(timeout=120)[0] == b"answer to hold on\n"


def test_a_batch_stops_at_the_next_of_its_calls(
    start: Callable[..., subprocess.Popen[bytes]], run_callmeter: Run, server: CountingServer, tmp_path: Path
) -> None:
    lines = [{"id": str(number), "prompt": "hold on" if not number else f"p{number}"} for number in range(4)]
    batch = tmp_path / "batch.jsonl"
    batch.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--base-url", server.base_url, "-m", "openai/gpt-4o-mini", "--concurrency", "1"]
    running = start("llm-call", *options, "--batch", str(batch))
    server.arrived(1)
    run_callmeter("budget", "freeze", "total", "--reason", "r")
    server.release()
    running.communicate(timeout=60)
    assert server.prompts == ["hold on"]


def test_a_freeze_survives_a_damaged_policy_and_is_shown(run_callmeter: Run, home: Path) -> None:
    (home / "budget.json").write_text("{broken")
    assert run_callmeter("budget", "freeze", "agent:code", "--reason", "loop", "-q").returncode == 0
    (home / "budget.json").unlink()
    found = json.loads(run_callmeter("budget", "requests", "--format", "json").stdout)
    (row,) = found["sections"]["frozen"]["rows"]
    assert (row["subject"], row["reason"], row["until"]) == ("agent:code", "loop", None)


def test_a_subject_that_no_call_can_have_is_warned_of(run_callmeter: Run) -> None:
    done = run_callmeter("budget", "freeze", "agnt:code", "--reason", "r")
    assert done.returncode == 0
    assert "agnt is no built-in tag" in done.stderr
    assert run_callmeter("budget", "freeze", "code", "--reason", "r").returncode == 2


def test_a_file_of_approvals_that_cannot_be_read_stops_calls(
    run_llm_call: Run, server: CountingServer, home: Path
) -> None:
    (home / "approvals.jsonl").mkdir()
    refused = call(run_llm_call, server)
    assert refused.returncode != 0
    assert "approvals.jsonl" in refused.stderr
    assert server.bodies == []
