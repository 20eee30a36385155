"""`budget quota`: quotas set and unset in the policy, and what is said about them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.policy.document import parse_policy
from conftest import ROOT
from kill_points import every_kill

Quota = Callable[..., Result]


@pytest.fixture
def quota(home: Path) -> Quota:
    """Run `callmeter budget quota …` in this process."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["budget", "quota", *arguments], obj=World(env={"CALLMETER_HOME": str(home)}))

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
