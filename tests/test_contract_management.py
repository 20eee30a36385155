"""Each request about keys and guardrails, held against OpenRouter's own OpenAPI document: what breaks it is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from callmeter.providers.management import Declined, Management
from callmeter.providers.plain import PlainTransport
from callmeter.words.money import NANO

HASH = "f01d52606dc8f0a8303a7b5cc3fa07109c2e346cec7c0a16b40de462992ce943"
RAIL = "550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture
def account(contract_server: str) -> Management:
    return Management(
        PlainTransport(None, None), contract_server, "sk-or-mgmt-x", pause=lambda s: None, monotonic=time.monotonic
    )


REQUESTS: dict[str, Callable[[Management], object]] = {
    "one key": lambda account: account.key(HASH),
    "mint": lambda account: account.mint("a", limit=NANO // 100, reset="monthly"),
    "mint for ever, without a limit": lambda account: account.mint("a", limit=None),
    "mint with an end": lambda account: account.mint("a", limit=5, expires=datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)),
    "limit": lambda account: account.change(HASH, {"limit": Decimal("4.70"), "limit_reset": "weekly"}),
    "no limit": lambda account: account.change(HASH, {"limit": None, "limit_reset": None}),
    "disable": lambda account: account.change(HASH, {"disabled": True}),
    "delete": lambda account: account.delete(HASH),
    "guardrails": lambda account: account.guardrails(),
    "who has which guardrail": lambda account: account.assignments(),
    "a guardrail": lambda account: account.create_guardrail(
        {"name": "callmeter a", "allowed_models": ["openai/gpt-4"]}
    ),
    "another list of models": lambda account: account.change_guardrail(RAIL, {"allowed_models": ["openai/gpt-4"]}),
    "assign": lambda account: account.assign_guardrail(RAIL, [HASH]),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_keeps_the_contract_and_its_answer_is_understood(account: Management, name: str) -> None:
    found = REQUESTS[name](account)
    assert found is None or found or name == "guardrails"


def test_a_key_asks_about_itself(account: Management) -> None:
    standing = account.standing("sk-or-v1-x")
    assert standing is not None and standing.limit_reset in ("", "daily", "weekly", "monthly")


def test_the_list_of_keys_is_asked_for_with_disabled_ones_page_by_page(
    account: Management, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The contract server has no end: it shows the same page again and again.
    monkeypatch.setattr("callmeter.providers.management._MAX_PAGES", 3)
    with pytest.raises(Exception, match="has no end"):
        account.all_keys()


def test_the_contract_bites(account: Management) -> None:
    with pytest.raises(Declined) as refused:
        account.change(HASH, {"limit_reset": "hourly"})
    assert refused.value.status in (400, 422)
