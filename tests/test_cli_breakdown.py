"""`callmeter budget breakdown` over a log on disk."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from conftest import Run
from log_text import at, log_lines

NOW = "2026-11-21T15:04Z"
LOG = """
2026-11-21T09:00Z agent=code   purpose=triage team=search cost=1    ms=100 model=anthropic/claude
2026-11-20T09:00Z agent=code   purpose=review team=search cost=2    ms=100 model=anthropic/claude
2026-11-16T00:00Z agent=triage purpose=triage             cost=4    ms=100 model=openai/gpt
2026-11-15T23:59Z agent=triage purpose=triage             cost=8    ms=100 model=openai/gpt
2026-10-31T23:59Z agent=docs   purpose=review             cost=16   ms=100 model=openai/gpt work_item=SUP-1
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


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout, parse_float=Decimal)["rows"])


def test_a_tag_that_is_called_like_a_column_loses_nothing(call: Call, home: Path) -> None:
    (home / "usage.jsonl").write_bytes(log_lines("2026-11-21T09:00Z agent=code cost=1 calls=many row=two"))
    group, inner = rows(call("--by", "calls", "--by", "row", "--format", "json"))
    assert (group["row"], group["tag:calls"], group["calls"], group["tag:row"]) == ("subtotal", "many", 1, None)
    assert (inner["row"], inner["tag:calls"], inner["tag:row"], inner["cost"]) == ("group", "many", "two", 1)


def test_without_options_agents_are_shown(call: Call) -> None:
    result = call()
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()[3:]][:6] == [
        ["agent", "cost"],
        ["docs", "$16.00"],
        ["triage", "$12.00"],
        ["code", "$3.00"],
        ["─" * len(result.stdout.splitlines()[7])],
        ["total", "$31.00"],
    ]
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ("--by-agent --by-purpose", ["agent", "purpose"]),
        ("--by-purpose --by-agent", ["purpose", "agent"]),
        ("--by team --by-agent --by purpose", ["team", "agent", "purpose"]),
        ("--by=team --top 3 --by-work-item --format json --by-model", ["team", "work_item", "model"]),
        ("--by-day --by-week --by-month --by-hour", ["day", "week", "month", "hour"]),
        ("--by-key --by-session --by-environment", ["key", "session", "environment"]),
        ("--by-agent --by agent --by ticket_id", ["agent", "work_item"]),
    ],
)
def test_the_order_of_the_options_is_the_order_of_the_tree(options: str, keys: list[str], call: Call) -> None:
    found = rows(call(*options.split(), "--format", "json"))
    assert [key for key in found[0] if key in {*keys, "team"}] == keys
    assert found[0]["row"] == ("subtotal" if len(keys) > 1 else "group")


@pytest.mark.parametrize(
    ("options", "cost"),
    [
        ("", 31),
        ("--today", 1),
        ("--yesterday", 2),
        ("--this-week", 7),
        ("--last-week", 8),
        ("--this-month", 15),
        ("--last-month", 16),
        ("--month 2026-10", 16),
        ("--last 24h", 1),
        ("--last 7d", 15),
        ("--last 3m", 31),
        ("--since 2026-11-16", 7),
        ("--until 2026-11-16", 24),
        ("--since 2026-11-15 --until 2026-11-17", 12),
        ("--as-of 2026-11-20", 30),
        ("--as-of 2026-11-20 --today", 2),
        ("--as-of 2026-11-20T08:00:00Z --this-week", 4),
        ("--where agent=code", 3),
        ("--where model=openai/* --where purpose=triage", 12),
        ("--where agent=code --where agent=docs", 19),
        ("--where team=(none)", 28),
        ("--where ticket_id=SUP-*", 16),
    ],
)
def test_periods_and_conditions_choose_calls(options: str, cost: int, call: Call) -> None:
    result = call(*options.split(), "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["total"]["cost"] == cost


def test_the_period_and_its_zone_stand_in_the_heading(call: Call, home: Path) -> None:
    (home / "budget.json").write_text('{"time_zone": "Europe/Berlin"}')
    result = call("--month", "2026-11")
    assert result.stdout.splitlines()[1] == "2026-11-01 to 2026-11-30 (Europe/Berlin)"
    assert "docs" in result.stdout, "23:59 UTC on 31 October is November in Berlin"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ("--today --yesterday", 2, "--today and --yesterday contradict each other"),
        ("--last 7", 2, "--last '7' is not a span"),
        ("--where agent", 2, "--where 'agent' is not NAME=VALUE"),
        ("--by a/b", 2, "tag name 'a/b' is not made of letters"),
        ("--top 0", 2, "--top"),
        ("--sort price", 2, "--sort"),
        ("--format xml", 2, "--format"),
        ("--log /nowhere/usage.jsonl", 2, "there is no usage log /nowhere/usage.jsonl"),
        (
            "--log /usr",
            2,
            "--log /usr is a directory\ncallmeter: hint: name the logs in it: `--log '/usr/usage*.jsonl*'`",
        ),
        ("--by", 2, "--by"),
    ],
)
def test_a_wrong_command_line_is_told_on_stderr(options: str, status: int, message: str, call: Call) -> None:
    result = call(*options.split())
    assert result.exit_code == status
    assert message in result.stderr
    assert "callmeter: hint: " in result.stderr
    assert result.stdout == ""


def test_broken_lines_and_duplicates_are_counted_and_do_not_stop_the_report(call: Call, home: Path) -> None:
    log = home / "usage.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + b'{"v":1,"id":"to\n' + lines[1] + lines[1] + b"\xff\xfe\n5\n" + b"".join(lines[2:]))
    found = json.loads(call("--format", "json").stdout)
    assert found["total"]["cost"] == 31
    assert found["facts"]["log"] == {"bad_lines": 3, "duplicates": 1}
    assert "3 lines are no usage records and left out: see `callmeter budget log verify`." in call().stdout


def test_a_log_elsewhere_or_several_can_be_read(call: Call, home: Path) -> None:
    (home / "host-a.jsonl").write_bytes(log_lines("2026-11-21T09:00Z id=a agent=a cost=1"))
    (home / "host-b.jsonl").write_bytes(log_lines("2026-11-21T09:00Z id=b agent=b cost=2"))
    assert [row["agent"] for row in rows(call("--log", f"{home}/host-*.jsonl", "--format", "json"))] == ["b", "a"]
    assert [row["agent"] for row in rows(call("--log", f"{home}/host-a.jsonl", "--format", "json"))] == ["a"]


def test_no_log_yet_is_an_empty_report(home: Path) -> None:
    result = CliRunner().invoke(app, ["budget", "breakdown"], obj=World(clock=lambda: at(NOW).timestamp()))
    assert result.exit_code == 0
    assert "No calls." in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("shape", ["json", "jsonl", "csv", "tsv", "markdown", "text"])
def test_a_hostile_log_stays_text_in_every_shape(shape: str, home: Path, call: Call) -> None:
    line = json.loads(log_lines("2026-11-21T09:00Z agent=x cost=1"))
    line["tags"] = {"agent": "=x\x1b]0;pwned\x07\u202e|`<b>"}
    (home / "usage.jsonl").write_text(json.dumps(line) + "\n")
    output = call("--format", shape).stdout
    assert "pwned" in output
    assert not {"\x1b", "\x07", "\u202e"} & set(output)


def test_a_terminal_changes_colour_and_width_and_nothing_else(environment: dict[str, str], home: Path) -> None:
    (home / "usage.jsonl").write_bytes(log_lines(LOG))
    command = ["callmeter", "budget", "breakdown", "--by-agent", "--by-purpose"]
    env = {**environment, "COLUMNS": "72", "TERM": "xterm"}
    piped = subprocess.run(command, env=env, capture_output=True, check=True, timeout=60).stdout.decode()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # Linux says so when the other side has gone
        pass
    os.close(ours)
    assert process.wait(60) == 0
    # What a slow machine says meanwhile is taken back before the report.
    text = re.sub(r"[^\r\n]*\r\x1b\[2K", "", shown.decode()).replace("\r\n", "\n")
    assert "\x1b[1m" in text
    assert text.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "") == piped


@pytest.mark.parametrize(("format", "unbuffered"), [("jsonl", ""), ("text", ""), ("text", "1")])
def test_a_reader_that_goes_away_ends_it_quietly(
    environment: dict[str, str], home: Path, format: str, unbuffered: str
) -> None:
    (home / "usage.jsonl").write_bytes(
        log_lines("\n".join(f"2026-11-21T09:00Z agent=a{n} cost=1" for n in range(5000)))
    )
    reader, writer = os.pipe()
    process = subprocess.Popen(
        ["callmeter", "budget", "breakdown", "--format", format],
        env={**environment, "PYTHONUNBUFFERED": unbuffered},
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    os.read(reader, 10)
    os.close(reader)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (141, b"")


def test_it_works_without_a_locale_and_without_a_terminal(run_callmeter: Run, home: Path) -> None:
    (home / "usage.jsonl").write_bytes(log_lines(LOG + "2026-11-21T09:00Z agent=漢字 cost=64"))
    done = run_callmeter("budget", "breakdown", env={"LANG": "C", "LC_ALL": "C", "HOME": None})
    assert done.returncode == 0, done.stderr
    assert "漢字" in done.stdout
    assert "$95.00" in done.stdout
    ascii_only = run_callmeter("budget", "breakdown", "--where", "agent=code", env={"PYTHONIOENCODING": "ascii"})
    assert ascii_only.stdout.isascii()


def test_of_thousands_of_sessions_people_see_the_first_and_machines_all(call: Call, home: Path) -> None:
    sessions = [f"2026-11-21T09:00Z agent=code session=s{number} cost={number}" for number in range(1, 1004)]
    (home / "usage.jsonl").write_bytes(log_lines("\n".join(sessions)))
    note = "All but the first 1,000 groups are one row: `--top N` shows more, `--format csv` all."
    for options in (
        "--by-session",
        "--by-agent --by-session",
        "--by-session --sort name",
        "--by-session --percentiles",
    ):
        shown = call(*options.split()).stdout
        assert "other (3)" in shown and note in shown, options
        assert ("s999" in shown) == ("--sort" not in options)
    for options in (
        "--by-session --top 2000",
        "--by-session --by-day",
        "--by-agent",
        "--by-session --where session=s5",
    ):
        shown = call(*options.split()).stdout
        assert "other" not in shown and note not in shown, options
    assert "other (1001)" in call("--by-session", "--top", "2").stdout
    for shape in ("json", "jsonl", "csv", "tsv"):
        assert "other" not in call("--by-session", "--format", shape).stdout
    assert len(rows(call("--by-session", "--format", "json"))) == 1003
