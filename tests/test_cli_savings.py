"""`budget savings` over a log on disk, at the shipped prices and one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from log_text import at
from usage_lines import call as line
from usage_lines import write

NOW = "2026-11-21T15:00Z"
SONNET, MINI = "anthropic/claude-3.5-sonnet", "openai/gpt-4o-mini"
Call = Callable[..., Result]


@pytest.fixture
def call(home: Path) -> Call:
    """Run the command at NOW."""

    def invoke(*arguments: str, command: str = "savings") -> Result:
        world = World(clock=lambda: at(NOW).timestamp())
        return CliRunner().invoke(app, ["budget", command, *arguments], obj=world)

    return invoke


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout, parse_float=Decimal)["rows"])


def calls(home: Path, days_ago: float, count: int = 1, **fields: Any) -> None:
    """Calls of 1,200 tokens in and 400 out, at the price of SONNET: 0.0096 USD each."""
    first = at(NOW) - timedelta(days=days_ago)
    lines = [line(first + timedelta(seconds=number), **fields) for number in range(count)]
    path = home / "usage.jsonl"
    before = [path.read_bytes()] if path.exists() else []
    write(path, [*before, *lines])


def test_a_cheaper_model_of_the_policys_list_is_priced_by_the_shipped_table(call: Call, home: Path) -> None:
    calls(home, 3, 10)
    (home / "budget.json").write_text(json.dumps({"version": 1, "models": [SONNET, MINI]}))
    (row,) = [each for each in rows(call("--format", "json")) if each["row"] == "group"]
    # 1,200 tokens at 0.15 and 400 at 0.60 USD a million.
    assert (row["what"], row["calls"], row["saved"]) == (
        f"{SONNET} to {MINI}",
        10,
        10 * (Decimal("0.0096") - Decimal("0.00042")),
    )
    assert row["act"] == f"llm-call --model {MINI} --purpose triage"


def test_ones_own_price_goes_before_the_table(call: Call, home: Path) -> None:
    calls(home, 3)
    (home / "prices.toml").write_text(f'[openrouter."{MINI}"]\ninput = 1\noutput = 1\n')
    (row,) = rows(call("--to", MINI, "--format", "json"))
    assert row["saved"] == Decimal("0.0096") - Decimal("0.0016")


def test_a_price_of_ones_own_holds_from_its_day_on(call: Call, home: Path) -> None:
    calls(home, 25)
    calls(home, 12)
    (home / "prices.toml").write_text(f'[openrouter."{MINI}"]\ninput = 1\noutput = 1\nfrom = 2026-11-05\n')
    (row,) = rows(call("--to", MINI, "--format", "json"))
    assert (row["calls"], row["saved"]) == (2, 2 * Decimal("0.0096") - Decimal("0.00042") - Decimal("0.0016"))


def test_without_a_period_it_is_the_last_30_days(call: Call, home: Path) -> None:
    calls(home, 31)
    assert rows(call("--to", MINI, "--format", "json")) == []
    assert len(rows(call("--to", MINI, "--last", "60d", "--format", "json"))) == 1


def test_a_young_log_says_from_how_much_a_month_is_guessed(call: Call, home: Path) -> None:
    calls(home, 0.5)
    assert "A month is guessed from 1 day.\n" in call("--to", MINI).stdout
    calls(home, 2.5, id="earlier")
    assert "A month is guessed from 2.5 days.\n" in call("--to", MINI).stdout


def test_a_provider_that_nobody_knows_has_no_prices_and_does_no_harm(call: Call, home: Path) -> None:
    calls(home, 3, provider="elsewhere", model="m-1")
    calls(home, 3, provider="elsewhere", model="m-2", id="other", cost=Decimal(0))
    assert rows(call("--format", "json")) == []


@pytest.mark.parametrize("model", ["nosuch", "", "gpt\x1b[2J"])
def test_a_model_without_a_price_cannot_be_asked_about(call: Call, home: Path, model: str) -> None:
    calls(home, 3)
    result = call("--to", MINI, "--to", model)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--to {model!r} has no price at openrouter" in result.stderr
    assert "callmeter prices show" in result.stderr


def test_a_zombie_is_the_same_here_as_in_the_anomalies(call: Call, home: Path) -> None:
    path = home / "usage.jsonl"
    start = at(NOW) - timedelta(days=6)
    hours = [
        line(start + timedelta(hours=number), tags={"agent": "poll", "session": "z-1"}, cost=Decimal("0.25"))
        for number in range(5 * 24)
    ]
    write(path, hours)
    found = [row for row in rows(call("--format", "json")) if row["saving"] == "zombie session"]
    # Five days of 24 calls; the first 72 hours are its own.
    assert [(row["where"], row["what"], row["calls"], row["saved"]) for row in found] == [("poll", "z-1", 48, 12)]
    anomalies = call("--last", "30d", "--format", "json", command="anomalies").stdout
    assert '"zombie' in anomalies
    assert "session:z-1" in anomalies


def test_text_from_the_log_drives_no_terminal_and_no_shell(call: Call, home: Path) -> None:
    evil = "x\x1b]0;pwned\x07'; touch pwned"
    calls(home, 3, 3, tags={"agent": evil, "purpose": evil}, status="error")
    page = call()
    assert page.exit_code == 0
    assert "\x1b" not in page.stdout
    assert "\\x1b" in page.stdout
    assert [row["act"] for row in rows(call("--format", "json"))] == [""]


def test_an_empty_log_says_so(call: Call) -> None:
    page = call()
    assert page.exit_code == 0
    assert "No calls in this period." in page.stdout
