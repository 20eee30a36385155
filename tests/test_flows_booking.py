"""What a line counts for, in which windows, and when a policy puts lines into other ones."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from callmeter.flows.booking import booked_line, mark_of, windows_of
from callmeter.ledger.protocol import Amount
from callmeter.policy.document import Policy, parse_policy

USERS = {"users": {"*": 10}}
LINE = {"timestamp": "2026-11-21T23:30:00.000Z", "model": "m", "provider": "openrouter"}


def policy(**members: object) -> Policy:
    return parse_policy(json.dumps(members).encode(), "budget.json")


def one(**members: object) -> Policy:
    return policy(quotas=[{"subject": "agent:code", "limit": 5, **members}])


@pytest.mark.parametrize(
    ("fields", "amount"),
    [
        ({"cost": Decimal("0.0096"), "tokens": {"in": 1200, "out": 400}, "attempts": 2}, Amount(9_600_000, 1600, 1)),
        ({"cost": None, "attempts": 1}, Amount(0, 0, 1)),
        ({"cost": Decimal(0), "attempts": 0}, Amount()),
        ({"cost": Decimal("-0.04"), "attempts": 0, "corrects": "c"}, Amount(-40_000_000, 0, 0)),
        ({"cost": Decimal("-0.04"), "attempts": 1, "corrects": "c"}, Amount(-40_000_000, 0, 0)),
        ({"cost": 3, "attempts": 1}, Amount(3_000_000_000, 0, 1)),
    ],
)
def test_what_a_line_counts_for(fields: dict[str, object], amount: Amount) -> None:
    assert booked_line(fields) == amount


@pytest.mark.parametrize(
    "other",
    [
        one(period="day"),
        policy(quotas=[{"subject": "agent:docs", "limit": 5}]),
        policy(quotas=[{"subject": "agent:code", "limit": 5}], time_zone="Europe/Berlin"),
        policy(quotas=[{"subject": "agent:code", "limit": 5}, {"subject": "total", "limit": 9}]),
        policy(),
    ],
)
def test_another_window_for_some_line_is_another_mark(other: Policy) -> None:
    assert mark_of(other) != mark_of(one())


def test_a_user_who_gets_a_limit_of_his_own_leaves_the_quota_of_all_others() -> None:
    named = policy(users={"*": 10, "alice": 20})
    assert mark_of(named) != mark_of(policy(**USERS)) != mark_of(policy(users={"*": 10, "bob": 20}))
    assert mark_of(policy(users={"*": 10, "alice": 20, "bob": 30})) != mark_of(named)


def test_an_allocation_with_a_pool_behind_it_counts_its_own_part_only() -> None:
    strategy = {"allocation_strategy": "equal_base_plus_merit"}
    alone = policy(**strategy, allocations={"base_per_agent": 3, "agents": ["code"]})
    pooled = policy(**strategy, allocations={"base_per_agent": 3, "agents": ["code"], "merit_pool": 6})
    assert mark_of(alone) != mark_of(pooled)
    line = {**LINE, "tags": {"agent": "code"}}
    assert [window.bucket for window in windows_of(alone, line)] == ["agent:code"]
    assert [window.bucket for window in windows_of(pooled, line)] == ["own/agent:code"]
    assert [window.bucket for window in windows_of(pooled, {**line, "pool": "merit_pool"})] == ["pool:merit_pool"]


@pytest.mark.parametrize(
    "same", [one(limit=7), one(enforcement="hard"), one(warn_at=[0.1]), one(stages={"0.5": "stop"}), one(reserve=0.5)]
)
def test_what_only_decides_otherwise_needs_no_counting(same: Policy) -> None:
    assert mark_of(same) == mark_of(one())


def test_the_order_of_quotas_does_not_matter() -> None:
    quotas = [{"subject": "agent:code", "limit": 5}, {"subject": "total", "limit": 9}]
    assert mark_of(policy(quotas=quotas)) == mark_of(policy(quotas=quotas[::-1]))


def test_a_line_is_booked_in_the_period_of_its_zone() -> None:
    line = {**LINE, "tags": {"agent": "code"}}
    (here,) = windows_of(one(period="day"), line)
    (there,) = windows_of(
        policy(quotas=[{"subject": "agent:code", "limit": 5, "period": "day"}], time_zone="Europe/Berlin"), line
    )
    assert (here.bucket, here.period) == ("agent:code", "day")
    assert there.start - here.start == 23 * 3600, "in Berlin it is the 22nd already"
    assert windows_of(one(), LINE | {"tags": {}}) == []
