"""`budget forecast` on logs that lost something: lost days are missing, quiet ones are zero."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.reports.forecast_grades import Said
from callmeter.store.forecasts import keep_forecasts
from callmeter.words.money import NANO
from usage_lines import call

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)  # a Saturday
NOON = NOW.replace(hour=12, minute=0)


class Desk:
    """A home with a log."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "usage.jsonl"

    def run(self, *arguments: str) -> Result:
        world = World(env={"CALLMETER_HOME": str(self.home), "COLUMNS": "300"}, clock=lambda: NOW.timestamp())
        return CliRunner().invoke(app, ["budget", *arguments], obj=world)

    def facts(self, *arguments: str) -> Any:
        result = self.run("forecast", *arguments, "--format", "json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout, parse_float=Decimal)["facts"]

    def spend(self, calls: int, days: Sequence[int] = range(60, 0, -1)) -> None:
        """So many calls of a dollar on each of the days that were so long ago."""
        times = [NOON - timedelta(ago) + timedelta(minutes=n) for ago in days for n in range(calls)]
        with self.log.open("ab") as log:
            log.write(b"".join(call(time, tags={"agent": "code"}, cost=Decimal(1)) for time in times))

    def close(self, *arguments: str) -> None:
        result = self.run("log", "close", *arguments)
        assert result.exit_code == 0, result.output

    def garble(self, since: str, until: str) -> None:
        """Make lines of some days unreadable."""
        lines = self.log.read_bytes().splitlines(keepends=True)
        hit = [line.startswith(b"{") and since <= json.loads(line)["timestamp"] < until for line in lines]
        self.log.write_bytes(b"".join(b"#" * 80 + b"\n" if bad else line for bad, line in zip(hit, lines, strict=True)))


@pytest.fixture
def desk(home: Path) -> Desk:
    return Desk(home)


def test_the_days_of_a_segment_that_is_gone_are_missing(desk: Desk) -> None:
    desk.spend(2)
    desk.close("--before", "2026-11-06")
    whole = desk.facts()["basis"]
    (desk.home / "usage-2026-11.jsonl.zst").unlink()
    assert whole == {
        "days": 60,
        "days_with_spend": 60,
        "from": "2026-09-22",
        "until": "2026-11-20",
        "days_lost": 0,
    }
    assert desk.facts()["basis"] == whole | {"days": 55, "days_with_spend": 55, "days_lost": 5}
    text = desk.run("forecast").stdout
    assert (
        "Missing, not zero: 5 days, 2026-11-01 to 2026-11-05: usage-2026-11.jsonl.zst is gone (10 lines, $10.00).\n"
        in text
    )
    assert "Next week, 2026-11-23 to 2026-11-29: about $14.00" in text


def test_quality_counts_the_days_that_are_known(desk: Desk) -> None:
    desk.spend(1, range(20, 0, -1))
    desk.close("--before", "2026-11-10")
    assert desk.facts()["quality"] == "ok"
    (desk.home / "usage-2026-11.jsonl.zst").unlink()
    # A call that is left makes the log begin before that.
    desk.spend(1, [21])
    assert (desk.facts()["quality"], desk.facts()["basis"]["days"]) == ("short", 12)


def test_a_quiet_time_is_zero_though_segments_were_closed(desk: Desk) -> None:
    desk.spend(1, [*range(60, 40, -1), *range(20, 0, -1)])
    desk.close()
    basis = desk.facts()["basis"]
    assert (basis["days"], basis["days_with_spend"], basis["days_lost"]) == (60, 40, 0)


def test_what_was_pruned_before_the_log_begins_is_not_missing(desk: Desk) -> None:
    desk.spend(1, range(100, 0, -1))
    desk.close()
    pruned = desk.run("log", "prune", "--keep", "60d", "--force")
    assert pruned.exit_code == 0, pruned.output
    assert not (desk.home / "usage-2026-08.jsonl.zst").exists()
    assert desk.facts()["basis"]["days_lost"] == 0
    assert "Missing" not in desk.run("forecast").stdout


def test_a_segment_with_a_few_late_lines_takes_no_days_with_it(desk: Desk) -> None:
    desk.spend(3)
    desk.close()
    desk.spend(1, [50, 30])
    desk.close()
    (desk.home / "usage-2026-10.2.jsonl.zst").unlink()
    assert desk.facts()["basis"]["days_lost"] == 0


def test_a_name_that_was_used_again_hides_no_loss(desk: Desk) -> None:
    desk.spend(3)
    desk.close()
    (desk.home / "usage-2026-10.jsonl.zst").unlink()
    desk.spend(1, [50])
    desk.close()
    assert (desk.home / "usage-2026-10.jsonl.zst").exists()
    assert desk.facts()["basis"]["days_lost"] == 31


def test_a_segment_under_another_name_is_not_lost(desk: Desk) -> None:
    desk.spend(1)
    desk.close()
    segment = desk.home / "usage-2026-10.jsonl.zst"
    segment.rename(desk.home / "usage-2026-10.7.jsonl.zst")
    assert desk.facts()["basis"]["days_lost"] == 0


def test_behind_the_break_of_a_segment_days_are_missing(desk: Desk) -> None:
    desk.spend(200)
    desk.close()
    segment = desk.home / "usage-2026-10.jsonl.zst"
    segment.write_bytes(segment.read_bytes()[: segment.stat().st_size * 2 // 3])
    basis = desk.facts()["basis"]
    assert 5 <= basis["days_lost"] <= 16
    assert basis["days"] == 60 - basis["days_lost"]
    assert "to 2026-10-31: usage-2026-10.jsonl.zst is damaged (" in desk.run("forecast").stdout


def test_days_whose_lines_are_unreadable_are_missing(desk: Desk) -> None:
    desk.spend(5)
    desk.garble("2026-11-05", "2026-11-09")
    basis = desk.facts()["basis"]
    assert (basis["days"], basis["days_lost"]) == (56, 4)
    text = desk.run("forecast").stdout
    assert "Missing, not zero: 4 days, 2026-11-05 to 2026-11-08: usage.jsonl is damaged (20 lines).\n" in text


def test_a_few_bad_lines_in_a_sparse_log_are_no_lost_days(desk: Desk) -> None:
    desk.spend(1, range(60, 0, -3))
    desk.garble("2026-10-10", "2026-10-20")
    basis = desk.facts()["basis"]
    assert (basis["days"], basis["days_lost"]) == (60, 0)


def test_a_day_with_nothing_but_one_bad_line_is_missing(desk: Desk) -> None:
    desk.spend(1)
    desk.garble("2026-11-10", "2026-11-11")
    basis = desk.facts()["basis"]
    assert (basis["days"], basis["days_lost"]) == (59, 1)
    text = desk.run("forecast").stdout
    assert "Missing, not zero: 1 day, 2026-11-10: usage.jsonl is damaged (1 line).\n" in text


@pytest.mark.parametrize("before", [True, False])
def test_a_correction_beside_unreadable_lines_says_nothing_of_their_time(desk: Desk, before: bool) -> None:
    desk.spend(5)
    desk.garble("2026-11-10", "2026-11-12")
    lines = desk.log.read_bytes().splitlines(keepends=True)
    bad = [number for number, line in enumerate(lines) if line.startswith(b"#")]
    # Of a call of eight days before.
    old = call(NOON - timedelta(19), cost=Decimal("0.1"), corrects="a call", cost_source="reconciled")
    lines.insert(bad[0] if before else bad[-1] + 1, old)
    desk.log.write_bytes(b"".join(lines))
    assert desk.facts()["basis"]["days_lost"] == 2
    assert "Missing, not zero: 2 days, 2026-11-10 to 2026-11-11: usage.jsonl is damaged" in desk.run("forecast").stdout


def test_a_day_that_lost_one_line_of_many_is_known(desk: Desk) -> None:
    desk.spend(40)
    desk.garble("2026-11-10T12:39", "2026-11-10T12:40")
    desk.garble("2026-11-12T12:00", "2026-11-12T12:01")
    basis = desk.facts()["basis"]
    assert (basis["days"], basis["days_lost"]) == (60, 0)


def test_a_quiet_day_beside_one_that_lost_a_line_stays_zero(desk: Desk) -> None:
    desk.spend(9, [*range(60, 12, -1), *range(11, 0, -1)])
    desk.garble("2026-11-08T12:08", "2026-11-08T12:09")
    basis = desk.facts()["basis"]
    # Nobody knows on which side of midnight the line lay, but a day has more of them.
    assert (basis["days"], basis["days_lost"]) == (60, 0)


def test_a_block_of_nul_bytes_stands_for_as_many_lines_as_had_room_in_it(desk: Desk) -> None:
    desk.spend(12)
    lines = desk.log.read_bytes().splitlines(keepends=True)
    gone = [line for line in lines if b'"2026-11-10' in line or b'"2026-11-11' in line]
    first = lines.index(gone[0])
    desk.log.write_bytes(
        b"".join(lines[:first]) + bytes(sum(map(len, gone))) + b"\n" + b"".join(lines[first + len(gone) :])
    )
    basis = desk.facts()["basis"]
    assert (basis["days"], basis["days_lost"]) == (58, 2)


def test_bad_lines_at_a_logs_end_leave_the_days_up_to_now_unknown(desk: Desk) -> None:
    desk.spend(5)
    desk.garble("2026-11-19", "2026-11-21")
    basis = desk.facts()["basis"]
    assert (basis["days"], basis["days_lost"]) == (58, 2)


def test_a_damaged_segment_without_an_audit_log_has_days_missing_up_to_the_next_call(desk: Desk) -> None:
    desk.spend(200)
    desk.close()
    elsewhere = desk.home.parent / "hosts" / "b"
    elsewhere.mkdir(parents=True)
    for file in desk.home.glob("usage*.jsonl*"):
        if not file.name.endswith(".lock"):
            file.rename(elsewhere / file.name)
    segment = elsewhere / "usage-2026-10.jsonl.zst"
    segment.write_bytes(segment.read_bytes()[: segment.stat().st_size * 2 // 3])
    glob = str(elsewhere / "usage*.jsonl*")
    basis = desk.facts("--log", glob)["basis"]
    assert 5 <= basis["days_lost"] <= 16
    assert basis["days"] == 60 - basis["days_lost"]
    assert "to 2026-10-31: usage-2026-10.jsonl.zst is damaged.\n" in desk.run("forecast", "--log", glob).stdout


def test_another_hosts_log_is_judged_by_the_audit_log_beside_it(desk: Desk) -> None:
    desk.spend(4)
    desk.close()
    elsewhere = desk.home.parent / "hosts" / "b"
    elsewhere.mkdir(parents=True)
    for file in ("usage.jsonl", "usage-2026-09.jsonl.zst", "audit.jsonl"):
        (desk.home / file).rename(elsewhere / file)
    found = desk.facts("--log", str(desk.home.parent / "hosts" / "*" / "usage*.jsonl*"))
    assert found["basis"]["days_lost"] == 31


@pytest.mark.parametrize(
    "line",
    [
        b'{"event":"log.close"}',
        b'{"event":"log.close","log":"usage.jsonl","segments":[1,{},{"name":"../x","lines":1}]}',
        b'{"event":"log.prune","log":7,"segment":{"name":"usage-2026-10.jsonl.zst","lines":9,"first":"","last":"x"}}',
        b'{"event":"log.close","log":"usage.jsonl","segments":[{"name":["x"],"lines":1},{"name":{},"sha256":[]}]}',
        b'{"event":"log.prune","log":"usage.jsonl","segment":{"name":"usage-9999-12.jsonl.zst","lines":9,'
        b'"first":"9999-12-31T00:00:00Z","last":"9999-12-31T23:59:59.999Z"}}',
        b'{"event":"log.prune","log":"usage.jsonl","segment":{"name":"usage-2026-12.jsonl.zst","lines":9,'
        b'"first":"2026-12-31T00:00:00Z","last":"2026-11-01T00:00:00Z"}}',
        b"#" * 70_000,
    ],
)
def test_an_audit_log_that_says_nothing_tells_of_no_loss(desk: Desk, line: bytes) -> None:
    desk.spend(1)
    head = line[:1] + b'"seq":1,"prev":"","at":"x","by":"y",' + line[1:] if line.startswith(b"{") else line
    (desk.home / "audit.jsonl").write_bytes(head + b"\n")
    assert desk.facts()["basis"]["days_lost"] == 0


def test_a_host_that_fell_silent_is_named_and_its_days_stay_zero(desk: Desk) -> None:
    def host(name: str, days: Sequence[int]) -> bytes:
        return b"".join(call(NOON - timedelta(ago), host=name, cost=Decimal(1)) for ago in days)

    desk.log.write_bytes(host("a", range(30, 0, -1)) + host("b", range(30, 8, -1)) + host("seldom", range(30, 8, -4)))
    text = desk.run("forecast").stdout
    assert (
        "No calls from b since 2026-11-12, after calls day by day: if its log ends there by mistake, the forecast is "
        "too low.\n" in text
    )
    assert desk.facts()["basis"]["days_lost"] == 0
    desk.log.write_bytes(host("b", range(30, 8, -1)))
    assert "No calls from" not in desk.run("forecast").stdout


def test_a_segment_that_reached_into_the_year_9999_is_missing_up_to_now(desk: Desk) -> None:
    desk.spend(1)
    event = {
        "seq": 1,
        "prev": "",
        "event": "log.close",
        "log": "usage.jsonl",
        "segments": [
            {
                "name": "usage-2026-11.jsonl.zst",
                "lines": 900,
                "first": "2026-11-19T00:00:00Z",
                "last": "9999-12-31T23:59Z",
            }
        ],
    }
    (desk.home / "audit.jsonl").write_text(json.dumps(event) + "\n")
    assert desk.facts()["basis"]["days_lost"] == 2


# Grades


def test_a_forecast_for_days_that_were_lost_is_not_graded(desk: Desk) -> None:
    desk.spend(2)
    first = NOW.date() - timedelta(19)
    said = Said("x", "next_week", first, first + timedelta(6), NANO, NANO, (NANO, NANO), (NANO, NANO))
    keep_forecasts(str(desk.home / "forecasts.jsonl"), [said], NOW.date())
    desk.close("--before", "2026-11-06")
    assert "we said $1.00" in desk.run("forecast").stdout
    (desk.home / "usage-2026-11.jsonl.zst").unlink()
    assert "we said" not in desk.run("forecast").stdout


def test_a_backtest_leaves_out_what_was_lost(desk: Desk) -> None:
    desk.spend(2)
    desk.close()
    result = desk.run("forecast", "--backtest", "--format", "json")
    (desk.home / "usage-2026-10.jsonl.zst").unlink()
    after = desk.run("forecast", "--backtest", "--format", "json")
    weeks = [json.loads(each.stdout)["rows"][0]["forecasts"] for each in (result, after)]
    # Of six weeks four lie in October, or reach into it.
    assert weeks == [6, 2]


def test_the_review_says_it_too(desk: Desk) -> None:
    desk.spend(2)
    desk.close()
    (desk.home / "usage-2026-10.jsonl.zst").unlink()
    assert "Missing, not zero: 31 days, 2026-10-01 to 2026-10-31" in desk.run("report", "--weekly").stdout
