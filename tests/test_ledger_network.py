"""Two hosts in networks of their own (network namespaces), one PostgreSQL in a third, and a link that is cut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from conftest import lacking
from other_hosts import Host, ended
from servers import database

MODEL = ("-m", "openai/gpt-4o-mini", "--max-tokens", "96", "--agent", "code")
# What a call may cost at this ceiling, and what the server says that it did.
WORST = Decimal("0.00013755")
COST = Decimal("0.0001")
LIMIT = WORST * 10

# Between the database's network and the database, which listens on a socket in the file system.
RELAY = """
import asyncio, sys

async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def accept(reader, writer):
    there, back = await asyncio.open_unix_connection(sys.argv[1])
    await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

async def main():
    server = await asyncio.start_server(accept, "0.0.0.0", 5432)
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

# A model on a host's own loopback. `hold` is answered when it is told to.
SERVER = """
import http.server, json, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["messages"][-1]["content"] == "hold":
            print("arrived", flush=True)
            sys.stdin.readline()
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "cost": 0.0001}
        choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
        data = json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler)
print("ready", flush=True)
server.serve_forever()
"""


class Network:
    """The networks `a` and `b`, each with one cable to that of the database."""

    def __init__(self) -> None:
        self._name = f"callmeter-{os.getpid()}-"
        self._running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Network:
        try:
            for place in ("db", "a", "b"):
                self._ip("netns", "add", self._name + place)
                self._ip("-n", self._name + place, "link", "set", "lo", "up")
        except FileNotFoundError:
            lacking("ip is not installed: install iproute2")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            lacking(f"no network namespace can be made here: {error.stderr.strip()}")
        for number, place in enumerate(("a", "b"), 1):
            db, host = self._name + "db", self._name + place
            self._ip("-n", db, "link", "add", f"to-{place}", "type", "veth", "peer", "name", "to-db", "netns", host)
            self._ip("-n", db, "address", "add", f"10.0.{number}.1/24", "dev", f"to-{place}")
            self._ip("-n", host, "address", "add", f"10.0.{number}.2/24", "dev", "to-db")
            self._ip("-n", db, "link", "set", f"to-{place}", "up")
            self._ip("-n", host, "link", "set", "to-db", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.communicate()
        for place in ("db", "a", "b"):
            subprocess.run(["ip", "netns", "delete", self._name + place], stderr=subprocess.DEVNULL)

    def inside(self, place: str) -> tuple[str, ...]:
        """What goes before a command to run it there."""
        return "ip", "netns", "exec", self._name + place

    def serve(self, place: str, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Run a script there, until it says that it is ready; it ends with the network."""
        process = subprocess.Popen(
            [*self.inside(place), sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        return process

    def cut(self, place: str) -> None:
        """Pull the cable, at the database's end: nobody is told, nothing arrives any more."""
        self._ip("-n", self._name + "db", "link", "set", f"to-{place}", "down")

    def mend(self, place: str) -> None:
        """Put it back."""
        self._ip("-n", self._name + "db", "link", "set", f"to-{place}", "up")

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def network() -> Iterator[Network]:
    missing = database.missing()
    if missing:
        lacking(missing)
    with Network() as made, database.postgres() as running:
        made.serve("db", RELAY, running.socket)
        yield made


@pytest.mark.parametrize("unreachable", ["fail_closed", "fail_open"])
def test_a_host_that_is_cut_off_stops_or_goes_on_as_the_policy_says_and_all_is_booked_when_it_is_back(
    unreachable: str, home: Path, environment: dict[str, str], tmp_path: Path, network: Network
) -> None:
    quota = {"subject": "agent:code", "limit": str(LIMIT), "period": "month"}
    policy = {"enforcement": "hard", "unreachable": unreachable, "quotas": [quota]}
    hosts = {}
    for number, name in enumerate(("a", "b"), 1):
        shared = {**environment, "CALLMETER_LEDGER": f"postgresql://callmeter@10.0.{number}.1/postgres"}
        hosts[name] = Host(name, tmp_path / name, shared, policy, *network.inside(name))
    model = network.serve("a", SERVER)
    network.serve("b", SERVER)
    call = ("llm-call", "--base-url", "http://127.0.0.1:8080/v1", *MODEL)
    a, b = hosts.values()
    assert a.run(*call, "hello") == (0, "yes\n")
    assert b.run(*call, "hello") == (0, "yes\n")

    running = a.start(*call, "hold")
    assert model.stdout is not None and model.stdin is not None
    assert model.stdout.readline() == "arrived\n"
    network.cut("a")
    alone = a.start(*call, "hello")
    assert b.run(*call, "hello") == (0, "yes\n"), "who is not cut off goes on"
    model.stdin.write("go on\n")
    model.stdin.flush()
    status, said = ended(running)
    assert status == 0 and said.startswith("yes\n"), "an answer that was paid for is delivered"
    assert "the next call books it" in said
    status, said = ended(alone)
    if unreachable == "fail_closed":
        assert status == 7 and "the ledger at 10.0.1.1" in said
    else:
        assert status == 0 and "as the policy says" in said
    assert len([line for line in a.lines() if line["attempts"]]) == (2 if unreachable == "fail_closed" else 3)

    network.mend("a")
    waiting = [a, b]
    while waiting:
        host = waiting.pop(0)
        status, said = host.run(*call, "hello")
        assert status in (0, 3), said
        if status == 0:
            waiting.append(host)
    spent = sum(line["cost"] for host in hosts.values() for line in host.lines())
    assert LIMIT - WORST < spent <= LIMIT
    for host in hosts.values():
        assert host.run("callmeter", "budget", "recover", "--check") == (0, "")
        assert list((host.home / "inflight").iterdir()) == []
        shown = host.run("callmeter", "budget", "quota", "left", "--agent", "code", "--json")[1]
        assert f'"used":{spent}' in shown and '"held":0' in shown, shown
