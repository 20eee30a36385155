"""`--idempotency-key`: asked again, the recorded answer comes back and nothing is paid."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest

from conftest import LocalModel, Run
from servers.counting import CountingServer

Ask = Callable[..., CompletedProcess[str]]
Begin = Callable[..., Popen[bytes]]


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


@pytest.fixture
def ask(run_llm_call: Run, server: CountingServer) -> Ask:
    def ask(*arguments: str) -> CompletedProcess[str]:
        return run_llm_call("--base-url", server.base_url, "-m", "m", *arguments)

    return ask


@pytest.fixture
def begin(start: Callable[..., Popen[bytes]], server: CountingServer) -> Begin:
    """Start a call without waiting for its end."""
    return lambda *arguments: start("llm-call", "--base-url", server.base_url, "-m", "m", *arguments)


def lines(home: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (home / "usage.jsonl").read_text().splitlines()]


def until_at_a_lock(process: Popen[bytes]) -> None:
    """Return when a process has opened a lock of recorded answers, which another one holds."""
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
            try:
                if "/answers/" in os.readlink(descriptor):
                    return
            except OSError:
                continue  # closed meanwhile
    raise AssertionError("it does not wait")


def test_the_same_key_and_request_give_the_recorded_answer_at_no_cost(
    ask: Ask, server: CountingServer, home: Path
) -> None:
    first = ask("--idempotency-key", "k", "hello")
    again = ask("--idempotency-key", "k", "hello")
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, first.stderr)
    assert again.stdout == "answer to hello\n"
    as_json = json.loads(ask("--idempotency-key", "k", "--json", "hello").stdout)
    assert as_json["replayed"] is True
    assert as_json["id"] == lines(home)[0]["id"]
    assert as_json["cost"] == 0.000125
    assert len(server.bodies) == 1
    assert len(lines(home)) == 1
    assert json.loads(ask("--idempotency-key", "new", "--json", "hello").stdout)["replayed"] is False
    assert len(server.bodies) == 2


def test_what_does_not_change_the_request_does_not_matter(ask: Ask, server: CountingServer) -> None:
    ask("--idempotency-key", "k", "-o", "a", "1", "-o", "b", "2", "hello")
    other = ["--timeout", "20", "--retries", "0", "--agent", "x", "-o", "b", "2", "-o", "a", "1", "--no-stream"]
    assert ask("--idempotency-key", "k", *other, "hello").stdout == "answer to hello\n"
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "change",
    [
        ["other prompt"],
        ["-m", "other-model", "hello"],
        ["-s", "system", "hello"],
        ["--max-tokens", "5", "hello"],
        ["-o", "temperature", "0.5", "hello"],
        ["--provider", "openai", "hello"],
        ["--fallback-model", "f", "hello"],
        ["--schema", "name", "hello"],
        ["--base-url", "http://127.0.0.1:9/v1", "hello"],
    ],
)
def test_the_same_key_with_another_request_is_a_usage_error(
    ask: Ask, server: CountingServer, change: list[str]
) -> None:
    ask("--idempotency-key", "k", "hello")
    done = ask("--idempotency-key", "k", *change)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'k' was used for another request" in done.stderr
    assert len(server.bodies) == 1
    # The recorded answer is still there.
    assert ask("--idempotency-key", "k", "hello").stdout == "answer to hello\n"


@pytest.mark.parametrize("conversation", [["-c"], ["--conversation", "x"]])
def test_a_turn_of_a_conversation_that_is_repeated_is_taken_once(
    ask: Ask, server: CountingServer, conversation: list[str]
) -> None:
    ask(*conversation, "first")
    for _ in range(2):
        assert ask(*conversation, "--idempotency-key", "k", "second").stdout == "answer to second\n"
    ask(*conversation, "third")
    assert [message["content"] for message in server.bodies[-1]["messages"]] == [
        "first",
        "answer to first",
        "second",
        "answer to second",
        "third",
    ]
    assert ask(*conversation, "--idempotency-key", "k", "another").returncode == 2


def test_a_second_process_with_the_same_key_waits_and_gets_the_recorded_answer(
    begin: Begin, server: CountingServer, home: Path
) -> None:
    first = begin("--idempotency-key", "k", "hold")
    server.arrived(1)
    others = [begin("--idempotency-key", "k", "hold") for _ in range(4)]
    for process in others:
        until_at_a_lock(process)
    server.release()
    for process in (first, *others):
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, b"answer to hold\n", b"")
    assert len(server.bodies) == 1
    assert len(lines(home)) == 1


def test_whoever_waits_longer_than_its_timeout_is_told_to_come_again(
    ask: Ask, begin: Begin, server: CountingServer
) -> None:
    first = begin("--idempotency-key", "k", "hold")
    server.arrived(1)
    done = ask("--idempotency-key", "k", "--timeout", "0.2", "hold")
    assert done.returncode == 8
    assert "'k' is still running" in done.stderr
    assert str(first.pid) in done.stderr
    # Another key does not wait.
    assert ask("--idempotency-key", "other", "hello").returncode == 0
    server.release()
    assert first.communicate(timeout=60)[0] == b"answer to hold\n"


def test_a_process_that_is_killed_in_the_middle_leaves_no_lock_and_no_answer(
    ask: Ask, begin: Begin, server: CountingServer
) -> None:
    for kill in (signal.SIGKILL, signal.SIGTERM):
        process = begin("--idempotency-key", "k", "drip")
        server.arrived(1)
        process.send_signal(kill)
        process.communicate(timeout=60)
        server.bodies.clear()
    server.release()
    assert ask("--idempotency-key", "k", "--timeout", "20", "drip").stdout == "answer to drip\n"
    assert ask("--idempotency-key", "k", "drip").stdout == "answer to drip\n"
    assert len(server.bodies) == 1


def test_only_whole_answers_are_recorded(ask: Ask, server: CountingServer) -> None:
    server.failing.add("hello")
    assert ask("--idempotency-key", "k", "hello").returncode == 7
    server.failing.clear()
    assert ask("--idempotency-key", "k", "hello").stdout == "answer to hello\n"
    assert len(server.bodies) == 2


def test_the_recorded_answer_is_judged_as_the_call_asks(ask: Ask, server: CountingServer) -> None:
    server.answers["code"] = "Here:\n```\nx = 1\n```\n"
    server.finish_reason = "length"
    assert ask("--idempotency-key", "k", "code").returncode == 0
    assert ask("--idempotency-key", "k", "-x", "code").stdout == "x = 1\n"
    assert ask("--idempotency-key", "k", "--strict", "code").returncode == 9
    assert len(server.bodies) == 1


def test_a_damaged_record_is_an_error_and_nothing_is_paid_or_overwritten(
    ask: Ask, server: CountingServer, home: Path
) -> None:
    ask("--idempotency-key", "k", "hello")
    (path,) = (home / "private" / "answers").glob("*.json")
    for damage in (b"{", path.read_bytes().replace(b'"record"', b'"records"')):
        path.write_bytes(damage)
        done = ask("--idempotency-key", "k", "hello")
        assert done.returncode == 5
        assert f"rm {path}" in done.stderr
        assert path.read_bytes() == damage
    assert len(server.bodies) == 1


def test_keys_are_names_of_some_length(ask: Ask, server: CountingServer, home: Path) -> None:
    for key in ("", "x" * 256):
        assert ask("--idempotency-key", key, "hello").returncode == 2
    assert ask("--idempotency-key", "../../é\n", "hello").returncode == 0
    assert {path.parent for path in home.rglob("*.json") if b"answer to" in path.read_bytes()} == {
        home / "private" / "answers"
    }


def test_recorded_answers_are_forgotten_after_their_retention(ask: Ask, server: CountingServer, home: Path) -> None:
    ask("--idempotency-key", "k", "hello")
    for path in (home / "private").rglob("*"):
        os.utime(path, (0, 0))
    ask("--idempotency-key", "other", "hello")
    ask("--idempotency-key", "k", "hello")
    assert len(server.bodies) == 3


def test_with_the_real_model_the_second_answer_is_the_first(
    run_llm_call: Run, local_model: LocalModel, home: Path
) -> None:
    options = (*local_model.options, "--max-tokens", "8", "-o", "temperature", "1.5", "--idempotency-key", "k")
    first, again = (run_llm_call(*options, "Tell me something", env=local_model.env) for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 0)
    assert again.stdout == first.stdout
    assert len(lines(home)) == 1
