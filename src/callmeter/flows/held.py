"""What calls in flight hold in the ledger, all together."""

from __future__ import annotations

from collections.abc import Callable

from callmeter.ledger.protocol import Ledger
from callmeter.reports.metrics import Held
from callmeter.words.errors import CallmeterError


def held_now(open_ledger: Callable[[], Ledger]) -> Held | None:
    """Money and number of calls; None when the ledger is out of reach."""
    try:
        reservations = open_ledger().open_reservations()
    except CallmeterError:
        return None
    return Held(sum(each.hold.usd for each in reservations), len(reservations))
