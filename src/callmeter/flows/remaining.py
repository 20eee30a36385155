"""What is left: where the quotas stand that a caller falls under, without a call. Nothing is held or remembered."""

from __future__ import annotations

from callmeter.flows.booking import basis_of, stand_of, window_of_bucket
from callmeter.ledger.protocol import Uncounted
from callmeter.policy.decision import Need, decide
from callmeter.policy.quotas import UNITS, candidate_buckets
from callmeter.words.errors import Exit
from callmeter.words.period import zone_named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from callmeter.ledger.protocol import Ledger, Standing, Window
    from callmeter.policy.decision import Decision, Frozen, Stand
    from callmeter.policy.document import Policy
    from callmeter.policy.grants import Allowances
    from callmeter.policy.quotas import Bucket

_STATUSES = {"allow": Exit.DONE, "downgrade": Exit.DONE, "approve": Exit.APPROVAL, "busy": Exit.BUSY}


class Room:
    """What is left in one unit: in the tightest quota that stops calls, or without one, in the tightest of the others.
    Of an allocation and the shared pools behind it, it is the one that has most."""

    def __init__(self, stand: Stand, left: int) -> None:
        self.stand = stand
        self.left = left


class Remaining:
    """Whether a caller may go on. `frozen` is what stops it whatever is left; `rooms` has each unit with a quota;
    `decision` is the one for a call that needs next to nothing, or what was asked for."""

    def __init__(self, stands: Sequence[Stand], need: Need, frozen: Frozen | None) -> None:
        self.frozen = frozen
        self.decision: Decision = decide(stands, need, frozen=frozen, lowest_ceiling=1)
        self.rooms: dict[str, Room] = {}
        for unit in UNITS:
            room = _tightest([stand for stand in stands if stand.quota.unit == unit], need.priority)
            if room is not None:
                self.rooms[unit] = room

    @property
    def status(self) -> Exit:
        """0 for room, 3 for none until a reset or a change, 4 when approval is needed, 8 when others hold the rest."""
        return _STATUSES.get(self.decision.action, Exit.REFUSED)

    @property
    def held_up(self) -> bool:
        """Whether it is what others hold that stands in the way: some of them may be dead."""
        stand = self.decision.stand
        return self.status is not Exit.DONE and stand is not None and stand.held > 0


class Teller:
    """Reads standings for one policy and one log, whose usage index lies in `index`. `recover` finishes what dead
    processes hold; `wait` hears what is waited for."""

    def __init__(
        self,
        policy: Policy,
        ledger: Callable[[], Ledger],
        log: str,
        now: datetime,
        recover: Callable[[], None],
        *,
        index: str,
        wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._index = index
        self._wait = wait
        self.policy = policy
        self.log = log
        self.now = now
        self.ledger = ledger
        self._recover = recover

    def remaining(
        self, facts: Mapping[str, str], allowances: Allowances, *, usd: int, tokens: int, priority: str
    ) -> Remaining:
        """Whether a caller with these facts that wants at least so much may go on. Raises LedgerProblem."""
        need = Need(1, lambda _: usd, lambda _: tokens, priority=priority, new_session=False)
        frozen = allowances.frozen(facts)
        found = Remaining(self.stands(facts, allowances), need, frozen)
        if found.held_up:
            self._recover()
            found = Remaining(self.stands(facts, allowances), need, frozen)
        return found

    def stands(self, facts: Mapping[str, str], allowances: Allowances) -> list[Stand]:
        """The buckets that a caller falls under, and those of the pools behind them."""
        zone = zone_named(self.policy.time_zone)
        return self.stands_in(candidate_buckets(self.policy.quotas, facts, self.now, zone), allowances)

    def stands_in(self, buckets: Iterable[Bucket], allowances: Allowances) -> list[Stand]:
        """Where these buckets stand."""
        windows = {bucket: window_of_bucket(bucket) for bucket in buckets}
        if not windows:
            return []
        standings = self.standings(list(dict.fromkeys(windows.values())))
        return [stand_of(bucket, standings[window], allowances) for bucket, window in windows.items()]

    def standings(self, windows: Sequence[Window]) -> dict[Window, Standing]:
        """Where windows stand, after the log was counted if the ledger has not done so for this policy."""
        basis = basis_of(self.policy, self.log)
        try:
            return self.ledger().standings(windows, basis)
        except Uncounted:
            self.count()
            return self.ledger().standings(windows)

    def count(self) -> None:
        """Have the log counted for this policy, where it was not."""
        from callmeter.flows.rebuild import ensure

        ensure(self.policy, self.ledger(), self.log, self.now, index=self._index, tell=self._wait)


def _tightest(stands: Sequence[Stand], priority: str) -> Room | None:
    hard = [stand for stand in stands if stand.quota.enforcement == "hard"]
    counting = hard or list(stands)
    # Of an allocation and the pools behind it, one alone pays a call.
    payers = [stand for stand in counting if stand.quota.pools or stand.quota.subject.kind == "pool"]
    rooms = [Room(stand, stand.room(priority)) for stand in counting if stand not in payers]
    if payers:
        payer = max(payers, key=lambda stand: (stand.room(priority), bool(stand.quota.pools)))
        rooms.append(Room(payer, payer.room(priority)))
    return min(rooms, key=lambda room: room.left, default=None)
