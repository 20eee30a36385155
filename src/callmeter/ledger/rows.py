"""How amounts and reservations stand in a table: alike in both databases."""

from __future__ import annotations

import json

from callmeter.ledger.protocol import MOST, Amount, Basis, Reservation, Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

COLUMNS = "call_id, log, mark, created, deadline, owner, record, usd, tokens, calls, windows"


def stored(reservation: Reservation) -> list[object]:
    """What stands in the COLUMNS of a reservation's row."""
    return [
        reservation.call_id,
        reservation.basis.log,
        reservation.basis.mark,
        reservation.created,
        reservation.deadline,
        reservation.owner,
        reservation.record,
        *map(bounded, reservation.hold.parts),
        json.dumps([[*window.key, window.end] for window in reservation.windows]),
    ]


def restored(row: Sequence[Any]) -> Reservation:
    """The reservation of a row of COLUMNS."""
    call_id, log, mark, created, deadline, owner, record, usd, tokens, calls, windows = row
    return Reservation(
        call_id,
        [Window(*parts) for parts in json.loads(windows)],
        Amount(usd, tokens, calls),
        created=created,
        deadline=deadline,
        owner=owner,
        basis=Basis(log, mark),
        record=record,
    )


def bounded(part: int) -> int:
    """A part of an amount as a database can add it up."""
    return max(-MOST, min(MOST, part))
