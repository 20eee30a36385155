"""`callmeter demo`: what it shows is what happened, it can be repeated, and it leaves the user's own files alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from conftest import LocalModel, Run


@pytest.fixture
def demo_home(home: Path, run_callmeter: Run, local_model: LocalModel) -> Iterator[Path]:
    yield home / "demo"
    run_callmeter("local", "stop", env={"CALLMETER_HOME": str(home / "demo")})


def calls(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_float=Decimal) for line in (home / "usage.jsonl").read_text().splitlines()]


def test_the_demo_makes_real_calls_shows_its_reports_and_can_be_repeated(demo_home: Path, run_callmeter: Run) -> None:
    for _ in range(2):
        done = run_callmeter("demo", timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        found = calls(demo_home)
        assert Counter(call["status"] for call in found)["ok"] >= 7
        assert {call["status"] for call in found} >= {"ok", "error", "refused"}
        assert {call["tags"].get("agent") for call in found} == {
            "triage",
            "docs",
            "code",
            "research",
            "ops",
            "intern",
            None,
        }
        assert len({call["id"] for call in found}) == len(found), "the first run's calls are gone"
        assert all(call["tokens"]["out"] > 0 for call in found if call["status"] == "ok")
        assert sum(call["cost"] for call in found if call["status"] == "ok") > 0
        assert "$ callmeter budget breakdown --by-agent --by-purpose" in done.stdout
        assert "$ callmeter budget quota show" in done.stdout
        # Once it fits, once it does not, and says by how much.
        assert [call["status"] for call in found if call["tags"].get("agent") == "intern"] == ["ok", "refused"]
        assert "the quota on agent:intern per day stops this call: limit $0.000100" in done.stderr
        assert " too much; it resets at " in done.stderr
        assert "(exit status 3)" in done.stdout
        assert "(exit status 7)" in done.stdout
        assert "(exit status 2)" in done.stdout
        assert "Traceback" not in done.stderr


def test_the_demo_shows_no_key(demo_home: Path, run_callmeter: Run) -> None:
    done = run_callmeter("demo", env={"OPENROUTER_API_KEY": "sk-or-the-users-own"}, timeout=180)
    key = json.loads((demo_home / "local.json").read_text())["api_key"]
    everything = done.stdout + done.stderr + (demo_home / "usage.jsonl").read_text()
    assert key not in everything
    assert "the-users-own" not in everything


def test_the_demo_leaves_the_users_own_files_alone_however_broken(
    home: Path, demo_home: Path, run_callmeter: Run
) -> None:
    own = {"usage.jsonl": b"{torn", "budget.json": b"not json", "config.toml": b"= = =", "prices.toml": b"x"}
    for name, data in own.items():
        (home / name).write_bytes(data)
    assert run_callmeter("demo", timeout=180).returncode == 0
    assert {name: (home / name).read_bytes() for name in own} == own
    assert {path.name for path in home.iterdir()} == {*own, "demo"}


def test_a_directory_that_is_not_the_demos_own_is_never_emptied(home: Path, run_callmeter: Run) -> None:
    precious = home / "demo" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("three years of work")
    done = run_callmeter("demo")
    assert done.returncode == 1
    assert "not the demo's own" in done.stderr
    assert precious.read_text() == "three years of work"
