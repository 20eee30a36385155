"""`llm-call` as scripts use it: input, tags, limits, signals, pipes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import SCRIPTS
from servers.misbehaving import MisbehavingServer

KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as running:
        yield running


@pytest.fixture
def call(run_llm_call: Call, server: MisbehavingServer) -> Call:
    """`llm-call` to a scenario of the server, with a key and a model."""
    server.requests.clear()

    def make(scenario: str, *arguments: str, env: dict[str, str | None] | None = None, **options: object) -> object:
        given = [] if "-m" in arguments else ["-m", "openai/gpt-4o-mini"]
        return run_llm_call(
            "--base-url",
            server.base_url(scenario),
            *given,
            *arguments,
            env={"CALLMETER_API_KEY": KEY, **(env or {})},
            **options,
        )

    return make  # type: ignore[return-value]


def lines(home: Path) -> list[dict[str, object]]:
    log = home / "usage.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def body(server: MisbehavingServer) -> dict[str, object]:
    found = json.loads(server.requests[-1].body)
    assert isinstance(found, dict)
    return found


def test_stdout_has_the_answer_and_nothing_else_and_stderr_nothing(call: Call) -> None:
    call("ok", "Hi")  # says once that the key comes from the environment
    done = call("ok", "Hi")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, world\n", "")


def test_the_prompt_comes_from_argument_stdin_and_files_in_that_order_reversed(
    call: Call, server: MisbehavingServer, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("from a file\n")
    call("ok", "and a question", "-f", str(tmp_path / "a.txt"), "-s", "be brief", input="from stdin\n")
    assert body(server)["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "from a file\n\nfrom stdin\n\nand a question"},
    ]


def test_every_request_streams_asks_for_usage_and_has_a_ceiling(call: Call, server: MisbehavingServer) -> None:
    call("ok", "Hi", "--no-stream", "-o", "temperature", "0.20", "-o", "stop", "END")
    sent = body(server)
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})
    assert sent["max_completion_tokens"] == 4096
    assert (sent["temperature"], sent["stop"]) == (0.2, "END")


def test_an_image_goes_as_data_and_a_url_as_itself(call: Call, server: MisbehavingServer, tmp_path: Path) -> None:
    image = tmp_path / "dot.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8))
    assert call("ok", "What is it?", "-a", str(image), "-a", "https://example.test/x.jpg").returncode == 0
    content = body(server)["messages"][0]["content"]  # type: ignore[index]
    assert content[0] == {"type": "text", "text": "What is it?"}
    assert content[1]["image_url"]["url"].startswith("data:image/png;base64,iVBORw0KGgo")
    assert content[2]["image_url"]["url"] == "https://example.test/x.jpg"
    (tmp_path / "notes.txt").write_text("text")
    assert call("ok", "?", "-a", str(tmp_path / "notes.txt")).returncode == 2


def test_tags_travel_where_the_provider_has_a_place_for_them(call: Call, server: MisbehavingServer) -> None:
    arguments = ["--caller", "code", "--session", "s-1", "--cost-center", "r&d", "--user", "u1", "--tag", "team=ä"]
    assert call("ok", "Hi", *arguments).returncode == 0
    request, sent = server.requests[-1], body(server)
    assert request.headers["x-agent-id"] == "code"
    assert request.headers["x-session-id"] == "s-1"
    assert request.headers["x-cost-center"] == "r&d"
    assert (sent["user"], sent["session_id"]) == ("u1", "s-1")
    assert sent["metadata"] == {"agent": "code", "session": "s-1", "cost_center": "r&d", "user": "u1", "team": "ä"}
    assert sent["trace"] == {"agent": "code", "cost_center": "r&d", "team": "ä"}


def test_tags_stay_at_home_when_switched_off(call: Call, server: MisbehavingServer, home: Path) -> None:
    call("ok", "Hi", "--agent", "code", "--session", "s-1", "--no-send-tags")
    assert "x-agent-id" not in server.requests[-1].headers
    assert not {"session_id", "metadata", "trace"} & set(body(server))
    assert lines(home)[-1]["tags"] == {"agent": "code", "session": "s-1"}


def test_tags_come_from_option_variable_and_settings_in_this_order(call: Call, home: Path) -> None:
    (home / "config.toml").write_text('[tags]\nagent = "c"\npurpose = "c"\nteam = "c"\n')
    call("ok", "Hi", "--agent", "o", env={"CALLMETER_AGENT": "v", "CALLMETER_PURPOSE": "v"})
    assert lines(home)[-1]["tags"] == {"agent": "o", "purpose": "v", "team": "c"}


def test_a_call_without_its_required_tags_is_refused_logged_and_not_sent(
    call: Call, server: MisbehavingServer, home: Path
) -> None:
    (home / "budget.json").write_text('{"tags": {"required": ["agent", "purpose"]}}')
    done = call("ok", "Hi", "--agent", "code")
    assert done.returncode == 2
    assert "requires the tag purpose" in done.stderr
    assert "--purpose" in done.stderr
    assert not server.requests
    (line,) = lines(home)
    assert (line["status"], line["cost"], line["attempts"]) == ("refused", 0, 0)


def test_each_line_carries_the_newest_event_of_the_audit_log(call: Call, run_callmeter: Call, home: Path) -> None:
    call("ok", "Before anything was audited")
    (home / "budget.json").write_text('{"version": 1, "tags": {"required": ["agent"]}}')
    for limit in ("5", "6"):
        assert run_callmeter("budget", "quota", "set", "total", limit).returncode == 0
        assert call("ok", "--agent", "code", "Hi").returncode == 0
    assert call("ok", "Refused: the policy wants an agent").returncode == 2
    number, digits = (home / "audit.HEAD").read_text().split()
    anchors = [str(line["audit"]) if "audit" in line else "" for line in lines(home)]
    assert [anchor.partition(":")[0] for anchor in anchors] == ["", "1", number, number]
    assert anchors[-1] == anchors[-2] == f"{number}:{digits[:16]}"
    assert "3 anchors held" in run_callmeter("budget", "audit", "verify").stdout
    (home / "audit.jsonl").unlink()
    (home / "audit.HEAD").unlink()
    run_callmeter("budget", "quota", "set", "total", "7")
    written_anew = run_callmeter("budget", "audit", "verify")
    assert (written_anew.returncode, "ANCHOR" in written_anew.stdout) == (3, True)


def test_a_damaged_policy_stops_calls_and_says_what_to_do(call: Call, server: MisbehavingServer, home: Path) -> None:
    (home / "budget.json").write_text('{"tags": ')
    done = call("ok", "Hi")
    assert (done.returncode, server.requests) == (5, [])
    assert "budget.json:1: is not JSON" in done.stderr
    assert "hint: " in done.stderr


def test_a_dry_run_shows_the_request_and_the_cost_and_sends_nothing(
    call: Call, server: MisbehavingServer, home: Path
) -> None:
    done = call("ok", "Hi", "--dry-run", "--max-tokens", "100", "--agent", "code")
    found = json.loads(done.stdout)
    assert found["request"]["max_completion_tokens"] == 100
    assert 0 < found["estimate"]["expected"] <= found["estimate"]["worst_case"]
    assert KEY not in done.stdout + done.stderr
    assert not server.requests
    assert not lines(home)


def test_a_dearer_call_than_max_cost_is_refused_before_it_is_sent(
    call: Call, server: MisbehavingServer, home: Path
) -> None:
    done = call("ok", "Hi", "--max-cost", "0.000001")
    assert done.returncode == 3
    assert "may cost up to $0.00254, the limit is $0.00000100" in done.stderr
    assert not server.requests
    assert lines(home)[-1]["status"] == "refused"
    assert call("ok", "Hi", "--max-cost", "1").returncode == 0
    unknown = call("ok", "Hi", "-m", "nobody/nothing", "--max-cost", "1")
    assert unknown.returncode == 3
    assert "callmeter prices set nobody/nothing" in unknown.stderr


def test_an_unknown_price_is_unknown_and_never_zero(call: Call, home: Path) -> None:
    assert call("usage-missing", "Hi", "-m", "nobody/nothing").returncode == 0
    line = lines(home)[-1]
    assert (line["cost"], line["cost_source"], line["estimate"]) == (None, "unknown", None)


def test_json_gives_one_object_with_everything(call: Call) -> None:
    done = call("ok", "Hi", "--json", "--agent", "code")
    found = json.loads(done.stdout)
    assert (found["text"], found["cost"], found["cost_source"]) == ("Hello, world", 0.0096, "provider")
    assert (found["finish_reason"], found["tags"], found["warnings"]) == ("stop", {"agent": "code"}, [])
    assert found["tokens"]["in"] > 0


def test_an_error_is_one_json_object_on_stderr_when_json_was_asked_for(call: Call) -> None:
    done = call("403-guardrail", "Hi", "--json", "-q")
    found = json.loads(done.stderr)
    assert (found["error"], found["exit_status"], done.stdout) == ("limit_exceeded", 3, "")
    assert {"limit", "current_usage"} <= set(found)
    wrong = call("ok", "Hi", "--json", "--nonsense")
    assert json.loads(wrong.stderr)["exit_status"] == wrong.returncode == 2


def test_usage_is_shown_on_stderr_when_asked_for(call: Call, home: Path) -> None:
    (home / "config.toml").write_text("usage = true\n")
    done = call("ok", "Hi", "-q")
    assert done.stderr == ""
    done = call("ok", "Hi")
    assert "estimate $0.00246 expected, at most $0.00254" in done.stderr
    assert "cost $0.00960 (provider)" in done.stderr
    assert "estimate" not in call("ok", "Hi", "--no-usage").stderr


def test_extract_prints_the_first_code_block_only() -> None:
    from callmeter.cli.answering import first_code_block

    assert first_code_block("a\n```python\nx = 1\n```\nb\n```\ny\n```\n") == "x = 1\n"
    assert first_code_block("~~~~\n```\n~~~\n~~~~\n") == "```\n~~~\n"
    assert first_code_block("```\ncut") == "cut"
    assert first_code_block("no code") is None


def test_extract_without_a_code_block_prints_the_answer_and_says_so(call: Call) -> None:
    done = call("ok", "Hi", "-x")
    assert (done.returncode, done.stdout) == (9, "Hello, world\n")


def test_a_length_limit_is_an_error_only_under_strict(call: Call) -> None:
    assert call("finish-length", "Hi").returncode == 0
    done = call("finish-length", "Hi", "--strict")
    assert (done.returncode, done.stdout) == (9, "Hello, world\n")


def test_a_fallback_model_serves_when_the_first_cannot(call: Call, server: MisbehavingServer) -> None:
    call("ok", "Hi", "--fallback-model", "b", "--fallback-model", "c")
    assert body(server)["models"] == ["openai/gpt-4o-mini", "b", "c"]


def test_elsewhere_fallbacks_are_tried_here(call: Call, server: MisbehavingServer, home: Path) -> None:
    (home / "config.toml").write_text('[providers.mine]\nbase_url = "http://127.0.0.1:1/v1"\nfree = true\n')
    done = call("404", "Hi", "--provider", "mine", "-m", "a", "--fallback-model", "b")
    assert [json.loads(request.body)["model"] for request in server.requests] == ["a", "b"]
    assert done.returncode == 7


def test_a_server_error_elsewhere_may_have_been_charged_and_each_attempt_counts(call: Call, home: Path) -> None:
    (home / "config.toml").write_text('[providers.mine]\nbase_url = "http://127.0.0.1:1/v1"\nprice_as = "openai"\n')
    done = call("500", "Hi", "--provider", "mine", "-m", "gpt-4o-mini", "--retries", "1")
    assert done.returncode == 7
    (line,) = lines(home)
    assert line["attempts"] == 2
    assert line["cost_source"] == "estimate"
    assert line["cost"] == pytest.approx(2 * line["estimate"])  # type: ignore[operator]


def test_a_key_is_not_sent_over_plain_http_to_another_machine(run_llm_call: Call, home: Path) -> None:
    done = run_llm_call("--base-url", "http://192.0.2.1/v1", "-m", "m", "Hi", env={"CALLMETER_API_KEY": KEY})
    assert done.returncode == 6
    assert "plain HTTP" in done.stderr
    assert lines(home)[-1]["error"] == "plain_http"


def test_a_key_given_as_a_label_is_not_repeated(run_llm_call: Call, home: Path) -> None:
    done = run_llm_call("--key", KEY, "-m", "m", "Hi")
    assert done.returncode == 2
    assert KEY not in done.stderr


def test_without_a_key_the_error_says_how_to_add_one(run_llm_call: Call, home: Path) -> None:
    done = run_llm_call("-m", "m", "--agent", "code", "Hi")
    assert done.returncode == 6
    assert "callmeter budget keys add code --provider openrouter" in done.stderr
    assert lines(home)[-1]["status"] == "refused"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no prompt"),
        (["Hi", "--max-tokens", "0"], "1 or more"),
        (["Hi", "--max-tokens", "１２"], "whole number"),
        (["Hi", "--timeout", "inf"], "seconds"),
        (["Hi", "--retries", "-1"], "whole number"),
        (["Hi", "--max-cost", "nan"], "not an amount"),
        (["Hi", "--tag", "x"], "NAME=VALUE"),
        (["Hi", "--tag", "x=1", "--tag", "x=2"], "given twice"),
        (["Hi", "--agent", "\x1b[31m"], "control"),
        (["Hi", "-o", "stream", "false"], "sets this itself"),
        (["Hi", "-f", "/nonexistent"], "no such file"),
        (["Hi", "-p", "a", "b"], "template"),
        (["Hi", "--concurrency", "3"], "--batch"),
        (["Hi", "--provider", "nowhere"], "unknown provider"),
        (["Hi", "--base-url", "ftp://x"], "http"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(
    arguments: list[str], said: str, call: Call, server: MisbehavingServer
) -> None:
    done = call("ok", *arguments)
    assert said in done.stderr, done.stderr
    assert done.returncode in ((2, 6) if "ftp://x" in arguments else (2,))
    assert "Traceback" not in done.stderr
    assert not server.requests


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"\xff\xfeh\x00i\x00", "UTF-16"), (b"caf\xe9", "not UTF-8"), (b"a\0b", "binary"), (b"x" * (33 << 20), "32 MiB")],
)
def test_stdin_that_is_not_text_is_refused(data: bytes, said: str, call: Call, server: MisbehavingServer) -> None:
    done = call("ok", input=data)
    assert done.returncode == 2
    assert said in done.stderr
    assert not server.requests


def test_a_closed_stdin_is_no_input(environment: dict[str, str], server: MisbehavingServer) -> None:
    script = f"llm-call --base-url {server.base_url('ok')} -m openai/gpt-4o-mini Hi <&-"
    env = {**environment, "CALLMETER_API_KEY": KEY}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Hello, world\n")


@pytest.mark.parametrize(
    ("number", "exit_status", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_stops_the_meter_and_leaves_a_line(
    number: signal.Signals,
    exit_status: int,
    said: str,
    server: MisbehavingServer,
    start: Callable[..., object],
    home: Path,
) -> None:
    server.requests.clear()
    process = start(
        "llm-call",
        "--base-url",
        server.base_url("stall-mid-stream"),
        "-m",
        "openai/gpt-4o-mini",
        "Hi",
        env={"CALLMETER_API_KEY": KEY},
    )
    assert isinstance(process, subprocess.Popen)
    assert process.stdout is not None
    assert process.stdout.read(1) == b"H"
    process.send_signal(number)
    assert process.wait(60) == exit_status
    (line,) = lines(home)
    assert (line["status"], line["error"], line["cost_source"]) == ("cancelled", said, "estimate")
    assert line["cost"] == line["estimate"]
    assert server.requests[0].cancelled.wait(60), "the connection was closed"
    assert not os.listdir(home / "inflight")


def test_when_the_reader_goes_away_the_call_is_stopped_and_logged(
    environment: dict[str, str], server: MisbehavingServer, home: Path
) -> None:
    script = f"llm-call --base-url {server.base_url('endless-tokens')} -m openai/gpt-4o-mini Hi | head -c 3"
    script += '; echo " ${PIPESTATUS[0]}"'
    env = {**environment, "CALLMETER_API_KEY": KEY}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == "and 141\n"
    assert "Traceback" not in done.stderr
    (line,) = lines(home)
    assert (line["status"], line["error"]) == ("cancelled", "pipe_closed")


def test_a_full_disk_on_stdout_is_said_and_the_call_is_logged(
    environment: dict[str, str], server: MisbehavingServer, home: Path
) -> None:
    script = f"llm-call -q --base-url {server.base_url('ok')} -m openai/gpt-4o-mini Hi > /dev/full"
    env = {**environment, "CALLMETER_API_KEY": KEY}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "callmeter: error: cannot write to standard output: no space left on device\n"
    assert len(lines(home)) == 1


def test_on_a_terminal_escapes_are_shown_and_not_obeyed(environment: dict[str, str], server: MisbehavingServer) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [SCRIPTS / "llm-call", "-q", "--base-url", server.base_url("escapes"), "-m", "openai/gpt-4o-mini", "Hi"],
        env={**environment, "CALLMETER_API_KEY": KEY},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:
            break
        if not data:
            break
        seen += data
    assert process.wait(60) == 0
    os.close(ours)
    assert b"\x1b" not in seen
    assert b"\\x1b[31mred" in seen


def test_the_log_that_cannot_be_written_keeps_the_line_for_the_next_call(call: Call, home: Path) -> None:
    call("ok", "Hi")
    (home / "usage.jsonl").rename(home / "kept.jsonl")
    (home / "usage.jsonl").mkdir()
    done = call("ok", "Hi")
    assert done.returncode == 1
    assert "usage.jsonl" in done.stderr
    assert done.stdout == "", "what cannot be logged is not sent"


def test_the_environment_of_cron_is_enough(server: MisbehavingServer, home: Path) -> None:
    done = subprocess.run(
        [SCRIPTS / "llm-call", "-q", "--base-url", server.base_url("ok"), "-m", "openai/gpt-4o-mini", "Grüße"],
        env={"CALLMETER_HOME": str(home), "CALLMETER_API_KEY": KEY},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Hello, world\n", b"")
    assert "Grüße" in server.requests[-1].body.decode("ascii").encode().decode("unicode_escape")


def test_without_any_home_the_error_says_what_to_set(server: MisbehavingServer) -> None:
    code = "import os, pwd; pwd.getpwuid = lambda uid: (_ for _ in ()).throw(KeyError(uid)); import sys; "
    code += "sys.argv = ['llm-call', '-m', 'm', 'Hi']; from callmeter.cli.main import llm_call; llm_call()"
    done = subprocess.run([sys.executable, "-c", code], env={"PATH": "/bin"}, capture_output=True, text=True)
    assert done.returncode == 5
    assert "CALLMETER_HOME" in done.stderr


def test_a_key_never_shows_in_files_or_processes(
    server: MisbehavingServer, start: Callable[..., object], home: Path, run_callmeter: Call
) -> None:
    added = run_callmeter("budget", "keys", "add", "code", "--base-url", server.base_url("stall-mid-stream"), input=KEY)
    assert added.returncode == 0, added.stderr
    process = start(
        "llm-call",
        "--base-url",
        server.base_url("stall-mid-stream"),
        "-m",
        "openai/gpt-4o-mini",
        "--agent",
        "code",
        "Hi",
    )
    assert isinstance(process, subprocess.Popen)
    assert process.stdout is not None
    assert process.stdout.read(1) == b"H"
    for place in ("cmdline", "environ"):
        assert KEY.encode() not in Path(f"/proc/{process.pid}/{place}").read_bytes()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    holders = [path for path in home.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert [path.parent.name for path in holders] == ["secrets"]
    assert holders[0].stat().st_mode & 0o077 == 0
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    assert lines(home)[-1]["key"] == "code@openrouter"
