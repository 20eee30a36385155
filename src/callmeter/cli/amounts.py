"""Limits and times as people type them: `50`, `$50`, `100000tok`, `20calls`, `100/day`; `2h`, `2026-12-01`."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from callmeter.cli.world import World
from callmeter.policy.quota_rules import RATE_WORDS
from callmeter.policy.reading import MOST_COUNT, MOST_USD, number_of
from callmeter.words.errors import UsageError
from callmeter.words.money import nano
from callmeter.words.period import moment, zone_named

_SUFFIXES = {"usd": "usd", "tokens": "tokens", "token": "tokens", "tok": "tokens", "calls": "calls", "call": "calls"}
_EXAMPLES = {
    "usd": "write `50` or `$2.50`",
    "tokens": "write `100000` or `100000tok`",
    "calls": "write `100` or `100calls`",
    None: "write `50` or `$2.50` (USD), `100000tok` (tokens) or `100calls`",
}
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def amount_in(text: str, what: str, unit: str | None = None) -> tuple[int, str]:
    """An amount above 0 and its unit: nano-dollars, tokens or calls. `unit` is what a bare number means, and must not
    contradict the text. Raises UsageError that begins with `what`."""
    plain = text.strip().lower()
    number = plain.rstrip("abcdefghijklmnopqrstuvwxyz ")
    suffix = plain[len(number) :].strip()
    said = _SUFFIXES.get(suffix, "" if suffix else unit or "usd")
    if number.startswith("$"):
        said = "usd" if suffix in ("", "usd") else ""
    if not said:
        raise UsageError(f"{what} {text!r} is not an amount", _EXAMPLES[unit])
    if unit is not None and said != unit:
        other = " or leave out `--unit`" if what == "LIMIT" else ""
        raise UsageError(f"{what} {text!r} is in {said}, not in {unit}", f"write it in {unit}{other}")
    found = number_of(number.removeprefix("$"))
    if found is None or (said != "usd" and found != int(found)):
        # Not `1,50` nor `1,500`: a comma means one thing here and another there.
        raise UsageError(f"{what} {text!r} is not an amount", _EXAMPLES[unit])
    if not 0 < found <= (MOST_USD if said == "usd" else MOST_COUNT):
        raise UsageError(f"{what} {text!r} is not above 0 and below a billion USD, or 10^15 tokens or calls")
    return (nano(found) if said == "usd" else int(found)), said


def limit_in(text: str, unit: str | None, period: str | None) -> tuple[int, str, str]:
    """A quota's limit, its unit, and its period if one is said, also by a rate such as `100/day`. Raises UsageError."""
    number, slash, word = text.partition("/")
    if not slash:
        return *amount_in(text, "LIMIT", unit), period or ""
    said = RATE_WORDS.get(word.strip().lower(), "")
    if not said:
        raise UsageError(f"LIMIT {text!r} is not a rate", "write `100/day` or `20/min`")
    if period not in (None, said):
        raise UsageError(f"LIMIT {text!r} is not per {period}", "leave out `--period`")
    return *amount_in(number, "LIMIT", unit or "calls"), said


def share_in(text: str, option: str) -> Decimal:
    """A share from 0 to 1, also as `70%`. Raises UsageError."""
    plain = text.strip()
    found = number_of(plain.removesuffix("%"))
    share = found / 100 if found is not None and plain.endswith("%") else found
    if share is None or not 0 <= share <= 1:
        raise UsageError(f"{option} {text!r} is not a share from 0 to 1", f"write `{option} 0.9`")
    return share.normalize()


def end_in(world: World, span: str | None, until: str | None) -> datetime | None:
    """When `--for SPAN` or `--until TIME` is over; None without them. Raises UsageError."""
    if span is not None and until is not None:
        raise UsageError("--for and --until contradict each other", "keep one of them", code="contradiction")
    now = world.now()
    if until is not None:
        end = moment(until, zone_named(world.policy.time_zone), "--until")
        if end <= now:
            raise UsageError(f"--until {until!r} is not in the future")
        return end
    if span is None:
        return None
    digits, size = span.strip()[:-1], _SPANS.get(span.strip()[-1:], 0)
    if not size or not digits.isascii() or not digits.isdigit() or len(digits) > 7 or not int(digits):
        raise UsageError(f"--for {span!r} is not a span", "write `30m`, `2h`, `7d` or `4w`", code="bad_time")
    try:
        return now + timedelta(seconds=int(digits) * size)
    except OverflowError:
        raise UsageError(f"--for {span!r} ends outside the calendar", code="bad_time") from None
