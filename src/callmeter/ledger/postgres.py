"""The ledger that several hosts share, in PostgreSQL or what speaks its protocol.

A reservation is one statement: it locks the windows in the order of their keys, compares, and books in all or none.
So the row of a hot quota is locked for no longer than the server takes to write its commit. Settling locks the
reservation first, then writes the usage line, and only then touches the windows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from callmeter.ledger import postgres_rows as sql
from callmeter.ledger.postgres_database import Database, Transaction
from callmeter.ledger.protocol import (
    BACKWARDS,
    Amount,
    Basis,
    Cap,
    Difference,
    LedgerProblem,
    Reservation,
    Standing,
    Uncounted,
    Window,
    outdated,
)
from callmeter.ledger.rows import COLUMNS, restored
from callmeter.policy.quotas import UNITS

_SWEEPS = "000"
_TRIES = 5


class PostgresLedger:
    """See `protocol.Ledger`. The tables are made when they are first needed."""

    def __init__(self, address: str) -> None:
        self._database = Database(address)

    def standings(self, windows: Iterable[Window], basis: Basis | None = None) -> dict[Window, Standing]:
        """Where these windows stand."""
        wanted = list(windows)

        def body(transaction: Transaction) -> dict[Window, Standing]:
            values = ", ".join(["(%s::text, %s::text, %s::bigint)"] * len(wanted)) or "(NULL, NULL, NULL::bigint)"
            rows = transaction.run(
                f"WITH wanted (bucket, period, start) AS (VALUES {values})"
                " SELECT (SELECT value FROM callmeter_kept WHERE key = %s), bucket, period, start,"
                " settled_usd, settled_tokens, settled_calls, held_usd, held_tokens, held_calls"
                " FROM wanted LEFT JOIN callmeter_windows USING (bucket, period, start)",
                [*(part for window in wanted for part in window.key), sql.counted(basis.log if basis else "")],
                commit=True,
            )
            if basis is not None and rows[0][0] != basis.mark:
                raise Uncounted
            found = {tuple(row[1:4]): row[4:] for row in rows if row[4] is not None}
            return {
                window: Standing(Amount(*found[window.key][:3]), Amount(*found[window.key][3:]))
                if window.key in found
                else Standing(Amount(), Amount())
                for window in wanted
            }

        return self._database.transaction(body)

    def windows(self, period: str, start: int) -> dict[Window, Standing]:
        """Where every window of a period that begins then stands."""

        def body(transaction: Transaction) -> dict[Window, Standing]:
            rows = transaction.run(
                'SELECT bucket, period, start, "end", settled_usd, settled_tokens, settled_calls, held_usd,'
                " held_tokens, held_calls FROM callmeter_windows WHERE period = %s AND start = %s ORDER BY bucket",
                [period, start],
                commit=True,
            )
            return {Window(*row[:4]): Standing(Amount(*row[4:7]), Amount(*row[7:])) for row in rows}

        return self._database.transaction(body)

    def amounts(self, period: str, start: int, first: str, unit: str) -> list[tuple[str, int, int, int]]:
        """The buckets that begin so, in one unit."""
        assert unit in UNITS

        def body(transaction: Transaction) -> list[tuple[str, int, int, int]]:
            rows = transaction.run(
                f"SELECT bucket, settled_{unit}, held_{unit}, settled_calls + held_calls FROM callmeter_windows"
                " WHERE period = %s AND start = %s AND starts_with(bucket, %s) ORDER BY bucket",
                [period, start, first],
                commit=True,
            )
            return [(str(row[0]), int(row[1]), int(row[2]), int(row[3])) for row in rows]

        return self._database.transaction(body)

    def reserve(self, reservation: Reservation, caps: Sequence[Cap]) -> bool:
        """Hold the amount in every window if every cap allows it."""
        try:
            for _ in range(_TRIES):
                outcome = self._database.transaction(lambda transaction: sql.reserve(transaction, reservation, caps))
                if outcome == "missing":
                    self._database.transaction(lambda transaction: sql.make(transaction, reservation.windows))
                elif outcome == "known":
                    outcome = self._database.transaction(
                        lambda transaction: sql.replace(transaction, reservation, caps)
                    )
                if outcome in ("held", "refused"):
                    break
            else:
                raise LedgerProblem(f"the call {reservation.call_id} cannot be reserved again")
        except BaseException:
            self._database.let_go()
            raise
        if outcome == "held":
            if reservation.call_id.endswith(_SWEEPS):
                self.prune(reservation.created)
            self._database.let_go()
        return outcome == "held"

    def settle(self, call_id: str, write: Callable[[Amount], Amount], *, only_held: bool = False) -> bool:
        """Turn the hold into what `write` gives; it runs while the reservation is locked."""
        written: list[Amount] = []
        reserved = False

        def body(transaction: Transaction) -> bool:
            nonlocal reserved
            found = sql.locked(transaction, call_id)
            if written and found is None:
                return reserved  # the connection broke when it was done
            reserved = found is not None and found[0] in (sql.HELD, sql.ASSUMED)
            assumed = found[1].hold if found is not None and found[0] == sql.ASSUMED else Amount()
            if only_held and not reserved:
                return False
            if not written:
                written.append(write(assumed))
            if found is None or not reserved:
                return False
            if assumed:
                sql.forget(transaction, found[1])
            else:
                sql.end(transaction, found[1], written[0], found[1].hold, found[1].basis.log)
            return True

        try:
            return self._database.transaction(body)
        finally:
            self._database.let_go()

    def release(self, call_id: str) -> bool:
        """Take the hold back. Without one, leave a mark: a reservation whose connection broke may still be on its
        way, and must not hold anything when it arrives."""

        def body(transaction: Transaction) -> bool:
            found = sql.locked(transaction, call_id)
            if found is None:
                transaction.run(
                    "INSERT INTO callmeter_reservations VALUES (%s, 'void', '', '', extract(epoch from now())::bigint,"
                    " 0, '', '{}', 0, 0, 0, '[]') ON CONFLICT (call_id) DO NOTHING",
                    [call_id],
                    commit=True,
                )
                return False
            state, reservation = found
            if state != sql.HELD:
                return False
            sql.end(transaction, reservation, Amount(), reservation.hold, reservation.basis.log)
            return True

        try:
            return self._database.transaction(body)
        finally:
            self._database.let_go()

    def take_over(
        self,
        call_id: str,
        log: str,
        write: Callable[[Reservation], Amount],
        *,
        logged: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Book a call whose host is gone. Cut off while it writes, it leaves the other log's share distrusted."""
        token = f"taking over {os.urandom(8).hex()}"
        written: list[Amount] = []
        marks: list[str] = []

        def distrust(transaction: Transaction) -> None:
            mark = sql.swap(transaction, sql.counted(log), token)
            if mark != token:
                marks.append(mark)

        def book(transaction: Transaction) -> bool:
            kept = transaction.run("SELECT value FROM callmeter_kept WHERE key = %s FOR UPDATE", [sql.counted(log)])
            found = sql.locked(transaction, call_id)
            if found is None or found[0] != sql.HELD:
                return bool(written) and found is not None and found[0] == sql.ASSUMED
            reservation, mark = found[1], str(kept[0][0]) if kept else ""
            if mark == token:
                mark = marks[-1] if marks else ""
            elif written:
                mark = ""  # the connection broke after the line was written, and somebody has counted it
            if not written:
                written.append(write(reservation))
            sure = mark == reservation.basis.mark and not logged()
            sql.keep(transaction, sql.counted(log), mark if sure else "")
            sql.end(transaction, reservation, written[0], reservation.hold, log, assumed=True)
            return True

        if not self._database.transaction(lambda transaction: sql.is_held(transaction, call_id)):
            return False
        self._database.transaction(distrust)
        return self._database.transaction(book)

    def adjust(self, windows: Iterable[Window], basis: Basis, write: Callable[[], Amount]) -> None:
        """Book a correction in windows that exist. Cut off while it writes, it leaves the log's share distrusted."""
        wanted = list(windows)
        token = f"adjusting {os.urandom(8).hex()}"
        written: list[Amount] = []

        def distrust(transaction: Transaction) -> None:
            rows = transaction.run(
                "UPDATE callmeter_kept SET value = %s WHERE key = %s AND value IN (%s, %s) RETURNING 1",
                [token, sql.counted(basis.log), basis.mark, token],
                commit=True,
            )
            if not rows:
                raise Uncounted

        def book(transaction: Transaction) -> bool:
            rows = transaction.run(
                "SELECT value FROM callmeter_kept WHERE key = %s FOR UPDATE", [sql.counted(basis.log)]
            )
            if written or not rows or rows[0][0] != token:
                return bool(written)  # somebody counted the log meanwhile, or will
            written.append(write())
            there = sql.existing(transaction, wanted)
            sql.share(transaction, basis.log, dict.fromkeys(there, written[0]))
            sql.add(transaction, {window: (written[0], Amount()) for window in there})
            sql.keep(transaction, sql.counted(basis.log), basis.mark, commit=True)
            return True

        for _ in range(_TRIES):
            self._database.transaction(distrust)
            try:
                if self._database.transaction(book):
                    return
            except LedgerProblem:
                if not written:
                    raise
                return  # the line is written, and the log will be counted anew
        raise Uncounted

    def open_reservations(self) -> list[Reservation]:
        """Every call that holds something, oldest first."""

        def body(transaction: Transaction) -> list[Reservation]:
            rows = transaction.run(
                f"SELECT {COLUMNS} FROM callmeter_reservations WHERE state = 'held' ORDER BY created, call_id",
                commit=True,
            )
            return [restored(row) for row in rows]

        return self._database.transaction(body)

    def taken_over(self, log: str) -> list[Reservation]:
        """The calls of a log that another host has taken over."""

        def body(transaction: Transaction) -> list[Reservation]:
            rows = transaction.run(
                f"SELECT {COLUMNS} FROM callmeter_reservations WHERE state = 'assumed' AND log = %s"
                " ORDER BY created, call_id",
                [log],
                commit=True,
            )
            return [restored(row) for row in rows]

        return self._database.transaction(body)

    def recount(
        self,
        basis: Basis,
        now: int,
        *,
        count: Callable[[], dict[Window, Amount]],
        windows_of: Callable[[Reservation], Iterable[Window] | None],
        write: bool = True,
    ) -> list[Difference]:
        """Make a log's share of the totals what `count` gives, while all its reservations are locked."""

        def body(transaction: Transaction) -> list[Difference]:
            layout = transaction.run(
                "INSERT INTO callmeter_kept VALUES (%s, '') ON CONFLICT (key) DO NOTHING;"
                " SELECT value FROM callmeter_kept WHERE key = %s FOR UPDATE;"
                " SELECT value FROM callmeter_kept WHERE key = 'layout'",
                [sql.counted(basis.log), sql.counted(basis.log)],
            )
            self._database.require(int(layout[0][0]))
            rows = transaction.run(
                f"SELECT {COLUMNS} FROM callmeter_reservations WHERE state = 'held' AND log = %s"
                " ORDER BY call_id FOR UPDATE",
                [basis.log],
            )
            totals = {window: amount for window, amount in count().items() if not window.end or window.end > now}
            changes: sql.Changes = {}
            for reservation in map(restored, rows):
                sql.move(transaction, reservation, windows_of(reservation), basis, changes)
            rows = transaction.run(
                'SELECT bucket, period, start, "end", usd, tokens, calls FROM callmeter_shares WHERE log = %s'
                ' AND ("end" = 0 OR "end" > %s)',
                [basis.log, now],
            )
            settled = {Window(*row[:4]): Amount(*row[4:]) for row in rows}
            differences = []
            for window in sorted(settled.keys() | totals.keys(), key=lambda window: window.key):
                was, counted = settled.get(window, Amount()), totals.get(window, Amount())
                if was != counted:
                    differences.append(Difference(window, was, counted))
                    sql.note(changes, window, counted - was, Amount())
            if write:
                sql.insert(transaction, changes)
                sql.share(transaction, basis.log, {each.window: each.counted - each.settled for each in differences})
                sql.add(transaction, changes)
                sql.keep(transaction, sql.counted(basis.log), basis.mark, commit=True)
            return differences

        return self._database.transaction(body, idle=600)

    def counted(self, log: str) -> str:
        """The mark that a log was last counted for."""
        return self.remember(sql.counted(log))

    def logs(self) -> list[str]:
        """The identities of all logs that were ever counted here."""

        def body(transaction: Transaction) -> list[str]:
            rows = transaction.run(
                "SELECT key FROM callmeter_kept WHERE starts_with(key, 'counted/') ORDER BY key", commit=True
            )
            return [row[0].removeprefix("counted/") for row in rows]

        return self._database.transaction(body)

    def distrust(self, log: str) -> None:
        """Have the log counted anew before its share is relied on."""
        self.remember(sql.counted(log), "")

    def remember(self, key: str, value: str | None = None) -> str:
        """The kept text; with `value`, keep that and give what was there before."""

        def body(transaction: Transaction) -> str:
            if value is not None:
                return sql.swap(transaction, key, value)
            rows = transaction.run("SELECT value FROM callmeter_kept WHERE key = %s", [key], commit=True)
            return str(rows[0][0]) if rows else ""

        return self._database.transaction(body)

    def forget_ahead(self, now: int) -> int:
        """Drop windows of times that are still to come."""

        def body(transaction: Transaction) -> int:
            return sql.drop(transaction, "start > %s", [now + BACKWARDS])

        return self._database.transaction(body)

    def prune(self, now: int) -> int:
        """Drop what nobody asks for any more."""
        long, short = outdated(now)

        def body(transaction: Transaction) -> int:
            transaction.run(
                "DELETE FROM callmeter_reservations WHERE (state = 'assumed' AND created < %s)"
                " OR (state = 'void' AND created < %s);"
                " DELETE FROM callmeter_kept WHERE touched < to_timestamp(%s) AND NOT starts_with(key, 'counted/')"
                " AND NOT starts_with(key, 'log/') AND key <> 'layout'",
                [long, short, long],
            )
            return sql.drop(
                transaction, '"end" > 0 AND ("end" < %s OR ("end" < %s AND "end" - start <= 3600))', [long, short]
            )

        return self._database.transaction(body)
