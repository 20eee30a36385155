"""A key that is given where a name stands: refused before anything is logged or sent, and repeated nowhere."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from callmeter.words.key_shape import holds_key
from conftest import Run
from servers.counting import CountingServer

OPENROUTER = "sk-or-v1-" + "0123456789abcdef" * 4
# Keys as their providers make them, from a seed.
_random = random.Random(7)


def _key(beginning: str, length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return beginning + "".join(_random.choices(alphabet, k=length))


KEYS = [
    OPENROUTER,
    _key("sk-or-v1-", 64, "0123456789abcdef"),
    _key("sk-ant-api03-", 95, string.ascii_letters + string.digits + "-_"),
    _key("sk-proj-", 156, string.ascii_letters + string.digits + "-_"),
    _key("sk-", 48),
    _key("sk-", 32, "0123456789abcdef"),
    _key("gsk_", 52),
    _key("xai-", 80),
    _key("pplx-", 48),
    _key("hf_", 34, string.ascii_letters),
    _key("r8_", 37),
    _key("AIzaSy", 33, string.ascii_letters + string.digits + "-_"),
    _key("nvapi-", 64, string.ascii_letters + string.digits + "-_"),
    _key("fw_", 24),
    _key("csk-", 48, string.ascii_lowercase + string.digits),
]
NAMES = [
    "code",
    "key-rotation-service",
    "key-20241121T101500Z",
    "sk-learn-experiments-2024",
    "sk-internationalization-team",
    "task-risk-assessment-0123456789abcdef0123456789abcdef",
    "xai-research-assistant",
    "gsk_research_pipeline_v2",
    "hf_dataset_builder",
    "key-550e8400-e29b-41d4-a716-446655440000",
    "550e8400-e29b-41d4-a716-446655440000",
    "openrouter/anthropic/claude-sonnet-4.5",
    "0123456789abcdef0123456789abcdef",
    "",
]


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


@pytest.fixture
def ask(run_llm_call: Run, server: CountingServer) -> Callable[..., CompletedProcess[str]]:
    def ask(*arguments: str | Path, **env: str) -> CompletedProcess[str]:
        return run_llm_call("--base-url", server.base_url, "-m", "m", *arguments, env=env)

    return ask


Ask = Callable[..., CompletedProcess[str]]


def kept(home: Path, key: str) -> list[str]:
    """Every file of callmeter's that has the key in it."""
    return [str(path) for path in home.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]


def refused(done: CompletedProcess[str], key: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "has a key in it, or what looks like one" in done.stdout + done.stderr
    assert key not in done.stdout + done.stderr


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:9])
def test_keys_are_told_from_names(key: str) -> None:
    assert holds_key(key) and holds_key(f"uses {key}") and holds_key(f"key={key};") and holds_key(f"Bearer:{key}")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_told_from_keys(name: str) -> None:
    assert not holds_key(name)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--agent", OPENROUTER),
        ("--session", f"with {OPENROUTER}"),
        ("--tag", f"team={OPENROUTER}"),
        ("--tag", f"{OPENROUTER[:60]}=search"),
        ("--tag", OPENROUTER),
        ("--user", OPENROUTER + "\x1b[31m"),
        ("-m", OPENROUTER),
        ("--fallback-model", OPENROUTER),
        ("--provider", OPENROUTER),
        ("--agent", "code", "--dry-run", "--customer", OPENROUTER),
    ],
    ids=lambda arguments: arguments[-2],
)
def test_a_call_with_a_key_in_a_name_is_refused_and_repeats_it_nowhere(
    ask: Ask, server: CountingServer, home: Path, arguments: tuple[str, ...]
) -> None:
    # The policy's own refusal would be logged, with the tags.
    (home / "budget.json").write_text('{"tags": {"required": ["work_item"]}}')
    refused(ask(*arguments, "hello"), OPENROUTER[:60])
    assert kept(home, OPENROUTER[:60]) == [] and server.bodies == []
    done = ask("--json", *arguments, "hello")
    refused(done, OPENROUTER[:60])


def test_tags_of_variables_settings_and_templates_are_looked_at_too(
    ask: Ask, server: CountingServer, home: Path
) -> None:
    refused(ask("hello", CALLMETER_PURPOSE=OPENROUTER), OPENROUTER)
    (home / "config.toml").write_text(f'[tags]\ncost_center = "{OPENROUTER}"\n')
    refused(ask("hello"), OPENROUTER)
    (home / "config.toml").unlink()
    (home / "templates").mkdir()
    (home / "templates" / "t.toml").write_text(f'prompt = "x"\n[tags]\nteam = "{OPENROUTER}"\n')
    refused(ask("-t", "t"), OPENROUTER)
    assert not (home / "usage.jsonl").exists() and server.bodies == []


def test_a_line_of_a_batch_is_refused_alone(ask: Ask, server: CountingServer, home: Path, tmp_path: Path) -> None:
    batch = tmp_path / "batch.jsonl"
    lines: list[dict[str, object]] = [
        {"prompt": "a", "agent": "code"},
        {"prompt": "b", "agent": OPENROUTER},
        {"prompt": "c", "tags": {"team": OPENROUTER}},
        {"prompt": "d", "model": OPENROUTER},
    ]
    batch.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = ask("--batch", batch)
    assert done.returncode == 2
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result.get("error") for result in found] == [None, "key_given", "key_given", "key_given"]
    assert OPENROUTER not in done.stdout + done.stderr
    assert kept(home, OPENROUTER) == [] and server.prompts == ["a"]
    refused(ask("--batch", batch, "--session", OPENROUTER), OPENROUTER)


@pytest.mark.parametrize("variable", ["CALLMETER_API_KEY", "OPENAI_API_KEY", "CALLMETER_MANAGEMENT_KEY"])
def test_a_key_of_any_shape_is_known_from_the_environment(
    ask: Ask, server: CountingServer, home: Path, variable: str
) -> None:
    key = "correct.horse-battery"
    (home / "budget.json").write_text('{"tags": {"required": ["work_item"]}}')
    refused(ask("--agent", f"code {key}", "hello", **{variable: key}), key)
    assert kept(home, key) == [] and server.bodies == []


def test_a_stand_in_for_a_key_is_no_secret(ask: Ask, server: CountingServer) -> None:
    assert ask("--environment", "test", "hello", OPENAI_API_KEY="test", CALLMETER_API_KEY="test").returncode == 0
    assert server.prompts == ["hello"]


def test_a_key_of_any_shape_is_known_from_its_store(
    ask: Ask, server: CountingServer, home: Path, run_callmeter: Run
) -> None:
    key = "correct.horse-battery"
    add = ("budget", "keys", "add", "--default", "--base-url", server.base_url)
    assert run_callmeter(*add, input=key).returncode == 0
    refused(ask("--agent", "code", "--user", key, "hello"), key)
    assert kept(home, key) == [str(home / "secrets" / "default@openrouter")] and server.bodies == []
    assert ask("--agent", "code", "hello").returncode == 0


@pytest.mark.parametrize(
    "policy",
    [
        {"quotas": [{"subject": f"agent:{OPENROUTER}", "limit": 1}]},
        {"quotas": [{"subject": f"key:{OPENROUTER}", "limit": 1}]},
        {"tags": {"allowed": {"agent": [OPENROUTER]}}},
        {"tags": {"aliases": {OPENROUTER[:60]: "agent"}}},
        {"roles": {"dev": {"allocation": 5, "agents": [OPENROUTER]}}, "allocation_strategy": "role_based"},
        {"tags": {"allowed": {"agent": [KEYS[6][:38]]}}},
    ],
    ids=["subject", "key", "allowed", "alias", "role", "short"],
)
def test_a_policy_with_a_key_in_a_name_is_malformed_and_repeats_it_nowhere(
    ask: Ask, server: CountingServer, home: Path, policy: dict[str, object]
) -> None:
    (home / "budget.json").write_text(json.dumps(policy))
    done = ask("--agent", "code", "hello")
    assert done.returncode == 5, done.stderr
    assert OPENROUTER[:60] not in done.stderr and KEYS[6][:38] not in done.stderr
    assert server.bodies == []


@pytest.mark.parametrize(
    "command",
    [
        ("freeze", f"agent:{OPENROUTER}", "--reason", "x"),
        ("freeze", f"key:{OPENROUTER}", "--reason", "x"),
        ("quota", "set", f"agent:{OPENROUTER}", "5"),
        ("quota", "left", "--agent", OPENROUTER),
        ("quota", "check", "--agent", OPENROUTER, "-m", "m"),
    ],
    ids=lambda command: " ".join(command[:2])[:12],
)
def test_commands_about_a_subject_do_not_keep_or_repeat_it_either(
    run_callmeter: Run, home: Path, command: tuple[str, ...]
) -> None:
    refused(run_callmeter("budget", *command), OPENROUTER)
    assert kept(home, OPENROUTER) == []


def test_a_reason_is_not_kept_or_repeated_with_a_key_in_it(run_callmeter: Run, home: Path) -> None:
    done = run_callmeter("budget", "freeze", "agent:code", "--reason", f"leaked {OPENROUTER}")
    refused(done, OPENROUTER)
    assert kept(home, OPENROUTER) == []
