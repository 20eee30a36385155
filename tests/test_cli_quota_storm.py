"""A hard quota under many processes at once, some of them killed: never a nano-dollar above it, nothing stuck."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from test_cli_storm import MOMENTS, serving

CALLS = 64
# A call's worst case with this output ceiling, and what the server says that it cost.
WORST = Decimal("0.0001371")
COST = Decimal("0.000003")


@pytest.mark.parametrize("seed", [3, 4])
def test_a_hard_cap_holds_under_64_processes_with_one_in_four_killed(
    seed: int,
    home: Path,
    start: Callable[..., subprocess.Popen[bytes]],
    run_llm_call: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    limit = WORST * 10
    policy = {"enforcement": "hard", "quotas": [{"subject": "agent:storm", "limit": str(limit), "period": "month"}]}
    (home / "budget.json").write_text(json.dumps(policy))
    chosen = random.Random(seed)
    with serving() as server:
        arguments = [
            "--base-url",
            server.base_url,
            "-m",
            "openai/gpt-4o-mini",
            "--max-tokens",
            "96",
            "--agent",
            "storm",
        ]
        sessions = [f"s{number}" for number in range(CALLS)]
        for session in chosen.sample(sessions, CALLS // 4):
            server.victims[session] = chosen.choice(MOMENTS)
        for session in sessions:
            process = start("llm-call", "-q", *arguments, "--session", session, "hello")
            with server.known:
                server.processes[session] = process
                server.known.notify_all()
        statuses = {}
        for session, process in server.processes.items():
            process.communicate(timeout=120)
            statuses[session] = process.returncode
        # The quota is not used up, so whoever comes next may call, and finishes the calls of the dead.
        last = run_llm_call("-q", *arguments, "--session", "last", "hello")

    assert set(statuses.values()) <= {0, 3, 8, -9}, statuses
    records = [json.loads(line, parse_float=Decimal) for line in (home / "usage.jsonl").read_text().splitlines()]
    spent = sum(Decimal(record["cost"]) for record in records)
    assert 0 < spent <= limit
    served = [record for record in records if record["attempts"]]
    assert sorted(record["tags"]["session"] for record in served) == sorted(server.received.elements())
    assert last.returncode in (0, 3)
    with sqlite3.connect(home / "ledger.db") as ledger:
        ((settled, held),) = ledger.execute("SELECT settled_usd, held_usd FROM windows WHERE bucket = 'agent:storm'")
        assert held == 0
        assert Decimal(settled) == spent * 10**9
        assert ledger.execute("SELECT count(*) FROM reservations").fetchone() == (0,)
