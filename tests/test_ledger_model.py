"""A random walk over calls that live, die and are recovered, on two hosts with one ledger, against a model of what
must be so; and the proof that it bites: each of several defects, put in on purpose, is found."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from callmeter.flows import corrections, orphans, recovery
from callmeter.flows.booking import basis_of, windows_of, write_line
from callmeter.flows.corrections import correct
from callmeter.flows.orphans import recover_all
from callmeter.flows.rebuild import check, ensure
from callmeter.ledger import sqlite
from callmeter.ledger.protocol import Amount, Cap, LedgerProblem, Reservation, Uncounted
from callmeter.ledger.sqlite import SqliteLedger
from callmeter.policy.document import Policy, parse_policy
from callmeter.store import usage_append
from callmeter.store.files import HeldFile
from callmeter.store.inflight import Breadcrumb
from callmeter.store.log_identity import log_identity
from callmeter.store.usage_log import read_records
from callmeter.words.money import usd

START = datetime(2026, 11, 30, 22, 0, tzinfo=UTC)
TIMEOUT = 600


REMOVE = HeldFile.remove

# Hypothesis puts numbers of 100 and more that it finds in the source into its draws. With smaller ones alone, and with
# a seed, an edit of any text leaves the walk as it is.
TENS = st.integers(2, 20).map(lambda tens: 10 * tens)

# Thousands of ledgers are made and thrown away; nobody needs to wait for a disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Crash(BaseException):
    """The process ends here."""


def _policy(*quotas: dict[str, object], **members: object) -> Policy:
    return parse_policy(json.dumps({"enforcement": "hard", "quotas": quotas, **members}).encode(), "budget.json")


MONTH = {"subject": "total", "period": "month", "limit": 1}
POLICIES = (
    _policy(MONTH, {"subject": "agent:*", "period": "day", "limit": 1}),
    _policy(MONTH, {"subject": "session:*", "period": "life", "limit": 1}),
    _policy(MONTH, {"subject": "model:*", "period": "week", "limit": 1}, time_zone="Asia/Kathmandu"),
)


class Call:
    """One call, as its process and the provider know it. `cost` is what the provider charges if it was sent."""

    def __init__(self, id: str, host: Host, worst: int, cost: int, agent: str, at: datetime) -> None:
        self.id, self.host, self.worst, self.cost, self.at = id, host, worst, cost, at
        self.record: dict[str, object] = {
            "v": 1,
            "id": id,
            "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "tags": {"agent": agent, "session": f"s-{agent}"},
            "provider": "openrouter",
            "model": f"m-{agent}",
            "estimate": usd(worst),
            "status": "unknown",
            "attempts": 1,
        }
        self.alive, self.sent, self.over = True, False, False
        # It goes ahead without the ledger, which is out of reach.
        self.unbooked = False
        # Another host has booked it; its breadcrumb is lost; its own process, or the provider, said what it cost.
        self.assumed, self.lost, self.settled = False, False, False
        self.crumb: Breadcrumb | None = None

    @property
    def expected(self) -> int:
        """What all lines of this call add up to in the end."""
        if self.lost:
            return self.worst
        if not self.sent:
            return 0
        # Once it is taken over, nobody asks the provider any more: its host corrects it by what that knew.
        return self.worst if self.assumed and not self.settled else self.cost


class Host:
    """A host's log and breadcrumbs."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.log = str(directory / name / "usage.jsonl")
        self.inflight = str(directory / name / "inflight")
        os.makedirs(directory / name)


class Life(RuleBasedStateMachine):
    """The rules are what can happen; the invariants what must be so after each."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="callmeter-", dir=MEMORY))
        self.ledger = SqliteLedger(str(self.directory / "ledger.db"))
        self.hosts = [Host(self.directory, "first"), Host(self.directory, "second")]
        self.calls: dict[str, Call] = {}
        self.policy = POLICIES[0]
        self.now = START
        self.number = 0
        self.exact = True
        # The owner of a hold is a call here, so that each of them can die by itself.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(orphans, "is_gone", self._is_gone)

    def teardown(self) -> None:
        try:
            self._come_to_an_end()
        finally:
            for call in self.calls.values():
                if call.crumb is not None:
                    call.crumb.leave()
            self.patch.undo()
            shutil.rmtree(self.directory)

    def _is_gone(self, owner: str, deadline: int, now: float) -> bool:
        host, _, id = owner.partition("/")
        return now >= deadline if host != self.recovering else not self.calls[id].alive

    # What can happen

    @rule(
        host=st.integers(0, 1),
        worst=st.integers(1, 50),
        share=st.integers(0, 99),
        limit=TENS,
        agent=st.sampled_from("ab"),
        how=st.sampled_from(["", "", "", "dies", "unbooked"]),
    )
    def begin(self, host: int, worst: int, share: int, limit: int, agent: str, how: str) -> None:
        """A call is admitted, or refused, or its process dies as soon as it holds something, or the ledger is out of
        reach and the policy says `fail_open`."""
        self.number += 1
        call = Call(f"c{self.number}", self.hosts[host], worst, worst * share // 100, agent, self.now)
        call.crumb = Breadcrumb.begin(call.host.inflight, call.record, call.host.log, self._deadline(call))
        self.calls[call.id] = call
        if how == "unbooked":
            call.unbooked = True
        elif self._reserve(call, limit):
            if how == "dies":
                self._die(call)
        else:
            call.crumb.done()
            call.alive, call.over = False, True

    @rule(which=st.integers(0, 7), worst=st.integers(1, 80), limit=TENS)
    def retry(self, which: int, worst: int, limit: int) -> None:
        """Another attempt of a call that runs needs another hold."""
        call = self._running(which)
        if call is None or call.sent or call.unbooked:
            return
        before, call.worst = call.worst, worst
        call.record["estimate"] = usd(worst)
        call.cost = min(call.cost, worst)
        try:
            held = self._reserve(call, limit)
        except LedgerProblem as problem:
            # Another host has booked it; or its hold was lost with the ledger, and a later day's calls were made since.
            assert call.assumed or (problem.code == "clock" and not self._holds(call))
            held = False
        if not held:
            call.worst = before
            call.record["estimate"] = usd(before)
            call.cost = min(call.cost, before)

    @rule(which=st.integers(0, 7))
    def send(self, which: int) -> None:
        """The request leaves: from now on the call may be charged."""
        call = self._running(which)
        if call is not None and not call.sent:
            assert call.crumb is not None
            call.crumb.sent({"estimate": call.record["estimate"]})
            call.crumb.generation(f"gen-{call.id}")
            call.sent = True

    @rule(which=st.integers(0, 7), crash=st.sampled_from(["", "", "before", "after", "torn", "left", "away"]))
    def settle(self, which: int, crash: str) -> None:
        """A call ends; its process may die before its line, amid it, between line and ledger, or with its breadcrumb
        left; or the ledger is out of reach."""
        call = self._running(which)
        if call is None:
            return
        cost = call.cost if call.sent else 0
        record = {**call.record, "cost": usd(cost), "cost_source": "provider", "status": "ok"}
        call.settled = crash in ("", "after", "left", "away")
        if not call.sent:
            record.update(attempts=0, status="refused")

        def write(assumed: Amount) -> Amount:
            if crash == "before":
                raise Crash
            if crash == "torn":
                with open(call.host.log, "ab") as log:
                    log.write(b'{"v":1,"id":"' + call.id.encode() + b'","timest')
                raise Crash
            amount = write_line(call.host.log, record, assumed, self.now)
            if crash == "after":
                raise Crash
            return amount

        try:
            if crash == "away" or call.unbooked:
                write(Amount())
                crash = "left"
            elif not self.ledger.settle(call.id, write):
                self.ledger.distrust(log_identity(call.host.log))
        except Crash:
            self._die(call)
            return
        if crash == "left":
            self._die(call)
            return
        assert call.crumb is not None
        call.crumb.done()
        call.alive, call.over = False, True

    @rule(
        host=st.integers(0, 1),
        worst=st.integers(2, 20),
        agent=st.sampled_from("ab"),
        end=st.sampled_from(
            [
                "",
                "before",
                "after",
                "torn",
                "left",
                "away",
                "killed",
                "ledger lost",
                "correction killed",
                "taker killed",
                "recoverer killed",
            ]
        ),
        how=st.sampled_from(["", "", "unbooked"]),
        recovered=st.booleans(),
    )
    def live(self, host: int, worst: int, agent: str, end: str, how: str, recovered: bool) -> None:
        """A whole life in one step. Chance alone puts the same steps together too seldom to find what is wrong only
        after all of them."""
        self.begin(host, worst, 50, 10**6, agent, how)
        last = min(len(self.calls), 8) - 1
        self.send(last)
        if end == "ledger lost":
            self.lose_ledger()
        if end.endswith("killed"):
            self.die(last)
        else:
            self.settle(last, "" if end == "ledger lost" else end)
        if end == "recoverer killed":
            self.recover(host, "after")
            self.lose_breadcrumb(last)
        if end == "taker killed":
            self.wait(1)
            self.recover(1 - host, "after")
        if recovered:
            self.recover(host, "")
        if end == "correction killed":
            self.correct(host, True)

    @rule(which=st.integers(0, 7))
    def settle_again(self, which: int) -> None:
        """A second settlement books nothing."""
        call = self._call(which)
        if call is not None and call.over and not call.assumed:
            before = self._all_settled()
            assert not self.ledger.settle(call.id, lambda assumed: Amount(10**9, 0, 1))
            assert self._all_settled() == before

    @rule(which=st.integers(0, 7))
    def die(self, which: int) -> None:
        """kill -9."""
        call = self._running(which)
        if call is not None:
            self._die(call)

    @rule(which=st.integers(0, 7))
    def lose_breadcrumb(self, which: int) -> None:
        """A power failure: what was not synced is gone. Of such a call nothing is known but its hold; where it has
        none, its line, which is younger than the breadcrumb, does not outlive that."""
        call = self._call(which)
        if call is not None and not call.alive and not call.over:
            path = os.path.join(call.host.inflight, f"{call.id}.call")
            if os.path.exists(path) and not call.settled and not call.assumed:
                holds, logged = self._holds(call), call.id in self._logged()
                if logged and not holds:
                    return
                os.unlink(path)
                call.lost = holds and not logged
                call.sent = holds or (call.sent and logged)  # nobody knows better
                call.over = not holds

    @rule(host=st.integers(0, 1), crash=st.sampled_from(["", "", "before", "after", "told", "left"]))
    def recover(self, host: int, crash: str) -> None:
        """Somebody looks for the dead, and may die too: before or after a line, when the ledger was told that it has
        to count the log, or before the breadcrumb is removed."""
        real, distrust, dying = usage_append.append_usage, SqliteLedger.distrust, [crash]

        def dies(where: str) -> None:
            if dying[0] == where:
                dying[0] = ""
                raise Crash

        def append(log: str, line: bytes) -> int:
            dies("before")
            offset = real(log, line)
            dies("after")
            return offset

        def distrusted(ledger: SqliteLedger, log: str) -> None:
            distrust(ledger, log)
            dies("told")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(usage_append, "append_usage", append)
            patch.setattr(SqliteLedger, "distrust", distrusted)
            patch.setattr(HeldFile, "remove", lambda held: (dies("left"), REMOVE(held)))
            try:
                self._recover(self.hosts[host])
            except Crash:
                pass

    @rule(host=st.integers(0, 1), crash=st.booleans())
    def correct(self, host: int, crash: bool) -> None:
        """The provider tells what calls cost that were logged at their estimate; who asked may die on the way."""
        real = usage_append.append_usage

        def append(log: str, line: bytes) -> int:
            offset = real(log, line)
            if crash:
                raise Crash
            return offset

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(corrections, "append_usage", append)
            try:
                self._correct(self.hosts[host])
            except Crash:
                pass

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        """Time passes, over the ends of days and of the month."""
        self.now += timedelta(hours=hours)

    @rule(number=st.integers(0, 2))
    def change_policy(self, number: int) -> None:
        """Somebody edits the policy."""
        self.policy = POLICIES[number]

    @precondition(lambda self: self.number > 3)
    @rule()
    def lose_ledger(self) -> None:
        """Somebody deletes the ledger, and with it what only it knew: calls that lost their breadcrumbs, and which
        calls one host finished for the other one."""
        logged = self._logged()
        for call in self.calls.values():
            if call.lost and call.id not in logged:
                call.lost = call.sent = False
            self.exact &= not call.assumed
        for file in self.directory.glob("ledger.db*"):
            file.unlink()

    # What must be so

    @invariant()
    def holds_are_those_of_open_calls(self) -> None:
        """What is held in a window is what the open reservations say, no more and no less."""
        reservations = self.ledger.open_reservations()
        held: dict[object, Amount] = {}
        for reservation in reservations:
            for window in reservation.windows:
                held[window] = held.get(window, Amount()) + reservation.hold
        for window, standing in self._windows().items():
            assert standing.held == held.pop(window, Amount()), window
            assert min(standing.settled.parts) >= 0 or self._has_corrections()
        assert not held
        assert len({reservation.call_id for reservation in reservations}) == len(reservations)

    @invariant()
    def a_call_has_at_most_one_line(self) -> None:
        """In each log, corrections aside; in two only when one host took over what the other one had logged. What was
        certainly not sent has none that costs anything."""
        seen: set[str] = set()
        for host in self.hosts:
            lines = [line for line in _read(host.log) if "corrects" not in line]
            ids = {line["id"] for line in lines}
            assert len(ids) == len(lines)
            assert all(self.calls[id].assumed for id in ids & seen)
            seen |= ids
            for line in lines:
                call = self.calls[line["id"]]
                assert call.sent or call.assumed or not line["cost"]

    def _come_to_an_end(self) -> None:
        """Everybody dies, everything is recovered: then each call that was sent has its one line, nothing is held,
        and the ledger says what the logs say, in every window."""
        for call in self.calls.values():
            if call.alive:
                self._die(call)
        self.now += timedelta(hours=1)
        for _ in range(2):
            for host in self.hosts:
                self._recover(host)
        self._ensure()
        assert self.ledger.open_reservations() == []
        for host in self.hosts:
            assert check(self.policy, self.ledger, host.log, self.now) == []
            assert self._left(host) == []
        lines = {
            record.id
            for host in self.hosts
            for record in read_records(host.log)
            if not record.corrects and record.attempts
        }
        sent = {call.id for call in self.calls.values() if call.sent}
        assumed = {call.id for call in self.calls.values() if call.assumed}
        assert sent <= lines <= sent | assumed, "one line for each call that was sent"
        for host in self.hosts:
            self._correct(host)
        self._ensure()
        total = sum(record.cost_nano or 0 for host in self.hosts for record in read_records(host.log))
        expected = sum(call.expected for call in self.calls.values())
        assert total == expected or (total > expected and not self.exact), f"{total} is not {expected}"
        for host in self.hosts:
            assert check(self.policy, self.ledger, host.log, self.now) == []

    # Steps

    def _reserve(self, call: Call, limit: int) -> bool:
        for _ in range(5):
            windows = windows_of(self.policy, call.record)
            reservation = Reservation(
                call.id,
                windows,
                Amount(call.worst, 0, 1),
                created=int(call.at.timestamp()),
                deadline=self._deadline(call),
                owner=f"{call.host.name}/{call.id}",
                basis=basis_of(self.policy, call.host.log),
                record=json.dumps(call.record, default=float),
            )
            before = self.ledger.standings(windows)
            mine = sum(found.hold.usd for found in self.ledger.open_reservations() if found.call_id == call.id)
            try:
                held = self.ledger.reserve(reservation, [Cap(window, "usd", limit) for window in windows])
            except Uncounted:
                self._ensure()
                continue
            for window in windows:
                taken = self.ledger.standings([window])[window].taken("usd")
                fits = before[window].taken("usd") - (mine if held else 0) + call.worst <= limit
                assert not held or (taken <= limit and fits), "no cap is exceeded"
            return held
        raise AssertionError("the ledger is never counted")

    def _ensure(self) -> None:
        for host in self.hosts:
            ensure(self.policy, self.ledger, host.log, self.now)

    def _correct(self, host: Host) -> None:
        class Told:
            tokens = None

            def __init__(self, call: Call) -> None:
                self.cost = usd(call.cost)
                call.settled = True

        correct(self.policy, self.ledger, host.log, self.now, lambda record: Told(self.calls[record.id]))

    def _recover(self, host: Host) -> None:
        self.recovering = host.name
        before = {found.call_id for found in self.ledger.open_reservations()}
        try:
            problems = recover_all(self.ledger, host.inflight, host.log, self.now).problems
        finally:
            logged = {record.id for record in read_records(host.log)}
            for id in before & logged:
                self.calls[id].assumed |= self.calls[id].host is not host
                # Killed between line and ledger while it took a call over: should that call's own host come back
                # first, the line stays, at the worst case.
                self.exact &= not (self.calls[id].assumed and self._holds(self.calls[id]))
        assert problems == []
        for call in self.calls.values():
            if not call.alive and not call.over:
                call.over = not any(found.call_id == call.id for found in self.ledger.open_reservations()) and (
                    f"{call.id}.call" not in self._left(call.host)
                )

    def _logged(self) -> set[str]:
        return {record.id for host in self.hosts for record in read_records(host.log)}

    def _holds(self, call: Call) -> bool:
        return any(found.call_id == call.id for found in self.ledger.open_reservations())

    def _die(self, call: Call) -> None:
        assert call.crumb is not None
        call.crumb.leave()
        call.alive = False

    def _call(self, which: int) -> Call | None:
        """One of the latest calls."""
        calls = list(self.calls.values())[-8:]
        return calls[which % len(calls)] if calls else None

    def _running(self, which: int) -> Call | None:
        call = self._call(which)
        return call if call is not None and call.alive else None

    def _deadline(self, call: Call) -> int:
        return int(call.at.timestamp()) + TIMEOUT

    def _left(self, host: Host) -> list[str]:
        return os.listdir(host.inflight) if os.path.exists(host.inflight) else []

    def _windows(self) -> dict[Any, Any]:
        import sqlite3

        path = self.directory / "ledger.db"
        if not path.exists():
            return {}
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            keys = connection.execute("SELECT DISTINCT period, start FROM windows").fetchall()
        found: dict[Any, Any] = {}
        for period, start in keys:
            found.update(self.ledger.windows(period, start))
        return found

    def _all_settled(self) -> dict[Any, Any]:
        return {window: standing.settled.parts for window, standing in self._windows().items()}

    def _has_corrections(self) -> bool:
        return any(record.corrects for host in self.hosts for record in read_records(host.log))


def _read(log: str) -> list[dict[str, Any]]:
    """All lines, read naively: the log's own reader leaves out those whose id was there before."""
    found = []
    for line in Path(log).read_bytes().split(b"\n") if os.path.exists(log) else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            pass  # torn
    return found


STEPS = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


def walk(first: int, **changes: Any) -> None:
    """A walk that begins with this number: the same one each time."""
    run_state_machine_as_test(seed(first)(type("Walk", (Life,), {})), settings=settings(STEPS, **changes))


def test_whatever_happens_log_and_ledger_tell_the_same() -> None:
    walk(1)


# --- the same walk must find what is wrong


def unsealed(path: str, line: bytes) -> int:
    """`append_line` as it would be without a look at what the last writer left."""
    with open(path, "ab") as log:
        log.write(line)
    return 0


def undeleted(connection: Any, call_id: str, state: str = "held") -> Reservation | None:
    """`_take` that leaves the reservation where it is."""
    return next((found for found in sqlite._reservations(connection, None, state) if found.call_id == call_id), None)


def released(trail: Any, now: object, recovery: object, ledger: Any) -> bool:
    """`_settle` of the recovery as it would be if a dead call's money were given back."""
    ledger().release(trail.id)
    return True


def believed(trail: Any, now: Any, found: Any, ledger: Any) -> bool:
    """`_settle` of the recovery that takes a line without a hold for one that is booked."""
    real = ledger()
    if recovery._lines_of(trail):
        real.distrust = lambda log: None
    try:
        return SETTLE(trail, now, found, ledger)
    finally:
        real.__dict__.pop("distrust", None)


def trusted(connection: Any, log: str) -> str:
    """`_distrusted` that commits nothing before the line is written."""
    return sqlite._kept(connection, sqlite._counted(log))


DEFECTS: dict[str, tuple[object, str, object]] = {
    "caps are not looked at": (sqlite, "_check_caps", lambda *_: None),
    "a reservation ends more than once": (sqlite, "_take", undeleted),
    "a hold is not taken back": (sqlite, "_hold", lambda c, r, w, sign: HOLD(c, r, w, sign) if sign > 0 else None),
    "a line is forgotten": (usage_append, "append_usage", lambda log, line: 0),
    "a torn tail is not sealed": (usage_append, "append_line", unsealed),
    "the money of the dead is given back": (recovery, "_settle", released),
    "a line without a hold is taken for booked": (recovery, "_settle", believed),
    "recovery does not look for a line that is there": (recovery, "_lines_of", lambda trail: []),
    "nor for those of calls without a breadcrumb": (orphans, "_lines", lambda *_: {}),
    "running calls stay where an older policy put them": (sqlite, "_move", lambda *_: None),
    "a correction that was cut off is trusted": (sqlite, "_distrusted", trusted),
    "a lost ledger is not noticed": (SqliteLedger, "distrust", lambda self, log: None),
}
HOLD, SETTLE = sqlite._hold, recovery._settle


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_walk_finds_each_defect(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*DEFECTS[defect])
    with pytest.raises(Exception) as caught:  # an assertion, or what the ledger itself notices
        walk(1, max_examples=4000, phases=[Phase.generate], report_multiple_bugs=False)
    assert not isinstance(caught.value, pytest.fail.Exception)
