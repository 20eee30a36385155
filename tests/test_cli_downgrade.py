"""A quota that is nearly used up sends calls to a cheaper model; a session keeps the model that it began with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from conftest import Run
from servers.counting import CountingServer

DEAR, CHEAP = "openai/gpt-4o-mini", "openai/gpt-4.1-nano"
Ask = Callable[..., CompletedProcess[str]]


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


@pytest.fixture
def ask(home: Path, run_llm_call: Run, server: CountingServer) -> Ask:
    """Calls of the agent `code`, whose quota is ten calls, the last six of them to the cheap model."""
    quota = {"subject": "agent:code", "unit": "calls", "limit": 10, "stages": {"0.4": f"downgrade:{CHEAP}"}}
    (home / "budget.json").write_text(json.dumps({"enforcement": "hard", "quotas": [quota]}))
    key = {"CALLMETER_API_KEY": "sk-test-0123456789abcdef", "CALLMETER_BASE_URL": server.base_url}

    def ask(*options: str) -> CompletedProcess[str]:
        done = run_llm_call("-m", DEAR, "--agent", "code", *options, "hello", env=key)
        assert done.returncode == 0, done.stderr
        return done

    return ask


def models(server: CountingServer) -> list[str]:
    return [body["model"] for body in server.bodies]


def lines(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "usage.jsonl").read_text().splitlines()]


def test_from_the_stage_on_calls_go_to_the_cheaper_model_and_are_told_so(
    ask: Ask, server: CountingServer, home: Path
) -> None:
    for _ in range(4):
        assert CHEAP not in ask().stderr
    told = ask().stderr
    assert f"{DEAR} is replaced by {CHEAP}" in told and "the quota on agent:code per month is past 40%" in told
    assert models(server) == [DEAR] * 4 + [CHEAP]
    *before, last = lines(home)
    assert (last["model"], last["asked_model"]) == (CHEAP, DEAR)
    assert "is past 40%" in last["note"]
    assert not any("asked_model" in line for line in before)


def test_a_session_keeps_its_model_whichever_it_began_with(ask: Ask, server: CountingServer) -> None:
    for _ in range(4):
        ask("--session", "early")
    ask("--session", "late")
    ask("--session", "early")
    ask("--session", "late")
    ask()
    assert models(server) == [DEAR] * 4 + [CHEAP, DEAR, CHEAP, CHEAP]


def test_who_asks_for_the_cheaper_model_anyway_is_told_nothing(ask: Ask, server: CountingServer, home: Path) -> None:
    for _ in range(5):
        done = ask("-m", CHEAP)
    assert "replaced" not in done.stderr
    assert models(server) == [CHEAP] * 5 and "asked_model" not in lines(home)[-1]
