"""A hard quota that two hosts share through PostgreSQL: many processes, some of them killed, the database restarted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from conftest import lacking
from other_hosts import Host
from servers import database
from servers.database import Postgres
from test_cli_storm import MOMENTS, serving

CALLS = 64
HOSTS = ("host-a", "host-b")
MODEL = ("-m", "openai/gpt-4o-mini", "--max-tokens", "96", "--agent", "storm")
# What a call may cost at this ceiling, and what the server says that it did.
WORST = Decimal("0.00013755")
COST = Decimal("0.0001")
FITTING = 12


@pytest.fixture
def own_database() -> Iterator[Postgres]:
    """A PostgreSQL of the test's own, which it may stop."""
    missing = database.missing()
    if missing:
        lacking(missing)
    with database.postgres() as running:
        yield running


@pytest.mark.parametrize("seed", [5, 6])
def test_two_hosts_never_exceed_a_shared_cap_though_callers_are_killed_and_the_database_restarts(
    seed: int, home: Path, environment: dict[str, str], tmp_path: Path, own_database: Postgres
) -> None:
    import psycopg

    limit = WORST * FITTING
    quota = {"subject": "agent:storm", "limit": str(limit), "period": "month"}
    policy = {"enforcement": "hard", "quotas": [quota]}
    shared = {**environment, "CALLMETER_LEDGER": own_database.address}
    hosts = [Host(name, tmp_path / name, shared, policy) for name in HOSTS]
    chosen = random.Random(seed)
    sessions = [f"s{number}" for number in range(CALLS)]
    with serving() as server:
        server.cost = float(COST)
        call = ("-q", "--base-url", server.base_url, *MODEL)
        for session in chosen.sample(sessions, CALLS // 4):
            server.victims[session] = chosen.choice(MOMENTS)
        for number, session in enumerate(sessions):
            if number == CALLS // 2:
                # As in a power failure, with calls at every step of their way.
                server.arrived(3)
                own_database.stop(3)
            process = hosts[number % 2].start("llm-call", *call, "--session", session, "hello")
            with server.known:
                server.processes[session] = process
                server.known.notify_all()
            if number == CALLS * 5 // 8:
                own_database.start()
        ended = {}
        for session, process in server.processes.items():
            _, errors = process.communicate(timeout=120)
            ended[session] = (process.returncode, errors.decode()[-200:])
        assert {status for status, _ in ended.values()} <= {0, 3, 7, 8, -9}, ended

        # Nobody has to do anything: whoever comes next on each host finishes its dead, and gets what is left.
        served = [0, 0]
        for number, host in enumerate(hosts):
            while (done := host.run("llm-call", *call, "--session", f"late-{host.name}", "hello"))[0] == 0:
                served[number] += 1
            assert done[0] == 3, done

    lines = [host.lines() for host in hosts]
    for host, its in zip(hosts, lines, strict=True):
        assert {line["host"] for line in its} == {host.name}
    paid = [line for its in lines for line in its if line["attempts"]]
    spent = sum(line["cost"] for line in paid)
    assert limit - WORST < spent <= limit, "exactly as many calls as fit were served"
    assert sorted(line["tags"]["session"] for line in paid) == sorted(server.received.elements())
    for host in hosts:
        assert host.run("callmeter", "budget", "recover") == (0, "")
        assert host.run("callmeter", "budget", "recover", "--check") == (0, "")
        assert list((host.home / "inflight").iterdir()) == []
    with psycopg.connect(own_database.address) as connection:
        found = connection.execute(
            "SELECT settled_usd, held_usd FROM callmeter_windows WHERE bucket = 'agent:storm'"
        ).fetchall()
        assert found == [(int(spent * 10**9), 0)]
        assert connection.execute("SELECT * FROM callmeter_reservations WHERE state = 'held'").fetchall() == []
