"""`budget request`, `requests`, `approve`, `deny`, and the calls that need them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from conftest import Run
from servers.counting import CountingServer

ID = re.compile(r"r-[2-9a-z]{10}")


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


def policy(home: Path, *quotas: dict[str, object], **more: object) -> None:
    (home / "budget.json").write_text(json.dumps({"enforcement": "hard", "quotas": list(quotas), **more}))


def budget(home: Path, *arguments: str) -> Result:
    """`callmeter budget …` in this process."""
    return CliRunner().invoke(app, ["budget", *arguments], obj=World(env={"CALLMETER_HOME": str(home)}))


def rows(home: Path, *arguments: str) -> list[dict[str, Any]]:
    found = json.loads(budget(home, "requests", *arguments, "--format", "json").stdout)
    return list(found["sections"]["requests"]["rows"])


def call(run: Run, server: CountingServer, *arguments: str, max_tokens: int = 20) -> Any:
    """`llm-call` as agent code. Its worst case is that of a short prompt."""
    return run(
        "-q",
        "--base-url",
        server.base_url,
        "-m",
        "openai/gpt-4o-mini",
        "--max-tokens",
        str(max_tokens),
        "--agent",
        "code",
        "hello",
        *arguments,
    )


STAGED = {"subject": "agent:code", "limit": 1, "stages": {"0": "approve"}}


def test_a_call_at_a_stage_asks_by_itself_once_and_goes_on_after_the_approval(
    home: Path, run_llm_call: Run, server: CountingServer
) -> None:
    policy(home, STAGED)
    first, second = call(run_llm_call, server), call(run_llm_call, server, "--json")
    assert (first.returncode, second.returncode) == (4, 4)
    (id,) = set(ID.findall(first.stderr))
    refusal = json.loads(second.stderr)
    assert (refusal["request"], refusal["exit_status"]) == (id, 4)
    assert [row["id"] for row in rows(home)] == [id]
    assert rows(home)[0]["agent"] == "code"
    assert server.bodies == []

    assert budget(home, "approve", id).exit_code == 0
    assert call(run_llm_call, server).returncode == 0
    assert rows(home) == []
    assert rows(home, "--all")[0]["state"] == "approved"


def test_a_denied_request_refuses_the_calls_with_the_reason_and_nobody_is_asked_again(
    home: Path, run_llm_call: Run, server: CountingServer
) -> None:
    policy(home, STAGED)
    (id,) = set(ID.findall(call(run_llm_call, server).stderr))
    assert budget(home, "deny", id, "--reason", "use the cheaper model").exit_code == 0
    refused = call(run_llm_call, server)
    assert refused.returncode == 3
    assert "use the cheaper model" in refused.stderr
    assert rows(home) == []
    assert len(rows(home, "--all")) == 1


def test_headroom_lets_a_call_over_the_limit_and_no_further(
    home: Path, run_llm_call: Run, server: CountingServer
) -> None:
    policy(home, {"subject": "agent:code", "limit": 1, "unit": "calls"})
    assert [call(run_llm_call, server).returncode for _ in range(2)] == [0, 3]
    id = budget(home, "request", "agent:code", "2calls", "--reason", "two more").stdout.strip()
    assert call(run_llm_call, server).returncode == 3
    assert budget(home, "approve", id).exit_code == 0
    assert [call(run_llm_call, server).returncode for _ in range(3)] == [0, 0, 3]


@pytest.mark.parametrize(("amount", "unit"), [("2calls", "calls"), ("2tok", "tokens"), ("2", "usd")])
def test_what_is_asked_for_stands_under_its_own_unit(home: Path, amount: str, unit: str) -> None:
    policy(home, {"subject": "agent:code", "limit": 1, "unit": unit})
    assert budget(home, "request", "agent:code", amount, "--reason", "two more").exit_code == 0
    (row,) = rows(home)
    assert {name: row[name] for name in ("usd", "tokens", "calls") if row[name] is not None} == {unit: 2}


def test_an_approval_for_so_many_calls_lets_exactly_so_many_pass(
    home: Path, run_llm_call: Run, server: CountingServer
) -> None:
    policy(home, STAGED)
    (id,) = set(ID.findall(call(run_llm_call, server).stderr))
    assert budget(home, "approve", id, "--calls", "2").exit_code == 0
    assert [call(run_llm_call, server).returncode for _ in range(3)] == [0, 0, 4]
    assert rows(home)[0]["id"] != id


def test_the_id_alone_is_on_stdout_and_a_script_can_use_it(run_callmeter: Run, home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 5})
    asked = run_callmeter("budget", "request", "agent:code", "$2.50", "--reason", "more")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert ID.fullmatch(asked.stdout.strip())
    (row,) = rows(home)
    assert (row["usd"], row["reason"], row["state"], row["subject"]) == (2.5, "more", "open", "agent:code")
    done = run_callmeter("budget", "approve", asked.stdout.strip(), "--amount", "1", "--for", "2h", "-v")
    assert done.returncode == 0
    assert "agent:code may take $1.00 more" in done.stderr


def test_what_is_asked_or_answered_with_wrong_words_is_told_so(home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 5})
    for arguments, said in [
        (["request", "agent:code", "much", "--reason", "x"], "not an amount"),
        (["request", "agent:code", "-5", "--reason", "x"], "No such option"),
        (["request", "agent:code", "0", "--reason", "x"], "not above 0"),
        (["request", "agent:code", "5"], "Missing option '--reason'"),
        (["request", "agent:code", "5", "--reason", "x" * 1001], "1,000 are allowed"),
        (["request", "agent:cod", "5", "--reason", "x"], "no quota on agent:cod"),
        (["approve", "r-xxxxxxxxxx"], "no request 'r-xxxxxxxxxx'"),
        (["deny", "r-xxxxxxxxxx", "--reason", "x"], "no request"),
    ]:
        result = budget(home, *arguments)
        assert result.exit_code == 2
        assert said.lower() in result.stderr.lower()
    id = budget(home, "request", "agent:code", "5", "--reason", "x").stdout.strip()
    for arguments, said in [
        (["--for", "2x"], "not a span"),
        (["--for", "2h", "--until", "2099-01-01"], "contradict"),
        (["--until", "2020-01-01"], "not in the future"),
        (["--amount", "5tok"], "is about usd"),
    ]:
        result = budget(home, "approve", id, *arguments)
        assert result.exit_code == 2
        assert said in result.stderr
    assert rows(home)[0]["state"] == "open"


def test_the_approvers_name_is_the_systems_and_no_variable_changes_it(home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 5}, approvals={"self_approval": False})
    env = {"CALLMETER_HOME": str(home)}
    asked = CliRunner().invoke(app, ["budget", "request", "agent:code", "5", "--reason", "x"], obj=World(env=env))
    claimed = {**env, "CALLMETER_HOST": "elsewhere", "USER": "somebody", "LOGNAME": "somebody", "SUDO_USER": "somebody"}
    result = CliRunner().invoke(app, ["budget", "approve", asked.stdout.strip()], obj=World(env=claimed))
    assert result.exit_code == 3
    assert "himself" in result.stderr


def test_text_from_agents_cannot_drive_the_approvers_terminal(home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 5})
    budget(home, "request", "agent:code", "5", "--reason", "harmless\x1b[2J\u202e")
    shown = budget(home, "requests").stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "harmless\\x1b[2J\\u202e" in shown


def test_everything_stands_in_the_audit_log(home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 5})
    id = budget(home, "request", "agent:code", "5", "--reason", "x").stdout.strip()
    budget(home, "approve", id, "--reason", "fine")
    events = [json.loads(line) for line in (home / "audit.jsonl").read_text().splitlines()]
    assert [(event["event"], event["id"], event["reason"]) for event in events] == [
        ("approval.request", id, "x"),
        ("approval.approve", id, "fine"),
    ]
    assert events[1]["by"].partition("@")[0] == events[0]["by"].partition("@")[0]
    assert os.path.exists(home / "approvals.jsonl")


def test_many_callers_at_once_share_an_approval_for_so_many_calls_exactly(
    home: Path,
    run_llm_call: Run,
    start: Callable[..., subprocess.Popen[bytes]],
    server: CountingServer,
) -> None:
    policy(home, STAGED)
    (id,) = set(ID.findall(call(run_llm_call, server).stderr))
    assert budget(home, "approve", id, "--calls", "3").exit_code == 0
    options = ["-q", "--base-url", server.base_url, "-m", "openai/gpt-4o-mini", "--max-tokens", "20", "--agent", "code"]
    running = [start("llm-call", *options, "hello") for _ in range(12)]
    statuses = []
    for process in running:
        process.communicate(timeout=60)
        statuses.append(process.returncode)
    assert sorted(statuses) == [0] * 3 + [4] * 9
    assert len(server.bodies) == 3
    assert len(rows(home)) == 1
