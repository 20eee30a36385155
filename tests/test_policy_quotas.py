"""Quotas: which buckets a call falls into, for which period, and how much of a limit is for whom."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.policy.allocation import allocate, split
from callmeter.policy.document import parse_policy
from callmeter.policy.quotas import PERIODS, Quota, buckets_for, candidate_buckets, window_of
from callmeter.words.errors import UsageError
from callmeter.words.subject import facts_of, parse_subject

NOW = datetime(2026, 11, 21, 9, 30, 15, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
FACTS = facts_of({"agent": "code", "session": "s-1", "team": "search"}, key="trial", model="anthropic/claude-haiku")


def quota(subject: str, limit: int = 100, **more: object) -> Quota:
    return Quota(parse_subject(subject), limit, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("subject", "bucket"),
    [
        ("total", "total"),
        ("agent:code", "agent:code"),
        ("agent:*", "agent:code"),
        ("agent:chat", None),
        ("session:*", "session:s-1"),
        ("team:s*", "team:s*"),
        ("key:trial", "key:trial"),
        ("model:anthropic/*", "model:anthropic/*"),
        ("model:*haiku", "model:*haiku"),
        ("user:*", None),
        ("provider:openrouter", None),
    ],
)
def test_what_a_subject_puts_a_call_into(subject: str, bucket: str | None) -> None:
    found = [each.key for each in buckets_for([quota(subject)], FACTS, NOW)]
    assert found == ([] if bucket is None else [bucket])


@pytest.mark.parametrize(
    "text", ["", ":", "agent", "agent:", ":code", "1x:y", "agent:\x1b[31m", "agent:a\u202eb", "ag ent:x"]
)
def test_what_is_no_subject(text: str) -> None:
    with pytest.raises(UsageError):
        parse_subject(text)


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("second", "2026-11-21T09:30:15+00:00", "2026-11-21T09:30:16+00:00"),
        ("minute", "2026-11-21T09:30:00+00:00", "2026-11-21T09:31:00+00:00"),
        ("hour", "2026-11-21T10:00:00+01:00", "2026-11-21T11:00:00+01:00"),
        ("day", "2026-11-21T00:00:00+01:00", "2026-11-22T00:00:00+01:00"),
        ("week", "2026-11-16T00:00:00+01:00", "2026-11-23T00:00:00+01:00"),
        ("month", "2026-11-01T00:00:00+01:00", "2026-12-01T00:00:00+01:00"),
        ("year", "2026-01-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00"),
    ],
)
def test_the_window_of_a_period_in_the_policys_time_zone(period: str, start: str, end: str) -> None:
    expected = tuple(int(datetime.fromisoformat(text).timestamp()) for text in (start, end))
    assert window_of(period, NOW, BERLIN) == expected


def test_life_has_no_window_that_ends() -> None:
    assert window_of("life", NOW, BERLIN) == (0, 0)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1)),
    st.sampled_from([period for period in PERIODS if period != "life"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu", "Africa/Cairo"]),
)
def test_a_window_holds_its_instant_and_the_next_one_begins_where_it_ends(at: datetime, period: str, name: str) -> None:
    zone, at = ZoneInfo(name), at.replace(tzinfo=UTC)
    start, end = window_of(period, at, zone)
    assert start <= at.timestamp() < end
    assert window_of(period, datetime.fromtimestamp(end, UTC), zone)[0] == end
    assert window_of(period, datetime.fromtimestamp(start, UTC), zone) == (start, end)
    assert window_of(period, datetime.fromtimestamp(end, UTC) - timedelta(seconds=1), zone) == (start, end)


@pytest.mark.parametrize(
    ("priority", "limit"), [("", 90), ("low", 90), ("normal", 90), ("high", 100), ("critical", 100), ("CRITICAL", 100)]
)
def test_a_reserved_share_is_for_high_priorities_alone(priority: str, limit: int) -> None:
    assert quota("total", reserve=Decimal("0.1")).limit_for(priority) == limit


def test_names_say_the_unit_unless_it_is_money() -> None:
    assert quota("agent:code").name == "agent:code per month"
    assert quota("key:trial", unit="calls", period="day").name == "key:trial per day (calls)"


ROLES = """
{"allocation_strategy": "role_based",
 "roles": {"a": {"allocation": 5, "agents": ["code"], "shared_pool": 2}, "b": {"allocation": 1, "agents": ["chat"]},
           "shared_pool": 3}}
"""


def test_before_a_call_the_pools_that_could_pay_it_are_looked_at_too() -> None:
    quotas = parse_policy(ROLES.encode(), "budget.json").quotas
    for agent, buckets in {
        "code": ["own/agent:code", "pool:a", "pool:shared_pool"],
        "chat": ["own/agent:chat", "pool:shared_pool"],
        "new": ["own/agent:new", "pool:shared_pool"],
    }.items():
        assert [bucket.key for bucket in candidate_buckets(quotas, {"agent": agent}, NOW)] == buckets
    assert candidate_buckets(quotas, {"user": "alice"}, NOW) == []


def test_a_call_that_a_pool_paid_is_booked_there_and_not_in_the_allocation() -> None:
    quotas = parse_policy(ROLES.encode(), "budget.json").quotas
    assert [bucket.key for bucket in buckets_for(quotas, {"agent": "code"}, NOW)] == ["own/agent:code"]
    assert [bucket.key for bucket in buckets_for(quotas, {"agent": "code", "pool": "a"}, NOW)] == ["pool:a"]


# Allocation

weights = st.decimals(min_value=0, max_value=10**9, allow_nan=False, allow_infinity=False)


@given(st.integers(0, 10**18), st.dictionaries(st.text(max_size=5), weights, max_size=20))
def test_the_parts_of_a_pool_add_up_to_it_and_follow_the_weights(pool: int, by_name: dict[str, Decimal]) -> None:
    parts = split(pool, by_name)
    assert list(parts) == list(by_name)
    if not any(by_name.values()):
        assert not any(parts.values())
        return
    assert sum(parts.values()) == pool
    whole = sum(map(Fraction, by_name.values()))
    assert all(abs(parts[name] - pool * Fraction(weight) / whole) < 1 for name, weight in by_name.items())


def test_equal_weights_share_what_cannot_be_shared_equally_by_name() -> None:
    assert split(100, {"c": Decimal(1), "a": Decimal(1), "b": Decimal(1)}) == {"c": 33, "a": 34, "b": 33}


def test_shares_do_not_depend_on_the_order_of_names() -> None:
    names = {"x": Decimal("0.1"), "y": Decimal("0.3"), "z": Decimal("0.7")}
    assert split(10**9, names) == {name: split(10**9, dict(reversed(names.items())))[name] for name in names}


def test_recorded_value_gives_the_weights_when_the_strategy_is_applied() -> None:
    allocations = {"base_per_agent": 3, "merit_pool": 6, "weights": "value"}
    text = json.dumps({"allocation_strategy": "equal_base_plus_merit", "allocations": allocations})
    policy = parse_policy(text.encode(), "budget.json")
    assert policy.strategy is not None
    assert policy.strategy.by_value
    before = {str(quota.subject): quota.limit for quota in policy.quotas}
    assert before == {"agent:*": 3 * 10**9, "pool:merit_pool": 6 * 10**9}
    applied = allocate(policy.strategy, policy, {"code": Decimal(20), "chat": Decimal(10)})
    after = {str(quota.subject): quota.limit for _, quota in applied}
    assert after == {"agent:code": 7 * 10**9, "agent:chat": 5 * 10**9, "agent:*": 3 * 10**9}
