"""May this call go ahead? Pure arithmetic over where its buckets stand; nothing is read, held or written here.

The order: a frozen subject stops; then each quota in turn. A hard quota stops a call that does not fit, unless a
lower output ceiling makes it fit. Stages act from their share of the limit on. A soft quota only warns, a
showback quota says nothing. A call that costs nothing is never stopped for money.
"""

from __future__ import annotations

from decimal import Decimal

from callmeter.policy.quotas import SHORT_PERIODS, Bucket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Need:
    """What a call may take, at most: `usd` in nano-dollars (None: its price is unknown), tokens, one call.

    `ceiling` is its output ceiling; `usd_at` and `tokens_at` give the need for another ceiling.
    """

    def __init__(
        self,
        ceiling: int,
        usd_at: Callable[[int], int | None],
        tokens_at: Callable[[int], int],
        *,
        priority: str = "",
        new_session: bool = True,
    ) -> None:
        self.ceiling = ceiling
        self.usd_at = usd_at
        self.tokens_at = tokens_at
        self.priority = priority
        self.new_session = new_session

    def of(self, unit: str, ceiling: int | None = None) -> int | None:
        """The need in one unit at a ceiling."""
        ceiling = self.ceiling if ceiling is None else ceiling
        if unit == "calls":
            return 1
        return self.tokens_at(ceiling) if unit == "tokens" else self.usd_at(ceiling)


class Stand:
    """A bucket and where it stands: settled and held, in its quota's unit; `granted` is approved headroom."""

    __slots__ = ("approved", "bucket", "granted", "held", "settled")

    def __init__(self, bucket: Bucket, settled: int, held: int, granted: int = 0, approved: bool = False) -> None:
        self.bucket = bucket
        self.settled = settled
        self.held = held
        self.granted = granted
        self.approved = approved

    @property
    def taken(self) -> int:
        """Settled and held together."""
        return self.settled + self.held

    def limit(self, priority: str = "") -> int:
        """The limit for a call of this priority, with what was granted on top."""
        return self.bucket.quota.limit_for(priority) + self.granted


class Decision:
    """`action` is allow, downgrade, approve, busy or stop; `stand` is the bucket that decided it.

    With allow, `ceiling` is the output ceiling that fits, and `caps` are the limits to hold while reserving, one
    for each bucket of a hard quota. `warnings` are (bucket, share) of thresholds that are passed.
    """

    def __init__(
        self, action: str, ceiling: int, *, stand: Stand | None = None, model: str = "", why: str = ""
    ) -> None:
        self.action = action
        self.ceiling = ceiling
        self.stand = stand
        self.model = model
        self.why = why
        self.caps: list[tuple[Bucket, int]] = []
        self.warnings: list[tuple[Bucket, Decimal]] = []


def decide(stands: Sequence[Stand], need: Need, *, lowest_ceiling: int = 256) -> Decision:
    """The decision over all buckets of a call. `lowest_ceiling`: below it, an answer is not worth having."""
    ceiling = need.ceiling
    for stand in stands:
        quota = stand.bucket.quota
        if quota.enforcement != "hard":
            continue
        if quota.unit == "usd" and need.usd_at(ceiling) is None:
            return Decision("stop", ceiling, stand=stand, why="price_unknown")
        fitting = _fitting(stand, need, ceiling, min(lowest_ceiling, need.ceiling))
        if fitting is None:
            return _refusal(stand, need, min(lowest_ceiling, need.ceiling))
        ceiling = fitting
    for action in ("stop", "approve", "downgrade"):
        for stand in stands:
            stage = _stage(stand, need, action)
            if stage is None:
                continue
            if action == "approve" and stand.approved:
                continue
            if action == "downgrade" and not need.new_session:
                continue
            return Decision(action, ceiling, stand=stand, model=stage, why="stage")
    decision = Decision("allow", ceiling)
    for stand in stands:
        quota = stand.bucket.quota
        if quota.enforcement == "hard" and (need.of(quota.unit, ceiling) or 0) > 0:
            decision.caps.append((stand.bucket, stand.limit(need.priority)))
        if quota.enforcement != "showback":
            passed = [share for share in quota.warn_at if quota.limit and stand.taken >= share * quota.limit]
            if passed:
                decision.warnings.append((stand.bucket, passed[-1]))
    return decision


def _fitting(stand: Stand, need: Need, ceiling: int, lowest: int) -> int | None:
    """The highest output ceiling, at most `ceiling`, with which the call fits; None when none does."""
    unit = stand.bucket.quota.unit
    room = stand.limit(need.priority) - stand.taken

    def fits(candidate: int) -> bool:
        amount = need.of(unit, candidate)
        return amount is not None and (amount == 0 or amount <= room)

    if fits(ceiling):
        return ceiling
    if unit == "calls" or not fits(lowest):
        return None
    low, high = lowest, ceiling
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _refusal(stand: Stand, need: Need, lowest: int) -> Decision:
    quota = stand.bucket.quota
    amount = need.of(quota.unit, lowest) or 0
    free_of_holds = stand.settled + amount <= stand.limit(need.priority)
    soon = free_of_holds or quota.period in SHORT_PERIODS
    return Decision("busy" if soon else "stop", lowest, stand=stand, why="held" if free_of_holds else "limit")


def _stage(stand: Stand, need: Need, action: str) -> str | None:
    """The argument of the stage that acts, "" for one without; None when none does."""
    quota = stand.bucket.quota
    if quota.enforcement != "hard" or not quota.limit or not (need.of(quota.unit) or 0):
        return None
    reached = [stage for stage in quota.stages if stand.taken >= stage.share * stand.limit()]
    return reached[-1].model if reached and reached[-1].action == action else None
