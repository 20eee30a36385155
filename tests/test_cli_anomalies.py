"""`callmeter budget anomalies`: told once, in every format, and whatever the log's text says."""

from __future__ import annotations

import csv
import io
import json
import shlex
import subprocess
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.flows.anomalies import headline, sentence, tell
from callmeter.reports.anomalies import examine
from callmeter.reports.anomaly_finding import Finding, Scope
from callmeter.store.audit import append_event, read_events, verify
from callmeter.words.errors import CallmeterError
from callmeter.words.money import NANO
from callmeter.words.period import Period
from made_log import MadeLog, day
from plain_usage import PlainUsage

DAYS = 30
NOW = day(DAYS)
Call = Callable[..., Result]


@pytest.fixture(scope="module")
def quiet() -> MadeLog:
    return MadeLog().quiet(DAYS, ("code",), calls=40)


@pytest.fixture(scope="module")
def spiked(quiet: MadeLog) -> MadeLog:
    """A spike on 2026-10-09, and a storm of errors."""
    log = MadeLog(2)
    log.lines = list(quiet.lines)
    for at in log.times(25, 400):
        log.call(at, "code", f"s-{at.hour}")
    nothing: dict[str, object] = {"cost": Decimal(0), "tokens": {"in": 0, "out": 0}}
    for minute in range(60):
        log.call(day(25, 14) + timedelta(minutes=minute), "code", "e", status="error", error="http_503", **nothing)
    return log


@pytest.fixture
def call(home: Path) -> Call:
    """Run the command at NOW."""

    def invoke(*arguments: str, columns: int = 100) -> Result:
        world = World(clock=lambda: NOW.timestamp(), env={"CALLMETER_HOME": str(home), "COLUMNS": str(columns)})
        return CliRunner().invoke(app, ["budget", "anomalies", *arguments], obj=world)

    return invoke


def put(home: Path, log: MadeLog) -> None:
    (home / "usage.jsonl").write_bytes(b"".join(log.lines))


def alert_to(home: Path, target: Path) -> None:
    policy = {"alerts": [{"kind": "file", "target": str(target), "on": ["anomaly"]}]}
    (home / "budget.json").write_text(json.dumps(policy))


def told(home: Path) -> list[dict[str, Any]]:
    """The findings in the audit log."""
    path = str(home / "audit.jsonl")
    return [event.fields for event in read_events(path) if event.fields["event"] == "anomaly"]


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout, parse_float=Decimal)["rows"])


def test_a_quiet_month_says_none_and_fails_nobody(call: Call, home: Path, quiet: MadeLog) -> None:
    put(home, quiet)
    result = call("--fail-if-any")
    assert result.exit_code == 0, result.output
    assert "none" in result.stdout
    assert not (home / "audit.jsonl").exists()


def test_a_finding_is_a_row_with_its_evidence_and_its_command_below(call: Call, home: Path, spiked: MadeLog) -> None:
    put(home, spiked)
    lines = call().stdout.splitlines()
    header = lines.index(next(line for line in lines if line.startswith("finding")))
    assert lines[header + 1].split()[:2] == ["spike", "agent:code"]
    assert lines[header + 2].startswith("  ") and " times what was expected of the day" in lines[header + 2]
    assert any(line.startswith("  callmeter budget breakdown ") for line in lines)


def test_fail_if_any_is_status_3_with_the_report_before(call: Call, home: Path, spiked: MadeLog) -> None:
    put(home, spiked)
    result = call("--fail-if-any")
    assert result.exit_code == 3
    assert "agent:code" in result.stdout
    assert "were found" in result.stderr
    assert call("--since", "2026-10-11", "--fail-if-any").exit_code == 0


@pytest.mark.parametrize(
    ("first", "last", "excess", "said"),
    [
        ("2026-11-20", "2026-11-20", 8 * NANO, "spike: agent:code, 2026-11-20, $8.00 more than expected"),
        ("2026-11-20", "2026-11-22", -NANO, "spike: agent:code, 2026-11-20 to 2026-11-22, $1.00 less than expected"),
        ("2026-11-20 09:00", "2026-11-20 10:00", 0, "spike: agent:code, 2026-11-20 09:00 to 10:00: one"),
    ],
)
def test_a_headline_says_when_and_how_much(first: str, last: str, excess: int, said: str) -> None:
    found = Finding("id", "spike", "agent:code", first, last, 0, 0, 0, excess, "one; two", "")
    assert headline(found) == said
    assert sentence(found) == f"{said.removesuffix(': one')}: one; two"


def test_a_tag_that_no_call_has_is_named(call: Call, home: Path, spiked: MadeLog) -> None:
    put(home, spiked)
    assert "No call has the tag custmer." in call("--by", "custmer", "--by", "agent").stdout
    assert "No call has the field pool." in call("--by", "pool").stdout
    assert "No call has the" not in call("--by", "agent").stdout


def test_each_finding_is_audited_once(call: Call, home: Path, spiked: MadeLog) -> None:
    put(home, spiked)
    found = rows(call("--format", "json"))
    call("--since", "2026-10-01")
    call("--by", "agent", "--last", "10d")
    assert sorted(each["id"] for each in told(home)) == sorted(row["id"] for row in found)
    assert {each["finding"] for each in told(home)} == {"spike", "error storm"}
    assert verify(str(home / "audit.jsonl")).findings == ()


def test_ten_processes_at_once_audit_each_finding_once(
    start: Callable[..., subprocess.Popen[bytes]], home: Path, spiked: MadeLog
) -> None:
    put(home, spiked)
    alert_to(home, home / "told.jsonl")
    arguments = ("budget", "anomalies", "--since", "2026-10-01", "--until", "2026-10-14")
    running = [start("callmeter", *arguments) for _ in range(10)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    ids = [each["id"] for each in told(home)]
    assert len(ids) == len(set(ids)) == 2
    assert verify(str(home / "audit.jsonl")).findings == ()


def test_a_finding_is_alerted_once(call: Call, home: Path, spiked: MadeLog) -> None:
    put(home, spiked)
    told_file = home / "told.jsonl"
    alert_to(home, told_file)
    world = World(clock=lambda: NOW.timestamp(), env={"CALLMETER_HOME": str(home)})
    for _ in range(2):
        call()
        done = CliRunner().invoke(app, ["budget", "alerts", "--flush"], obj=world)
        assert done.exit_code == 0, done.output
    messages = [json.loads(line) for line in told_file.read_text().splitlines()]
    assert sorted(each["callmeter"]["finding"] for each in messages) == ["error storm", "spike"]
    assert any("spike: agent:code, 2026-10-09, $" in each["text"] for each in messages)
    assert any("error storm: agent:code, 2026-10-09 14:00: 60 of " in each["text"] for each in messages)


def test_old_news_are_audited_and_alert_nobody(home: Path, spiked: MadeLog) -> None:
    put(home, spiked)
    alert_to(home, home / "told.jsonl")
    later = NOW + timedelta(days=60)
    world = World(clock=lambda: later.timestamp(), env={"CALLMETER_HOME": str(home)})
    result = CliRunner().invoke(app, ["budget", "anomalies", "--as-of", "2026-10-14"], obj=world)
    assert result.exit_code == 0, result.output
    assert len(told(home)) == 2
    assert not (home / "alerts.jsonl").exists()


def test_looking_only_tells_nobody(call: Call, home: Path, spiked: MadeLog) -> None:
    put(home, spiked)
    assert call("--no-record", "--fail-if-any").exit_code == 3
    assert not (home / "audit.jsonl").exists()


def test_who_is_killed_before_the_audit_line_leaves_it_to_the_next_one(tmp_path: Path, spiked: MadeLog) -> None:
    found = examine(PlainUsage(spiked.records), Scope(NOW, period=Period(day(20), NOW, ""))).findings
    path = str(tmp_path / "audit.jsonl")
    alerted: list[str] = []

    def alert(finding: Finding) -> None:
        if finding.id not in alerted:  # as the spool does
            alerted.append(finding.id)

    def dies(event: str, facts: object) -> None:
        raise CallmeterError("the disk is full")

    with pytest.raises(CallmeterError):
        tell(path, found, dies, alert)
    assert alerted == [found[0].id]

    def audit(event: str, facts: Mapping[str, object]) -> None:
        append_event(path, event, NOW, "me", facts)

    new = tell(path, found, audit, alert)
    assert [each.id for each in new] == alerted == [each.id for each in found]


def test_as_of_makes_the_same_report_again(call: Call, home: Path, spiked: MadeLog) -> None:
    put(home, spiked)
    before = call("--as-of", "2026-10-12", "--format", "json").stdout
    log = MadeLog(3)
    log.lines = list(spiked.lines)
    log.call(day(31), "code", "later", id="later", cost=Decimal(500))
    log.call(
        day(25, 9), "code", "s", id="c", cost=Decimal(-9), corrects="made-1-1", recorded_at="2026-10-13T00:00:00.000Z"
    )
    put(home, log)
    assert call("--as-of", "2026-10-12", "--format", "json").stdout == before


@pytest.mark.parametrize("shape", ["json", "jsonl", "csv", "tsv", "markdown"])
def test_every_format_has_the_same_rows(call: Call, home: Path, spiked: MadeLog, shape: str) -> None:
    put(home, spiked)
    want = [(row["id"], row["subject"], row["command"]) for row in rows(call("--format", "json"))]
    text = call("--format", shape).stdout
    records: list[dict[str, str]] = []
    match shape:
        case "json":
            records = json.loads(text)["rows"]
        case "jsonl":
            records = [json.loads(line) for line in text.splitlines()]
        case "csv" | "tsv":
            records = list(csv.DictReader(io.StringIO(text), delimiter="," if shape == "csv" else "\t"))
        case "markdown":
            cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
            records = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    found = [(row["id"], row["subject"], row["command"]) for row in records]
    assert found == want


@pytest.mark.parametrize("columns", [30, 40, 72, 100, 200])
def test_no_line_is_wider_than_the_terminal(call: Call, home: Path, spiked: MadeLog, columns: int) -> None:
    put(home, spiked)
    lines = call(columns=columns).stdout.splitlines()
    # A word of a command is left whole.
    wide = [line for line in lines if len(line) > columns and " " in line.strip(" \\")]
    assert wide == []


@pytest.mark.parametrize("columns", [30, 72, 200])
def test_a_command_that_is_folded_still_runs(call: Call, home: Path, quiet: MadeLog, columns: int) -> None:
    log = MadeLog(4)
    log.lines = list(quiet.lines)
    for at in log.times(DAYS - 1, 400):
        log.call(at, "it's  $(me)", "a  session of two hundred calls and more")
    put(home, log)
    command = rows(call("--format", "json"))[0]["command"]
    lines = call(columns=columns).stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("  callmeter "))
    last = next(number for number, line in enumerate(lines) if number >= first and not line.endswith("\\"))
    script = "callmeter() { printf '%s\\0' \"$@\"; }\n" + "\n".join(lines[first : last + 1])
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\0")[:-1] == shlex.split(command)[1:]


def test_what_the_log_says_drives_nothing(call: Call, home: Path, quiet: MadeLog) -> None:
    hostile = "=cmd|' /C'!A0\x1b]0;owned\x07$(touch owned)`id`\u202e<script>"
    log = MadeLog(4)
    log.lines = list(quiet.lines)
    for at in log.times(DAYS - 1, 400):
        log.call(at, "code", hostile)
    put(home, log)
    for shape, shown in {
        "text": r"A0\x1b…07$(touch",
        "markdown": r"A0\\x1b\]0;owned\\x07$(touch owned)\`id\`\\u202e&lt;script&gt;",
        "csv": r"A0\x1b]0;owned\x07$(touch owned)`id`\u202e<script>",
        "tsv": r"A0\x1b]0;owned\x07$(touch owned)`id`\u202e<script>",
    }.items():
        output = call("--format", shape).stdout
        assert shown in output
        assert all(line.replace("\t", "").isprintable() for line in output.splitlines())
    (row,) = rows(call("--format", "json"))
    assert row["subject"] == f"session:{hostile}"
    # As a shell reads it, the name is one word and nothing runs.
    words = shlex.split(row["command"])
    assert words[words.index("agent=code") + 2] == "session==cmd|' /C'!A0*]0;owned*$(touch owned)`id`*<script>"


def test_other_tags_and_aliases_are_looked_at(call: Call, home: Path, quiet: MadeLog) -> None:
    log = MadeLog(5)
    for number in range(DAYS):
        for at in log.times(number, 40 if number != 25 else 400):
            tags = {"agent": "code", "session": f"{number}-{at.minute}", "work_item": "SUP-1"}
            log.call(at, tags=tags)
    put(home, log)
    assert {row["subject"] for row in rows(call("--by", "ticket_id", "--format", "json"))} == {"work_item:SUP-1"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--floor", "much"), "--floor 'much' is not an amount in USD"),
        (("--floor", "-1"), "--floor '-1' is below 0"),
        (("--by", "day"), "--by day: a unit of time cannot be out of the ordinary"),
        (("--log", "missing.jsonl"), "there is no usage log missing.jsonl"),
        (("--last", "7d", "--yesterday"), "contradict each other"),
    ],
)
def test_a_wrong_command_line_is_status_2(call: Call, home: Path, arguments: tuple[str, ...], said: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_without_a_log_there_is_nothing_out_of_the_ordinary(call: Call) -> None:
    result = call("--fail-if-any", "--format", "json")
    assert rows(result) == []
