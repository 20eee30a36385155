"""`--batch`: a file of prompts becomes a file of answers, each once, whatever happens in between."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import pytest

from conftest import LocalModel, Run
from servers.counting import CountingServer

Ask = Callable[..., CompletedProcess[str]]
Begin = Callable[..., Popen[bytes]]
Write = Callable[..., Path]


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


@pytest.fixture
def ask(run_llm_call: Run, server: CountingServer) -> Ask:
    """Run a batch to its end."""

    def ask(batch: str | Path, *arguments: str, input: str | bytes | None = None) -> CompletedProcess[str]:
        return run_llm_call("--base-url", server.base_url, "-m", "m", "--batch", batch, *arguments, input=input)

    return ask


@pytest.fixture
def begin(start: Callable[..., Popen[bytes]], server: CountingServer) -> Begin:
    """Start a batch without waiting for its end."""
    return lambda batch, *arguments, **options: start(
        "llm-call", "--base-url", server.base_url, "-m", "m", "--batch", batch, *arguments, **options
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A batch file: objects become JSON, text a line with that prompt, bytes stand as they are."""

    def write(*lines: dict[str, Any] | str | bytes, end: bytes = b"\n") -> Path:
        path = tmp_path / "batch.jsonl"
        data = [
            line
            if isinstance(line, bytes)
            else json.dumps({"prompt": line} if isinstance(line, str) else line).encode()
            for line in lines
        ]
        path.write_bytes(b"\n".join(data) + end)
        return path

    return write


def results(done: CompletedProcess[str] | bytes) -> list[dict[str, Any]]:
    text = done.decode() if isinstance(done, bytes) else done.stdout
    return [json.loads(line) for line in text.split("\n") if line]


def texts(done: CompletedProcess[str] | bytes) -> list[str | None]:
    return [result.get("text") for result in results(done)]


def logged(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "usage.jsonl").read_text().splitlines()]


def test_each_line_is_answered_in_order_with_its_own_tags_and_its_own_line_in_the_log(
    ask: Ask, write: Write, home: Path
) -> None:
    batch = write(
        {"id": "a-1", "prompt": "one", "agent": "code", "tags": {"team": "search"}},
        {"id": 2, "prompt": "two", "purpose": "triage"},
        {"prompt": "three"},
    )
    done = ask(batch, "--agent", "default", "--tag", "team=core")
    assert (done.returncode, done.stderr) == (0, "")
    found = results(done)
    assert [(result["index"], result["id"], result["text"]) for result in found] == [
        (0, "a-1", "answer to one"),
        (1, 2, "answer to two"),
        (2, None, "answer to three"),
    ]
    assert found[0]["tags"] == {"agent": "code", "team": "search"}
    assert found[1]["tags"] == {"agent": "default", "team": "core", "purpose": "triage"}
    assert found[2] | {"call_id": 0, "duration_ms": 0} == {
        "index": 2,
        "id": None,
        "call_id": 0,
        "text": "answer to three",
        "status": "ok",
        "finish_reason": "stop",
        "model": "m",
        "served_model": "served-model",
        "provider": "openrouter",
        "tokens": {"in": 10, "out": 5, "cached": 0, "cache_write": 0, "cache_write_1h": 0, "reasoning": 0},
        "cost": 0.000125,
        "cost_source": "provider",
        "estimate": None,
        "attempts": 1,
        "duration_ms": 0,
        "generation_id": found[2]["generation_id"],
        "tags": {"agent": "default", "team": "core"},
        "asked_model": None,
        "pool": None,
        "note": None,
        "replayed": False,
        "warnings": [],
    }
    log = logged(home)
    assert sorted(line["id"] for line in log) == sorted(result["call_id"] for result in found)
    assert {line["tags"]["agent"] for line in log} == {"code", "default"}


def test_a_line_says_what_is_different_from_the_command_line(ask: Ask, write: Write, server: CountingServer) -> None:
    batch = write(
        {"prompt": "one"},
        {
            "prompt": "two",
            "model": "other",
            "system": "Be brief.",
            "max_tokens": 7,
            "options": {"seed": 1, "top_p": 0.5},
        },
        {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}], "prompt": "last"},
        {"messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "only"}], "system": None},
    )
    done = ask(batch, "-s", "System.", "--max-tokens", "99", "-o", "seed", "5", "--concurrency", "1")
    assert done.returncode == 0
    first, second, third, fourth = server.bodies
    assert (first["model"], first["seed"], first["max_completion_tokens"]) == ("m", 5, 99)
    assert first["messages"] == [{"role": "system", "content": "System."}, {"role": "user", "content": "one"}]
    assert (second["model"], second["seed"], second["top_p"]) == ("other", 1, 0.5)
    assert second["max_completion_tokens"] == 7
    assert second["messages"][0]["content"] == "Be brief."
    assert [message["content"] for message in third["messages"]] == ["System.", "u", "a", "last"]
    assert [message["content"] for message in fourth["messages"]] == ["System.", "only"]


def test_a_template_is_filled_from_each_line(ask: Ask, write: Write, server: CountingServer, home: Path) -> None:
    (home / "templates").mkdir()
    (home / "templates" / "t.toml").write_text('prompt = "Put $input into $language, $tone."\n')
    batch = write({"prompt": "this", "params": {"language": "French"}}, {"prompt": "that"})
    done = ask(batch, "-t", "t", "-p", "tone", "kindly", "-p", "language", "Dutch")
    assert texts(done) == ["answer to Put this into French, kindly.", "answer to Put that into Dutch, kindly."]
    assert results(ask(batch))[0]["error"] == "bad_line", "parameters without a template"


def test_schema_extract_and_strict_judge_every_answer(ask: Ask, write: Write, server: CountingServer) -> None:
    server.answers = {"good": '{"name": "Ada"}', "bad": '{"name": 1}'}
    done = ask(write("good", "bad"), "--schema", "name")
    assert done.returncode == 9
    good, bad = results(done)
    assert "error" not in good
    assert (bad["error"], bad["text"], bad["exit_status"]) == ("schema", '{"name": 1}', 9)
    server.answers = {"code": "Here:\n```\nx = 1\n```\n"}
    assert texts(ask(write("code"), "-x")) == ["x = 1\n"]
    server.finish_reason = "length"
    assert results(ask(write("long"), "--strict"))[0]["error"] == "length"


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (b'{"prompt": "x"', "bad_line", "not JSON"),
        (b'{"prompt": "\xff"}', "bad_line", "not JSON"),
        (b'{"prompt": "x", "prompt": "y"}', "bad_line", "stands twice"),
        (b'{"prompt": NaN}', "bad_line", "not JSON"),
        (b"[" * 100_000, "bad_line", "not JSON"),
        (b'"text"', "bad_line", "not a JSON object"),
        (b"{}", "bad_line", "neither `prompt` nor `messages`"),
        (b'{"prompt": "  "}', "bad_line", "neither `prompt` nor `messages`"),
        (b'{"promt": "x"}', "bad_line", "did you mean 'prompt'?"),
        (b'{"prompt": ["x"]}', "bad_line", "`prompt` is not text"),
        (b'{"prompt": "\\ud83d"}', "bad_line", "half a character"),
        (b'{"prompt": "x", "id": 1.5}', "bad_line", "`id`"),
        (b'{"prompt": "x", "id": true}', "bad_line", "`id`"),
        (b'{"prompt": "x", "max_tokens": "10"}', "bad_line", "`max_tokens`"),
        (b'{"prompt": "x", "options": []}', "bad_line", "`options` is not an object"),
        (b'{"prompt": "x", "options": {"stream": false}}', "usage", "stream"),
        (b'{"prompt": "x", "tags": {"a": {}}}', "bad_line", "`tags.a`"),
        (b'{"prompt": "x", "tags": {"bad name": "y"}}', "bad_tag", "bad name"),
        (b'{"prompt": "x", "agent": "\\u0007"}', "bad_tag", "control"),
        (b'{"messages": ["x"]}', "bad_line", "`messages`"),
        (b'{"messages": []}', "bad_line", "neither"),
    ],
)
def test_a_line_that_is_wrong_is_an_error_of_its_own_and_the_others_go_on(
    ask: Ask, write: Write, server: CountingServer, line: bytes, code: str, says: str
) -> None:
    done = ask(write("before", line, "after"))
    before, wrong, after = results(done)
    assert (before["text"], after["text"]) == ("answer to before", "answer to after")
    assert (wrong["index"], wrong["error"], wrong["exit_status"]) == (1, code, 2)
    assert says in wrong["message"]
    if code == "bad_line":
        assert "batch.jsonl:2: " in wrong["message"]
    assert done.returncode == 2
    assert f"1 of 3 items failed: 1 {code}" in done.stderr
    assert sorted(server.prompts) == ["after", "before"]


def test_a_wrong_line_keeps_its_id_as_far_as_it_can_be_read(ask: Ask, write: Write) -> None:
    assert [result["id"] for result in results(ask(write({"id": "x", "promt": "y"}, b'{"id": "z"')))] == ["x", None]


def test_a_line_of_50_mb_is_an_error_and_the_others_go_on(ask: Ask, write: Write, server: CountingServer) -> None:
    done = ask(write("before", b'{"prompt": "' + b"x" * 50_000_000 + b'"}', "after"))
    assert [result.get("error") for result in results(done)] == [None, "bad_line", None]
    assert "longer than 32 MiB" in results(done)[1]["message"]
    assert len(server.bodies) == 2


def test_only_a_line_feed_ends_a_line_blank_lines_are_none_and_the_last_line_needs_no_end(
    ask: Ask, write: Write
) -> None:
    separator = '{"prompt": "a\u2028b\u0085c"}'.encode()
    done = ask(write(b"\xef\xbb\xbf" + separator, b"", b" \r", b'{"prompt": "crlf"}\r', "last", end=b""))
    assert texts(done) == ["answer to a\u2028b\u0085c", "answer to crlf", "answer to last"]
    assert [result["index"] for result in results(done)] == [0, 1, 2]
    assert ask(write(end=b"")).stdout == ""
    assert ask(write(b"", end=b"\n\n")).returncode == 0


def test_the_second_line_of_an_id_is_an_error_and_not_sent(ask: Ask, write: Write, server: CountingServer) -> None:
    done = ask(write({"id": 1, "prompt": "a"}, {"id": "1", "prompt": "b"}, {"id": 1, "prompt": "c"}))
    assert [result.get("error") for result in results(done)] == [None, None, "duplicate_id"]
    assert done.returncode == 2
    assert sorted(server.prompts) == ["a", "b"]


def test_the_exit_status_is_that_of_the_failures_when_they_agree_and_9_when_they_do_not(
    ask: Ask, write: Write, server: CountingServer
) -> None:
    server.failing = {"bad"}
    done = ask(write("good", "bad"))
    assert done.returncode == 7
    failed = results(done)[1]
    assert (failed["error"], failed["status"], failed["cost"]) == ("400", "error", 0)
    done = ask(write("good", "bad", b"{}"))
    assert done.returncode == 9
    assert "2 of 3 items failed: 1 400, 1 bad_line" in done.stderr
    as_json = json.loads(ask(write("good", "bad"), "--json").stderr)
    assert (as_json["error"], as_json["exit_status"]) == ("batch_failed", 7)


def test_as_completed_gives_each_answer_at_once_and_otherwise_the_first_line_comes_first(
    begin: Begin, write: Write, server: CountingServer
) -> None:
    batch = write("hold", *(f"quick {number}" for number in range(20)))
    process = begin(batch, "--as-completed", "--concurrency", "2")
    assert process.stdout is not None
    early = [json.loads(process.stdout.readline()) for _ in range(20)]
    assert sorted(result["index"] for result in early) == list(range(1, 21))
    server.release()
    assert json.loads(process.communicate(timeout=60)[0])["index"] == 0

    batch = write("hold too", *(f"slow {number}" for number in range(600)))
    server.bodies.clear()
    server.hold_again()
    process = begin(batch, "--concurrency", "4")
    server.arrived(601)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    assert process.stdout.read() is None
    os.set_blocking(process.stdout.fileno(), True)
    server.release()
    out, _ = process.communicate(timeout=60)
    assert [result["index"] for result in results(out)] == list(range(601))


def test_no_more_calls_run_at_once_than_were_asked_for(begin: Begin, write: Write, server: CountingServer) -> None:
    batch = write(*(f"hold {number}" for number in range(10)))
    process = begin(batch, "--concurrency", "3")
    server.arrived(3)
    assert len(server.bodies) == 3
    server.release()
    assert len(results(process.communicate(timeout=60)[0])) == 10


def test_the_same_prompt_twice_is_two_calls(ask: Ask, write: Write, server: CountingServer) -> None:
    batch = write("same", "same", "same")
    first = ask(batch)
    assert len(server.bodies) == 3
    again = ask(batch)
    assert len(server.bodies) == 3
    assert [result["call_id"] for result in results(again)] == [result["call_id"] for result in results(first)]
    assert len({result["call_id"] for result in results(again)}) == 3


def test_a_finished_batch_run_again_prints_what_is_recorded_and_a_new_name_begins_anew(
    ask: Ask, write: Write, server: CountingServer, home: Path
) -> None:
    batch = write({"id": 1, "prompt": "a"}, {"id": 2, "prompt": "b"})
    first = ask(batch)
    again = ask(batch, "-v")
    assert [result | {"replayed": False} for result in results(again)] == results(first)
    assert {result["replayed"] for result in results(again)} == {True}
    assert "2 of 2 answers come from the record" in again.stderr
    assert (len(server.bodies), len(logged(home))) == (2, 2)
    ask(batch, "--idempotency-key", "new")
    assert len(server.bodies) == 4


def test_only_what_changed_is_asked_again(ask: Ask, write: Write, server: CountingServer) -> None:
    server.failing = {"c"}
    assert ask(write("a", "b", "c")).returncode == 7
    server.failing = set()
    server.bodies.clear()
    # One more at the beginning, one changed, one that failed, one with other tags.
    done = ask(write("new", {"prompt": "a", "agent": "x", "id": "i"}, "B", "c"))
    assert done.returncode == 0
    assert sorted(server.prompts) == ["B", "c", "new"]
    assert [result["replayed"] for result in results(done)] == [False, True, False, False]
    assert results(done)[1]["id"] == "i"
    server.bodies.clear()
    ask(write("a"), "--max-tokens", "50")
    assert server.prompts == ["a"]


def test_a_batch_that_was_killed_goes_on_and_pays_for_nothing_twice(
    begin: Begin, ask: Ask, write: Write, server: CountingServer, home: Path
) -> None:
    done_before = [f"quick {number}" for number in range(40)]
    in_flight = [f"drip {number}" for number in range(4)]
    later = [f"later {number}" for number in range(10)]
    batch = write(*done_before, *in_flight, *later)
    process = begin(batch, "--concurrency", "4")
    assert process.stdout is not None
    printed = [json.loads(process.stdout.readline()) for _ in done_before]
    server.arrived(44)
    process.kill()
    process.communicate()
    server.gone(4)
    server.release()

    done = ask(batch, "--concurrency", "4")
    assert (done.returncode, done.stderr) == (0, "")
    assert texts(done) == [f"answer to {prompt}" for prompt in (*done_before, *in_flight, *later)]
    assert [result["call_id"] for result in results(done)][:40] == [result["call_id"] for result in printed]
    asked = Counter(server.prompts)
    assert {asked[prompt] for prompt in (*done_before, *later)} == {1}
    assert {asked[prompt] for prompt in in_flight} == {2}
    # What the killed process could not log, the next one did, at its estimate.
    assert Counter(line["status"] for line in logged(home)) == {"ok": 54, "unknown": 4}
    assert not list((home / "inflight").glob("*.call"))


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_ends_every_running_call_and_logs_it_as_cancelled(
    begin: Begin, ask: Ask, write: Write, server: CountingServer, home: Path, sent: signal.Signals, status: int
) -> None:
    # Half of them wait for the first byte, half for the next one.
    batch = write("a", "b", *(f"hold {n}" for n in range(8)), *(f"drip {n}" for n in range(8)), "never", "sent")
    process = begin(batch, "--concurrency", "16")
    assert process.stdout is not None
    first = process.stdout.readline() + process.stdout.readline()
    assert texts(first) == ["answer to a", "answer to b"]
    server.arrived(18)
    process.send_signal(sent)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (status, b"", b"")
    server.gone(16)
    assert Counter(line["status"] for line in logged(home)) == {"ok": 2, "cancelled": 16}
    assert not list((home / "inflight").glob("*.call"))
    server.release()
    done = ask(batch, "--concurrency", "16")
    assert done.returncode == 0
    assert [result["replayed"] for result in results(done)] == [True] * 2 + [False] * 18


def test_a_reader_that_goes_away_ends_the_batch_and_loses_no_paid_answer(
    begin: Begin, ask: Ask, write: Write, server: CountingServer, home: Path
) -> None:
    batch = write(*(f"quick {n} {'x' * 10_000}" for n in range(30)), "hold 1", "hold 2")
    process = begin(batch, "--concurrency", "4")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    assert process.wait(120) == 141
    paid = [line for line in logged(home) if line["status"] == "ok"]
    assert len(paid) + Counter(line["status"] for line in logged(home))["cancelled"] == len(logged(home))
    server.all_ended()
    server.release()
    sent_before = len(server.bodies)
    done = ask(batch, "--concurrency", "4")
    assert done.returncode == 0
    assert sum(result["replayed"] for result in results(done)) == len(paid)
    assert len(server.bodies) - sent_before == 32 - len(paid)


def test_answers_come_while_the_input_is_still_being_written(begin: Begin) -> None:
    process = begin("-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(3):
        process.stdin.write(b'{"prompt": "%d"}\n' % number)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"] == f"answer to {number}"
    # Ctrl-C does not wait for more input.
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_what_comes_from_a_pipe_is_recorded_under_a_name_or_not_at_all(
    ask: Ask, server: CountingServer, home: Path
) -> None:
    lines = '{"prompt": "a"}\n{"prompt": "b"}\n'
    for _ in range(2):
        assert texts(ask("-", input=lines)) == ["answer to a", "answer to b"]
    assert len(server.bodies) == 4
    assert list((home / "private" / "batches").iterdir()) == []
    for _ in range(2):
        ask("-", "--idempotency-key", "nightly", input=lines)
    assert len(server.bodies) == 6


def test_two_processes_do_not_run_one_batch_but_may_run_one_file_in_two_ways(
    begin: Begin, ask: Ask, write: Write, server: CountingServer
) -> None:
    batch = write("hold")
    process = begin(batch, "-s", "x")
    server.arrived(1)
    done = ask(batch, "-s", "x")
    assert done.returncode == 8
    assert "this batch is running" in done.stderr
    assert f"process {process.pid}" in done.stderr
    assert "--idempotency-key" in done.stderr
    other = begin(batch, "-s", "y")
    server.arrived(2)
    server.release()
    for each in (process, other):
        assert texts(each.communicate(timeout=120)[0]) == ["answer to hold"]


def test_a_record_that_is_damaged_is_an_error_and_stays_as_it_is(
    ask: Ask, write: Write, server: CountingServer, home: Path
) -> None:
    batch = write("a")
    ask(batch)
    (path,) = (home / "private" / "batches").glob("*.db")
    good = path.read_bytes()
    for damage in (b"not a database", good[:100] + b"\xff" * (len(good) - 100), good.replace(b"CMBP", b"XXXX")):
        path.write_bytes(damage)
        done = ask(batch)
        assert (done.returncode, done.stdout) == (5, "")
        assert f"rm {path}" in done.stderr
        assert path.read_bytes() == damage
    path.unlink()
    assert ask(batch).returncode == 0
    assert len(server.bodies) == 2


def test_a_full_disk_ends_the_batch_but_what_is_paid_for_is_printed(
    begin: Begin, ask: Ask, write: Write, server: CountingServer, home: Path
) -> None:
    batch = write(*(f"{number} {'x' * 10_000}" for number in range(100)))
    process = begin(batch, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"cannot keep the batch's progress" in err
    assert 0 < len(server.bodies) < 100
    assert sorted(str(text) for text in texts(out)) == sorted(f"answer to {prompt}" for prompt in server.prompts)
    assert Counter(line["status"] for line in logged(home)) == {"ok": len(server.bodies)}
    done = ask(batch)
    assert done.returncode == 0
    assert len(results(done)) == 100


def test_what_is_kept_only_its_owner_can_read(ask: Ask, write: Write, home: Path) -> None:
    ask(write("the secret"))
    holding = [path for path in home.rglob("*") if path.is_file() and b"the secret" in path.read_bytes()]
    assert holding
    for path in holding:
        assert path.parent == home / "private" / "batches"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_dry_run_sends_nothing_and_adds_up_what_the_batch_may_cost(
    ask: Ask, write: Write, server: CountingServer, home: Path
) -> None:
    prices = ("--provider", "openai", "-m", "gpt-4o-mini", "--max-tokens", "100")
    done = ask(write("a", "b", b"{}"), "--dry-run", "-u", *prices)
    first, _, wrong = results(done)
    assert first["request"]["messages"] == [{"role": "user", "content": "a"}]
    assert (first["dry_run"], wrong["error"]) == (True, "bad_line")
    assert first["estimate"]["worst_case"] > 0
    assert "3 items: 2 would be sent; $" in done.stderr
    assert server.bodies == []
    assert not (home / "usage.jsonl").exists()
    # It leaves nothing that a real run would take for an answer.
    assert ask(write("a", "b"), *prices).returncode == 0
    assert len(server.bodies) == 2


def test_usage_adds_up_the_batch(ask: Ask, write: Write, server: CountingServer) -> None:
    server.failing = {"c"}
    done = ask(write("a", "b", "c"), "-u")
    assert "callmeter: 3 items: 2 answered, 1 failed; cost $0.00025" in done.stderr
    done = ask(write("a", "b", "c", "d"), "-u")
    assert "callmeter: 4 items: 3 answered (2 from the record), 1 failed; cost $0.000125" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--concurrency", "0"], "from 1 to 256"),
        (["--concurrency", "257"], "from 1 to 256"),
        (["--concurrency", "-1"], "from 1 to 256"),
        (["--concurrency", "1e2"], "from 1 to 256"),
        (["--concurrency", "１２"], "from 1 to 256"),
        (["-c"], "-c does not go with --batch"),
        (["--conversation", "x"], "--conversation does not go with --batch"),
        (["a prompt"], "a prompt does not go with --batch"),
        (["-f", "-"], "`-` does not go with --batch"),
        (["-t", "none"], "no template 'none'"),
    ],
)
def test_a_wrong_command_line_is_told_before_anything_is_sent(
    ask: Ask, write: Write, server: CountingServer, arguments: list[str], says: str
) -> None:
    done = ask(write("a"), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert server.bodies == []


def test_a_file_that_cannot_be_read_is_a_usage_error(ask: Ask, tmp_path: Path, run_llm_call: Run) -> None:
    assert "cannot read" in ask(tmp_path / "nowhere").stderr
    assert ask(tmp_path).returncode == 2
    assert "--concurrency goes with --batch" in run_llm_call("--concurrency", "3", "hello").stderr


def test_a_refused_line_is_logged_as_refused_and_costs_nothing(
    ask: Ask, write: Write, server: CountingServer, home: Path
) -> None:
    (home / "budget.json").write_text('{"version": 1, "tags": {"required": ["agent"]}}')
    done = ask(write({"prompt": "a", "agent": "x"}, "b"))
    assert done.returncode == 2
    assert results(done)[1]["error"] == "tags_refused"
    assert Counter(line["status"] for line in logged(home)) == {"ok": 1, "refused": 1}
    assert server.prompts == ["a"]


def peak(process: Popen[bytes]) -> int:
    """The most memory, in MiB, that a running process has taken so far; 0 when it has ended."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0


def test_the_memory_of_a_batch_does_not_grow_with_its_length(begin: Begin, write: Write, tmp_path: Path) -> None:
    def takes(lines: int) -> int:
        most = 0
        with open(tmp_path / "out", "wb") as out:
            process = begin(write(*("x" * 10_000 for _ in range(lines))), "--dry-run", stdout=out)
            while process.poll() is None:
                most = max(most, peak(process))
        assert process.returncode == 0
        return most

    few, many = takes(500), takes(5_000)
    assert (tmp_path / "out").stat().st_size > 50_000_000
    assert few > 10, "it was measured"
    assert many < few + 10


def test_answers_that_wait_for_a_slow_first_one_wait_on_disk(
    begin: Begin, write: Write, server: CountingServer, tmp_path: Path
) -> None:
    batch = write("hold", *(f"{number} {'x' * 100_000}" for number in range(600)))
    with open(tmp_path / "out", "wb") as out:
        process = begin(batch, stdout=out)
        server.arrived(601)
        waiting = peak(process)
        server.release()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert [json.loads(line)["index"] for line in (tmp_path / "out").read_text().splitlines()] == list(range(601))
    assert waiting < 60, "60 MB of answers are not in memory"


def test_a_person_sees_a_bar_on_stderr_and_a_script_does_not(
    begin: Begin, write: Write, server: CountingServer
) -> None:
    def seen(*arguments: str) -> bytes:
        ours, theirs = os.openpty()
        process = begin(write("a", "b", "c"), "--idempotency-key", str(len(server.bodies)), *arguments, stderr=theirs)
        os.close(theirs)
        out, _ = process.communicate(timeout=120)
        assert len(results(out)) == 3
        data = b""
        try:
            while part := os.read(ours, 4096):
                data += part
        except OSError:  # the terminal's other end is closed
            pass
        os.close(ours)
        return data

    assert b"items:" in seen()
    assert seen("-q") == b""


def test_a_batch_with_the_real_model(run_llm_call: Run, local_model: LocalModel, write: Write, home: Path) -> None:
    batch = write(*({"id": n, "prompt": f"Say {n}", "agent": f"a{n % 2}", "max_tokens": 6} for n in range(6)))
    done = run_llm_call(*local_model.options, "--batch", batch, "--concurrency", "3", env=local_model.env)
    assert done.returncode == 0
    found = results(done)
    assert [result["id"] for result in found] == list(range(6))
    assert all(result["tokens"]["out"] > 0 for result in found)
    assert {line["tags"]["agent"] for line in logged(home)} == {"a0", "a1"}
    again = run_llm_call(*local_model.options, "--batch", batch, env=local_model.env)
    assert texts(again) == texts(done)
    assert len(logged(home)) == 6
