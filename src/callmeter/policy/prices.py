"""What a model costs: a list of rates, of which the later ones win, amount by amount.

One mechanism covers everything that moves a price: prompt sizes, hours and weekdays, service tiers, dates of
change. A rate says when it applies and which amounts it sets; what it does not set stays as it was, unless the
rate is `whole`, a new price list that forgets the one before.

Unknown is None and never 0; a model that is priced 0 costs 0.
"""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal, localcontext

from callmeter.words.instant import parse_instant
from callmeter.words.money import parse_usd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

# Amounts in USD for one token, and in USD for one request, image or web search.
PER_TOKEN = ("in", "out", "cached", "cache_write", "cache_write_1h", "reasoning")
PER_PIECE = ("request", "image", "web_search")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

# The dearest models cost some 0.0006 USD a token. More than this is a price for a million tokens by mistake.
_MOST_PER_TOKEN = Decimal("0.01")
_MOST_DIGITS = 25

_OPENROUTER = {
    "prompt": "in",
    "completion": "out",
    "input_cache_read": "cached",
    "input_cache_write": "cache_write",
    "input_cache_write_1h": "cache_write_1h",
    "internal_reasoning": "reasoning",
    "request": "request",
    "image": "image",
    "web_search": "web_search",
}


class Rate:
    """Amounts by name, and when they apply: all conditions that are set must hold.

    `since` and `until` are instants (half-open). `start` and `end` are minutes of the UTC day, half-open, and wrap
    past midnight when `end` is not after `start`. `days` are weekdays in UTC, 0 is Monday. `above`: only prompts of
    more tokens than this; the whole prompt then has this price. `service`: only calls in this service tier.
    """

    __slots__ = ("above", "amounts", "days", "end", "service", "since", "start", "until", "whole")

    def __init__(
        self,
        amounts: Mapping[str, Decimal],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        start: int = 0,
        end: int = 0,
        days: tuple[int, ...] = (),
        above: int = -1,
        service: str = "",
        whole: bool = False,
    ) -> None:
        self.amounts = amounts
        self.since = since
        self.until = until
        self.start = start
        self.end = end
        self.days = days
        self.above = above
        self.service = service
        self.whole = whole

    def valid(self, at: datetime, service: str) -> bool:
        """Whether the rate applies at this date and service tier, for some prompt at some hour."""
        return (
            (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
            and (not self.service or self.service == service)
        )

    def applies(self, at: datetime, prompt_tokens: int, service: str) -> bool:
        """Whether the rate applies to a call."""
        if prompt_tokens <= self.above or not self.valid(at, service):
            return False
        if self.start == self.end and not self.days:
            return True
        utc = at.astimezone(UTC)
        if self.days and utc.weekday() not in self.days:
            return False
        minute = utc.hour * 60 + utc.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return self.start == self.end or minute >= self.start or minute < self.end


class Price:
    """A model's price."""

    __slots__ = ("rates",)

    def __init__(self, rates: tuple[Rate, ...]) -> None:
        self.rates = rates

    def amounts(self, at: datetime, prompt_tokens: int = 0, service: str = "") -> dict[str, Decimal]:
        """The amounts for a call. What is missing is unknown."""
        found: dict[str, Decimal] = {}
        for rate in self.rates:
            if rate.applies(at, prompt_tokens, service):
                if rate.whole:
                    found = {}
                found.update(rate.amounts)
        return found

    def highest(self, at: datetime, prompt_tokens: int, service: str = "") -> dict[str, Decimal]:
        """The highest amounts that a call of at most so many prompt tokens can meet at this date, at any hour: the
        provider's clock and count decide, not ours."""
        found: dict[str, list[Decimal]] = {}
        for rate in self.rates:
            if prompt_tokens <= rate.above or not rate.valid(at, service):
                continue
            certain = rate.above < 0 and rate.start == rate.end and not rate.days
            if certain and rate.whole:
                found = {}
            for name, amount in rate.amounts.items():
                if certain:
                    found[name] = [amount]
                else:
                    found.setdefault(name, []).append(amount)
        return {name: max(amounts) for name, amounts in found.items()}


FREE = Price((Rate({"in": Decimal(0), "out": Decimal(0)}),))


def cost(price: Price, tokens: Mapping[str, int], at: datetime, service: str = "", images: int = 0) -> Decimal | None:
    """What a call costs in USD, exactly; None when an amount that it needs is unknown.

    `tokens` has the usage log's names: `cached`, `cache_write` and `cache_write_1h` are disjoint parts of `in`,
    `reasoning` is a part of `out`. A part without a price of its own costs what the plain kind costs: `cached` and
    `cache_write` as `in`, `cache_write_1h` as `cache_write`, `reasoning` as `out`. Parts that exceed their whole
    are counted in full. Searches are not in the counts and not in the cost.
    """
    amounts = price.amounts(at, tokens.get("in", 0), service)
    if not amounts:
        return None
    cached, write, write_1h, reasoning = (
        tokens.get(name, 0) for name in ("cached", "cache_write", "cache_write_1h", "reasoning")
    )
    counts = {
        "in": max(0, tokens.get("in", 0) - cached - write - write_1h),
        "cached": cached,
        "cache_write": write,
        "cache_write_1h": write_1h,
        "out": max(0, tokens.get("out", 0) - reasoning),
        "reasoning": reasoning,
    }
    with localcontext() as context:
        context.prec = 100
        total = amounts.get("request", Decimal(0)) + images * amounts.get("image", Decimal(0))
        for name, count in counts.items():
            if count:
                amount = part_price(amounts, name)
                if amount is None:
                    return None
                total += count * amount
        return total


def part_price(amounts: Mapping[str, Decimal], name: str) -> Decimal | None:
    """The amount for one kind of token, with the fallbacks of `cost`."""
    if name in amounts:
        return amounts[name]
    if name == "cache_write_1h":
        return part_price(amounts, "cache_write")
    if name in ("cached", "cache_write"):
        return amounts.get("in")
    return amounts.get("out") if name == "reasoning" else None


def from_openrouter(model: Mapping[str, object]) -> Price | None:
    """The price in an entry of OpenRouter's `/models` (USD per token, as text); None when it says -1, unknown.

    `discount` is not applied: what it applies to is not said clearly enough to promise less. A reasoning price of 0
    is no price: reasoning is billed as output there. Raises ValueError for an entry that cannot be read.
    """
    pricing = model.get("pricing")
    if not isinstance(pricing, dict):
        raise ValueError("no pricing")
    base = _openrouter_amounts(pricing)
    if "prompt" not in pricing or "completion" not in pricing:
        raise ValueError("no price for prompt and completion")
    if "in" not in base or "out" not in base:
        return None
    rates = [Rate(base)]
    overrides = pricing.get("overrides") or []
    if not isinstance(overrides, list):
        raise ValueError("overrides that are no list")
    for override in overrides:
        if not isinstance(override, dict):
            raise ValueError("an override that is no object")
        rates.append(
            Rate(
                _openrouter_amounts(override),
                above=_whole_number(override["min_prompt_tokens"]) if "min_prompt_tokens" in override else -1,
                start=_clock(override.get("utc_start", 0)),
                end=_clock(override.get("utc_end", 0)),
                days=tuple(sorted({_day(day) for day in override.get("utc_days") or ()})),
            )
        )
    return Price(tuple(rates))


def to_json(price: Price) -> list[dict[str, object]]:
    """The compact form: a list of rates, token prices in USD per million tokens, dates as text."""
    return [_rate_to_json(rate) for rate in price.rates]


def from_json(value: object) -> Price:
    """`to_json` back. Raises ValueError for anything else."""
    if not isinstance(value, list):
        raise ValueError("no list of rates")
    try:
        return Price(tuple(_rate_from_json(rate) for rate in value))
    except (TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"not a rate: {error}") from None


def amount_from(value: object, name: str) -> Decimal:
    """One amount from decimal text or a number, per token or per piece. Raises ValueError for what is no price."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError(f"the price of `{name}` is not a number")
    amount = parse_usd(str(value))
    if amount < 0 or len(amount.as_tuple().digits) > _MOST_DIGITS:
        raise ValueError(f"the price of `{name}` is not a price: {value}")
    if name in PER_TOKEN and amount > _MOST_PER_TOKEN:
        raise ValueError(f"the price of `{name}` is absurd: {value} USD for one token")
    return amount


def _openrouter_amounts(pricing: dict[str, object]) -> dict[str, Decimal]:
    amounts = {}
    for key, name in _OPENROUTER.items():
        value = pricing.get(key)
        if value is None or str(value).startswith("-"):
            continue
        amount = amount_from(value, name)
        if name != "reasoning" or amount:
            amounts[name] = amount
    return amounts


def _rate_to_json(rate: Rate) -> dict[str, object]:
    result: dict[str, object] = {}
    if rate.since is not None:
        result["from"] = _date_text(rate.since)
    if rate.until is not None:
        result["until"] = _date_text(rate.until)
    if rate.start != rate.end:
        result["start"], result["end"] = _clock_text(rate.start), _clock_text(rate.end)
    if rate.days:
        result["days"] = [DAYS[day] for day in rate.days]
    if rate.above >= 0:
        result["above"] = rate.above
    if rate.service:
        result["service"] = rate.service
    if rate.whole:
        result["whole"] = True
    for name in PER_TOKEN + PER_PIECE:
        if name in rate.amounts:
            amount = rate.amounts[name]
            result[name] = (amount.scaleb(6) if name in PER_TOKEN else amount).normalize()
    return result


def _rate_from_json(value: object) -> Rate:
    if not isinstance(value, dict):
        raise ValueError("a rate that is no object")
    amounts = {}
    for name in PER_TOKEN + PER_PIECE:
        if name in value:
            amount = value[name]
            if not isinstance(amount, int | Decimal):
                raise ValueError(f"the price of `{name}` is not a number")
            amounts[name] = Decimal(amount).scaleb(-6) if name in PER_TOKEN else Decimal(amount)
    since, until = value.get("from"), value.get("until")
    return Rate(
        amounts,
        since=parse_instant(since) if since else None,
        until=parse_instant(until) if until else None,
        start=_minutes(value.get("start", "00:00")),
        end=_minutes(value.get("end", "00:00")),
        days=tuple(_day(day) for day in value.get("days", ())),
        above=value.get("above", -1),
        service=value.get("service", ""),
        whole=value.get("whole", False),
    )


def _date_text(instant: datetime) -> str:
    utc = instant.astimezone(UTC).replace(tzinfo=None)
    text = utc.isoformat()
    return text.removesuffix("T00:00:00")


def _clock(value: object) -> int:
    """Minutes of the day from OpenRouter's HHMM numbers: 1030 is half past ten, 2400 the end of the day."""
    number = _whole_number(value)
    minutes = number // 100 * 60 + number % 100
    if number % 100 >= 60 or minutes > 1440:
        raise ValueError(f"no time of day: {value}")
    return minutes % 1440


def _clock_text(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _day(name: object) -> int:
    if name not in DAYS:
        raise ValueError(f"no weekday: {name}")
    return DAYS.index(str(name))


def _whole_number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value != int(value) or value < 0:
        raise ValueError(f"not a whole number: {value}")
    return int(value)
