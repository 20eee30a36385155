"""Counting a log for quotas by its usage index gives what reading it line by line gives, whatever is in it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callmeter.flows.counting import Count, PlainCount, Tally
from callmeter.flows.index_counting import IndexCount
from callmeter.ledger.protocol import Amount
from callmeter.policy.document import Policy
from callmeter.policy.quotas import PERIODS, Quota
from callmeter.store import index_log, index_rows, index_steps
from callmeter.store.index_log import IndexDamaged, IndexTrouble, LogMoved
from callmeter.words.subject import Subject
from test_store_index import HOSTILE_TEXTS, IDS, OWN, lines

NOW = datetime(2026, 11, 21, 9, 30, 1, 123000, tzinfo=UTC)
NOWS = [NOW, datetime(2026, 10, 25, 0, 45, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)]
KINDS = ["total", "agent", "session", "purpose", "team", "user", "Agent", "model", "provider", "key", "pool"]
VALUES = ["*", "code", "co*", "*e*", "", '"', "%_*", "😀", "\x00"]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of lines is indexed, and in several steps, as millions are."""
    monkeypatch.setattr(index_log, "_LITTLE", -1)
    monkeypatch.setattr(index_steps, "_STEP", 1500)
    monkeypatch.setattr(index_rows, "_FEW", 2)


@st.composite
def quotas(draw: st.DrawFn) -> Quota:
    kind = draw(st.sampled_from(KINDS))
    value = "" if kind == "total" else draw(st.sampled_from(VALUES))
    pools = draw(st.sampled_from([(), (), ("shared",)]))
    quota = Quota(Subject(kind, value), 1, period=draw(st.sampled_from(PERIODS)), pools=pools)
    if value == "*" and draw(st.booleans()):
        quota.excluded = frozenset(draw(st.sets(st.sampled_from(HOSTILE_TEXTS), max_size=2)))
    return quota


def policy_of(each: Sequence[Quota], zone: str = "UTC") -> Policy:
    policy = Policy()
    policy.quotas = tuple(each)
    policy.time_zone = zone
    return policy


def by_index(policy: Policy, log: Path, now: datetime = NOW, last: int | None = None, *, fresh: bool = False) -> Count:
    directory = str(log.parent / "index")
    return IndexCount(Tally(policy, now, last), str(log), directory, now, fresh=fresh, tell=lambda _: None)


def line_by_line(policy: Policy, log: Path, now: datetime = NOW, last: int | None = None) -> Count:
    return PlainCount(Tally(policy, now, last), str(log))


def open_windows(count: Count, now: datetime = NOW) -> dict[tuple[str, str, int, int], Amount]:
    """What a ledger keeps of the totals."""
    found = {(*window.key, window.end): amount for window, amount in count.finish().items()}
    return {window: amount for window, amount in found.items() if not window[-1] or window[-1] > now.timestamp()}


def own(number: int) -> str:
    return OWN.replace("-ID", f"-{number:012x}")


TOTAL = policy_of([Quota(Subject("total", ""), 1), Quota(Subject("team", "*"), 1, period="life")])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_total_is_that_of_the_lines(data: st.DataObject) -> None:
    draw = data.draw
    now = draw(st.sampled_from(NOWS))
    last = draw(st.sampled_from([None, int(now.timestamp()) + 3600]))
    zone = draw(st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York"]))
    policy = policy_of(draw(st.lists(quotas(), min_size=1, max_size=5)), zone)
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "usage.jsonl"
        for segment in ("usage-2026-03.jsonl.zst", "usage-2026-10.jsonl", "usage-2026-11.jsonl.zst"):
            if draw(st.booleans()):
                written = b"\n".join(draw(st.lists(lines(), max_size=6))) + draw(st.sampled_from([b"\n", b""]))
                packed = segment.endswith(".zst")
                (log.parent / segment).write_bytes(zstandard.compress(written) if packed else written)
        log.write_bytes(b"\n".join(draw(st.lists(lines(), max_size=10))) + draw(st.sampled_from([b"\n", b""])))
        appended = b"\n".join(draw(st.lists(lines(), max_size=5))) + b"\n"
        asked = [*IDS, IDS[3].upper(), "x", "call-7"]
        try:
            with by_index(policy, log, now, last) as count, line_by_line(policy, log, now, last) as plain:
                count.look_up(asked[::2])
                with log.open("ab") as file:
                    file.write(appended)
                assert open_windows(count, now) == open_windows(plain, now)
                assert open_windows(count, now) == open_windows(plain, now), "once more is no harm"
                assert count.tally.ahead == plain.tally.ahead
                assert [count.has(id) for id in asked] == [plain.has(id) for id in asked]
        except IndexTrouble as trouble:
            assert "which of two lines" in str(trouble)


def test_what_is_there_twice_counts_once_and_the_first_in_the_period(tmp_path: Path) -> None:
    """A month's quota does not see the line of the month before, which a quota for ever sees first."""
    log = tmp_path / "usage.jsonl"
    old = own(1).replace("2026-11-21T", "2026-10-21T").replace('"cost":0.5', '"cost":0.25')
    log.write_text("\n".join([old, own(1), own(1), own(2)]) + "\n")
    month = policy_of([Quota(Subject("total", ""), 1)])
    for policy, usd in ((month, 10**9), (policy_of([Quota(Subject("total", ""), 1, period="life")]), 75 * 10**7)):
        with by_index(policy, log) as count, line_by_line(policy, log) as plain:
            assert [each.usd for each in open_windows(count).values()] == [usd]
            assert open_windows(count) == open_windows(plain)


def test_a_line_of_the_calendars_last_day_stops_no_counting(tmp_path: Path) -> None:
    log = tmp_path / "usage.jsonl"
    log.write_text("\n".join([own(1), own(2).replace("2026-11-21T09:30:01.123Z", "9999-12-31T23:59:59.999Z")]) + "\n")
    for zone in ("UTC", "Europe/Berlin", "America/New_York"):
        policy = policy_of([Quota(Subject("total", ""), 1, period=period) for period in PERIODS], zone)
        with by_index(policy, log) as count, line_by_line(policy, log) as plain:
            found = open_windows(count)
            assert found == open_windows(plain)
            assert sum(period == "year" for _, period, _, _ in found) == 2


def test_a_log_that_is_closed_meanwhile_is_counted_again(tmp_path: Path) -> None:
    log = tmp_path / "usage.jsonl"
    log.write_text(own(1) + "\n")
    with by_index(TOTAL, log) as count:
        log.rename(tmp_path / "usage-2026-11.jsonl")
        log.write_text(own(2) + "\n")
        with pytest.raises(LogMoved):
            count.finish()


def test_a_damaged_index_says_so_and_is_made_anew(tmp_path: Path) -> None:
    log = tmp_path / "usage.jsonl"
    log.write_text("".join(own(number) + "\n" for number in range(9)))
    with by_index(TOTAL, log) as count:
        whole = open_windows(count)
    damage(tmp_path / "index")
    with pytest.raises(IndexDamaged), by_index(TOTAL, log):
        pass
    with by_index(TOTAL, log, fresh=True) as count:
        assert open_windows(count) == whole


def damage(index: Path) -> None:
    """Files of the same size and time, with something else in them."""
    import os

    for path in index.glob("*.parquet"):
        found = path.stat()
        path.write_bytes(b"\0" * found.st_size)
        os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns))


def test_an_index_that_cannot_be_made_is_trouble(tmp_path: Path) -> None:
    log = tmp_path / "usage.jsonl"
    log.write_text(own(1) + "\n")
    (tmp_path / "index").write_text("a file in the way")
    with pytest.raises(IndexTrouble), by_index(TOTAL, log):
        pass


def test_a_build_that_is_killed_leaves_its_steps_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_steps, "_STEP", 400)
    log = tmp_path / "usage.jsonl"
    log.write_text("".join(own(number) + "\n" for number in range(40)))
    steps: list[str] = []

    def told(text: str) -> None:
        steps.append(text)
        if len(steps) == 5:
            raise KeyboardInterrupt

    tally = Tally(TOTAL, NOW, None)
    with (
        pytest.raises(KeyboardInterrupt),
        IndexCount(tally, str(log), str(tmp_path / "index"), NOW, fresh=False, tell=told),
    ):
        pass
    steps.clear()
    with IndexCount(
        Tally(TOTAL, NOW, None), str(log), str(tmp_path / "index"), NOW, fresh=False, tell=steps.append
    ) as count:
        assert [each.calls for each in open_windows(count).values()] == [40, 40]
    assert len(steps) == 40 - 4, "each takes a line; the first four were done"
    assert steps[0] == "0% of 0 MB"
    assert index_steps.unread(str(log), str(tmp_path / "index")) == 0


def test_only_new_lines_are_read_when_the_index_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_log, "_LITTLE", 1 << 20)
    log = tmp_path / "usage.jsonl"
    log.write_text("".join(own(number) + "\n" for number in range(9)))
    index_steps.brought_up(
        str(log), str(tmp_path / "index"), str(tmp_path), little=-1, fresh=False, tell=lambda _: None
    )
    before = (tmp_path / "index" / "manifest.json").read_bytes()
    with log.open("a") as file:
        file.write(own(100) + "\n" + own(3) + "\n")
    with by_index(TOTAL, log) as count:
        assert [each.calls for each in open_windows(count).values()] == [10, 10]
        assert count.has(IDS[0].rsplit("-", 1)[0] + f"-{100:012x}")
    assert (tmp_path / "index" / "manifest.json").read_bytes() == before
