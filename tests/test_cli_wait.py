"""`--wait` and `--wait-approval`: a call that may not go ahead yet stays, and goes when it may."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from conftest import Run
from servers.counting import COST, CountingServer

Start = Callable[..., subprocess.Popen[bytes]]
CALL = ("-m", "openai/gpt-4o-mini", "--max-tokens", "96", "--agent", "code")


@pytest.fixture
def model() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


@pytest.fixture
def env(home: Path, model: CountingServer) -> dict[str, str]:
    return {"CALLMETER_API_KEY": "sk-test-0123456789abcdef", "CALLMETER_BASE_URL": model.base_url}


def policy(home: Path, **quota: object) -> None:
    entry = {"subject": "agent:code", "period": "month", **quota}
    (home / "budget.json").write_text(json.dumps({"enforcement": "hard", "quotas": [entry]}))


def until(found: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait for something that another process does, as long as the one that is to wait for it runs."""
    end = time.monotonic() + 60
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def room_for_one(home: Path, run_llm_call: Run, env: dict[str, str]) -> None:
    """A quota that has room for one call in flight, and for another one when the first has been settled."""
    shown = json.loads(run_llm_call(*CALL, "--dry-run", "hello", env=env).stdout, parse_float=Decimal)
    policy(home, limit=str(shown["estimate"]["worst_case"] + Decimal(COST)))


@pytest.mark.usefixtures("room_for_one")
def test_what_others_hold_is_waited_for_and_asked_for_again_each_second(
    home: Path, model: CountingServer, start: Start, run_llm_call: Run, env: dict[str, str]
) -> None:
    first = start("llm-call", *CALL, "hold", env=env)
    model.arrived(1)
    hasty = run_llm_call(*CALL, "hello", env=env)
    assert hasty.returncode == 8 and "add `--wait`" in hasty.stderr
    # Less than the five seconds that the refusal names.
    patient = start("llm-call", *CALL, "--wait=4.9", "hello", env=env)
    until(lambda: len(list((home / "inflight").glob("*.call"))) == 2, patient)
    model.release()
    output, errors = patient.communicate(timeout=60)
    assert output == b"answer to hello\n", errors
    assert (first.wait(60), patient.returncode) == (0, 0)


def test_what_no_wait_can_mend_is_refused_at_once(home: Path, run_llm_call: Run, env: dict[str, str]) -> None:
    policy(home, limit=1, unit="calls")
    assert run_llm_call(*CALL, "hello", env=env).returncode == 0
    begun = time.monotonic()
    assert run_llm_call(*CALL, "--wait=60", "hello", env=env).returncode == 3
    assert time.monotonic() - begun < 60


def test_an_approval_is_waited_for_and_the_call_then_goes_ahead(
    home: Path, start: Start, run_callmeter: Run, run_llm_call: Run, env: dict[str, str]
) -> None:
    policy(home, limit=10, unit="calls", stages={"0": "approve"})
    assert run_llm_call(*CALL, "hello", env=env).returncode == 4
    patient = start("llm-call", *CALL, "--wait-approval=60", "hello", env=env)
    until(lambda: list((home / "inflight").glob("*.call")), patient)
    found = json.loads(run_callmeter("budget", "requests", "--format", "json").stdout)
    (request,) = found["sections"]["requests"]["rows"]
    assert run_callmeter("budget", "approve", request["id"]).returncode == 0
    assert patient.communicate(timeout=90)[0] == b"answer to hello\n"
    assert patient.returncode == 0
