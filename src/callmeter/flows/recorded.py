"""A whole answer as it is recorded, and what makes another request the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal

from callmeter.flows.terms import Call, Outcome
from callmeter.words.jsontext import dumps


def fingerprint(call: Call, earlier: Sequence[object] = ()) -> str:
    """What tells one request from another, as 64 hexadecimal digits. Messages that are `earlier` ones do not count:
    a conversation grows with the very call that is repeated."""
    request, provider = call.request, call.provider
    # A local model gets another port each time it is started.
    place = provider.name if provider.name == "local" else f"{provider.name} {provider.base_url}"
    content = [
        place,
        request.model,
        list(request.fallbacks),
        [message for message in request.messages if not any(message is one for one in earlier)],
        request.max_tokens,
        dict(sorted(request.options.items())),
    ]
    return hashlib.sha256(dumps(content).encode("ascii")).hexdigest()


def as_kept(outcome: Outcome) -> dict[str, object]:
    """A whole answer as a JSON value."""
    return {"text": outcome.text, "record": outcome.record, "warnings": outcome.warnings}


def from_kept(kept: object) -> Outcome | None:
    """The answer that `as_kept` wrote; None when it is something else."""
    if not isinstance(kept, dict):
        return None
    text, record, warnings = kept.get("text"), kept.get("record"), kept.get("warnings")
    if not isinstance(text, str) or not isinstance(record, dict) or not isinstance(warnings, list):
        return None
    for name in ("cost", "estimate"):
        if isinstance(record.get(name), int):  # as JSON, 2 USD is a whole number
            record[name] = Decimal(record[name])
    outcome = Outcome(record)
    outcome.text = text
    outcome.warnings = [str(warning) for warning in warnings]
    return outcome
