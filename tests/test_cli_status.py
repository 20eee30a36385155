"""`callmeter budget status` over a log on disk."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from log_text import at, log_lines

NOW = "2026-11-21T15:04Z"
LOG = """
2026-11-21T14:26Z agent=code   cost=1.25 ms=100
2026-11-21T14:27Z agent=code   cost=0    status=error error=rate_limit_exceeded model=anthropic/claude-3.5-sonnet
2026-11-20T09:00Z agent=triage cost=2    ms=100
2026-11-17T09:00Z agent=local
2026-11-03T09:00Z agent=docs   cost=4    ms=100
"""
Call = Callable[..., Result]


@pytest.fixture
def call(home: Path) -> Call:
    """Run the command on LOG, at NOW."""
    (home / "usage.jsonl").write_bytes(log_lines(LOG))

    def invoke(*arguments: str, columns: int = 100) -> Result:
        world = World(env={"CALLMETER_HOME": str(home), "COLUMNS": str(columns)}, clock=lambda: at(NOW).timestamp())
        return CliRunner().invoke(app, ["budget", "status", *arguments], obj=world)

    return invoke


def test_the_page_answers_how_much_who_how_fast_and_what_failed(call: Call) -> None:
    result = call()
    assert result.exit_code == 0
    assert result.stderr == ""
    assert (
        result.stdout
        == """\
Where we stand, 2026-11-21 15:04 (UTC)

Spend
period       cost  unknown  calls  errors  before  change
today       $1.25               2       1   $2.00    -38%
this week   $3.25        1      4       1
this month  $7.25        1      5       1

By agent
agent   today  this week  this month  unknown   share                        calls
docs    $0.00      $0.00       $4.00            55.2%  ████████████████████      1
triage  $0.00      $2.00       $2.00            27.6%  ██████████                1
code    $1.25      $1.25       $1.25            17.2%  ██████▏                   2
local   $0.00    unknown     unknown        1                                    1
──────────────────────────────────────────────────────────────────────────────────
total   $1.25      $3.25       $7.25        1  100.0%                            5

Burn rate
basis                 spent  comes to  per
last 24 hours         $1.25     $0.05  hour
last 7 complete days  $2.00     $0.29  day
this month so far     $7.25    $10.54  month
The month's figure is a straight line: 20.6 of 30 days are over.

Last errors
time                  agent  model                        status  error
2026-11-21 14:27:00Z  code   anthropic/claude-3.5-sonnet  error   rate_limit_exceeded

This month the cost of 1 call is unknown and in no sum.
"""
    )


@pytest.mark.parametrize("columns", [60, 80])
def test_it_reads_well_on_a_narrow_terminal(columns: int, call: Call) -> None:
    lines = call(columns=columns).stdout.splitlines()
    assert max(map(cell_len, lines)) <= columns
    for heading in ("Spend", "By agent", "Burn rate", "Last errors"):
        assert heading in lines
    assert any("rate_limit_exceeded" in line for line in lines)


def test_json_is_one_object_with_a_section_each(call: Call) -> None:
    found = json.loads(call("--format", "json").stdout, parse_float=Decimal)
    assert list(found["sections"]) == ["spend", "agents", "rate", "errors"]
    assert [row["cost"] for row in found["sections"]["spend"]["rows"]] == [
        Decimal("1.25"),
        Decimal("3.25"),
        Decimal("7.25"),
    ]
    assert found["facts"] == {
        "now": "2026-11-21T15:04:00.000Z",
        "zone": "UTC",
        "unknown_calls": 1,
        "recovered_calls": 0,
        "refused_calls": 0,
        "log": {"bad_lines": 0, "duplicates": 0},
    }


def test_the_other_shapes_are_one_table_with_a_section_column(call: Call) -> None:
    rows = list(csv.DictReader(io.StringIO(call("--format", "csv").stdout, newline="")))
    assert {row["section"] for row in rows} == {"spend", "agents", "rate", "errors"}
    lines = [json.loads(line) for line in call("--format", "jsonl").stdout.splitlines()]
    assert [line["section"] for line in lines] == [row["section"] for row in rows]
    assert call("--format", "tsv").stdout.count("\n") == len(rows) + 1
    assert call("--format", "markdown").stdout.startswith("## Where we stand, 2026-11-21 15:04 (UTC)\n\n### Spend\n")


def test_as_of_and_the_policys_zone_move_the_page(call: Call, home: Path) -> None:
    (home / "budget.json").write_text('{"time_zone": "Asia/Tokyo"}')
    found = json.loads(call("--as-of", "2026-11-20", "--format", "json").stdout)
    assert found["title"] == "Where we stand, 2026-11-20 23:59 (Asia/Tokyo)"
    assert found["sections"]["spend"]["rows"][0]["cost"] == 2


def test_a_broken_policy_is_no_policy_without_rules(call: Call, home: Path) -> None:
    (home / "budget.json").write_text('{"time_zone": "Mars"}')
    assert call().exit_code == 5


def test_an_empty_log_says_so(home: Path) -> None:
    world = World(clock=lambda: at(NOW).timestamp())
    result = CliRunner().invoke(app, ["budget", "status", "-v"], obj=world)
    assert result.exit_code == 0
    assert "$0.00" in result.stdout
    assert "callmeter demo" in result.stderr


def test_a_second_run_gives_the_same_bytes(call: Call) -> None:
    assert call("--format", "json").stdout == call("--format", "json").stdout
