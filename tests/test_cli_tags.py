"""`callmeter budget tags`: each test's log stands in its docstring, or is made of LOG."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from log_text import at, log_lines

Audit = Callable[..., Result]
GOOD = "2026-11-20T09:00Z agent=code purpose=review cost=1\n"


@pytest.fixture
def audit(home: Path, request: pytest.FixtureRequest) -> Audit:
    """Run the command on the log of the test's docstring, or on another one."""

    def invoke(*arguments: str, log: str | None = None, policy: object = None) -> Result:
        (home / "usage.jsonl").write_bytes(log_lines(log or request.function.__doc__))
        if policy is not None:
            (home / "budget.json").write_text(json.dumps({"tags": policy}))
        world = World(clock=lambda: at("2026-11-21T15:04Z").timestamp())
        return CliRunner().invoke(app, ["budget", "tags", *arguments], obj=world)

    return invoke


def document(result: Result) -> dict[str, Any]:
    found = json.loads(result.stdout.splitlines()[0], parse_float=Decimal)
    assert isinstance(found, dict)
    return found


def findings(result: Result) -> list[tuple[str, ...]]:
    """Agent, finding, tag, value, instead; empty ones left out."""
    rows = document(result)["rows"]
    return [tuple(row[name] for name in ("agent", "finding", "tag", "value", "instead") if row[name]) for row in rows]


def test_missing_tags_are_counted_by_agent_with_their_money(audit: Audit) -> None:
    """
    2026-11-20T09:00Z agent=code purpose=review cost=1
    2026-11-20T10:00Z agent=code cost=2
    2026-11-20T11:00Z agent=code cost=3
    2026-11-20T12:00Z purpose=review cost=4
    """
    found = document(audit("--format", "json"))
    rows = [(row["agent"], row["tag"], row["cost"], row["calls"], row["share"]) for row in found["rows"]]
    assert rows == [
        ("code", "purpose", 5, 2, Decimal("0.667")),
        ("(none)", "agent", 4, 1, 1),
    ]
    assert (found["total"]["cost"], found["total"]["calls"], found["total"]["share"]) == (9, 3, Decimal("0.75"))


def test_what_the_policy_requires_is_missing_too(audit: Audit) -> None:
    result = audit("--format", "json", log=GOOD, policy={"required": ["cost_center"]})
    assert findings(result) == [("code", "missing", "cost_center")]


def test_unknown_tags_are_those_that_nobody_named(audit: Audit) -> None:
    log = GOOD.replace("\n", " team=search squad=x\n")
    assert findings(audit("--format", "json", log=log)) == [
        ("code", "unknown", "squad"),
        ("code", "unknown", "team"),
    ]
    policy = {"allowed": {"team": ["search"]}}
    assert findings(audit("--format", "json", "--known", "squad", log=log, policy=policy)) == []


def test_a_name_that_the_policy_calls_otherwise_is_an_alias_and_not_missing(audit: Audit) -> None:
    log = "2026-11-20T09:00Z caller=code purpose=review ticket_uuid=77 cost=1"
    assert findings(audit("--format", "json", log=log)) == [
        ("(none)", "alias", "caller", "agent"),
        ("(none)", "alias", "ticket_uuid", "work_item"),
    ]


@pytest.mark.parametrize(
    ("names", "drift"),
    [
        ("pr_id pr_id pr_uuid", ("pr_uuid", "pr_id")),
        ("team team team_name", ("team_name", "team")),
        ("team team teams", ("teams", "team")),
        ("enviroment", ("enviroment", "environment")),
        ("costcenter", ("costcenter", "cost_center")),
        ("ticket_ids", ("ticket_ids", "work_item")),
        ("branch batch", None),
        ("region1 region2", None),
        ("tool pool", None),
    ],
)
def test_names_that_look_like_another_one_drift(names: str, drift: tuple[str, str] | None, audit: Audit) -> None:
    log = "".join(GOOD.replace("\n", f" {name}=x{number}\n") for number, name in enumerate(names.split()))
    found = findings(audit("--format", "json", log=log))
    drifting = [(row[2], row[3]) for row in found if row[1] == "drifting name"]
    assert drifting == ([drift] if drift else [])


@pytest.mark.parametrize(
    ("values", "drift"),
    [
        ("code_review code_review Code-Review", ("Code-Review", "code_review")),
        ("report report reports", ("reports", "report")),
        ("bug bug bugs", ("bugs", "bug")),
        ("bus bus bu", None),
        ("triage " * 5 + "traige", ("traige", "triage")),
        ("triage " * 4 + "traige", None),
        ("shard1 shard1 shard1 shard1 shard1 shard2", None),
        ("chat " * 9 + "chap", None),
        ("docs code", None),
    ],
)
def test_values_that_look_like_another_one_drift(values: str, drift: tuple[str, str] | None, audit: Audit) -> None:
    log = "".join(GOOD.replace("purpose=review", f"purpose={value}") for value in values.split())
    found = findings(audit("--format", "json", log=log))
    assert found == ([("code", "drifting value", "purpose", *drift)] if drift else [])


def test_ids_are_not_compared(audit: Audit) -> None:
    log = "".join(
        GOOD.replace("\n", f" session={name} work_item={name} user={name}\n") for name in ("sess", "sesS", "SES-S")
    )
    assert findings(audit("--format", "json", log=log)) == []


def test_a_value_that_the_policy_does_not_allow_is_told_with_the_one_it_looks_like(audit: Audit) -> None:
    policy = {"allowed": {"environment": ["prod", "staging"]}}
    log = "".join(GOOD.replace("\n", f" environment={value}\n") for value in ("prod", "Prod", "stagign", "lab"))
    assert sorted(findings(audit("--format", "json", log=log, policy=policy))) == [
        ("code", "not allowed", "environment", "Prod", "prod"),
        ("code", "not allowed", "environment", "lab"),
        ("code", "not allowed", "environment", "stagign", "staging"),
    ]


def test_too_many_tags_and_too_many_values_are_told(audit: Audit) -> None:
    many = " ".join(f"--known=t{number}x" for number in range(20)).split()
    log = GOOD.replace("\n", "".join(f" t{number}x=1" for number in range(20)) + "\n")
    assert findings(audit("--format", "json", *many, log=log)) == [("code", "too many tags", "at most 16")]
    log = "".join(GOOD.replace("purpose=review", f"purpose=run-{number}") for number in range(60))
    assert findings(audit("--format", "json", log=log)) == [
        ("code", "too many values", "purpose", "60 different values")
    ]


def test_a_call_with_several_findings_is_once_in_the_total(audit: Audit) -> None:
    found = document(audit("--format", "json", log="2026-11-20T09:00Z teem=x squad=y cost=3"))
    assert len(found["rows"]) == 4
    assert (found["total"]["calls"], found["total"]["cost"]) == (1, 3)


def test_refused_calls_do_not_count_and_corrections_change_the_money_only(audit: Audit) -> None:
    """
    2026-11-20T09:00Z id=one agent=code cost=5
    2026-11-20T09:00Z agent=code cost=-2 corrects=one
    2026-11-20T09:00Z status=refused cost=0
    """
    (row,) = document(audit("--format", "json"))["rows"]
    assert (row["calls"], row["cost"], row["share"]) == (1, 3, 1)


def test_a_cost_that_nobody_knows_is_not_zero(audit: Audit) -> None:
    result = audit("--format", "json", log="2026-11-20T09:00Z agent=code\n")
    assert document(result)["rows"][0]["cost"] is None
    assert "unknown and in no sum" in audit(log="2026-11-20T09:00Z agent=code\n").stdout


def test_the_period_and_the_conditions_are_those_of_breakdown(audit: Audit) -> None:
    log = "2026-11-20T09:00Z agent=code cost=1\n2026-10-20T09:00Z agent=docs cost=1\n"
    assert findings(audit("--format", "json", "--this-month", log=log)) == [("code", "missing", "purpose")]
    assert findings(audit("--format", "json", "--where", "agent=docs", log=log)) == [("docs", "missing", "purpose")]


def test_the_exit_status_is_3_only_when_asked_for_and_something_is_found(audit: Audit) -> None:
    bad = "2026-11-20T09:00Z agent=code cost=1\n"
    assert audit(log=bad).exit_code == 0
    failed = audit("--fail-if-any", log=bad)
    assert (failed.exit_code, "error: 1 finding about tags\n" in failed.stderr) == (3, True)
    assert audit("--fail-if-any", log=GOOD).exit_code == 0


def test_text_says_what_is_in_order(audit: Audit) -> None:
    assert "All tags are in order, in 1 call." in audit(log=GOOD).stdout
    shown = audit(log="2026-11-20T09:00Z agent=code cost=1\n" + GOOD).stdout
    assert "missing" in shown and "1 of 2 calls have a finding, with $1.00 of $2.00." in shown
