"""Trouble around a hard quota, as callers and people see it: a full disk, a policy that is broken or may not be
written, a log that is deleted. Calls say what to do, and nothing is lost."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from conftest import Run, fill, lacking
from servers.counting import COST, CountingServer

Start = Callable[..., subprocess.Popen[bytes]]
CALL = ("-m", "openai/gpt-4o-mini", "--max-tokens", "96", "--agent", "code")
WORST = Decimal("0.00013755")
KEY = {"CALLMETER_API_KEY": "sk-test-0123456789abcdef"}


@pytest.fixture
def model() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


@pytest.fixture
def mounted(file_system: Callable[[int], Path]) -> Path:
    """A small file system of its own."""
    directory = file_system(1024)
    directory.chmod(0o700)
    return directory


def policy(home: Path, limit: Decimal) -> str:
    text = json.dumps(
        {"enforcement": "hard", "quotas": [{"subject": "agent:code", "limit": str(limit), "period": "month"}]}
    )
    (home / "budget.json").write_text(text)
    return text


def lines(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_float=Decimal) for line in (home / "usage.jsonl").read_text().splitlines()]


def test_on_a_full_disk_a_paid_answer_is_delivered_and_nothing_new_is_sent(
    mounted: Path, home: Path, model: CountingServer, start: Start, run_llm_call: Run, run_callmeter: Run
) -> None:
    env = {**KEY, "CALLMETER_HOME": str(mounted), "CALLMETER_BASE_URL": model.base_url}
    policy(mounted, WORST * 3)
    assert run_llm_call(*CALL, "hello", env=env).returncode == 0
    running = start("llm-call", *CALL, "hold", env=env)
    model.arrived(2)
    ballast = fill(mounted)
    refused = run_llm_call(*CALL, "hello", env=env)
    assert refused.returncode != 0 and refused.stdout == ""
    assert "no space left" in refused.stderr.lower() or "full" in refused.stderr.lower(), refused.stderr
    assert "hint: free some space on its disk" in refused.stderr
    assert len(model.prompts) == 2, "what cannot be booked is not sent"
    model.release()
    output, errors = running.communicate(timeout=60)
    assert output == b"answer to hold\n"
    assert b"next call" in errors, "what could not be written is said to be kept"
    ballast.unlink()
    assert run_llm_call(*CALL, "hello", env=env).returncode == 0
    paid = [line for line in lines(mounted) if line["attempts"]]
    assert len(paid) == len(model.prompts) == 3
    assert sum(line["cost"] for line in paid) <= WORST * 3
    assert run_callmeter("budget", "recover", "--check", env=env).returncode == 0
    assert list((mounted / "inflight").iterdir()) == []


def test_a_policy_that_breaks_while_a_call_runs_costs_it_nothing_and_stops_the_next(
    home: Path, model: CountingServer, start: Start, run_llm_call: Run, run_callmeter: Run
) -> None:
    env = {**KEY, "CALLMETER_BASE_URL": model.base_url}
    good = policy(home, WORST * 2)
    running = start("llm-call", *CALL, "hold", env=env)
    model.arrived(1)
    (home / "budget.json").write_text(good[:-9])
    stopped = run_llm_call(*CALL, "hello", env=env)
    assert stopped.returncode == 5
    assert "budget.json:1" in stopped.stderr and "`callmeter budget policy check`" in stopped.stderr
    model.release()
    output, errors = running.communicate(timeout=60)
    assert (running.returncode, output) == (0, b"answer to hold\n"), errors
    (home / "budget.json").write_text(good)
    assert [line["cost"] for line in lines(home) if line["attempts"]] == [Decimal(COST)]
    assert run_callmeter("budget", "recover", "--check").returncode == 0
    assert run_llm_call(*CALL, "hello", env=env).returncode == 0
    assert run_llm_call(*CALL, "hello", env=env).returncode == 3, "what ran meanwhile counts"


def test_a_call_that_began_before_there_was_a_quota_counts_in_the_one_that_came_meanwhile(
    home: Path, model: CountingServer, start: Start, run_llm_call: Run, run_callmeter: Run
) -> None:
    env = {**KEY, "CALLMETER_BASE_URL": model.base_url}
    running = start("llm-call", *CALL, "hold", env=env)
    model.arrived(1)
    done = run_callmeter("budget", "quota", "set", "agent:code", "2", "--unit", "calls", "--hard")
    assert done.returncode == 0, done.stderr
    assert run_llm_call(*CALL, "hello", env=env).returncode == 0
    model.release()
    assert running.wait(60) == 0
    assert run_llm_call(*CALL, "hello", env=env).returncode == 3, "the one that ran was the second"
    assert run_callmeter("budget", "recover", "--check").returncode == 0


def test_under_a_policy_that_may_only_be_read_calls_work_and_changes_are_refused(
    mounted: Path, home: Path, model: CountingServer, run_llm_call: Run, run_callmeter: Run
) -> None:
    env = {**KEY, "CALLMETER_BASE_URL": model.base_url}
    text = policy(mounted, WORST + Decimal(COST))
    (home / "config.toml").write_text(f'policy = "{mounted}/budget.json"\n')
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    assert run_llm_call(*CALL, "hello", env=env).returncode == 0
    changed = run_callmeter("budget", "quota", "set", "agent:code", "500")
    assert changed.returncode == 1, changed.stderr
    assert "read-only" in changed.stderr and str(mounted) in changed.stderr
    assert (mounted / "budget.json").read_text() == text
    assert run_llm_call(*CALL, "hello", env=env).returncode == 0
    assert run_llm_call(*CALL, "hello", env=env).returncode == 3


def test_a_log_deleted_under_a_call_gives_no_money_back(
    home: Path, model: CountingServer, start: Start, run_llm_call: Run, run_callmeter: Run
) -> None:
    env = {**KEY, "CALLMETER_BASE_URL": model.base_url}
    policy(home, WORST + 2 * Decimal(COST))
    assert run_llm_call(*CALL, "hello", env=env).returncode == 0
    running = start("llm-call", *CALL, "hold", env=env)
    model.arrived(2)
    (home / "usage.jsonl").unlink()
    model.release()
    assert running.wait(60) == 0
    assert [line["cost"] for line in lines(home)] == [Decimal(COST)], "its line begins a new log"
    assert run_llm_call(*CALL, "hello", env=env).returncode == 0
    assert run_llm_call(*CALL, "hello", env=env).returncode == 3, "the ledger remembers what was deleted"
    checked = run_callmeter("budget", "recover", "--check")
    assert checked.returncode == 3 and "`callmeter budget recover --rebuild`" in checked.stderr


def test_a_ledger_out_of_reach_stops_only_what_a_hard_quota_counts(
    home: Path, model: CountingServer, run_llm_call: Run
) -> None:
    if importlib.util.find_spec("psycopg") is None:
        lacking("psycopg is not installed")
    env = {**KEY, "CALLMETER_BASE_URL": model.base_url, "CALLMETER_LEDGER": "postgresql://callmeter@127.0.0.1:9/x"}
    quotas = [
        {"subject": "agent:code", "limit": 1, "period": "month", "enforcement": "hard"},
        {"subject": "total", "limit": 5, "period": "month", "enforcement": "soft"},
    ]
    (home / "budget.json").write_text(json.dumps({"enforcement": "soft", "quotas": quotas}))
    stopped = run_llm_call(*CALL, "hello", env=env)
    assert stopped.returncode == 7 and "`unreachable`" in stopped.stderr
    passed = run_llm_call(*CALL[:-1], "docs", "hello", env=env)
    assert (passed.returncode, passed.stdout) == (0, "answer to hello\n")
    assert "as the policy says" in passed.stderr
