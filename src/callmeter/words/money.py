"""Money: US dollars as integer nano-dollars inside, decimal text outside, never a binary float between.

OpenRouter charges amounts such as 0.000001979964 USD, so micro-dollars would be one per cent off. A fraction
of a nano-dollar is rounded up: a sum overstates by at most 1e-9 USD a call and never understates.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation, Rounded, localcontext

NANO = 1_000_000_000
_MAX_DIGITS = 40
_FACTOR = Decimal(NANO)
# A report converts every line of a log: contexts made once are three times as fast as `localcontext`.
_LIMIT = Context(prec=_MAX_DIGITS, traps=[Rounded])
_UP = Context(prec=60, rounding=ROUND_CEILING, traps=[])


def nano(amount: Decimal) -> int:
    """USD to nano-dollars, rounded up. Raises ValueError for NaN, infinity and absurd precision."""
    require_amount(amount)
    return int(_UP.to_integral_value(_UP.multiply(amount, _FACTOR)))


def require_amount(amount: Decimal) -> None:
    """Raises ValueError for what `nano` does not take."""
    if not amount.is_finite() or amount.adjusted() > 18:
        raise ValueError(f"not an amount of money: {amount}")
    try:
        _LIMIT.plus(amount)
    except Rounded:
        raise ValueError(f"not an amount of money: {amount}") from None


def parse_usd(text: str) -> Decimal:
    """A person's or a provider's plain decimal text ("0.25", "$3") as Decimal. Raises ValueError.

    Full-width digits, underscores, exponents of absurd size, NaN and infinity are not money.
    """
    plain = text.strip().removeprefix("$")
    if not plain.isascii() or "_" in plain or len(plain) > _MAX_DIGITS:
        raise ValueError(f"not an amount in USD: {text!r}")
    try:
        amount = Decimal(plain)
    except InvalidOperation:
        raise ValueError(f"not an amount in USD: {text!r}") from None
    nano(amount)
    return amount


def usd(nanos: int) -> Decimal:
    """Nano-dollars as an exact Decimal in USD without trailing zeros or exponent (9600000 is 0.0096)."""
    amount = Decimal(nanos).scaleb(-9)
    if nanos % NANO == 0:
        return amount.quantize(Decimal(1))
    return amount.normalize()


def shown(nanos: int | None, places: int | None = None) -> str:
    """For people: "$12.34", "$0.000217", "-$0.50", "unknown" for None.

    Without `places`: cents from one dollar up, else three significant digits, at least cents.
    """
    if nanos is None:
        return "unknown"
    size = abs(nanos)
    if places is None:
        places = 2
        while places < 9 and 0 < size < 10 ** (11 - places):
            places += 1
    with localcontext() as context:
        context.prec = 60
        amount = (Decimal(size).scaleb(-9)).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)
    return f"{'-' if nanos < 0 else ''}${amount:,f}"


def amount_text(amount: int, unit: str) -> str:
    """An amount in a quota's unit, for people: `$12.34`, `100,000 tokens`, `1 call`."""
    if unit == "usd":
        return shown(amount)
    return f"{amount:,} {unit if amount != 1 else unit[:-1]}"


def amount_value(amount: int, unit: str) -> int | Decimal:
    """An amount in a quota's unit, for JSON: USD exactly, tokens, calls."""
    return usd(amount) if unit == "usd" else amount


def more_or_less(change: Decimal) -> str:
    """A relative change for people: `+12%`, `-4%`, `-0.4%`; 0.12 is 12 % more."""
    per_cent = change * 100
    return f"{per_cent:+,.{0 if abs(per_cent) >= 1 else 1}f}%" if per_cent else "0%"
