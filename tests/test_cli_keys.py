"""`budget keys`: how a key comes in unseen, what the commands say, and where the key's bytes are afterwards."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from conftest import SCRIPTS, Run
from servers.misbehaving import MisbehavingServer

KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
OTHER = "sk-or-v1-fedcba9876543210fedcba9876543210"


def files_with(directory: Path, key: str = KEY) -> list[str]:
    """The files below a directory that hold a key's bytes, or a good part of them."""
    part = key[9:-4].encode()
    return sorted(
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and part in path.read_bytes()
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert KEY not in done.stdout + done.stderr
    return done.stderr


@pytest.fixture
def keys(home: Path) -> Callable[..., Result]:
    """Run `callmeter budget keys …` in this process, in this test's home; on its output there is never the key."""

    def run(*arguments: str, input: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(app, ["budget", "keys", *arguments], input=input, obj=World())
        assert KEY not in result.output
        return result

    return run


# From a pipe, and from a descriptor


def test_a_piped_key_is_stored_registered_audited_and_nowhere_else(run_callmeter: Run, home: Path) -> None:
    done = run_callmeter("budget", "keys", "add", "code", "--provider", "openrouter", input=KEY + "\n")
    assert (done.returncode, done.stdout, said(done)) == (0, "", "")
    entry = tomllib.loads((home / "keys.toml").read_text())["keys"]["code@openrouter"]
    assert entry["base_url"] == "https://openrouter.ai/api/v1"
    assert entry["secret"] == "file:code@openrouter"
    assert files_with(home) == ["secrets/code@openrouter"]
    assert {path.stat().st_mode & 0o777 for path in home.rglob("*") if path.is_file()} == {0o600}
    (event,) = map(json.loads, (home / "audit.jsonl").read_text().splitlines())
    assert (event["event"], event["key"], event["fingerprint"]) == ("key.add", "code@openrouter", entry["fingerprint"])


def test_a_key_comes_on_a_descriptor(start: Callable[..., subprocess.Popen[bytes]], home: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, KEY.encode())
    os.close(writer)
    process = start("callmeter", "budget", "keys", "add", "code", "--fd", str(reader), pass_fds=[reader])
    os.close(reader)
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, b"")
    assert files_with(home) == ["secrets/code@openrouter"]


@pytest.mark.parametrize("fd", ["77", "-1", "x"])
def test_a_descriptor_that_cannot_be_read_is_a_wrong_command_line(keys: Callable[..., Result], fd: str) -> None:
    done = keys("add", "code", "--fd", fd, input=KEY)
    assert done.exit_code == 2 and done.stderr


@pytest.mark.parametrize(
    "input", ["", "\n", "two words", "'quoted'", KEY + "\n" + OTHER + "\n", b"\xff\xfe", b"k" * 10_000]
)
def test_what_is_no_key_is_refused_and_leaves_nothing(
    keys: Callable[..., Result], home: Path, input: str | bytes
) -> None:
    done = keys("add", "code", input=input)
    assert done.exit_code == 6
    assert "the key on standard input" in done.stderr
    assert not list(home.rglob("*openrouter*"))


def test_without_anything_to_read_the_key_is_asked_for_in_vain_and_said_so(run_callmeter: Run) -> None:
    done = run_callmeter("budget", "keys", "add", "code")
    assert (done.returncode, "the key on standard input is empty" in said(done)) == (6, True)


# Never as an argument


@pytest.mark.parametrize(
    "arguments",
    [
        ("code", KEY),
        (KEY,),
        ("code", "--label", KEY),
        ("code", "--key", KEY),
        ("code", f"--key={KEY}"),
        ("code", f"--fd={KEY}"),
        ("code", "--provider", KEY),
        ("code", "--expires", KEY),
        ("code", "--purpose", f"it is {KEY}"),
        ("code", "--format", "json", KEY),
    ],
)
def test_a_key_on_the_command_line_is_refused_with_the_advice_to_rotate_it(
    keys: Callable[..., Result], home: Path, arguments: tuple[str, ...]
) -> None:
    for command in ("add", "show", "remove", "no-such-command"):
        done = keys(command, *arguments, input=OTHER)
        assert done.exit_code == 2
        assert "never given on the command line" in done.stderr and "rotate that key" in done.stderr
    assert not list(home.iterdir())


@pytest.mark.parametrize("words", [("rotate-key", KEY), ("quota", "sync", KEY)])
def test_other_commands_that_take_labels_do_not_repeat_a_key_either(run_callmeter: Run, words: tuple[str, ...]) -> None:
    done = run_callmeter("budget", *words)
    assert done.returncode == 2 and "rotate that key" in done.stderr and KEY not in said(done)


def test_the_words_of_a_program_that_gets_a_key_are_its_own(run_callmeter: Run) -> None:
    run_callmeter("budget", "keys", "add", "code", "--provider", "openrouter", input=KEY)
    done = run_callmeter("budget", "keys", "exec", "code", "--", "printf", "%s", "key-management-notes.md")
    assert done.stdout == "key-management-notes.md"


def test_a_key_in_place_of_a_label_of_a_call_is_not_repeated(run_llm_call: Run, home: Path) -> None:
    done = run_llm_call("hello", "-m", "m", "--key", KEY)
    assert done.returncode == 2
    assert "rotate" in said(done)
    assert files_with(home) == []


# On a terminal


class Terminal:
    """A command on a pseudo-terminal of its own, as a person has it; `screen` is all that appeared there."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.screen = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execve(SCRIPTS / "callmeter", ["callmeter", *arguments], environment)

    def wait_for(self, text: bytes) -> None:
        while text not in self.screen:
            ready, _, _ = select.select([self.master], [], [], 30)
            assert ready, f"no {text!r} in {self.screen!r}"
            self.screen += os.read(self.master, 65536)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.master)[3] & termios.ECHO)

    def status(self) -> int:
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not data:
                break
            self.screen += data
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)


@pytest.fixture
def terminal(environment: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(*arguments: str) -> Terminal:
        opened.append(Terminal([*arguments], {**environment, "TERM": "xterm"}))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def test_a_key_typed_on_a_terminal_is_never_shown_and_in_no_process_list(
    terminal: Callable[..., Terminal], home: Path
) -> None:
    screen = terminal("budget", "keys", "add", "code", "--provider", "openrouter")
    screen.wait_for(b"Key for code@openrouter (not shown): ")
    assert not screen.echoes
    screen.type(KEY)
    process = Path(f"/proc/{screen.pid}")
    if process.exists():
        assert KEY.encode() not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        assert (process / "task" / str(screen.pid) / "children").read_text() == "", "a child could inherit the key"
    screen.type("\n")
    assert screen.status() == 0
    assert KEY[:12].encode() not in screen.screen
    assert b"the key code@openrouter is added" in screen.screen
    assert files_with(home) == ["secrets/code@openrouter"]
    assert (home / "secrets/code@openrouter").read_text() == KEY + "\n"


@pytest.mark.parametrize(("end", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_prompt_gives_the_echo_back_and_stores_nothing(
    terminal: Callable[..., Terminal], home: Path, end: signal.Signals, status: int
) -> None:
    screen = terminal("budget", "keys", "add", "code")
    screen.wait_for(b"(not shown): ")
    screen.type(KEY[:20])
    if end == signal.SIGINT:
        screen.type("\x03")
    else:
        os.kill(screen.pid, end)
    assert screen.status() == status
    assert screen.echoes
    assert KEY[:12].encode() not in screen.screen
    assert not (home / "keys.toml").exists() and not (home / "secrets").exists()


def test_a_key_that_the_terminal_cuts_is_refused(terminal: Callable[..., Terminal], home: Path) -> None:
    screen = terminal("budget", "keys", "add", "code")
    screen.wait_for(b"(not shown): ")
    screen.type("k" * 5000)
    screen.type("\n")
    assert screen.status() == 6
    assert b"longer than a terminal's line" in screen.screen
    assert not (home / "secrets").exists()


def test_on_a_terminal_stdin_cannot_be_asked_for_since_it_would_show_the_key(
    terminal: Callable[..., Terminal],
) -> None:
    for option in (["--stdin"], ["--fd", "0"]):
        screen = terminal("budget", "keys", "add", "code", *option)
        assert screen.status() == 2
        assert b"which would show the key" in screen.screen


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1), ("\x03", 130)])
def test_removing_asks_on_a_terminal(
    terminal: Callable[..., Terminal], run_callmeter: Run, home: Path, answer: str, status: int
) -> None:
    run_callmeter("budget", "keys", "add", "code", input=KEY)
    screen = terminal("budget", "keys", "remove", "code@openrouter")
    screen.wait_for(b"[y/N]: ")
    screen.type(answer + "\n")
    assert screen.status() == status
    assert files_with(home) == ([] if status == 0 else ["secrets/code@openrouter"])


# Removing, listing, showing


def test_without_a_terminal_removing_wants_a_yes_and_forgets_everything(
    keys: Callable[..., Result], home: Path
) -> None:
    keys("add", "code", input=KEY)
    refused = keys("remove", "code@openrouter")
    assert (refused.exit_code, "add `--yes`" in refused.stderr) == (2, True)
    done = keys("remove", "code@openrouter", "--yes")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert files_with(home) == []
    assert [json.loads(line)["event"] for line in (home / "audit.jsonl").read_text().splitlines()] == [
        "key.add",
        "key.remove",
    ]
    again = keys("remove", "code@openrouter", "--yes")
    assert (again.exit_code, "there is no key 'code@openrouter'" in again.stderr) == (6, True)


@pytest.mark.parametrize("format", ["text", "json", "jsonl", "csv", "tsv", "markdown"])
def test_list_and_show_tell_everything_but_the_key(keys: Callable[..., Result], home: Path, format: str) -> None:
    keys("add", "code", "--owner", "alice", "--models", "anthropic/*, openai/gpt-5", input=KEY)
    listed = keys("list", "--format", format)
    shown = keys("show", "code@openrouter", "--format", format)
    assert (listed.exit_code, shown.exit_code) == (0, 0)
    fingerprint = tomllib.loads((home / "keys.toml").read_text())["keys"]["code@openrouter"]["fingerprint"]
    for text in (listed.stdout, shown.stdout):
        assert "code@openrouter" in text and fingerprint in text and "ok" in text
        assert "secrets/code@openrouter" in text or format == "text"
    assert "alice" in shown.stdout
    if format == "json":
        assert json.loads(shown.stdout)["facts"]["allowed_models"] == ["anthropic/*", "openai/gpt-5"]


def test_list_says_what_is_wrong_with_each_key(keys: Callable[..., Result], home: Path) -> None:
    for agent in ("good", "open", "gone"):
        keys("add", agent, input=KEY + agent)
    (home / "secrets/open@openrouter").chmod(0o640)
    (home / "secrets/gone@openrouter").unlink()
    listed = keys("list", "--format", "json")
    assert {row["label"].partition("@")[0]: row["state"] for row in json.loads(listed.stdout)["rows"]} == {
        "good": "ok",
        "open": "unsafe",
        "gone": "missing",
    }


def test_without_keys_the_list_names_the_command_that_adds_one(keys: Callable[..., Result]) -> None:
    done = keys("list")
    assert (done.exit_code, "callmeter budget keys add AGENT" in done.stdout) == (0, True)
    shown = keys("show", "nobody")
    assert (shown.exit_code, "there is no key 'nobody'" in shown.stderr) == (6, True)


# Adding: what the options mean


def test_options_become_the_entry(keys: Callable[..., Result], home: Path) -> None:
    options = ("--environment", "prod", "--owner", "alice", "--purpose", "reviews", "--models", "a,b/*", "--default")
    done = keys("add", "code", *options, "--expires", "2099-01-01", "-v", input=KEY)
    assert "the key code@openrouter-prod is added" in done.stderr
    entry = tomllib.loads((home / "keys.toml").read_text())["keys"]["code@openrouter-prod"]
    assert entry["expires"] == "2099-01-01T00:00:00.000Z"
    assert entry["default"] is True and entry["allowed_models"] == ["a", "b/*"]
    assert (entry["agent"], entry["environment"], entry["owner"], entry["purpose"]) == (
        "code",
        "prod",
        "alice",
        "reviews",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "whose key is it"),
        (("my agent",), "give another one with `--label`"),
        (("code", "--expires", "2020-01-01"), "not in the future"),
        (("code", "--expires", "0d"), "not in the future"),
        (("code", "--expires", "soon"), "not a date"),
        (("code", "--provider", "nobody"), "unknown provider"),
        (("code", "--provider", "local"), "no address"),
        (("code", "--base-url", "https://me:pw@openrouter.ai"), "not a plain http"),
        (("code", "--label", "../x"), "is not made of letters"),
        (("code", "--label", "x.pending"), "in rotation"),
    ],
)
def test_what_makes_no_sense_is_a_wrong_command_line(
    keys: Callable[..., Result], home: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = keys("add", *arguments, input=KEY)
    assert (done.exit_code, words in done.stderr) == (2, True), done.stderr
    assert not list(home.iterdir())


def test_a_damaged_registry_is_status_5_for_every_command_and_stays_as_it_is(
    keys: Callable[..., Result], home: Path
) -> None:
    text = "[keys.code]\nprovider = \n"
    (home / "keys.toml").write_text(text)
    for arguments in (("add", "x"), ("list",), ("show", "code"), ("remove", "code", "--yes")):
        done = keys(*arguments, input=KEY)
        assert done.exit_code == 5
        assert re.search(r"keys\.toml: invalid value \(at line 2, column \d+\)", done.stderr)
    assert (home / "keys.toml").read_text() == text


def test_twenty_commands_at_once_lose_no_key_and_no_audit_line(
    start: Callable[..., subprocess.Popen[bytes]], home: Path
) -> None:
    processes = []
    for number in range(20):
        reader, writer = os.pipe()
        os.write(writer, f"{KEY}{number}".encode())
        os.close(writer)
        processes.append(start("callmeter", "budget", "keys", "add", f"a{number}", stdin=reader))
        os.close(reader)
    assert [process.wait(180) for process in processes] == [0] * 20
    assert len(tomllib.loads((home / "keys.toml").read_text())["keys"]) == 20
    assert files_with(home) == sorted(f"secrets/a{number}@openrouter" for number in range(20))
    assert len((home / "audit.jsonl").read_text().splitlines()) == 20


# Where the key's bytes are


def test_a_defect_in_the_middle_of_storing_shows_a_traceback_without_the_key(
    environment: dict[str, str], home: Path
) -> None:
    program = """
import os, sys
from callmeter.secrets import file
def broken(*arguments):
    raise RuntimeError("broken disk driver")
os.fsync = broken
from callmeter.cli.main import start
sys.exit(start(["budget", "keys", "add", "code"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input=KEY, capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "broken disk driver" in said(done)
    assert files_with(home) == [], "half a file with the key is left behind"


def test_tools_that_show_the_locals_of_a_traceback_show_no_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from traceback import TracebackException

    from callmeter.secrets.file import FileStore
    from callmeter.secrets.secret import Secret

    def broken(descriptor: int) -> None:
        raise RuntimeError("broken disk driver")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(RuntimeError) as caught:
        FileStore(str(home / "secrets")).write("code", Secret(KEY))
    shown = "".join(TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "secret = ***" in shown and KEY not in shown


def test_an_agents_call_sends_its_own_key_to_its_own_address_and_nowhere_else(
    run_callmeter: Run, run_llm_call: Run, home: Path
) -> None:
    with MisbehavingServer() as server:
        there = ("--base-url", server.base_url("ok"))
        run_callmeter("budget", "keys", "add", "code", *there, input=KEY)
        done = run_llm_call("hello", "-m", "m", "--agent", "code", "-v", "--json", *there)
        assert (done.returncode, said(done)) == (0, ""), done.stderr
        elsewhere = run_llm_call(
            "hello", "-m", "m", "--agent", "code", "-v", "--base-url", server.stranger.base_url("ok")
        )
        assert elsewhere.returncode == 0, "loopback needs no key"
        named = run_llm_call(
            "hello", "-m", "m", "--key", "code@openrouter", "--base-url", server.stranger.base_url("ok")
        )
        assert (named.returncode, "is not sent to" in named.stderr) == (6, True)
        other_agent = run_llm_call("hello", "-m", "m", "--agent", "docs", *there)
        assert other_agent.returncode == 0
        assert [request.headers.get("authorization") for request in server.requests] == [f"Bearer {KEY}", None]
        assert [request.headers.get("authorization") for request in server.stranger.requests] == [None]
    line = json.loads((home / "usage.jsonl").read_text().splitlines()[0])
    entry = tomllib.loads((home / "keys.toml").read_text())["keys"]["code@openrouter"]
    assert (line["key"], line["key_fingerprint"]) == ("code@openrouter", entry["fingerprint"])
    assert files_with(home) == ["secrets/code@openrouter"]


def test_a_key_that_others_can_read_is_not_used_and_the_agent_is_told(
    run_callmeter: Run, run_llm_call: Run, home: Path
) -> None:
    with MisbehavingServer() as server:
        there = ("--base-url", server.base_url("ok"))
        run_callmeter("budget", "keys", "add", "code", *there, input=KEY)
        (home / "secrets/code@openrouter").chmod(0o644)
        done = run_llm_call("hello", "-m", "m", "--agent", "code", *there)
        assert (done.returncode, "chmod 600" in said(done)) == (6, True)
        assert server.requests == []


def test_a_key_from_the_environment_works_with_one_hint_for_ever(run_llm_call: Run, home: Path) -> None:
    with MisbehavingServer() as server:
        calls = [
            run_llm_call("hello", "-m", "m", "--base-url", server.base_url("ok"), env={"CALLMETER_API_KEY": KEY})
            for _ in range(2)
        ]
        assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {KEY}"] * 2
    assert [call.returncode for call in calls] == [0, 0]
    assert "callmeter budget keys add AGENT" in said(calls[0])
    assert said(calls[1]) == ""
    assert files_with(home) == []
