"""What an attempt's end means: was it charged, may it be repeated, what does the caller get to read.

The rule: certainly not sent and certainly not charged may be repeated; a server's own error is
free of charge at OpenRouter and unknown elsewhere; everything that ended after the request had left without an
answer is unknown, charged at the worst case and never repeated.
"""

from __future__ import annotations

from callmeter.providers.chat import Answer, Failure
from callmeter.providers.presets import Provider
from callmeter.providers.wire import WireError
from callmeter.words.errors import Busy, CallmeterError, Exit, Incomplete, NoKey, Refused, Stopped, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

_TRANSIENT = (429, 500, 502, 503, 529)
_UNKNOWN = (408, 504, 524)


class Verdict:
    """`status` and `code` are for the usage line; `charged` means that money may have been spent.

    `other_model` allows the next fallback model; `retry_after` is the endpoint's own word, not yet parsed.
    """

    def __init__(
        self,
        status: str,
        code: str = "",
        error: CallmeterError | None = None,
        *,
        charged: bool = False,
        retry: bool = False,
        key_refused: bool = False,
        other_model: bool = False,
        retry_after: str = "",
    ) -> None:
        self.status = status
        self.code = code
        self.error = error
        self.charged = charged
        self.retry = retry
        self.key_refused = key_refused
        self.other_model = other_model
        self.retry_after = retry_after

    @property
    def done(self) -> bool:
        """Whether the answer is whole."""
        return self.error is None


def judge(answer: Answer, wire: WireError | None, provider: Provider, key_label: str) -> Verdict:
    """The verdict on one attempt: its answer so far, and what went wrong on the wire, if anything."""
    if answer.failure is not None:
        return _of_failure(answer, answer.failure, provider, key_label)
    if wire is not None and not (wire.sent and answer.finish_reason):
        return _of_wire(answer, wire, provider)
    if answer.finish_reason:
        return Verdict("ok", charged=True)
    return Verdict(
        "truncated",
        "no_finish_reason",
        Incomplete("the answer was cut: the stream ended without a finish reason", "run it again", code="truncated"),
        charged=True,
    )


def judge_stop(stop: BaseException, record: dict[str, object]) -> bool:
    """Put the status for whatever ended the attempts into the record; whether a request that had left may have been
    charged."""
    if isinstance(stop, KeyboardInterrupt | Stopped):
        record["status"] = "cancelled"
        record["error"] = _signal_name(stop)
        return True
    if isinstance(stop, CallmeterError) and record["attempts"] == 0:
        record["status"] = "refused"
        record["error"] = stop.code
    elif isinstance(stop, NoKey):
        record["status"] = "error"
        record["error"] = stop.code
    elif not isinstance(stop, CallmeterError) or record["status"] == "unknown":
        # stdout could not be written, a breadcrumb could not be laid, or a defect
        record["status"] = "cancelled" if isinstance(stop, CallmeterError) else "error"
        record["error"] = stop.code if isinstance(stop, CallmeterError) else "internal"
        return True
    return False


def _signal_name(stop: BaseException) -> str:
    if isinstance(stop, Stopped):
        return {Exit.PIPE_CLOSED: "pipe_closed", Exit.TERMINATED: "terminated"}.get(stop.exit_status, "stopped")
    return "interrupted"


def _of_wire(answer: Answer, wire: WireError, provider: Provider) -> Verdict:
    host = provider.base_url
    if not wire.sent:
        return Verdict(
            "timeout" if wire.kind == "timeout" else "error",
            wire.kind,
            Unavailable(f"cannot reach {host}: {wire.message}", _reach_hint(provider), code=wire.kind),
            retry=wire.kind in ("connect", "dns", "tls", "timeout", "reset"),
            other_model=False,
        )
    status = "timeout" if wire.kind == "timeout" else "truncated" if answer.has_text else "error"
    if answer.has_text:
        error: CallmeterError = Incomplete(f"the answer was cut: {wire.message}", "run it again", code=wire.kind)
    else:
        error = Unavailable(
            f"no answer from {host}: {wire.message}; it may have been charged, so it is not repeated", code=wire.kind
        )
    if wire.kind == "timeout":
        error.hint = "raise `--timeout`, or lower `--max-tokens`"
    return Verdict(status, wire.kind, error, charged=True)


def _reach_hint(provider: Provider) -> str:
    if provider.name == "local":
        return "run `callmeter local serve`"
    return "look at `callmeter config show`: provider, base_url, proxy"


def _of_failure(answer: Answer, failure: Failure, provider: Provider, key_label: str) -> Verdict:
    status = answer.status
    in_body = 200 <= status < 300
    number = int(failure.code) if failure.code.isascii() and failure.code.isdigit() and len(failure.code) == 3 else 0
    code = _slug(failure.kind or failure.code)
    if in_body:
        if answer.has_text:
            error: CallmeterError = Incomplete(
                f"the answer was cut by the endpoint: {_quoted(failure)}", "run it again", code=code
            )
            return Verdict("error", code, error, charged=True)
        # OpenRouter charges nothing for an error without output; elsewhere only a refusal is certainly free.
        status = number or 500
        free = provider.name == "openrouter" or 400 <= status < 500
    elif 300 <= status < 400:
        return Verdict(
            "error",
            "redirect",
            Unavailable(
                f"{provider.base_url} answered with a redirect (status {status}), which is never followed",
                "set `base_url` to the endpoint's real address",
                code="redirect",
            ),
        )
    else:
        free = 400 <= status < 500 or provider.name == "openrouter" or status == 529 or bool(failure.retry_after)
    if status in _UNKNOWN:
        message = f"{provider.base_url} gave up (status {status}): {_quoted(failure)}; it may have been charged"
        return Verdict("timeout", code, Unavailable(message, "run it again", code=code), charged=True)
    error = _error(status, failure, provider, key_label, code)
    spent = failure.code == "insufficient_quota" or failure.kind == "insufficient_quota"
    waits = status in _TRANSIENT and not spent
    in_flight = status == 402 and bool(failure.retry_after)
    return Verdict(
        "error",
        code,
        error,
        charged=not free,
        retry=waits or in_flight,
        key_refused=status == 401,
        other_model=waits or status == 404,
        retry_after=failure.retry_after,
    )


def _error(status: int, failure: Failure, provider: Provider, key_label: str, code: str) -> CallmeterError:
    said = _quoted(failure)
    details = _limit_details(failure)
    name = provider.name
    if status == 401:
        key = f"the key {key_label}" if key_label else "a call without a key"
        return NoKey(
            f"{name} does not accept {key}: {said}",
            _key_hint(key_label, name),
            code="key_refused",
        )
    if status == 402 and failure.retry_after:
        return Busy(f"{name}: too much is in flight on this key: {said}", code="in_flight", **details)
    if status == 402 and "can only afford" in failure.message:
        return Refused(f"{name}: {said}", "lower `--max-tokens`", code="cannot_afford", **details)
    if status == 402 or failure.code == "insufficient_quota" or failure.kind == "insufficient_quota":
        return Refused(
            f"{name}: the credit or the key's limit is spent: {said}",
            "add credit, or raise the key's limit at the provider",
            code="limit_exceeded",
            **details,
        )
    if status == 403 and failure.metadata.get("reasons"):
        return Unavailable(f"{name} refuses this content: {said}", "change the prompt", code=code)
    if status == 403 and ("limit" in failure.message.lower() or details):
        return Refused(
            f"{name}: the limit of the key {key_label or '(none)'} is spent: {said}",
            "wait for its reset, or raise it at the provider",
            code="limit_exceeded",
            **details,
        )
    if status == 403:
        return Refused(f"{name} refuses this call: {said}", "", code=code, **details)
    if status == 404:
        return Unavailable(f"{name}: {said}", f"look at `callmeter prices show --provider {name}`", code=code)
    if status == 429:
        return Busy(f"{name}: too many calls: {said}", "try again later, or raise `--retries`", code="rate_limit")
    if status >= 500:
        return Unavailable(f"{name} failed (status {status}): {said}", "run it again later", code=code)
    return Unavailable(f"{name} refuses this request (status {status}): {said}", code=code)


def _key_hint(key_label: str, provider: str) -> str:
    if not key_label:
        return f"register one: `callmeter budget keys add AGENT --provider {provider}`"
    if key_label.startswith("env:"):
        return f"put a valid key into `{key_label[4:]}`"
    return f"replace it with `callmeter budget keys add --label {key_label} --replace`"


def _limit_details(failure: Failure) -> dict[str, Any]:
    """OpenRouter's words for a spent limit, in this program's words."""
    found = failure.metadata
    names = {
        "limit_usd": "limit",
        "spend_usd": "current_usage",
        "resets_at": "resets_at",
        "limit_source": "limit_source",
    }
    return {
        ours: found[theirs]
        for theirs, ours in names.items()
        if isinstance(found.get(theirs), str | int)
        or (theirs in found and found[theirs] is not None and not isinstance(found[theirs], dict | list))
    }


def _quoted(failure: Failure) -> str:
    message = failure.message.strip().rstrip(".")
    return message or f"error {failure.code}"


def _slug(text: str) -> str:
    """A provider's code as one plain word of at most 64 characters."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in text)[:64] or "error"


def retry_wait(retry_after: str, failures: int, jitter: float, now: datetime) -> float:
    """Seconds before the next attempt: what `Retry-After` says (seconds, `ms:` milliseconds, or an HTTP date),
    else exponential from half a second with full jitter, at most 20 s. Nonsense counts as not said."""
    said = _parse_retry_after(retry_after.strip(), now)
    if said is not None:
        return said + jitter * 0.25
    return float(min(20.0, 0.5 * 2**failures) * (0.5 + jitter / 2))


def _parse_retry_after(text: str, now: datetime) -> float | None:
    milliseconds = text.startswith("ms:")
    digits = text.removeprefix("ms:")
    if digits.isascii() and digits.replace(".", "", 1).isdigit():
        return float(digits[:300]) / (1000 if milliseconds else 1)
    if not text or milliseconds or not text[:1].isalpha():
        return None
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    if moment.tzinfo is None:
        from datetime import UTC

        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
