"""Keys with a ceiling at the provider: made, matched, renamed, retired; for agents and for end users."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from servers.openrouter import OpenRouter


class Owner:
    """Somebody with a management key."""

    def __init__(self, home: Path, router: OpenRouter, run: Run, call: Run) -> None:
        self.home, self.router, self._run, self._call = home, router, run, call
        (home / "config.toml").write_text(f'[providers.openrouter]\nbase_url = "{router.base_url}"\n')

    def __call__(self, *words: str, status: int = 0, input: str | None = None) -> subprocess.CompletedProcess[str]:
        env = {"CALLMETER_MANAGEMENT_KEY": self.router.management_key}
        done = self._run("budget", *words, env=env, input=input)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done

    def call(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self._call("-m", "openai/gpt-5-mini", *options, "hello")

    def entry(self, label: str) -> dict[str, Any]:
        entry: dict[str, Any] = tomllib.loads((self.home / "keys.toml").read_text())["keys"][label]
        return entry


@pytest.fixture
def router() -> Iterator[OpenRouter]:
    with OpenRouter() as router:
        yield router


@pytest.fixture
def owner(home: Path, router: OpenRouter, run_callmeter: Run, run_llm_call: Run) -> Owner:
    return Owner(home, router, run_callmeter, run_llm_call)


def test_a_key_is_made_with_its_ceiling_and_the_agent_can_call_at_once(owner: Owner) -> None:
    owner("keys", "create", "code", "0.02", "--reset", "weekly", "--expires", "90d", "--owner", "ann")
    (record,) = owner.router.keys
    assert (record.limit, record.limit_reset) == (Decimal("0.02"), "weekly")
    assert record.expires_at is not None
    entry = owner.entry("code@openrouter")
    assert (entry["budget"], entry["budget_reset"], entry["owner"]) == ("0.02", "weekly", "ann")
    assert entry["provider_key"] == record.hash
    assert [owner.call("--agent", "code").returncode for _ in range(3)] == [0, 0, 3]


def test_a_tier_gives_the_limit_and_an_end_user_has_a_key_for_its_calls_only(owner: Owner) -> None:
    owner("keys", "create", "code", "5")
    owner("keys", "create", "--user", "u42", "--tier", "standard")
    theirs = owner.router.record((owner.home / "secrets" / "user-u42@openrouter").read_text().strip())
    assert theirs.limit == 50
    owner.call("--agent", "code")
    owner.call("--agent", "code", "--user", "u42")
    assert owner.router.answered[theirs.secret] == 1
    assert sum(owner.router.answered.values()) == 2


def test_an_end_users_key_is_replaced_and_the_old_one_deleted(owner: Owner) -> None:
    owner("keys", "create", "--user", "u42", "10")
    (old,) = owner.router.keys
    owner("rotate-key", "--user", "u42", "--delete-old")
    assert old not in owner.router.keys
    assert owner.call("--agent", "x", "--user", "u42").returncode == 0


def test_an_interrupted_creation_is_finished_by_the_same_command_and_leaves_no_orphan(owner: Owner) -> None:
    for kind in ("lost after", "half", "500 after"):
        owner.router.fault("POST", "/keys", kind, times=3)
        owner("keys", "create", "code", "5", status=7)
        assert not [record for record in owner.router.keys if record.limit != Decimal("0.01")]
    owner("keys", "create", "code", "5")
    (record,) = owner.router.keys
    assert record.limit == 5
    owner("keys", "create", "code", "5", status=2)


def test_a_model_list_holds_at_the_provider_too_also_after_a_rotation(owner: Owner) -> None:
    owner("keys", "create", "code", "5", "--models", "openai/gpt-5-mini")
    (rail,) = owner.router.guardrails
    assert rail["allowed_models"] == ["openai/gpt-5-mini"]
    assert owner.router.keys[0].guardrail == rail["id"]
    owner("rotate-key", "code@openrouter", "--delete-old")
    (record,) = owner.router.keys
    assert record.guardrail == rail["id"]
    done = owner("keys", "create", "docs", "5", "--models", "anthropic/*")
    assert "no families of models" in done.stderr


def test_import_matches_by_hash_learns_ceilings_and_shows_strays(owner: Owner) -> None:
    secret = owner.router.give_key("made by hand", limit="7", reset="monthly")
    owner.router.give_key("whose is this?")
    owner("keys", "add", "code", input=secret)
    rows = json.loads(owner("keys", "import", "--format", "json").stdout)["rows"]
    assert [(row["label"], row["name"], row["state"]) for row in rows] == [
        ("code@openrouter", "made by hand", "ok"),
        (None, "whose is this?", "not registered"),
    ]
    entry = owner.entry("code@openrouter")
    assert (entry["budget"], entry["budget_reset"]) == ("7", "monthly")
    assert entry["provider_key"] == owner.router.record(secret).hash


def test_a_retired_key_is_disabled_forgotten_and_its_entry_kept(owner: Owner) -> None:
    owner("keys", "create", "code", "5")
    owner("keys", "retire", "code@openrouter")
    assert owner.router.keys[0].disabled
    assert not (owner.home / "secrets" / "code@openrouter").exists()
    assert owner.entry("code@openrouter")["retired"]
    done = owner.call("--agent", "code")
    assert done.returncode == 6
    owner("keys", "retire", "nobody", status=6)


def test_a_renamed_key_goes_on_working(owner: Owner) -> None:
    owner("keys", "create", "code", "5")
    owner("keys", "rename", "code@openrouter", "coder")
    assert owner.entry("coder")["agent"] == "code"
    assert owner.call("--agent", "code").returncode == 0
    owner("rotate-key", "coder", status=3)
    owner("keys", "rename", "coder", "other", status=3)
    owner("keys", "rename", "nobody", "other", status=6)
    owner("keys", "rename", "coder", "a b", status=2)


@pytest.mark.parametrize(
    "words",
    [["code"], ["code", "5", "--tier", "free"], ["code", "--tier", "gold"], ["code", "-5"], ["code", "5tok"], ["5"]],
)
def test_a_wrong_ceiling_is_told_before_anything_is_minted(owner: Owner, words: list[str]) -> None:
    owner("keys", "create", *words, status=2)
    assert not owner.router.requests
