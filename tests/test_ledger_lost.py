"""A ledger in PostgreSQL that goes away for good after any message of a call, under each policy."""
# ruff: noqa: F401, F811 - fixtures are imported, and then asked for by name

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from ledger_engines import new_database, server
from servers.counting import COST, CountingServer
from servers.database import Wire

CALL = ("llm-call", "-m", "openai/gpt-4o-mini", "--max-tokens", "96", "--agent", "code", "hello")


@pytest.fixture
def wire(server: str) -> Iterator[Wire]:
    with Wire(new_database(server)) as made:
        yield made


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("unreachable", ["fail_open", "fail_closed"])
def test_wherever_the_ledger_is_lost_a_call_is_made_and_counted_once_or_not_made(
    unreachable: str, before: bool, home: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), obj=World())

    def policy(number: int) -> None:
        """Another one each time, so that the log is counted first."""
        quotas = [{"subject": subject, "limit": 1, "period": "month"} for subject in ("agent:code", f"team:{number}")]
        document = {"enforcement": "hard", "unreachable": unreachable, "quotas": quotas}
        (home / "budget.json").write_text(json.dumps(document))

    monkeypatch.setenv("CALLMETER_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("CALLMETER_LEDGER", wire.address)
    with CountingServer() as model:
        monkeypatch.setenv("CALLMETER_BASE_URL", model.base_url)
        for number in (-1, 0):  # the first call makes the tables
            policy(number)
            whole = -wire.messages
            done = run(*CALL)
            assert done.exit_code == 0, done.stderr
            whole += wire.messages
        lost = 0
        for number in range(1, 40):
            policy(number)
            sent = len(model.prompts)
            wire.cut_after(number, before=before, for_good=True)
            done = run(*CALL)
            if not wire.cut:
                break  # the call was over before
            lost += 1
            wire.heal()
            made = len(model.prompts) - sent
            if unreachable == "fail_open":
                assert (done.exit_code, made) == (0, 1), (number, done.stderr)
            else:
                assert (done.exit_code, made) in ((0, 1), (7, 0)), (number, done.stderr)
        assert not wire.cut, "a call has an end"
        assert lost >= whole > 15, "after a loss a call has more to do, not less"
        wire.heal()
        done = run(*CALL)
        assert done.exit_code == 0, done.stderr
        assert run("budget", "recover").exit_code == 0
        checked = run("budget", "recover", "--check")
        assert checked.exit_code == 0, checked.stdout
        lines = [json.loads(line, parse_float=Decimal) for line in (home / "usage.jsonl").read_text().splitlines()]
        paid = [line["cost"] for line in lines if line["attempts"]]
        assert paid == [Decimal(COST)] * len(model.prompts)
        left = json.loads(run("budget", "quota", "left", "--agent", "code", "--json").stdout, parse_float=Decimal)
        assert (left["usd"]["used"], left["usd"]["held"]) == (sum(paid), 0)
        assert list((home / "inflight").iterdir()) == []
