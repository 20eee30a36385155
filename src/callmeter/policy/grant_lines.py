"""The lines of `approvals.jsonl` and `requests.jsonl`: one JSON object for each event.

    request  somebody asks for headroom over a limit, or to pass a stage that asks for approval
    approve  gives it: `ends` says until when for each period, `calls` up to which number of calls
    deny     refuses it, or takes an approval back
    freeze   stops every call under a subject
    thaw     lifts freezes, by their ids

A line that cannot be understood grants nothing and lifts nothing; it is told. A line may begin with `over`, an
instant from which on it does not matter any more: calls skip it without reading it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from callmeter.policy.grants import Allowances, Denial, Freeze, Grant, Request, Thaw
from callmeter.policy.quotas import PERIODS, UNITS
from callmeter.words.errors import CallmeterError
from callmeter.words.instant import parse_instant, text_of
from callmeter.words.jsontext import dumps, loads
from callmeter.words.money import amount_value, nano
from callmeter.words.subject import parse_subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_OVER = b'{"over":"'
# None that are taken for another one.
_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
_INSTANT = len("2026-11-21T09:30:00.000Z")


def read_lines(
    allowances: Allowances, data: bytes, path: str, *, trusted: bool, everything: bool = False, past: bool = False
) -> None:
    """Take the events of a file's bytes; `trusted` is the approvals file. Without `everything` only what a call needs
    is read: requests and what is over are skipped. With `past` what came after the allowances' moment is, too."""
    lines = data.split(b"\n")
    now = instant_text(allowances.now).encode()
    for number, line in enumerate(lines, 1):
        if not everything and (_is_over(line, now) or not (trusted or b'"freeze"' in line)):
            continue
        try:
            if line:
                event = read_line(line)
                if not past or event.at <= allowances.now:
                    allowances.take(event, trusted=trusted)
        except ValueError as error:
            # Half a line at the end is being written at this moment, or its writer died.
            if number < len(lines):
                allowances.problems.append(f"{path}:{number} is left out: {error}")


def read_line(line: bytes) -> Request | Grant | Denial | Freeze | Thaw:
    """One line as what it says. Raises ValueError for everything that is not such a line."""
    found = loads(line, unique_keys=True)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    kind = _text(found, "event")
    if kind == "thaw":
        lifts = found.get("lifts")
        if not isinstance(lifts, list) or not all(isinstance(id, str) for id in lifts):
            raise ValueError("`lifts` is not a list of ids")
        return Thaw(tuple(lifts), _seconds(found, "at", 0))
    id, by, at = _text(found, "id"), _text(found, "by"), _seconds(found, "at")
    reason = _text(found, "reason", "")
    subject = _text(found, "subject")
    if kind == "freeze":
        try:
            return Freeze(id, parse_subject(subject), until=_seconds(found, "until", 0), at=at, by=by, reason=reason)
        except CallmeterError as error:
            raise ValueError(error.message) from None
    if kind not in ("request", "approve", "deny"):
        raise ValueError(f"event {kind!r} is not known")
    unit, period = _text(found, "unit"), _text(found, "period", "")
    if unit not in UNITS:
        raise ValueError(f"unit {unit!r} is not known")
    if kind == "deny":
        until = _seconds(found, "until")
        return Denial(id, subject, unit=unit, period=period, until=until, at=at, by=by, reason=reason)
    amount = _amount(found, unit)
    if kind == "approve":
        ends, calls = _by_period(found, "ends"), _by_period(found, "calls")
        if not ends:
            raise ValueError("`ends` names no period")
        moments = {period: _seconds(ends, period, 0) for period in ends}
        return Grant(
            id, subject, unit=unit, amount=amount, ends=moments, calls=_counts(calls), at=at, by=by, reason=reason
        )
    until, agent = _seconds(found, "until"), _text(found, "agent", "")
    request = Request(
        subject, unit=unit, amount=amount, period=period, until=until, at=at, by=by, agent=agent, reason=reason
    )
    request.id = request_id(request)
    if id != request.id:
        raise ValueError("it was changed: its id is not that of what it says")
    return request


def request_id(request: Request) -> str:
    """A request's name, to be typed by people: `r-7k3m9x2q4t`, a hash of everything that it says. A request that is
    changed after it was read has another name, so that nobody approves it unseen."""
    import hashlib

    said = {**request_fields(request), "id": ""}
    digest = int.from_bytes(hashlib.sha256(dumps(said).encode()).digest()[:16], "big")
    letters = []
    for _ in range(10):
        digest, index = divmod(digest, len(_LETTERS))
        letters.append(_LETTERS[index])
    return "r-" + "".join(letters)


def request_fields(request: Request) -> dict[str, object]:
    """A request as the members of its line."""
    return {
        "over": instant_text(request.until),
        "event": "request",
        "id": request.id,
        "at": instant_text(request.at),
        "by": request.by,
        "agent": request.agent,
        "subject": request.bucket,
        "period": request.period,
        "unit": request.unit,
        "amount": amount_value(request.amount, request.unit),
        "until": instant_text(request.until),
        "reason": request.reason,
    }


def grant_fields(grant: Grant, request: Request) -> dict[str, object]:
    """An approval as the members of its line. It matters until the request is over too: a denial before it does."""
    ends = list(grant.ends.values())
    over = {} if 0 in ends else {"over": instant_text(max(*ends, request.until))}
    return {
        **over,
        "event": "approve",
        "id": grant.id,
        "at": instant_text(grant.at),
        "by": grant.by,
        "subject": grant.bucket,
        "unit": grant.unit,
        "amount": amount_value(grant.amount, grant.unit),
        "ends": {period: instant_text(end) if end else None for period, end in grant.ends.items()},
        "calls": grant.calls,
        "reason": grant.reason,
    }


def denial_fields(denial: Denial, grant: Grant | None) -> dict[str, object]:
    """A refusal as the members of its line; `grant` is the approval that it takes back."""
    ends = list(grant.ends.values()) if grant else [1]
    over = {} if 0 in ends else {"over": instant_text(max(*ends, denial.until))}
    return {
        **over,
        "event": "deny",
        "id": denial.id,
        "at": instant_text(denial.at),
        "by": denial.by,
        "subject": denial.bucket,
        "unit": denial.unit,
        "period": denial.period,
        "until": instant_text(denial.until),
        "reason": denial.reason,
    }


def freeze_fields(freeze: Freeze) -> dict[str, object]:
    """A freeze as the members of its line."""
    until = instant_text(freeze.until) if freeze.until else None
    return {
        **({"over": until} if until else {}),
        "event": "freeze",
        "id": freeze.id,
        "at": instant_text(freeze.at),
        "by": freeze.by,
        "subject": str(freeze.subject),
        "until": until,
        "reason": freeze.reason,
    }


def thaw_fields(lifted: Iterable[Freeze], *, at: int, by: str, reason: str) -> dict[str, object]:
    """A thaw as the members of its line; over as soon as all that it lifts would have ended."""
    lifted = list(lifted)
    ends = [freeze.until for freeze in lifted]
    return {
        **({} if 0 in ends else {"over": instant_text(max(ends))}),
        "event": "thaw",
        "at": instant_text(at),
        "by": by,
        "lifts": [freeze.id for freeze in lifted],
        "reason": reason,
    }


def instant_text(seconds: int) -> str:
    """Seconds since 1970 as they stand in files."""
    return text_of(datetime.fromtimestamp(seconds, UTC))


def _is_over(line: bytes, now: bytes) -> bool:
    end = line[len(_OVER) : len(_OVER) + _INSTANT]
    return line[: len(_OVER)] == _OVER and len(end) == _INSTANT and end[-1:] == b"Z" and end <= now


def _text(found: Mapping[str, object], name: str, default: str | None = None) -> str:
    value = found.get(name, default)
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is not a text")
    return value


def _seconds(found: Mapping[str, object], name: str, default: int | None = None) -> int:
    value = found.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is not an instant")
    return int(parse_instant(value).timestamp())


def _amount(found: Mapping[str, object], unit: str) -> int:
    value = found.get("amount")
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and value >= 0:
        if unit == "usd":
            return nano(Decimal(value))
        if isinstance(value, int):
            return value
    raise ValueError("`amount` is not an amount")


def _by_period(found: Mapping[str, object], name: str) -> dict[str, object]:
    value = found.get(name, {})
    if not isinstance(value, dict) or not all(period in PERIODS for period in value):
        raise ValueError(f"`{name}` is not an object by period")
    return value


def _counts(found: Mapping[str, object]) -> dict[str, int]:
    counts = {}
    for period, count in found.items():
        if not isinstance(count, int) or isinstance(count, bool):
            raise ValueError("`calls` is not an object of whole numbers")
        counts[period] = count
    return counts
