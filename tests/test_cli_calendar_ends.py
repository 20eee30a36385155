"""Lines from the first and the last day of the calendar, which a clock or a program that knows no time leaves (Go's
zero time is 0001-01-01T00:00:00Z): in zones where these instants have no local time, reports are made all the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from callmeter.words.period import UNITS, bucket, bucket_label
from conftest import Run
from usage_lines import NOW, call, write

ZERO = datetime.min.replace(tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)
ZONES = ("America/New_York", "Asia/Tokyo")


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("command", [
    "breakdown --by-week", "breakdown --by-hour --by-agent", "status", "report", "forecast", "metrics", "value",
    "anomalies", "log show",
])  # fmt: skip
def test_no_line_stops_a_report(home: Path, run_callmeter: Run, zone: str, command: str) -> None:
    write(home / "usage.jsonl", [call(ZERO, id="zero"), call(NOW), call(LAST, id="last", status="error")])
    (home / "budget.json").write_text(json.dumps({"version": 1, "time_zone": zone}))
    done = run_callmeter("budget", *command.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("unit", UNITS)
def test_the_first_and_the_last_instant_have_a_unit_of_time_with_a_name(zone: str, unit: str) -> None:
    for instant in (ZERO, LAST):
        start, end = bucket(instant, unit, ZoneInfo(zone))
        assert start <= instant < end
        assert bucket_label(start, unit, ZoneInfo(zone))[:4] == f"{instant.year:04}"
