"""What `llm-call` sends and understands, held against OpenRouter's own OpenAPI document."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from conftest import Run

KEY = {"CALLMETER_API_KEY": "sk-or-v1-contract"}
MODEL = ("--model", "openai/gpt-4o")
TAGS = (
    *("--agent", "code", "--session", "s-1", "--purpose", "review", "--priority", "high", "--environment", "prod"),
    *("--cost-center", "4711", "--work-item", "SUP-7", "--customer", "acme", "--user", "u-1", "--workflow", "nightly"),
    *("--tag", "team=blue"),
)


@pytest.fixture
def settings(home: Path, contract_server: str) -> Path:
    """Calls to OpenRouter go to the contract server, which can only answer a chat with plain JSON."""
    return configure(home, contract_server, Accept="application/json")


def configure(home: Path, contract_server: str, **headers: str) -> Path:
    lines = [f'{name} = "{value}"' for name, value in headers.items()]
    path = home / "config.toml"
    path.write_text(
        f'retries = 0\n[providers.openrouter]\nbase_url = "{contract_server}"\n'
        f"[providers.openrouter.headers]\n{chr(10).join(lines)}\n"
    )
    return path


def last_line(home: Path) -> dict[str, object]:
    return json.loads((home / "usage.jsonl").read_text().splitlines()[-1], parse_float=Decimal)


def test_a_call_with_every_tag_and_the_common_parameters_keeps_the_contract(
    settings: Path, home: Path, run_llm_call: Run
) -> None:
    done = run_llm_call(
        *MODEL,
        *TAGS,
        *("--system", "Be brief.", "--fallback-model", "anthropic/claude-3.5-sonnet", "--max-tokens", "64"),
        *("-o", "temperature", "0.2", "-o", "top_p", "0.9", "-o", "seed", "5", "-o", "stop", '["END"]'),
        *("-a", "https://example.com/picture.png"),
        "What is the capital of France?",
        env=KEY,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "The capital of France is Paris.\n"
    line = last_line(home)
    assert line["status"] == "ok"
    assert line["served_model"] == "openai/gpt-4"
    assert (line["tokens"]["in"], line["tokens"]["out"]) == (25, 10)


def test_a_schema_keeps_the_contract(settings: Path, home: Path, run_llm_call: Run) -> None:
    done = run_llm_call(*MODEL, "--agent", "code", "--schema", "name, age int", "Invent a person", env=KEY)
    assert last_line(home)["status"] == "ok", done.stderr
    assert done.returncode == 9, "the server's canned answer is no such JSON"


def test_a_conversation_keeps_the_contract(settings: Path, home: Path, run_llm_call: Run) -> None:
    for prompt in ("Hello", "And now?"):
        done = run_llm_call(*MODEL, "--agent", "code", "--conversation", "c-1", prompt, env=KEY)
        assert done.returncode == 0, done.stderr


def test_the_contract_bites(settings: Path, home: Path, run_llm_call: Run) -> None:
    done = run_llm_call(*MODEL, "-o", "temperature", '"hot"', "hi", env=KEY)
    assert done.returncode == 7
    assert "422" in done.stderr


@pytest.mark.parametrize(
    ("code", "status"),
    [
        *((400, 7), (401, 6), (402, 3), (403, 3), (404, 7), (408, 7), (413, 7), (422, 7), (429, 8)),
        *((500, 7), (502, 7), (503, 7), (524, 7), (529, 7)),
    ],
)
def test_each_error_of_the_document_has_its_exit_status_and_its_line(
    code: int, status: int, home: Path, contract_server: str, run_llm_call: Run
) -> None:
    configure(home, contract_server, Accept="application/json", Prefer=f"code={code}")
    done = run_llm_call(*MODEL, "--agent", "code", "--json", "hi", env=KEY)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["exit_status"] == status
    assert error["message"]
    line = last_line(home)
    assert line["status"] in ("error", "timeout")
    assert "sk-or-v1-contract" not in done.stderr + json.dumps(line, default=str)
