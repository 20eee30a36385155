"""The management API's client against an account with its state, its pages, its lags and its bad days."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from callmeter.providers.management import Declined, Management, Unsure
from callmeter.providers.plain import PlainTransport
from callmeter.words.errors import NoKey, Unavailable
from servers.openrouter import OpenRouter

CENT = 10_000_000


@pytest.fixture
def router() -> Iterator[OpenRouter]:
    with OpenRouter(page=3) as router:
        yield router


def client(router: OpenRouter, secret: str = "", pauses: list[float] | None = None, timeout: float = 5.0) -> Management:
    waited = pauses if pauses is not None else []
    return Management(
        PlainTransport(None, None),
        router.base_url,
        secret or router.management_key,
        pause=waited.append,
        monotonic=time.monotonic,
        timeout=timeout,
    )


def test_a_minted_key_has_its_ceiling_its_window_and_its_last_day(router: OpenRouter) -> None:
    until = datetime(2027, 2, 19, 12, tzinfo=UTC)
    key, secret = client(router).mint("code cm-1-1", limit=CENT, reset="monthly", expires=until)
    assert (key.name, key.limit, key.limit_reset, key.expires, key.usage) == ("code cm-1-1", CENT, "monthly", until, 0)
    assert router.record(secret).limit == Decimal("0.01")
    assert client(router).key(key.hash) == key


def test_a_key_that_answers_in_the_older_shape_is_taken_too() -> None:
    with OpenRouter(nested_key=True) as router:
        key, secret = client(router).mint("code", limit=None)
        assert router.record(secret).hash == key.hash


def test_all_pages_are_read_disabled_keys_too(router: OpenRouter) -> None:
    for number in range(10):
        router.give_key(f"k{number}")
    keys = client(router).all_keys()
    client(router).change(keys[0].hash, {"disabled": True})
    assert sorted(key.name for key in client(router).all_keys()) == sorted(f"k{number}" for number in range(10))
    assert sum(key.disabled for key in client(router).all_keys()) == 1


def test_changing_sets_absolute_values_and_a_key_that_is_gone_is_none(router: OpenRouter) -> None:
    router.give_key("code", limit="5", reset="daily")
    (key,) = client(router).all_keys()
    changed = client(router).change(key.hash, {"limit": Decimal("0.75"), "disabled": True})
    assert changed is not None and (changed.limit, changed.disabled) == (75 * CENT, True)
    assert client(router).delete(key.hash)
    assert not client(router).delete(key.hash)
    assert client(router).change(key.hash, {"disabled": False}) is None
    assert client(router).key(key.hash) is None


@pytest.mark.parametrize(
    "kind", ["lost before", "lost after", "half", "500 before", "500 after", "html", "empty", "list"]
)
def test_a_mint_whose_outcome_is_unknown_is_not_tried_again(router: OpenRouter, kind: str) -> None:
    router.fault("POST", "/keys", kind)
    with pytest.raises(Unsure):
        client(router).mint("code", limit=CENT)
    assert [method for method, _ in router.requests] == ["POST"]
    assert len(router.keys) == (kind not in ("lost before", "500 before", "html"))


@pytest.mark.parametrize("kind", ["lost before", "lost after", "half", "500 before", "500 after", "429", "html"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_what_can_be_asked_twice_is_asked_until_it_is_answered(router: OpenRouter, method: str, kind: str) -> None:
    router.give_key("code")
    (key,) = client(router).all_keys()
    router.fault(method, "/keys/.+", kind, times=2)
    pauses: list[float] = []
    one = client(router, pauses=pauses)
    if method == "GET":
        assert one.key(key.hash) == key
    elif method == "PATCH":
        changed = one.change(key.hash, {"limit": Decimal(1)})
        assert changed is not None and changed.limit == 100 * CENT
    else:
        one.delete(key.hash)
        assert not router.keys
    assert pauses and max(pauses) <= 30


def test_a_provider_that_stays_away_is_told_after_some_attempts(router: OpenRouter) -> None:
    router.fault("GET", "/keys", "500 before", times=9)
    with pytest.raises(Unavailable, match="answered with status 500"):
        client(router).all_keys()
    assert len(router.requests) == 5


def test_a_slow_mint_is_unsure_and_may_take_effect_later(router: OpenRouter) -> None:
    router.late_seconds = 60.0
    router.fault("POST", "/keys", "late")
    with pytest.raises(Unsure):
        client(router, timeout=1.5).mint("code", limit=CENT)
    assert not router.keys
    router.wait_until_quiet()
    assert len(router.keys) == 1


def test_a_declined_mint_made_nothing_and_says_why(router: OpenRouter) -> None:
    with pytest.raises(Declined, match="name: Required"):
        client(router).mint("", limit=CENT)
    router.fault("POST", "/keys", "429")
    with pytest.raises(Declined):
        client(router).mint("code", limit=CENT)
    assert not router.keys


def test_an_inference_key_manages_nothing_and_a_management_key_is_told_apart(router: OpenRouter) -> None:
    secret = router.give_key("code", limit="2", reset="weekly")
    with pytest.raises(NoKey, match="Only management keys"):
        client(router, secret).all_keys()
    standing = client(router).standing(secret)
    assert standing is not None and (standing.limit, standing.limit_remaining) == (200 * CENT, 200 * CENT)
    assert client(router).standing("sk-or-v1-" + "0" * 64) is None


def test_the_providers_clock_is_read_from_its_answers(router: OpenRouter) -> None:
    one = client(router)
    one.all_keys()
    assert one.provider_time is not None
    assert abs((one.provider_time - router.now()).total_seconds()) < 60


def test_guardrails_are_made_changed_and_assigned(router: OpenRouter) -> None:
    router.give_key("code")
    (key,) = client(router).all_keys()
    rail = client(router).create_guardrail({"name": "callmeter code", "allowed_models": ["a/b"]})
    client(router).assign_guardrail(str(rail["id"]), [key.hash])
    client(router).change_guardrail(str(rail["id"]), {"allowed_models": ["a/b", "a/c"]})
    assert client(router).assignments() == [(str(rail["id"]), key.hash)]
    assert client(router).guardrails()[0]["allowed_models"] == ["a/b", "a/c"]


def test_no_error_shows_a_key(router: OpenRouter) -> None:
    secret = router.give_key("code")
    for act in (lambda: client(router, secret).all_keys(), lambda: client(router, "sk-or-v1-" + "e" * 64).all_keys()):
        with pytest.raises(NoKey) as caught:
            act()
        assert "sk-or" not in repr(caught.value) + caught.value.message


def test_guardrails_and_who_has_them_are_read_over_all_pages(router: OpenRouter) -> None:
    router.page = 2
    account = client(router)
    wanted = []
    for number in range(5):
        router.give_key(f"key {number}")
        rail = account.create_guardrail({"name": f"callmeter {number}", "allowed_models": ["a/b"]})
        account.assign_guardrail(str(rail["id"]), [router.keys[-1].hash])
        wanted.append((str(rail["id"]), router.keys[-1].hash))
    assert len(account.guardrails()) == 5
    assert account.assignments() == wanted
