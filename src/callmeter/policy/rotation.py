"""A key's rotation as its journal tells it: how far it is, what its ceilings are, and when a key is due for one.

A rotation goes through these states, each recorded before the step that leaves it:

    begin -> intent -> minted -> tested -> ceiling -> swapped -> disabled -> deleted -> swept -> done
                 \\-> void (certainly not minted): back to begin          any of the first: rolled_back, conflict

`ceiling` is recorded each time before a limit is set, so that a limit that never was recorded is somebody else's.
`back` says that a person wants the old key again, `forth` that it cannot be; `replaced` that somebody has put a
registered key of theirs in place, which then is the new one. What was taken back is `settled` when nothing of it can
appear, or is owed, any more.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from callmeter.words.instant import parse_instant

# A minted key may spend so much until it has passed its test: an orphan is worth a cent.
TEST_ALLOWANCE = 10_000_000
# How long a request whose answer was lost may still take effect.
UNSURE = timedelta(seconds=600)
# A ceiling that resets within this is better rotated after it: the new key would start with what the old one has left.
NEAR_RESET = timedelta(hours=26)
# Providers may round a limit: within a hundredth of a cent it is the one that was set.
_ROUNDED = 100_000
EXPIRING = timedelta(days=14)
CLOSED = ("done", "rolled_back", "conflict", "superseded")
_BEFORE_SWAP = ("begin", "intent", "void", "minted", "tested")


@dataclass(frozen=True)
class Rotation:
    """Where a rotation stands. Limits in nano-dollars, None is no limit; `window` is the limit's reset, empty for
    none; `base` the old key's limit when it began, `full` what the limit is to be in the end.

    `unsure` are the instants at which keys may have been minted that nobody knows of; `limits` all that were set;
    `carried` is what the old key was left when it was taken back after a swap.
    """

    id: str
    state: str
    began: datetime
    by: str
    old_hash: str
    old_fingerprint: str
    base: int | None
    full: int | None
    window: str
    grace: timedelta
    pasted: bool = False
    attempt: int = 0
    new_hash: str = ""
    new_fingerprint: str = ""
    limits: tuple[int | None, ...] = ()
    old_stopped: datetime | None = None
    swapped: datetime | None = None
    grace_until: datetime | None = None
    disabled: datetime | None = None
    unsure: tuple[datetime, ...] = ()
    foreign: bool = False
    backing: bool = False
    carried: int | None = None
    settled: bool = False

    @property
    def open(self) -> bool:
        """Whether anything remains to be done."""
        return self.state not in CLOSED

    @property
    def before_swap(self) -> bool:
        """Whether callers still use the old key only."""
        return self.state in _BEFORE_SWAP

    @property
    def owed(self) -> bool:
        """Whether the old key, back in its place, has less than its whole limit until the next reset."""
        short = self.carried is not None or self.base != self.full
        return self.state == "rolled_back" and bool(self.window) and short and not (self.foreign or self.settled)

    @property
    def unsettled(self) -> bool:
        """Whether one that was taken back or gave way still has something to see to."""
        ended = self.state in ("rolled_back", "conflict") and not self.settled
        return ended and bool(self.unsure or self.owed)

    def may_appear(self, now: datetime) -> datetime | None:
        """Until when a key may still appear whose mint nobody saw answered; None when none can."""
        last = max(self.unsure, default=None)
        return last + UNSURE if last is not None and last + UNSURE > now else None


def read_rotation(records: Iterable[Mapping[str, object]]) -> Rotation | None:
    """The latest rotation in a journal; None when there never was one. Raises ValueError for a record that this
    version does not know: a rotation must not go on from a state that is only half understood."""
    rotation: Rotation | None = None
    for record in records:
        rotation = _after(rotation, record)
    return rotation


def _after(rotation: Rotation | None, record: Mapping[str, object]) -> Rotation | None:
    step, at = str(record.get("step")), _instant(record, "at")
    if step == "begin":
        return Rotation(
            id=_text(record, "id"),
            state="begin",
            began=at,
            by=_text(record, "by"),
            old_hash=_text(record, "old_hash"),
            old_fingerprint=_text(record, "old_fingerprint"),
            base=_amount(record, "base"),
            full=_amount(record, "full"),
            window=_text(record, "window"),
            grace=timedelta(seconds=_amount(record, "grace") or 0),
            pasted=record.get("pasted") is True,
            unsure=() if rotation is None or rotation.state == "done" else rotation.unsure,
        )
    if rotation is None:
        raise ValueError(f"a rotation that begins with {step!r}")
    match step:
        case "intent":
            attempt = _amount(record, "attempt") or 0
            return replace(rotation, state=step, attempt=attempt, unsure=(*rotation.unsure, at))
        case "void":
            return replace(rotation, state=step, unsure=rotation.unsure[:-1])
        case "minted":
            unsure = rotation.unsure if rotation.pasted else rotation.unsure[:-1]
            new_hash, fingerprint = _text(record, "hash"), _text(record, "fingerprint")
            return replace(rotation, state=step, new_hash=new_hash, new_fingerprint=fingerprint, unsure=unsure)
        case "ceiling":
            return replace(rotation, limits=(*rotation.limits, _amount(record, "limit")))
        case "foreign":
            return replace(rotation, foreign=True)
        case "back":
            return replace(rotation, backing=True)
        case "forth":
            return replace(rotation, backing=False)
        case "carried":
            return replace(rotation, carried=_amount(record, "limit"))
        case "settled":
            return replace(rotation, settled=True)
        case "replaced":
            new_hash, fingerprint = _text(record, "hash"), _text(record, "fingerprint")
            return replace(
                rotation,
                state="swapped",
                swapped=at,
                grace_until=at + rotation.grace,
                new_hash=new_hash,
                new_fingerprint=fingerprint,
                foreign=True,
            )
        case "old_stopped":
            return replace(rotation, old_stopped=at)
        case "old_freed":
            return replace(rotation, old_stopped=None)
        case "swapped":
            return replace(rotation, state=step, swapped=at, grace_until=at + rotation.grace)
        case "extended":
            return replace(rotation, grace_until=_instant(record, "until"))
        case "disabled":
            return replace(rotation, state=step, disabled=at)
        case "tested" | "deleted" | "swept" | "done" | "rolled_back" | "conflict" | "superseded":
            return replace(rotation, state=step)
    raise ValueError(f"a step {step!r}, which this callmeter does not know")


def name_of(label: str, rotation_id: str, attempt: int) -> str:
    """What a new key is called at the provider: it tells whose it is, and which attempt made it."""
    return f"{label} cm-{rotation_id}-{attempt}"


def is_ours(name: str, ids: Collection[str]) -> bool:
    """Whether a key's name at the provider is one that one of these rotations gave, under whatever label. Another
    registry may have the same label in the same account: its keys are not ours to remove."""
    found = re.fullmatch(r".+ cm-([0-9a-f]+)-\d+", name, re.DOTALL)
    return found is not None and found[1] in ids


def same_limit(one: int | None, other: int | None) -> bool:
    """Whether two limits are one, as far as a provider may have rounded it."""
    return one == other if one is None or other is None else abs(one - other) < _ROUNDED


def ceiling(rotation: Rotation, now: datetime, *, used: int, used_ever: int) -> int | None:
    """The new key's limit for now, so that both keys together may spend what one could: what the old key's limit
    leaves, in the window in which the rotation began; what the whole limit leaves after its reset. `used` is what
    the old key spent in the running window, `used_ever` of all time. None where there is no limit."""
    if rotation.base is None or rotation.full is None:
        return rotation.full
    if not rotation.window:
        return max(0, rotation.base - used_ever)
    if window_start(rotation.began, rotation.window) == window_start(now, rotation.window):
        return max(0, rotation.base - used)
    return max(0, rotation.full - used)


def is_whole(rotation: Rotation, now: datetime) -> bool:
    """Whether the new key's limit may be the whole again: there is none, it never resets, or it has been reset since
    the old key was stopped."""
    if rotation.full is None or not rotation.window:
        return True
    since = rotation.disabled or rotation.began
    return window_start(since, rotation.window) < window_start(now, rotation.window)


def window_start(at: datetime, window: str) -> datetime:
    """When the provider's running window began: midnight UTC; Monday's; the first of the month's. The earliest of all
    times where nothing resets."""
    midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if window == "daily":
        return midnight
    if window == "weekly":
        return midnight - timedelta(days=midnight.weekday())
    if window == "monthly":
        return midnight.replace(day=1)
    return datetime.min.replace(tzinfo=UTC)


def next_reset(at: datetime, window: str) -> datetime | None:
    """When the running window ends; None where nothing resets."""
    if window not in ("daily", "weekly", "monthly"):
        return None
    start = window_start(at, window)
    if window == "monthly":
        return (start + timedelta(days=32)).replace(day=1)
    return start + timedelta(days=1 if window == "daily" else 7)


def due_at(last: datetime | None, expires: datetime | None, every: timedelta) -> datetime | None:
    """When a key is due for rotation: a period after the last one, or a fortnight before it expires; None when
    neither is known."""
    by_age = None if last is None else last + every
    by_expiry = None if expires is None else expires - EXPIRING
    return min((each for each in (by_age, by_expiry) if each is not None), default=None)


def is_due(now: datetime, due: datetime | None, expires: datetime | None, window: str) -> tuple[bool, datetime | None]:
    """Whether to rotate now, and otherwise, for a key that is due, until when to wait.

    A window's first day is best, because the new key's limit is then nearly whole: keys that come due later in the
    window are taken then. Shortly before a reset a key waits for it, unless it would expire.
    """
    if due is None:
        return False, None
    reset = next_reset(now, window)
    if reset is not None and window != "daily":
        first_day = now < window_start(now, window) + timedelta(days=1)
        if first_day and due < reset:
            return True, None
        if due <= now and reset - now < NEAR_RESET and (expires is None or expires > reset + timedelta(days=1)):
            return False, reset
    return due <= now, None


def _text(record: Mapping[str, object], name: str) -> str:
    value = record.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is not text")
    return value


def _amount(record: Mapping[str, object], name: str) -> int | None:
    value = record.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"`{name}` is not a whole number")
    return value


def _instant(record: Mapping[str, object], name: str) -> datetime:
    return parse_instant(_text(record, name))
