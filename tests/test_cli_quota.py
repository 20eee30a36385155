"""`budget quota`: quotas set and unset in the policy, and what is said about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.policy.document import parse_policy
from conftest import ROOT, Run
from kill_points import every_kill
from log_text import log_lines
from servers.counting import CountingServer

NOW = datetime(2026, 11, 21, 9, 30, 30, tzinfo=UTC)
Quota = Callable[..., Result]


@pytest.fixture
def quota(home: Path) -> Quota:
    """Run `callmeter budget quota …` in this process."""

    def run(*arguments: str) -> Result:
        world = World(env={"CALLMETER_HOME": str(home), "COLUMNS": "120"}, clock=NOW.timestamp)
        return CliRunner().invoke(app, ["budget", "quota", *arguments], obj=world)

    return run


def document(home: Path) -> dict[str, Any]:
    found = json.loads((home / "budget.json").read_text())
    assert isinstance(found, dict)
    return found


def audited(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "audit.jsonl").read_text().splitlines()]


def refused(result: Result, said: str) -> bool:
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    return True


# set


def test_the_first_quota_makes_a_policy(quota: Quota, home: Path) -> None:
    result = quota("set", "agent:code", "50", "--hard")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert (home / "budget.json").read_text() == (
        '{\n  "version": 1,\n  "quotas": [\n    {"subject": "agent:code", "limit": 50, "enforcement": "hard"}\n  ]\n}\n'
    )
    assert quota("set", "agent:docs", "5.50", "-v").stderr == ("callmeter: added: agent:docs per month: $5.50, soft\n")


@pytest.mark.parametrize(
    ("arguments", "entry"),
    [
        (["$50"], {"limit": 50}),
        (["0.25", "--period", "day"], {"limit": 0.25, "period": "day"}),
        (["100000tok"], {"limit": 100000, "unit": "tokens"}),
        (["100000", "--unit", "tokens"], {"limit": 100000, "unit": "tokens"}),
        (["100calls", "--period", "hour"], {"limit": 100, "unit": "calls", "period": "hour"}),
        (["100/day"], {"limit": 100, "unit": "calls", "period": "day"}),
        (["20/min"], {"limit": 20, "unit": "calls", "period": "minute"}),
        (["5", "--showback"], {"limit": 5, "enforcement": "showback"}),
        (
            ["5", "--stage", "70%=downgrade:m", "--stage", "0.9=approve", "--stage", "1=stop"],
            {"limit": 5, "stages": {"0.7": "downgrade:m", "0.9": "approve", "1": "stop"}},
        ),
        (["5", "--warn-at", "0.5", "--warn-at", "80%"], {"limit": 5, "warn_at": [0.5, 0.8]}),
        (["5", "--reserve", "0.1"], {"limit": 5, "reserve": 0.1}),
    ],
)
def test_limits_and_options_become_an_entry(
    arguments: list[str], entry: dict[str, object], quota: Quota, home: Path
) -> None:
    assert quota("set", "agent:code", *arguments).exit_code == 0
    assert document(home)["quotas"] == [{"subject": "agent:code", **entry}]


def test_changing_one_quota_leaves_every_other_byte_of_the_file(quota: Quota, home: Path) -> None:
    before = (ROOT / "budget.example.json").read_text()
    (home / "budget.json").write_text(before)
    assert quota("set", "workflow:release_notes", "130").exit_code == 0
    assert (home / "budget.json").read_text() == before.replace('"limit": 120', '"limit": 130')
    assert (home / "budget.previous.json").read_text() == before
    assert quota("set", "workflow:release_notes", "120").exit_code == 0
    assert (home / "budget.json").read_text() == before


def test_what_is_not_said_stays_as_it_was(quota: Quota, home: Path) -> None:
    quota("set", "agent:code", "50", "--hard", "--stage", "0.9=approve", "--reserve", "0.1", "--period", "day")
    quota("set", "agent:code", "60")
    (entry,) = document(home)["quotas"]
    assert entry == {
        "subject": "agent:code",
        "limit": 60,
        "period": "day",
        "enforcement": "hard",
        "stages": {"0.9": "approve"},
        "reserve": 0.1,
    }


def test_another_period_or_unit_is_another_quota(quota: Quota, home: Path) -> None:
    for arguments in (["50"], ["5", "--period", "day"], ["1000tok"]):
        quota("set", "agent:code", *arguments)
    assert len(document(home)["quotas"]) == 3
    assert refused(quota("set", "agent:code", "60"), "day, month")
    quota("set", "agent:code", "60", "--period", "month")
    assert [entry["limit"] for entry in document(home)["quotas"]] == [60, 5, 1000]


def test_the_total_budget_and_rates_are_changed_where_they_stand(quota: Quota, home: Path) -> None:
    (home / "budget.json").write_text(
        '{"total_budget": 500, "rate_limits": {"caller:code": ["20/min", "100/day"], "agent:x": "5/h"}}'
    )
    for arguments in (["total", "600"], ["agent:code", "200/day"], ["agent:x", "6/hour"]):
        assert quota("set", *arguments).exit_code == 0
    assert (home / "budget.json").read_text() == (
        '{"total_budget": 600, "rate_limits": {"caller:code": ["20/min", "200/day"], "agent:x": "6/hour"}}'
    )
    assert refused(quota("set", "total", "600", "--hard"), "`total_budget` says the quota on total")
    for arguments in (["agent:code", "--period", "minute"], ["agent:code"], ["agent:x"], ["total"]):
        assert quota("unset", *arguments).exit_code == 0
    assert document(home) == {"rate_limits": {}}


def test_an_entry_with_a_soft_and_a_hard_limit_keeps_both(quota: Quota, home: Path) -> None:
    (home / "budget.json").write_text('{"quotas": [{"subject": "agent:code", "soft": 30, "hard": 40}]}')
    quota("set", "agent:code", "50")
    assert document(home)["quotas"] == [{"subject": "agent:code", "soft": 30, "hard": 50}]
    quota("set", "agent:code", "35", "--soft")
    assert document(home)["quotas"] == [{"subject": "agent:code", "soft": 35, "hard": 50}]
    assert refused(quota("set", "agent:code", "60", "--soft"), "above the limit that stops")
    quota("set", "agent:code", "50", "--showback")
    assert document(home)["quotas"] == [{"subject": "agent:code", "limit": 50, "enforcement": "showback"}]


def test_names_are_brought_to_their_one_form(quota: Quota, home: Path) -> None:
    (home / "budget.json").write_text('{"tags": {"aliases": {"bot": "agent"}}}')
    quota("set", "bot:code", "50")
    quota("set", "caller:code", "60")
    assert document(home)["quotas"] == [{"subject": "agent:code", "limit": 60}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["agent", "5"], "is not a subject"),
        (["agent:code", "five"], "is not an amount"),
        (["agent:code", "0"], "not above 0"),
        (["agent:code", "9" * 40], "not above 0"),
        (["agent:code", "5e3"], "is not an amount"),
        (["agent:code", "1,50"], "is not an amount"),
        (["agent:code", "1,500tok"], "is not an amount"),
        (["agent:code", "$5tok"], "is not an amount"),
        (["agent:code", "5tok", "--unit", "calls"], "in tokens, not in calls"),
        (["agent:code", "1.5calls"], "is not an amount"),
        (["agent:code", "5/fortnight"], "is not a rate"),
        (["agent:code", "5/day", "--period", "hour"], "is not per hour"),
        (["agent:code", "5", "--soft", "--hard"], "contradict"),
        (["agent:code", "5", "--stage", "0.9"], "not SHARE=ACTION"),
        (["agent:code", "5", "--stage", "9=stop"], "not a share"),
        (["agent:code", "5", "--stage", "0.9=explode"], "would not be valid"),
        (["agent:code", "5", "--warn-at", "much"], "not a share"),
        (["agent:code", "5", "--reserve", "1"], "would not be valid"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    arguments: list[str], said: str, quota: Quota, home: Path
) -> None:
    (home / "budget.json").write_text('{"quotas": []}')
    assert refused(quota("set", *arguments), said)
    assert (home / "budget.json").read_text() == '{"quotas": []}'
    assert not (home / "audit.jsonl").exists()


def test_a_policy_that_is_broken_is_mended_by_a_person_first(quota: Quota, home: Path) -> None:
    (home / "budget.json").write_text('{"quotas": [}')
    result = quota("set", "agent:code", "5")
    assert result.exit_code == 5
    assert "budget.json:1" in result.stderr
    assert (home / "budget.json").read_text() == '{"quotas": [}'


def test_a_change_is_audited_with_before_and_after_and_none_is_when_nothing_changes(quota: Quota, home: Path) -> None:
    quota("set", "agent:code", "50")
    quota("set", "agent:code", "50")
    quota("set", "agent:code", "60", "--hard")
    quota("unset", "agent:code")
    events = audited(home)
    assert [(event["event"], event["before"], event["after"]) for event in events] == [
        ("quota.set", None, {"subject": "agent:code", "limit": 50}),
        (
            "quota.set",
            {"subject": "agent:code", "limit": 50},
            {"subject": "agent:code", "limit": 60, "enforcement": "hard"},
        ),
        ("quota.unset", {"subject": "agent:code", "limit": 60, "enforcement": "hard"}, None),
    ]
    assert [event["old_policy"] for event in events[1:]] == [event["new_policy"] for event in events[:-1]]
    assert (events[0]["subject"], events[0]["period"], events[0]["unit"]) == ("agent:code", "month", "usd")


def test_mode_byte_order_mark_and_unicode_of_the_file_stay(quota: Quota, home: Path) -> None:
    path = home / "budget.json"
    path.write_bytes('\ufeff{"quotas": [{"subject": "agent:müller", "limit": 1}]}'.encode())
    path.chmod(0o640)
    assert quota("set", "agent:müller", "2").exit_code == 0
    assert path.read_bytes() == '\ufeff{"quotas": [{"subject": "agent:müller", "limit": 2}]}'.encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert (home / "budget.previous.json").stat().st_mode & 0o777 == 0o640


def test_many_at_once_all_take_effect(start: Callable[..., subprocess.Popen[bytes]], home: Path) -> None:
    running = [start("callmeter", "budget", "quota", "set", f"agent:a{n}", str(n + 1)) for n in range(6)]
    for process in running:
        assert process.communicate(timeout=60)[1] == b""
    assert sorted(entry["limit"] for entry in document(home)["quotas"]) == [1, 2, 3, 4, 5, 6]
    assert len(audited(home)) == 6


def test_whoever_is_killed_leaves_the_old_policy_or_the_new_one(home: Path) -> None:
    path = home / "budget.json"
    old = '{"quotas": [{"subject": "agent:code", "limit": 1}]}'

    def change() -> None:
        result = CliRunner().invoke(
            app, ["budget", "quota", "set", "agent:code", "2"], obj=World(env={"CALLMETER_HOME": str(home)})
        )
        assert result.exit_code == 0

    path.write_text(old)
    for _ in every_kill(change):
        assert path.read_text() in (old, old.replace(": 1}", ": 2}"))
        parse_policy(path.read_bytes(), "budget.json")
        change()
        assert path.read_text() == old.replace(": 1}", ": 2}")
        path.write_text(old)
    assert not [name for name in os.listdir(home) if name.endswith((".tmp", ".new"))]


# unset


def test_only_the_quota_that_is_meant_is_removed(quota: Quota, home: Path) -> None:
    for arguments in (["50"], ["5", "--period", "day"], ["1000tok", "--period", "day"]):
        quota("set", "agent:code", *arguments)
    quota("set", "agent:docs", "5")
    assert refused(quota("unset", "agent:code"), "3 quotas on agent:code")
    assert refused(quota("unset", "agent:code", "--period", "day"), "2 quotas")
    assert quota("unset", "agent:code", "--period", "day", "--unit", "tokens").exit_code == 0
    assert quota("unset", "agent:code", "--period", "month").exit_code == 0
    assert [entry["limit"] for entry in document(home)["quotas"]] == [5, 5]
    assert refused(quota("unset", "agent:other"), "no such quota")


def test_what_a_strategy_gives_is_not_unset_but_named(quota: Quota, home: Path) -> None:
    before = json.dumps(
        {"allocation_strategy": "role_based", "roles": {"lead": {"allocation": 60, "agents": ["code"]}}}
    )
    (home / "budget.json").write_text(before)
    result = quota("unset", "agent:code")
    assert refused(result, "`roles.lead`")
    assert (home / "budget.json").read_text() == before


# left


def left(quota: Quota, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = quota("left", "--agent", "code", "--json", *arguments)
    assert done.stderr == ""
    return done.exit_code, json.loads(done.stdout)


def spend(home: Path, text: str) -> None:
    (home / "usage.jsonl").write_bytes(log_lines(text))


def policy(home: Path, *quotas: dict[str, object], **more: object) -> None:
    (home / "budget.json").write_text(json.dumps({"enforcement": "hard", "quotas": list(quotas), **more}))


def test_the_tightest_quota_of_each_unit_is_what_is_left(quota: Quota, home: Path) -> None:
    policy(
        home,
        {"subject": "agent:code", "limit": 5},
        {"subject": "agent:code", "limit": 50, "period": "year"},
        {"subject": "total", "limit": 1000, "unit": "tokens"},
        {"subject": "agent:*", "limit": 100, "unit": "calls"},
        {"subject": "agent:code", "limit": 1, "period": "week", "enforcement": "soft"},
        {"subject": "session:*", "limit": 1},
    )
    spend(
        home,
        """
        2026-11-20T09:00Z agent=code cost=2 in=100 out=20
        2026-11-20T09:00Z agent=docs cost=7 in=30 out=50
        2026-10-31T09:00Z agent=code cost=1 in=100
        """,
    )
    status, found = left(quota)
    assert (status, found["status"], found["exit_status"]) == (0, "room", 0)
    assert (found["usd"]["left"], found["usd"]["limit"], found["usd"]["used"]) == (3, 5, 2)
    assert (found["usd"]["subject"], found["usd"]["period"]) == ("agent:code", "month")
    assert (found["tokens"]["left"], found["calls"]["left"]) == (800, 99)
    status, found = left(quota, "--session", "s-1")
    assert (found["usd"]["subject"], found["usd"]["left"]) == ("session:s-1", 1)
    assert quota("left", "--agent", "code").stdout == (
        "$3.00 left of $5.00: agent:code per month, resets 2026-12-01T00:00:00Z\n"
        "800 tokens left of 1,000 tokens: total per month, resets 2026-12-01T00:00:00Z\n"
        "99 calls left of 100 calls: agent:code per month, resets 2026-12-01T00:00:00Z\n"
    )


@pytest.mark.parametrize(
    ("limits", "arguments", "status", "word"),
    [
        ({"limit": 5}, [], 0, "room"),
        ({"limit": 5}, ["--at-least", "3"], 0, "room"),
        ({"limit": 5}, ["--at-least", "3.01"], 3, "none"),
        ({"limit": 2}, [], 3, "none"),
        ({"limit": 1}, [], 3, "none"),
        ({"limit": 1, "enforcement": "soft"}, [], 0, "room"),
        ({"limit": 5, "stages": {"0.4": "approve"}}, [], 4, "approval"),
        ({"limit": 5, "stages": {"0.4": "stop"}}, [], 3, "none"),
        ({"limit": 5, "stages": {"0.4": "downgrade:m"}}, [], 0, "room"),
        ({"limit": 2.5, "reserve": 0.4}, [], 3, "none"),
        ({"limit": 2.5, "reserve": 0.4}, ["--priority", "high"], 0, "room"),
        ({"limit": 1, "unit": "calls", "period": "minute"}, [], 8, "busy"),
    ],
)
def test_the_exit_status_says_whether_to_go_on(
    limits: dict[str, object], arguments: list[str], status: int, word: str, quota: Quota, home: Path
) -> None:
    policy(home, {"subject": "agent:code", **limits})
    spend(home, "2026-11-21T09:30:10Z agent=code cost=2")
    found, said = left(quota, *arguments)
    assert (found, said["status"]) == (status, word)


def test_without_a_quota_there_is_no_limit_and_a_freeze_is_one(quota: Quota, run_callmeter: Run, home: Path) -> None:
    done = quota("left", "--agent", "code")
    assert (done.exit_code, done.stdout) == (0, "no limit\n")
    run_callmeter("budget", "freeze", "agent:code", "--reason", "loop")
    done = quota("left", "--agent", "code")
    assert (done.exit_code, done.stdout) == (3, "agent:code is frozen\n")
    status, found = left(quota)
    assert (status, found["why"], found["frozen"]) == (3, "frozen", "agent:code")


def test_what_a_running_call_holds_is_not_left_and_what_a_dead_one_held_is(
    start: Callable[..., subprocess.Popen[bytes]], run_callmeter: Run, home: Path
) -> None:
    policy(home, {"subject": "agent:code", "limit": 1, "unit": "calls", "period": "year"})

    def asked() -> tuple[int, dict[str, Any]]:
        done = run_callmeter("budget", "quota", "left", "--agent", "code", "--json")
        return done.returncode, json.loads(done.stdout)

    with CountingServer() as server:
        options = ["--base-url", server.base_url, "-m", "openai/gpt-4o-mini", "--agent", "code"]
        running = start("llm-call", *options, "hold on")
        server.arrived(1)
        status, found = asked()
        assert (status, found["status"], found["calls"]["held"]) == (8, "busy", 1)
        running.kill()
        running.wait()
        # It had been sent, so it counts; nobody has to recover it by hand.
        status, found = asked()
        assert (status, found["calls"]["held"], found["calls"]["used"]) == (3, 0, 1)


def test_an_agent_with_a_shared_pool_has_what_the_pool_has(quota: Quota, home: Path) -> None:
    roles = {"lead": {"allocation": 1, "agents": ["code"]}, "shared_pool": 40}
    (home / "budget.json").write_text(
        json.dumps({"enforcement": "hard", "allocation_strategy": "role_based", "roles": roles})
    )
    spend(home, "2026-11-20T09:00Z agent=code cost=1")
    status, found = left(quota)
    room = found["usd"]
    assert (status, room["left"], room["limit"], room["subject"]) == (0, 40, 40, "pool:shared_pool")


def test_an_allocation_that_is_not_gone_is_told_before_a_smaller_pool(quota: Quota, home: Path) -> None:
    roles = {"lead": {"allocation": 9, "agents": ["code"]}, "shared_pool": 4}
    (home / "budget.json").write_text(
        json.dumps({"enforcement": "hard", "allocation_strategy": "role_based", "roles": roles})
    )
    spend(home, "2026-11-20T09:00Z agent=code cost=1")
    room = left(quota)[1]["usd"]
    assert (room["left"], room["limit"], room["subject"]) == (8, 9, "agent:code")


def test_who_asks_is_known_from_variables_too(run_callmeter: Run, home: Path) -> None:
    policy(home, {"subject": "agent:code", "limit": 5}, {"subject": "team:search", "limit": 3})
    done = run_callmeter("budget", "quota", "left", "--tag", "team=search", env={"CALLMETER_AGENT": "code"})
    assert "$3.00 left of $3.00: team:search" in done.stdout


def test_asking_what_is_left_imports_nothing_that_it_does_not_use(home: Path, environment: dict[str, str]) -> None:
    policy(home, {"subject": "agent:code", "limit": 5})
    show = "import json, sys; from callmeter.cli.main import start; status = start(sys.argv[1:]); "
    show += "print(json.dumps([status, sorted(sys.modules)]), file=sys.stderr)"
    allowed = "_sqlite3, datetime, decimal, errno, fcntl, json, os, signal, stat, sys, time, gc, _sha256"
    floor = f"from __future__ import annotations; import {allowed}; "
    floor += "print(json.dumps([0, sorted(sys.modules)]), file=sys.stderr)"

    def modules(*arguments: str) -> list[str]:
        done = subprocess.run([sys.executable, "-c", *arguments], env=environment, capture_output=True, text=True)
        return list(json.loads(done.stderr.splitlines()[-1])[1])

    asked = ("budget", "quota", "left", "--agent", "code")
    modules(show, *asked)  # the first one counts the log
    used, wanted = modules(show, *asked), modules(floor)
    assert [name for name in used if name not in wanted and not name.startswith("callmeter")] == []
    assert [name for name in used if name.startswith(("callmeter.reports", "callmeter.store.usage_log"))] == []
