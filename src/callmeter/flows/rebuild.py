"""The ledger's totals, counted from the usage log: when a policy has new quotas, when the ledger is new or was lost,
and to see that the two agree.

The log is the truth. What was appended while it is read is counted at the end, behind the ledger's gate, where no
reserved call appends; so the totals are exact however busy the log is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime

from callmeter.flows.booking import basis_of, mark_of, windows_of
from callmeter.flows.counting import PlainCount, Tally
from callmeter.flows.counting_turn import COUNTING, Turn
from callmeter.ledger.protocol import BACKWARDS, MOST, Basis, Difference, Ledger, Reservation, Window
from callmeter.policy.document import Policy
from callmeter.store.files import FileProblem
from callmeter.store.log_identity import is_identified, log_identity
from callmeter.store.log_size import text_size
from callmeter.words.errors import CallmeterError
from callmeter.words.jsontext import loads
from callmeter.words.period import Period, zone_named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from callmeter.flows.counting import Count
    from callmeter.store.index import UsageIndex

    _Answer = TypeVar("_Answer")
    Tell = Callable[[str], None]

# Kept in the ledger: when a clock that had been ahead was accepted, and from when on a log's lines were left out then.
_ACCEPTED = "clock/accepted"
_AHEAD = "clock/ahead/"
# So many bytes of a log are read one by one in the time in which DuckDB is ready to answer; and so many while it reads
# one byte for the first time.
_SHORT = 12 << 20
_SLOWER = 2.5
_TRIES = 3


def _silent(text: str) -> None:
    pass


def ensure(
    policy: Policy, ledger: Ledger, log_path: str, now: datetime, *, index: str = "", tell: Tell = _silent
) -> bool:
    """Have the log counted for the policy's quotas; False when it was already. One process counts, the others wait
    for it. `index` is where the log's usage index lies, without which a long log takes long; `tell` hears how far it
    is. Raises LedgerProblem, FileProblem, Busy."""
    basis = basis_of(policy, log_path)

    def is_done() -> bool:
        return ledger.counted(basis.log) == basis.mark

    if is_done():
        return False
    with Turn(log_path + ".count", is_done, tell) as turn:
        if turn.is_ours:
            rebuild(policy, ledger, log_path, now, index=index, tell=turn.tell)
        return turn.is_ours


def make_ready(policy: Policy, log_path: str, now: datetime, *, index: str, tell: Tell = _silent) -> None:
    """Bring the usage index of a long log up to date before a policy with other quotas is put in place: then the first
    call under it counts in a moment. If that cannot be done, that call sees to it."""
    tally = Tally(policy, now, None)
    with suppress(FileProblem):
        if policy.quotas and is_long(log_path, index, tally.period, lambda: tell(COUNTING)):
            from callmeter.store.index_log import IndexedLog, IndexTrouble

            far = _far(tell)
            with suppress(IndexTrouble), IndexedLog(log_path, index, tally.period, MOST, fresh=False, tell=far):
                pass


def resume(ledger: Callable[[], Ledger], log_path: str) -> None:
    """Have the log counted anew before quotas are put in place where there were none: no call touched the ledger
    meanwhile, and it may know these very quotas from before. Raises LedgerProblem, FileProblem, Busy."""
    if is_identified(log_path):
        log = log_identity(log_path)
        if ledger().counted(log):
            ledger().distrust(log)


def rebuild(
    policy: Policy, ledger: Ledger, log_path: str, now: datetime, *, index: str = "", tell: Tell = _silent
) -> list[Difference]:
    """Set the log's share of every window that has not ended to what the log says, and give what was different.

    The log alone counts: spending whose lines were deleted or pruned is forgotten. Raises LedgerProblem, FileProblem,
    Busy.
    """
    differences = _recount(policy, ledger, log_path, now, index, tell, write=True)
    ledger.remember(f"log/{log_identity(log_path)}", _place(log_path))
    return differences


def accept_clock(
    policy: Policy, ledger: Ledger, log_path: str, now: datetime, *, index: str = "", tell: Tell = _silent
) -> int:
    """Drop what a clock that was ahead has left in the ledger, and give how many windows that were. Its lines stay in
    the log at the time that they name, and are left out of the totals until that comes. Raises as `rebuild`."""
    dropped = ledger.forget_ahead(int(now.timestamp()))
    ledger.remember(_ACCEPTED, str(int(now.timestamp())))
    rebuild(policy, ledger, log_path, now, index=index, tell=tell)
    return dropped


def catch_up(
    policy: Policy, ledger: Ledger, log_path: str, now: datetime, *, index: str = "", tell: Tell = _silent
) -> None:
    """Count the lines whose time has come since `accept_clock` left them out. Raises as `rebuild`."""
    ahead = ledger.remember(_AHEAD + log_identity(log_path))
    if ahead and int(ahead) <= now.timestamp():
        rebuild(policy, ledger, log_path, now, index=index, tell=tell)


def drop_lost(policy: Policy, ledger: Ledger, now: datetime) -> list[Difference]:
    """Take out the shares of logs that lay on this host and are known there under this identity no more: their file
    with the identity was removed, and their lines are counted under another one. Raises as `rebuild`."""
    differences = []
    for log in ledger.logs():
        host, _, path = ledger.remember(f"log/{log}").partition(" ")
        if host == os.uname().nodename and os.path.exists(path) and log_identity(path) != log:
            differences += ledger.recount(
                Basis(log, mark_of(policy)),
                int(now.timestamp()),
                count=dict,
                windows_of=lambda reservation: reservation.windows,
            )
    return differences


def check(
    policy: Policy, ledger: Ledger, log_path: str, now: datetime, *, index: str = "", tell: Tell = _silent
) -> list[Difference]:
    """The windows in which ledger and log differ; nothing is changed. Raises LedgerProblem, FileProblem, Busy."""
    return _recount(policy, ledger, log_path, now, index, tell, write=False)


def is_long(log_path: str, index: str, period: Period, begun: Callable[[], None] = lambda: None) -> bool:
    """Whether a period's lines are found sooner by the log's usage index, with all that this lacks; it also needs the
    other months. `begun` hears of a log that is not short. Raises FileProblem."""
    size = text_size(log_path, period)
    if size <= _SHORT:
        return False
    begun()
    from callmeter.store.index_steps import unread

    try:
        return size > _SHORT + unread(log_path, index) / _SLOWER
    except FileProblem:
        return False  # perhaps of a month that is not asked for


def by_index(
    policy: Policy,
    log_path: str,
    index: str,
    period: Period,
    ask: Callable[[UsageIndex], _Answer],
    tell: Tell = _silent,
) -> _Answer | None:
    """What the usage index of a long log answers about a period; None where to read its lines is as good. Raises
    FileProblem."""
    if index and is_long(log_path, index, period):
        # Nobody's error: without DuckDB, memory or a place for it, it only takes longer.
        with suppress(CallmeterError, ImportError):
            from callmeter.store.index import UsageIndex

            return ask(UsageIndex([log_path], index, zone_named(policy.time_zone), aliases=policy.aliases, tell=tell))
    return None


def _place(log_path: str) -> str:
    return f"{os.uname().nodename} {os.path.abspath(log_path)}"


def _recount(
    policy: Policy, ledger: Ledger, log_path: str, now: datetime, index: str, tell: Tell, *, write: bool
) -> list[Difference]:
    # A clock that is behind must not drop what was spent today: only an accepted one says what is still to come.
    accepted = ledger.remember(_ACCEPTED)
    right = accepted and int(accepted) <= now.timestamp()
    last = int(now.timestamp()) + BACKWARDS if right else None

    def tallied() -> Tally:
        return Tally(policy, now, last)

    def recounted(count: Count) -> list[Difference]:
        return _recounted(policy, ledger, log_path, now, count, write=write, right=bool(right))

    if policy.quotas and index and is_long(log_path, index, tallied().period, lambda: tell(COUNTING)):
        from callmeter.flows.index_counting import IndexCount
        from callmeter.store.index_log import IndexDamaged, IndexTrouble, LogMoved

        fresh = False
        for _ in range(_TRIES):
            try:
                return recounted(IndexCount(tallied(), log_path, index, now, fresh=fresh, tell=_far(tell)))
            except LogMoved:
                continue
            except IndexDamaged:
                fresh = True
            except IndexTrouble:
                break
    return recounted(PlainCount(tallied(), log_path))


def _recounted(
    policy: Policy, ledger: Ledger, log_path: str, now: datetime, count: Count, *, write: bool, right: bool
) -> list[Difference]:
    basis = basis_of(policy, log_path)
    with count:

        def windows_of_open(reservation: Reservation) -> Iterable[Window] | None:
            if count.has(reservation.call_id):
                return None
            record = loads(reservation.record)
            return windows_of(policy, record) if isinstance(record, dict) and "timestamp" in record else ()

        count.look_up([each.call_id for each in ledger.open_reservations() if each.basis.log == basis.log])
        differences = ledger.recount(
            basis, int(now.timestamp()), count=count.finish, windows_of=windows_of_open, write=write
        )
        ahead = count.tally.ahead
    if write and right:
        ledger.remember(_AHEAD + basis.log, str(ahead) if ahead else "")
    return differences


def _far(tell: Tell) -> Tell:
    return lambda text: tell(f"{COUNTING}: {text}")
