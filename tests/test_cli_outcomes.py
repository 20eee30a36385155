"""`budget outcome` and `budget value`, and merit shares from them: recording once, correcting, and bad rows."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.store.audit import read_events
from callmeter.store.outcomes import read_outcomes, record
from callmeter.words.outcome import Outcome, outcome_line, parse_outcome
from conftest import Run
from log_text import at, log_lines

NOW = "2026-11-21T15:04Z"
LOG = """
2026-11-20T09:00Z agent=code purpose=fix   work_item=S-1 cost=3
2026-11-20T09:01Z agent=docs purpose=write work_item=S-1 cost=1
2026-11-20T09:02Z agent=docs purpose=write work_item=S-2 cost=0.5
"""
Call = Callable[..., Result]


@pytest.fixture
def call(home: Path) -> Call:
    """Run `callmeter budget …` on LOG, at NOW."""
    (home / "usage.jsonl").write_bytes(log_lines(LOG))

    def invoke(*arguments: str, input: str | bytes | None = None) -> Result:
        world = World(clock=lambda: at(NOW).timestamp())
        return CliRunner().invoke(app, ["budget", *arguments], obj=world, input=input)

    return invoke


def listed(call: Call, *names: str) -> list[tuple[object, ...]]:
    result = call("outcome", "list", "--format", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout, parse_float=Decimal)["rows"]
    return [tuple(row[name] for name in names) for row in rows]


def section(call: Call, name: str) -> list[dict[str, Any]]:
    result = call("value", "--format", "json")
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout, parse_float=Decimal)["sections"][name]["rows"])


def test_recording_is_silent_and_the_file_is_the_owners(call: Call, home: Path) -> None:
    result = call("outcome", "record", "--work-item", "S-1", "--value", "12.5", "--accepted", "--note", "merged")
    assert (result.exit_code, result.output) == (0, "")
    path = home / "outcomes.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    line = json.loads(path.read_bytes())
    assert {name: line[name] for name in ("v", "at", "work_item", "value", "accepted", "note")} == {
        "v": 1,
        "at": "2026-11-21T15:04:00.000Z",
        "work_item": "S-1",
        "value": 12.5,
        "accepted": True,
        "note": "merged",
    }
    assert listed(call, "work_item", "value", "accepted") == [("S-1", Decimal("12.5"), "yes")]


def test_the_same_id_counts_once_and_must_say_the_same(call: Call) -> None:
    again = ("outcome", "record", "--work-item", "S-1", "--value", "2", "--id", "merge-7")
    assert call(*again).exit_code == 0
    assert call(*again).exit_code == 0
    assert len(listed(call, "id")) == 1
    other = call("outcome", "record", "--work-item", "S-1", "--value", "3", "--id", "merge-7")
    assert other.exit_code == 2
    assert "--corrects merge-7" in other.stderr
    assert listed(call, "value") == [(2,)]


def test_a_correction_is_a_new_line(call: Call, home: Path) -> None:
    call("outcome", "record", "--work-item", "S-1", "--value", "2", "--id", "a")
    assert call("outcome", "record", "--corrects", "a", "--value", "20").exit_code == 0
    assert len((home / "outcomes.jsonl").read_bytes().splitlines()) == 2
    assert listed(call, "id", "value") == [("a", 20)]
    assert call("outcome", "record", "--corrects", "b", "--value", "20").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--value", "1"), "there is no work item"),
        (("--work-item", "(none)", "--value", "1"), "(none) is no work_item: reports call calls so that have none"),
        (("--work-item", "S-1", "--agent", "(none)", "--value", "1"), "(none) is no agent"),
        (("--work-item", "S-1"), "nothing is said about what came of it"),
        (("--work-item", "S-1", "--value", "-1"), "the value -1 is below 0"),
        (("--work-item", "S-1", "--value", "NaN"), "not an amount of money: NaN"),
        (("--work-item", "S\x1b[31m", "--value", "1"), r"invisible character in 'S\x1b[31m'"),
        (("--work-item", "S-1", "--accepted", "--rejected"), "--accepted and --rejected contradict each other"),
        (("--work-item", "S-1", "--value", "1", "--at", "yesterday"), "--at 'yesterday' is not a date or time"),
        (("--work-item", "S-1", "--value", "1", "--at", "2062-11-21"), "has not happened yet"),
        (("--work-item", "S-1", "--value", "1", "--note", "n" * 1001), "`note` is longer than 1000 characters"),
        (("--corrects", "a"), "nothing is said about what is to change"),
        (("--from", "-", "--value", "1"), "--from and --value contradict each other"),
        (("--from", "there-is-none.csv"), "there is no file there-is-none.csv"),
    ],
)
def test_what_is_no_outcome_is_refused_and_nothing_is_written(
    call: Call, home: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = call("outcome", "record", *arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert "\x1b" not in result.stderr
    assert not (home / "outcomes.jsonl").exists()


CSV = b"""\xef\xbb\xbfticket_id;Value;accepted;Agent;note\r
S-1;12.5;yes;;"two
lines"\r
\r
S-2;1,5;;;\r
S-2;1.5;maybe;;\r
S-2;1.5;no;docs;=HYPERLINK()\r
S-2;\xff;;;\r
S-3;4;;;;;\r
"""


def test_bad_rows_of_a_csv_are_named_by_line_and_the_others_recorded(call: Call) -> None:
    result = call("outcome", "record", "--from", "-", input=CSV)
    assert result.exit_code == 5
    lines = result.stderr.splitlines()
    assert [line.split(":")[:2] for line in lines[:4]] == [
        ["stdin", "5"],
        ["stdin", "6"],
        ["stdin", "8"],
        ["stdin", "9"],
    ]
    assert "4 of 6 rows are no outcomes; 2 recorded" in lines[4]
    assert listed(call, "work_item", "value", "accepted", "agent", "note") == [
        ("S-1", Decimal("12.5"), "yes", None, "two lines"),
        ("S-2", Decimal("1.5"), "no", "docs", "=HYPERLINK()"),
    ]
    assert '"\'=HYPERLINK()"' in call("outcome", "list", "--format", "csv").stdout


def test_a_quote_that_is_not_closed_names_all_the_lines_that_it_takes(call: Call) -> None:
    result = call("outcome", "record", "--from", "-", input='work_item,value\nS-1,1\n"S-2,2\nS-3,3\nS-4,4\n')
    assert result.exit_code == 5
    assert result.stderr.splitlines()[0].startswith("stdin:3: not CSV, down to line 5: ")
    assert listed(call, "work_item") == [("S-1",)]


def test_a_stream_without_an_end_is_refused_in_time(call: Call, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callmeter.exchange.outcome_rows.MOST_ROWS", 100)
    result = call("outcome", "record", "--from", "-", input="work_item,value\n" + "S-1,1\n" * 101)
    assert result.exit_code == 5
    assert "more than 100 rows" in result.stderr
    assert not (home / "outcomes.jsonl").exists()


def test_of_many_faulty_rows_the_first_hundred_are_named_and_the_others_counted(call: Call) -> None:
    result = call("outcome", "record", "--from", "-", input="work_item,value\n" + "S-1,x\n" * 103)
    lines = result.stderr.splitlines()
    assert lines[99] == "stdin:101: not an amount in USD: 'x'"
    assert lines[100:102] == [
        "stdin: 3 more",
        "callmeter: error: stdin: 103 of 103 rows are no outcomes; 0 recorded, 0 known already",
    ]


def test_a_mended_file_can_be_given_again(call: Call) -> None:
    call("outcome", "record", "--from", "-", input="work_item,value\nS-1,1\nS-1,1\nS-2,x\n")
    assert len(listed(call, "id")) == 2, "two equal rows are two outcomes"
    again = call("outcome", "record", "-v", "--from", "-", input="work_item,value\nS-1,1\nS-1,1\nS-2,3\n")
    assert again.exit_code == 0
    assert again.stderr == "callmeter: 1 recorded, 2 known already\n"
    assert sorted(listed(call, "work_item", "value")) == [("S-1", 1), ("S-1", 1), ("S-2", 3)]


def test_json_lines_are_read_too_and_misspelt_members_are_faults(call: Call) -> None:
    lines = [
        '{"id":"x-1","work_item":"S-1","value":0.1,"accepted":true,"at":"2026-11-01"}',
        '{"work_item":"S-1","valeu":1}',
        '{"work_item":"S-1","value":1,"value":2}',
        "not json",
        '["a list"]',
        '{"id":"x-1","work_item":"S-1","value":5}',
        '{"corrects":"x-1","value":0.2}',
        '{"corrects":"y-1","value":0.2}',
        '{"work_item":"S-1","value":"1e999999999"}',
    ]
    result = call("outcome", "record", "--from", "-", input="\n".join(lines))
    assert result.exit_code == 5
    named = [int(line.split(":")[1]) for line in result.stderr.splitlines() if line.startswith("stdin:")]
    assert named == [2, 3, 4, 5, 6, 8, 9]
    assert "did you mean `value`?" in result.stderr
    assert listed(call, "id", "value", "at") == [("x-1", Decimal("0.2"), "2026-11-01T00:00:00.000Z")]


def test_a_header_that_nobody_understands_stops_the_whole_file(call: Call, home: Path) -> None:
    result = call("outcome", "record", "--from", "-", input="work_item,worth\nS-1,5\n")
    assert result.exit_code == 5
    assert "stdin:1" in result.stderr
    assert not (home / "outcomes.jsonl").exists()


def test_every_recording_is_audited_once(call: Call, home: Path) -> None:
    call("outcome", "record", "--work-item", "S-1", "--value", "2", "--id", "a")
    call("outcome", "record", "--work-item", "S-1", "--value", "2", "--id", "a")
    call("outcome", "record", "--from", "-", input="work_item,value\nS-1,1\nS-2,0.5\n")
    events = [event.fields for event in read_events(str(home / "audit.jsonl"))]
    assert [(each["event"], each["outcomes"], each["value"]) for each in events] == [
        ("outcome.record", 1, 2),
        ("outcome.record", 2, Decimal("1.5")),
    ]


def test_lines_that_are_no_outcomes_stop_nobody(call: Call, home: Path) -> None:
    call("outcome", "record", "--work-item", "S-1", "--value", "2")
    path = home / "outcomes.jsonl"
    path.write_bytes(b'{"v":1,"torn\n\x00\n' + path.read_bytes() + b"x" * 20_000 + b'\n{"v":2}\n{"half"')
    result = call("outcome", "list")
    assert result.exit_code == 0
    assert "5 lines are no outcomes and left out" in " ".join(result.stdout.split())
    assert ", line 1, 2, 4, 5, 6: " in " ".join(result.stdout.split())
    assert call("outcome", "record", "--work-item", "S-2", "--value", "1").exit_code == 0
    assert [each[0] for each in listed(call, "work_item")] == ["S-1", "S-2"]


def test_value_reports_what_was_recorded(call: Call) -> None:
    call("outcome", "record", "--work-item", "S-1", "--value", "8", "--accepted")
    assert [(row["agent"], row["value"], row["return"]) for row in section(call, "agents")] == [
        ("code", 6, 2),
        ("docs", 2, Decimal("1.3333")),
    ]
    assert [row["work_item"] for row in section(call, "no_outcome")] == ["S-2"]


MERIT = {
    "version": 1,
    "allocation_strategy": "equal_base_plus_merit",
    "allocations": {"base_per_agent": 20, "merit_pool": 100, "weights": "value"},
}


@pytest.mark.parametrize("width", [30, 60])
def test_value_fits_narrow_terminals(call: Call, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    call("outcome", "record", "--work-item", "SUP-1", "--value", "12.5", "--accepted")
    monkeypatch.setenv("COLUMNS", str(width))
    lines = call("value").stdout.splitlines()
    assert all(len(line) <= width for line in lines), [line for line in lines if len(line) > width]


def test_merit_shares_come_from_recorded_value_and_are_shown_first(call: Call, home: Path) -> None:
    (home / "budget.json").write_text(json.dumps(MERIT))
    call("outcome", "record", "--work-item", "S-1", "--value", "8", "--at", "2026-11-21")
    page = call("quota", "allocate", "--merit", "value", "--last", "7d", "--format", "json")
    assert page.exit_code == 0, page.output
    sections = json.loads(page.stdout)["sections"]
    assert list(sections) == ["merit", "allocation"]
    assert [(row["agent"], row["merit"]) for row in sections["merit"]["rows"]] == [("code", 75), ("docs", 25)]
    assert {row["subject"]: row["then"] for row in sections["allocation"]["rows"]}["agent:code"] == 95
    assert json.loads((home / "budget.json").read_text()) == MERIT, "shown, not applied"
    own = json.loads(call("quota", "allocate", "--format", "json").stdout)["sections"]
    assert own["merit"]["rows"] == sections["merit"]["rows"], "the policy itself asks for it"


@pytest.mark.parametrize("name", ["\x1b[31mred", "red ", "x" * 600])
def test_a_name_that_no_policy_can_hold_keeps_nobody_else_from_a_share(call: Call, home: Path, name: str) -> None:
    (home / "budget.json").write_text(json.dumps(MERIT))
    first = (home / "usage.jsonl").read_bytes().splitlines()[0]
    line = json.loads(first) | {"id": "foreign", "tags": {"agent": name, "work_item": "S-3"}}
    with (home / "usage.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    call("outcome", "record", "--work-item", "S-1", "--value", "8", "--at", "2026-11-21")
    call("outcome", "record", "--work-item", "S-3", "--value", "5", "--at", "2026-11-21")
    page = call("quota", "allocate", "--merit", "value", "--last", "7d", "--format", "json")
    assert page.exit_code == 0, page.output
    merit = json.loads(page.stdout)["sections"]["merit"]
    assert {row["agent"]: row["merit"] for row in merit["rows"]} == {"code": 75, "docs": 25, name: 0}
    assert any(name in note and "without a share" in note for note in merit["notes"])
    assert call("quota", "allocate", "--merit", "value", "--apply", "--yes", "-q").exit_code == 0


def test_merit_by_outputs_counts_them_whatever_they_are_worth(call: Call, home: Path) -> None:
    (home / "budget.json").write_text(json.dumps(MERIT))
    call("outcome", "record", "--work-item", "S-1", "--value", "800", "--at", "2026-11-21")
    call("outcome", "record", "--work-item", "S-2", "--accepted", "--at", "2026-11-21")
    page = call("quota", "allocate", "--merit", "outputs", "--last", "7d", "--format", "json")
    assert page.exit_code == 0, page.output
    merit = json.loads(page.stdout, parse_float=Decimal)["sections"]["merit"]
    rows = {row["agent"]: (row["outputs"], row["share"], row["merit"]) for row in merit["rows"]}
    assert rows == {"code": (1, Decimal("0.5"), 50), "docs": (1, Decimal("0.5"), 50)}
    assert merit["notes"][0].startswith("The merit pool of $100.00 is shared out by outputs;")


def test_what_was_rejected_is_worth_nothing_and_a_note_says_so(call: Call) -> None:
    call("outcome", "record", "--work-item", "S-1", "--value", "2")
    call("outcome", "record", "--work-item", "S-2", "--value", "5", "--accepted")
    note = "What was rejected is worth nothing in the total."
    accepted = json.loads(call("outcome", "list", "--format", "json").stdout)
    assert (accepted["total"]["value"], accepted["notes"]) == (7, [])
    call("outcome", "record", "--work-item", "S-3", "--value", "9", "--rejected")
    found = json.loads(call("outcome", "list", "--format", "json").stdout)
    assert (found["total"]["value"], found["notes"]) == (7, [note])


def test_applied_merit_is_in_the_policy_and_audited(call: Call, home: Path) -> None:
    (home / "budget.json").write_text(json.dumps(MERIT))
    call("outcome", "record", "--work-item", "S-1", "--value", "8", "--at", "2026-11-21")
    call("outcome", "record", "--work-item", "S-2", "--value", "1", "--agent", "docs", "--at", "2026-11-01")
    done = call("quota", "allocate", "--merit", "value", "--apply", "--yes", "-q")
    assert done.exit_code == 0, done.output
    assert json.loads((home / "budget.json").read_text())["allocations"]["weights"] == {"code": 6, "docs": 3}
    assert [event.fields["event"] for event in read_events(str(home / "audit.jsonl"))][-1] == "quota.allocate"


def test_without_value_there_is_no_merit_to_share(call: Call, home: Path) -> None:
    (home / "budget.json").write_text(json.dumps(MERIT))
    result = call("quota", "allocate", "--merit", "value")
    assert result.exit_code == 2
    assert "callmeter budget outcome record" in result.stderr
    assert call("quota", "allocate", "--merit", "value", "--weight", "a=1").exit_code == 2


ROLES = {"version": 1, "allocation_strategy": "role_based", "roles": {"lead": {"allocation": 1, "agents": ["code"]}}}


@pytest.mark.parametrize("policy", [{"version": 1}, ROLES])
def test_a_strategy_without_a_merit_pool_has_none_to_share(call: Call, home: Path, policy: dict[str, object]) -> None:
    (home / "budget.json").write_text(json.dumps(policy))
    for more in ((), ("--strategy", "role_based")):
        result = call("quota", "allocate", "--merit", "value", *more)
        assert result.exit_code == 2
        assert "there is no merit pool to share out" in result.stderr


def test_value_of_work_before_the_period_says_why_it_is_nobodys(call: Call, home: Path) -> None:
    (home / "budget.json").write_text(json.dumps(MERIT))
    call("outcome", "record", "--work-item", "S-1", "--value", "8", "--at", "2026-11-21")
    call("outcome", "record", "--work-item", "OLD", "--value", "2", "--at", "2026-11-21")
    page = call("quota", "allocate", "--merit", "value", "--last", "7d")
    said = " ".join(page.stdout.split())
    assert "$2.00 of the value is no agent's: its work items have no calls with a name in this period." in said


def test_many_may_record_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "outcomes.jsonl")

    def work(number: int) -> None:
        for each in range(20):
            # Everybody records the same twenty, and one of his own each time.
            line = {"v": 1, "at": "2026-11-21T00:00:00.000Z", "work_item": "S"}
            record(path, [Outcome(id=f"{each}", **line), Outcome(id=f"{number}-{each}", **line)], lambda _: None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_outcomes(path)
    assert found.bad_count == 0
    assert len(found.outcomes) == len({each.id for each in found.outcomes}) == 20 + 4 * 20


def test_a_killed_writer_leaves_whole_outcomes_behind(call: Call, home: Path) -> None:
    call("outcome", "record", "--work-item", "S-1", "--value", "2")
    path = home / "outcomes.jsonl"
    path.write_bytes(path.read_bytes() + b'{"v":1,"id":"half","wor')
    assert call("outcome", "record", "--work-item", "S-2", "--value", "3").exit_code == 0
    assert [each[0] for each in listed(call, "work_item")] == ["S-1", "S-2"]


def test_a_line_is_read_as_it_was_written() -> None:
    outcome = Outcome(
        v=1,
        id="a",
        at="2026-11-21T00:00:00.000Z",
        work_item="S-1",
        value=Decimal("0.000000001"),
        accepted=False,
        note="é",
    )
    assert parse_outcome(outcome_line(outcome)[:-1]) == outcome


def test_the_installed_command_reads_a_pipe(run_callmeter: Run, home: Path) -> None:
    done = run_callmeter("budget", "outcome", "record", "--from", "-", input="work_item,value\nS-1,2\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len((home / "outcomes.jsonl").read_bytes().splitlines()) == 1


def test_rows_come_from_a_pipe_with_a_name_too(call: Call, home: Path) -> None:
    pipe = home / "rows"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("work_item,value\nS-1,3\n",))
    writer.start()
    result = call("outcome", "record", "--from", str(pipe))
    writer.join()
    assert (result.exit_code, result.output) == (0, "")
    assert listed(call, "work_item", "value") == [("S-1", 3)]


def test_rows_do_not_come_from_a_directory(call: Call, home: Path) -> None:
    result = call("outcome", "record", "--from", str(home))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--from: {home} is a directory" in result.stderr
