"""Forecasts of shared pools: what agents will probably spend beyond their allocations."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from callmeter.policy.document import parse_policy
from callmeter.policy.quotas import Quota
from callmeter.reports.forecast_history import Present
from callmeter.reports.forecast_model import NOTHING, Range
from callmeter.reports.forecast_page import quota_sentence
from callmeter.reports.forecast_quotas import Exhaustion, Pasts, exhaustions, limits_by_log
from callmeter.words.money import NANO
from callmeter.words.record import UsageRecord
from log_text import log_records
from plain_usage import PlainUsage

NOW = datetime(2026, 11, 21, 0, 0, tzinfo=UTC)  # a Saturday; nine days and this one are left of the month


def daily(agent: str, days: int = 50, cost: str = "1", pool: str = "", since: int = 50) -> list[UsageRecord]:
    """A call at noon on each of so many days, the first `since` days ago; `pool` paid them."""
    found = []
    for n in range(days):
        at = NOW - timedelta(since - n) + timedelta(hours=12)
        (record,) = log_records(f"{at:%Y-%m-%dT%H:%M:%S}.000Z agent={agent} cost={cost}")
        found.append(changed(record, id=f"{agent} {n} {pool} {since}", pool=pool or None))
    return found


def policy(roles: dict[str, object]) -> Sequence[Quota]:
    document = {"enforcement": "hard", "allocation_strategy": "role_based", "roles": roles}
    return parse_policy(json.dumps(document).encode(), "budget.json").quotas


def ahead(records: Sequence[UsageRecord], quotas: Sequence[Quota]) -> dict[str, Exhaustion]:
    pasts = Pasts(Present(PlainUsage(records, UTC), NOW))
    limits, _ = limits_by_log(quotas, pasts, 10)
    return {str(each.limit.subject): each for each in exhaustions(limits, pasts, quotas)}


def team(allocation: float, own: float, shared: float = 0, agents: Sequence[str] = ("a", "b")) -> Sequence[Quota]:
    role = {"allocation": allocation, "agents": list(agents), **({"shared_pool": own} if own else {})}
    return policy({"dev": role, **({"shared_pool": {"allocation": shared}} if shared else {})})


# Twenty dollars of this month are spent by each, and ten more are to come.
BOTH = [*daily("a"), *daily("b")]


def test_a_pool_pays_what_its_agents_spend_beyond_their_allocations() -> None:
    found = ahead(BOTH, team(allocation=24, own=30))
    assert found["agent:a"].expected == pytest.approx(30 * NANO, rel=0.001)
    pool = found["pool:dev"]
    # Six of each, though nothing was ever paid by the pool.
    assert pool.limit.taken == 0
    assert pool.expected == pytest.approx(12 * NANO, rel=0.03)
    assert pool.chance is not None and pool.chance < 0.05
    assert pool.runs_out is None


def test_a_pool_runs_out_some_days_after_the_allocations() -> None:
    found = ahead(BOTH, team(allocation=23.5, own=4))
    own, pool = found["agent:a"], found["pool:dev"]
    assert own.runs_out == date(2026, 11, 24)
    # Half of that day's spend is the pool's, and then two dollars a day: more than four on the 26th.
    assert pool.runs_out == date(2026, 11, 26)
    assert pool.earliest is not None and pool.latest is not None
    assert own.runs_out <= pool.earliest <= pool.runs_out <= pool.latest
    assert pool.chance is not None and pool.chance > 0.9
    assert pool.likely and not own.likely
    assert quota_sentence(pool).startswith("pool:dev per month: over 95% chance of passing $4.00 before Tuesday")
    assert "passing $23.50, then pool:dev pays, before Tuesday" in quota_sentence(own)


def test_allocations_that_last_leave_a_pool_alone() -> None:
    pool = ahead(BOTH, team(allocation=100, own=5))["pool:dev"]
    assert (pool.expected, pool.chance, pool.earliest, pool.runs_out) == (0, 0, None, None)


def test_what_is_left_of_a_role_is_paid_by_the_pool_of_all() -> None:
    found = ahead(BOTH, team(allocation=24, own=5, shared=20))
    assert found["pool:shared_pool"].expected == pytest.approx(7 * NANO, rel=0.05)


def test_an_agent_without_an_allocation_is_paid_by_the_pool_from_the_first_call_on() -> None:
    records = [*BOTH, *daily("stranger", 20, since=20, pool="shared_pool")]
    found = ahead(records, team(allocation=100, own=0, shared=25))
    pool = found["pool:shared_pool"]
    assert pool.limit.taken == 20 * NANO
    assert pool.expected == pytest.approx(30 * NANO, rel=0.03)
    assert pool.likely
    assert "agent:stranger" not in found


def test_what_a_pool_paid_is_not_taken_from_the_allocation() -> None:
    records = [*daily("a", 44), *daily("a", 6, since=6, pool="dev"), *daily("b")]
    found = ahead(records, team(allocation=14, own=30))
    assert found["agent:a"].limit.taken == 14 * NANO and found["agent:a"].used_up
    assert found["pool:dev"].limit.taken == 6 * NANO
    # b has passed its allocation too, whoever paid: all that comes is the pool's.
    assert found["pool:dev"].expected == pytest.approx(26 * NANO, rel=0.02)


def test_a_pool_that_nobody_can_come_to_is_foreseen_by_what_it_paid() -> None:
    document = b'{"version":1,"quotas":[{"subject":"pool:old","period":"month","limit":40}]}'
    quotas = parse_policy(document, "budget.json").quotas
    pool = ahead([*BOTH, *daily("a", pool="old")], quotas)["pool:old"]
    assert pool.limit.taken == 20 * NANO
    assert pool.expected == pytest.approx(30 * NANO, rel=0.001)


def test_without_a_complete_day_nothing_is_said_of_a_pool() -> None:
    pool = ahead([], team(allocation=24, own=5))["pool:dev"]
    assert (pool.expected, pool.chance, pool.runs_out) == (None, None, None)


# What lies beyond an amount


def test_beyond_of_an_exponential_is_as_large_as_ever_but_rarer() -> None:
    """A gamma of shape 1 forgets: what lies beyond k is the same exponential, with the chance e^(-k/mean)."""
    whole = Range(10.0 * NANO, (10.0 * NANO) ** 2)
    beyond = whole.beyond(5 * NANO)
    chance = math.exp(-0.5)
    assert beyond.mean == pytest.approx(10 * NANO * chance)
    assert beyond.nothing == pytest.approx(1 - chance)
    assert beyond.over(7 * NANO) == pytest.approx(whole.over(12 * NANO), rel=1e-6)
    assert beyond.quantile(1 - chance) == 0
    assert beyond.quantile(0.9) == pytest.approx(whole.quantile(0.9) - 5 * NANO, rel=1e-6)


def test_beyond_is_what_drawn_sums_leave() -> None:
    chance = random.Random(7)
    whole = Range(20.0 * NANO, (8.0 * NANO) ** 2)
    shape, scale = 20**2 / 8**2, 8**2 / 20
    drawn = [max(0.0, chance.gammavariate(shape, scale) - 24) for _ in range(40_000)]
    beyond = whole.beyond(24 * NANO)
    mean = sum(drawn) / len(drawn)
    assert beyond.mean / NANO == pytest.approx(mean, rel=0.03)
    variance = sum((each - mean) ** 2 for each in drawn) / len(drawn)
    assert beyond.variance / NANO**2 == pytest.approx(variance, rel=0.06)
    assert beyond.over(6 * NANO) == pytest.approx(sum(each > 6 for each in drawn) / len(drawn), rel=0.1)


@settings(deadline=None)
@given(st.floats(1, 1e16), st.floats(0.001, 10), st.floats(0, 0.99), st.one_of(st.just(0), st.integers(1, 10**17)))
def test_beyond_is_never_more_than_the_whole_and_its_quantiles_keep_their_order(
    mean: float, variation: float, nothing: float, amount: int
) -> None:
    variance = (mean * variation) ** 2 + mean * mean * nothing / (1 - nothing)
    whole = Range(mean, variance, nothing)
    beyond = whole.beyond(amount)
    assert 0 <= beyond.mean <= mean * (1 + 1e-9)
    found = [beyond.quantile(each) for each in (0.025, 0.1, 0.5, 0.9, 0.975)]
    assert found == sorted(found) and found[0] >= 0
    assert 0 <= beyond.over(amount) <= beyond.over(0) <= 1
    if beyond is not whole and beyond is not NOTHING:
        assert beyond.over(0) == pytest.approx(whole.over(amount), rel=1e-6, abs=1e-9)
