"""Where every quota of the policy stands, what waits and what is frozen, for the status: read, never changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from callmeter.flows.quota_listing import fullest_stands
from callmeter.flows.remaining import Teller
from callmeter.ledger.protocol import Ledger
from callmeter.policy.decision import Stand
from callmeter.policy.document import Policy
from callmeter.policy.grants import Allowances
from callmeter.policy.quotas import Quota
from callmeter.reports.metrics import MOST_QUOTAS
from callmeter.reports.quota_choice import LeftOut
from callmeter.store.approvals import read_everything
from callmeter.store.places import Places
from callmeter.words.errors import CallmeterError


@dataclass(frozen=True)
class Dashboard:
    """`notes` say what could not be read, which is then missing. Of quotas for each of several only the fullest
    stand here; the others are counted in `left_out`."""

    stands: list[Stand] = field(default_factory=list)
    allowances: Allowances | None = None
    notes: list[str] = field(default_factory=list)
    left_out: dict[Quota, LeftOut] = field(default_factory=dict)


def dashboard(
    policy: Policy,
    open_ledger: Callable[[], Ledger],
    recover: Callable[[], None],
    places: Places,
    now: datetime,
    over: Callable[[], Callable[[Quota, str, int], bool]],
    wait: Callable[[str], None] = lambda _: None,
) -> Dashboard:
    """What the quotas, the requests and the freezes say now. What dead processes hold is finished first (`recover`);
    `over` gives what tells of quotas that are over, as `Burn.is_over` does, and is asked after that; `wait` hears what
    is waited for.

    A status that failed because one part of it is out of reach would hide the others, so nothing is raised for that.
    Quotas per second and minute are left out: they reset before they are read.
    """
    notes: list[str] = []
    allowances = None
    try:
        allowances = read_everything(places, now)
    except CallmeterError as problem:
        notes.append(f"Approvals and freezes are not shown: {problem.message}.")
    if not policy.quotas:
        return Dashboard([], allowances, notes)
    stands: list[Stand] = []
    left_out: dict[Quota, LeftOut] = {}
    try:
        ledger = open_ledger()
        teller = Teller(policy, lambda: ledger, places.log, now, recover, index=places.index, wait=wait)
        teller.count()
        recover()
        every, left_out = fullest_stands(teller, allowances or Allowances(now), MOST_QUOTAS, over())
        stands = [stand for stand in every if not _unused(stand)]
    except CallmeterError as problem:
        notes.append(f"Quotas are not shown: {problem.message}.")
    return Dashboard(stands, allowances, notes, left_out)


def _unused(stand: Stand) -> bool:
    """Whether this is the rule `session:*` itself, which stands for sessions that there are not."""
    return stand.quota.subject.each and stand.bucket.key.endswith(f"{stand.quota.subject}")
