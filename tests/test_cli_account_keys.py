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
from terminal import Terminal


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


def test_a_key_that_lies_where_the_new_one_would_go_is_not_written_over(owner: Owner) -> None:
    place = owner.home / "secrets" / "code@openrouter"
    place.parent.mkdir(mode=0o700)
    place.write_text("sk-or-v1-of-somebody\n")
    place.chmod(0o600)
    done = owner("keys", "create", "code", "5", status=2)
    assert "there is a key already at" in done.stderr and "not registered" in done.stderr
    assert place.read_text() == "sk-or-v1-of-somebody\n"
    assert owner.router.keys == [], "nothing was minted"


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


def test_another_key_in_the_place_of_a_retired_one_is_not_removed(owner: Owner) -> None:
    owner("keys", "create", "code", "5")
    place = owner.home / "secrets" / "code@openrouter"
    place.write_text(owner.router.give_key("by hand"))
    assert "another key lies at" in owner("keys", "retire", "code@openrouter").stderr
    assert place.exists() and owner.router.keys[0].disabled and owner.entry("code@openrouter")["retired"]


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
    ("words", "hint"),
    [([], "name an AGENT, or `--user ID`"), (["code", "5tok"], "write `25`, or `$2.50`")],
)
def test_what_creation_lacks_is_told_in_its_own_words(owner: Owner, words: list[str], hint: str) -> None:
    assert hint in owner("keys", "create", *words, status=2).stderr


@pytest.mark.parametrize(
    "words",
    [["code"], ["code", "5", "--tier", "free"], ["code", "--tier", "gold"], ["code", "-5"], ["code", "5tok"], ["5"]],
)
def test_a_wrong_ceiling_is_told_before_anything_is_minted(owner: Owner, words: list[str]) -> None:
    owner("keys", "create", *words, status=2)
    assert not owner.router.requests


def quotas(owner: Owner, *quotas: dict[str, object]) -> None:
    (owner.home / "budget.json").write_text(json.dumps({"quotas": list(quotas)}))


def test_quotas_become_ceilings_at_the_provider_the_difference_is_shown_first(owner: Owner) -> None:
    owner("keys", "create", "code", "5")
    quotas(
        owner,
        {"subject": "agent:code", "limit": 3, "period": "week", "enforcement": "hard"},
        {"subject": "agent:code", "limit": 100, "period": "month", "enforcement": "hard"},
    )
    done = owner("quota", "sync", "--check", status=3)
    assert "$5.00" in done.stdout and "$3.00" in done.stdout
    assert owner.router.keys[0].limit == 5
    owner("quota", "sync", "--apply")
    assert (owner.router.keys[0].limit, owner.router.keys[0].limit_reset) == (3, "weekly")
    owner("quota", "sync", "--check")
    assert owner.entry("code@openrouter")["budget"] == "3"


def test_without_a_management_key_nothing_is_called_the_same(owner: Owner, run_callmeter: Run) -> None:
    owner("keys", "create", "code", "5")
    done = run_callmeter("budget", "quota", "sync", "--check")
    assert done.returncode == 6 and "no management key" in done.stderr


def test_a_model_list_is_a_difference_too_and_written_once(owner: Owner) -> None:
    owner("keys", "create", "code", "5", "--models", "openai/gpt-5-mini")
    owner("quota", "sync", "--check")
    change = ("keys", "add", "--label", "code@openrouter", "--replace", "--existing")
    owner(*change, "--models", "openai/gpt-5-mini,openai/gpt-4o")
    done = owner("quota", "sync", "--check", "--format", "json", status=3)
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["action"], row["models"]) == ("no quota in money", "set")
    assert owner.router.guardrails[0]["allowed_models"] == ["openai/gpt-5-mini"], "shown first"
    owner("quota", "sync", "--apply")
    assert owner.router.guardrails[0]["allowed_models"] == ["openai/gpt-5-mini", "openai/gpt-4o"]
    owner("quota", "sync", "--check")
    owner(*change, "--models", "openai/*")
    assert "here only" in owner("quota", "sync", "--format", "tsv").stdout


def test_a_key_is_made_even_where_the_account_has_no_guardrails(owner: Owner) -> None:
    owner.router.fault("GET", "/guardrails.*", "html", times=9)
    done = owner("keys", "create", "code", "5", "--models", "openai/gpt-5-mini", "-v")
    assert "does not hold the model list yet" in done.stderr and "is made" in done.stderr
    assert owner.call("--agent", "code").returncode == 0


def test_a_key_that_is_being_rotated_keeps_the_ceiling_of_its_rotation(owner: Owner) -> None:
    owner("keys", "create", "code", "5")
    quotas(owner, {"subject": "agent:code", "limit": 3, "period": "month"})
    owner("rotate-key", "code@openrouter", status=3)
    before = [record.limit for record in owner.router.keys]
    assert "being rotated" in owner("quota", "sync", "--apply").stdout
    assert [record.limit for record in owner.router.keys] == before


def findings(owner: Owner, status: int = 0, *options: str) -> dict[str, list[str]]:
    rows = json.loads(owner("keys", "audit", "--format", "json", *options, status=status).stdout)["rows"]
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["label"], []).append(row["kind"])
    return found


def test_the_audit_finds_what_is_wrong_with_each_key(owner: Owner) -> None:
    owner("keys", "create", "good", "5", "--owner", "ann", "--expires", "80d")
    owner.router.give_key("a stray")
    quotas(owner, {"subject": "agent:good", "limit": 5, "period": "month", "enforcement": "hard"})
    assert findings(owner) == {"a stray": ["stray"]}
    bare = owner.router.give_key("bare")
    owner("keys", "add", "bare", input=bare)
    registry = owner.home / "keys.toml"
    registry.write_text(registry.read_text().replace('agent = "bare"', 'agent = "bare"\nlast_rotated = 2025-01-01'))
    found = findings(owner)
    assert sorted(found["bare@openrouter"]) == ["no_expiry", "no_limit", "no_owner", "old"]
    (owner.home / "secrets" / "bare@openrouter").chmod(0o644)
    assert "unsafe" in findings(owner)["bare@openrouter"]
    owner("keys", "audit", "--fail-if-any", status=3)


def test_the_audit_finds_keys_that_are_gone_disabled_used_without_tags_or_by_others(owner: Owner) -> None:
    owner("keys", "create", "one", "5")
    owner("keys", "create", "two", "5")
    one, two = owner.router.keys
    owner.call("--agent", "one", "--key", "two@openrouter")
    owner.call("--agent", "two", "--key", "two@openrouter")
    owner.call("--key", "one@openrouter")
    found = findings(owner)
    assert "shared_by_agents" in found["two@openrouter"]
    assert "untagged" in found["one@openrouter"]
    one.disabled = True
    del owner.router._records[two.hash]
    found = findings(owner)
    assert "disabled" in found["one@openrouter"] and "gone" in found["two@openrouter"]


def test_on_a_terminal_a_fix_runs_after_a_yes_and_names_of_the_account_drive_nothing(
    owner: Owner, environment: dict[str, str], tmp_path: Path
) -> None:
    owner("keys", "create", "one", "5", "--owner", "ann")
    owner.router.give_key("stray\x1b[31m")
    env = {**environment, "CALLMETER_MANAGEMENT_KEY": owner.router.management_key}
    with Terminal(["callmeter", "budget", "keys", "audit", "--fix"], env, tmp_path) as terminal:
        assert "--existing --expires 90d" in terminal.wait_for("? [y/N]: ")
        terminal.type("y\n")
        assert "\x1b" not in terminal.wait_for("keys import`? [y/N]: ")
        terminal.type("n\n")
        terminal.wait_for("keys import`")
    assert owner.entry("one@openrouter")["expires"]


def test_without_a_terminal_the_audit_only_proposes(owner: Owner) -> None:
    owner("keys", "create", "one", "5")
    done = owner("keys", "audit", "--fix")
    again = "callmeter budget keys add --label one@openrouter --replace --existing"
    assert f"`{again} --expires 90d`" in done.stderr and f"`{again} --owner …`" in done.stderr
    assert len(owner.router.keys) == 1


def test_a_key_keeps_its_record_when_only_what_is_said_of_it_changes(owner: Owner) -> None:
    owner("keys", "create", "one", "5")
    before = owner.entry("one@openrouter")
    change = ("keys", "add", "--label", "one@openrouter", "--replace", "--existing")
    assert "is changed" in owner(*change, "--owner", "ann", "--expires", "80d", "-v").stderr
    after = owner.entry("one@openrouter")
    assert (after.pop("owner"), after.pop("expires", "")[:2]) == ("ann", "20")
    assert after == before
    kinds = findings(owner).get("one@openrouter", [])
    assert "no_owner" not in kinds and "no_expiry" not in kinds
    assert owner.call("--agent", "one").returncode == 0
    owner("keys", "add", "--label", "another", "--existing", status=2)


def test_the_audit_sees_the_management_key_variables_in_use_and_retired_keys_that_are_good_again(owner: Owner) -> None:
    owner("keys", "add", "--management", "--label", "boss", input=owner.router.management_key)
    owner("keys", "create", "one", "5")
    owner("keys", "retire", "one@openrouter")
    assert findings(owner) == {"boss": ["no_expiry", "no_owner"]}
    owner.router.keys[0].disabled = False
    bare = owner.router.give_key("bare")
    env = {"CALLMETER_API_KEY": bare}
    assert owner._call("-m", "openai/gpt-5-mini", "--agent", "x", "hello", env=env).returncode == 0
    found = findings(owner)
    assert found["one@openrouter"] == ["revived"] and found["env:CALLMETER_API_KEY"] == ["unregistered"]


def test_a_key_that_ends_soon_is_one_finding(owner: Owner) -> None:
    owner("keys", "create", "soon", "5", "--owner", "ann", "--expires", "5d")
    assert findings(owner) == {"soon@openrouter": ["expiring"]}


def test_an_audit_that_could_not_ask_the_account_says_so_in_its_report(owner: Owner, run_callmeter: Run) -> None:
    owner("keys", "create", "one", "5")
    done = run_callmeter("budget", "keys", "audit")
    assert done.returncode == 0 and "The account was not asked" in done.stdout and not done.stderr


def test_a_user_without_a_terminal_sees_figures_and_reset_of_a_spent_key(owner: Owner) -> None:
    owner("keys", "create", "code", "0.01")
    owner.call("--agent", "code")
    done = owner.call("--agent", "code")
    assert done.returncode == 3 and "$0.0100 of $0.0100 used, reset 20" in done.stderr


def test_a_key_that_is_being_rotated_out_is_no_stray(owner: Owner) -> None:
    owner("keys", "create", "code", "5", "--owner", "ann", "--expires", "80d")
    owner("rotate-key", "code@openrouter", status=3)
    assert len(owner.router.working()) == 2
    assert "stray" not in json.dumps(findings(owner))


def test_a_provider_that_quotes_the_key_it_refuses_does_not_get_it_shown(owner: Owner) -> None:
    owner("keys", "create", "code", "5")

    def quoting(method: str, path: str) -> None:
        if path.startswith("/keys"):
            owner.router.management_key_is = "another"

    owner.router.on_request = quoting
    done = owner("rotate-key", "code@openrouter", "-v", status=6)
    assert "no key ***" in done.stderr and owner.router.management_key not in done.stderr


def test_a_users_month_is_shown_with_its_models_and_keys(owner: Owner) -> None:
    owner("keys", "create", "--user", "u42", "10")
    for model in ("openai/gpt-5-mini", "openai/gpt-5-mini", "openai/gpt-4o"):
        assert owner.call("--agent", "x", "--user", "u42", "-m", model).returncode == 0
    shown = json.loads(owner("keys", "show", "--user", "u42", "--format", "json").stdout, parse_float=Decimal)
    facts = shown["facts"]
    assert (facts["requests"], facts["tokens"], facts["cost"]) == (3, {"in": 24, "out": 6}, Decimal("0.03"))
    assert [(row["model"], row["requests"]) for row in shown["rows"]] == [
        ("openai/gpt-5-mini", 2),
        ("openai/gpt-4o", 1),
    ]
    assert [key["label"] for key in facts["keys"]] == ["user-u42@openrouter"]
    assert facts["keys"][0]["ceiling"] == "10"
    owner("keys", "show", status=2)


def test_a_key_is_shown_with_its_month_its_policy_and_when_it_is_due(owner: Owner) -> None:
    owner("keys", "create", "code", "5")
    profile = {"budget": 15, "rate_limit": "100/day", "alerts": "disabled"}
    (owner.home / "budget.json").write_text(json.dumps({"keys": {"code@openrouter": profile}}))
    owner.call("--agent", "code")
    owner("rotate-key", "code@openrouter", status=3)
    facts = json.loads(owner("keys", "show", "code@openrouter", "--format", "json").stdout, parse_float=Decimal)[
        "facts"
    ]
    assert facts["month"]["requests"] == 1 and facts["month"]["cost"] == Decimal("0.01")
    assert facts["budget"] == [{"limit": 15, "period": "month"}]
    assert facts["rate_limit"] == ["100 calls/day"]
    assert facts["alerts"] is False
    assert (facts["ceiling"], facts["ceiling_reset"], facts["rotation"]) == ("5", "monthly", "swapped")
    entry = owner.entry("code@openrouter")
    assert (facts["provider_key"], facts["secret"]) == (entry["provider_key"], "file:code@openrouter")
    assert facts["last_rotated"] and facts["rotation_due"] > facts["last_rotated"]
    assert "$0.0100, 1 request in" in owner("keys", "show", "code@openrouter").stdout
    (row,) = json.loads(owner("keys", "list", "--format", "json").stdout)["rows"]
    assert row["due"] == facts["rotation_due"]


def test_a_caller_at_its_keys_limit_is_given_the_figures_and_told_of_a_pending_restore(owner: Owner) -> None:
    owner("keys", "create", "code", "0.03")
    owner.call("--agent", "code")
    owner("rotate-key", "code@openrouter", "--now", status=3)
    assert [owner.call("--agent", "code").returncode for _ in range(3)] == [0, 0, 3]
    error = json.loads(owner.call("--agent", "code", "--json").stderr.splitlines()[-1], parse_float=Decimal)
    assert (error["error"], error["exit_status"]) == ("limit_exceeded", 3)
    assert (error["limit"], error["current_usage"]) == (Decimal("0.02"), Decimal("0.02"))
    assert error["resets_at"].endswith("-01T00:00:00.000Z")
    assert "`callmeter budget rotate-key code@openrouter --resume` makes it $0.03" in error["hint"]


def test_a_management_key_makes_no_calls(owner: Owner, run_callmeter: Run) -> None:
    done = run_callmeter("budget", "keys", "add", "--management", "--label", "boss", input=owner.router.management_key)
    assert done.returncode == 0
    assert owner.call("--key", "boss").returncode == 6
    done = run_callmeter("budget", "keys", "exec", "boss", "--", "env")
    assert done.returncode == 6 and owner.router.management_key not in done.stdout
    owner("keys", "create", "code", "5")
    done = owner("keys", "exec", "code", "--", "env")
    assert owner.router.management_key not in done.stdout and owner.router.keys[0].secret in done.stdout
    assert not [path for _, path in owner.router.requests if path == "/chat/completions"]
