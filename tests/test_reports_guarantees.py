"""What is promised for a policy on a host: each row says what holds there, and no more."""

from __future__ import annotations

import json

import pytest

from callmeter.policy.document import Policy, parse_policy
from callmeter.reports.guarantees import Ground, guarantees
from callmeter.reports.report import Cell

OWN = Ground("ledger.db", shared=False, writes_policy=True, writes_approvals=True, writes_log=True)
APART = Ground("postgresql://db/x", shared=True, writes_policy=False, writes_approvals=False, writes_log=False)


def told(ground: Ground, **document: object) -> dict[Cell, tuple[Cell, ...]]:
    """By what a row is about: how it holds, how exactly, and what is out of reach."""
    policy: Policy = parse_policy(json.dumps({"version": 1, **document}).encode(), "budget.json")
    return {row.cells["what"]: tuple(list(row.cells.values())[1:]) for row in guarantees(policy, ground).rows}


@pytest.mark.parametrize("what", ["approvals", "policy"])
def test_whoever_can_write_a_file_keeps_its_rules_by_habit_only(what: str) -> None:
    assert [told(OWN)[what][place] for place in (0, 2)] == ["by habit", "whoever works as this user can write it"]
    assert [told(APART)[what][place] for place in (0, 2)] == ["by permissions", "its owner"]


def test_totals_are_as_good_as_the_log_that_can_be_written() -> None:
    assert told(OWN)["totals"][2] == "whoever deletes lines of it gives their money back"
    assert told(APART)["totals"][2] == "its owner"


@pytest.mark.parametrize(
    ("rules", "end"),
    [
        ({}, "counts"),
        ({"approvers": ["alice", "root"]}, "counts; approvers are alice, root"),
        ({"self_approval": False}, "counts; nobody approves what he asked for himself"),
    ],
)
def test_who_may_approve_is_named(rules: dict[str, object], end: str) -> None:
    assert str(told(APART, approvals=rules)["approvals"][1]).endswith(f"approvals.jsonl {end}")


def test_each_quota_is_promised_what_its_enforcement_does() -> None:
    quotas = [
        {"subject": "total", "limit": 5, "enforcement": "hard"},
        {"subject": "agent:a", "limit": 5, "enforcement": "soft"},
        {"subject": "agent:b", "limit": 5, "enforcement": "soft"},
        {"subject": "agent:c", "limit": 5, "enforcement": "showback"},
    ]
    rows = told(OWN, quotas=quotas)
    assert [(what, holds) for what, (holds, *_) in rows.items()][:3] == [
        ("hard quotas (1)", "exactly"),
        ("soft quotas (2)", "warns"),
        ("showback quotas (1)", "shows"),
    ]
    assert str(rows["hard quotas (1)"][1]).endswith("over all processes of this host")
    assert rows["several hosts"][0] == "each for itself"
    assert "rates" not in rows and "stages" not in rows
    rows = told(
        OWN, quotas=[{"subject": "total", "limit": 5, "stages": {"0.9": "approve"}}], rate_limits={"total": "9/min"}
    )
    assert (rows["rates"][0], rows["stages"][0]) == ("exactly", "exactly")


@pytest.mark.parametrize(
    ("unreachable", "away", "beyond"),
    [
        ("fail_closed", "calls under a hard quota are refused", "nothing"),
        ("fail_open", "calls go ahead", "what is sent meanwhile; it is booked afterwards"),
    ],
)
def test_what_a_ledger_out_of_reach_costs_is_said(unreachable: str, away: str, beyond: str) -> None:
    assert told(OWN, unreachable=unreachable)["a ledger out of reach"] == (unreachable, away, beyond)


def test_models_ceiling_and_breaker_are_promised_as_the_policy_sets_them() -> None:
    rows = told(OWN)
    assert rows["lists of models (0)"][0] == "not set"
    assert rows["loop breaker"][0] == "tells"
    rows = told(OWN, models=["openai/*"], max_output_tokens=8192, loop_breaker={"mode": "block"})
    assert rows["lists of models (1)"][0] == "exactly"
    assert rows["output ceiling"][1] == "one is sent with every call, at most 8,192 tokens"
    assert rows["loop breaker"][0] == "stops"
