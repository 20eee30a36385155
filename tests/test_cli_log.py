"""`budget log` and `budget audit` as a user meets them."""

from __future__ import annotations

import csv
import io
import json
import os
import select
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from callmeter.cli import reading
from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.store.audit import append_event, head_of
from callmeter.store.inflight import Breadcrumb
from callmeter.store.usage_append import append_usage
from callmeter.store.usage_log import LogReader
from callmeter.words.usage import STATUSES
from conftest import Run
from usage_lines import NOW, call, calls, write

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
Start = Callable[..., subprocess.Popen[bytes]]


class Shell:
    """Runs commands in this process, at a fixed time."""

    def __init__(self, home: Path, now: datetime = NOW) -> None:
        self.log = str(home / "usage.jsonl")
        self.audit = str(home / "audit.jsonl")
        self.now = now

    def __call__(self, *arguments: str, columns: int = 100, status: int = 0) -> str:
        """stdout; what went to stderr is in `self.err`."""
        env = {**os.environ, "COLUMNS": str(columns)}
        world = World(env=env, clock=lambda: self.now.timestamp())
        result = CliRunner().invoke(app, ["budget", *arguments], obj=world)
        assert result.exit_code == status, result.output
        self.err = result.stderr
        return result.stdout


@pytest.fixture
def shell(home: Path) -> Shell:
    return Shell(home)


def test_each_call_is_one_line_that_fits_the_terminal(shell: Shell) -> None:
    odd = call(NOW, tags={"agent": "a" * 80, "purpose": "日本語" * 20}, model="m" * 200, error="x" * 90, status="error")
    write(shell.log, [*calls(3, NOW), odd])
    for columns in (30, 34, 40, 59, 60, 80, 100, 140):
        lines = shell("log", "show", columns=columns).splitlines()
        assert len(lines) == 4
        assert max(map(len, lines)) <= columns
        assert lines[0].startswith("11-21 "), "the day stays where there is little room"
    assert lines[0].split() == [
        *("11-21", "09:30:00", "ok", "code", "triage", "claude-3.5-sonnet", "1,200→400", "$0.00960", "2.3", "s")
    ]


@pytest.mark.parametrize("log", ["", "nowhere.jsonl", "nowhere/*.jsonl", "."])
@pytest.mark.parametrize("command", ["log show", "log show --follow", "log verify", "audit verify", "breakdown"])
def test_a_log_that_is_not_there_is_never_in_order(shell: Shell, command: str, log: str) -> None:
    write(shell.log, calls(3, NOW))
    assert shell(*command.split(), "--log", log, status=2) == ""


def test_a_glob_that_the_shell_made_several_words_of_is_explained(run_callmeter: Run) -> None:
    done = run_callmeter("budget", "breakdown", "--log", "a.jsonl", "b.jsonl", "--by-agent", "c.jsonl")
    assert done.returncode == 2
    assert "callmeter: hint: put a glob of logs in quotes: `--log 'hosts/*/usage*.jsonl*'`" in done.stderr


def test_a_log_line_cannot_drive_a_terminal(shell: Shell) -> None:
    evil = "\x1b]0;owned\x07\u202e\x9b31m"
    write(shell.log, [call(tags={"agent": evil}, model=evil, error=evil, status="error")])
    raw = call(id="raw").replace(b"code", "\u202e\x9b31m".encode())
    with open(shell.log, "ab") as file:
        file.write(raw)
    for format in ("text", "jsonl", "json", "csv", "tsv", "markdown"):
        shown = shell("log", "show", "--format", format)
        assert all(c.isprintable() or c in "\t\r\n" for c in shown), format
    last = shell("log", "show", "--format", "jsonl").splitlines()[-1]
    assert json.loads(last)["tags"]["agent"] == "\u202e\x9b31m", "the value is still the same"


def test_jsonl_gives_the_lines_of_the_log_themselves(shell: Shell) -> None:
    lines = calls(5, NOW)
    write(shell.log, lines)
    assert shell("log", "show", "--format", "jsonl").encode() == b"".join(lines)


def test_csv_has_tags_tokens_and_exact_money_in_columns(shell: Shell) -> None:
    write(shell.log, [call(id="c", tags={"agent": "code", "team": "search"}, cost=Decimal("0.000001979"))])
    (row,) = csv.DictReader(io.StringIO(shell("log", "show", "--format", "csv")))
    assert (row["id"], row["agent"], row["tags"], row["tokens_in"]) == ("c", "code", "team=search", "1200")
    assert row["cost"] == "0.000001979"


def test_filters_choose_by_time_tag_status_and_number(shell: Shell) -> None:
    write(
        shell.log,
        [
            call(NOW - timedelta(days=3), id="old"),
            call(NOW - timedelta(hours=3), id="docs", tags={"agent": "docs"}),
            call(NOW - timedelta(hours=2), id="bad", status="timeout", cost=None, cost_source="unknown"),
            call(NOW - timedelta(hours=1), id="new"),
        ],
    )

    def shown(*options: str) -> list[str]:
        lines = shell("log", "show", "--format", "jsonl", *options).splitlines()
        return [json.loads(line)["id"] for line in lines]

    assert shown("--last", "24h") == ["docs", "bad", "new"]
    assert shown("--until", "2026-11-20") == ["old"]
    assert shown("--where", "agent=docs") == ["docs"]
    assert shown("--status", "timeout", "--status", "error") == ["bad"]
    assert shown("-n", "2") == ["bad", "new"]
    assert shown("-n", "1", "--where", "agent=d*") == ["docs"]
    assert shown("-n", "0") == []
    assert shown("--as-of", "2026-11-21T08:00Z", "-n", "1") == ["bad"]


def test_the_index_finds_the_same_lines_of_a_long_log_in_the_same_order(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = NOW - timedelta(days=70)
    lines = calls(40, begun, timedelta(hours=43))
    lines[5] = lines[5].replace(b"\n", b"\r\n")
    lines[7:9] = [b"no record\n", b"\0\0" + call(NOW, "late", tags={"agent": "docs"}, status="error")]
    lines += [
        lines[2],
        call(begun, "c1", corrects="late", cost=Decimal("-0.001"), recorded_at="2026-11-21T09:00:00.000Z"),
    ]
    write(shell.log, [b"\xef\xbb\xbf", *lines])
    shell("log", "close")
    append_usage(shell.log, call(NOW - timedelta(hours=3), "c2", tags={"agent": "docs"}))
    with open(shell.log, "ab") as file:
        file.write(call(NOW - timedelta(hours=2), "c3").removesuffix(b"\n"))
    questions = [
        ["--last", "30d"],
        ["--where", "agent=docs"],
        ["--status", "error", "--status", "ok", "--since", "2026-10-01", "--until", "2026-11-01"],
        ["--as-of", "2026-11-21T08:00Z"],
        ["--month", "2027-01"],
    ]
    asked = [[*question, "--format", shape] for question in questions for shape in ("csv", "jsonl", "text")]
    plainly = [shell("log", "show", *each) for each in asked]
    shell("breakdown")
    monkeypatch.setattr(reading, "_PLAIN", 400)
    monkeypatch.setattr(LogReader, "entries", None)
    assert [shell("log", "show", *each) for each in asked] == plainly
    assert "are no usage records: see" in shell.err


def test_every_status_of_a_call_can_be_asked_for(shell: Shell) -> None:
    from callmeter.cli.commands.log_show import Status

    assert tuple(status.value for status in Status) == STATUSES


def test_a_report_first_finishes_the_calls_of_processes_that_died(shell: Shell, home: Path) -> None:
    child = os.fork()
    if child == 0:
        record = {"v": 1, "id": "dead", "timestamp": "2026-11-21T09:00:00.000Z", "model": "m", "estimate": Decimal(2)}
        Breadcrumb.begin(str(home / "inflight"), record, shell.log, 0).sent()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (home / "inflight" / "odd.call").write_text("no breadcrumb\n")
    assert json.loads(shell("breakdown", "--format", "json"))["total"]["cost"] == 2
    assert "odd.call" in shell.err
    assert shell("log", "show").split()[2] == "unknown"


def test_broken_lines_are_left_out_and_mentioned(shell: Shell) -> None:
    write(shell.log, [call(), b"garbage\n"])
    assert len(shell("log", "show").splitlines()) == 1
    assert "1 line is no usage record" in shell.err and "log verify" in shell.err
    shell("log", "show", "-q")
    assert shell.err == ""


def test_a_log_that_is_not_there_is_an_error_only_if_it_was_named(shell: Shell) -> None:
    assert shell("log", "show") == ""
    shell("log", "show", "--log", "nowhere.jsonl", status=2)
    assert "there is no usage log nowhere.jsonl" in shell.err


def test_showing_stops_quietly_when_its_reader_goes_away(run_callmeter: Run, home: Path, start: Start) -> None:
    write(home / "usage.jsonl", calls(20_000, NOW, timedelta(seconds=1)))
    process = start("callmeter", "budget", "log", "show")
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith(b"11-21 09:30:00")
    process.stdout.close()
    assert process.wait(120) == 141
    assert process.stderr.read() == b""


def following(start: Start, home: Path, *options: str) -> subprocess.Popen[bytes]:
    write(home / "usage.jsonl", calls(30, NOW - timedelta(days=60)))
    # Unbuffered, so that `select` tells whether a line is there.
    return start("callmeter", "budget", "log", "show", "--follow", "--format", "jsonl", *options, bufsize=0)


def next_id(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 30)[0], "nothing came"
    return str(json.loads(process.stdout.readline())["id"])


def test_following_shows_what_is_written_even_after_the_log_was_closed(
    home: Path, start: Start, run_callmeter: Run
) -> None:
    log = str(home / "usage.jsonl")
    process = following(start, home, "-n", "1")
    next_id(process)
    append_usage(log, call(id="one"))
    assert next_id(process) == "one"
    assert run_callmeter("budget", "log", "close").returncode == 0
    append_usage(log, call(id="two"))
    assert next_id(process) == "two"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_following_shows_the_last_ten_calls_first(home: Path, start: Start) -> None:
    process = following(start, home)
    for _ in range(10):
        next_id(process)
    append_usage(str(home / "usage.jsonl"), call(id="next"))
    assert next_id(process) == "next"


def test_following_ends_when_its_reader_goes_away_though_nothing_is_written(home: Path, start: Start) -> None:
    process = following(start, home, "-n", "1")
    next_id(process)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(120) == 141
    assert process.stderr.read() == b""


def test_following_wants_a_format_without_an_end(shell: Shell) -> None:
    shell("log", "show", "--follow", "--format", "csv", status=2)
    assert "--format jsonl" in shell.err


def test_a_sound_log_is_verified_with_its_counts(shell: Shell) -> None:
    write(shell.log, [*calls(5, NOW), call(id="c", corrects="x"), call(id="x")])
    found = json.loads(shell("log", "verify", "--format", "json"))
    assert found["rows"] == []
    facts = found["facts"]
    assert (facts["lines"], facts["calls"], facts["corrections"], facts["files"]) == (7, 7, 1, [shell.log])
    assert (facts["first"], facts["last"]) == ("2026-11-21T09:30:00.000Z", "2026-11-21T13:30:00.000Z")


def test_every_fault_of_a_log_is_named_with_its_place(shell: Shell) -> None:
    lines = [call(id="a"), b"garbage\n", call(id="a"), call(id="c", corrects="gone"), call(id="d")[:-30]]
    write(shell.log, lines)
    found = json.loads(shell("log", "verify", "--format", "json", status=3))
    rows = [(row["fault"], row["place"]) for row in found["rows"]]
    assert rows == [
        ("bad line", f"{shell.log}:2"),
        ("duplicate", f"{shell.log}:3"),
        ("torn tail", shell.log),
        ("lost original", ""),
    ]
    assert "gone" in found["rows"][3]["reason"]
    assert {found["facts"][name] for name in ("bad_lines", "duplicates", "torn_tails", "lost_originals")} == {1}
    error = json.loads(shell.err)
    assert (error["error"], error["exit_status"]) == ("log_faults", 3)
    assert f"{shell.log}:2" in shell("log", "verify", columns=200, status=3)


def test_closing_and_pruning_say_nothing_to_cron_and_are_audited(shell: Shell) -> None:
    write(shell.log, [*calls(3, OCTOBER), call(id="now")])
    assert shell("log", "close") == "" and shell.err == ""
    assert shell("log", "close", "-v") == "" and "nothing to close" in shell.err
    assert len(shell("log", "show").splitlines()) == 4
    shell.now += timedelta(days=500)
    assert "usage-2026-10.jsonl.zst" in shell("log", "prune", "--dry-run")
    assert len(shell("log", "show").splitlines()) == 4
    assert shell("log", "prune", "-v") == "" and "deleted usage-2026-10.jsonl.zst: 3 lines" in shell.err
    assert len(shell("log", "show").splitlines()) == 1
    events = [json.loads(line) for line in shell("audit", "show", "--format", "jsonl").splitlines()]
    assert [event["event"] for event in events] == ["log.close", "log.prune"]
    assert all("@" in event["by"] for event in events)
    shell("audit", "verify")


def test_what_is_closed_can_be_chosen(shell: Shell) -> None:
    write(shell.log, [*calls(3, OCTOBER), *calls(2, NOW - timedelta(days=7)), call(id="now")])
    report = json.loads(shell("log", "close", "--before", "2026-11-20", "--format", "json"))
    assert [(row["segment"], row["lines"]) for row in report["rows"]] == [
        ("usage-2026-10.jsonl.zst", 3),
        ("usage-2026-11.jsonl.zst", 2),
    ]
    report = json.loads(shell("log", "close", "--all", "--format", "json"))
    assert [(row["segment"], row["lines"]) for row in report["rows"]] == [("usage-2026-11.2.jsonl.zst", 1)]
    shell("log", "close", "--all", "--before", "2026-11-20", status=2)
    shell("log", "close", "--log", "hosts/*/usage.jsonl", status=2)
    assert "glob" in shell.err
    for action in ("close", "prune"):
        shell("log", action, "--log", "usage-2026-10.jsonl.zst", status=2)
        assert "not named like a log" in shell.err


def test_less_than_ninety_days_need_force(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(shell.log, calls(3, OCTOBER))
    shell("log", "close")
    shell("log", "prune", "--keep", "30d", status=2)
    assert "90" in shell.err and "--force" in shell.err
    (home / "config.toml").write_text("retention_days = 30\n")
    shell("log", "prune", status=2)
    assert len(shell("log", "show").splitlines()) == 3
    shell("log", "prune", "--force")
    assert shell("log", "show") == ""


@pytest.mark.parametrize("keep", ["", "d", "ten", "-90d", "90.5d", "1_00d", "１００d", "90m", "999999d"])
def test_a_retention_that_is_no_number_of_days_is_refused(shell: Shell, keep: str) -> None:
    shell("log", "prune", f"--keep={keep}", status=2)
    assert "write `--keep 400d`" in shell.err


def test_the_audit_log_can_be_filtered(shell: Shell) -> None:
    for day, event in ((1, "key.add"), (2, "key.remove"), (3, "log.prune")):
        append_event(shell.audit, event, NOW - timedelta(days=day), "ann@host", {"key": f"k{day}"})

    def shown(*options: str) -> list[str]:
        lines = shell("audit", "show", "--format", "jsonl", *options).splitlines()
        return [json.loads(line)["event"] for line in lines]

    assert shown() == ["key.add", "key.remove", "log.prune"]
    assert shown("--event", "key.*") == ["key.add", "key.remove"]
    assert shown("-n", "1") == ["log.prune"]
    assert shown("--last", "36h") == ["key.add"]
    assert "ann@host" in shell("audit", "show")


def test_the_head_that_verify_prints_is_an_anchor_for_the_next_time(shell: Shell) -> None:
    append_event(shell.audit, "key.add", NOW, "ann", {})
    head = shell("audit", "verify").splitlines()[-1].removeprefix("head ")
    for _ in range(3):
        append_event(shell.audit, "key.add", NOW, "ann", {})
    assert "2 anchors held, 1 of them given" in shell("audit", "verify", "--anchor", head)
    os.unlink(shell.audit)
    for _ in range(4):
        append_event(shell.audit, "key.add", NOW, "mallory", {})
    assert "whoever can write the log could have written all of it anew" in shell("audit", "verify", columns=300)
    assert "ANCHOR" in shell("audit", "verify", "--anchor", head, status=3)
    assert "was tampered with" in shell.err


def test_the_usage_log_holds_anchors_so_that_a_log_made_anew_shows(shell: Shell) -> None:
    kept = append_event(shell.audit, "key.add", NOW, "ann", {})
    line = {"v": 1, "timestamp": "2026-11-21T09:30:00.000Z", "model": "m", "audit": f"{kept.seq}:{kept.hash[:16]}"}
    Path(shell.log).write_text("".join(json.dumps({**line, "id": str(number)}) + "\n" for number in range(3)))
    assert "2 anchors held" in shell("audit", "verify")
    os.unlink(shell.audit)
    append_event(shell.audit, "key.add", NOW, "mallory", {})
    assert "ANCHOR" in shell("audit", "verify", status=3)


def test_a_tag_that_looks_like_an_anchor_is_none(shell: Shell) -> None:
    append_event(shell.audit, "key.add", NOW, "ann", {})
    tags = {"audit": "1:0123456789abcdef"}
    line = {"v": 1, "id": "1", "timestamp": "2026-11-21T09:30:00.000Z", "model": "m", "tags": tags}
    Path(shell.log).write_text(json.dumps(line, separators=(",", ":")) + "\n")
    assert "1 event; 1 anchor held" in shell("audit", "verify")


def test_head_prints_the_anchor_that_verify_takes(shell: Shell) -> None:
    assert shell("audit", "head") == ""
    append_event(shell.audit, "key.add", NOW, "ann", {})
    head = shell("audit", "head").strip()
    assert "1 of them given" in shell("audit", "verify", "--anchor", head)
    assert json.loads(shell("audit", "head", "--json"))["seq"] == 1


def test_an_unreadable_audit_log_is_malformed_and_a_torn_one_is_not_tampered_with(shell: Shell) -> None:
    assert "0 events" in shell("audit", "verify")
    append_event(shell.audit, "key.add", NOW, "ann", {})
    with open(shell.audit, "ab") as file:
        file.write(b'{"seq":2,')
    assert "TORN" in shell("audit", "verify")
    Path(head_of(shell.audit)).write_text("nonsense")
    shell("audit", "verify", status=5)
    shell("audit", "verify", "--anchor", "nonsense", status=5)
    os.unlink(shell.audit)
    os.mkdir(shell.audit)
    shell("audit", "verify", status=5)
