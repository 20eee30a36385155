"""An outcome: what came of a work item, and what it is worth; one JSON object a line in `outcomes.jsonl`.

A line is never changed. One with `corrects` says what is different about the outcome of that id, and leaves the rest.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from callmeter.words.instant import parse_instant
from callmeter.words.jsontext import dumps
from callmeter.words.money import nano

VERSION = 1
MAX_LINE = 16 * 1024
MAX_NOTE = 1000
# What an outcome is about, besides its work item: tags of the calls that brought it about.
TAGS = ("agent", "purpose", "customer")


class Outcome(msgspec.Struct, frozen=True):
    """`value` is in USD, None when nobody said; `accepted` None when nobody judged. `at` is when it happened,
    `recorded_at` when the line was written, `by` who wrote it."""

    v: int
    id: str
    at: str
    work_item: str = ""
    value: Decimal | None = None
    accepted: bool | None = None
    agent: str = ""
    purpose: str = ""
    customer: str = ""
    note: str = ""
    corrects: str = ""
    recorded_at: str = ""
    by: str = ""

    @property
    def instant(self) -> datetime:
        """When it happened, aware, UTC."""
        return parse_instant(self.at)

    @property
    def worth(self) -> int:
        """Nano-dollars; nothing for what was rejected."""
        return 0 if self.value is None or self.accepted is False else nano(self.value)

    @property
    def valuable(self) -> bool:
        """Whether it counts as an output: accepted, or worth something and not rejected."""
        return self.worth > 0 if self.accepted is None else self.accepted

    def corrected(self, by: Outcome) -> Outcome:
        """The outcome with what a correction says of it; `at` stays."""
        said = {
            name: getattr(by, name)
            for name in ("work_item", "value", "accepted", *TAGS, "note")
            if getattr(by, name) not in (None, "")
        }
        return msgspec.structs.replace(self, **said)

    def same(self, other: Outcome) -> bool:
        """Whether two lines say the same, whenever and by whomever they were written."""
        own = ("at", "recorded_at", "by")
        return all(getattr(self, name) == getattr(other, name) for name in self.__struct_fields__ if name not in own)


def outcome_line(outcome: Outcome) -> bytes:
    """One line, newline included; what is not known is left out."""
    fields = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
    return dumps({name: value for name, value in fields.items() if value not in (None, "")}).encode("ascii") + b"\n"


_decoder = msgspec.json.Decoder(Outcome)


def parse_outcome(line: bytes) -> Outcome:
    """One line as an outcome. Raises ValueError with the reason for everything else."""
    if len(line) > MAX_LINE:
        raise ValueError(f"longer than {MAX_LINE} bytes")
    try:
        outcome = _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if outcome.v != VERSION:
        raise ValueError(f"version {outcome.v}, this program reads {VERSION}")
    if not outcome.id:
        raise ValueError("no id")
    if not outcome.work_item and not outcome.corrects:
        raise ValueError("no work_item")
    if outcome.value is not None and (nano(outcome.value) < 0 or outcome.value < 0):
        raise ValueError("a value below 0")
    parse_instant(outcome.at)
    if outcome.recorded_at:
        parse_instant(outcome.recorded_at)
    return outcome
