"""The ledger of one host, in SQLite. How its file is opened and locked is told in `sqlite_file.py`."""

from __future__ import annotations

from callmeter.ledger.protocol import (
    BACKWARDS,
    Amount,
    Basis,
    Cap,
    Difference,
    Reservation,
    Standing,
    Uncounted,
    Window,
    clock_went_back,
    given_up,
    outdated,
)
from callmeter.ledger.rows import COLUMNS, bounded, restored, stored
from callmeter.ledger.sqlite_file import Reading, Writing, let_go
from callmeter.policy.quotas import UNITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

_HELD, _ASSUMED = "held", "assumed"
# About one call in four thousand also sweeps.
_SWEEPS = "000"


class _Undo(Exception):
    """Rolls a transaction back without being an error."""


class SqliteLedger:
    """See `protocol.Ledger`. The file at `path` is made when it is first needed."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __del__(self) -> None:
        let_go(self.path)

    def standings(self, windows: Iterable[Window], basis: Basis | None = None) -> dict[Window, Standing]:
        """Where these windows stand."""
        with Reading(self.path) as connection:
            if connection is None:
                if basis is not None:
                    raise Uncounted
                return {window: Standing(Amount(), Amount()) for window in windows}
            connection.execute("BEGIN")  # one moment for all of them
            if basis is not None:
                _require(connection, basis)
            return {window: _standing(connection, window) for window in windows}

    def windows(self, period: str, start: int) -> dict[Window, Standing]:
        """Where every window of a period that begins then stands."""
        with Reading(self.path) as connection:
            if connection is None:
                return {}
            rows = connection.execute(
                'SELECT bucket, period, start, "end", sum(settled_usd), sum(settled_tokens), sum(settled_calls),'
                " sum(held_usd), sum(held_tokens), sum(held_calls) FROM windows WHERE period = ? AND start = ?"
                " GROUP BY bucket ORDER BY bucket",
                (period, start),
            )
            return {Window(*row[:4]): Standing(Amount(*row[4:7]), Amount(*row[7:])) for row in rows}

    def amounts(self, period: str, start: int, first: str, unit: str) -> list[tuple[str, int, int, int]]:
        """The buckets that begin so, in one unit."""
        assert unit in UNITS
        with Reading(self.path) as connection:
            if connection is None:
                return []
            rows: list[tuple[str, int, int, int]] = connection.execute(
                f"SELECT bucket, sum(settled_{unit}), sum(held_{unit}), sum(settled_calls + held_calls) FROM windows"
                " WHERE period = ? AND start = ? AND substr(bucket, 1, ?) = ? GROUP BY bucket ORDER BY bucket",
                (period, start, len(first), first),
            ).fetchall()
            return rows

    def reserve(self, reservation: Reservation, caps: Sequence[Cap]) -> bool:
        """Hold the amount in every window if every cap allows it."""
        try:
            with Writing(self.path) as connection:
                _require(connection, reservation.basis)
                if _has(connection, reservation.call_id, _ASSUMED):
                    raise given_up(reservation.call_id)
                before = _take(connection, reservation.call_id)
                if before is not None:
                    _hold(connection, before, before.windows, -1)
                else:
                    _check_clock(connection, reservation, caps)
                _check_caps(connection, reservation, caps)
                _hold(connection, reservation, reservation.windows, 1)
                _put(connection, reservation, _HELD)
                if reservation.call_id.endswith(_SWEEPS):
                    _prune(connection, reservation.created)
        except _Undo:
            return False
        return True

    def settle(self, call_id: str, write: Callable[[Amount], Amount], *, only_held: bool = False) -> bool:
        """Turn the hold into what `write` gives; it runs behind the gate."""
        with Writing(self.path) as connection:
            assumed = _take(connection, call_id, _ASSUMED)
            if assumed is not None:
                write(assumed.hold)
                _keep(connection, _counted(assumed.basis.log), "")
                return True
            reservation = _take(connection, call_id)
            if reservation is None and only_held:
                return False
            cost = write(Amount())
            if reservation is None:
                return False
            _hold(connection, reservation, reservation.windows, -1)
            for window in reservation.windows:
                _book(connection, window, reservation.basis.log, cost)
        return True

    def release(self, call_id: str) -> bool:
        """Take the hold back."""
        with Writing(self.path) as connection:
            reservation = _take(connection, call_id)
            if reservation is None:
                return False
            _hold(connection, reservation, reservation.windows, -1)
        return True

    def take_over(
        self,
        call_id: str,
        log: str,
        write: Callable[[Reservation], Amount],
        *,
        logged: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Book a call whose host is gone. Killed while it writes, it leaves the other log's share distrusted."""
        with Writing(self.path) as connection:
            if not _has(connection, call_id):
                return False
            mark = _distrusted(connection, log)
            reservation = _take(connection, call_id)
            assert reservation is not None
            cost = write(reservation)
            sure = mark == reservation.basis.mark and not logged()
            _hold(connection, reservation, reservation.windows, -1)
            for window in reservation.windows:
                _book(connection, window, log, cost)
            reservation.hold = cost
            _put(connection, reservation, _ASSUMED)
            _keep(connection, _counted(log), mark if sure else "")
        return True

    def adjust(self, windows: Iterable[Window], basis: Basis, write: Callable[[], Amount]) -> None:
        """Book a correction in windows that exist. Killed while it writes, it leaves the log's share distrusted."""
        with Writing(self.path) as connection:
            _require(connection, basis)
            _distrusted(connection, basis.log)
            difference = write()
            for window in windows:
                _book(connection, window, basis.log, difference, make=False)
            _keep(connection, _counted(basis.log), basis.mark)

    def open_reservations(self) -> list[Reservation]:
        """Every call that holds something, oldest first."""
        with Reading(self.path) as connection:
            return [] if connection is None else _reservations(connection)

    def taken_over(self, log: str) -> list[Reservation]:
        """The calls of a log that another host has taken over."""
        with Reading(self.path) as connection:
            return [] if connection is None else _reservations(connection, log, _ASSUMED)

    def recount(
        self,
        basis: Basis,
        now: int,
        *,
        count: Callable[[], dict[Window, Amount]],
        windows_of: Callable[[Reservation], Iterable[Window] | None],
        write: bool = True,
    ) -> list[Difference]:
        """Make a log's share of the totals what `count` gives, behind the gate."""
        differences = []
        try:
            with Writing(self.path) as connection:
                totals = {window: amount for window, amount in count().items() if not window.end or window.end > now}
                for reservation in _reservations(connection, basis.log):
                    _move(connection, reservation, windows_of(reservation), basis)
                rows = connection.execute(
                    'SELECT bucket, period, start, "end", settled_usd, settled_tokens, settled_calls FROM windows'
                    ' WHERE log = ? AND ("end" = 0 OR "end" > ?)',
                    (basis.log, now),
                )
                settled = {Window(*row[:4]): Amount(*row[4:]) for row in rows}
                for window in sorted(settled.keys() | totals.keys(), key=lambda window: window.key):
                    was, counted = settled.get(window, Amount()), totals.get(window, Amount())
                    if was != counted:
                        differences.append(Difference(window, was, counted))
                _book_all(connection, basis.log, differences)
                _keep(connection, _counted(basis.log), basis.mark)
                if not write:
                    raise _Undo
        except _Undo:
            pass
        return differences

    def counted(self, log: str) -> str:
        """The mark that a log was last counted for."""
        return self.remember(_counted(log))

    def logs(self) -> list[str]:
        """The identities of all logs that were ever counted here."""
        with Reading(self.path) as connection:
            if connection is None:
                return []
            rows = connection.execute("SELECT key FROM kept WHERE key LIKE 'counted/%' ORDER BY key").fetchall()
        return [row[0].removeprefix("counted/") for row in rows]

    def distrust(self, log: str) -> None:
        """Have the log counted anew before its share is relied on."""
        self.remember(_counted(log), "")

    def remember(self, key: str, value: str | None = None) -> str:
        """The kept text; with `value`, keep that and give what was there before."""
        if value is None:
            with Reading(self.path) as connection:
                return "" if connection is None else _kept(connection, key)
        with Writing(self.path) as connection:
            before = _kept(connection, key)
            _keep(connection, key, value)
            return before

    def forget_ahead(self, now: int) -> int:
        """Drop windows of times that are still to come."""
        with Writing(self.path) as connection:
            dropped: int = connection.execute(
                "DELETE FROM windows WHERE start > ? AND held_usd = 0 AND held_tokens = 0 AND held_calls = 0",
                (now + BACKWARDS,),
            ).rowcount
            return dropped

    def prune(self, now: int) -> int:
        """Drop what nobody asks for any more."""
        with Writing(self.path) as connection:
            return _prune(connection, now)


def _require(connection: Any, basis: Basis) -> None:
    if _kept(connection, _counted(basis.log)) != basis.mark:
        raise Uncounted


def _distrusted(connection: Any, log: str) -> str:
    """Commit that a log's share cannot be relied on, begin anew, and give the mark that it had."""
    mark = _kept(connection, _counted(log))
    _keep(connection, _counted(log), "")
    connection.execute("COMMIT")
    connection.execute("BEGIN IMMEDIATE")
    return mark


def _check_clock(connection: Any, reservation: Reservation, caps: Sequence[Cap]) -> None:
    for window in {cap.window for cap in caps}:
        ahead = connection.execute(
            'SELECT start, "end" FROM windows WHERE bucket = ? AND period = ? AND start > ? LIMIT 1',
            (window.bucket, window.period, reservation.created + BACKWARDS),
        ).fetchone()
        if ahead is not None:
            raise clock_went_back(Window(window.bucket, window.period, *ahead))


def _check_caps(connection: Any, reservation: Reservation, caps: Sequence[Cap]) -> None:
    """Raises _Undo when a cap does not allow the hold."""
    standings: dict[Window, Standing] = {}
    for cap in caps:
        if cap.window not in standings:
            standings[cap.window] = _standing(connection, cap.window)
        if standings[cap.window].taken(cap.unit) + reservation.hold.of(cap.unit) > cap.limit:
            raise _Undo


def _standing(connection: Any, window: Window) -> Standing:
    row = connection.execute(
        "SELECT sum(settled_usd), sum(settled_tokens), sum(settled_calls), sum(held_usd),"
        " sum(held_tokens), sum(held_calls) FROM windows WHERE bucket = ? AND period = ? AND start = ?",
        window.key,
    ).fetchone()
    if row[0] is None:
        return Standing(Amount(), Amount())
    return Standing(Amount(*row[:3]), Amount(*row[3:]))


def _hold(connection: Any, reservation: Reservation, windows: Iterable[Window], sign: int) -> None:
    """Add the hold to its log's row of each window, or take it away with `sign` -1."""
    usd, tokens, calls = (sign * bounded(part) for part in reservation.hold.parts)
    for window in windows:
        _add(connection, window, reservation.basis.log, "held", (usd, tokens, calls))


def _book(connection: Any, window: Window, log: str, cost: Amount, *, make: bool = True) -> None:
    """Add to what is settled in a window."""
    _add(connection, window, log, "settled", [bounded(part) for part in cost.parts], make=make)


def _book_all(connection: Any, log: str, differences: Iterable[Difference]) -> None:
    """Add differences to what is settled in their windows, of which there may be a million: callers wait meanwhile."""
    connection.executemany(
        'INSERT INTO windows (bucket, period, start, log, "end", settled_usd, settled_tokens, settled_calls)'
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET settled_usd = settled_usd + excluded.settled_usd,"
        " settled_tokens = settled_tokens + excluded.settled_tokens,"
        " settled_calls = settled_calls + excluded.settled_calls",
        (
            (*each.window.key, log, each.window.end, *map(bounded, (each.counted - each.settled).parts))
            for each in differences
        ),
    )


def _add(connection: Any, window: Window, log: str, kind: str, parts: Sequence[int], *, make: bool = True) -> None:
    changed = connection.execute(
        f"UPDATE windows SET {kind}_usd = {kind}_usd + ?, {kind}_tokens = {kind}_tokens + ?,"
        f" {kind}_calls = {kind}_calls + ? WHERE bucket = ? AND period = ? AND start = ? AND log = ?",
        (*parts, *window.key, log),
    ).rowcount
    if make and not changed:
        connection.execute(
            f'INSERT INTO windows (bucket, period, start, log, "end", {kind}_usd, {kind}_tokens, {kind}_calls)'
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*window.key, log, window.end, *parts),
        )


def _move(connection: Any, reservation: Reservation, windows: Iterable[Window] | None, basis: Basis) -> None:
    """Put an open reservation into other windows; end it for None."""
    _take(connection, reservation.call_id)
    _hold(connection, reservation, reservation.windows, -1)
    if windows is not None:
        reservation.basis = basis
        reservation.windows = sorted(set(windows), key=lambda window: window.key)
        _hold(connection, reservation, reservation.windows, 1)
        _put(connection, reservation, _HELD)


def _put(connection: Any, reservation: Reservation, state: str) -> None:
    connection.execute(
        f"INSERT INTO reservations (state, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (state, *stored(reservation)),
    )


def _take(connection: Any, call_id: str, state: str = _HELD) -> Reservation | None:
    row = connection.execute(
        f"SELECT {COLUMNS} FROM reservations WHERE call_id = ? AND state = ?", (call_id, state)
    ).fetchone()
    if row is None:
        return None
    connection.execute("DELETE FROM reservations WHERE call_id = ?", (call_id,))
    return restored(row)


def _has(connection: Any, call_id: str, state: str = _HELD) -> bool:
    row = connection.execute("SELECT 1 FROM reservations WHERE call_id = ? AND state = ?", (call_id, state)).fetchone()
    return row is not None


def _reservations(connection: Any, log: str | None = None, state: str = _HELD) -> list[Reservation]:
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM reservations WHERE state = ? AND (? IS NULL OR log = ?) ORDER BY created, call_id",
        (state, log, log),
    ).fetchall()
    return [restored(row) for row in rows]


def _counted(log: str) -> str:
    return f"counted/{log}"


def _kept(connection: Any, key: str) -> str:
    row = connection.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else ""


def _keep(connection: Any, key: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, strftime('%s', 'now'))", (key, value))


def _prune(connection: Any, now: int) -> int:
    long, short = outdated(now)
    dropped: int = connection.execute(
        'DELETE FROM windows WHERE "end" > 0 AND ("end" < ? OR ("end" < ? AND "end" - start <= 3600))'
        " AND held_usd = 0 AND held_tokens = 0 AND held_calls = 0",
        (long, short),
    ).rowcount
    connection.execute("DELETE FROM reservations WHERE state = ? AND created < ?", (_ASSUMED, long))
    connection.execute(
        "DELETE FROM kept WHERE key NOT LIKE 'counted/%' AND key NOT LIKE 'log/%' AND touched < ?", (long,)
    )
    return dropped
