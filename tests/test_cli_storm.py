"""Many `llm-call` processes at once, some of them killed: one line for each call that was sent, none torn."""

from __future__ import annotations

import json
import os
import random
import signal
import socketserver
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CALLS = 64
# Where the server kills its caller, before it goes on: nothing sent back, the head, half an answer, everything.
MOMENTS = ("request", "head", "middle", "usage")


class Killer(socketserver.ThreadingTCPServer):
    """A model server that knows its callers' processes by their session, and kills those that it is told to."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.victims: dict[str, str] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.known = threading.Condition()
        self.received: Counter[str] = Counter()
        self.cost = 0.000003
        self.base_url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def arrived(self, count: int) -> None:
        """Wait until that many requests have come."""
        with self.known:
            assert self.known.wait_for(lambda: self.received.total() >= count, timeout=120), self.received

    def kill(self, session: str) -> None:
        with self.known:
            self.known.wait_for(lambda: session in self.processes, timeout=120)
        self.processes[session].send_signal(signal.SIGKILL)
        self.processes[session].wait()


class _Handler(socketserver.StreamRequestHandler):
    server: Killer

    def handle(self) -> None:
        session, length = "", 0
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            if name.lower() == "x-session-id":
                session = value.strip()
            if name.lower() == "content-length":
                length = int(value)
        body = self.rfile.read(length)
        if len(body) < length:
            return
        with self.server.known:
            self.server.received[session] += 1
            self.server.known.notify_all()
        moment = self.server.victims.get(session)
        parts = {
            "request": b"",
            "head": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Generation-Id: gen-"
            + session.encode()
            + b"\r\nConnection: close\r\n\r\n",
            "middle": _event({"choices": [{"index": 0, "delta": {"content": "half "}}]}),
            "usage": _event({"choices": [{"index": 0, "delta": {"content": "whole"}, "finish_reason": "stop"}]})
            + _event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "cost": self.server.cost}}),
            "end": b"data: [DONE]\n\n",
        }
        for name, part in parts.items():
            try:
                self.wfile.write(part)
                self.wfile.flush()
            except OSError:
                return
            if name == moment:
                self.server.kill(session)


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@contextmanager
def serving() -> Iterator[Killer]:
    with Killer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("seed", [1, 2])
def test_one_line_for_each_call_that_was_sent_whoever_is_killed(
    seed: int,
    home: Path,
    start: Callable[..., subprocess.Popen[bytes]],
    run_llm_call: Callable[..., subprocess.CompletedProcess[str]],
    run_callmeter: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    chosen = random.Random(seed)
    with serving() as server:
        sessions = [f"s{number}" for number in range(CALLS)]
        for session in chosen.sample(sessions, CALLS // 4):
            server.victims[session] = chosen.choice(MOMENTS)
        for session in sessions:
            process = start(
                "llm-call",
                "--base-url",
                server.base_url,
                "-m",
                "openai/gpt-4o-mini",
                "--agent",
                "storm",
                "--session",
                session,
                "hello",
            )
            with server.known:
                server.processes[session] = process
                server.known.notify_all()
        for session, process in server.processes.items():
            output, errors = process.communicate(timeout=120)
            if session not in server.victims:
                assert (process.returncode, output) == (0, b"half whole\n"), errors
        # Whoever comes next finishes the calls of the dead.
        assert run_llm_call("--base-url", server.base_url, "-m", "x", "--session", "next", "hello").returncode == 0

    raw = (home / "usage.jsonl").read_bytes()
    assert raw.endswith(b"\n")
    records = [json.loads(line) for line in raw.splitlines()]
    lines = Counter(record["tags"]["session"] for record in records)
    assert lines == server.received
    by_session = {record["tags"]["session"]: record for record in records}
    for session in sessions:
        record = by_session[session]
        moment = server.victims.get(session)
        if moment is None:
            assert (record["status"], record["cost"]) == ("ok", 0.000003)
        elif record["status"] == "unknown" and record["cost_source"] == "estimate":
            assert record["cost"] == record["estimate"] > 0
        else:  # killed when everything had been sent: the dead process may have read the usage
            assert (moment, record["cost"]) == ("usage", 0.000003)
        assert record.get("generation_id") in (None, f"gen-{session}")
    assert not os.listdir(home / "inflight")
    assert run_callmeter("budget", "log", "verify").returncode == 0
