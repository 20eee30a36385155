"""May this call go ahead? Pure arithmetic over where its buckets stand; nothing is read, held or written here.

The order: a frozen subject stops; then the hard quotas, each of which stops a call that does not fit, unless a lower
output ceiling makes it fit; then the stages that are reached. A soft quota only warns, a showback quota says nothing.
A call that costs nothing is never stopped for money. Of several refusals the one that lasts longest is told, so that
nobody waits for a reset that does not help.

An agent's allocation may have shared pools behind it. A call is then paid by one of them alone: by the allocation if
it fits, else by the first pool in which it fits whole, else by the one that affords the longest answer.
"""

from __future__ import annotations

from decimal import Decimal

from callmeter.policy.quotas import SHORT_PERIODS, Bucket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from callmeter.policy.quotas import Quota, Stage
    from callmeter.words.subject import Subject


class Need:
    """What a call may take, at most: `usd` in nano-dollars (None: its price is unknown), tokens, one call.

    `ceiling` is its output ceiling; `usd_at` and `tokens_at` give the need for another ceiling, and never less for a
    higher one. `model` is what it asks for; no downgrade leads to the same model. Give `new_session` False for a
    call that must keep its model: its session runs already, or the model of the downgrade costs no less.
    """

    def __init__(
        self,
        ceiling: int,
        usd_at: Callable[[int], int | None],
        tokens_at: Callable[[int], int],
        *,
        priority: str = "",
        model: str = "",
        new_session: bool = True,
    ) -> None:
        self.ceiling = ceiling
        self.usd_at = usd_at
        self.tokens_at = tokens_at
        self.priority = priority
        self.model = model
        self.new_session = new_session

    def of(self, unit: str, ceiling: int | None = None) -> int | None:
        """The need in one unit at a ceiling."""
        ceiling = self.ceiling if ceiling is None else ceiling
        if unit == "calls":
            return 1
        return self.tokens_at(ceiling) if unit == "tokens" else self.usd_at(ceiling)


class Stand:
    """A bucket and where it stands: settled and held, in its quota's unit; `granted` is approved headroom, `approved`
    whether an approval for this bucket lives."""

    __slots__ = ("approved", "bucket", "granted", "held", "settled")

    def __init__(self, bucket: Bucket, settled: int, held: int, granted: int = 0, approved: bool = False) -> None:
        self.bucket = bucket
        self.settled = settled
        self.held = held
        self.granted = granted
        self.approved = approved

    @property
    def quota(self) -> Quota:
        """Its bucket's quota."""
        return self.bucket.quota

    @property
    def taken(self) -> int:
        """Settled and held together."""
        return self.settled + self.held

    def limit(self, priority: str = "critical") -> int:
        """The limit for a call of this priority, with what was granted on top."""
        return self.quota.limit_for(priority) + self.granted

    def room(self, priority: str) -> int:
        """What is left for a call of this priority; never below 0, so that what costs nothing always fits."""
        return max(0, self.limit(priority) - self.taken)


class Frozen:
    """A subject that was stopped by hand or by the loop breaker: until a time in seconds since 1970, or 0 for good."""

    __slots__ = ("reason", "subject", "until")

    def __init__(self, subject: Subject, until: int = 0, reason: str = "") -> None:
        self.subject = subject
        self.until = until
        self.reason = reason


class Decision:
    """`action` is allow, downgrade, approve, busy or stop; `why` is why not: `frozen`, `price_unknown`, `held` (by
    calls in flight), `limit`, `reserved` (what is left is for calls of high priority), `too_large` (even an empty
    quota would not do) or `stage`.

    With allow, `ceiling` is the output ceiling that fits, `buckets` are those to book in, and `caps` the limits to
    hold while reserving, one for each bucket of a hard quota. `pool` is the shared pool that pays, or "".
    `warnings` are (stand, share) of the highest threshold that each quota has passed.

    Otherwise `stand` is where the call failed, `need` what it would have taken there, at least, `limit` what this
    call may use of it, and `stage` what was reached.
    """

    def __init__(
        self,
        action: str,
        ceiling: int,
        why: str = "",
        *,
        stand: Stand | None = None,
        need: int = 0,
        limit: int = 0,
        stage: Stage | None = None,
        frozen: Frozen | None = None,
    ) -> None:
        self.action = action
        self.ceiling = ceiling
        self.why = why
        self.stand = stand
        self.need = need
        self.limit = limit
        self.stage = stage
        self.frozen = frozen
        self.pool = ""
        self.buckets: list[Bucket] = []
        self.caps: list[tuple[Bucket, int]] = []
        self.warnings: list[tuple[Stand, Decimal]] = []

    @property
    def allowed(self) -> bool:
        """Whether the call may go ahead as it is."""
        return self.action == "allow"

    @property
    def model(self) -> str:
        """The model to use instead, with downgrade."""
        return self.stage.model if self.stage else ""

    @property
    def missing(self) -> int:
        """By how much the call exceeds what is left; 0 when that is not why."""
        if self.stand is None or self.why not in ("held", "limit", "reserved", "too_large"):
            return 0
        return self.stand.taken + self.need - self.limit

    @property
    def resets_at(self) -> int:
        """When the answer may be another one, in seconds since 1970; 0 when no clock changes it."""
        if self.frozen is not None:
            return self.frozen.until
        if self.stand is None or self.why in ("price_unknown", "too_large"):
            return 0
        return self.stand.bucket.end


def decide(stands: Sequence[Stand], need: Need, *, frozen: Frozen | None = None, lowest_ceiling: int = 256) -> Decision:
    """The decision over the buckets of a call (`candidate_buckets`). `lowest_ceiling`: below it, an answer is not
    worth having. `frozen` is a frozen subject that the call falls under (`frozen_for`)."""
    if frozen is not None:
        return Decision("stop", need.ceiling, "frozen", frozen=frozen)
    pools = dict.fromkeys(pool for stand in stands for pool in stand.quota.pools)
    best: Decision | None = None
    best_rank = (0, 0, False)
    for pool in ("", *pools):
        paying = [stand for stand in stands if _pays(stand.quota, pool)]
        decision = _decide(paying, need, lowest_ceiling)
        decision.pool = pool
        rank = _rank(decision, paying, need)
        if best is None or rank > best_rank:
            best, best_rank = decision, rank
    assert best is not None
    return best


def frozen_for(frozen: Sequence[Frozen], facts: Mapping[str, str], now: int) -> Frozen | None:
    """Of the frozen subjects that a call falls under, the one that lasts longest."""
    live = [one for one in frozen if (not one.until or now < one.until) and one.subject.bucket(facts) is not None]
    return max(live, key=lambda one: one.until or float("inf"), default=None)


def _pays(quota: Quota, pool: str) -> bool:
    """Whether a quota counts a call that this pool pays; without a pool, the allocation pays."""
    if quota.pools:
        return not pool
    return quota.subject.kind != "pool" or quota.subject.value == pool


def _rank(decision: Decision, paying: Sequence[Stand], need: Need) -> tuple[int, int, bool]:
    """Which of several payers to take: one that lets the call pass, with the longest answer, and that can pay it even
    if nothing is enforced. Of those that refuse, not one that never had enough for such a call."""
    mildness = ("stop", "approve", "busy", "downgrade", "allow").index(decision.action)
    if decision.action not in ("allow", "downgrade"):
        return mildness, 0, decision.why != "too_large"
    payers = [stand for stand in paying if stand.quota.pools or stand.quota.subject.kind == "pool"]
    fits = all((need.of(each.quota.unit, decision.ceiling) or 0) <= each.room(need.priority) for each in payers)
    return mildness, decision.ceiling, fits


def _decide(stands: Sequence[Stand], need: Need, lowest_ceiling: int) -> Decision:
    lowest = min(lowest_ceiling, need.ceiling)
    ceiling = need.ceiling
    refusals = []
    for stand in stands:
        if stand.quota.enforcement != "hard":
            continue
        if stand.quota.unit == "usd" and need.usd_at(ceiling) is None:
            return Decision("stop", ceiling, "price_unknown", stand=stand, limit=stand.limit(need.priority))
        fitting = _fitting(stand, need, ceiling, lowest)
        if fitting is None:
            refusals.append(_refusal(stand, need, lowest))
        else:
            ceiling = fitting
    if refusals:
        return max(refusals, key=_lasting)
    return _staged(stands, need, ceiling) or _allowed(stands, need, ceiling)


def _allowed(stands: Sequence[Stand], need: Need, ceiling: int) -> Decision:
    decision = Decision("allow", ceiling)
    for stand in stands:
        quota = stand.quota
        decision.buckets.append(stand.bucket)
        if quota.enforcement == "hard" and (need.of(quota.unit, ceiling) or 0) > 0:
            decision.caps.append((stand.bucket, stand.limit(need.priority)))
        if quota.enforcement != "showback":
            passed = [share for share in quota.warn_at if stand.taken >= share * stand.limit()]
            if passed and stand.taken:
                decision.warnings.append((stand, passed[-1]))
    return decision


def _fitting(stand: Stand, need: Need, ceiling: int, lowest: int) -> int | None:
    """The highest output ceiling, at most `ceiling`, with which the call fits; None when none does."""
    unit = stand.quota.unit
    room = stand.room(need.priority)

    def fits(candidate: int) -> bool:
        amount = need.of(unit, candidate)
        return amount is not None and amount <= room

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
    amount = need.of(stand.quota.unit, lowest) or 0
    limit = stand.limit(need.priority)
    if stand.settled + amount <= limit:
        action, why = "busy", "held"
    elif stand.taken + amount <= stand.limit():
        action, why = "stop", "reserved"
    elif amount > limit:
        action, why = "stop", "too_large"
    else:
        action, why = "busy" if stand.quota.period in SHORT_PERIODS else "stop", "limit"
    return Decision(action, lowest, why, stand=stand, need=amount, limit=limit)


def _lasting(refusal: Decision) -> tuple[bool, float]:
    """Which of several refusals a caller has to know of: the one that it cannot wait for, or has to longest."""
    resets_at = 0 if refusal.why == "held" else refusal.resets_at or float("inf")
    return refusal.action == "stop", resets_at


def _staged(stands: Sequence[Stand], need: Need, ceiling: int) -> Decision | None:
    """What the strictest stage that is reached says; None when no stage acts on this call."""
    found = [(stand, stage) for stand in stands if (stage := _stage(stand, need, ceiling)) is not None]
    for action in ("stop", "approve", "downgrade"):
        for stand, stage in found:
            if stage.action == action:
                amount = need.of(stand.quota.unit, ceiling) or 0
                return Decision(
                    action, ceiling, "stage", stand=stand, need=amount, limit=stand.limit(need.priority), stage=stage
                )
    return None


def _stage(stand: Stand, need: Need, ceiling: int) -> Stage | None:
    """The highest stage that is reached and acts: an approval lifts `approve`, and a call keeps its model when its
    session runs already. What costs nothing passes all stages of a quota of money."""
    quota = stand.quota
    if quota.enforcement != "hard" or not need.of(quota.unit, ceiling):
        return None
    for stage in reversed(quota.stages):
        if stand.taken < stage.share * stand.limit():
            continue
        if stage.action == "approve" and stand.approved:
            continue
        if stage.action == "downgrade" and (not need.new_session or stage.model == need.model):
            continue
        return stage
    return None
