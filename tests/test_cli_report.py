"""`budget report` as it is run: by people, into files, by cron, by mail."""

from __future__ import annotations

import csv
import email
import email.policy
import io
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.message import EmailMessage
from pathlib import Path

import pytest
from typer.testing import CliRunner

from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.exchange import mail
from conftest import SCRIPTS, Run
from usage_lines import call, write

MONDAY = datetime(2026, 11, 9, tzinfo=UTC)
DAY = timedelta(days=1)
AS_OF = ("--as-of", "2026-11-16T06:30")
HOSTILE = '"><img src=x onerror=alert(1)>'


@pytest.fixture
def log(home: Path) -> str:
    """Four weeks of calls by three agents, one of whom has a hostile name."""
    lines = [
        call(
            MONDAY + timedelta(hours=8 + 5 * (number % 3)) + (number // 3 - 21) * DAY,
            tags={"agent": ("code", "docs", HOSTILE)[number % 3], "purpose": "=cmd|' /C calc'!A0", "work_item": "S-1"},
            cost=Decimal(number + 1).scaleb(-2),
        )
        for number in range(84)
    ]
    return write(home / "usage.jsonl", lines)


SENDMAIL = """#!/bin/sh
printf '%s\\n' "$@" > "$MAILED/arguments"
env > "$MAILED/environment"
cat > "$MAILED/letter"
echo "sendmail talks" >&2
echo "and talks"
exit "$(cat "$MAILED/status" 2>/dev/null || echo 0)"
"""


class Mailed:
    """What the fake sendmail was given."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.bin.mkdir(parents=True)
        program = self.bin / "sendmail"
        program.write_text(SENDMAIL.replace("$MAILED", str(directory)))
        program.chmod(0o755)

    @property
    def arguments(self) -> list[str]:
        return (self.directory / "arguments").read_text().splitlines()

    @property
    def environment(self) -> str:
        return (self.directory / "environment").read_text()

    @property
    def letter(self) -> EmailMessage:
        found = email.message_from_bytes((self.directory / "letter").read_bytes(), policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        return found

    @property
    def nothing(self) -> bool:
        return not (self.directory / "letter").exists()


@pytest.fixture
def mailed(tmp_path: Path) -> Mailed:
    return Mailed(tmp_path / "mail")


def path_with(mailed: Mailed) -> str:
    return f"{mailed.bin}{os.pathsep}{SCRIPTS}{os.pathsep}/usr/bin{os.pathsep}/bin"


# On stdout


def test_what_cron_mails_is_plain_ascii(home: Path, run_callmeter: Run) -> None:
    """Cron says that its mail is in the locale's letters, which without one are those of ASCII."""
    lines = []
    for number in range(42):
        dear = 10 if number == 37 else 1
        tokens = {"in": 1000, "out": 100}
        for hour in range(6 * dear):
            at = MONDAY + (number - 35) * DAY + timedelta(hours=8, minutes=hour)
            lines.append(call(at, tags={"agent": "code"}, tokens=tokens, cost=Decimal(1)))
            price = Decimal(1 if number < 38 else 4)
            lines.append(call(at, model="other", tags={"agent": "docs"}, tokens=tokens, cost=price))
    agents = [{"agent": agent} for agent in "abcde"]
    lines += [call(MONDAY + DAY, model="new", tags=each, cost=Decimal(2)) for each in agents]
    write(home / "usage.jsonl", lines)
    text = run_callmeter("budget", "report", *AS_OF).stdout
    for finding in ("spike  ", "price change  ", "new model  "):
        assert f"\n{finding}" in text
    assert text.isascii(), [line for line in text.splitlines() if not line.isascii()]


def test_text_is_plain_and_fits_a_mail(run_callmeter: Run, log: str) -> None:
    done = run_callmeter("budget", "report", "--weekly", *AS_OF)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "Review of week 46 of 2026, 9 to 15 November"
    assert lines[2] == "Week 46 cost $15.54 in 21 calls: $4.41 (40%) more than week 45."
    assert max(map(len, lines)) <= 78
    assert "\x1b" not in done.stdout
    assert lines == [line.rstrip() for line in lines]


def test_cron_with_its_empty_environment_gets_the_same(
    run_callmeter: Run, log: str, home: Path, tmp_path: Path
) -> None:
    usual = run_callmeter("budget", "report", *AS_OF)
    state = tmp_path / "cron" / ".local" / "state" / "callmeter"
    state.mkdir(parents=True)
    (state / "usage.jsonl").write_bytes(Path(log).read_bytes())
    bare = dict.fromkeys(os.environ) | {"CALLMETER_HOME": None, "LANG": None, "TZ": None}
    done = run_callmeter(
        "budget", "report", *AS_OF, env={**bare, "HOME": str(tmp_path / "cron"), "PATH": "/usr/bin:/bin"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == usual.stdout


def test_the_week_the_month_and_the_day_are_named(run_callmeter: Run, log: str) -> None:
    titles = [
        run_callmeter("budget", "report", flag, *AS_OF).stdout.splitlines()[0]
        for flag in ("--weekly", "--monthly", "--daily")
    ]
    assert titles == [
        "Review of week 46 of 2026, 9 to 15 November",
        "Review of October 2026",
        "Review of Sunday 15 November 2026",
    ]


def test_two_kinds_of_time_contradict_each_other(run_callmeter: Run, home: Path) -> None:
    assert run_callmeter("budget", "report", "--weekly", "--daily").returncode == 2


def test_nothing_at_all_reads_well(run_callmeter: Run, home: Path) -> None:
    done = run_callmeter("budget", "report", *AS_OF)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Review of week 46 of 2026, 9 to 15 November\n\nNo calls in week 46.\n"


def test_a_log_that_is_not_there_is_an_error(run_callmeter: Run, home: Path) -> None:
    done = run_callmeter("budget", "report", "--log", str(home / "other.jsonl"), *AS_OF)
    assert done.returncode == 2
    assert "there is no usage log" in done.stderr


def test_json_has_every_section_and_sums_that_add_up(run_callmeter: Run, log: str) -> None:
    found = json.loads(run_callmeter("budget", "report", "--format", "json", *AS_OF).stdout, parse_float=Decimal)
    assert found["facts"]["name"] == "2026-W46"
    assert found["facts"]["cost"] == Decimal("15.54")
    sections = found["sections"]
    assert {"course", "parts", "why", "agents", "purposes", "models", "work_items", "origin", "forecast"} <= set(
        sections
    )
    assert sum(row["cost"] for row in sections["agents"]["rows"]) == Decimal("15.54")
    assert sum(row["difference"] for row in sections["why"]["rows"]) == sections["why"]["total"]["difference"]
    assert sections["why"]["total"]["difference"] == Decimal("4.41")


def test_csv_cells_cannot_become_formulas(run_callmeter: Run, log: str) -> None:
    done = run_callmeter("budget", "report", "--format", "csv", *AS_OF)
    cells = [cell for line in csv.reader(io.StringIO(done.stdout)) for cell in line]
    assert any("calc" in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith("=")]


def test_markdown_shows_names_as_they_are(run_callmeter: Run, log: str) -> None:
    done = run_callmeter("budget", "report", "--format", "markdown", *AS_OF)
    assert done.stdout.startswith("## Review of week 46 of 2026, 9 to 15 November\n\nWeek 46 cost $15.54")
    assert "<img" not in done.stdout
    assert "&lt;img src=x onerror=alert(1)&gt;" in done.stdout


def test_html_holds_no_markup_from_the_log(run_callmeter: Run, log: str) -> None:
    page = run_callmeter("budget", "report", "--format", "html", *AS_OF).stdout
    assert page.startswith("<!DOCTYPE html>")
    assert "<img" not in page
    assert "<script" not in page.lower()
    assert "&#34;&gt;&lt;img src=x onerror=alert(1)&gt;" in page
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "http:" not in page
    assert "https:" not in page


def test_the_same_log_makes_the_same_page(run_callmeter: Run, log: str) -> None:
    first, second = (run_callmeter("budget", "report", "--format", "html", *AS_OF).stdout for _ in range(2))
    assert first == second


# What it rests on besides the log


def test_what_was_decided_and_which_keys_are_old_is_told(run_callmeter: Run, log: str, home: Path) -> None:
    (home / "budget.json").write_text('{"version": 1, "quotas": [{"subject": "agent:code", "limit": 1}]}')
    asked = run_callmeter("budget", "request", "agent:code", "2", "--reason", "more tests")
    assert asked.returncode == 0, asked.stderr
    added = run_callmeter("budget", "keys", "add", "code", "--expires", "3d", input="sk-or-v1-" + "7" * 64)
    assert added.returncode == 0, added.stderr
    day = json.loads((home / "audit.jsonl").read_bytes().splitlines()[0])["at"][:10]
    done = run_callmeter("budget", "report", "--daily", "--as-of", day)
    assert "asked for" in done.stdout
    assert "more tests" in done.stdout
    assert "1 key to rotate: code@openrouter." in done.stdout


def test_a_freeze_of_today_is_not_told_of_an_earlier_week(run_callmeter: Run, log: str) -> None:
    assert run_callmeter("budget", "freeze", "agent:code", "--reason", "a loop").returncode == 0
    assert "Frozen now: agent:code." in run_callmeter("budget", "report").stdout
    assert "Frozen" not in run_callmeter("budget", "report", *AS_OF).stdout


def test_a_new_price_is_news_of_one_week(run_callmeter: Run, home: Path) -> None:
    lines = []
    for number in range(56):
        for hour in range(8, 20):
            at = MONDAY + (number - 49) * DAY + timedelta(hours=hour)
            tags = {"agent": "code", "session": f"s-{number}"}
            lines.append(call(at, tags=tags, cost=Decimal("0.9") if number >= 40 else Decimal("0.3")))
    lines += [
        call(MONDAY + timedelta(hours=9, minutes=n), tags={"agent": "docs", "session": f"d-{n}"}, model="new", cost=1)
        for n in range(3)
    ]
    write(home / "usage.jsonl", lines)
    found = json.loads(run_callmeter("budget", "report", *AS_OF, "--format", "json").stdout)
    kinds = [row["finding"] for row in found["sections"]["anomalies"]["rows"]]
    assert kinds == ["new model"]
    assert any(line.startswith("New model: model:new, 2026-11-09, ") for line in found["lead"])
    done = run_callmeter("budget", "report", "--as-of", "2026-11-03")
    assert "\nprice change  model:" in done.stdout


def test_a_broken_part_is_left_out_and_named(run_callmeter: Run, log: str, home: Path) -> None:
    (home / "keys.toml").write_text("version = 9\n")
    done = run_callmeter("budget", "report", *AS_OF)
    assert done.returncode == 0
    assert "Keys are left out:" in done.stdout


def test_its_forecast_is_kept_and_graded_when_its_week_is_over(run_callmeter: Run, log: str, home: Path) -> None:
    said = {
        "v": 1,
        "made_at": "2026-11-08T06:00:00.000Z",
        "horizon": "next-week",
        "first": "2026-11-09",
        "last": "2026-11-15",
        "by": {},
        **dict.fromkeys(("expected", "median"), 15),
        "low_80": 13,
        "high_80": 17,
        "low_95": 12,
        "high_95": 19,
    }
    (home / "forecasts.jsonl").write_text(json.dumps(said) + "\n")
    done = run_callmeter("budget", "report", *AS_OF)
    assert "How the last forecasts did" in done.stdout
    assert "it came to $15.54: inside." in " ".join(done.stdout.split())
    assert "at their worst case" not in done.stdout
    board = json.loads(run_callmeter("budget", "report", *AS_OF, "--format", "json").stdout, parse_float=Decimal)
    (row,) = board["sections"]["grades"]["rows"]
    assert (row["first"], row["last"], row["verdict"]) == ("2026-11-09", "2026-11-15", "inside")
    figures = ("expected", "low_80", "high_80", "outcome", "difference")
    assert [row[name] for name in figures] == [15, 13, 17, Decimal("15.54"), Decimal("0.54")]
    with Path(log).open("ab") as lines:
        lines.write(call(MONDAY, cost=None, cost_source="unknown", estimate=Decimal(1)))
    done = run_callmeter("budget", "report", *AS_OF)
    assert "it came to $16.54: inside." in " ".join(done.stdout.split())
    assert "Calls of unknown cost are in what it came to, at their worst case." in done.stdout


def test_a_provider_whose_name_no_file_can_have_stops_nobody(run_callmeter: Run, log: str) -> None:
    with Path(log).open("ab") as lines:
        lines.write(call(MONDAY, provider="fournisseur préféré"))
    done = run_callmeter("budget", "report", *AS_OF, env={"LC_ALL": "POSIX", "PYTHONUTF8": "0"})
    assert (done.returncode, done.stderr) == (0, "")


# Into a file


def test_a_file_is_put_there_at_once_and_nothing_is_printed(run_callmeter: Run, log: str, tmp_path: Path) -> None:
    path = tmp_path / "week.html"
    done = run_callmeter("budget", "report", "--out", path, *AS_OF)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert os.listdir(tmp_path / "home") and [each for each in os.listdir(tmp_path) if each.startswith(".")] == []


def test_the_files_ending_says_the_shape(run_callmeter: Run, log: str, tmp_path: Path) -> None:
    beginnings = {"txt": "Review of", "md": "## Review", "html": "<!DOCTYPE", "json": '{"title"', "csv": '"section"'}
    for ending, beginning in beginnings.items():
        assert run_callmeter("budget", "report", "--out", tmp_path / f"week.{ending}", *AS_OF).returncode == 0
        assert (tmp_path / f"week.{ending}").read_text().startswith(beginning)


def test_a_new_file_has_the_umasks_mode_and_an_old_one_keeps_its_own(
    run_callmeter: Run, log: str, tmp_path: Path
) -> None:
    path = tmp_path / "week.txt"
    old = os.umask(0o027)
    try:
        run_callmeter("budget", "report", "--out", path, *AS_OF)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        run_callmeter("budget", "report", "--out", path, *AS_OF)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@pytest.mark.parametrize("name", ["week", "none/week.txt", "."])
def test_a_file_without_a_shape_or_a_place_is_refused_before_the_work(
    run_callmeter: Run, log: str, tmp_path: Path, name: str
) -> None:
    done = run_callmeter("budget", "report", "--out", tmp_path / name, *AS_OF)
    assert done.returncode == 2
    assert "hint" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_device_or_a_pipe_is_refused_before_the_work_and_stays(run_callmeter: Run, log: str, tmp_path: Path) -> None:
    pipe = tmp_path / "week.txt"
    os.mkfifo(pipe)
    done = run_callmeter("budget", "report", "--out", pipe, *AS_OF)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--out {pipe} is no file" in done.stderr
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_stays_one_and_what_it_points_to_is_replaced(run_callmeter: Run, log: str, tmp_path: Path) -> None:
    link, target = tmp_path / "latest.txt", tmp_path / "week.txt"
    target.write_text("old")
    link.symlink_to(target)
    assert run_callmeter("budget", "report", "--out", link, *AS_OF).returncode == 0
    assert link.is_symlink()
    assert target.read_text().startswith("Review of")


# By mail


def test_a_mail_has_text_and_html_and_proper_headers(run_callmeter: Run, log: str, mailed: Mailed) -> None:
    done = run_callmeter(
        "budget", "report", "--mail-to", "team@example.org", "--mail-to", "boss@example.org", *AS_OF,
        env={"PATH": path_with(mailed), "OPENROUTER_API_KEY": "sk-or-v1-secret"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    letter = mailed.letter
    assert mailed.arguments == ["-i", "--", "team@example.org", "boss@example.org"]
    assert letter["To"] == "team@example.org, boss@example.org"
    assert letter["Subject"] == "LLM spend 2026-W46: 15.54 USD (+40%)"
    assert letter["From"].addresses[0].display_name == "callmeter"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["Date"].datetime.tzinfo is not None
    assert "@" in letter["Message-ID"]
    assert letter.get_content_type() == "multipart/alternative"
    text, html = letter.iter_parts()
    assert isinstance(text, EmailMessage) and isinstance(html, EmailMessage)
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert text.get_content() == run_callmeter("budget", "report", *AS_OF).stdout
    assert html.get_content() == run_callmeter("budget", "report", "--format", "html", *AS_OF).stdout
    assert not [defect for part in letter.walk() for defect in part.defects]
    assert max(map(len, (mailed.directory / "letter").read_bytes().splitlines())) <= 998
    assert "sk-or-v1" not in mailed.environment


@pytest.mark.parametrize(
    "address",
    [
        "team@example.org\nBcc: all@example.org",
        "team@example.org\r\nX: y",
        "team@example.org, all@example.org",
        "-oQ/tmp@example.org",
        "|touch pwned",
        "/etc/passwd",
        "Team <team@example.org>",
        "team@example..org",
        "team@",
        "a%b@example.org",
        "tëam@example.org",
        "",
        "a" * 300 + "@example.org",
    ],
)
def test_what_is_not_one_plain_address_is_refused(run_callmeter: Run, log: str, mailed: Mailed, address: str) -> None:
    done = run_callmeter("budget", "report", "--mail-to", address, *AS_OF, env={"PATH": path_with(mailed)})
    assert done.returncode == 2
    assert mailed.nothing


def test_a_local_users_name_is_an_address(run_callmeter: Run, log: str, mailed: Mailed) -> None:
    done = run_callmeter("budget", "report", "--mail-to", "root", *AS_OF, env={"PATH": path_with(mailed)})
    assert done.returncode == 0
    assert mailed.letter["To"] == "root"


def test_a_sendmail_that_fails_gives_status_7_and_its_reason(run_callmeter: Run, log: str, mailed: Mailed) -> None:
    (mailed.directory / "status").write_text("75")
    done = run_callmeter("budget", "report", "--mail-to", "root", *AS_OF, env={"PATH": path_with(mailed)})
    assert done.returncode == 7
    assert "ended with status 75: sendmail talks" in done.stderr
    assert done.stdout == ""


def test_a_machine_without_sendmail_says_so(log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "_PLACES", ())  # whatever this machine has there
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(app, ["budget", "report", "--mail-to", "root", *AS_OF], obj=World())
    assert done.exit_code == 7
    assert "no sendmail" in done.stderr


def test_mail_and_a_shape_contradict_each_other_without_a_file(
    run_callmeter: Run, log: str, mailed: Mailed, tmp_path: Path
) -> None:
    arguments = ("budget", "report", "--mail-to", "root", "--format", "json", *AS_OF)
    assert run_callmeter(*arguments, env={"PATH": path_with(mailed)}).returncode == 2
    done = run_callmeter(*arguments, "--out", tmp_path / "week", env={"PATH": path_with(mailed)})
    assert done.returncode == 0
    assert json.loads((tmp_path / "week").read_text())["facts"]["name"] == "2026-W46"
    assert mailed.letter.get_content_type() == "multipart/alternative"
