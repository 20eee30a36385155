"""What an endpoint's answer means, read as endpoints really write it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from callmeter.providers.chat import Answer, Usage, headers_of, read_answer, read_usage
from callmeter.providers.presets import Provider
from callmeter.words.jsontext import dumps

SAID = {"prompt_tokens": 10, "completion_tokens": 5}


class Body:
    """A response of one piece."""

    def __init__(self, data: bytes, media: str = "application/json") -> None:
        self.status = 200
        self.headers = {"content-type": media}
        self._data = data

    def chunks(self) -> Iterator[bytes]:
        yield self._data

    def close(self) -> None:
        pass


def read(document: object) -> tuple[Answer, list[Usage]]:
    """The answer in a document, and what was heard of its usage on the way."""
    answer, heard = Answer(200, None), list[Usage]()
    read_answer(Body(dumps(document).encode()), on_text=lambda text: None, on_usage=heard.append, answer=answer)
    return answer, heard


def test_a_usage_of_zeros_beside_an_error_says_nothing_of_what_the_call_cost() -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0}
    answer, heard = read({"error": {"code": 500, "message": "out"}, "usage": zeros})
    assert answer.failure is not None
    assert (answer.usage, heard) == (None, [])
    choices = [{"message": {"content": "half"}, "finish_reason": "error"}]
    answer, heard = read({"error": {"code": 500, "message": "out"}, "choices": choices, "usage": {**SAID, "cost": 1}})
    assert answer.usage is heard[0] and answer.usage.cost == 1


def test_parts_of_the_prompt_and_the_answer_never_exceed_them() -> None:
    details = {"cached_tokens": 900, "cache_write_tokens": 900}
    usage = read_usage(
        {**SAID, "prompt_tokens_details": details, "completion_tokens_details": {"reasoning_tokens": 900}}
    )
    assert usage.tokens is not None
    assert (usage.tokens["cached"], usage.tokens["cache_write"], usage.tokens["reasoning"]) == (10, 0, 5)
    details = {"cached_tokens": 4, "cache_write_tokens": 3}
    usage = read_usage({**SAID, "prompt_tokens_details": details})
    assert usage.tokens is not None
    assert (usage.tokens["in"], usage.tokens["cached"], usage.tokens["cache_write"]) == (10, 4, 3)


@pytest.mark.parametrize("cost", [-1, "NaN", "1e400", "much", True, [], {"total_cost": -1}, None])
def test_a_cost_that_is_no_amount_was_not_said(cost: Any) -> None:
    assert read_usage({**SAID, "cost": cost}).cost is None


def test_with_a_key_of_ones_own_the_cost_is_the_fee_and_what_the_provider_charges() -> None:
    own = {**SAID, "cost": Decimal("0.01"), "is_byok": True}
    assert read_usage({**own, "cost_details": {"upstream_inference_cost": Decimal("0.2")}}).cost == Decimal("0.21")
    assert read_usage(own).cost is None, "the fee alone is not the cost"
    shared = {**own, "is_byok": False, "cost_details": {"upstream_inference_cost": Decimal("0.2")}}
    assert read_usage(shared).cost == Decimal("0.01")


def test_a_header_of_ones_own_goes_along_only_with_all_its_tags_and_in_ascii() -> None:
    provider = Provider(
        "mine", "https://x.example/v1", send=(), headers={"X-Who": "{agent}/{session}", "X-Team": "search"}
    )
    headers = headers_of(provider, "k", {"agent": "code", "session": "s-ü"}, send_tags=True)
    assert (headers["X-Who"], headers["X-Team"]) == ("code/s-%C3%BC", "search")
    assert "X-Who" not in headers_of(provider, "k", {"agent": "code"}, send_tags=True)
    assert not {"X-Who", "X-Team"} & headers_of(provider, "k", {"agent": "code"}, send_tags=False).keys()
