"""`callmeter config show`: what holds, who said so, and where everything lies."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Run


def test_each_setting_has_its_value_and_who_set_it(home: Path, run_callmeter: Run) -> None:
    (home / "config.toml").write_text('model = "openai/gpt-4o-mini"\ntimeout = "90s"\n')
    done = run_callmeter("config", "show", "--format", "json", env={"CALLMETER_MODEL": "m"})
    rows = {row["setting"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)["rows"]}
    assert rows["model"] == ("m", "variable")
    assert rows["timeout"] == ("90", "config.toml")
    assert rows["connect_timeout"] == ("10", "built in")
    assert rows["usage"] == ("false", "built in")


def test_every_place_is_named_also_where_no_setting_moves_it(home: Path, run_callmeter: Run) -> None:
    (home / "config.toml").write_text(f'log = "{home}/elsewhere/usage.jsonl"\n')
    said = run_callmeter("config", "show", env={"COLUMNS": "300"}).stdout.splitlines()
    assert f"usage log: {home}/elsewhere/usage.jsonl" in said
    for what, file in (("policy", "budget.json"), ("ledger", "ledger.db"), ("approvals", "approvals.jsonl")):
        assert f"{what}: {home}/{file}" in said
    elsewhere = {"CALLMETER_LEDGER": "postgresql://callmeter:hunter2@db.example/x", "COLUMNS": "300"}
    assert "ledger: postgresql://callmeter:***@db.example/x" in run_callmeter("config", "show", env=elsewhere).stdout
