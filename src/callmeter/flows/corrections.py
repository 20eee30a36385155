"""Corrections: a call that was logged at its estimate, because its outcome never arrived, gets its true cost.

The provider is asked by the call's generation id. A correction is a line of its own with the signed difference; the
ledger books it in the windows of the call. A call is corrected once, however many ask at once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

from callmeter.flows.booking import basis_of, booked_line, correction, windows_of
from callmeter.flows.rebuild import by_index, ensure
from callmeter.ledger.protocol import Amount, Ledger, Uncounted
from callmeter.policy.document import Policy
from callmeter.store.files import Lock
from callmeter.store.usage_append import append_usage
from callmeter.store.usage_log import read_records
from callmeter.words.errors import CallmeterError, NoKey
from callmeter.words.money import nano, usd
from callmeter.words.period import Period
from callmeter.words.record import UsageRecord
from callmeter.words.usage import usage_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Told(Protocol):
        """What the provider says of a call; None is unknown."""

        tokens: dict[str, int] | None
        cost: Decimal | None


# Who has such a record; OpenRouter keeps it for about a month.
_ANSWERS = "openrouter"
_ITS_IDS = "gen-"
_DAYS = 30
_MOST_FAILURES = 3


class Corrections:
    """What `correct` did: the `records` of its lines; how many calls it asked for and got no answer yet (`open`);
    `problems` are sentences."""

    def __init__(self) -> None:
        self.records: list[dict[str, object]] = []
        self.open = 0
        self.problems: list[str] = []


def correct(
    policy: Policy,
    ledger: Ledger | None,
    log_path: str,
    now: datetime,
    ask: Callable[[UsageRecord], Told | None],
    *,
    most: int = 200,
    index: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> Corrections:
    """Correct the calls of the last 30 days whose cost is an estimate and whose provider knows better, the newest
    first, at most so many. `ask` gives None when the provider has no record (yet). `index` is where the log's usage
    index lies, without which a long log takes long; `tell` hears what takes its time. Raises LedgerProblem,
    FileProblem, Busy."""
    done = Corrections()
    with Lock(log_path + ".correct"):
        for record in _estimated(policy, log_path, now, most, index, tell):
            try:
                told = ask(record)
            except NoKey:
                told = None  # whoever has the key asks some other day
            except CallmeterError as problem:
                done.problems.append(f"the cost of the call {record.id} is not known: {problem.message}")
                if len(done.problems) == _MOST_FAILURES:
                    break  # the others would most likely fail in the same way
                continue
            if told is None or told.cost is None:
                done.open += 1
                continue
            line = _correction(record, told, now)
            _book(policy, ledger, log_path, line, now, index)
            done.records.append(line)
    return done


def _estimated(
    policy: Policy, log_path: str, now: datetime, most: int, index: str, tell: Callable[[str], None]
) -> list[UsageRecord]:
    period = Period(now - timedelta(days=_DAYS), None, "")
    found = by_index(
        policy, log_path, index, period, lambda usage: usage.unsettled(_ANSWERS, _ITS_IDS, most, period=period), tell
    )
    return _read_plainly(log_path, period)[:most] if found is None else found


def _read_plainly(log_path: str, period: Period) -> list[UsageRecord]:
    estimated: dict[str, UsageRecord] = {}
    corrected = set()
    for record in read_records(log_path, period):
        if record.corrects is not None:
            corrected.add(record.corrects)
        elif record.cost_source in ("estimate", "unknown") and _can_be_asked_for(record):
            estimated[record.id] = record
    found = [record for id, record in estimated.items() if id not in corrected]
    return sorted(found, key=lambda record: record.timestamp, reverse=True)


def _can_be_asked_for(record: UsageRecord) -> bool:
    return record.provider == _ANSWERS and (record.generation_id or "").startswith(_ITS_IDS)


def _correction(record: UsageRecord, told: Told, now: datetime) -> dict[str, object]:
    assert told.cost is not None
    fields = {
        name: getattr(record, name) for name in record.__struct_fields__ if getattr(record, name) not in (None, {})
    }
    fields["tags"] = record.tags
    line = correction(fields, usd(nano(told.cost) - (record.cost_nano or 0)), now)
    if told.tokens is not None and record.tokens is None:
        line["tokens"] = told.tokens
    line["note"] = f"the provider says {told.cost} USD"
    return line


def _book(
    policy: Policy, ledger: Ledger | None, log_path: str, line: dict[str, object], now: datetime, index: str
) -> None:
    if ledger is None or not policy.quotas:
        append_usage(log_path, usage_line(line))
        return

    def write() -> Amount:
        append_usage(log_path, usage_line(line))
        return booked_line(line)

    while True:  # whoever changes the policy all the while will stop some day
        try:
            ledger.adjust(windows_of(policy, line), basis_of(policy, log_path), write)
            return
        except Uncounted:
            ensure(policy, ledger, log_path, now, index=index)
