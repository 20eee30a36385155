"""What is wrong or doubtful about a policy: every fault at once, with its line and what to write instead."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callmeter.policy.document import MalformedPolicy, Policy, parse_policy
from callmeter.policy.doubts import doubts
from callmeter.words.errors import Malformed


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
    ({"alerts": [{"kind": "webhook", "target": "http://localhost:x@evil.example/x"}]}, "https://"),
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


def test_reading_a_policy_with_twenty_quotas_takes_less_than_a_hundred_times_what_its_json_does() -> None:
    stages = {"0.7": "downgrade:openai/gpt-4o-mini", "0.9": "approve", "1": "stop"}
    quotas = [{"subject": f"agent:a{n}", "limit": "5.00", "period": "day", "stages": stages} for n in range(20)]
    data = json.dumps({"enforcement": "hard", "total_budget": 15, "quotas": quotas}).encode()

    def seconds(read: Callable[[], object]) -> float:
        start = time.process_time()
        read()
        return time.process_time() - start

    policy = min(seconds(lambda: parse_policy(data, "budget.json")) for _ in range(20))
    assert policy < 100 * min(seconds(lambda: json.loads(data)) for _ in range(20))


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


def test_an_error_names_the_first_faults_and_counts_the_others() -> None:
    document = "{" + ", ".join(f'"wrong{n}": 1' for n in range(9)) + "}"
    with pytest.raises(MalformedPolicy) as caught:
        parse_policy(document.encode(), "budget.json")
    assert len(caught.value.faults) == 9
    assert "wrong2" in caught.value.message and "wrong3" not in caught.value.message
    assert caught.value.message.endswith("; and 6 more faults")


@pytest.mark.parametrize(
    ("quota", "advice"),
    [
        ({"subject": "agent;code", "limit": 1}, "did you mean `agent:code`?"),
        ({"subject": "purpose=triage", "limit": 1}, "did you mean `purpose:triage`?"),
        ({"subject": "code", "limit": 1}, "did you mean `agent:code`?"),
        ({"subject": "total", "limit": "20calls"}, 'write `20`, and `"unit": "calls"` beside it'),
        ({"subject": "total", "limit": "100 tok"}, 'write `100`, and `"unit": "tokens"` beside it'),
    ],
)
def test_what_was_probably_meant_is_said(quota: dict[str, object], advice: str) -> None:
    with pytest.raises(MalformedPolicy) as caught:
        parse_policy(json.dumps({"quotas": [quota]}).encode(), "budget.json")
    assert [fault.advice for _, fault in caught.value.faults] == [advice]
