"""What callmeter sends and reads, against OpenRouter's own OpenAPI document."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import ROOT, lacking
from servers.contract import ContractServer, contract_server

DOCUMENT = ROOT.parent / "shared" / "openrouter-openapi.yaml"
PRISM = ROOT / ".venv" / "prism" / "node_modules" / ".bin" / "prism"
KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def contract() -> Iterator[ContractServer]:
    if not DOCUMENT.exists():
        lacking(f"OpenRouter's OpenAPI document is not at {DOCUMENT}")
    if not PRISM.exists():
        lacking("Prism is not installed; `make test` installs it where npm is")
    with contract_server(str(PRISM), DOCUMENT) as server:
        yield server


@pytest.fixture
def call(run_llm_call: Call, contract: ContractServer) -> Call:
    contract.verdicts.clear()
    contract.bodies.clear()

    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        given = ("--base-url", contract.base_url, "-m", "openai/gpt-4", "--retries", "0", *arguments)
        return run_llm_call(*given, env={"CALLMETER_API_KEY": KEY})

    return make


def test_the_contract_would_refuse_a_wrong_request(call: Call, contract: ContractServer) -> None:
    done = call("Hi", "-o", "temperature", '"hot"')
    assert contract.verdicts == [422]
    assert done.returncode == 7


def test_a_request_with_everything_is_in_the_contract(call: Call, contract: ContractServer, tmp_path: Path) -> None:
    image = tmp_path / "dot.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8))
    tags = [f"--{name}={name}-1" for name in ("agent", "session", "purpose", "priority", "environment", "cost-center")]
    tags += [f"--{name}={name}-1" for name in ("work-item", "customer", "user", "workflow")]
    more = ["-s", "be brief", "-a", str(image), "--fallback-model", "openai/gpt-4o", "--schema", "name, age int"]
    done = call(
        "Hi", *tags, "--tag", "team=search", *more, "-o", "temperature", "0.2", "-o", "reasoning", '{"effort":"low"}'
    )
    assert contract.verdicts == [200], contract.bodies
    assert done.returncode == 9, "the example's answer is no JSON"
    (body,) = contract.bodies
    assert len(body["metadata"]) == 11  # type: ignore[arg-type]


def test_the_contracts_answer_is_read_priced_and_logged(call: Call, home: Path) -> None:
    done = call("What is the capital of France?", "--json", "--agent", "code")
    found = json.loads(done.stdout)
    assert found["text"] == "The capital of France is Paris."
    assert (found["cost"], found["cost_source"], found["finish_reason"]) == (0.00015, "provider", "stop")
    assert found["tokens"]["in"] == 25
    (line,) = [json.loads(line) for line in (home / "usage.jsonl").read_text().splitlines()]
    assert line["generation_id"] == "chatcmpl-123"


@pytest.mark.parametrize(
    ("status", "exit_status"),
    {400: 7, 401: 6, 402: 3, 404: 7, 408: 7, 413: 7, 422: 7, 429: 8, 500: 7, 502: 7, 503: 7, 524: 7, 529: 7}.items(),
)
def test_the_contracts_errors_have_their_exit_status(status: int, exit_status: int, call: Call, home: Path) -> None:
    (home / "config.toml").write_text(
        f'[providers.openrouter]\nbase_url = "https://openrouter.ai/api/v1"\nheaders = {{ Prefer = "code={status}" }}\n'
    )
    done = call("Hi")
    assert done.returncode == exit_status, done.stderr
    (line,) = [json.loads(line) for line in (home / "usage.jsonl").read_text().splitlines()]
    assert line["status"] == ("timeout" if status in (408, 524) else "error")
    assert line["cost"] == (line["estimate"] if status in (408, 524) else 0)
