"""Rotating keys that a person makes: a real model behind a gate with several keys, probed at its list of models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import LocalModel, Run
from servers.key_gate import KeyGate

AGENTS = [f"agent{number}" for number in range(8)]


@pytest.fixture
def gate(home: Path, local_model: LocalModel, run_callmeter: Run) -> Iterator[KeyGate]:
    with KeyGate(local_model.base_url, local_model.api_key) as gate:
        (home / "config.toml").write_text(
            f'provider = "gate"\nmodel = "{local_model.model}"\n'
            f'[providers.gate]\nbase_url = "{gate.base_url}"\nfree = true\n'
        )
        for agent in AGENTS:
            gate.keys.add(f"sk-{agent}-first")
            assert run_callmeter("budget", "keys", "add", agent, input=f"sk-{agent}-first").returncode == 0
        yield gate


def test_eight_agents_call_a_real_model_while_a_person_changes_their_keys_and_no_call_fails(
    home: Path, gate: KeyGate, run_callmeter: Run, run_llm_call: Run
) -> None:
    stop = threading.Event()
    failed: list[str] = []

    def work(agent: str) -> None:
        while not stop.is_set():
            done = run_llm_call("--agent", agent, "--max-tokens", "4", "Say yes")
            if done.returncode != 0:
                failed.append(done.stderr)

    workers = [threading.Thread(target=work, args=(agent,)) for agent in AGENTS]
    for worker in workers:
        worker.start()
    try:
        for agent in AGENTS[:3]:
            label = f"{agent}@gate"
            gate.keys.add(f"sk-{agent}-second")
            new = f"sk-{agent}-second\n"
            done = run_callmeter("budget", "rotate-key", label, "--paste", "--grace", "0s", input=new)
            assert done.returncode == 3, done.stderr
            assert "revoke" in done.stdout
            gate.keys.remove(f"sk-{agent}-first")
            done = run_callmeter("budget", "rotate-key", label, "--resume")
            assert done.returncode == 0, (done.stdout, done.stderr)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert not failed
    for agent in AGENTS[:3]:
        assert (home / "secrets" / f"{agent}@gate").read_text().strip() == f"sk-{agent}-second"
        assert not (home / "secrets" / f"{agent}@gate.previous").exists()
    seen = " ".join(
        path.read_text(errors="replace") for path in home.rglob("*") if path.parent.name != "secrets" and path.is_file()
    )
    assert "sk-agent" not in seen
