"""A clock that was ahead and is right again, as a person who mends it sees it; over SQLite and PostgreSQL."""
# ruff: noqa: F401 - fixtures are imported, and then asked for by name

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from ledger_engines import new_database, server
from servers.counting import COST, CountingServer

NOW = 1_795_255_800  # 2026-11-21 10:10 UTC
AHEAD = NOW + 70 * 86_400
At = Callable[..., Result]
CALL = ("llm-call", "-q", "-m", "openai/gpt-4o-mini", "--max-tokens", "96", "--agent", "a", "--session", "s", "hello")


@pytest.fixture(params=["sqlite", "postgres"])
def at(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[At]:
    """Run a command at a time of the clock."""
    monkeypatch.setenv("CALLMETER_API_KEY", "sk-test-0123456789abcdef")
    if request.param == "postgres":
        monkeypatch.setenv("CALLMETER_LEDGER", new_database(request.getfixturevalue("server")))
    quotas = [
        {"subject": "total", "limit": 1, "period": "month"},
        {"subject": "agent:a", "limit": 5, "period": "day"},
        {"subject": "session:*", "limit": 5, "period": "life"},
    ]
    (home / "budget.json").write_text(json.dumps({"enforcement": "hard", "quotas": quotas}))
    with CountingServer() as model:
        monkeypatch.setenv("CALLMETER_BASE_URL", model.base_url)
        yield lambda when, *arguments: CliRunner().invoke(app, list(arguments), obj=World(clock=lambda: when))


def used(at: At, when: int) -> object:
    """What the tightest quota of money counts."""
    return json.loads(at(when, "budget", "quota", "left", "--agent", "a", "--json").stdout)["usd"]["used"]


def test_a_clock_that_was_ahead_is_accepted_once_and_for_all(at: At, home: Path) -> None:
    assert at(NOW, *CALL).exit_code == 0
    assert at(AHEAD, *CALL).exit_code == 0
    stopped = at(NOW + 60, *CALL)
    assert stopped.exit_code == 7
    assert "the clock went back" in stopped.stderr and "`callmeter budget recover --accept-clock`" in stopped.stderr
    accepted = at(NOW + 60, "budget", "recover", "--accept-clock", "-v")
    assert accepted.stderr == "callmeter: windows of the future dropped: 2\n"
    assert at(NOW + 90, *CALL).exit_code == 0
    assert at(NOW + 90, "budget", "recover", "--check").exit_code == 0
    # Counting anew, also for a policy that was changed, does not bring the future back.
    assert at(NOW + 90, "budget", "recover", "--rebuild").exit_code == 0
    policy = json.loads((home / "budget.json").read_text())
    policy["quotas"][0]["period"] = "week"
    (home / "budget.json").write_text(json.dumps(policy))
    assert at(NOW + 100, *CALL).exit_code == 0
    assert at(NOW + 100, "budget", "recover", "--check").exit_code == 0
    assert used(at, NOW + 100) == pytest.approx(3 * float(COST))


def test_lines_of_the_future_count_when_it_has_come(at: At) -> None:
    at(AHEAD, *CALL)
    at(NOW, "budget", "recover", "--accept-clock")
    assert at(NOW, *CALL).exit_code == 0
    assert used(at, NOW) == pytest.approx(float(COST))
    assert at(AHEAD + 60, "budget", "recover").exit_code == 0
    assert used(at, AHEAD + 60) == pytest.approx(float(COST))
    assert at(AHEAD + 60, "budget", "recover", "--check").exit_code == 0


def test_a_clock_that_is_behind_forgets_nothing_that_was_spent(at: At) -> None:
    """Nobody accepted it: counting anew under a wrong clock keeps today's spending."""
    assert at(NOW, *CALL).exit_code == 0
    yesterday = NOW - 86_400
    assert at(yesterday, "budget", "recover", "--rebuild").exit_code == 0
    assert at(yesterday, *CALL).exit_code == 7
    assert used(at, NOW + 5) == pytest.approx(float(COST))
