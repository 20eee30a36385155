"""A hard quota and calls of several attempts: what is held covers every attempt that may have been charged."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from ledger_engines import new_database, server  # noqa: F401 - a fixture, asked for by name

CALL = ("-m", "gpt-4o-mini", "--provider", "mine", "--max-tokens", "96", "--agent", "code")
MONTH = {"subject": "agent:code", "period": "month"}


class Failing:
    """An endpoint that answers each request with the next of `statuses` (0: not at all), then with a whole answer. With
    `together`, it answers nobody before so many have asked."""

    def __init__(self, statuses: list[int], together: int = 1) -> None:
        self.statuses = statuses
        self.models: list[str] = []
        self.lock = threading.Lock()
        self.barrier = threading.Barrier(together)
        self.silent, self.over = threading.Event(), threading.Event()


@contextmanager
def failing(*statuses: int, together: int = 1) -> Iterator[tuple[Failing, str]]:
    said = Failing(list(statuses), together)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with said.lock:
                said.models.append(body["model"])
                first = len(said.models) <= together
                status = said.statuses.pop(0) if said.statuses else 200
            if first:
                said.barrier.wait(120)
            if not status:
                said.silent.set()
                said.over.wait(60)
                return
            answer = {
                "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 1, "cost": 0.000002},
            }
            data = json.dumps(answer if status == 200 else {"error": {"code": status, "message": "out"}}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    serving = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
    thread.start()
    yield said, f"http://127.0.0.1:{serving.server_port}/v1"
    said.over.set()
    serving.shutdown()
    thread.join()
    serving.server_close()


def prepare(home: Path, base_url: str, *quotas: dict[str, object]) -> None:
    (home / "config.toml").write_text(f'[providers.mine]\nbase_url = "{base_url}"\nprice_as = "openai"\n')
    (home / "budget.json").write_text(json.dumps({"enforcement": "hard", "quotas": list(quotas)}))


def lines(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_float=Decimal) for line in (home / "usage.jsonl").read_text().splitlines()]


@pytest.fixture
def worst(run_llm_call: Run, home: Path) -> Decimal:
    """The most that one attempt of the call may cost."""
    prepare(home, "http://127.0.0.1:9/v1")
    done = run_llm_call(*CALL, "--dry-run", "hello")
    return Decimal(json.loads(done.stdout, parse_float=Decimal)["estimate"]["worst_case"])


def test_an_attempt_that_does_not_fit_beside_a_charged_one_is_not_made(
    home: Path, run_llm_call: Run, run_callmeter: Run, worst: Decimal
) -> None:
    with failing(500, 500, 500) as (endpoint, base_url):
        prepare(home, base_url, {**MONTH, "limit": str(worst * 2)})
        done = run_llm_call(*CALL, "--retries", "5", "hello")
    assert done.returncode == 7
    assert len(endpoint.models) == 2, "a third would cost more than the quota has, if all are charged"
    assert "no further attempt with gpt-4o-mini: the quotas do not let it pass" in done.stderr
    (line,) = lines(home)
    assert (line["attempts"], line["cost"]) == (2, worst * 2)
    assert run_callmeter("budget", "recover", "--check").returncode == 0


def test_an_attempt_that_fits_is_made_and_all_are_counted(
    home: Path, run_llm_call: Run, run_callmeter: Run, worst: Decimal
) -> None:
    with failing(500, 503) as (_, base_url):
        prepare(home, base_url, {**MONTH, "limit": str(worst * 3)})
        done = run_llm_call(*CALL, "--retries", "5", "hello")
    assert (done.returncode, done.stdout) == (0, "yes\n")
    (line,) = lines(home)
    assert line["cost"] == worst * 2 + Decimal("0.000002")
    assert run_callmeter("budget", "recover", "--check").returncode == 0


def test_a_caller_killed_in_a_later_attempt_leaves_what_all_of_them_may_have_cost(
    home: Path, start: Callable[..., subprocess.Popen[bytes]], run_callmeter: Run, worst: Decimal
) -> None:
    with failing(500, 0) as (endpoint, base_url):
        prepare(home, base_url, {**MONTH, "limit": str(worst * 3)})
        process = start("llm-call", *CALL, "--retries", "5", "hello")
        assert endpoint.silent.wait(60)
        process.kill()
        process.wait(60)
    run_callmeter("budget", "recover")
    (line,) = lines(home)
    assert (line["status"], line["attempts"], line["cost"]) == ("unknown", 2, worst * 2)
    assert run_callmeter("budget", "recover", "--check").returncode == 0


def test_attempts_that_cost_nothing_need_no_further_room(home: Path, run_llm_call: Run, worst: Decimal) -> None:
    with failing(429, 429) as (endpoint, base_url):
        prepare(home, base_url, {**MONTH, "limit": str(worst)})
        done = run_llm_call(*CALL, "--retries", "5", "hello")
    assert (done.returncode, len(endpoint.models)) == (0, 3), done.stderr


def test_many_that_fail_at_once_never_hold_or_cost_more_than_the_cap(
    home: Path, start: Callable[..., subprocess.Popen[bytes]], run_callmeter: Run, worst: Decimal
) -> None:
    """All have asked before the first fails: four attempts are held, and the cap has room for seven."""
    with failing(*[500] * 40, together=4) as (endpoint, base_url):
        prepare(home, base_url, {**MONTH, "limit": str(worst * 7)})
        running = [start("llm-call", "-q", *CALL, "--retries", "9", "hello") for _ in range(4)]
        for process in running:
            process.communicate(timeout=60)
    assert len(endpoint.models) == 7
    assert sum(line["cost"] for line in lines(home)) == worst * 7
    with sqlite3.connect(home / "ledger.db") as ledger:
        found = ledger.execute("SELECT settled_usd, held_usd FROM windows WHERE bucket = 'agent:code'").fetchall()
    assert found == [(int(worst * 7 * 10**9), 0)]
    assert run_callmeter("budget", "recover", "--check").returncode == 0


def test_a_fallback_model_is_booked_under_its_own_quota(
    home: Path, run_llm_call: Run, run_callmeter: Run, worst: Decimal
) -> None:
    models = {"subject": "model:*", "period": "month", "limit": str(worst * 20)}
    with failing(404) as (endpoint, base_url):
        prepare(home, base_url, models)
        done = run_llm_call(*CALL, "--fallback-model", "gpt-4.1-nano", "hello")
    assert (done.returncode, endpoint.models) == (0, ["gpt-4o-mini", "gpt-4.1-nano"])
    checked = run_callmeter("budget", "recover", "--check")
    assert checked.returncode == 0, checked.stdout
    shown = json.loads(run_callmeter("budget", "quota", "show", "--format", "json").stdout)
    used = {row["subject"]: row["used"] for row in shown["sections"]["usd"]["rows"]}
    assert used == {"model:gpt-4.1-nano": 0.000002, "model:gpt-4o-mini": 0}


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_fallback_model_without_a_quota_is_booked_in_none(
    engine: str, home: Path, run_llm_call: Run, run_callmeter: Run, worst: Decimal, request: pytest.FixtureRequest
) -> None:
    env = {"CALLMETER_LEDGER": new_database(request.getfixturevalue("server"))} if engine == "postgres" else {}
    with failing(404) as (_, base_url):
        prepare(home, base_url, {"subject": "model:gpt-4o-mini", "period": "month", "limit": str(worst)})
        done = run_llm_call(*CALL, "--fallback-model", "gpt-4.1-nano", "hello", env=env)
    assert done.returncode == 0, done.stderr
    checked = run_callmeter("budget", "recover", "--check", env=env)
    assert checked.returncode == 0, checked.stdout
    left = json.loads(run_callmeter("budget", "quota", "show", "--format", "json", env=env).stdout)
    assert [(row["used"], row["held"]) for row in left["sections"]["usd"]["rows"]] == [(0, 0)]


def test_a_fallback_model_whose_own_quota_is_used_up_is_not_asked(
    home: Path, run_llm_call: Run, worst: Decimal
) -> None:
    with failing(404) as (endpoint, base_url):
        prepare(home, base_url, {"subject": "model:gpt-4.1-nano", "period": "month", "limit": "0.000001"})
        done = run_llm_call(*CALL, "--fallback-model", "gpt-4.1-nano", "hello")
    assert (done.returncode, endpoint.models) == (7, ["gpt-4o-mini"])
    assert "no further attempt with gpt-4.1-nano" in done.stderr
