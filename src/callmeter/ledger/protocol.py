"""What a ledger does, whichever engine keeps it: SQLite on one host, PostgreSQL for several.

    (none) --reserve--> reserved --settle--> settled
                           |  \\--release--> (none)
                           \\-- owner dead --> assumed --correct--> settled

A window is a bucket of money for a period, such as `agent:code` in November. It has what was settled in it and
what is held by calls in flight, each in nano-dollars, tokens and calls. `reserve` is one atomic step over every
window that a call falls under: all of them take the hold, or none does.

A call belongs to the windows in which it was reserved, however long it runs and whatever the clock does.
"""

from __future__ import annotations

from callmeter.words.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol
else:
    Protocol = object

UNITS = ("usd", "tokens", "calls")


class LedgerProblem(Unavailable):
    """The ledger cannot be used. Under a hard quota, calls are then refused."""

    code = "ledger"


class Window:
    """A bucket in a period: `start` and `end` in seconds since 1970, half-open; `end` is 0 for `life`."""

    __slots__ = ("bucket", "end", "period", "start")

    def __init__(self, bucket: str, period: str, start: int, end: int) -> None:
        self.bucket = bucket
        self.period = period
        self.start = start
        self.end = end

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies a window."""
        return self.bucket, self.period, self.start

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Window) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Window{self.key}"


class Amount:
    """Nano-dollars, tokens and calls, added together."""

    __slots__ = ("calls", "tokens", "usd")

    def __init__(self, usd: int = 0, tokens: int = 0, calls: int = 0) -> None:
        self.usd = usd
        self.tokens = tokens
        self.calls = calls

    def of(self, unit: str) -> int:
        """The part in one unit."""
        value: int = getattr(self, unit)
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Amount) and (self.usd, self.tokens, self.calls) == (
            other.usd,
            other.tokens,
            other.calls,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Amount(usd={self.usd}, tokens={self.tokens}, calls={self.calls})"


class Standing:
    """Where a window stands."""

    __slots__ = ("held", "settled")

    def __init__(self, settled: Amount, held: Amount) -> None:
        self.settled = settled
        self.held = held

    def taken(self, unit: str) -> int:
        """Settled and held together."""
        return self.settled.of(unit) + self.held.of(unit)


class Cap:
    """A reservation's condition: in this window, settled + held + this hold must not exceed `limit` units."""

    __slots__ = ("limit", "unit", "window")

    def __init__(self, window: Window, unit: str, limit: int) -> None:
        self.window = window
        self.unit = unit
        self.limit = limit


class Reservation:
    """A call's hold. `deadline` is when its owner is surely gone; `owner` is host, boot and process."""

    __slots__ = ("call_id", "created", "deadline", "generation_id", "hold", "owner", "windows")

    def __init__(
        self,
        call_id: str,
        windows: Sequence[Window],
        hold: Amount,
        *,
        created: int,
        deadline: int,
        owner: str,
        generation_id: str = "",
    ) -> None:
        self.call_id = call_id
        self.windows = list(windows)
        self.hold = hold
        self.created = created
        self.deadline = deadline
        self.owner = owner
        self.generation_id = generation_id


class Ledger(Protocol):
    """Every method is atomic, durable when it returns, safe from several threads, processes and hosts, and raises
    LedgerProblem (or Busy) when it could not be done; then nothing was changed."""

    def standings(self, windows: Iterable[Window]) -> dict[Window, Standing]:
        """Where these windows stand. One that is not there yet stands at nothing."""

    def reserve(self, reservation: Reservation, caps: Sequence[Cap]) -> bool:
        """Hold the amount in every window, if every cap allows it; else change nothing and give False. The same
        call again changes nothing and gives True."""

    def settle(self, call_id: str, cost: Amount, *, before: Callable[[], None] | None = None) -> bool:
        """Take the hold back and book the cost in the same windows. False when there is no such reservation (any
        more). `before` runs first, in the same step: the usage line is written there, so that at every instant
        ledger and log tell the same."""

    def release(self, call_id: str) -> bool:
        """Take the hold back: certainly nothing was sent."""

    def adjust(self, windows: Iterable[Window], difference: Amount) -> None:
        """Book a correction, which may be negative, in windows that exist."""

    def open_reservations(self) -> list[Reservation]:
        """Every call that holds something, oldest first."""

    def replace(self, totals: dict[Window, Amount], mark: str) -> None:
        """Set what is settled in all windows from an independent count (the log); holds stay. `mark` is kept."""

    def mark(self) -> str:
        """What `replace` was last given; empty in a new ledger."""

    def remember(self, key: str, value: str | None = None) -> str:
        """The kept text under a key, `` when there is none; with `value`, keep it and give what was there before."""
