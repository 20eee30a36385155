"""`budget breakdown` with --compare, --percentiles, --cumulative and --chart, over a log on disk."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from log_text import at, log_lines

NOW = "2026-11-21T15:04Z"
LOG = """
2026-11-17T09:00Z agent=code   purpose=triage cost=3    ms=100
2026-11-18T09:00Z agent=code   purpose=review cost=1    ms=300
2026-11-18T09:00Z agent==cmd   purpose=review cost=0.5  ms=300
2026-11-10T09:00Z agent=code   purpose=triage cost=2    ms=100
2026-11-14T15:05Z agent=code   purpose=triage cost=50   ms=100
2026-11-10T09:00Z agent=docs   purpose=triage cost=1    ms=100
2026-10-10T09:00Z agent=docs   purpose=triage cost=16   ms=100
"""
Call = Callable[..., Result]


@pytest.fixture
def call(home: Path) -> Call:
    """Run the command on LOG, at NOW."""
    (home / "usage.jsonl").write_bytes(log_lines(LOG))

    def invoke(*arguments: str) -> Result:
        world = World(clock=lambda: at(NOW).timestamp())
        return CliRunner().invoke(app, ["budget", "breakdown", *arguments], obj=world)

    return invoke


def page(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout, parse_float=Decimal))


def test_compared_with_last_week_means_this_week_and_as_much_of_last(call: Call) -> None:
    found = page(call("--compare", "last-week", "--format", "json"))
    keys = ("agent", "cost", "cost_before", "difference", "change", "calls", "calls_before", "news")
    assert [tuple(row[key] for key in keys) for row in found["rows"]] == [
        ("code", 4, 2, 2, 1, 2, 1, None),
        ("=cmd", Decimal("0.5"), 0, Decimal("0.5"), None, 1, 0, "new"),
        ("docs", 0, 1, -1, -1, 0, 1, "gone"),
    ]
    assert found["period"]["label"].startswith("this week")
    assert found["facts"]["compared"]["start"] == "2026-11-09T00:00:00.000Z"
    assert found["total"]["difference"] == Decimal("1.5")


def test_a_reader_sees_what_was_before_in_money_and_per_cent(call: Call) -> None:
    lines = call("--compare", "last-week").stdout.splitlines()
    assert lines[3].split()[:5] == ["agent", "cost", "before", "difference", "change"]
    assert lines[4].split()[:5] == ["code", "$4.00", "$2.00", "+$2.00", "+100%"]
    assert "new" in lines[5] and "gone" in lines[6]
    assert lines[8].split()[:5] == ["total", "$4.50", "$3.00", "+$1.50", "+50%"]
    assert lines[-1] == "Compared with 2026-11-09 until 2026-11-14 15:04."


@pytest.mark.parametrize(
    ("options", "before"),
    [
        ("--this-month --compare previous", 16),
        ("--compare last-month", 16),
        ("--last 7d --compare previous", 3),
        ("--compare 2026-10-01..2026-11-11 --this-week", 19),
    ],
)
def test_other_periods_can_be_compared_with(options: str, before: int, call: Call) -> None:
    assert page(call(*options.split(), "--format", "json"))["total"]["cost_before"] == before


@pytest.mark.parametrize(
    "options",
    [
        "--compare last-week --by-week --by-day",
        "--compare last-week --by-day --cumulative",
        "--compare yesterday",
        "--compare previous",
        "--compare 2026-11-08..2026-11-01 --today",
        "--sort change",
        "--cumulative",
        "--cumulative --by-agent --by-day",
        "--cumulative --by-day --top 3",
        "--cumulative --by-day --sort cost",
    ],
)
def test_what_contradicts_itself_is_refused_in_one_sentence_with_a_hint(options: str, call: Call) -> None:
    result = call(*options.split())
    assert (result.exit_code, result.stdout) == (2, "")
    error, hint = result.stderr.splitlines()
    assert error.startswith("callmeter: error: --") and hint.startswith("callmeter: hint: ")


def against(result: Result, unit: str = "day") -> list[tuple[object, ...]]:
    return [(row[unit], row[f"{unit}_before"], row["cost"], row["cost_before"]) for row in page(result)["rows"]]


def test_each_day_stands_against_the_same_day_of_the_other_week(call: Call) -> None:
    result = call("--compare", "last-week", "--by-day", "--format", "json")
    assert against(result) == [
        ("2026-11-16", "2026-11-09", 0, 0),
        ("2026-11-17", "2026-11-10", 3, 3),
        ("2026-11-18", "2026-11-11", Decimal("1.5"), 0),
        ("2026-11-19", "2026-11-12", 0, 0),
        ("2026-11-20", "2026-11-13", 0, 0),
        # As much of that day as is over of this one.
        ("2026-11-21", "2026-11-14", 0, 0),
    ]
    found = page(result)
    assert found["total"]["cost_before"] == sum(row["cost_before"] for row in found["rows"])
    assert {row["news"] for row in found["rows"]} == {None}
    text = call("--compare", "last-week", "--by-day").stdout
    assert "Compared with 2026-11-09 until 2026-11-14 15:04, day by day from the first on." in text


def test_days_without_a_counterpart_are_one_row_and_lose_nothing(call: Call) -> None:
    options = "--since 2026-11-17 --until 2026-11-19 --by-day --format json --compare"
    result = call(*options.split(), "2026-11-09..2026-11-15")
    assert against(result) == [
        ("2026-11-17", "2026-11-09", 3, 0),
        ("2026-11-18", "2026-11-10", Decimal("1.5"), 3),
        ("(none)", "2026-11-11 to 2026-11-14", 0, 50),
    ]
    shorter = call(*options.split(), "2026-11-10..2026-11-11")
    assert against(shorter) == [("2026-11-17", "2026-11-10", 3, 3), ("2026-11-18", None, Decimal("1.5"), 0)]


def test_days_before_the_log_begins_are_unknown_and_not_zero(call: Call, home: Path) -> None:
    def days(since: str, until: str) -> dict[str, Any]:
        period = ("--since", since, "--until", until, "--compare", "previous")
        return page(call("--by-day", *period, "--format", "json"))

    found = days("2026-10-10", "2026-10-12")
    keys = ("day", "cost", "day_before", "cost_before", "difference", "change", "calls_before", "news")
    assert [tuple(row[key] for key in keys) for row in found["rows"]] == [
        ("2026-10-10", 16, "2026-10-08", None, None, None, None, None),
        ("2026-10-11", 0, "2026-10-09", None, None, None, None, None),
    ]
    assert found["total"]["cost_before"] is None
    assert "The log begins on 2026-10-10: what was before it is unknown, not 0." in found["notes"]
    (home / "usage.jsonl").write_bytes(log_lines(LOG + "2026-10-12T09:00Z agent=code cost=1"))
    found = days("2026-10-11", "2026-10-13")
    assert [row["cost_before"] for row in found["rows"]] == [None, 16]
    assert found["total"]["cost_before"] == 16


def test_a_time_before_the_log_makes_no_agent_new(call: Call) -> None:
    found = page(call("--month", "2026-10", "--compare", "last-month", "--format", "json"))
    (row,) = found["rows"]
    assert (row["cost_before"], row["difference"], row["calls_before"], row["news"]) == (None, None, None, None)
    assert "2026-10-10" in found["notes"][-1]
    # A month of which the log has a part is compared with that part, and the note says so.
    found = page(call("--month", "2026-11", "--compare", "last-month", "--format", "json"))
    assert found["total"]["cost_before"] == 16
    assert "The log begins on 2026-10-10: what was before it is unknown, not 0." in found["notes"]


def test_the_rest_of_the_days_keeps_what_was_before(call: Call) -> None:
    found = page(call("--by-agent", "--by-day", "--top", "1", "--compare", "last-week", "--format", "json"))
    rest = [row for row in found["rows"] if row["row"] == "rest"]
    assert [(row["agent"], row["day"], row["cost_before"]) for row in rest] == [
        ("code", "other (1)", 0),
        ("other (2)", None, 1),
    ]


def test_agents_by_day_and_days_by_agent_are_compared_in_their_places(call: Call) -> None:
    rows = page(call("--compare", "last-week", "--by-agent", "--by-day", "--format", "json"))["rows"]
    code = [(row["day"], row["cost"], row["cost_before"]) for row in rows if row["agent"] == "code" and row["day"]]
    assert code == [("2026-11-17", 3, 2), ("2026-11-18", 1, 0)]
    assert [row["news"] for row in rows if not row["day"]] == [None, "new", "gone"]
    rows = page(call("--compare", "last-week", "--by-day", "--by-agent", "--format", "json"))["rows"]
    tuesday = [(row["agent"], row["cost"], row["cost_before"]) for row in rows if row["day"] == "2026-11-17"]
    assert tuesday == [(None, 3, 3), ("code", 3, 2), ("docs", 0, 1)]


def test_the_dearest_days_and_the_rest_are_compared_too(call: Call) -> None:
    found = page(call("--compare", "last-week", "--by-day", "--top", "1", "--format", "json"))
    assert [(row["day"], row["cost"], row["cost_before"]) for row in found["rows"]] == [
        ("2026-11-17", 3, 3),
        ("other (1)", Decimal("1.5"), 0),
    ]


def test_hours_stand_against_the_same_hour_though_the_clock_was_changed(call: Call, home: Path) -> None:
    (home / "budget.json").write_text('{"time_zone": "Europe/Berlin"}')
    (home / "usage.jsonl").write_bytes(
        log_lines(
            """
            2026-10-25T00:30Z agent=a cost=1
            2026-10-25T01:30Z agent=a cost=2
            2026-10-25T12:00Z agent=a cost=4
            2026-10-24T00:30Z agent=a cost=8
            2026-10-24T11:00Z agent=a cost=16
            """
        )
    )
    options = "--since 2026-10-25 --until 2026-10-26 --compare 2026-10-24..2026-10-25 --by-hour --format json"
    found = {row["hour"]: row for row in page(call(*options.split()))["rows"]}
    first, second = found["2026-10-25 02:00+02:00"], found["2026-10-25 02:00+01:00"]
    assert (first["hour_before"], first["cost"], first["cost_before"]) == ("2026-10-24 02:00", 1, 8)
    assert (second["hour_before"], second["cost"], second["cost_before"]) == (None, 2, 0)
    assert found["2026-10-25 13:00"]["cost_before"] == 16


def test_too_many_hours_are_refused(call: Call) -> None:
    result = call("--since", "2020-01-01", "--until", "2026-01-01", "--compare", "previous", "--by-hour")
    assert result.exit_code == 2
    assert "cannot be compared hour by hour" in result.stderr


def test_percentiles_come_from_the_index_as_from_the_lines(call: Call) -> None:
    (row,) = page(call("--percentiles", "--where", "agent=code", "--format", "json"))["rows"]
    assert [row[f"cost_p{rank}"] for rank in (50, 90, 95, 99)] == [2, 50, 50, 50]
    assert [row[f"latency_p{rank}_ms"] for rank in (50, 90, 95, 99)] == [100, 300, 300, 300]


def test_running_totals_are_shown_beside_the_months_quota(call: Call, home: Path) -> None:
    (home / "budget.json").write_text('{"quotas": [{"subject": "total", "limit": 100}]}')
    result = call("--by-day", "--this-month", "--cumulative", "--format", "json")
    found = page(result)
    assert [(row["day"], row["cost"], row["cumulative"], row["quota_share"]) for row in found["rows"][-3:]] == [
        ("2026-11-19", 0, Decimal("57.5"), Decimal("0.575")),
        ("2026-11-20", 0, Decimal("57.5"), Decimal("0.575")),
        ("2026-11-21", 0, Decimal("57.5"), Decimal("0.575")),
    ]
    assert len(found["rows"]) == 21
    assert found["facts"]["quota"] == {"subject": "total", "limit": 100}
    assert (
        "The bars are shares of the quota on total per month, $100.00."
        in call("--by-day", "--this-month", "--cumulative").stdout
    )


def test_a_running_total_begins_with_the_first_cost_that_is_known(call: Call, home: Path) -> None:
    (home / "usage.jsonl").write_bytes(
        log_lines("2026-11-18T09:00Z agent=a\n2026-11-19T09:00Z agent=a cost=2\n2026-11-20T09:00Z agent=a")
    )
    rows = page(call("--by-day", "--this-month", "--cumulative", "--format", "json"))["rows"]
    assert [(row["cost"], row["cumulative"]) for row in rows] == [(None, None), (2, 2), (None, 2), (0, 2)]


def test_a_chart_is_for_people_and_changes_no_other_format(call: Call) -> None:
    text = call("--this-week", "--chart").stdout
    assert "by day" in text and "·█▃" in text
    for shape in ("json", "jsonl", "csv", "tsv", "markdown"):
        assert call("--this-week", "--chart", "--format", shape).stdout == call("--this-week", "--format", shape).stdout


def test_cells_of_a_comparison_become_no_formulas(call: Call) -> None:
    rows = list(csv.DictReader(io.StringIO(call("--compare", "last-week", "--format", "csv").stdout)))
    assert [row["agent"] for row in rows] == ["code", "'=cmd", "docs", ""]
    assert [row["difference"] for row in rows] == ["2", "0.5", "-1", "1.5"]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
@pytest.mark.parametrize(
    "options",
    ["", "--compare last-week", "--percentiles --chart", "--by-day --this-month --cumulative", "--chart --top 1"],
)
def test_tables_fit_narrow_terminals(options: str, width: int, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    result = call(*options.split())
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= width


def test_a_chart_that_was_asked_for_outlives_percentiles(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    result = call("--chart", "--percentiles", "--compare", "last-week")
    header = next(line for line in result.stdout.splitlines() if line.startswith("agent"))
    assert header.split()[-2:] == ["by", "day"]
