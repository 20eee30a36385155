"""The policy as teams write it: what loads, what it comes to, and what is refused with which words."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callmeter.policy.document import MalformedPolicy, Policy, parse_policy
from callmeter.policy.doubts import doubts
from callmeter.policy.model_rules import forbidding
from callmeter.words.errors import Malformed
from callmeter.words.subject import facts_of

USD = 10**9
SCHEMA = json.loads(files("callmeter.data").joinpath("budget.schema.json").read_text())
EXAMPLE = json.loads((Path(__file__).parent.parent / "budget.example.json").read_text())


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


# Faults

FAULTS: list[tuple[dict[str, Any] | bytes, str]] = [
    ({"totl_budget": 5}, "did you mean `total_budget`"),
    ({"enforcement": "hrad"}, "did you mean `hard`"),
    ({"total_budget": "10$"}, "write `10`"),
    ({"total_budget": "$1_000"}, "write `1000`"),
    ({"total_budget": "１２"}, "write `12`"),
    ({"total_budget": 0}, "not above 0"),
    ({"total_budget": -1}, "not above 0"),
    ({"total_budget": "-1"}, "not an amount"),
    ({"total_budget": True}, "not an amount"),
    ({"total_budget": None}, "null is not an amount"),
    ({"total_budget": 10**9}, "below a billion"),
    (b'{"total_budget": 1e400}', "below a billion"),
    (b'{"total_budget": 0.' + b"1" * 50 + b"}", "too many digits"),
    (b'{"total_budget": 1e9999}', "not an amount"),
    (b'{"total_budget": NaN}', "NaN is not an amount"),
    (b'{"total_budget": -Infinity}', "-Infinity is not an amount"),
    (b'{"total_budget": ' + b"1" * 5000 + b"}", "a number of 5000 digits"),
    (b'{"time_zone": "UTC", "$schema": NaN}', "NaN is not JSON"),
    (b'{"total_budget": 5, "total_budget": 6}', "stands twice"),
    (b'{"total_budget": 5,}', "remove the comma before it"),
    (b'{\n // all\n "total_budget": 5}', "JSON has no comments"),
    (b"{'total_budget': 5}", "is not JSON"),
    (b'{"total_budget": 5', "is not JSON"),
    (b"\xff\xfe{}", "not UTF-8"),
    (b"", "it is empty"),
    (b"[" * 100_000, "nested too deeply"),
    (b" " * (5 << 20), "bytes"),
    (b"[]", "not a JSON object but a list"),
    ({"period": "fortnight"}, "none of second, minute"),
    ({"time_zone": "Europe/Berln"}, "did you mean `Europe/Berlin`"),
    ({"warn_at": 0.5}, "not a list of shares"),
    ({"warn_at": [50]}, "did you mean `0.5`"),
    ({"quotas": {"agent:code": 5}}, "not a list of objects"),
    ({"quotas": [{"limit": 5}]}, "has no `subject`"),
    ({"quotas": [{"subject": "code", "limit": 5}]}, "did you mean `agent:code`"),
    ({"quotas": [{"subject": "*", "limit": 5}]}, "write `total`"),
    ({"quotas": [{"subject": "agent:", "limit": 5}]}, "is not a subject"),
    ({"quotas": [{"subject": "a b:c", "limit": 5}]}, "is not a subject"),
    ({"quotas": [{"subject": "total"}]}, "has no `limit`"),
    ({"quotas": [{"subject": "total", "limit": 5, "hrad": 6}]}, "did you mean `hard`"),
    ({"quotas": [{"subject": "total", "limit": 5, "hard": 6}]}, "stands beside `limit`"),
    ({"quotas": [{"subject": "total", "soft": 6, "hard": 5}]}, "above the limit that stops"),
    ({"quotas": [{"subject": "total", "hard": 5, "enforcement": "soft"}]}, "goes with `limit`"),
    ({"quotas": [{"subject": "total", "limit": 5.5, "unit": "calls"}]}, "not a whole number"),
    ({"quotas": [{"subject": "total", "limit": 10**15 + 1, "unit": "calls"}]}, "up to 1000000000000000"),
    (
        {"quotas": [{"subject": "total", "limit": 5}, {"subject": "total", "limit": 6}]},
        "second quota on total per month",
    ),
    ({"total_budget": 5, "quotas": [{"subject": "total", "limit": 6}]}, "after `total_budget`"),
    ({"quotas": [{"subject": "total", "limit": 5, "stages": {"70%": "stop"}}]}, "did you mean `0.7`"),
    ({"quotas": [{"subject": "total", "limit": 5, "stages": {"0.7": "downgrade"}}]}, "names no model"),
    ({"quotas": [{"subject": "total", "limit": 5, "stages": {"0.7": "aprove"}}]}, "did you mean `approve`"),
    ({"quotas": [{"subject": "total", "limit": 5, "stages": {"0.7": "stop:x"}}]}, "takes nothing after `stop`"),
    ({"quotas": [{"subject": "total", "limit": 5, "stages": {"0.7": "stop", "0.70": "warn"}}]}, "second stage"),
    ({"quotas": [{"subject": "total", "limit": 5, "reserve": 1}]}, "not a share"),
    ({"rate_limits": {"total": "100"}}, "write a rate such as"),
    ({"rate_limits": {"total": "100/dya"}}, "did you mean `100/day`"),
    ({"rate_limits": {"total": "0/day"}}, "is not a rate"),
    ({"rate_limits": {"total": ["5/min", "6/minute"]}}, "second rate for one minute"),
    ({"allocations": {"base_per_agent": 3}}, "without a strategy"),
    ({"allocation_strategy": "equal", "allocations": {}}, "did you mean `equal_base_plus_merit`"),
    ({"allocation_strategy": "equal_base_plus_merit"}, "has no `base_per_agent`"),
    ({"allocation_strategy": "role_based"}, "there are no `roles`"),
    ({"allocation_strategy": "dynamic", "roles": {}}, "no meaning under `dynamic`"),
    ({"allocation_strategy": "dynamic", "total_budget": 5, "allocations": {"pool": 6}}, "what `total_budget` says"),
    (
        {
            "allocation_strategy": "role_based",
            "roles": {"a": {"allocation": 1, "agents": ["x"]}, "b": {"allocation": 1, "agents": ["x"]}},
        },
        "already in `roles.a`",
    ),
    ({"allocation_strategy": "role_based", "roles": {"a": {"allocation": 1, "agents": ["x-*"]}}}, "no agent's name"),
    ({"allocation_strategy": "role_based", "roles": {"a": {"allocation": 1, "agents": []}}}, "names no agents"),
    ({"users": {"alice": "premium"}}, "is not a tier"),
    ({"users": {"alice": "entreprise"}}, "did you mean `enterprise`"),
    ({"users": {"alice": {}}}, "neither `tier` nor `limit`"),
    ({"tiers": {"gold": 0}}, "`unlimited` means no limit"),
    ({"keys": {"a": {"budgt": 5}}}, "did you mean `budget`"),
    ({"keys": {"a": {"alerts": "on"}}}, "neither `enabled` nor `disabled`"),
    ({"production_key": {"limit": 5}}, "is not known here"),
    ({"models": []}, "allows no model"),
    ({"models": {"*": ["a"]}}, "write `total`"),
    ({"models": "a"}, "neither a list"),
    ({"loop_breaker": {"mode": "blok"}}, "did you mean `block`"),
    ({"loop_breaker": {"similar": 21}}, "more than the 20 prompts"),
    ({"loop_breaker": {"freeze_minutes": "1h"}}, "until_thawed"),
    ({"alerts": [{"kind": "webhook", "target": "http://example.com/x"}]}, "https://"),
    ({"alerts": [{"kind": "webhook", "target": "http://localhost.evil.example/x"}]}, "https://"),
    ({"alerts": [{"kind": "file", "target": "alerts.jsonl"}]}, "absolute path"),
    ({"alerts": [{"kind": "command", "target": "mail", "on": ["treshold"]}]}, "did you mean `threshold`"),
    ({"approvals": {"self_approval": "no"}}, "neither true nor false"),
    ({"unreachable": "fail-closed"}, "did you mean `fail_closed`"),
    ({"lowest_output_tokens": 0}, "not a whole number above 0"),
]


@pytest.mark.parametrize(("document", "words"), FAULTS, ids=[words[:40] for _, words in FAULTS])
def test_what_is_wrong_denies_with_words_that_help(document: dict[str, Any] | bytes, words: str) -> None:
    found = faults(document)
    assert any(words in fault for fault in found), found


def test_every_fault_is_told_at_once_with_its_line() -> None:
    text = """{
  "version": 1,
  "total_budget": "10$",
  "quotas": [
    {"subject": "agent:code",
     "limit": -5},
    {
      "subject": "total", "limit": NaN,
      "limit": 1e400
    }
  ],
  "tiers": {"gold":
     0}
}
"""
    with pytest.raises(Malformed) as caught:
        parse_policy(b"\xef\xbb\xbf" + text.encode(), "budget.json")
    assert isinstance(caught.value, MalformedPolicy)
    assert [(line, fault.where) for line, fault in caught.value.faults] == [
        (3, "total_budget"),
        (6, "quotas[0].limit"),
        (9, "quotas[1].limit"),
        (9, "quotas[1].limit"),
        (12, "tiers.gold"),
    ]
    assert "budget.json:6: `quotas[0].limit` -5 is not above 0" in caught.value.message
    assert caught.value.exit_status == 5
    assert json.loads(json.dumps(caught.value.details))["faults"][0]["line"] == 3


def test_what_is_not_there_is_a_fault_on_the_line_of_what_it_belongs_to() -> None:
    with pytest.raises(MalformedPolicy) as caught:
        parse_policy(b'{\n "loop_breaker": {\n  "of_last": 5\n }\n}', "budget.json")
    assert [(line, fault.where) for line, fault in caught.value.faults] == [(2, "loop_breaker.similar")]


def test_a_key_that_was_pasted_in_is_not_repeated() -> None:
    secret = "sk-or-v1-0123456789abcdef"
    for document in (
        {"total_budget": secret},
        {"keys": {"a": secret}},
        {secret: 1},
        {"quotas": [{"subject": secret}]},
        {"tags": {"required": [secret + "!"]}},
    ):
        with pytest.raises(MalformedPolicy) as caught:
            load(document)
        assert secret not in caught.value.message + caught.value.hint + json.dumps(caught.value.details)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b'{"quotas": [{"subject": "agent:a", "limit": 1}], "quotas": 5}')
@example(b'{"": {"": [{"": "')
@example(b'{"a": "\\"}')
def test_any_bytes_are_a_policy_or_a_clear_error(data: bytes) -> None:
    try:
        parse_policy(data, "budget.json")
    except Malformed as error:
        assert error.message.startswith("budget.json")


def test_a_policy_with_twenty_quotas_is_read_in_less_than_two_milliseconds() -> None:
    stages = {"0.7": "downgrade:openai/gpt-4o-mini", "0.9": "approve", "1": "stop"}
    quotas = [{"subject": f"agent:a{n}", "limit": "5.00", "period": "day", "stages": stages} for n in range(20)]
    data = json.dumps({"enforcement": "hard", "total_budget": 15, "quotas": quotas}).encode()

    def seconds() -> float:
        start = time.process_time()
        parse_policy(data, "budget.json")
        return time.process_time() - start

    assert min(seconds() for _ in range(20)) < 0.002


# Doubts


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"total_budget": 5}, "warn and do not stop"),
        ({"enforcement": "hard", "quotas": [{"subject": "agent:code", "limit": 5}]}, "without the tag agent"),
        ({"quotas": [{"subject": "agnet:code", "limit": 5}]}, "did you mean `agent:code`"),
        ({"total_budget": 5, "quotas": [{"subject": "agent:code", "limit": 6}]}, "the total stops first"),
        ({"enforcement": "soft", "quotas": [{"subject": "total", "limit": 5, "stages": {"1": "stop"}}]}, "do not act"),
        (
            {
                "models": ["anthropic/*"],
                "quotas": [{"subject": "total", "limit": 5, "stages": {"0.7": "downgrade:openai/mini"}}],
            },
            "leads to openai/mini",
        ),
        ({"unreachable": "fail_open", "quotas": [{"subject": "total", "hard": 5}]}, "fail_closed"),
        (
            {
                "allocation_strategy": "role_based",
                "total_budget": 9,
                "roles": {"a": {"allocation": 5, "agents": ["x", "y"]}},
            },
            "hands out $10.00, the total is $9.00",
        ),
        ({"allocation_strategy": "role_based", "roles": {"a": {"allocation": 5, "agents": ["x"]}}}, "in no role"),
        ({"allocation_strategy": "dynamic"}, "no budget to draw on"),
        (
            {
                "allocation_strategy": "equal_base_plus_merit",
                "allocations": {"base_per_agent": 1, "merit_pool": 1, "weights": "value"},
            },
            "quota allocate",
        ),
    ],
)
def test_what_is_allowed_but_hardly_meant_is_told(document: dict[str, Any], words: str) -> None:
    found = [f"{doubt.source} {doubt.message}, {doubt.advice}" for doubt in doubts(load(document))]
    assert any(words in text for text in found), found


def test_a_policy_that_says_what_it_means_raises_no_doubts() -> None:
    document = {
        "enforcement": "hard",
        "total_budget": 15,
        "allocation_strategy": "role_based",
        "roles": {"a": {"allocation": 5, "agents": ["code", "chat"]}, "shared_pool": 5},
        "quotas": [{"subject": "session:*", "limit": 2}, {"subject": "team:search", "limit": 3}],
        "tags": {"required": ["agent"]},
    }
    assert doubts(load(document)) == []


# The schema


def valid(document: object) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(document))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


# What only reading finds, because it needs to compare two places or to know the world.
SENSE = (
    "second quota on",
    "already in `roles",
    "stands twice",
    "is not a tier",
    "above the limit that stops",
    "what `total_budget` says",
    "not a name such as `Europe/Berlin`",
    "second rate for one",
    "second stage",
    "no agent's name",
    "more than the",
    "above the",
    "has no weight above 0",
    "among `allocations.agents`",
    "is an alias itself",
    "is not a tag's name",
    "cannot be the value of a tag",
)


@pytest.mark.parametrize("document", [document for document, _ in FAULTS if not isinstance(document, bytes)], ids=str)
def test_the_schema_refuses_what_reading_refuses(document: dict[str, Any]) -> None:
    if not any(sense in fault for fault in faults(document) for sense in SENSE):
        assert not valid(document)


def _places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


def _changed(document: Any, path: tuple[Any, ...], value: object, drop: bool) -> Any:
    result = copy.deepcopy(document)
    target = result
    for step in path[:-1]:
        target = target[step]
    if drop:
        del target[path[-1]]
    else:
        target[path[-1]] = copy.deepcopy(value)
    return result


OTHERS = [
    {
        "allocation_strategy": "equal_base_plus_merit",
        "total_budget": 15.0,
        "allocations": {
            "base_per_agent": "3.00",
            "merit_pool": 6,
            "agents": ["code", "chat"],
            "weights": {"code": 1, "chat": "0.5"},
        },
        "models": ["anthropic/*"],
        "loop_breaker": {"mode": "off", "freeze_minutes": "until_thawed", "times_busiest": "2.5"},
        "production_key": {"budget": 15, "allowed_models": ["claude-3-haiku"], "rate_limit": "50/day", "alerts": True},
    },
    {
        "allocation_strategy": "dynamic",
        "allocations": {"pool": 20, "cap_per_agent": "4"},
        "users": {"*": None, "a": "unlimited", "b": "12.5"},
        "quotas": [{"subject": "total", "soft": 40, "period": "year", "reserve": "0.5", "warn_at": ["1.0"]}],
    },
]  # fmt: skip
VALUES: list[object] = [
    None, True, False, 0, 1, -1, 2, 0.5, 1.5, 1000, 10**9, 10**15, 10**16, "", " ", "0", "1", "0.5", "1.0", "1.5", "-1",
    "10$", "1e3", "１", "x", "agent:x", "total", "session:*", "a:b:c", ":x", "agent:", "day", "hard", "stop", "warn",
    "downgrade:m", "downgrade:", "unlimited", "free", "value", "5/min", "5/", "/day", "0/day", "enabled", "5\n", "*",
    "https://x", "/x", "http://localhost:1/", "until_thawed", [], [0.5], [0], ["x"], [""], [None], ["5/s", "6/m"], {},
    {"x": 1}, {"allocation": 1}, {"limit": 1}, {"tier": "free"}, {"subject": "total", "limit": 1},
    [{"subject": "total", "limit": 1}],
]  # fmt: skip


@st.composite
def changed_documents(draw: st.DrawFn) -> Any:
    document = draw(st.sampled_from([EXAMPLE, *OTHERS]))
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from([path for path in _places(document) if path]))
        if isinstance(path[-1], str) and draw(st.booleans()):
            path = (*path[:-1], draw(st.sampled_from(["limit", "hard", "agents", "x", "x_key", "agent:y", "0.7", "1"])))
        parent = document
        for step in path[:-1]:
            parent = parent[step]
        present = not isinstance(parent, dict) or path[-1] in parent
        document = _changed(document, path, draw(st.sampled_from(VALUES)), present and draw(st.booleans()))
    return document


@given(changed_documents())
def test_what_is_valid_by_the_schema_loads_and_what_is_not_does_not(document: Any) -> None:
    found = faults(document)
    if valid(document):
        assert [fault for fault in found if not any(sense in fault for sense in SENSE)] == []
    else:
        assert found != []


def test_the_example_is_valid_and_loads() -> None:
    assert valid(EXAMPLE)
    assert faults(EXAMPLE) == []
