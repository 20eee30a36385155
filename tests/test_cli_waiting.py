"""What a person sees while a report reads a long log, and nobody else does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from callmeter.store import index_text
from callmeter.store.files import Lock
from callmeter.store.index import UsageIndex
from terminal import Terminal
from usage_lines import NOW, calls, write

WAITING = "waiting for another report, which reads the usage log"


@pytest.fixture
def log(home: Path) -> Path:
    path = home / "usage.jsonl"
    write(str(path), calls(50, NOW - timedelta(days=3)))
    (home / "index").mkdir()
    return path


@pytest.fixture
def busy(home: Path, log: Path) -> Iterator[ExitStack]:
    """The index as it is while another report builds it; until this is closed."""
    with ExitStack() as stack:
        stack.enter_context(Lock(str(home / "index" / "lock")))
        yield stack


def test_who_waits_for_another_report_is_told_and_then_sees_the_report_alone(
    home: Path, busy: ExitStack, environment: dict[str, str]
) -> None:
    command = "TERM=xterm callmeter budget breakdown --by-agent; echo done; read -r end"
    with Terminal(["sh", "-c", command], environment, home) as terminal:
        assert "\n" not in terminal.wait_for(WAITING)
        busy.close()
        *passed, report = terminal.wait_for("done").split("\r\x1b[2K")
        assert "\n" not in "".join(passed) and "Cost by agent" in report and "$0.48" in report


def test_what_goes_on_fits_the_window_although_the_report_goes_elsewhere(
    home: Path, busy: ExitStack, environment: dict[str, str]
) -> None:
    command = "read -r start; unset COLUMNS; TERM=xterm callmeter budget breakdown | cat; echo done; read -r end"
    with Terminal(["sh", "-c", command], environment, home) as terminal:
        terminal.resize(30, 20)
        terminal.type("\n")
        terminal.wait_for(WAITING[:29])
        busy.close()
        assert not terminal.wait_for("done").startswith(WAITING[29])


@pytest.mark.parametrize("how", ["TERM=xterm callmeter -q", "TERM=dumb callmeter", "2>&1 callmeter | cat; :"])
def test_what_goes_on_is_not_told_where_it_could_not_be_taken_back(
    how: str, home: Path, busy: ExitStack, environment: dict[str, str]
) -> None:
    command = how.replace("callmeter", "callmeter budget breakdown")
    with (
        Terminal(["sh", "-c", f"{command}; echo done; read -r end"], environment, home) as terminal,
        Terminal(["sh", "-c", "TERM=xterm callmeter budget breakdown"], environment, home) as told,
    ):
        told.wait_for(WAITING)
        busy.close()
        report = terminal.wait_for("done")
        assert "$0.48" in report and "waiting" not in report and "\x1b[2K" not in report


def test_how_much_of_a_log_is_read_is_told_as_it_goes(home: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_text, "_PIECE", 500)
    monkeypatch.setattr(index_text, "CHUNK", 100)
    subprocess.run(["gzip", "-k", str(log)], check=True)
    log.rename(home / "other.jsonl")
    told: list[str] = []
    index = UsageIndex([str(home / "*.jsonl*")], str(home / "index"), UTC, tell=told.append)
    assert index.groups()[0][1].calls == 50
    assert told[-1] == "adding up the usage log"
    shares = [int(text.removeprefix("reading the usage log: ").partition("%")[0]) for text in told[:-1]]
    assert shares == sorted(shares) and len(set(shares)) > 10 and shares[0] >= 0 and shares[-1] <= 100
