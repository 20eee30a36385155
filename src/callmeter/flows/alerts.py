"""Delivering what was spooled: each alert to each of its receivers, once a flush, until it is delivered or too old.

Only `callmeter budget alerts --flush` does it, from cron. A call never does, not even in the background: it may run
where nothing can be reached, and its host may wait for it to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from callmeter.exchange.alerts import Event, Pending, append_to_file, mark_of, name_of, run_command
from callmeter.policy.controls import Alert
from callmeter.providers.wire import Transport, WireError
from callmeter.words.errors import CallmeterError, Unavailable
from callmeter.words.instant import parse_instant
from callmeter.words.jsontext import dumps
from callmeter.words.wording import counted

# What could not be delivered for so long is news no more.
GIVE_UP = timedelta(days=7)
_CONNECT_SECONDS = 10.0
_SECONDS = 30.0


@dataclass
class Flushed:
    """`delivered` counts deliveries, `waiting` alerts that somebody still has to be told. `problems` are sentences,
    one for each receiver that could not be reached, and for each alert that was given up."""

    delivered: int = 0
    waiting: int = 0
    problems: list[str] = field(default_factory=list)


def flush(
    path: str,
    alerts: tuple[Alert, ...],
    transport: Callable[[], Transport],
    environment: Mapping[str, str],
    now: datetime,
    monotonic: Callable[[], float],
) -> Flushed:
    """Deliver what waits. A receiver that fails is left alone until the next flush. Raises Busy when another flush
    runs, Malformed, FileProblem."""
    done = Flushed()
    with Pending(path, alerts, now) as pending:
        receivers = {mark_of(alert): alert for alert in alerts}
        for event in list(pending.events):
            event.to = [mark for mark in event.to if mark in receivers]
            if not event.to:
                pending.drop(event)
            elif now - parse_instant(event.at) > GIVE_UP:
                names = ", ".join(name_of(receivers[mark]) for mark in event.to)
                done.problems.append(f"an alert of {event.at} is given up, {names} could not be told: {event.text}")
                pending.drop(event)
        for mark, alert in receivers.items():
            wanted = [event for event in pending.events if mark in event.to]
            for place, event in enumerate(wanted):
                try:
                    _deliver(alert, event, transport, environment, monotonic)
                except CallmeterError as error:
                    left = wanted[place:]
                    many = counted(len(left), "alert")
                    done.problems.append(f"{name_of(alert)} could not be told of {many}: {error.message}")
                    pending.failed(left)
                    break
                pending.delivered(event, alert)
                done.delivered += 1
        done.waiting = len(pending.events)
    return done


def _deliver(
    alert: Alert,
    event: Event,
    transport: Callable[[], Transport],
    environment: Mapping[str, str],
    monotonic: Callable[[], float],
) -> None:
    if alert.kind == "file":
        append_to_file(alert.target, event)
    elif alert.kind == "command":
        run_command(alert.target, event, environment)
    else:
        _post(alert.target, event, transport(), monotonic() + _SECONDS)


def _post(url: str, event: Event, transport: Transport, deadline: float) -> None:
    """Raises Unavailable without the URL, which is the secret of a webhook."""
    try:
        response = transport.send(
            "POST",
            url,
            {"Content-Type": "application/json", "Idempotency-Key": event.id},
            dumps(event.message()).encode("ascii"),
            connect_timeout=_CONNECT_SECONDS,
            deadline=deadline,
        )
        status = response.status
        response.close()
    except WireError as error:
        raise Unavailable(_WHY.get(error.kind, "the exchange failed"), code=error.kind) from None
    if not 200 <= status < 300:
        raise Unavailable(f"it answered with status {status}")


_WHY = {
    "bad_url": "its URL is not one",
    "dns": "its name is not known",
    "connect": "no connection",
    "tls": "no trusted TLS connection",
    "timeout": "no answer in time",
    "reset": "the connection broke",
    "protocol": "the answer is not HTTP",
}
