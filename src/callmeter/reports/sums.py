"""What a group of usage lines adds up to: exact sums in nano-dollars, counts, latencies; and shares that make 100 %.

A call is a line that was sent. Refused lines were not, adjustment lines (`corrects`) change what an earlier call
cost: both count their money and tokens, but they are no calls.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from decimal import Decimal

from callmeter.words.record import UsageRecord

# Calls that brought no whole answer, though nobody asked for their end. `unknown` is a process that died.
FAILED = frozenset(("error", "timeout", "truncated", "unknown"))
_LONGEST = 1 << 53


class Sums:
    """A group's running sums. `unknown` calls have no known cost and are in no sum of money; `priced` lines have one.
    `answers` holds the milliseconds of each call that was answered, and nothing of those that failed: a refused
    connection would make a provider look fast."""

    __slots__ = (
        "answers",
        "calls",
        "errors",
        "nano",
        "priced",
        "priced_nano",
        "priced_tokens",
        "refused",
        "tokens_cached",
        "tokens_in",
        "tokens_out",
        "unknown",
    )

    def __init__(self) -> None:
        self.calls = 0
        self.refused = 0
        self.errors = 0
        self.tokens_in = 0
        self.tokens_out = 0
        self.tokens_cached = 0
        self.nano = 0
        self.priced = 0
        self.priced_nano = 0
        self.priced_tokens = 0
        self.unknown = 0
        self.answers = array("q")

    def add(self, record: UsageRecord, nano: int | None) -> None:
        """Count one line; `nano` is its cost, which is worth computing once."""
        status = record.status
        if nano is not None:
            self.nano += nano
        tokens = record.tokens
        if tokens is not None:
            self.tokens_in += tokens.in_
            self.tokens_out += tokens.out
            self.tokens_cached += tokens.cached
            if nano is not None:
                self.priced_nano += nano
                self.priced_tokens += tokens.in_ + tokens.out
        elif nano is not None and record.corrects is not None:
            self.priced_nano += nano
        if status == "refused":
            self.refused += record.corrects is None
            return
        if nano is not None:
            self.priced += 1
        if record.corrects is not None:
            return
        self.calls += 1
        if nano is None:
            self.unknown += 1
        if status == "ok":
            duration = record.duration_ms
            if duration is not None and 0 <= duration < _LONGEST:
                self.answers.append(duration)
        elif status in FAILED:
            self.errors += 1

    def merge(self, other: Sums) -> None:
        """Add another group's sums."""
        for name in self.__slots__:
            if name != "answers":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        self.answers.extend(other.answers)

    def settle_unknown(self, tokens: int) -> None:
        """A call of this group whose cost was unknown has been priced by a correction."""
        self.unknown -= 1
        self.priced_tokens += tokens

    @property
    def cost(self) -> int | None:
        """Nano-dollars, exact; None when the costs of all calls are unknown."""
        return None if self.unknown and not self.priced and not self.nano else self.nano

    @property
    def per_1k(self) -> int | None:
        """Nano-dollars for 1,000 tokens in and out, rounded; over the calls whose cost and tokens are known."""
        if self.priced_tokens <= 0:
            return None
        return (2000 * self.priced_nano + self.priced_tokens) // (2 * self.priced_tokens)

    @property
    def mean_ms(self) -> int | None:
        """Mean latency of the answered calls, rounded."""
        count = len(self.answers)
        return (2 * sum(self.answers) + count) // (2 * count) if count else None

    def p95_ms(self) -> int | None:
        """The 95th percentile by nearest rank, exact: the smallest latency that 95 % of the answers stay within.
        Sorts the latencies in place, which makes merging sorted groups cheap."""
        if not self.answers:
            return None
        self.answers = array("q", sorted(self.answers))
        return self.answers[-(-95 * len(self.answers) // 100) - 1]


def merged(groups: Sequence[Sums]) -> Sums:
    """The sums of several groups; the group itself when it is only one."""
    if len(groups) == 1:
        return groups[0]
    whole = Sums()
    for group in groups:
        whole.merge(group)
    return whole


def apportion(parts: Sequence[int], total: int, units: int) -> list[int]:
    """Whole units for each part of `total`, which add up to `units` (largest remainder; ties to the earlier part).

    `total` is the sum of the parts and not 0; a part may be negative.
    """
    if total < 0:
        parts, total = [-part for part in parts], -total
    shares = [part * units // total for part in parts]
    remainders = [part * units - share * total for part, share in zip(parts, shares, strict=True)]
    for index in sorted(range(len(parts)), key=lambda index: -remainders[index])[: units - sum(shares)]:
        shares[index] += 1
    return shares


def share_of(units: int) -> Decimal:
    """Tenths of a per cent as a Decimal from 0 to 1."""
    return Decimal(units).scaleb(-3)
