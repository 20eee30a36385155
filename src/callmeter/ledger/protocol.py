"""What a ledger does, whichever engine keeps it: SQLite on one host, PostgreSQL for several.

    (none) --reserve--> reserved --settle--> (none), its cost in the totals
                           |  \\--release--> (none)
                           \\-- its host is gone --take_over--> assumed --settle--> (none), corrected in the log

A window is a bucket of money for a period, such as `agent:code` in November. It has what was settled in it and
what is held by calls in flight, each in nano-dollars, tokens and calls. `reserve` is one atomic step over every
window that a call falls under: all of them take the hold, or none does.

A call belongs to the windows in which it was reserved, however long it runs and whatever the clock does.

What is settled is a copy of what usage logs say: each log that shares the ledger has its own share of each total, and
a `Basis` says of a log for which quotas its lines were counted. Where that is not what a caller expects, because the
policy has a new quota or the ledger is new, `Uncounted` says so before anything is decided; `recount` mends it.
"""

from __future__ import annotations

from callmeter.words.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol
else:
    Protocol = object

# Nothing in a ledger is larger than this, and no sum of what is believable overflows 64 bits.
MOST = 10**17
# A clock that is this many seconds behind one that was here before went back; less is two hosts that differ.
BACKWARDS = 3600
_DAY = 86_400


class LedgerProblem(Unavailable):
    """The ledger cannot be used. Under a hard quota, calls are then refused."""

    code = "ledger"


class DamagedLedger(LedgerProblem):
    """What lies at the ledger's path cannot be a ledger any more; `budget recover --rebuild` makes a new one."""

    code = "ledger_damaged"


class Uncounted(Exception):
    """The ledger has not counted this log for these quotas, so its totals say nothing about them."""


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

    @property
    def parts(self) -> tuple[int, int, int]:
        """All three."""
        return self.usd, self.tokens, self.calls

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.usd + other.usd, self.tokens + other.tokens, self.calls + other.calls)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.usd - other.usd, self.tokens - other.tokens, self.calls - other.calls)

    def __bool__(self) -> bool:
        return self.parts != (0, 0, 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Amount) and self.parts == other.parts

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

    def __repr__(self) -> str:
        return f"Standing(settled={self.settled}, held={self.held})"


class Cap:
    """A reservation's condition: in this window, settled + held + this hold must not exceed `limit` units."""

    __slots__ = ("limit", "unit", "window")

    def __init__(self, window: Window, unit: str, limit: int) -> None:
        self.window = window
        self.unit = unit
        self.limit = limit


class Basis:
    """What a total stands on: the identity of a usage log, and the mark of the quotas that its lines are counted
    for. A mark is text that differs whenever the windows of some line may differ."""

    __slots__ = ("log", "mark")

    def __init__(self, log: str, mark: str) -> None:
        self.log = log
        self.mark = mark


class Reservation:
    """A call's hold. `deadline` is when its owner is surely gone; `owner` says which process that is; `record` is
    the call's usage line as it would be if nothing more became known, as JSON."""

    __slots__ = ("basis", "call_id", "created", "deadline", "hold", "owner", "record", "windows")

    def __init__(
        self,
        call_id: str,
        windows: Iterable[Window],
        hold: Amount,
        *,
        created: int,
        deadline: int,
        owner: str,
        basis: Basis,
        record: str = "{}",
    ) -> None:
        self.call_id = call_id
        # A call counts once in a window, however many quotas it falls under there; in one order for everybody, so
        # that no two callers wait for each other.
        self.windows = sorted(set(windows), key=lambda window: window.key)
        self.hold = hold
        self.created = created
        self.deadline = deadline
        self.owner = owner
        self.basis = basis
        self.record = record


class Difference:
    """A window in which a recount found another sum than what was settled; both are one log's share."""

    __slots__ = ("counted", "settled", "window")

    def __init__(self, window: Window, settled: Amount, counted: Amount) -> None:
        self.window = window
        self.settled = settled
        self.counted = counted


class Ledger(Protocol):
    """Every method is atomic, durable when it returns, safe from several threads, processes and hosts, and raises
    LedgerProblem (or Busy) when it could not be done; then nothing was changed."""

    def standings(self, windows: Iterable[Window], basis: Basis | None = None) -> dict[Window, Standing]:
        """Where these windows stand. One that is not there yet stands at nothing. Raises Uncounted when the totals
        do not stand on `basis`."""

    def windows(self, period: str, start: int) -> dict[Window, Standing]:
        """Where every window of a kind of period stands that begins at this instant and was ever booked in."""

    def amounts(self, period: str, start: int, first: str, unit: str) -> list[tuple[str, int, int, int]]:
        """The same in one unit for buckets whose names begin so, of which there may be hundreds of thousands: the name,
        what is settled, what is held, and the calls in both."""

    def reserve(self, reservation: Reservation, caps: Sequence[Cap]) -> bool:
        """Hold the amount in every window, if every cap allows it; else change nothing and give False. The same
        call again replaces its hold: another attempt may need more, or lie in other windows. Raises Uncounted, and
        LedgerProblem when another host took the call over, or when a capped window of a later period is in use: then
        the clock went back."""

    def settle(self, call_id: str, write: Callable[[Amount], Amount], *, only_held: bool = False) -> bool:
        """Take the hold back and book, in the same windows, what `write` gives: it writes the usage line, and runs
        in the same step, so that at every instant ledger and log tell the same. It is given what another host has
        already booked for this call, which is nothing unless that host took it over; then its line is a correction,
        and this log must be counted anew. False when there is no such reservation (any more); `write` runs all the
        same, unless `only_held`, and nothing is booked."""

    def release(self, call_id: str) -> bool:
        """Take the hold back: certainly nothing was sent, and nothing will be."""

    def take_over(
        self,
        call_id: str,
        log: str,
        write: Callable[[Reservation], Amount],
        *,
        logged: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Book a call whose host is gone, in the share of another log: `write` writes the line there and gives what
        it says. Should the call's own host come back, its `settle` is told. False when there is no such reservation
        any more; then `write` does not run.

        The other log's share is distrusted where it was counted for other quotas than those that the call is held
        under, and where the log had the line already, as `logged` tells when it is asked after `write`: whoever wrote
        it died before it was booked, and the share may have been counted with it since."""

    def adjust(self, windows: Iterable[Window], basis: Basis, write: Callable[[], Amount]) -> None:
        """Book a correction in those windows that exist: `write` writes its line and gives the difference, which may
        be negative. Raises Uncounted; then `write` did not run."""

    def open_reservations(self) -> list[Reservation]:
        """Every call that holds something, oldest first."""

    def taken_over(self, log: str) -> list[Reservation]:
        """The calls of a log that another host has taken over and that nothing was heard of since; `hold` is what
        that host has booked."""

    def recount(
        self,
        basis: Basis,
        now: int,
        *,
        count: Callable[[], dict[Window, Amount]],
        windows_of: Callable[[Reservation], Iterable[Window] | None],
        write: bool = True,
    ) -> list[Difference]:
        """Make a log's share of the totals what `count` gives, in all windows that have not ended, and give the
        differences; with `write` False, only give them. While `count` runs, no line of a reserved call is appended
        to the log. The log's open reservations move to `windows_of` them, or end, for None: their line is counted."""

    def counted(self, log: str) -> str:
        """The mark that a log was last counted for; "" when its share cannot be relied on."""

    def logs(self) -> list[str]:
        """The identities of all logs that were ever counted here."""

    def distrust(self, log: str) -> None:
        """A line was written that no reservation accounts for: whoever wants to rely on this log's share next, must
        have it counted anew."""

    def remember(self, key: str, value: str | None = None) -> str:
        """The kept text under a key, "" when there is none; with `value`, keep it and give what was there before."""

    def forget_ahead(self, now: int) -> int:
        """Drop windows of times that are still to come, left by a clock that was ahead; gives how many."""

    def prune(self, now: int) -> int:
        """Drop what nobody asks for any more; gives how many windows. `reserve` does it by itself now and then."""


def outdated(now: int) -> tuple[int, int]:
    """Before when a window must have ended to be dropped: a long one, and a short one (up to an hour)."""
    return now - 400 * _DAY, now - 2 * _DAY


def clock_went_back(window: Window) -> LedgerProblem:
    """The problem of a caller for whom a window lies in the future."""
    from datetime import UTC, datetime

    ahead = datetime.fromtimestamp(window.start, UTC)
    return LedgerProblem(
        f"the clock went back: calls on {window.bucket} are already booked in a {window.period} that begins "
        f"{ahead:%Y-%m-%d %H:%M} UTC",
        "set the clock; if it was ahead before and is right now, run `callmeter budget recover --accept-clock`",
        code="clock",
    )


def given_up(call_id: str) -> LedgerProblem:
    """The problem of a call that another host has taken over, or that recovery released, while it ran."""
    return LedgerProblem(
        f"the call {call_id} was given up meanwhile: nothing was heard of its process", "make it again"
    )
