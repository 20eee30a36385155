"""`budget quota` show, check, explain, suggest, allocate, guarantees: what people are told about quotas."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.reports.quota_suggestion import suggestions
from conftest import Run
from log_text import log_lines, log_records
from plain_usage import PlainUsage
from servers.counting import CountingServer

NOW = datetime(2026, 11, 21, 9, 30, 30, tzinfo=UTC)
KEY = {"CALLMETER_API_KEY": "sk-or-v1-0123456789abcdef"}
CALL = ["--agent", "code", "-m", "openai/gpt-4o-mini"]
Quota = Callable[..., Result]


@pytest.fixture
def quota(home: Path) -> Quota:
    """Run `callmeter budget quota …` in this process, at NOW."""

    def run(*arguments: str) -> Result:
        world = World(env={"CALLMETER_HOME": str(home), "COLUMNS": "120", **KEY}, clock=NOW.timestamp)
        return CliRunner().invoke(app, ["budget", "quota", *arguments], obj=world)

    return run


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


def policy(home: Path, *quotas: dict[str, object], **more: object) -> None:
    (home / "budget.json").write_text(json.dumps({"enforcement": "hard", "quotas": list(quotas), **more}))


def spend(home: Path, text: str) -> None:
    (home / "usage.jsonl").write_bytes(log_lines(text))


def found(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# show


SPENT = """
2026-11-20T09:00Z agent=code session=s-1 cost=4.2 in=100 out=20
2026-11-21T01:00Z agent=code session=s-2 cost=0.4 in=500 out=20
2026-11-21T01:00Z agent=docs session=s-3 cost=0.9 in=500 out=20
2026-10-21T01:00Z agent=docs session=s-0 cost=99 in=500 out=20
"""


def test_every_quota_and_each_value_of_those_for_each_of_several_is_a_row(quota: Quota, home: Path) -> None:
    policy(
        home,
        {"subject": "agent:code", "limit": 5},
        {"subject": "session:*", "limit": 1, "period": "month"},
        {"subject": "agent:*", "limit": 1000, "unit": "tokens"},
        {"subject": "team:*", "limit": 7},
        total_budget=60,
    )
    spend(home, SPENT)
    sections = found(quota("show", "--format", "json"))["sections"]
    rows = {(row["subject"], row["period"]): row for row in sections["usd"]["rows"]}
    assert list(rows) == [
        ("session:s-1", "month"),
        ("agent:code", "month"),
        ("session:s-3", "month"),
        ("session:s-2", "month"),
        ("total", "month"),
        ("team:*", "month"),
    ]
    code = rows["agent:code", "month"]
    assert (code["limit"], code["used"], code["held"], code["left"], code["level"]) == (5, 4.6, 0, 0.4, 0.92)
    assert code["resets"] == "2026-12-01T00:00:00.000Z"
    assert rows["session:s-1", "month"]["left"] == -3.2
    tokens = {row["subject"]: row["used"] for row in sections["tokens"]["rows"]}
    assert tokens == {"agent:code": 640, "agent:docs": 520}


def test_the_fullest_stands_first_with_a_bar_and_the_rest_is_counted(quota: Quota, home: Path) -> None:
    policy(home, {"subject": "session:*", "limit": 10, "period": "month"})
    spend(home, SPENT)
    shown = quota("show", "--top", "2").stdout
    assert "session:s-1" in shown
    assert "session:s-2" not in shown
    assert "1 not shown: `--top 3` shows all." in shown
    assert "█" in shown or "#" in shown


def test_one_subject_is_shown_with_all_that_counts_it(quota: Quota, home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 5}, {"subject": "agent:*", "limit": 9, "unit": "calls"})
    spend(home, SPENT)
    sections = found(quota("show", "agent:code", "--format", "json"))["sections"]
    assert [row["used"] for row in sections["usd"]["rows"]] == [4.6]
    assert [(row["subject"], row["used"]) for row in sections["calls"]["rows"]] == [("agent:code", 2)]
    sections = found(quota("show", "agent:*", "--format", "json"))["sections"]
    assert [row["subject"] for row in sections["calls"]["rows"]] == ["agent:code", "agent:docs"]
    assert "no quota" in quota("show", "user:ann").stdout


def test_a_shared_pool_and_what_it_paid_are_shown_apart(quota: Quota, home: Path) -> None:
    roles = {"lead": {"allocation": 1, "agents": ["code"]}, "shared_pool": 40}
    policy(home, allocation_strategy="role_based", roles=roles)
    spend(home, "2026-11-20T09:00Z agent=code cost=0.4")
    rows = found(quota("show", "--format", "json"))["sections"]["usd"]["rows"]
    assert [(row["subject"], row["used"]) for row in rows] == [
        ("agent:code (own part)", 0.4),
        ("agent:* (own part)", 0),
        ("pool:shared_pool", 0),
    ]


# check


def test_a_call_that_would_pass_is_told_with_its_worst_case_and_leaves_nothing_behind(quota: Quota, home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 5})
    said = found(quota("check", *CALL, "--prompt-size", "12000", "--json"))
    assert said["pass"] is True
    assert said["max_tokens"] == 4096
    # A byte is a token at most: 12,000 bytes, what surrounds them, and the output.
    assert 0.15e-6 * 12_000 + 0.6e-6 * 4096 < said["worst_case"] < 0.15e-6 * 13_000 + 0.6e-6 * 4096
    assert not (home / "usage.jsonl").exists()
    assert not (home / "requests.jsonl").exists()
    assert "would pass: openai/gpt-4o-mini" in quota("check", *CALL).stdout


@pytest.mark.parametrize(
    ("limits", "arguments", "status", "said"),
    [
        ({"limit": 5}, [], 0, ""),
        ({"limit": 0.001}, ["--prompt-size", "90000"], 3, "too much"),
        ({"limit": 4.6}, [], 3, "$4.60 spent"),
        ({"limit": 5, "stages": {"0.9": "approve"}}, [], 4, "nobody has asked yet"),
        ({"limit": 5, "stages": {"0.9": "stop"}}, [], 3, "stops this call"),
        ({"limit": 5, "stages": {"0.9": "downgrade:openai/gpt-4.1-nano"}}, [], 0, ""),
    ],
)
def test_the_exit_status_and_the_message_are_those_of_the_call(
    limits: dict[str, object], arguments: list[str], status: int, said: str, quota: Quota, home: Path
) -> None:
    policy(home, {"subject": "agent:code", **limits})
    spend(home, SPENT)
    result = quota("check", *CALL, *arguments)
    assert result.exit_code == status, result.output
    assert said in result.stderr


def test_a_quota_cannot_send_a_call_to_a_model_that_its_agent_may_not_use(quota: Quota, home: Path) -> None:
    limit = {"subject": "agent:code", "limit": 5, "stages": {"0.9": "downgrade:openai/gpt-4.1-nano"}}
    policy(home, limit, models={"agent:code": ["openai/gpt-4o-mini"]})
    spend(home, SPENT)
    result = quota("check", *CALL)
    assert result.exit_code == 3, result.output
    assert "gpt-4.1-nano" in result.stderr and "not among those of agent:code" in result.stderr
    policy(home, limit, models={"agent:code": ["openai/gpt-4o-mini", "gpt-4.1-nano"]})
    assert quota("check", *CALL).exit_code == 0


def test_check_and_call_agree(run_callmeter: Run, run_llm_call: Run, home: Path, server: CountingServer) -> None:
    policy(
        home,
        {"subject": "agent:code", "limit": 2, "unit": "calls"},
        tags={"required": ["purpose"]},
        models={"agent:docs": ["x/*"]},
    )
    where = ["--base-url", server.base_url, "-m", "openai/gpt-4o-mini"]
    for tags in ([], *[["--agent", "code", "--purpose", "p"]] * 4, ["--agent", "docs", "--purpose", "p"]):
        checked = run_callmeter("budget", "quota", "check", *where, *tags, "--json")
        called = run_llm_call(*where, *tags, "--json", "hello")
        assert checked.returncode == called.returncode
        if checked.returncode:
            said, heard = json.loads(checked.stderr), json.loads(called.stderr)
            assert (said["error"], said["message"]) == (heard["error"], heard["message"])
    assert len(server.bodies) == 2


def test_a_check_neither_asks_for_approval_nor_uses_up_a_warning(quota: Quota, run_callmeter: Run, home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 5, "stages": {"0": "approve"}, "warn_at": [0.5]})
    spend(home, SPENT)
    first, second = quota("check", *CALL), quota("check", *CALL)
    assert (first.exit_code, first.stderr) == (second.exit_code, second.stderr) == (4, first.stderr)
    policy(home, {"subject": "agent:code", "limit": 5, "warn_at": [0.5]})
    assert "past 50%" in quota("check", *CALL).stderr
    assert "past 50%" in quota("check", *CALL).stderr


def test_a_size_and_a_prompt_contradict_each_other(quota: Quota) -> None:
    result = quota("check", *CALL, "hello", "--prompt-size", "5")
    assert result.exit_code == 2
    assert "goes without a prompt" in result.stderr


# explain


def test_the_arithmetic_stands_line_by_line_and_adds_up(quota: Quota, run_callmeter: Run, home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 5, "stages": {"0.7": "approve"}, "reserve": 0.1})
    spend(home, SPENT)
    board = found(quota("explain", "agent:code", "--format", "json"))
    ((name, section),) = board["sections"].items()
    assert name == "agent:code per month"
    lines = {row["item"]: row for row in section["rows"]}
    assert {item: row["amount"] for item, row in lines.items()} == {
        "limit": 5,
        "used": -4.6,
        "held": 0,
        "left": 0.4,
        "reserved": 0.5,
        "stage at 70%": 3.5,
        "resets": None,
    }
    assert lines["limit"]["note"] == "quotas[0]"
    assert lines["stage at 70%"]["note"] == "approve: reached"
    assert lines["resets"]["note"] == "2026-12-01T00:00:00Z"


def test_who_holds_what_is_named_with_process_host_and_age(
    start: Callable[..., subprocess.Popen[bytes]], run_callmeter: Run, home: Path, server: CountingServer
) -> None:
    policy(home, {"subject": "agent:code", "limit": 5})
    options = ["--base-url", server.base_url, "-m", "openai/gpt-4o-mini", "--agent", "code", "--session", "s-7"]
    running = start("llm-call", *options, "hold on")
    server.arrived(1)
    done = run_callmeter("budget", "quota", "explain", "agent:code", "--format", "json")
    server.release()
    running.communicate(timeout=120)
    (section,) = json.loads(done.stdout)["sections"].values()
    (held,) = [row for row in section["rows"] if row["item"] == "held"]
    assert held["amount"] < 0
    assert f"pid {running.pid} on " in held["note"]
    assert "agent=code session=s-7 openai/gpt-4o-mini" in held["note"]


def test_approvals_are_lines_with_who_gave_them(quota: Quota, run_callmeter: Run, home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 5, "period": "life"})
    id = run_callmeter("budget", "request", "agent:code", "2", "--reason", "x").stdout.strip()
    assert run_callmeter("budget", "approve", id).returncode == 0
    done = run_callmeter("budget", "quota", "explain", "agent:code", "--format", "json")
    (section,) = json.loads(done.stdout)["sections"].values()
    lines = {row["item"]: row for row in section["rows"]}
    assert lines["granted"]["amount"] == 2
    assert lines["granted"]["note"].startswith(f"{id} by ")
    assert lines["left"]["amount"] == 7


def test_a_prompts_size_alone_describes_a_call_to_the_model_that_is_set(quota: Quota, home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 0.001})
    (home / "config.toml").write_text('model = "openai/gpt-4o-mini"\n')
    printed = quota("explain", "--agent", "code", "--prompt-size", "50000").stdout
    assert "this call" in printed and "missing" in printed and "status 3" in printed


def test_with_a_model_the_call_its_lack_and_its_end_are_told(quota: Quota, home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 4.601}, {"subject": "total", "limit": 9, "unit": "calls"})
    spend(home, SPENT)
    board = found(quota("explain", *CALL, "--prompt-size", "50000", "--format", "json"))
    assert list(board["sections"]) == ["agent:code per month", "total per month (calls)"]
    lines = {row["item"]: row for row in board["sections"]["agent:code per month"]["rows"]}
    assert lines["missing"]["amount"] == pytest.approx(-lines["this call"]["amount"] - 0.001)
    assert "openai/gpt-4o-mini" in lines["this call"]["note"]
    assert "The call would end with status 3" in board["notes"][0]
    board = found(quota("explain", "agent:code", "-m", "openai/gpt-4o-mini", "--max-tokens", "300", "--format", "json"))
    assert board["notes"][0] == "The call would pass."


def test_what_cannot_be_explained_is_told_so(quota: Quota, home: Path) -> None:
    policy(home, {"subject": "session:*", "limit": 5})
    assert quota("explain", "session:*").exit_code == 2
    assert found(quota("explain", "agent:nobody", "--format", "json"))["sections"] == {}


def test_the_arithmetic_is_shown_to_the_last_digit_and_names_who_pays_next(quota: Quota, home: Path) -> None:
    roles = {"bg": {"allocation": 1, "agents": ["code"], "shared_pool": 5}}
    policy(home, total_budget=10, allocation_strategy="role_based", roles=roles)
    spend(home, "2026-11-21T09:00Z agent=code cost=0.009275")
    printed = quota("explain", "agent:code").stdout
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line[:1].isalpha()}
    assert lines["limit"][0] == "$1.000000"
    assert (lines["used"][0], lines["left"][0]) == ("-$0.009275", "$0.990725")
    assert " ".join(lines["then"]) == "a call that does not fit is paid by pool:bg"


# suggest


def test_a_suggestion_names_both_figures_and_its_evidence(quota: Quota, home: Path) -> None:
    # Twelve whole weeks of 7.00 each, and one of 70.00 before, which is long ago.
    lines = []
    day = date(2026, 8, 24)
    while day < NOW.date():
        cost = 10 if day < date(2026, 8, 31) else 1
        lines.append(f"{day}T09:00Z agent=code cost={cost}")
        day += timedelta(days=1)
    spend(home, "\n".join([*lines, "2026-11-21T09:00Z agent=new cost=3"]))
    report = found(quota("suggest", "--period", "week", "--format", "json"))
    rows = {row["subject"]: row for row in report["rows"]}
    code = rows["agent:code"]
    assert (code["days"], code["days_with_use"], code["periods"], code["above"]) == (89, 89, 12, 1)
    assert 9.1 <= code["expected"] < 9.3 and 7 < code["quantile"] < 14
    assert 0 <= code["suggested"] - code["quantile"] < 1 and code["chance"] <= 0.1
    assert (rows["agent:new"]["suggested"], rows["agent:new"]["days"], rows["agent:new"]["periods"]) == (None, 0, 0)
    assert next(iter(rows)) == "total"


@pytest.mark.parametrize("period", ["week", "month"])
@pytest.mark.parametrize("last", [False, True])
def test_each_whole_period_before_is_held_against_the_suggestion(
    quota: Quota, home: Path, period: str, last: bool
) -> None:
    """A dear day at the beginning or at the end of a period is in that one."""
    dear = {"week": ("2026-11-09", "2026-11-15"), "month": ("2026-10-01", "2026-10-31")}[period][last]
    days = [date(2026, 9, 1) + timedelta(number) for number in range(81)]
    spend(home, "\n".join(f"{day}T09:00Z agent=code cost={9000 if str(day) == dear else 1}" for day in days))
    (row,) = found(quota("suggest", "agent:code", "--period", period, "--format", "json"))["rows"]
    assert row["suggested"] < 9000
    assert (row["periods"], row["above"]) == ({"week": 10, "month": 2}[period], 1)


def test_a_few_days_suggest_the_larger_of_the_two_figures(quota: Quota, home: Path) -> None:
    spend(home, "\n".join(f"2026-11-{day:02}T09:00Z agent=code cost=1" for day in range(16, 21)))
    (row,) = found(quota("suggest", "agent:code", "--period", "month", "--format", "json"))["rows"]
    assert row["days"] == 5
    assert 0 <= row["suggested"] - max(row["expected"], row["quantile"]) <= 1


def test_suggestions_are_set_when_asked_for_and_nobody_is_asked_twice(quota: Quota, home: Path) -> None:
    spend(home, "\n".join(f"2026-11-{day:02}T09:00Z agent=code cost=1" for day in range(1, 21)))
    assert quota("suggest", "--apply").exit_code == 2
    assert not (home / "budget.json").exists()
    assert quota("suggest", "agent:code", "--apply", "--yes").exit_code == 0
    document = json.loads((home / "budget.json").read_text())
    (entry,) = document["quotas"]
    assert (entry["subject"], entry["period"]) == ("agent:code", "month") and 31 <= entry["limit"] < 62
    assert quota("suggest", "agent:code", "--apply").exit_code == 0  # it is set already


def test_tokens_and_calls_can_be_suggested_too(quota: Quota, home: Path) -> None:
    spend(home, "\n".join(f"2026-11-{day:02}T09:00Z agent=code in=90 out=10 cost=1" for day in range(1, 21)))
    for unit, each in (("tokens", 100), ("calls", 1)):
        report = found(quota("suggest", "agent:code", "--unit", unit, "--period", "day", "--format", "json"))
        (row,) = report["rows"]
        assert each <= row["suggested"] <= 2 * each


def test_without_a_log_nothing_is_suggested(quota: Quota) -> None:
    result = quota("suggest")
    assert (result.exit_code, "nothing can be suggested" in result.stdout) == (0, True)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 500)), max_size=30), st.sampled_from(["day", "week"]))
def test_what_is_suggested_is_enough_with_nine_chances_in_ten(days: list[tuple[int, int]], period: str) -> None:
    text = "\n".join(f"{NOW.date() - timedelta(days=ago)}T01:00Z agent=a cost={cents / 100}" for ago, cents in days)
    for each in suggestions(PlainUsage(log_records(text)), "agent", period, "usd", NOW, UTC):
        if each.suggested is not None:
            assert each.chance is not None and each.chance <= 0.1001
            assert each.quantile is not None and each.suggested >= each.quantile


# allocate


def test_an_allocation_is_shown_first_and_put_into_the_policy_on_demand(quota: Quota, home: Path) -> None:
    before = '{\n  "total_budget": 500,\n  "enforcement": "hard"\n}\n'
    (home / "budget.json").write_text(before)
    options = ["--strategy", "equal_base_plus_merit", "--base", "20", "--merit-pool", "90", "--agents", "code,docs"]
    options += ["--weight", "code=2", "--weight", "docs=1"]
    report = found(quota("allocate", *options, "--format", "json"))
    assert [(row["subject"], row["now"], row["then"]) for row in report["rows"]] == [
        ("agent:code", None, 80),
        ("agent:docs", None, 50),
        ("agent:*", None, 0),
    ]
    assert "It hands out $130.00 of $500.00." in report["notes"]
    assert (home / "budget.json").read_text() == before
    assert quota("allocate", *options, "--apply").exit_code == 2
    assert quota("allocate", *options, "--apply", "--yes").exit_code == 0
    document = json.loads((home / "budget.json").read_text())
    assert list(document) == ["total_budget", "enforcement", "allocation_strategy", "allocations"]
    (event,) = [json.loads(line) for line in (home / "audit.jsonl").read_text().splitlines()]
    assert (event["event"], event["before"], event["after"]["allocation_strategy"]) == (
        "quota.allocate",
        {},
        "equal_base_plus_merit",
    )
    report = found(quota("allocate", "--merit-pool", "30", "--format", "json"))
    assert [(row["now"], row["then"]) for row in report["rows"]][:2] == [(80, 40), (50, 30)]


def test_an_entry_that_goes_before_the_strategy_is_named(quota: Quota, home: Path) -> None:
    own = [{"subject": "agent:code", "limit": 40}, {"subject": "agent:code", "limit": 1, "period": "day"}]
    (home / "budget.json").write_text(json.dumps({"quotas": own}))
    plan = ("allocate", "--strategy", "equal_base_plus_merit", "--base", "20", "--agents", "code,docs")
    text = " ".join(quota(*plan).stdout.split())
    assert "Entries in `quotas` go before what the strategy gives: agent:code, $40.00." in text
    assert "agent:docs $20.00" in text


def test_another_strategy_takes_the_place_of_the_first(quota: Quota, home: Path) -> None:
    assert (
        quota("allocate", "--strategy", "dynamic", "--pool", "500", "--cap", "100", "--apply", "--yes").exit_code == 0
    )
    roles = ["--role", "lead=60:code,chat", "--role", "rest=5:*", "--shared-pool", "40"]
    assert quota("allocate", "--strategy", "role_based", *roles, "--apply", "--yes").exit_code == 0
    assert json.loads((home / "budget.json").read_text()) == {
        "version": 1,
        "allocation_strategy": "role_based",
        "roles": {
            "lead": {"allocation": 60, "agents": ["code", "chat"]},
            "rest": {"allocation": 5, "agents": ["*"]},
            "shared_pool": {"allocation": 40},
        },
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--base", "20"], "has no strategy"),
        (["--strategy", "dynamic", "--base", "20"], "no meaning under dynamic"),
        (["--strategy", "role_based", "--cap", "5"], "no meaning under role_based"),
        (["--strategy", "role_based", "--role", "lead=60"], "not ROLE=USD:AGENTS"),
        (["--strategy", "role_based", "--role", "lead=60:code", "--role", "x=1:code"], "would not be valid"),
        (["--strategy", "equal_base_plus_merit"], "would not be valid"),
        (["--strategy", "equal_base_plus_merit", "--base", "1", "--weight", "code"], "not AGENT=N"),
        (["--strategy", "equal_base_plus_merit", "--base", "much"], "--base 'much' is not an amount"),
    ],
)
def test_an_allocation_that_makes_no_sense_is_refused(
    arguments: list[str], said: str, quota: Quota, home: Path
) -> None:
    result = quota("allocate", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (home / "budget.json").exists()


# guarantees


def test_what_holds_and_what_does_not_is_told_for_this_policy(quota: Quota, home: Path) -> None:
    rows = {row["what"]: row for row in found(quota("guarantees", "--format", "json"))["rows"]}
    assert rows["hard quotas (0)"]["holds"] == "not set"
    assert rows["going around it"]["holds"] == "no"
    policy(home, {"subject": "agent:code", "limit": 5}, unreachable="fail_open", loop_breaker={"mode": "block"})
    (home / "config.toml").write_text('ledger = "postgresql://ann:secret@db/callmeter"\n')
    result = quota("guarantees", "--format", "json")
    rows = {row["what"]: row for row in found(result)["rows"]}
    assert rows["hard quotas (1)"]["holds"] == "exactly"
    assert "all hosts that share the ledger" in rows["hard quotas (1)"]["how"]
    assert (rows["several hosts"]["holds"], rows["loop breaker"]["holds"]) == ("together", "stops")
    assert rows["a ledger out of reach"]["holds"] == "fail_open"
    assert "secret" not in result.stdout
