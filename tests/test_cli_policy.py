"""`callmeter budget policy check` and `show`, as a person and a script use them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
EXAMPLE = Path(__file__).parent.parent / "budget.example.json"
Invoke = Callable[..., Result]

ROLES = """
{
  "enforcement": "hard",
  "time_zone": "Europe/Berlin",
  "total_budget": 20,
  "allocation_strategy": "role_based",
  "roles": {"primary": {"allocation": 5, "agents": ["code", "chat"]}, "shared_pool": {"allocation": 3}},
  "rate_limits": {"agent:*": "20/min"},
  "quotas": [{"subject": "session:*", "limit": "0.50", "stages": {"0.7": "downgrade:openai/mini", "1": "stop"}}],
  "models": {"agent:code": ["openai/*"]},
  "tags": {"required": ["agent"]}
}
"""


@pytest.fixture
def invoke(home: Path) -> Invoke:
    """Run `callmeter budget policy …` in this test's home, on 21 November 2026."""

    def invoke(*arguments: str | Path, policy: str | None = None) -> Result:
        if policy is not None:
            (home / "budget.json").write_text(policy)
        words = ["budget", "policy", *map(str, arguments)]
        return CliRunner().invoke(app, words, obj=World(clock=NOW.timestamp))

    return invoke


def page(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_good_policy_is_said_to_be_good(invoke: Invoke) -> None:
    result = invoke("check", policy=ROLES)
    assert result.exit_code == 0, result.output
    assert "No faults: 7 quotas, 1 list of models; enforcement is hard." in result.stdout
    assert result.stderr == ""


def test_the_example_is_good(invoke: Invoke) -> None:
    assert invoke("check", EXAMPLE).exit_code == 0


def test_without_a_policy_there_is_nothing_to_check(invoke: Invoke, home: Path) -> None:
    result = invoke("check")
    assert result.exit_code == 0
    assert "calls have no rules" in result.stdout
    assert invoke("check", home / "missing.json").exit_code == 2


def test_every_fault_is_shown_with_its_line_and_the_status_is_5(invoke: Invoke) -> None:
    text = '{\n "total_budgt": 5,\n "quotas": [\n  {"subject": "agent:code", "limit": "10$"},\n  {"limit": 5}\n ]\n}\n'
    result = invoke("check", policy=text)
    assert result.exit_code == 5
    for words in ("budget.json:2", "budget.json:4", "budget.json:5", "`total_budget`", "write `10`", "no `subject`"):
        assert words in " ".join(result.stdout.split()), words
    assert result.stderr.startswith("callmeter: error: ")
    assert "has 3 faults" in result.stderr


def test_faults_are_rows_in_every_format(invoke: Invoke) -> None:
    text = '{\n "period": "fortnight",\n "total_budget": 0}'
    found = page(invoke("check", "--format", "json", policy=text))
    assert [row["place"] for row in found["rows"]] == ["budget.json:2", "budget.json:3"]
    assert {row["kind"] for row in found["rows"]} == {"fault"}
    assert found["facts"] == {"faults": 2, "warnings": 0}
    header, first, _ = csv.reader(invoke("check", "--format", "csv", policy=text).stdout.splitlines())
    assert header == ["place", "kind", "key", "message", "hint"]
    assert first[:3] == ["budget.json:2", "fault", "period"]
    error = json.loads(invoke("check", "--format", "json", policy=text).stderr)
    assert (error["exit_status"], error["error"]) == (5, "malformed")


def test_warnings_do_not_fail_the_check(invoke: Invoke, home: Path) -> None:
    (home / "budget.json").write_text('{"total_budget": 5, "quotas": [{"subject": "agent:code", "hard": 6}]}')
    (home / "budget.json").chmod(0o666)
    result = invoke("check", "--format", "json")
    assert result.exit_code == 0
    found = {row["message"] for row in page(result)["rows"]}
    assert any("total stops first" in message for message in found)
    assert any("without the tag agent" in message for message in found)
    assert any("every user of this machine" in message for message in found)
    assert page(result)["facts"] == {"faults": 0, "warnings": len(found)}


def test_the_fault_of_a_policy_tells_a_call_what_to_run(invoke: Invoke) -> None:
    result = invoke("show", policy='{"total_budget": 0}')
    assert result.exit_code == 5
    assert "budget.json:1: `total_budget` 0 is not above 0" in result.stderr
    assert "callmeter budget policy check" in result.stderr


def test_what_results_for_one_call(invoke: Invoke) -> None:
    result = invoke(
        "show", "--agent", "code", "--session", "s-1", "--model", "anthropic/x", "--format", "json", policy=ROLES
    )
    found = page(result)
    quotas = [
        (row["subject"], row["usd"] if row["unit"] == "usd" else row["count"], row["period"], row["source"])
        for row in found["sections"]["quotas"]["rows"]
    ]
    assert quotas == [
        ("total", 20, "month", "total_budget"),
        ("agent:code", 5, "month", "roles.primary"),
        ("session:s-1", 0.5, "life", "quotas[0]"),
        ("agent:code", 20, "minute", 'rate_limits."agent:*"'),
        ("pool:shared_pool", 3, "month", "roles.shared_pool"),
    ]
    assert found["sections"]["quotas"]["rows"][1]["pools"] == "pool:shared_pool"
    assert found["sections"]["quotas"]["rows"][2]["stages"] == "70% downgrade:openai/mini, 100% stop"
    assert found["sections"]["quotas"]["rows"][0]["resets"] == "2026-11-30T23:00:00.000Z"
    assert [row["permits"] for row in found["sections"]["models"]["rows"]] == ["no"]
    assert found["facts"]["model_allowed"] is False
    assert found["facts"]["forbidden_by"] == ['models."agent:code"']


def test_an_agent_in_no_role_has_the_pool_alone(invoke: Invoke) -> None:
    rows = page(invoke("show", "--agent", "new", "--format", "json", policy=ROLES))["sections"]["quotas"]["rows"]
    assert {row["subject"]: row["usd"] for row in rows if row["unit"] == "usd"} == {
        "total": 20,
        "agent:new": 0,
        "pool:shared_pool": 3,
    }


def test_tags_go_by_their_own_names_and_any_tag_can_be_given(invoke: Invoke) -> None:
    policy = '{"quotas": [{"subject": "work_item:SUP-1", "limit": 1}, {"subject": "team:search", "limit": 2}]}'
    result = invoke("show", "--tag", "ticket_id=SUP-1", "--tag", "Team=search", "--format", "json", policy=policy)
    assert [row["subject"] for row in page(result)["sections"]["quotas"]["rows"]] == ["work_item:SUP-1", "team:search"]


def test_without_a_call_the_whole_policy_is_shown(invoke: Invoke) -> None:
    result = invoke("show", policy=ROLES)
    assert result.exit_code == 0, result.output
    for words in ("agent:chat", "pool:shared_pool", "session:*", "$20.00", "openai/*", "Time zone: Europe/Berlin."):
        assert words in result.stdout
    assert "A call needs the tag agent." in result.stdout


def test_no_policy_shows_that_there_are_no_rules(invoke: Invoke) -> None:
    result = invoke("show", "--agent", "code")
    assert result.exit_code == 0
    assert "none" in result.stdout
    assert "Every model is allowed." in result.stdout


def test_the_schema_can_be_had_even_if_the_policy_is_broken(invoke: Invoke) -> None:
    result = invoke("show", "--schema", policy="{")
    assert result.exit_code == 0
    assert jsonschema.Draft202012Validator(page(result)).is_valid(json.loads(EXAMPLE.read_text()))


def test_what_to_do_about_a_fault_is_told_on_a_narrow_terminal_too(home: Path) -> None:
    (home / "budget.json").write_text('{"total_buget": 5, "allocation_strategy": "dynamc"}')
    world = World(env={"CALLMETER_HOME": str(home), "COLUMNS": "46"})
    printed = CliRunner().invoke(app, ["budget", "policy", "check"], obj=world).stdout
    assert "did you mean `total_budget`?" in printed and "did you mean `dynamic`?" in printed
    assert all(len(line) <= 46 for line in printed.splitlines() if "budget.json:" in line)
