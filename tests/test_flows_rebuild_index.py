"""The ledger's totals by the usage index: who counts, who waits, and what stands in the way of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from callmeter.flows import counting, counting_turn, rebuild
from callmeter.flows.booking import basis_of, windows_of
from callmeter.flows.counting_turn import Turn
from callmeter.flows.owner import owner_here
from callmeter.ledger.protocol import Amount, Difference, Reservation
from callmeter.ledger.sqlite import SqliteLedger
from callmeter.policy.document import parse_policy
from callmeter.store import index_steps
from callmeter.store.segments import close_log
from callmeter.store.usage_append import append_usage
from callmeter.words.errors import Busy
from kill_points import every_kill
from usage_lines import NOW, call, calls, write

POLICY = parse_policy(
    json.dumps(
        {
            "enforcement": "hard",
            "quotas": [
                {"subject": "total", "limit": 1000, "period": "month"},
                {"subject": "agent:*", "limit": 1000, "period": "life"},
            ],
        }
    ).encode(),
    "budget.json",
)
ONE = Amount(9_600_000, 1600, 1)
LINES = 30


def long_log() -> bytes:
    """40,000 calls."""
    line = call(datetime.now(UTC), "01a0c450-6c00-7aa0-81e1-000000000000", note="n" * 400)
    lines = b"".join(line.replace(b"-000000000000", b"-%012x" % number) for number in range(40_000))
    assert len(lines) > 2 * rebuild._SHORT
    return lines


class Team:
    """A long log, or one that is taken for long, and its ledger."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = write(directory / "usage.jsonl", calls(LINES, NOW - timedelta(hours=LINES)))
        self.index = str(directory / "index")
        self.ledger = SqliteLedger(str(directory / "ledger.db"))

    def ensure(self, tell: Callable[[str], None] = lambda _: None) -> bool:
        return rebuild.ensure(POLICY, self.ledger, self.log, NOW, index=self.index, tell=tell)

    def settled(self) -> list[Amount]:
        windows = windows_of(POLICY, {"timestamp": "2026-11-21T09:00:00Z", "tags": {"agent": "code"}})
        return [standing.settled for standing in self.ledger.standings(windows, basis_of(POLICY, self.log)).values()]

    def agrees(self, lines: int = LINES) -> None:
        assert self.settled() == [Amount(*(lines * part for part in ONE.parts))] * 2
        assert rebuild.check(POLICY, self.ledger, self.log, NOW) == []


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    monkeypatch.setattr(rebuild, "_SHORT", -1)
    return Team(tmp_path)


@pytest.fixture
def read_plainly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The logs that were read line by line."""
    found: list[str] = []

    class Seen(counting.PlainCount):
        def __enter__(self) -> Seen:
            found.append(self._path)
            super().__enter__()
            return self

    monkeypatch.setattr(rebuild, "PlainCount", Seen)
    return found


def test_a_long_log_is_counted_by_its_index_and_that_stays(team: Team, read_plainly: list[str]) -> None:
    assert team.ensure() and not team.ensure()
    assert read_plainly == []
    assert index_steps.unread(team.log, team.index) == 0
    team.agrees()


def test_whoever_counts_says_how_far_it_is(team: Team) -> None:
    heard: list[str] = []
    rebuild.rebuild(POLICY, team.ledger, team.log, NOW, index=team.index, tell=heard.append)
    assert heard == [counting_turn.COUNTING, f"{counting_turn.COUNTING}: 0% of 0 MB"]


def test_calls_that_are_made_while_the_log_is_counted_count_once(
    team: Team, read_plainly: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recount = SqliteLedger.recount

    def busy(self: SqliteLedger, *arguments: Any, **options: Any) -> list[Difference]:
        append_usage(team.log, call(NOW))
        return recount(self, *arguments, **options)

    monkeypatch.setattr(SqliteLedger, "recount", busy)
    assert team.ensure()
    monkeypatch.undo()
    assert read_plainly == []
    team.agrees(LINES + 1)


def test_a_log_that_is_closed_while_it_is_counted_counts_once(
    team: Team, read_plainly: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recount = SqliteLedger.recount
    closed: list[object] = []

    def meanwhile(self: SqliteLedger, *arguments: Any, **options: Any) -> list[Difference]:
        if not closed:
            closed.extend(close_log(team.log, None, NOW, lambda *_: None))
            append_usage(team.log, call(NOW))
        return recount(self, *arguments, **options)

    monkeypatch.setattr(SqliteLedger, "recount", meanwhile)
    assert team.ensure()
    monkeypatch.undo()
    assert closed and read_plainly == []
    team.agrees(LINES + 1)


def test_a_hold_whose_line_is_in_the_index_ends(team: Team, read_plainly: list[str]) -> None:
    """Its process died after the line was written, and the ledger was distrusted since."""
    team.ensure()
    for id in ("01a0c450-6c00-7aa0-81e1-000000000001", "01a0c450-6c00-7aa0-81e1-000000000002"):
        record = {"id": id, "timestamp": "2026-11-21T09:30:00.000Z", "tags": {"agent": "code"}}
        basis = basis_of(POLICY, team.log)
        created = int(NOW.timestamp())
        held = Reservation(
            id,
            windows_of(POLICY, record),
            Amount(5, 5, 1),
            created=created,
            deadline=created + 600,
            owner=owner_here(),
            basis=basis,
            record=json.dumps(record),
        )
        assert team.ledger.reserve(held, [])
    append_usage(team.log, call(NOW, "01a0c450-6c00-7aa0-81e1-000000000001"))
    index_steps.brought_up(team.log, team.index, str(team.directory), little=-1, fresh=False, tell=lambda _: None)
    team.ledger.distrust(basis.log)
    assert team.ensure()
    assert read_plainly == []
    assert [each.call_id for each in team.ledger.open_reservations()] == ["01a0c450-6c00-7aa0-81e1-000000000002"]
    team.agrees(LINES + 1)


def test_without_a_place_for_the_index_the_log_is_read_line_by_line(team: Team, read_plainly: list[str]) -> None:
    Path(team.index).write_text("a file in the way")
    assert team.ensure()
    assert read_plainly == [team.log]
    team.agrees()


def test_without_duckdb_the_log_is_read_line_by_line(
    team: Team, read_plainly: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert team.ensure()
    assert read_plainly == [team.log]
    team.agrees()


def test_a_damaged_index_is_made_anew(team: Team, read_plainly: list[str]) -> None:
    team.ensure()
    for path in Path(team.index).glob("*.parquet"):
        found = path.stat()
        path.write_bytes(b"\0" * found.st_size)
        os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns))
    team.ledger.distrust(basis_of(POLICY, team.log).log)
    assert team.ensure()
    assert read_plainly == []
    team.agrees()


def test_a_short_log_is_counted_without_the_index(tmp_path: Path, read_plainly: list[str]) -> None:
    """And nothing is imported for it."""
    team = Team(tmp_path)
    script = f"""
import json, sys
from callmeter.flows.rebuild import ensure
from callmeter.ledger.sqlite import SqliteLedger
from callmeter.policy.document import parse_policy
from datetime import datetime
policy = parse_policy(b'{{"quotas": [{{"subject": "total", "limit": 1}}]}}', "budget.json")
now = datetime.fromisoformat({NOW.isoformat()!r})
assert ensure(policy, SqliteLedger({team.ledger.path!r}), {team.log!r}, now, index={team.index!r})
print([name for name in sys.modules if "duckdb" in name or "index_" in name])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert not os.path.exists(team.index)


def test_whenever_the_one_who_counts_is_killed_the_next_one_counts_right(team: Team) -> None:
    kills = 0
    for _ in every_kill(team.ensure):
        kills += 1
        team.ensure()
        team.agrees()
        team.ledger.distrust(basis_of(POLICY, team.log).log)
    assert kills > 10


def test_of_several_who_come_at_once_one_counts(team: Team) -> None:
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            status = 2
            try:
                status = int(team.ensure())
            finally:
                os._exit(status)
        children.append(child)
    assert sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children) == [0, 0, 0, 1]
    team.agrees()


def test_a_quota_that_is_set_has_the_index_made_before_it_holds(
    home: Path, run_callmeter: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The person who sets it waits for that, and not every call that comes then."""
    (home / "usage.jsonl").write_bytes(long_log())
    assert run_callmeter("budget", "quota", "set", "agent:code", "10000", "--period", "life").returncode == 0
    assert index_steps.unread(str(home / "usage.jsonl"), str(home / "index")) == 0
    assert not (home / "ledger.db").exists()


def test_a_quota_on_an_hour_leaves_the_months_before_unread(
    home: Path, run_callmeter: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (home / "usage-2026-01.jsonl").write_bytes(long_log())
    (home / "usage.jsonl").write_bytes(call(NOW))
    assert run_callmeter("budget", "quota", "set", "agent:code", "10000", "--period", "hour").returncode == 0
    assert not (home / "index").exists()


class Counting:
    """Another process, which counts until this is closed."""

    def __init__(self, path: str, text: str) -> None:
        ready, begun = os.pipe()
        self._gate, self._end = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os.close(self._end)
            with Turn(path, lambda: False, lambda _: None) as turn:
                turn.tell(text)
                os.write(begun, b"x")
                os.read(self._gate, 1)
            os._exit(0)
        os.close(begun)
        assert os.read(ready, 1) == b"x"
        os.close(ready)

    def close(self) -> None:
        os.close(self._end)
        os.close(self._gate)
        os.waitpid(self.process, 0)


def test_who_waits_hears_how_far_it_is_and_who_gives_up_says_so(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting_turn, "_PATIENCE", 2)
    other = Counting(team.log + ".count", "counting the usage log for the quotas: 42% of 6,786 MB")
    heard: list[str] = []
    try:
        with pytest.raises(Busy) as given_up:
            team.ensure(heard.append)
    finally:
        other.close()
    said = f"process {other.process} is counting the usage log for the quotas: 42% of 6,786 MB"
    assert heard == [said] * 2
    assert given_up.value.message == f"{said}; what is left is not known before that is done"
    assert given_up.value.hint == f"try again, or look at it with `ps -p {other.process}`: it may be stopped"
    assert given_up.value.details == {"retry_after": 30}
    assert team.ensure(), "nobody counts any more"
    team.agrees()


def test_who_waits_goes_on_as_soon_as_the_log_is_counted(team: Team) -> None:
    """Also while the one who counted has not let go yet."""
    other = Counting(team.log + ".count", "counting")
    try:
        with Turn(team.log + ".count", lambda: True, lambda _: None) as turn:
            assert not turn.is_ours
    finally:
        other.close()


def test_a_quota_on_a_log_of_megabytes_goes_through_the_index(
    home: Path, run_callmeter: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (home / "usage.jsonl").write_bytes(long_log())
    (home / "budget.json").write_text('{"quotas": [{"subject": "agent:code", "limit": 10000, "period": "life"}]}')
    left = run_callmeter("budget", "quota", "left", "--agent", "code", "--json")
    assert json.loads(left.stdout)["usd"]["used"] == 384
    assert (home / "index" / "manifest.json").exists()
    with (home / "usage.jsonl").open("ab") as log:
        log.write(call(datetime.now(UTC)))
    again = run_callmeter("budget", "recover", "--rebuild", "--format", "json")
    assert json.loads(again.stdout)["rows"][0]["log_calls"] == 40_001
