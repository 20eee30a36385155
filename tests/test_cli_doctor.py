"""`callmeter doctor`: what is wrong is found, with what to do; what is right is not called wrong."""

from __future__ import annotations

import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from callmeter.flows.checkup import installation, log
from conftest import SCRIPTS, Run

KEY = "sk-or-v1-" + "5e" * 32


def rows(run_callmeter: Run, **env: str | None) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Exit status and rows by what was looked at."""
    done = run_callmeter("doctor", "--format", "json", env=env)
    found: dict[str, list[dict[str, str]]] = {}
    for row in json.loads(done.stdout)["rows"]:
        found.setdefault(row["check"], []).append(row)
    return done.returncode, found


def one(found: dict[str, list[dict[str, str]]], check: str) -> tuple[str, str, str]:
    (row,) = found[check]
    return row["state"], row["found"], row["hint"]


def test_a_new_installation_is_well_but_for_its_missing_key(run_callmeter: Run, home: Path) -> None:
    status, found = rows(run_callmeter)
    assert status == 0
    states = {check: [row["state"] for row in each] for check, each in found.items()}
    assert states.pop("keys") == ["warn"]
    assert {state for each in states.values() for state in each} == {"ok"}, found
    assert {path.name for path in home.iterdir()} <= {"cache"}, "it changes nothing"


def test_a_key_that_others_can_read_is_bad_and_the_exit_status_says_so(run_callmeter: Run, home: Path) -> None:
    run_callmeter("budget", "keys", "add", "code", "--provider", "openrouter", input=KEY)
    status, found = rows(run_callmeter)
    assert status == 0 and one(found, "keys")[0] == "ok"
    assert "a file of this user alone" in one(found, "keys")[1]
    (home / "secrets" / "code@openrouter").chmod(0o644)
    done = run_callmeter("doctor")
    assert done.returncode == 3
    assert "chmod 600" in done.stdout and "callmeter: error: 1 thing is bad\n" in done.stderr
    assert KEY not in done.stdout + done.stderr


def test_keys_that_cannot_be_used_are_told_apart(run_callmeter: Run, home: Path) -> None:
    (home / "keys.toml").write_text("""
[keys.gone]
provider = "openrouter"
base_url = "https://openrouter.ai/api/v1"
secret = "file:gone"
[keys.old]
provider = "openai"
base_url = "https://api.openai.com/v1"
secret = "file:old"
expires = "2026-01-01"
[keys.weak]
provider = "anthropic"
base_url = "https://api.anthropic.com/v1"
secret = "env:ANTHROPIC_API_KEY"
[keys.far]
provider = "far"
base_url = "https://far.example.org/v1"
secret = "vault:secret/far"
""")
    status, found = rows(run_callmeter, ANTHROPIC_API_KEY=KEY, VAULT_ADDR="http://127.0.0.1:9", VAULT_TOKEN="t")
    told = {row["found"].partition(":")[0]: (row["state"], row["found"], row["hint"]) for row in found["keys"]}
    assert status == 3
    assert told["gone"][0] == "bad" and "there is none" in told["gone"][1]
    assert told["old"][0] == "bad" and "it has expired" in told["old"][1]
    assert told["weak"][0] == "warn" and "the weakest" in told["weak"][1] and "keys move weak file" in told["weak"][2]
    assert told["far"][0] == "bad" and "cannot be reached" in told["far"][1]
    unset = rows(run_callmeter, VAULT_ADDR="http://127.0.0.1:9", VAULT_TOKEN="t")[1]
    assert any("ANTHROPIC_API_KEY, which is not set" in row["found"] for row in unset["keys"])


def test_keys_that_are_well_are_told_together_and_retired_ones_not_at_all(run_callmeter: Run, home: Path) -> None:
    for agent in ("one", "two", "old"):
        key = "sk-or-v1-" + agent * 20
        assert run_callmeter("budget", "keys", "add", agent, "--provider", "openrouter", input=key).returncode == 0
    run_callmeter("budget", "keys", "retire", "old@openrouter")
    status, found = rows(run_callmeter)
    state, what, _ = one(found, "keys")
    assert (status, state) == (0, "ok")
    assert what.startswith(f"2 keys in {home / 'secrets'}: one@openrouter, two@openrouter; a file of this user alone")


def test_a_shared_variable_instead_of_keys_is_a_warning(run_callmeter: Run) -> None:
    state, what, hint = one(rows(run_callmeter, OPENROUTER_API_KEY=KEY)[1], "keys")
    assert state == "warn" and "calls use OPENROUTER_API_KEY" in what and "budget keys add" in hint


@pytest.mark.parametrize(
    ("name", "mode", "state"),
    [("keys.toml", 0o666, "bad"), ("keys.toml", 0o660, "warn"), (".", 0o777, "bad"), ("private", 0o750, "bad")],
)
def test_what_others_may_change_or_read_is_found(
    run_callmeter: Run, home: Path, name: str, mode: int, state: str
) -> None:
    (home / "private").mkdir(mode=0o700)
    (home / "keys.toml").touch(0o600)
    (home / name).chmod(mode)
    told, what, hint = one(rows(run_callmeter)[1], "permissions")
    assert (told, "chmod" in hint) == (state, True)
    assert str(home / name) in what


def test_broken_settings_and_policies_are_bad_with_their_own_hint(run_callmeter: Run, home: Path) -> None:
    (home / "budget.json").write_text('{"quotas": 5}')
    status, found = rows(run_callmeter)
    assert status == 3 and one(found, "policy")[0] == "bad" and "ledger" not in found, "one fault is told once"
    assert one(found, "usage log")[0] == "ok", "one fault does not hide the rest"
    (home / "config.toml").write_text("modle = 1\n")
    status, found = rows(run_callmeter)
    assert status == 3 and "did you mean 'model'" in one(found, "settings")[1]
    (home / "config.toml").unlink()
    (home / "keys.toml").write_text("[keys\n")
    assert one(rows(run_callmeter)[1], "keys")[0] == "bad"


def test_a_ledger_that_is_out_of_reach_is_bad_only_where_it_is_needed(run_callmeter: Run, home: Path) -> None:
    (home / "ledger.db").write_bytes(b"not a database" * 100)
    assert one(rows(run_callmeter)[1], "ledger") == ("ok", "not used: the policy has no quotas", "")
    (home / "budget.json").write_text('{"total_budget": 10}')
    status, found = rows(run_callmeter)
    assert status == 3 and one(found, "ledger")[0] == "bad"
    (home / "ledger.db").unlink()
    assert one(rows(run_callmeter)[1], "ledger")[0] == "ok"


LINE = (
    '{"v":1,"id":"01890000-0000-7000-8000-000000000001","timestamp":"%s","tags":{},"provider":"openrouter",'
    '"model":"m","tokens":{"in":1,"out":1},"cost":0,"cost_source":"price","status":"ok"}\n'
)


def test_the_end_of_the_log_tells_of_bad_lines_torn_tails_and_the_clock(run_callmeter: Run, home: Path) -> None:
    log = home / "usage.jsonl"
    log.write_text(LINE % "2026-01-01T00:00:00.000Z" * 2)
    assert one(rows(run_callmeter)[1], "usage log")[0] == "ok"
    log.write_text(LINE % "2026-01-01T00:00:00.000Z" + '{"v":1,"id"')
    assert "half a line" in one(rows(run_callmeter)[1], "usage log")[1]
    log.write_text("<html>\n" + LINE % "2999-01-01T00:00:00.000Z")
    status, found = rows(run_callmeter)
    state, what, hint = one(found, "usage log")
    assert state == "warn" and "1 of the last 2 lines" in what and "log verify" in hint
    assert one(found, "clock")[0] == "bad" and status == 3


def test_a_home_that_cannot_be_written_to_is_bad_since_no_call_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, home = tmp_path / "home" / "usage.jsonl", tmp_path / "home"
    well = [check.state for check in log(str(path), str(home), datetime.now(UTC))]
    assert set(well) == {"ok"}
    # What the kernel says to a user who may not write there; tests may be run by root, who may.
    monkeypatch.setattr(os, "access", lambda place, mode: place != str(tmp_path))
    check = next(check for check in log(str(path), str(home), datetime.now(UTC)) if check.area == "usage log")
    assert check.state == "bad" and check.found.startswith(f"this user cannot write to {path} and {home}")
    assert "CALLMETER_HOME" in check.hint


def test_calls_of_dead_processes_and_half_written_keys_are_told(run_callmeter: Run, home: Path) -> None:
    (home / "inflight").mkdir()
    (home / "inflight" / "01890000-0000-7000-8000-000000000001.call").touch()
    (home / "secrets").mkdir(mode=0o700)
    (home / "secrets" / ".code.tmp").touch(0o600)
    found = rows(run_callmeter)[1]["unfinished"]
    assert [row["state"] for row in found] == ["warn", "warn"]
    assert "budget recover" in found[0]["hint"] and "half-written" in found[1]["found"]


def test_a_start_that_compiles_the_program_each_time_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "callmeter"
    shutil.copytree(SCRIPTS.parent.parent / "src" / "callmeter", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("callmeter.__file__", str(copy / "__init__.py"))
    env = {"PATH": str(SCRIPTS), "PYTHONDONTWRITEBYTECODE": "1"}
    _, bytecode, _ = installation(env)
    assert bytecode.state == "warn" and "compileall" in bytecode.hint
    _, bytecode, _ = installation({"PATH": str(SCRIPTS)})
    assert bytecode.state == "ok"


def test_whether_logs_are_read_by_compiled_code_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, told in ((object(), "compiled"), (None, "not compiled")):
        monkeypatch.setattr("callmeter.store.index_native.native", lambda native=native: native)
        *_, reader = installation({"PATH": str(SCRIPTS)})
        assert (reader.area, reader.state) == ("log reader", "ok")
        assert reader.found.split(",")[0] == told


def test_an_llm_call_of_another_installation_a_shim_and_none_are_told(tmp_path: Path) -> None:
    def first(path: Path) -> tuple[str, str]:
        check = next(iter(installation({"PATH": str(path)})))
        return check.state, check.found

    assert first(tmp_path) == ("warn", next(iter(installation({"PATH": str(tmp_path)}))).found)
    assert "not on PATH" in first(tmp_path)[1]
    for place, said in (("elsewhere", "is another one"), ("shims", "is a shim")):
        (tmp_path / place).mkdir()
        program = tmp_path / place / "llm-call"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        assert first(program.parent)[0] == "warn" and said in first(program.parent)[1]
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "llm-call").write_text(f"#!{sys.executable}\n")
    (linked / "llm-call").chmod(0o755)
    assert first(linked)[0] == "ok", "pipx and uv put their scripts elsewhere"
    assert os.access(linked / "llm-call", os.X_OK)
