"""What calls cost and may cost: amounts by time, prompt size and service tier, and bounds that hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.policy.estimate import Prompt, estimate, expected_tokens, measure
from callmeter.policy.price_listing import listing_lines
from callmeter.policy.price_overrides import BadOverride, parse_overrides
from callmeter.policy.prices import (
    DAYS,
    FREE,
    PER_PIECE,
    PER_TOKEN,
    Price,
    Rate,
    cost,
    from_json,
    from_openrouter,
    to_json,
)
from callmeter.words.jsontext import dumps, loads
from callmeter.words.money import nano

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)  # a Saturday


def per_million(**amounts: str) -> dict[str, Decimal]:
    return {
        name.removesuffix("_"): Decimal(text).scaleb(-6) if name.removesuffix("_") in PER_TOKEN else Decimal(text)
        for name, text in amounts.items()
    }


def one(**amounts: str) -> Price:
    return Price((Rate(per_million(**amounts)),))


def tokens(**counts: int) -> dict[str, int]:
    return {name.removesuffix("_"): count for name, count in counts.items()}


# Cost


def test_each_kind_of_token_costs_its_own_price_and_nothing_is_counted_twice() -> None:
    price = one(in_="3", out="15", cached="0.3", cache_write="3.75", cache_write_1h="6", reasoning="20", request="0.01")
    used = tokens(in_=1000, out=500, cached=100, cache_write=200, cache_write_1h=300, reasoning=50)
    by_hand = (400 * 3 + 450 * 15 + 100 * Decimal("0.3") + 200 * Decimal("3.75") + 300 * 6 + 50 * 20) / Decimal(10**6)
    assert cost(price, used, NOW) == by_hand + Decimal("0.01")


def test_a_kind_without_a_price_of_its_own_costs_what_the_plain_kind_costs() -> None:
    used = tokens(in_=1000, out=500, cached=100, cache_write=200, cache_write_1h=300, reasoning=50)
    assert cost(one(in_="3", out="15"), used, NOW) == cost(one(in_="3", out="15"), tokens(in_=1000, out=500), NOW)
    hour = tokens(in_=10, cache_write_1h=10)
    assert cost(one(in_="3", out="15", cache_write="4"), hour, NOW) == Decimal("0.00004")


def test_an_unknown_price_is_none_and_a_price_of_zero_is_zero() -> None:
    assert cost(Price(()), tokens(in_=5, out=5), NOW) is None
    assert cost(one(in_="3"), tokens(in_=5, out=5), NOW) is None
    assert cost(one(in_="3"), tokens(in_=5), NOW) == Decimal("0.000015")
    assert cost(FREE, tokens(in_=5, out=5, cached=2, reasoning=1), NOW) == 0


def test_parts_that_exceed_their_whole_are_counted_in_full() -> None:
    assert cost(one(in_="3", out="15", cached="1"), tokens(in_=5, cached=8, out=0), NOW) == Decimal("0.000008")


@pytest.mark.parametrize(("size", "amount"), [(199_999, 1), (200_000, 1), (200_001, 2), (900_001, 4)])
def test_a_long_prompt_has_its_price_for_every_token_from_the_first_above_the_threshold(size: int, amount: int) -> None:
    price = Price(
        (
            Rate(per_million(in_="1", out="0")),
            Rate(per_million(in_="2"), above=200_000),
            Rate(per_million(in_="4"), above=900_000),
        )
    )
    assert cost(price, tokens(in_=size), NOW) == size * amount / Decimal(10**6)


@pytest.mark.parametrize(
    ("clock", "expected"),
    [("22:29", 9), ("22:30", 5), ("23:59", 5), ("00:00", 5), ("06:14", 5), ("06:15", 9), ("12:00", 9)],
)
def test_a_window_of_hours_may_pass_midnight_and_ends_before_its_end(clock: str, expected: int) -> None:
    price = Price((Rate(per_million(in_="9")), Rate(per_million(in_="5"), start=22 * 60 + 30, end=6 * 60 + 15)))
    at = datetime.fromisoformat(f"2026-11-21T{clock}:00+00:00")
    assert cost(price, tokens(in_=1_000_000), at) == expected


def test_hours_and_weekdays_are_those_of_utc_wherever_the_caller_is() -> None:
    price = Price((Rate(per_million(in_="9")), Rate(per_million(in_="5"), days=(5,))))
    sunday_in_auckland = datetime(2026, 11, 22, 8, 0, tzinfo=timezone(timedelta(hours=13)))
    assert cost(price, tokens(in_=1_000_000), sunday_in_auckland) == 5
    assert cost(price, tokens(in_=1_000_000), sunday_in_auckland + timedelta(hours=5)) == 9


def test_a_call_has_the_price_of_its_date() -> None:
    price = Price(
        (
            Rate(per_million(in_="3", out="15", cached="1")),
            Rate(per_million(in_="2", out="10"), since=datetime(2026, 6, 1, tzinfo=UTC), whole=True),
            Rate(per_million(in_="1"), until=datetime(2026, 1, 1, tzinfo=UTC)),
        )
    )
    used = tokens(in_=1_000_000, cached=1_000_000)
    assert cost(price, used, datetime(2026, 5, 31, 23, 59, tzinfo=UTC)) == 1
    assert cost(price, used, datetime(2026, 6, 1, tzinfo=UTC)) == 2, "a new list forgets the old one's cache price"
    assert cost(price, tokens(in_=1_000_000), datetime(2025, 12, 31, tzinfo=UTC)) == 1


def test_a_service_tier_has_its_price_only_where_it_was_asked_for() -> None:
    price = Price((Rate(per_million(in_="2")), Rate(per_million(in_="4"), service="priority")))
    assert cost(price, tokens(in_=1_000_000), NOW) == 2
    assert cost(price, tokens(in_=1_000_000), NOW, "priority") == 4
    assert cost(price, tokens(in_=1_000_000), NOW, "flex") == 2


# Properties

amounts = st.decimals(min_value=0, max_value=1000, places=6)
counts = st.integers(min_value=0, max_value=10**7)


@st.composite
def rates(draw: st.DrawFn, *, base: bool = False) -> Rate:
    names = draw(st.sets(st.sampled_from(PER_TOKEN + PER_PIECE)))
    if base:
        names |= {"in", "out"}
    found = {name: draw(amounts).scaleb(-6) if name in PER_TOKEN else draw(amounts) for name in sorted(names)}
    if base:
        return Rate(found)
    instants = st.datetimes(
        min_value=datetime(2026, 11, 19), max_value=datetime(2026, 11, 23), timezones=st.just(UTC)
    ).map(lambda instant: instant.replace(microsecond=0))
    return Rate(
        found,
        since=draw(st.none() | instants),
        until=draw(st.none() | instants),
        start=draw(st.integers(0, 1439)),
        end=draw(st.integers(0, 1439)),
        days=tuple(sorted(draw(st.sets(st.integers(0, 6), max_size=3)))),
        above=draw(st.integers(-1, 300_000)),
        service=draw(st.sampled_from(("", "flex", "priority"))),
        whole=draw(st.booleans()) and {"in", "out"} <= names,
    )


prices = st.builds(lambda first, others: Price((first, *others)), rates(base=True), st.lists(rates(), max_size=4))


@st.composite
def usages(draw: st.DrawFn, most_in: int = 10**7, most_out: int = 10**7) -> dict[str, int]:
    parts = draw(st.lists(st.integers(0, most_in // 4), min_size=4, max_size=4))
    out = draw(st.integers(0, most_out))
    return {
        "in": sum(parts),
        "cached": parts[0],
        "cache_write": parts[1],
        "cache_write_1h": parts[2],
        "out": out,
        "reasoning": draw(st.integers(0, out)),
    }


@given(prices, usages())
def test_the_parts_of_a_cost_add_up(price: Price, used: dict[str, int]) -> None:
    base = Price(price.rates[:1])
    whole = cost(base, used, NOW)
    fee = base.amounts(NOW).get("request", Decimal(0))
    plain = {"in": used["in"] - used["cached"] - used["cache_write"] - used["cache_write_1h"]}
    parts = [
        plain,
        {"out": used["out"] - used["reasoning"]},
        {"out": used["reasoning"], "reasoning": used["reasoning"]},
    ]
    parts += [{"in": used[name], name: used[name]} for name in ("cached", "cache_write", "cache_write_1h")]
    costs = [cost(base, part, NOW) for part in parts]
    assert whole is not None and None not in costs
    assert whole == sum((part - fee for part in costs if part is not None), fee)


@given(prices, usages(), counts, counts)
def test_more_tokens_of_a_kind_never_cost_less(price: Price, used: dict[str, int], more_in: int, more_out: int) -> None:
    base = Price(price.rates[:1])
    more = {**used, "in": used["in"] + more_in, "out": used["out"] + more_out}
    less_cost, more_cost = cost(base, used, NOW), cost(base, more, NOW)
    assert less_cost is not None and more_cost is not None
    assert more_cost >= less_cost


@given(prices, usages(), st.sampled_from(("", "flex")))
def test_a_price_survives_being_written_and_read(price: Price, used: dict[str, int], service: str) -> None:
    written = dumps(to_json(price))
    again = from_json(loads(written))
    assert dumps(to_json(again)) == written
    for hours in range(0, 96, 5):
        at = datetime(2026, 11, 19, tzinfo=UTC) + timedelta(hours=hours)
        assert cost(again, used, at, service) == cost(price, used, at, service)


@given(
    prices,
    st.integers(0, 400_000),
    st.integers(0, 3),
    st.integers(0, 100_000),
    st.sampled_from(("", "priority")),
    st.integers(-12, 12),
    st.data(),
)
def test_the_worst_case_covers_every_call_that_keeps_to_its_ceiling(
    price: Price, size: int, images: int, ceiling: int, service: str, hours: int, data: st.DataObject
) -> None:
    prompt = Prompt(size, size // 4, 3, images)
    figures = estimate(price, prompt, ceiling, NOW, service=service)
    # The provider's clock may stand elsewhere in the day, and its count of tokens anywhere up to one a byte.
    used = data.draw(usages(figures.most_input_tokens, ceiling))
    dated = [rate for rate in price.rates if rate.valid(NOW, service)]
    undated = Price(
        tuple(Rate(r.amounts, start=r.start, end=r.end, days=r.days, above=r.above, whole=r.whole) for r in dated)
    )
    real = cost(undated, used, NOW + timedelta(hours=hours), images=images)
    assert real is not None and figures.worst is not None and figures.expected is not None
    assert figures.worst >= real
    assert figures.worst >= figures.expected
    assert figures.worst == Decimal(nano(figures.worst)).scaleb(-9), "rounded up to the nano-dollar"


@given(st.text(max_size=500))
def test_text_is_never_expected_to_have_more_tokens_than_bytes(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    assert 0 <= expected_tokens(data) <= len(data)
    assert (expected_tokens(data) > 0) == bool(data)


# Estimates


def test_an_estimate_knows_the_cost_of_an_ordinary_question() -> None:
    prompt = measure([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a meter?"}])
    figures = estimate(one(in_="3", out="15"), prompt, 100, NOW)
    assert (prompt.messages, prompt.images, prompt.bounded, prompt.text_bytes) == (2, 0, True, 25)
    dearest, cheapest = (tokens * Decimal("0.000003") + 100 * Decimal("0.000015") for tokens in (25, 8))
    assert figures.expected is not None and cheapest <= figures.expected <= dearest


def test_a_new_price_list_forgets_the_fees_of_the_old_one_in_the_worst_case_too() -> None:
    old = Rate({"in": Decimal("0.000001"), "out": Decimal("0.000002"), "request": Decimal(1)})
    new = Rate({"in": Decimal("0.000003"), "out": Decimal("0.000004")}, whole=True)
    price = Price((old, new))
    assert price.highest(NOW, 10) == price.amounts(NOW, 10) == dict(new.amounts)


def test_the_worst_case_has_room_for_what_chat_templates_put_around_a_question() -> None:
    one_token = Decimal("0.000001")
    asked = estimate(one(in_="1", out="1"), measure([{"role": "user", "content": "hi"}]), 0, NOW)
    assert asked.expected is not None and asked.worst is not None
    assert asked.expected <= 10 * one_token
    assert asked.worst >= (350 + 2) * one_token  # the preamble for tools alone has some 350 tokens at Anthropic


def test_a_cache_write_that_is_dearer_than_plain_input_sets_the_worst_case() -> None:
    plain = estimate(one(in_="3", out="15"), Prompt(10_000, 3_000), 0, NOW).worst
    cached = estimate(one(in_="3", out="15", cache_write_1h="6"), Prompt(10_000, 3_000), 0, NOW).worst
    assert plain is not None and cached == 2 * plain


def test_reasoning_that_is_dearer_than_text_sets_the_worst_case() -> None:
    figures = estimate(one(in_="0", out="10", reasoning="20"), Prompt(0, 0), 1_000_000, NOW)
    assert (figures.expected, figures.worst) == (10, 20)


def test_a_prompt_is_never_taken_for_longer_than_the_models_context() -> None:
    figures = estimate(one(in_="1", out="0"), Prompt(5_000_000, 2_000_000), 0, NOW, context=128_000)
    assert figures.worst == figures.expected == Decimal("0.128")


def test_without_a_price_or_a_known_size_there_is_no_worst_case() -> None:
    unknown = estimate(None, Prompt(10, 3), 100, NOW)
    assert (unknown.expected, unknown.worst) == (None, None)
    assert estimate(one(in_="3"), Prompt(10, 3), 100, NOW).worst is None
    audio = measure([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "…"}}]}])
    figures = estimate(one(in_="3", out="15"), audio, 100, NOW)
    assert figures.expected is not None and figures.worst is None


def test_a_free_model_is_estimated_at_zero() -> None:
    figures = estimate(FREE, Prompt(1_000, 300, images=2), 4096, NOW)
    assert (figures.expected, figures.worst) == (0, 0)


def test_images_count_by_their_number_not_by_the_length_of_their_data() -> None:
    def picture(data: str) -> dict[str, object]:
        parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": data}}]
        return {"role": "user", "content": parts}

    short, long = measure([picture("https://x/y.png")]), measure([picture("data:image/png;base64," + "A" * 10**6)])
    assert (short.images, short.text_bytes) == (long.images, long.text_bytes) == (1, 4)
    price = one(in_="1", out="0", image="0.5")
    none = estimate(price, Prompt(4, 1), 0, NOW).worst
    with_one = estimate(price, short, 0, NOW).worst
    mini = estimate(price, short, 0, NOW, model="openai/gpt-4o-mini").worst
    assert none is not None and with_one is not None and mini is not None
    assert with_one - none > Decimal("0.5")
    assert mini - with_one == Decimal("0.031785"), "48,169 tokens instead of 16,384"


def test_tools_and_schemas_that_travel_in_the_prompt_are_counted() -> None:
    message = [{"role": "user", "content": "hi"}]
    assert measure(message, ['{"type":"object"}']).text_bytes == measure(message).text_bytes + 17


# OpenRouter's listing


def test_openrouters_prices_are_read_with_their_overrides() -> None:
    price = from_openrouter(
        {
            "pricing": {
                "prompt": "0.000003",
                "completion": "0.000015",
                "input_cache_read": "3e-7",
                "input_cache_write": "0.00000375",
                "request": "0",
                "internal_reasoning": "0",
                "discount": 0.5,
                "audio": "0.00001",
                "overrides": [
                    {"min_prompt_tokens": 200000, "prompt": "0.000006", "completion": "0.0000225"},
                    {"utc_days": ["saturday", "sunday"], "utc_start": 1630, "utc_end": 30, "completion": "0.000001"},
                ],
            }
        }
    )
    assert price is not None
    assert price.amounts(NOW) == per_million(in_="3", out="15", cached="0.3", cache_write="3.75", request="0")
    assert price.amounts(NOW, 200_001)["in"] == Decimal("0.000006")
    assert price.amounts(NOW.replace(hour=16, minute=30), 300_000)["out"] == Decimal("0.000001")
    assert price.amounts(NOW.replace(day=20, hour=16, minute=30))["out"] == Decimal("0.000015"), "a Friday"


def test_reasoning_that_is_listed_as_zero_is_billed_as_output() -> None:
    price = from_openrouter({"pricing": {"prompt": "0", "completion": "0.00001", "internal_reasoning": "0"}})
    assert price is not None
    assert cost(price, tokens(in_=1, out=100, reasoning=100), NOW) == Decimal("0.001")


@pytest.mark.parametrize("pricing", [{"prompt": "-1", "completion": "-1"}, {"prompt": "0.1e-5", "completion": "-1"}])
def test_a_router_whose_price_openrouter_does_not_know_has_no_price(pricing: dict[str, str]) -> None:
    assert from_openrouter({"pricing": pricing}) is None


@pytest.mark.parametrize(
    "pricing",
    [
        None,
        [],
        {"completion": "0.1"},
        {"prompt": "cheap", "completion": "0"},
        {"prompt": "NaN", "completion": "0"},
        {"prompt": "Infinity", "completion": "0"},
        {"prompt": True, "completion": "0"},
        {"prompt": "3", "completion": "15"},
        {"prompt": "１", "completion": "0"},
        {"prompt": "0", "completion": "0", "overrides": 5},
        {"prompt": "0", "completion": "0", "overrides": ["x"]},
        {"prompt": "0", "completion": "0", "overrides": [{"min_prompt_tokens": -4}]},
        {"prompt": "0", "completion": "0", "overrides": [{"utc_start": 1275, "utc_end": 1}]},
        {"prompt": "0", "completion": "0", "overrides": [{"utc_days": ["someday"]}]},
    ],
)
def test_an_entry_that_cannot_be_trusted_is_refused(pricing: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_openrouter({"pricing": pricing})


def test_a_listing_keeps_what_it_can_read_and_counts_the_rest() -> None:
    good = {"prompt": "0.000001", "completion": "0.000002"}
    lines, bad = listing_lines(
        {
            "data": [
                {"id": "a/Big", "canonical_slug": "a/big-20260101", "pricing": good, "context_length": 1000},
                {"id": "a/Big:free", "canonical_slug": "a/big-20260101", "pricing": {"prompt": "0", "completion": "0"}},
                {"id": "a/auto", "pricing": {"prompt": "-1", "completion": "-1"}},
                {"id": "a/out", "pricing": good, "top_provider": {"max_completion_tokens": 64}},
                {"id": "", "pricing": good},
                {"id": "a/\x1b[2J", "pricing": good},
                {"id": "a/bad", "pricing": {"prompt": "x", "completion": "0"}},
                "nothing",
                None,
            ]
        }
    )
    assert bad == 5
    assert [(line["id"], line["names"]) for line in lines] == [
        ("a/Big", ["a/big", "a/big-20260101"]),
        ("a/Big:free", ["a/big:free"]),
        ("a/auto", ["a/auto"]),
        ("a/out", ["a/out"]),
    ]
    assert lines[0]["context"] == 1000 and lines[3]["max_output"] == 64 and lines[2]["rates"] == []


@pytest.mark.parametrize("document", [None, [], {}, {"data": {}}, {"error": {"message": "no"}}])
def test_an_answer_without_a_list_is_no_listing(document: object) -> None:
    with pytest.raises(ValueError, match="no list of models"):
        listing_lines(document)


# A person's own prices


def test_own_prices_are_for_a_million_tokens_and_text_numbers_and_whole_numbers_mean_the_same() -> None:
    for value in ("0.25", 0.25):
        entry = {"input": value, "output": 1, "cached": "0.1", "request": "0.002", "date": "2026-11-21"}
        own = parse_overrides({"openrouter": {"a/b": entry}})["openrouter"]["a/b"]
        assert own.price.amounts(NOW) == per_million(in_="0.25", out="1", cached="0.1", request="0.002")
        assert own.date == "2026-11-21"


def test_an_own_price_can_begin_and_end() -> None:
    entry = {"input": 1, "output": 1, "from": "2026-11-01", "until": "2026-12-01"}
    price = parse_overrides({"p": {"m": entry}})["p"]["m"].price
    assert [bool(price.amounts(datetime(2026, month, 1, tzinfo=UTC))) for month in (10, 11, 12)] == [False, True, False]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"p": 5}, "`p` is not a provider's table"),
        ({"p": {"m": 5}}, "`p.m` is not a model's table"),
        ({"p": {"m": {"input": 1}}}, "no `output` price"),
        ({"p": {"m": {"input": 1, "output": 1, "chached": 1}}}, "unknown key 'chached', did you mean 'cached'"),
        ({"p": {"m": {"input": "-1", "output": 1}}}, "`input`: "),
        ({"p": {"m": {"input": "1,5", "output": 1}}}, "`input`: not an amount"),
        ({"p": {"m": {"input": True, "output": 1}}}, "`input`: "),
        ({"p": {"m": {"input": 1, "output": 20_000}}}, "`output`: .*absurd"),
        ({"p": {"m": {"input": 0.1234567890123456789, "output": 1}}}, "`input`: .*as text"),
        ({"p": {"m": {"input": 1, "output": 1, "from": "soon"}}}, "`from` is not a date"),
    ],
)
def test_a_wrong_own_price_says_what_is_wrong(document: dict[str, object], message: str) -> None:
    with pytest.raises(BadOverride, match=message):
        parse_overrides(document)


def test_weekdays_are_written_as_openrouter_writes_them() -> None:
    assert [to_json(Price((Rate({}, days=(day,)),)))[0]["days"] for day in range(7)] == [[day] for day in DAYS]
