"""`callmeter budget status` over a log on disk."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.words.instant import text_of
from log_text import at, log_lines
from terminal import Terminal

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
Before is the same stretch of the day, week or month before, up to this time of it.

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
this month so far     $7.25    $10.97  month
The month's figure is a straight line: 18.3 of 27.6 days are over since the log began.

Last errors
time                  agent  model                        status  error
2026-11-21 14:27:00Z  code   anthropic/claude-3.5-sonnet  error   rate_limit_exceeded

Advice
what fits                 because
stay with showback        no budget is set; 18 days vary by 300% of their mean, of no weight below
                          $100.00 a month; docs has 55% of the spend of 3 agents, of no weight below
                          $100.00 a month
shared keys and showback  $10.00 a month, at the pace of the last 18 complete days

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
    assert list(found["sections"]) == ["spend", "agents", "rate", "errors", "advice"]
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
    assert {row["section"] for row in rows} == {"spend", "agents", "rate", "errors", "advice"}
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


# With a policy

POLICY = """{
  "version": 1, "enforcement": "hard",
  "quotas": [
    {"subject": "total", "limit": 100, "enforcement": "soft"},
    {"subject": "agent:code", "limit": 2, "warn_at": [0.5], "stages": {"0.6": "approve"}},
    {"subject": "agent:*", "limit": 10, "unit": "calls", "period": "week"},
    {"subject": "user:*", "limit": 10},
    {"subject": "total", "limit": 20, "unit": "calls", "period": "minute"}
  ]
}"""


@pytest.fixture
def governed(call: Call, home: Path) -> Call:
    """The same under POLICY."""
    (home / "budget.json").write_text(POLICY)
    log = home / "usage.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"model"', b'"attempts":1,"model"'))
    return call


def sections(result: Result) -> dict[str, list[dict[str, object]]]:
    assert result.exit_code == 0, result.output
    return {name: each["rows"] for name, each in json.loads(result.stdout)["sections"].items()}


def test_each_quota_is_there_with_what_is_used_and_left(governed: Call) -> None:
    assert governed().stdout.partition("\nBy agent")[0].partition("Quotas\n")[2] == (
        """\
subject     per    quota   full                         used    left    limit  lasts  resets in
agent:code  month  hard   62.5%  ████████████▌░░░░░░░  $1.25   $0.75    $2.00  0.6 d      9.4 d
total       month  soft    7.2%  █▍░░░░░░░░░░░░░░░░░░  $7.25  $92.75  $100.00             9.4 d
How long it lasts is a straight line from the last 7 days; empty where it resets before. `callmeter
  budget forecast` knows weekdays and gives chances.

Quotas, in calls
subject       per   quota   full                  used  left  limit  resets in  at
agent:code    week  hard   20.0%  ██▊░░░░░░░░░░░     2     8     10      1.4 d  2026-11-23 00:00:00Z
agent:local   week  hard   10.0%  █▍░░░░░░░░░░░░     1     9     10      1.4 d  2026-11-23 00:00:00Z
agent:triage  week  hard   10.0%  █▍░░░░░░░░░░░░     1     9     10      1.4 d  2026-11-23 00:00:00Z

Thresholds passed
subject     per    passed  which means
agent:code  month     50%  warning
agent:code  month     60%  approve
"""
    )


def test_what_waits_and_what_is_frozen_is_there_only_when_there_is_any(governed: Call, home: Path) -> None:
    assert not {"requests", "frozen"} & set(sections(governed("--format", "json")))

    def budget(*arguments: str) -> str:
        world = World(env={"CALLMETER_HOME": str(home)}, clock=lambda: at(NOW).timestamp())
        result = CliRunner().invoke(app, ["budget", *arguments], obj=world)
        assert result.exit_code == 0, result.output
        return result.stdout

    id = budget("request", "agent:code", "5", "--reason", "release").strip()
    budget("freeze", "agent:docs", "--reason", "odd")
    found = sections(governed("--format", "json"))
    assert [(row["id"], row["usd"], row["reason"]) for row in found["requests"]] == [(id, 5, "release")]
    assert [row["subject"] for row in found["frozen"]] == ["agent:docs"]
    budget("approve", id)
    budget("thaw", "agent:docs", "--reason", "fine")
    found = sections(governed("--format", "json"))
    assert not {"requests", "frozen"} & set(found)
    granted = next(row for row in found["quotas"] if row["subject"] == "agent:code")
    assert (granted["limit"], granted["left"]) == (7, 5.75)


def test_every_shape_has_the_quotas(governed: Call) -> None:
    for shape in ("csv", "tsv", "jsonl", "markdown"):
        assert "agent:triage" in governed("--format", shape).stdout


@pytest.mark.parametrize("columns", [60, 80])
def test_quotas_read_well_on_a_narrow_terminal(columns: int, governed: Call) -> None:
    lines = governed(columns=columns).stdout.splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert any(line.startswith("agent:code") and "62.5%" in line and "$0.75" in line for line in lines)


def test_a_ledger_out_of_reach_is_a_note_and_the_rest_is_there(governed: Call, home: Path) -> None:
    (home / "config.toml").write_text(f'ledger = "{home}/nowhere/else/../../usage.jsonl"\n')
    result = governed()
    assert result.exit_code == 0
    assert "Quotas are not shown: " in result.stdout
    assert "$7.25" in result.stdout
    assert (home / "usage.jsonl").read_bytes().startswith(b'{"v":1')


@pytest.mark.parametrize("option", [("--as-of", "2026-11-20"), ("--log", "usage.jsonl")])
def test_quotas_are_of_now_and_of_the_own_log(option: tuple[str, str], governed: Call, home: Path) -> None:
    name, value = option
    result = governed(name, str(home / value) if name == "--log" else value)
    assert result.exit_code == 0
    assert "Quotas, requests and freezes are as they are now" in result.stdout.replace("\n  ", " ")
    assert "agent:code  month" not in result.stdout
    assert not (home / "ledger.db").exists(), "somebody else's log is not counted into the own ledger"


def test_without_quotas_no_ledger_is_made(call: Call, home: Path) -> None:
    assert call().exit_code == 0
    assert not (home / "ledger.db").exists()


# --watch


@pytest.mark.parametrize("options", [[], ["--format", "json"], ["--as-of", "2026-11-20"]])
def test_watching_needs_a_terminal_and_the_present(options: list[str], call: Call) -> None:
    result = call("--watch", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--watch" in result.stderr


def test_watching_draws_again_what_has_changed_and_ends_on_ctrl_c(
    home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    command = 'trap : INT; TERM=xterm callmeter budget status --watch; echo "status $?"; read -r end'
    with Terminal(["sh", "-c", command], environment, tmp_path) as terminal:
        assert terminal.wait_for("$0.00").startswith("\x1b[?1049h")
        now = text_of(datetime.now(UTC)).partition(".")[0]
        (home / "usage.jsonl").write_bytes(log_lines(f"{now}Z agent=late cost=1.25"))
        assert "\x1b[H" in terminal.wait_for("late")
        terminal.type("\x03")
        end = terminal.wait_for("status 130")
        assert "\x1b[?25h" in end and "\x1b[?1049l" in end


def test_watching_ends_on_q_with_the_terminal_as_it_was(environment: dict[str, str], tmp_path: Path) -> None:
    command = 'TERM=xterm callmeter budget status --watch; echo "status $?"; stty -a | grep -o ".icanon"; read -r end'
    with Terminal(["sh", "-c", command], environment, tmp_path) as terminal:
        terminal.wait_for("$0.00")
        terminal.type("q")
        end = terminal.wait_for("status 0")
        assert "\x1b[?25h" in end and "\x1b[?1049l" in end
        assert "-icanon" not in terminal.wait_for("icanon")


def test_of_hundreds_of_sessions_the_fullest_are_shown_and_the_others_counted(call: Call, home: Path) -> None:
    quotas = [
        {"subject": "session:*", "limit": 1000, "period": "life"},
        {"subject": "session:*", "limit": 5, "period": "life", "unit": "calls"},
        {"subject": "total", "limit": 100_000, "period": "month"},
    ]
    (home / "budget.json").write_text(json.dumps({"quotas": quotas}))
    old = [f"2026-11-02T09:00Z agent=a session=old-{number} cost={500 + number}" for number in range(150)]
    new = [f"2026-11-20T09:00Z agent=a session=new-{number} cost={number}" for number in range(1, 131)]
    (home / "usage.jsonl").write_bytes(log_lines("\n".join([*old, *new])))
    sections = json.loads(call("--format", "json").stdout)["sections"]
    for name, others in (("quotas", 130 + 1 - 10), ("quotas_calls", 130 - 10)):
        shown, notes = sections[name]["rows"], " ".join(sections[name]["notes"])
        assert len(shown) == 10
        assert f"{others} more" in notes and "150 of session:* without a call in the last 7 days" in notes
    names = {row["subject"] for row in sections["quotas"]["rows"]}
    assert names == {"total", *(f"session:new-{130 - place}" for place in range(9))}
    assert [row["lasts_days"] for row in sections["quotas"]["rows"] if row["subject"] == "session:new-130"] == [8.4]
