"""Recovery with a ledger: whatever a process leaves behind, log and ledger tell the same in the end, to the nano."""
# ruff: noqa: F401, F811 - fixtures are imported, and then asked for by name

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from callmeter.flows import orphans
from callmeter.flows.booking import basis_of, windows_of, write_line
from callmeter.flows.orphans import recover_all
from callmeter.flows.owner import is_gone, owner_here
from callmeter.flows.rebuild import check, drop_lost, ensure, rebuild
from callmeter.flows.recovery import recover
from callmeter.ledger.open_ledger import open_ledger
from callmeter.ledger.protocol import Amount, Cap, Ledger, LedgerProblem, Reservation, Uncounted
from callmeter.ledger.sqlite import SqliteLedger
from callmeter.policy.document import Policy, parse_policy
from callmeter.store.inflight import Breadcrumb
from callmeter.store.log_identity import log_identity
from callmeter.store.segments import close_log
from callmeter.store.usage_append import append_usage
from callmeter.words.usage import usage_line
from kill_points import dies, every_kill, killed_at
from ledger_engines import new_database, server

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
ESTIMATE = 50_000_000  # 0.05 USD

POLICY = {
    "enforcement": "hard",
    "quotas": [
        {"subject": "total", "limit": 1000, "period": "month"},
        {"subject": "agent:*", "limit": 1000, "period": "day"},
        {"subject": "session:*", "limit": 1000, "period": "life"},
        {"subject": "total", "limit": 100000, "unit": "calls", "period": "week"},
    ],
}


def policy(**changes: object) -> Policy:
    return parse_policy(json.dumps({**POLICY, **changes}).encode(), "budget.json")


class Host:
    """A host: its log, its breadcrumbs, and the ledger, its own or shared."""

    def __init__(self, directory: Path, ledger: Ledger | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.log = str(directory / "usage.jsonl")
        self.inflight = str(directory / "inflight")
        self.ledger = ledger or SqliteLedger(str(directory / "ledger.db"))
        self.policy = policy()

    def record(self, id: str, **fields: object) -> dict[str, object]:
        return {
            "v": 1,
            "id": id,
            "timestamp": "2026-11-21T09:30:00.000Z",
            "tags": {"agent": "code", "session": "s1"},
            "provider": "openrouter",
            "model": "m",
            "estimate": Decimal("0.05"),
            "status": "unknown",
            "attempts": 1,
            **fields,
        }

    def begin(self, id: str, **fields: object) -> Breadcrumb:
        return Breadcrumb.begin(self.inflight, self.record(id, **fields), self.log, LATER.timestamp())

    def reservation(self, id: str, owner: str = "", **fields: object) -> Reservation:
        record = self.record(id, **fields)
        return Reservation(
            id,
            windows_of(self.policy, record),
            Amount(ESTIMATE, 100, 1),
            created=int(NOW.timestamp()),
            deadline=int(LATER.timestamp()),
            owner=owner or owner_here(),
            basis=basis_of(self.policy, self.log),
            record=usage_line(record).decode(),
        )

    def reserve(self, id: str, limit: int = 10**15, owner: str = "", **fields: object) -> bool:
        reservation = self.reservation(id, owner, **fields)
        caps = [Cap(window, "usd", limit) for window in reservation.windows]
        try:
            return self.ledger.reserve(reservation, caps)
        except Uncounted:
            ensure(self.policy, self.ledger, self.log, NOW)
            return self.ledger.reserve(self.reservation(id, owner, **fields), caps)

    def settle(self, id: str, cost: str = "0.01", **fields: object) -> bool:
        record = self.record(id, cost=Decimal(cost), cost_source="provider", status="ok", **fields)
        return self.ledger.settle(id, lambda assumed: write_line(self.log, record, assumed, NOW))

    def call(self, id: str, **fields: object) -> None:
        """A whole call, as flows/call.py makes it."""
        crumb = self.begin(id, **fields)
        assert self.reserve(id, **fields)
        crumb.sent()
        self.settle(id, **fields)
        crumb.done()

    def recover(self, now: datetime = NOW) -> Any:
        return recover_all(
            self.ledger, self.inflight, self.log, now, policy=self.policy, index=str(self.directory / "index")
        )

    def lines(self) -> list[dict[str, Any]]:
        if not os.path.exists(self.log):
            return []
        found = []
        for line in Path(self.log).read_text().split("\n"):
            try:
                found.append(json.loads(line, parse_float=Decimal))
            except ValueError:
                pass  # a fragment of a killed writer
        return found

    def left(self) -> list[str]:
        return os.listdir(self.inflight) if os.path.exists(self.inflight) else []

    def agrees(self) -> None:
        """Ledger and log tell the same, and nothing is held or left behind."""
        ensure(self.policy, self.ledger, self.log, NOW)
        differences = check(self.policy, self.ledger, self.log, NOW)
        assert [(each.window, each.settled, each.counted) for each in differences] == []
        assert self.ledger.open_reservations() == []
        assert self.left() == []


def total(host: Host) -> Amount:
    """What is settled in the month's window."""
    window = next(each for each in windows_of(host.policy, host.record("x")) if each.period == "month")
    standing = host.ledger.standings([window])[window]
    assert standing.held == Amount()
    return standing.settled


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


# --- what a killed process leaves


def test_a_call_killed_before_it_was_sent_costs_nothing_and_holds_nothing(host: Host) -> None:
    def call() -> None:
        host.begin("c1")
        host.reserve("c1")

    dies(call)
    assert host.recover().problems == []
    assert host.lines() == []
    assert total(host) == Amount()
    host.agrees()


def test_a_call_killed_after_it_was_sent_is_logged_and_settled_at_its_estimate(host: Host) -> None:
    def call() -> None:
        crumb = host.begin("c1")
        host.reserve("c1")
        crumb.sent()

    dies(call)
    host.recover()
    (line,) = host.lines()
    assert (line["id"], line["status"], line["cost"]) == ("c1", "unknown", Decimal("0.05"))
    assert total(host) == Amount(ESTIMATE, 0, 1)
    host.agrees()


def test_what_the_provider_had_said_is_what_is_settled(host: Host) -> None:
    def call() -> None:
        crumb = host.begin("c1")
        host.reserve("c1")
        crumb.sent()
        crumb.usage({"in": 5, "out": 9}, Decimal("0.0123"))

    dies(call)
    host.recover()
    assert total(host) == Amount(12_300_000, 14, 1)
    host.agrees()


def test_a_call_killed_anywhere_is_in_log_and_ledger_once_if_it_was_sent(tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    host = Host(tmp_path / "host")

    def call() -> None:
        crumb = host.begin("c1")
        assert host.reserve("c1")
        crumb.sent()
        os.mkdir(sent)  # stands for the request: mkdir is one step, and not one that kills
        crumb.usage({"in": 1, "out": 1}, Decimal("0.01"))
        host.settle("c1", tokens={"in": 1, "out": 1})
        crumb.done()

    points = 0
    for point in every_kill(call):
        points += 1
        host.recover()
        host.call("next")
        ids = Counter(line["id"] for line in host.lines())
        assert ids["c1"] == 1 if sent.exists() else ids["c1"] <= 1, point
        assert ids["next"] == 1
        host.agrees()
        assert total(host).usd in ((20_000_000, 60_000_000) if ids["c1"] else (10_000_000,)), point
        shutil.rmtree(host.directory)
        shutil.rmtree(sent, ignore_errors=True)
        host.directory.mkdir()
    assert points > 30


def test_a_recoverer_killed_anywhere_leaves_one_line_and_one_cost(host: Host) -> None:
    def call() -> None:
        crumb = host.begin("c1")
        host.reserve("c1")
        crumb.sent()

    host.call("first")
    saved = host.directory.with_name("saved")
    dies(call)
    shutil.copytree(host.directory, saved)
    points = 0
    for _ in every_kill(host.recover):
        points += 1
        host.recover()
        host.call("next")
        assert Counter(line["id"] for line in host.lines()) == {"first": 1, "c1": 1, "next": 1}
        assert total(host) == Amount(ESTIMATE + 20_000_000, 0, 3)
        host.agrees()
        shutil.rmtree(host.directory)
        shutil.copytree(saved, host.directory)
    assert points > 5


def test_ten_recoverers_at_once_settle_each_dead_call_once(host: Host) -> None:
    ids = [f"c{number}" for number in range(12)]

    def calls() -> None:
        for id in ids:
            crumb = host.begin(id)
            host.reserve(id)
            crumb.sent()

    dies(calls)
    children = []
    for _ in range(10):
        child = os.fork()
        if child == 0:
            host.recover()
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    host.recover()
    assert Counter(line["id"] for line in host.lines()) == dict.fromkeys(ids, 1)
    assert total(host) == Amount(12 * ESTIMATE, 0, 12)
    host.agrees()


def test_ten_recoverers_at_once_log_each_call_without_a_breadcrumb_once(host: Host) -> None:
    ids = [f"c{number}" for number in range(12)]
    dies(lambda: [host.reserve(id) for id in ids])
    children = []
    for _ in range(10):
        child = os.fork()
        if child == 0:
            host.recover()
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert Counter(line["id"] for line in host.lines()) == dict.fromkeys(ids, 1)
    assert total(host) == Amount(12 * ESTIMATE, 0, 12)
    host.agrees()


def test_a_line_that_another_recoverer_wrote_before_it_was_killed_is_not_written_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one comes after the log was searched, and before the hold is settled."""
    host.call("first")
    dies(lambda: host.reserve("c1"))
    search = orphans._lines

    def searched(*arguments: Any) -> Any:
        found = search(*arguments)
        monkeypatch.undo()
        line = host.record("c1", cost=Decimal("0.05"), cost_source="estimate")
        append_usage(host.log, usage_line(line))
        return found

    monkeypatch.setattr(orphans, "_lines", searched)
    host.recover()
    assert Counter(line["id"] for line in host.lines()) == {"first": 1, "c1": 1}
    assert total(host) == Amount(ESTIMATE + 10_000_000, 0, 2)
    host.agrees()


def test_a_call_taken_over_is_booked_once_though_a_killed_taker_had_its_line_counted(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = hosts
    second.call("warm")
    first.reserve("c1", owner="first 0000 1 7 99")
    search = orphans._lines

    def searched(*arguments: Any) -> Any:
        found = search(*arguments)
        monkeypatch.undo()
        append_usage(second.log, usage_line(second.record("c1", cost=Decimal("0.05"), cost_source="estimate")))
        rebuild(second.policy, second.ledger, second.log, NOW)
        return found

    monkeypatch.setattr(orphans, "_lines", searched)
    second.recover(LATER)
    second.agrees()
    first.agrees()
    assert total(second) == Amount(ESTIMATE + 10_000_000, 0, 2)


def test_a_hold_that_goes_with_the_ledger_while_it_is_looked_for_leaves_no_line_that_nobody_counts(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.call("first")
    dies(lambda: host.reserve("c1"))
    settle = SqliteLedger.settle

    def settled(*arguments: Any, **options: Any) -> bool:
        monkeypatch.undo()
        lose_ledger(host)
        host.call("meanwhile")
        return settle(*arguments, **options)

    monkeypatch.setattr(SqliteLedger, "settle", settled)
    host.recover()
    assert {line["id"] for line in host.lines()} == {"first", "meanwhile"}
    host.agrees()


def test_the_bounded_recovery_of_a_call_settles_too(host: Host) -> None:
    def call() -> None:
        crumb = host.begin("c1")
        host.reserve("c1")
        crumb.sent()

    dies(call)
    recover(host.inflight, NOW, limit=4, ledger=lambda: host.ledger)
    host.agrees()
    assert total(host).usd == ESTIMATE


def test_with_nothing_to_do_the_ledger_is_not_opened(host: Host) -> None:
    recover(host.inflight, NOW, ledger=lambda: pytest.fail("it was opened"))


# --- holds without a breadcrumb


def lose_breadcrumbs(host: Host) -> None:
    """As a power failure does: what was not synced is gone."""
    shutil.rmtree(host.inflight)


@pytest.fixture(params=["a short log", "a long log"])
def searched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short log is read for the lines of such calls; those of a long one are found by its index."""
    if request.param == "a long log":
        monkeypatch.setattr("callmeter.flows.rebuild._SHORT", -1)
        monkeypatch.setattr(orphans, "read_records", None)


@pytest.mark.usefixtures("searched")
def test_a_hold_whose_breadcrumb_is_lost_is_settled_at_its_worst_case(host: Host) -> None:
    def call() -> None:
        host.begin("c1")
        host.reserve("c1")

    dies(call)
    lose_breadcrumbs(host)
    host.recover()
    (line,) = host.lines()
    assert (line["id"], line["status"], line["cost"], line["tags"]["agent"]) == (
        "c1",
        "unknown",
        Decimal("0.05"),
        "code",
    )
    host.agrees()


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize("torn", [False, True], ids=["whole", "without its newline"])
@pytest.mark.parametrize("id", ["c1", "019aa59b-0a40-7d15-8d1b-3c5f3b1d0a11"])
def test_a_hold_whose_line_is_in_the_log_is_settled_at_what_that_says(host: Host, id: str, torn: bool) -> None:
    def call() -> None:
        host.reserve(id)
        line = usage_line(host.record(id, cost=Decimal("0.01"), cost_source="provider", status="ok"))
        append_usage(host.log, line)
        if torn:
            os.truncate(host.log, os.path.getsize(host.log) - 1)

    host.call("before")
    dies(call)
    host.recover()
    assert [line["id"] for line in host.lines()] == ["before", id]
    assert total(host) == Amount(20_000_000, 0, 2)
    host.agrees()


def test_a_hold_of_a_process_that_lives_is_left_alone_however_late_it_is(host: Host) -> None:
    host.reserve("c1")
    host.recover(LATER + timedelta(days=3))
    assert [found.call_id for found in host.ledger.open_reservations()] == ["c1"]


def test_a_hold_of_a_process_that_is_stopped_is_left_alone(host: Host) -> None:
    child = os.fork()
    if child == 0:
        host.reserve("c1")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(1)
    try:
        os.waitpid(child, os.WUNTRACED)
        host.recover(LATER + timedelta(days=3))
        assert len(host.ledger.open_reservations()) == 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    host.recover()
    host.agrees()


def test_a_hold_of_another_host_is_left_until_its_deadline(host: Host) -> None:
    host.reserve("c1", owner="elsewhere 0000 4026531836 7 99")
    host.recover(LATER - timedelta(seconds=1))
    assert len(host.ledger.open_reservations()) == 1
    host.recover(LATER)
    assert [line["id"] for line in host.lines()] == ["c1"]
    host.agrees()


def test_who_is_gone_is_told_from_who_is_not() -> None:
    here = owner_here()
    name, boot, namespace, pid, _ = here.split(" ")
    deadline, past = 1000, 2000
    assert not is_gone(here, deadline, past)
    assert is_gone(f"{name} {boot} {namespace} {pid} 1", deadline, 0), "another process with its number"
    assert is_gone(f"{name} {boot} {namespace} 4194304 1", deadline, 0)
    for elsewhere in (f"other {boot} {namespace} {pid} 1", f"{name} other {namespace} {pid} 1", "", "x", "a b c d e f"):
        assert not is_gone(elsewhere, deadline, 999)
        assert is_gone(elsewhere, deadline, past)
    assert not is_gone(f"{name} {boot} 1 {pid} 1", deadline, 999), "another container has numbers of its own"


def test_a_zombie_is_gone(host: Host) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, owner_here().encode())
        os._exit(0)
    owner = os.read(read, 1000).decode()
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert is_gone(owner, 2**40, 0)
    os.waitpid(child, 0)


# --- two hosts


@pytest.fixture
def hosts(tmp_path: Path) -> tuple[Host, Host]:
    ledger = SqliteLedger(str(tmp_path / "shared.db"))
    first, second = Host(tmp_path / "first", ledger), Host(tmp_path / "second", ledger)
    return first, second


def test_a_call_of_a_lost_host_is_finished_by_another_one(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    first.call("before")
    first.reserve("c1", owner="first 0000 1 7 99")
    second.recover(LATER)
    (line,) = second.lines()
    assert (line["id"], line["status"], line["cost"]) == ("c1", "unknown", Decimal("0.05"))
    assert total(second) == Amount(ESTIMATE + 10_000_000, 0, 2)
    first.agrees()
    second.agrees()


def test_a_host_that_comes_back_corrects_what_was_assumed(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    first.reserve("c1", owner="first 0000 1 7 99")
    second.recover(LATER)
    assert first.settle("c1", cost="0.01", tokens={"in": 3, "out": 4})
    (assumed,) = second.lines()
    (correction,) = first.lines()
    assert correction["corrects"] == "c1" and correction["id"] != "c1"
    assert correction["cost"] == Decimal("-0.04")
    assert correction["timestamp"] == assumed["timestamp"]
    first.agrees()
    second.agrees()
    assert total(first) == Amount(10_000_000, 7, 1)
    assert not first.settle("c1"), "and does so once"


@pytest.mark.usefixtures("searched")
def test_a_correction_that_the_ledger_has_not_heard_of_is_not_made_twice(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    first.reserve("c1", owner="first 0000 1 7 99")
    second.recover(LATER)
    record = first.record("c1", cost=Decimal("0.01"), cost_source="provider", status="ok")
    write_line(first.log, record, Amount(ESTIMATE, 0, 1), NOW)
    first.recover(LATER)
    assert [(line["corrects"], line["cost"]) for line in first.lines()] == [("c1", Decimal("-0.04"))]
    first.agrees()
    second.agrees()
    assert total(first) == Amount(10_000_000, 0, 1)


def test_a_recoverer_killed_while_it_takes_over_leaves_one_line(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    first, second = hosts
    first.reserve("c1", owner="first 0000 1 7 99")
    second.call("warm")
    saved = tmp_path / "saved"
    parts = ("first", "second", "shared.db", "shared.db-wal")

    def copy(source: Path, target: Path) -> None:
        target.mkdir(exist_ok=True)
        for part in parts:
            if (target / part).is_dir():
                shutil.rmtree(target / part)
            if (source / part).is_dir():
                shutil.copytree(source / part, target / part)
            elif (source / part).exists():
                shutil.copy(source / part, target / part)

    copy(tmp_path, saved)
    points = 0
    for _ in every_kill(lambda: second.recover(LATER)):
        points += 1
        second.recover(LATER)
        assert Counter(line["id"] for line in second.lines()) == {"warm": 1, "c1": 1}
        second.agrees()
        first.agrees()
        (tmp_path / "shared.db-shm").unlink(missing_ok=True)
        copy(saved, tmp_path)
    assert points > 3


# --- the ledger away, lost, or new


class Away:
    """A ledger out of reach."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        def fails(*_: object, **__: object) -> None:
            raise LedgerProblem("nobody answers")

        return fails


def test_lines_are_written_while_the_ledger_is_away_and_booked_when_it_is_back(host: Host) -> None:
    def call() -> None:
        for id in ("c1", "c2"):
            crumb = host.begin(id)
            host.reserve(id)
            crumb.sent()

    dies(call)
    away: Any = Away()
    recovery = recover(host.inflight, NOW, ledger=lambda: away)
    assert recovery.unreachable
    assert len(recovery.problems) == 1 and "nobody answers" in recovery.problems[0]
    assert sorted(line["id"] for line in host.lines()) == ["c1", "c2"]
    recover(host.inflight, NOW, ledger=lambda: away)
    assert len(host.lines()) == 2 and len(host.left()) == 2
    host.recover()
    assert len(host.lines()) == 2
    assert total(host).usd == 2 * ESTIMATE
    host.agrees()


def test_what_was_sent_without_the_ledger_is_counted_when_it_is_back(host: Host) -> None:
    """The policy says fail_open: the call goes ahead, writes its line, and leaves its breadcrumb."""
    host.call("before")
    for id in ("c1", "c2"):
        crumb = host.begin(id)
        crumb.sent()
        append_usage(host.log, usage_line(host.record(id, cost=Decimal("0.02"), cost_source="provider", status="ok")))
        crumb.leave()
    host.recover()
    host.call("after")
    assert total(host) == Amount(60_000_000, 0, 4)
    host.agrees()


def test_a_call_sent_without_the_ledger_and_killed_is_counted_too(host: Host) -> None:
    host.call("before")
    dies(lambda: host.begin("c1").sent())
    host.recover()
    host.call("after")
    assert total(host) == Amount(20_000_000 + ESTIMATE, 0, 3)
    host.agrees()


def test_a_ledger_deleted_while_a_call_runs_is_counted_again(host: Host) -> None:
    host.call("before")
    crumb = host.begin("c1")
    host.reserve("c1")
    crumb.sent()
    os.unlink(host.directory / "ledger.db")
    host.call("meanwhile")
    if not host.settle("c1"):
        host.ledger.distrust(log_identity(host.log))
    crumb.done()
    host.call("after")
    assert total(host) == Amount(40_000_000, 0, 4)
    host.agrees()


def test_a_ledger_deleted_before_a_dead_call_is_found_is_counted_again(host: Host) -> None:
    def call() -> None:
        crumb = host.begin("c1")
        host.reserve("c1")
        crumb.sent()

    dies(call)
    os.unlink(host.directory / "ledger.db")
    host.call("meanwhile")
    host.recover()
    host.call("after")
    assert total(host) == Amount(20_000_000 + ESTIMATE, 0, 3)
    host.agrees()


# What has become of the ledger when somebody looks for the dead. Who made another call meanwhile has counted the log.
LEDGERS = {
    "kept": lambda host: host.call("meanwhile"),
    "lost": lambda host: lose_ledger(host),
    "lost and counted anew": lambda host: (lose_ledger(host), host.call("meanwhile")),
}


def lose_ledger(host: Host) -> None:
    """Somebody deletes it."""
    for file in host.directory.glob("ledger.db*"):
        file.unlink()


def saved(host: Host) -> Callable[[], None]:
    """What puts everything back to what it is now."""
    copy = Path(tempfile.mkdtemp(dir=host.directory.parent))
    shutil.copytree(host.directory, copy, dirs_exist_ok=True)

    def restore() -> None:
        shutil.rmtree(host.directory)
        shutil.copytree(copy, host.directory)

    return restore


def one_line_and_one_cost(host: Host, *ids: str) -> None:
    """Each call is in log and ledger once; what a caller after all this relies on is what the log adds up to."""
    host.call("next")
    assert Counter(line["id"] for line in host.lines()) == dict.fromkeys([*ids, "next"], 1)
    host.agrees()
    assert total(host) == Amount(sum(int(line["cost"] * 10**9) for line in host.lines()), 0, len(ids) + 1)


@pytest.mark.parametrize("ledger", LEDGERS)
def test_a_recoverer_killed_anywhere_once_and_twice_loses_and_doubles_nothing(host: Host, ledger: str) -> None:
    """Whatever became of the ledger between the call's death and the recoverer's."""

    def call() -> None:
        crumb = host.begin("c1")
        host.reserve("c1")
        crumb.sent()

    host.call("first")
    dies(call)
    LEDGERS[ledger](host)
    ids = sorted({"c1", *(line["id"] for line in host.lines())})
    at_first = saved(host)
    points = 0
    for point in range(1, 100):
        if not killed_at(point, host.recover):
            break
        after_one = saved(host)
        for again in range(100):
            if again and not killed_at(again, host.recover):
                break
            points += 1
            host.recover()
            one_line_and_one_cost(host, *ids)
            after_one()
        at_first()
    assert points > 50


def test_a_recoverer_killed_anywhere_loses_nothing_with_another_database(tmp_path: Path, server: str) -> None:
    """The ledger that held the call was in one database; that of now, in another one, has counted the log before."""

    def call() -> None:
        crumb = host.begin("c1")
        host.reserve("c1")
        crumb.sent()

    def recover() -> None:
        host.ledger = open_ledger(address)
        host.recover()

    points = 0
    for point in range(1, 100):
        host = Host(tmp_path / str(point), open_ledger(new_database(server)))
        host.call("first")
        dies(call)
        address = new_database(server)
        host.ledger = open_ledger(address)
        host.call("meanwhile")
        if not killed_at(point, recover):
            break
        points += 1
        host.recover()
        one_line_and_one_cost(host, "first", "meanwhile", "c1")
    assert points > 5


@pytest.mark.parametrize("ledger", ["lost", "lost and counted anew"])
def test_a_call_killed_anywhere_after_it_lost_its_ledger_is_counted_once(host: Host, ledger: str) -> None:
    host.call("first")
    crumb = host.begin("c1")
    assert host.reserve("c1")
    crumb.sent()
    LEDGERS[ledger](host)
    ids = sorted({"c1", *(line["id"] for line in host.lines())})
    crumb.leave()
    restore = saved(host)

    def end() -> None:
        if not host.settle("c1"):
            host.ledger.distrust(log_identity(host.log))
        os.unlink(os.path.join(host.inflight, "c1.call"))

    points = 0
    for _ in every_kill(end):
        points += 1
        host.recover()
        one_line_and_one_cost(host, *ids)
        restore()
    assert points > 5


# --- counting


def test_a_new_quota_counts_what_was_spent_before_it(host: Host) -> None:
    host.call("c1")
    host.call("c2", tags={"agent": "other"})
    host.policy = policy(quotas=[{"subject": "agent:code", "limit": 5, "period": "month"}])
    host.call("c3")
    (window,) = windows_of(host.policy, host.record("x"))
    assert host.ledger.standings([window])[window].settled == Amount(20_000_000, 0, 2)
    host.agrees()


def test_a_running_call_is_booked_under_the_policy_that_came_meanwhile(host: Host) -> None:
    crumb = host.begin("c1")
    host.reserve("c1")
    host.policy = policy(quotas=[{"subject": "model:*", "limit": 5, "period": "year"}])
    host.call("c2")
    (window,) = windows_of(host.policy, host.record("x"))
    standing = host.ledger.standings([window])[window]
    assert (standing.settled.usd, standing.held.usd) == (10_000_000, ESTIMATE)
    host.settle("c1")
    crumb.done()
    assert host.ledger.standings([window])[window].settled == Amount(20_000_000, 0, 2)
    host.agrees()


def test_a_quota_that_was_taken_away_and_came_back_counts_what_was_spent_meanwhile(host: Host) -> None:
    both, one = POLICY["quotas"], [{"subject": "total", "limit": 1000, "period": "month"}]
    host.call("c1")
    host.policy = policy(quotas=one)
    host.call("c2")
    host.policy = policy(quotas=both)
    host.call("c3")
    host.agrees()
    sessions = host.ledger.windows("life", 0)
    assert [standing.settled.usd for standing in sessions.values()] == [30_000_000]


def test_a_rebuild_from_the_log_alone_gives_the_same_totals(host: Host) -> None:
    for number in range(5):
        host.call(f"c{number}", tags={"agent": f"a{number % 2}", "session": f"s{number}"}, tokens={"in": 7, "out": 5})
    windows = [*host.ledger.windows("life", 0), *host.ledger.windows("month", 1793491200)]
    assert len(windows) == 6
    before = {window: host.ledger.standings([window])[window].settled for window in windows}
    for file in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (host.directory / file).unlink(missing_ok=True)
    rebuild(host.policy, host.ledger, host.log, NOW)
    assert {window: host.ledger.standings([window])[window].settled for window in windows} == before
    host.agrees()


def test_a_rebuild_says_what_was_different(host: Host) -> None:
    host.call("c1")
    with sqlite3.connect(host.directory / "ledger.db") as connection:
        connection.execute("UPDATE windows SET settled_usd = settled_usd + 1 WHERE period = 'month'")
    (found,) = check(host.policy, host.ledger, host.log, NOW)
    assert (found.window.bucket, found.settled.usd, found.counted.usd) == ("total", 10_000_001, 10_000_000)
    assert len(check(host.policy, host.ledger, host.log, NOW)) == 1, "a check mends nothing"
    assert len(rebuild(host.policy, host.ledger, host.log, NOW)) == 1
    host.agrees()


def test_closed_segments_are_counted_with_the_log(host: Host) -> None:
    host.call("c1")
    close_log(host.log, None, NOW, lambda event, facts: None)
    host.call("c2")
    for file in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (host.directory / file).unlink(missing_ok=True)
    host.call("c3")
    assert total(host) == Amount(30_000_000, 0, 3)
    host.agrees()


def test_a_deleted_log_gives_no_money_back_until_somebody_rebuilds(host: Host) -> None:
    host.call("c1")
    os.unlink(host.log)
    host.call("c2")
    assert total(host) == Amount(20_000_000, 0, 2)
    assert len(check(host.policy, host.ledger, host.log, NOW)) == 4
    rebuild(host.policy, host.ledger, host.log, NOW)
    assert total(host) == Amount(10_000_000, 0, 1)


def test_a_log_whose_identity_was_lost_is_not_counted_twice_for_ever(host: Host) -> None:
    host.call("c1")
    os.unlink(host.log + ".id")
    host.call("c2")
    assert total(host) == Amount(30_000_000, 0, 3), "the old share is still there"
    assert len(drop_lost(host.policy, host.ledger, NOW)) == 4
    assert total(host) == Amount(20_000_000, 0, 2)
    host.agrees()


def test_lines_of_any_kind_are_counted_as_reports_count_them(host: Host) -> None:
    ensure(host.policy, host.ledger, host.log, NOW)
    lines = [
        usage_line(host.record("a", cost=Decimal("0.000000000000000001"), status="ok", cost_source="price")),
        usage_line(host.record("b", cost=None, status="ok", cost_source="unknown", tokens={"in": 3, "out": 4})),
        usage_line(host.record("c", cost=Decimal(0), status="refused", attempts=0)),
        usage_line(host.record("d", cost=Decimal("0.5"), timestamp="2026-10-31T23:59:59.999Z")),
        usage_line(host.record("e", cost=Decimal("-0.000000001"), corrects="a", attempts=1)),
        usage_line(host.record("a", cost=Decimal("9"))),  # an id that was there before
        b"garbage\n",
        b"\0\0\0" + usage_line(host.record("f", cost=Decimal("0.1"))),
        usage_line(host.record("g", cost=Decimal("0.2")))[:-1],  # no newline at the end
    ]
    with open(host.log, "ab") as file:
        file.writelines(lines)
    rebuild(host.policy, host.ledger, host.log, NOW)
    assert total(host) == Amount(1 - 1 + 100_000_000 + 200_000_000, 7, 4)


def test_many_callers_after_a_change_of_policy_count_once_and_agree(host: Host) -> None:
    for number in range(20):
        host.call(f"old-{number}")
    host.policy = policy(quotas=[{"subject": "agent:*", "limit": 1000, "period": "year"}])
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            try:
                for attempt in range(5):
                    host.call(f"new-{number}-{attempt}")
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    (window,) = windows_of(host.policy, host.record("x"))
    assert host.ledger.standings([window])[window].settled == Amount(600_000_000, 0, 60)
    host.agrees()


def test_a_policy_that_changes_all_the_while_among_callers_loses_nothing(host: Host) -> None:
    policies = [
        policy(),
        policy(quotas=[{"subject": "agent:*", "limit": 1000, "period": "year"}]),
        policy(time_zone="Asia/Kathmandu"),
    ]
    children = []
    for number in range(6):
        child = os.fork()
        if child == 0:
            try:
                for attempt in range(6):
                    host.policy = policies[(number + attempt) % 3]
                    for _ in range(50):
                        try:
                            host.call(f"c{number}-{attempt}")
                            break
                        except Uncounted:  # somebody else's policy was quicker
                            for name in host.left():
                                if name.startswith(f"c{number}-{attempt}."):
                                    os.unlink(os.path.join(host.inflight, name))
                    else:
                        os._exit(2)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    for each in policies:
        host.policy = each
        host.agrees()
    assert len(host.lines()) == 36


# --- whose log it is


def test_a_log_keeps_its_identity_wherever_it_lies(tmp_path: Path) -> None:
    log = tmp_path / "a" / "usage.jsonl"
    log.parent.mkdir()
    identity = log_identity(str(log))
    assert log_identity(str(log)) == identity
    assert os.stat(f"{log}.id").st_mode & 0o777 == 0o600
    shutil.move(log.parent, tmp_path / "b")
    assert log_identity(str(tmp_path / "b" / "usage.jsonl")) == identity
    assert log_identity(str(tmp_path / "c.jsonl")) != identity


def test_many_who_ask_for_an_identity_first_get_the_same(tmp_path: Path) -> None:
    log = str(tmp_path / "usage.jsonl")
    children = []
    for _ in range(10):
        child = os.fork()
        if child == 0:
            (tmp_path / f"saw-{os.getpid()}").write_text(log_identity(log))
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert len({file.read_text() for file in tmp_path.glob("saw-*")}) == 1
