"""The policy as teams write it: what loads, what it comes to, and what is refused with which words."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.policy.document import MalformedPolicy, Policy, parse_policy
from callmeter.policy.model_rules import forbidding
from callmeter.words.subject import facts_of

USD = 10**9


def load(document: object) -> Policy:
    return parse_policy(json.dumps(document).encode(), "budget.json")


def faults(document: object) -> list[str]:
    """What is wrong with a document, one text a fault; nothing for one that loads."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    try:
        parse_policy(data, "budget.json")
    except MalformedPolicy as error:
        return [str(fault) for _, fault in error.faults]
    return []


def limits(policy: Policy, unit: str = "usd") -> dict[str, Decimal]:
    """Each quota's limit in its unit, by what it is on and for how long."""
    size = USD if unit == "usd" else 1
    return {
        f"{quota.subject} per {quota.period}": Decimal(quota.limit) / size
        for quota in policy.quotas
        if quota.unit == unit
    }


# The documents that teams have


def test_an_equal_base_and_a_merit_pool_without_weights_are_a_base_each_and_a_shared_pool() -> None:
    policy = load(
        {
            "allocation_strategy": "equal_base_plus_merit",
            "total_budget": 15.00,
            "allocations": {"base_per_agent": 3.00, "merit_pool": 6.00},
        }
    )
    assert limits(policy) == {"total per month": 15, "agent:* per month": 3, "pool:merit_pool per month": 6}
    assert [quota.pools for quota in policy.quotas] == [(), ("merit_pool",), ()]


def test_weights_share_the_merit_pool_out() -> None:
    allocations = {"base_per_agent": 3, "merit_pool": 6, "weights": {"code": 2, "chat": "1"}}
    policy = load({"allocation_strategy": "equal_base_plus_merit", "allocations": allocations})
    assert limits(policy) == {"agent:code per month": 7, "agent:chat per month": 5, "agent:* per month": 3}
    assert policy.quotas[2].bucket({"agent": "code"}) is None
    assert policy.quotas[2].bucket({"agent": "other"}) == "agent:other"


def test_agents_that_are_not_listed_have_nothing_when_all_are_listed() -> None:
    allocations = {"base_per_agent": 3, "merit_pool": 6, "agents": ["code", "chat"], "weights": {"code": 1}}
    policy = load({"allocation_strategy": "equal_base_plus_merit", "allocations": allocations})
    assert limits(policy) == {"agent:code per month": 9, "agent:chat per month": 3, "agent:* per month": 0}


def test_roles_give_each_of_their_agents_an_allocation_with_a_shared_pool_behind_it() -> None:
    policy = load(
        {
            "allocation_strategy": "role_based",
            "roles": {
                "primary_agents": {"allocation": 5.00, "agents": ["code", "chat"]},
                "background_agents": {"allocation": 2.00, "agents": ["investigator"], "shared_pool": 1},
                "shared_pool": {"allocation": 3.00},
            },
        }
    )
    assert limits(policy) == {
        "agent:code per month": 5,
        "agent:chat per month": 5,
        "agent:investigator per month": 2,
        "agent:* per month": 0,
        "pool:background_agents per month": 1,
        "pool:shared_pool per month": 3,
    }
    pools = {str(quota.subject): quota.pools for quota in policy.quotas}
    assert pools["agent:code"] == ("shared_pool",)
    assert pools["agent:investigator"] == ("background_agents", "shared_pool")
    assert pools["agent:*"] == ("shared_pool",)


def test_a_role_can_hold_all_other_agents() -> None:
    roles = {"few": {"allocation": 5, "agents": ["code"]}, "rest": {"allocation": 1, "agents": ["*"]}}
    policy = load({"allocation_strategy": "role_based", "roles": roles})
    assert limits(policy) == {"agent:code per month": 5, "agent:* per month": 1}
    assert policy.quotas[1].bucket({"agent": "new"}) == "agent:new"


def test_dynamic_hands_out_nothing_but_caps_agents_if_it_says_so() -> None:
    plain = load({"allocation_strategy": "dynamic", "total_budget": 15})
    assert limits(plain) == {"total per month": 15}
    capped = load({"allocation_strategy": "dynamic", "allocations": {"pool": 15, "cap_per_agent": 4}})
    assert limits(capped) == {"total per month": 15, "agent:* per month": 4}


def test_key_profiles_load_from_the_top_of_the_document_and_from_keys() -> None:
    profile = {"budget": 15.00, "allowed_models": ["claude-3.5-sonnet"], "rate_limit": "100/day", "alerts": "enabled"}
    for document in ({"production_key": profile}, {"keys": {"production_key": profile}}):
        policy = load(document)
        assert limits(policy) == {"key:production_key per month": 15}
        assert limits(policy, "calls") == {"key:production_key per day": 100}
        facts = {"key": "production_key", "model": "anthropic/claude-3.5-sonnet"}
        assert forbidding(policy, facts) == []
        assert forbidding(policy, {**facts, "model": "anthropic/claude-3-opus"})
        assert forbidding(policy, {**facts, "key": "other", "model": "anthropic/claude-3-opus"}) == []


def test_a_profile_can_switch_its_alerts_off() -> None:
    policy = load({"keys": {"a": {"budget": 1, "alerts": "disabled"}, "b": {"budget": 1}}})
    assert [quota.alerts for quota in policy.quotas] == [False, True]


@pytest.mark.parametrize(
    ("tier", "usd"),
    [("free", 10), ("standard", 50), ("micro", 100), ("operator", 250), ("enterprise", 500), ("beta", 1000)],
)
def test_tiers_are_known_without_being_listed(tier: str, usd: int) -> None:
    assert limits(load({"users": {"alice": tier}, "agents": {"code": tier}})) == {
        "user:alice per month": usd,
        "agent:code per month": usd,
    }


@pytest.mark.parametrize("tier", ["admin", "future4200", "unlimited", None])
def test_unlimited_users_have_no_quota_even_where_all_others_have_one(tier: str | None) -> None:
    policy = load({"users": {"root": tier, "*": "free"}})
    assert limits(policy) == {"user:* per month": 10}
    assert policy.quotas[0].bucket({"user": "root"}) is None
    assert policy.quotas[0].bucket({"user": "bob"}) == "user:bob"


def test_a_limit_of_ones_own_replaces_that_of_the_tier() -> None:
    document = {
        "tiers": {"free": 5},
        "users": {"bob": {"tier": "free", "limit": 25}, "eve": 7, "carl": "free", "*": "free"},
        "quotas": [{"subject": "user:carl", "limit": 9}, {"subject": "user:carl", "limit": 1, "period": "day"}],
    }
    policy = load(document)
    assert len(policy.quotas) == 5
    assert limits(policy) == {
        "user:bob per month": 25,
        "user:eve per month": 7,
        "user:* per month": 5,
        "user:carl per month": 9,
        "user:carl per day": 1,
    }
    everyone = next(quota for quota in policy.quotas if quota.subject.each)
    assert [everyone.bucket({"user": name}) for name in ("bob", "eve", "carl", "dora")] == [
        None,
        None,
        None,
        "user:dora",
    ]


def test_general_and_specific_quotas_all_hold() -> None:
    policy = load({"quotas": [{"subject": "agent:*", "limit": 5}, {"subject": "agent:code", "limit": 3}]})
    assert [quota.bucket({"agent": "code"}) for quota in policy.quotas] == ["agent:code", "agent:code"]


def test_an_allocation_with_a_pool_keeps_its_own_books_beside_a_quota_on_the_agent() -> None:
    roles = {"a": {"allocation": 5, "agents": ["code"]}, "shared_pool": 3}
    document = {"allocation_strategy": "role_based", "roles": roles, "quotas": [{"subject": "agent:code", "limit": 7}]}
    buckets = {quota.bucket({"agent": "code"}) for quota in load(document).quotas}
    assert buckets == {None, "own/agent:code", "agent:code"}


def test_an_agent_with_a_quota_of_its_own_still_has_its_base_and_the_pool() -> None:
    allocations = {"base_per_agent": 3, "merit_pool": 6}
    document = {
        "allocation_strategy": "equal_base_plus_merit",
        "allocations": allocations,
        "quotas": [{"subject": "agent:code", "limit": 7}],
    }
    buckets = [quota.bucket({"agent": "code"}) for quota in load(document).quotas]
    assert buckets == ["own/agent:code", None, "agent:code"]


def test_a_quota_for_another_period_or_unit_does_not_replace_a_tier() -> None:
    quotas = [
        {"subject": "user:dora", "limit": 1, "period": "day"},
        {"subject": "user:dora", "limit": 100, "unit": "calls"},
    ]
    policy = load({"users": {"*": "free"}, "quotas": quotas})
    assert [quota.bucket({"user": "dora"}) for quota in policy.quotas] == ["user:dora"] * 3


def test_a_pool_may_repeat_what_the_total_says() -> None:
    document = {"allocation_strategy": "dynamic", "total_budget": 15, "allocations": {"pool": "15.00"}}
    assert [quota.source for quota in load(document).quotas] == ["total_budget"]


def test_a_profile_has_its_own_period_and_enforcement() -> None:
    profile = {"budget": 2, "period": "day", "enforcement": "soft", "rate_limit": "5/min", "allowed_models": ["a/*"]}
    policy = load({"enforcement": "hard", "keys": {"trial": profile, "main": {"budget": 9}}})
    assert [(quota.period, quota.enforcement) for quota in policy.quotas] == [
        ("day", "soft"),
        ("minute", "soft"),
        ("month", "hard"),
    ]
    assert policy.model_rules[0].enforcement == "soft"


def test_rates_are_quotas_of_calls() -> None:
    policy = load({"rate_limits": {"agent:*": ["20/min", "5/sec", "100/day"], "total": "1000/hour"}})
    assert limits(policy, "calls") == {
        "agent:* per minute": 20,
        "agent:* per second": 5,
        "agent:* per day": 100,
        "total per hour": 1000,
    }
    assert {quota.enforcement for quota in policy.quotas} == {"hard"}


# Quotas as they stand


def test_a_quota_has_what_it_says_and_the_rest_from_the_document() -> None:
    policy = load(
        {
            "enforcement": "hard",
            "period": "week",
            "warn_at": [0.8],
            "quotas": [
                {"subject": "agent:code", "limit": "1.50"},
                {
                    "subject": "model:anthropic/*",
                    "limit": 5000,
                    "unit": "tokens",
                    "period": "day",
                    "enforcement": "soft",
                    "warn_at": [0.5, "0.25"],
                    "reserve": 0.1,
                    "stages": {"1": "stop", "0.7": "downgrade: openai/gpt-4o-mini ", "0.90": "approve", "0.6": "warn"},
                },
            ],
        }
    )
    plain, full = policy.quotas
    assert (plain.limit, plain.period, plain.enforcement, plain.warn_at) == (
        1_500_000_000,
        "week",
        "hard",
        (Decimal("0.8"),),
    )
    assert (full.limit, full.unit, full.period, full.enforcement) == (5000, "tokens", "day", "soft")
    assert full.warn_at == tuple(map(Decimal, ("0.25", "0.5", "0.6", "1")))
    assert [(stage.share, str(stage)) for stage in full.stages] == [
        (Decimal("0.7"), "downgrade:openai/gpt-4o-mini"),
        (Decimal("0.90"), "approve"),
        (Decimal(1), "stop"),
    ]
    assert full.reserve == Decimal("0.1")
    assert (plain.source, full.source) == ("quotas[0]", "quotas[1]")


def test_soft_and_hard_limits_are_a_warning_below_a_stop() -> None:
    assert faults({"quotas": [{"subject": "agent:code", "soft": 50, "hard": 50}]}) == []
    policy = load({"quotas": [{"subject": "agent:code", "soft": 40, "hard": 50}]})
    assert [(quota.limit // USD, quota.enforcement, quota.source) for quota in policy.quotas] == [
        (50, "hard", "quotas[0]"),
        (40, "soft", "quotas[0].soft"),
    ]
    assert policy.quotas[1].warn_at == (Decimal(1),)


@pytest.mark.parametrize(
    ("entry", "stated", "enforcement"),
    [
        ({"limit": 1}, None, "soft"),
        ({"limit": 1}, "showback", "showback"),
        ({"limit": 1, "stages": {"0.9": "approve"}}, None, "hard"),
        ({"limit": 1, "stages": {"0.9": "approve"}}, "showback", "showback"),
        ({"limit": 1, "stages": {"0.9": "warn"}}, None, "soft"),
        ({"hard": 1}, "showback", "hard"),
        ({"soft": 1}, "hard", "soft"),
        ({"limit": 1, "enforcement": "showback"}, "hard", "showback"),
    ],
)
def test_how_a_limit_is_enforced(entry: dict[str, object], stated: str | None, enforcement: str) -> None:
    document: dict[str, object] = {"quotas": [{"subject": "total", **entry}]}
    if stated:
        document["enforcement"] = stated
    assert load(document).quotas[0].enforcement == enforcement


def test_sessions_and_work_items_are_limited_for_their_whole_life_unless_it_is_said() -> None:
    quotas = [
        {"subject": "session:*", "limit": 1},
        {"subject": "work_item:SUP-1", "limit": 1},
        {"subject": "session:a", "limit": 1, "period": "day"},
    ]
    assert [quota.period for quota in load({"quotas": quotas}).quotas] == ["life", "life", "day"]


def test_subjects_follow_the_other_names_of_tags() -> None:
    document = {
        "quotas": [{"subject": "caller:code", "limit": 1}, {"subject": "jira:*", "limit": 1}],
        "tags": {"aliases": {"jira": "work_item"}, "required": ["ticket-id"], "allowed": {"caller": ["code"]}},
    }
    policy = load(document)
    assert [str(quota.subject) for quota in policy.quotas] == ["agent:code", "work_item:*"]
    assert policy.required == ("work_item",)
    assert policy.allowed == {"agent": ("code",)}


def test_an_agent_is_found_however_its_name_was_composed() -> None:
    policy = load({"quotas": [{"subject": "agent:cafe\u0301", "limit": 1}]})
    assert policy.quotas[0].bucket({"agent": "caf\u00e9"}) == "agent:caf\u00e9"


@given(st.decimals(min_value="0.000000001", max_value="999999999", places=9, allow_nan=False))
def test_amounts_are_exact_as_numbers_and_as_text(amount: Decimal) -> None:
    for written in (f"{amount:f}", f'"{amount:f}"'):
        policy = parse_policy(f'{{"total_budget": {written}}}'.encode(), "budget.json")
        assert policy.total_budget == int(amount * USD)


def test_a_tag_that_is_called_like_a_fact_does_not_pass_for_one() -> None:
    facts = facts_of({"pool": "shared_pool", "model": "free", "agent": "a"}, model="dear")
    assert facts == {"agent": "a", "model": "dear"}


# Models


@pytest.mark.parametrize(
    ("patterns", "model", "allowed"),
    [
        (["anthropic/*"], "anthropic/claude-3-haiku", True),
        (["anthropic/*"], "openai/gpt-4o", False),
        (["claude-3-haiku"], "anthropic/claude-3-haiku", True),
        (["claude-3-haiku"], "anthropic/claude-3-haiku:beta", False),
        (["*haiku*"], "anthropic/claude-3-haiku:beta", True),
        (["Anthropic/Claude-3-Haiku"], "anthropic/claude-3-haiku", True),
        (["claude"], "claude", True),
        (["openai/gpt-4o"], "evil/openai/gpt-4o", False),
    ],
)
def test_lists_of_models(patterns: list[str], model: str, allowed: bool) -> None:
    assert (forbidding(load({"models": patterns}), {"model": model}) == []) is allowed


def test_every_list_that_a_call_falls_under_has_to_permit_its_model() -> None:
    policy = load({"models": {"total": ["anthropic/*"], "agent:intern": ["*haiku"]}})
    sonnet = {"model": "anthropic/sonnet", "agent": "intern"}
    assert [rule.source for rule in forbidding(policy, sonnet)] == ['models."agent:intern"']
    assert forbidding(policy, {**sonnet, "agent": "code"}) == []
    assert len(forbidding(policy, {**sonnet, "model": "openai/x"})) == 2
