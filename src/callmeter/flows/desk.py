"""Where a call learns what was approved and frozen, and asks for approval. Every call under a policy imports this;
what few of them need, it imports late."""

from __future__ import annotations

import os

from callmeter.policy.grants import Allowances

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from callmeter.flows.approvals import Audit
    from callmeter.store.places import Places


class Desk:
    """What one call needs of all this: `allowances`, read when this is made, and a place to ask. At a `closed` one
    nothing is asked."""

    def __init__(
        self,
        places: Places,
        now: datetime,
        who: Callable[[], str],
        audit: Callable[[], Audit],
        *,
        closed: bool = False,
    ) -> None:
        self._places = places
        self._now = now
        self._who = who
        self._audit = audit
        self._closed = closed
        self.allowances = allowances_at(places, now)

    def request(self, bucket: str, period: str, unit: str, end: int, facts: Mapping[str, str], why: str) -> str:
        """Ask that a bucket may pass a stage, until its period ends, and give the request's id; the same open request
        is made once. "" when nobody has asked, at a closed desk. Raises Refused when it was denied already."""
        from callmeter.flows.approvals import ask, was_denied  # few calls reach a stage that asks

        denial = self.allowances.denied(bucket, period, unit)
        if denial is not None:
            raise was_denied(denial)
        if self._closed:
            from callmeter.store.approvals import read_everything

            place = (bucket.removeprefix("own/"), period, unit, facts.get("agent", ""))
            found = read_everything(self._places, self._now).open_request(place)
            return found.id if found else ""
        return ask(
            self._places,
            self._now,
            bucket.removeprefix("own/"),
            unit=unit,
            amount=0,
            period=period,
            until=end,
            by=self._who(),
            agent=facts.get("agent", ""),
            reason=why,
            audit=self._audit(),
        ).id


def allowances_at(places: Places, now: datetime) -> Allowances:
    """What is granted, refused and stopped now. Raises FileProblem or Malformed when a file cannot be read: then
    nobody knows what is frozen."""
    if _is_absent(places.approvals) and _is_absent(places.requests):
        return Allowances(now)
    from callmeter.store.approvals import read_allowances

    return read_allowances(places, now)


def _is_absent(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False
