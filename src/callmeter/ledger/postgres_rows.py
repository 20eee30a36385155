"""The rows of the PostgreSQL ledger: the statements, each of which locks in one order.

First the log's mark, then a reservation, then the log's shares and then windows, by their keys. Nobody waits for a
row while holding a later one, so no two callers wait for each other; but for a host that comes back to a call that was
taken over, which is so rare that PostgreSQL may find it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from callmeter.ledger.postgres_database import Transaction
from callmeter.ledger.protocol import (
    BACKWARDS,
    Amount,
    Basis,
    Cap,
    Reservation,
    Standing,
    Uncounted,
    Window,
    clock_went_back,
    given_up,
)
from callmeter.ledger.rows import COLUMNS, bounded, restored, stored

# What changes in each window: what is settled and what is held.
Changes = dict[Window, tuple[Amount, Amount]]
# Text and what stands for its placeholders; an empty text is left out.
Statement = tuple[str, list[object]]

HELD, ASSUMED = "held", "assumed"

_RESERVE = """
WITH basis AS MATERIALIZED (
    SELECT 1 FROM callmeter_kept WHERE key = %s AND value = %s FOR KEY SHARE
), hold (usd, tokens, calls) AS (
    VALUES (%s::bigint, %s::bigint, %s::bigint)
), wanted (bucket, period, start, most_usd, most_tokens, most_calls) AS (
    SELECT * FROM (VALUES {wanted}) AS given WHERE column1 IS NOT NULL
), locked AS MATERIALIZED (
    SELECT bucket, period, start, settled_usd + held_usd AS usd, settled_tokens + held_tokens AS tokens,
        settled_calls + held_calls AS calls
    FROM callmeter_windows WHERE (bucket, period, start) IN (SELECT bucket, period, start FROM wanted)
        AND EXISTS (SELECT 1 FROM basis)
    ORDER BY bucket, period, start FOR NO KEY UPDATE
), verdict AS MATERIALIZED (
    SELECT EXISTS (SELECT 1 FROM basis) AS based,
        EXISTS (SELECT 1 FROM callmeter_reservations WHERE call_id = %s) AS known,
        (SELECT count(*) FROM locked) = (SELECT count(*) FROM wanted) AS there,
        NOT EXISTS (
            SELECT 1 FROM locked JOIN wanted USING (bucket, period, start), hold
            WHERE locked.usd + hold.usd > most_usd OR locked.tokens + hold.tokens > most_tokens
                OR locked.calls + hold.calls > most_calls
        ) AS fits,
        (
            SELECT min(ahead.start) FROM wanted JOIN callmeter_windows AS ahead USING (bucket, period)
            WHERE ahead.start > %s AND coalesce(most_usd, most_tokens, most_calls) IS NOT NULL
        ) AS ahead
), put AS (
    INSERT INTO callmeter_reservations (state, {columns})
    SELECT 'held', {values} FROM verdict WHERE based AND NOT known AND there AND fits AND ahead IS NULL
    ON CONFLICT (call_id) DO NOTHING RETURNING call_id
), held AS (
    UPDATE callmeter_windows AS w SET held_usd = w.held_usd + hold.usd, held_tokens = w.held_tokens + hold.tokens,
        held_calls = w.held_calls + hold.calls
    FROM locked, hold
    WHERE (w.bucket, w.period, w.start) = (locked.bucket, locked.period, locked.start) AND EXISTS (SELECT 1 FROM put)
)
SELECT based, known, there, fits, ahead, EXISTS (SELECT 1 FROM put) FROM verdict"""

# Each row adds its own amounts to its window; rows are locked in the order of their keys.
_ADD = """
WITH changes (bucket, period, start, susd, stokens, scalls, husd, htokens, hcalls) AS (
    VALUES {changes}
), locked AS MATERIALIZED (
    SELECT bucket, period, start FROM callmeter_windows
    WHERE (bucket, period, start) IN (SELECT bucket, period, start FROM changes)
    ORDER BY bucket, period, start FOR NO KEY UPDATE
)
UPDATE callmeter_windows AS w SET settled_usd = settled_usd + susd, settled_tokens = settled_tokens + stokens,
    settled_calls = settled_calls + scalls, held_usd = held_usd + husd, held_tokens = held_tokens + htokens,
    held_calls = held_calls + hcalls
FROM changes JOIN locked USING (bucket, period, start)
WHERE (w.bucket, w.period, w.start) = (changes.bucket, changes.period, changes.start)"""
_CHANGE = "(%s::text, %s::text, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint)"


def reserve(transaction: Transaction, reservation: Reservation, caps: Sequence[Cap]) -> str:
    """`held`, `refused`, `missing` (a window's row), or `known`: the call has a row already."""
    limits: dict[Window, dict[str, int]] = {window: {} for window in reservation.windows}
    for cap in caps:
        units = limits[cap.window]
        units[cap.unit] = min(units.get(cap.unit, 1 << 62), max(-(1 << 62), cap.limit))
    wanted = ["(%s::text, %s::text, %s::bigint, %s::bigint, %s::bigint, %s::bigint)"] * len(limits)
    values = stored(reservation)
    rows = transaction.run(
        _RESERVE.format(
            wanted=", ".join(
                wanted or ["(NULL::text, NULL::text, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint)"]
            ),
            columns=COLUMNS,
            values=", ".join(["%s"] * len(values)),
        ),
        [
            counted(reservation.basis.log),
            reservation.basis.mark,
            *map(bounded, reservation.hold.parts),
            *(
                part
                for window, units in limits.items()
                for part in (*window.key, units.get("usd"), units.get("tokens"), units.get("calls"))
            ),
            reservation.call_id,
            reservation.created + BACKWARDS,
            *values,
        ],
        commit=True,
    )
    ((based, known, there, fits, ahead, put),) = rows
    if not based:
        raise Uncounted
    if put:
        return "held"
    if known:
        return "known"
    if not there:
        return "missing"
    if ahead is not None:
        raise clock_went_back(Window(caps[0].window.bucket, caps[0].window.period, ahead, 0))
    return "known" if fits else "refused"


def replace(transaction: Transaction, reservation: Reservation, caps: Sequence[Cap]) -> str:
    """The same as `reserve` for a call that has a row; `missing` when the row has gone meanwhile."""
    based = transaction.run(
        "SELECT 1 FROM callmeter_kept WHERE key = %s AND value = %s FOR KEY SHARE",
        [counted(reservation.basis.log), reservation.basis.mark],
    )
    if not based:
        raise Uncounted
    found = locked(transaction, reservation.call_id)
    if found is None:
        return "missing"
    state, before = found
    if state != HELD:
        raise given_up(reservation.call_id)
    if (before.hold, before.windows, before.record) == (reservation.hold, reservation.windows, reservation.record):
        return "held"
    changes: Changes = {}
    for window in before.windows:
        note(changes, window, Amount(), Amount() - before.hold)
    for window in reservation.windows:
        note(changes, window, Amount(), reservation.hold)
    insert(transaction, changes)
    standings = _lock_windows(transaction, sorted(changes, key=lambda window: window.key))
    for cap in caps:
        taken = standings[cap.window.key].taken(cap.unit) + changes[cap.window][1].of(cap.unit)
        if taken > cap.limit:
            return "refused"
    add(transaction, changes)
    _rewrite(transaction, reservation, commit=True)
    return "held"


def locked(transaction: Transaction, call_id: str) -> tuple[str, Reservation] | None:
    """A call's row, whatever its state, locked."""
    rows = transaction.run(
        f"SELECT state, {COLUMNS} FROM callmeter_reservations WHERE call_id = %s FOR UPDATE", [call_id]
    )
    return (rows[0][0], restored(rows[0][1:])) if rows else None


def end(
    transaction: Transaction, reservation: Reservation, cost: Amount, hold: Amount, log: str, *, assumed: bool = False
) -> None:
    """Book the cost in a log's share, take the hold back, and let the row go, or keep it as assumed; all in one
    message, so that the windows are locked for no longer than the server needs."""
    row: Statement = "DELETE FROM callmeter_reservations WHERE call_id = %s", [reservation.call_id]
    if assumed:
        row = (
            "UPDATE callmeter_reservations SET state = 'assumed', usd = %s, tokens = %s, calls = %s WHERE call_id = %s",
            [*map(bounded, cost.parts), reservation.call_id],
        )
    changes = dict.fromkeys(reservation.windows, (cost, Amount() - hold))
    shares = dict.fromkeys(reservation.windows, cost)
    _together(transaction, row, _sharing(log, shares), _adding(changes), commit=True)


def forget(transaction: Transaction, assumed: Reservation) -> None:
    """Let the row of a call go that another host had taken over, and distrust its own log's share."""
    transaction.run("DELETE FROM callmeter_reservations WHERE call_id = %s", [assumed.call_id])
    keep(transaction, counted(assumed.basis.log), "", commit=True)


def move(
    transaction: Transaction,
    reservation: Reservation,
    windows: Iterable[Window] | None,
    basis: Basis,
    changes: Changes,
) -> None:
    """Put an open reservation into other windows; end it for None. The windows themselves are left to `changes`."""
    for window in reservation.windows:
        note(changes, window, Amount(), Amount() - reservation.hold)
    if windows is None:
        transaction.run("DELETE FROM callmeter_reservations WHERE call_id = %s", [reservation.call_id])
        return
    reservation.basis = basis
    reservation.windows = sorted(set(windows), key=lambda window: window.key)
    for window in reservation.windows:
        note(changes, window, Amount(), reservation.hold)
    _rewrite(transaction, reservation)


def note(changes: Changes, window: Window, settled: Amount, held: Amount) -> None:
    before = changes.get(window, (Amount(), Amount()))
    changes[window] = before[0] + settled, before[1] + held


def make(transaction: Transaction, windows: Iterable[Window]) -> None:
    insert(transaction, windows)
    transaction.run("SELECT 1", commit=True)


def insert(transaction: Transaction, windows: Iterable[Window]) -> None:
    """Make rows for windows that have none, in the order of their keys."""
    wanted = sorted(set(windows), key=lambda window: window.key)
    if wanted:
        transaction.run(
            'INSERT INTO callmeter_windows (bucket, period, start, "end") VALUES '
            + ", ".join(["(%s, %s, %s, %s)"] * len(wanted))
            + " ON CONFLICT DO NOTHING",
            [part for window in wanted for part in (*window.key, window.end)],
        )


def _lock_windows(transaction: Transaction, windows: Sequence[Window]) -> dict[tuple[str, str, int], Standing]:
    rows = transaction.run(
        "SELECT bucket, period, start, settled_usd, settled_tokens, settled_calls, held_usd, held_tokens, held_calls"
        f" FROM callmeter_windows WHERE (bucket, period, start) IN (VALUES {_keys(windows)})"
        " ORDER BY bucket, period, start FOR NO KEY UPDATE",
        [part for window in windows for part in window.key],
    )
    return {(row[0], row[1], row[2]): Standing(Amount(*row[3:6]), Amount(*row[6:])) for row in rows}


def add(transaction: Transaction, changes: Changes) -> None:
    """Add to what is settled and held in windows."""
    _together(transaction, _adding(changes))


def share(transaction: Transaction, log: str, changes: dict[Window, Amount]) -> None:
    """Add to a log's share of windows."""
    _together(transaction, _sharing(log, changes))


def _together(transaction: Transaction, *statements: Statement, commit: bool = False) -> None:
    wanted = [(text, values) for text, values in statements if text]
    if wanted:
        transaction.run(
            "; ".join(text for text, _ in wanted), [value for _, values in wanted for value in values], commit=commit
        )


def _adding(changes: Changes) -> Statement:
    rows = [(window, settled, held) for window, (settled, held) in changes.items() if settled or held]
    if not rows:
        return "", []
    return _ADD.format(changes=", ".join([_CHANGE] * len(rows))), [
        part
        for window, settled, held in rows
        for part in (*window.key, *map(bounded, settled.parts), *map(bounded, held.parts))
    ]


def _sharing(log: str, changes: dict[Window, Amount]) -> Statement:
    rows = sorted(((window, amount) for window, amount in changes.items() if amount), key=lambda row: row[0].key)
    if not rows:
        return "", []
    return (
        "INSERT INTO callmeter_shares AS s VALUES "
        + ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s)"] * len(rows))
        + " ON CONFLICT (log, bucket, period, start) DO UPDATE SET usd = s.usd + excluded.usd,"
        " tokens = s.tokens + excluded.tokens, calls = s.calls + excluded.calls",
        [part for window, amount in rows for part in (log, *window.key, window.end, *map(bounded, amount.parts))],
    )


def existing(transaction: Transaction, windows: Sequence[Window]) -> list[Window]:
    """Those windows that have a row."""
    if not windows:
        return []
    rows = transaction.run(
        "SELECT bucket, period, start FROM callmeter_windows"
        f" WHERE (bucket, period, start) IN (VALUES {_keys(windows)})",
        [part for window in windows for part in window.key],
    )
    return [window for window in windows if window.key in rows]


def _keys(windows: Sequence[Window]) -> str:
    return ", ".join(["(%s::text, %s::text, %s::bigint)"] * len(windows))


def _rewrite(transaction: Transaction, reservation: Reservation, *, commit: bool = False) -> None:
    names = COLUMNS.split(", ")[1:]
    transaction.run(
        f"UPDATE callmeter_reservations SET {', '.join(f'{name} = %s' for name in names)} WHERE call_id = %s",
        [*stored(reservation)[1:], reservation.call_id],
        commit=commit,
    )


def drop(transaction: Transaction, condition: str, parameters: Sequence[object]) -> int:
    """Drop the windows that a condition is true of, unless something is held in them; gives how many."""
    rows = transaction.run(
        f"WITH gone AS (DELETE FROM callmeter_windows WHERE {condition}"
        " AND held_usd = 0 AND held_tokens = 0 AND held_calls = 0 RETURNING bucket, period, start),"
        " shares AS (DELETE FROM callmeter_shares WHERE (bucket, period, start) IN (SELECT * FROM gone))"
        " SELECT count(*) FROM gone",
        parameters,
        commit=True,
    )
    return int(rows[0][0])


def is_held(transaction: Transaction, call_id: str) -> bool:
    """Whether a call holds something."""
    return bool(
        transaction.run(
            "SELECT 1 FROM callmeter_reservations WHERE call_id = %s AND state = 'held'", [call_id], commit=True
        )
    )


def swap(transaction: Transaction, key: str, value: str) -> str:
    """Keep a text, and give what was there before."""
    rows = transaction.run(
        "INSERT INTO callmeter_kept VALUES (%s, '') ON CONFLICT (key) DO NOTHING;"
        " SELECT value FROM callmeter_kept WHERE key = %s FOR UPDATE",
        [key, key],
    )
    keep(transaction, key, value, commit=True)
    return str(rows[0][0])


def keep(transaction: Transaction, key: str, value: str, *, commit: bool = False) -> None:
    transaction.run(
        "INSERT INTO callmeter_kept (key, value) VALUES (%s, %s)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value, touched = now()",
        [key, value],
        commit=commit,
    )


def counted(log: str) -> str:
    return f"counted/{log}"
