"""Approvals and freezes: what was asked for, granted, refused and stopped, and what of it holds at an instant.

An approval gives one bucket headroom over its limits and lets it pass the stages that ask for approval. It ends by
itself: with the quota's period, at a time, after so many calls. It never makes smaller what is settled or held.
"""

from __future__ import annotations

from callmeter.policy.decision import Frozen, frozen_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from callmeter.words.subject import Subject

# Where a bucket's own part is booked apart from what a shared pool pays for it.
_OWN = "own/"


class Request:
    """Somebody asks for `amount` more (in `unit`; 0: only to pass a stage) for a bucket. `period` is "" for all the
    bucket's quotas in that unit. `until` is when it has no meaning any more, in seconds since 1970.

    `id` is made from all the rest (`grant_lines.request_id`): what is approved is what was read.
    """

    def __init__(
        self,
        bucket: str,
        *,
        id: str = "",
        unit: str = "usd",
        amount: int = 0,
        period: str = "",
        until: int,
        at: int,
        by: str,
        agent: str = "",
        reason: str = "",
    ) -> None:
        self.id = id
        self.bucket = bucket
        self.unit = unit
        self.amount = amount
        self.period = period
        self.until = until
        self.at = at
        self.by = by
        self.agent = agent
        self.reason = reason

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What two open requests cannot share."""
        return self.bucket, self.period, self.unit, self.agent


class Grant:
    """An approval of the request `id`. `ends` has for each period until when, in seconds since 1970, 0 for good;
    `calls`, for some or none of them, the number of calls in that period at which it ends."""

    def __init__(
        self,
        id: str,
        bucket: str,
        *,
        unit: str,
        amount: int,
        ends: dict[str, int],
        calls: dict[str, int],
        at: int,
        by: str,
        reason: str = "",
    ) -> None:
        self.id = id
        self.bucket = bucket
        self.unit = unit
        self.amount = amount
        self.ends = ends
        self.calls = calls
        self.at = at
        self.by = by
        self.reason = reason

    def holds(self, bucket: str, period: str, unit: str, calls: int, now: int) -> bool:
        """Whether it is in effect for a bucket in a period that has seen so many calls."""
        if bucket.removeprefix(_OWN) != self.bucket or unit != self.unit or period not in self.ends:
            return False
        end, last = self.ends[period], self.calls.get(period)
        return (not end or now < end) and (last is None or calls < last)

    def over(self, now: int) -> bool:
        """Whether its time has passed."""
        return all(end and end <= now for end in self.ends.values())


class Denial:
    """The request `id` was refused, which holds for its bucket until the request has no meaning any more."""

    def __init__(
        self, id: str, bucket: str, *, unit: str, period: str, until: int, at: int, by: str, reason: str
    ) -> None:
        self.id = id
        self.bucket = bucket
        self.unit = unit
        self.period = period
        self.until = until
        self.at = at
        self.by = by
        self.reason = reason


class Freeze(Frozen):
    """A stopped subject, by whom and when (`at`, in seconds since 1970). `automatic` means the loop breaker."""

    def __init__(
        self, id: str, subject: Subject, *, until: int, at: int, by: str, reason: str, automatic: bool = False
    ) -> None:
        super().__init__(subject, until, reason)
        self.id = id
        self.at = at
        self.by = by
        self.automatic = automatic


class Thaw:
    """The freezes that were lifted, by their ids, and when (`at`, in seconds since 1970)."""

    def __init__(self, lifts: tuple[str, ...], at: int = 0) -> None:
        self.lifts = lifts
        self.at = at


class Allowances:
    """What was asked, granted, refused and stopped. `problems` are sentences about lines that were left out.

    For a call, only what is in effect at `now` is read: `requests` is then empty.
    """

    def __init__(self, now: datetime) -> None:
        self.now = int(now.timestamp())
        self.problems: list[str] = []
        self.requests: dict[str, Request] = {}
        self.grants: dict[str, Grant] = {}
        self.denials: dict[str, Denial] = {}
        self.freezes: dict[str, Freeze] = {}
        self._lifted: set[str] = set()
        self._latest: dict[tuple[str, str, str, str], str] = {}

    def take(self, event: Request | Grant | Denial | Freeze | Thaw, *, trusted: bool) -> None:
        """The next event of a file, in its order. An agent's file is not `trusted`: it may ask and stop, never grant
        nor lift. Raises ValueError."""
        if isinstance(event, Freeze):
            event.automatic = not trusted
            if event.id not in self._lifted:
                self.freezes[event.id] = event
        elif isinstance(event, Request):
            self.requests[event.id] = event
            self._latest[event.place] = event.id
        elif not trusted:
            raise ValueError("only the approvals file can approve, deny and thaw")
        elif isinstance(event, Grant):
            self.denials.pop(event.id, None)
            self.grants[event.id] = event
        elif isinstance(event, Denial):
            self.grants.pop(event.id, None)
            self.denials[event.id] = event
        else:
            self._lifted.update(event.lifts)
            for id in event.lifts:
                self.freezes.pop(id, None)

    def granted(self, bucket: str, period: str, unit: str, calls: int = 0) -> int:
        """The headroom over a bucket's limit. `calls` are those of its period so far, held ones included."""
        return sum(grant.amount for grant in self._holding(bucket, period, unit, calls))

    def approved(self, bucket: str, period: str, unit: str, calls: int = 0) -> bool:
        """Whether an approval lets calls pass the stages of a bucket that ask for one."""
        return bool(self._holding(bucket, period, unit, calls))

    def last_call(self, bucket: str, period: str, unit: str, calls: int = 0) -> int | None:
        """The number of calls in the period at which the first of the approvals in effect ends; None when none of
        them counts calls. As a cap of the reservation it makes `approve --calls` exact."""
        ends = [grant.calls[period] for grant in self._holding(bucket, period, unit, calls) if period in grant.calls]
        return min(ends, default=None)

    def denied(self, bucket: str, period: str, unit: str) -> Denial | None:
        """The refusal that holds for a bucket, so that nobody is asked twice."""
        for denial in self.denials.values():
            same = denial.bucket == bucket.removeprefix(_OWN) and denial.unit == unit
            if same and denial.period in ("", period) and self.now < denial.until:
                return denial
        return None

    def frozen(self, facts: Mapping[str, str]) -> Freeze | None:
        """Of the freezes that a call with these facts falls under, the one that lasts longest."""
        found = frozen_for(list(self.freezes.values()), facts, self.now) if self.freezes else None
        return found if isinstance(found, Freeze) else None

    def live_freezes(self) -> list[Freeze]:
        """The freezes in effect, oldest first."""
        live = [one for one in self.freezes.values() if not one.until or self.now < one.until]
        return sorted(live, key=lambda one: one.at)

    def state(self, request: Request) -> str:
        """`open`, `approved`, `denied`, `expired` when it or its approval is over, or `replaced` by a later one."""
        grant = self.grants.get(request.id)
        if grant is not None:
            return "expired" if grant.over(self.now) else "approved"
        if request.id in self.denials:
            return "denied"
        if request.until <= self.now:
            return "expired"
        return "open" if self._latest[request.place] == request.id else "replaced"

    def open_request(self, place: tuple[str, str, str, str]) -> Request | None:
        """The open request for a place, if there is one."""
        latest = self._latest.get(place)
        found = self.requests[latest] if latest else None
        return found if found and self.state(found) == "open" else None

    def _holding(self, bucket: str, period: str, unit: str, calls: int) -> list[Grant]:
        return [grant for grant in self.grants.values() if grant.holds(bucket, period, unit, calls, self.now)]
