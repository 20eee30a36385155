"""`callmeter budget alerts`: what calls spool, and what a flush delivers, to whom, how often."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from callmeter.cli.app import app
from callmeter.cli.world import World
from callmeter.exchange.alerts import Event, name_of, spool
from callmeter.policy.controls import Alert
from conftest import Run
from log_text import at
from servers.counting import CountingServer

KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
SECRET = "T0000/B0000/XXXXsecretXXXX"
NOW = at("2026-11-21T09:30Z")


class Hook:
    """A webhook on loopback: answers with `status`, remembers the requests. `holding` sends no answer."""

    def __init__(self) -> None:
        self.status = 200
        self.holding = False
        self.received: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.asked = 0
        self.came = threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.asked += 1
                if hook.status == 200:
                    hook.received.append(body)
                    hook.ids.append(self.headers["Idempotency-Key"])
                hook.came.set()
                if hook.holding:
                    self.rfile.read(1)  # until the other side is gone
                    return
                self.send_response(hook.status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/{SECRET}"

    def __enter__(self) -> Hook:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def texts(self) -> list[str]:
        return [body["text"] for body in self.received]


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as running:
        yield running


class Office:
    """A home with a policy, and a clock."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = NOW.timestamp()

    def policy(self, *alerts: dict[str, object], **more: object) -> None:
        (self.home / "budget.json").write_text(json.dumps({"alerts": list(alerts), **more}))

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), obj=World(clock=lambda: self.now))

    def flush(self) -> Result:
        return self.run("budget", "alerts", "--flush")

    def spool(self, text: str = "fire", key: str = "", occasion: str = "threshold") -> None:
        spool(str(self.home / "alerts.jsonl"), NOW, occasion, key or text, text, {"subject": "agent:code"})

    def waiting(self) -> list[dict[str, Any]]:
        result = self.run("budget", "alerts", "--format", "json")
        assert result.exit_code == 0, result.output
        return list(json.loads(result.stdout)["rows"])


@pytest.fixture
def office(home: Path) -> Office:
    return Office(home)


def webhook(hook: Hook, *on: str) -> dict[str, object]:
    return {"kind": "webhook", "target": hook.url, **({"on": list(on)} if on else {})}


def to_file(path: Path, *on: str) -> dict[str, object]:
    return {"kind": "file", "target": str(path), **({"on": list(on)} if on else {})}


def test_a_webhook_gets_what_slack_shows_and_the_facts(office: Office, hook: Hook) -> None:
    office.policy(webhook(hook))
    office.spool("the quota on agent:code per day is past 75%")
    result = office.flush()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    (body,) = hook.received
    assert body["text"] == "callmeter: the quota on agent:code per day is past 75%"
    about = body["callmeter"]
    assert (about["occasion"], about["subject"]) == ("threshold", "agent:code")
    assert hook.ids == [about["id"]]


def test_each_alert_is_delivered_once(office: Office, hook: Hook, tmp_path: Path) -> None:
    office.policy(webhook(hook), to_file(tmp_path / "told.jsonl"))
    for _ in range(3):
        office.spool("one")
        office.spool("two")
        assert office.flush().exit_code == 0
    assert hook.texts == ["callmeter: one", "callmeter: two"]
    told = [json.loads(line)["text"] for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert told == hook.texts
    assert office.waiting() == []


def test_receivers_get_the_occasions_that_they_are_there_for(office: Office, hook: Hook, tmp_path: Path) -> None:
    office.policy(webhook(hook, "breaker", "approval"), to_file(tmp_path / "told.jsonl", "threshold"))
    for occasion in ("breaker", "threshold", "anomaly", "approval"):
        office.spool(occasion, occasion=occasion)
    assert office.flush().exit_code == 0
    assert hook.texts == ["callmeter: breaker", "callmeter: approval"]
    assert len((tmp_path / "told.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_fails_is_kept_and_told_later_and_the_secret_is_never_shown(
    office: Office, hook: Hook, tmp_path: Path, status: int
) -> None:
    office.policy(webhook(hook), to_file(tmp_path / "told.jsonl"))
    office.spool("one")
    office.spool("two")
    hook.status = status
    result = office.flush()
    assert result.exit_code == 7
    assert f"could not be told of 2 alerts: it answered with status {status}" in result.stderr
    assert "2 alerts could not be delivered" in result.stderr
    assert SECRET not in result.output
    assert hook.asked == 1, "who could not be told of one alert is left alone until the next flush"
    assert len((tmp_path / "told.jsonl").read_text().splitlines()) == 2
    assert [(row["text"], row["tries"]) for row in office.waiting()] == [("one", 1), ("two", 1)]
    hook.status = 200
    assert office.flush().exit_code == 0
    assert hook.texts == ["callmeter: one", "callmeter: two"]
    assert len((tmp_path / "told.jsonl").read_text().splitlines()) == 2
    for path in office.home.glob("alerts*"):
        assert SECRET not in path.read_text()


def test_a_webhook_that_cannot_be_reached_is_named_without_its_path(office: Office) -> None:
    office.policy({"kind": "webhook", "target": f"http://127.0.0.1:1/{SECRET}"})
    office.spool()
    result = office.flush()
    assert result.exit_code == 7
    assert "http://127.0.0.1:1/… could not be told of 1 alert: no connection" in result.stderr
    assert SECRET not in result.output


def test_a_name_has_no_user_no_path_and_no_arguments() -> None:
    assert (
        name_of(Alert("webhook", "https://user:password@hooks.example/services/a?token=b")) == "https://hooks.example/…"
    )
    assert name_of(Alert("webhook", "https://hooks.example?token=b")) == "https://hooks.example/…"
    assert name_of(Alert("command", "/usr/bin/notify --token abc")) == "/usr/bin/notify …"


def test_after_seven_days_an_alert_is_given_up_and_said_so(office: Office, hook: Hook) -> None:
    office.policy(webhook(hook))
    office.spool("old news")
    hook.status = 500
    office.flush()
    office.now += 7 * 86_400 + 1
    result = office.flush()
    assert "is given up" in result.stderr and "old news" in result.stderr
    assert office.waiting() == []


def test_a_command_gets_the_alert_on_its_stdin_without_a_shell_and_without_keys(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLMETER_API_KEY", KEY)
    script = tmp_path / "tell"
    script.write_text('#!/bin/sh\ncat > "$1"\nenv >> "$1.env"\nprintf %s "$2" >> "$1.words"\n')
    script.chmod(0o755)
    office.policy({"kind": "command", "target": f"{script} '{tmp_path}/a file' $(id);"})
    office.spool("tag `id` $(id)")
    assert office.flush().exit_code == 0
    assert json.loads((tmp_path / "a file").read_text())["text"] == "callmeter: tag `id` $(id)"
    assert KEY not in (tmp_path / "a file.env").read_text()
    assert (tmp_path / "a file.words").read_text() == "$(id);"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/bin/sh -c 'exit 3'", "it ended with status 3"),
        ("/no/such", "cannot be started"),
        ("sh 'x", "cannot be started"),
    ],
)
def test_a_command_that_fails_is_tried_again(office: Office, command: str, why: str) -> None:
    office.policy({"kind": "command", "target": command})
    office.spool()
    result = office.flush()
    assert result.exit_code == 7 and why in result.stderr
    assert len(office.waiting()) == 1


def test_without_receivers_nothing_is_spooled_and_the_list_says_why(office: Office) -> None:
    office.policy(loop_breaker={"similar": 2, "warn_similar": 1})
    assert "names nobody to be told" in office.run("budget", "alerts").stdout
    assert office.flush().exit_code == 0


def test_names_from_tags_are_no_markup_to_the_receiver(office: Office, hook: Hook) -> None:
    office.policy(webhook(hook))
    office.spool("<!channel> & <https://evil.example|click>")
    office.flush()
    assert hook.texts == ["callmeter: &lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;"]


# What calls spool


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


def call(office: Office, server: CountingServer, prompt: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setenv("CALLMETER_API_KEY", KEY)
    place = ("--base-url", server.base_url, "-m", "openai/gpt-4o-mini", "--max-tokens", "100", "--agent", "code")
    return office.run("llm-call", "-q", *place, prompt)


def test_the_loop_breaker_tells(
    office: Office, server: CountingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.policy(to_file(tmp_path / "told.jsonl"), loop_breaker={"mode": "block"})
    for _ in range(12):
        call(office, server, "again, please", monkeypatch)
    assert office.flush().exit_code == 0
    (line,) = (tmp_path / "told.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert told["text"].startswith("callmeter: agent:code was stopped as a runaway loop: 10 of the last 10 prompts")
    assert (told["callmeter"]["occasion"], told["callmeter"]["rule"]) == ("breaker", "repeats")


def test_a_threshold_is_told_once_in_its_period(
    office: Office, server: CountingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = {"subject": "agent:code", "limit": 4, "unit": "calls", "period": "day", "enforcement": "hard"}
    office.policy(to_file(tmp_path / "told.jsonl"), quotas=[quota], loop_breaker={"mode": "off"})
    statuses = []
    for number in range(7):
        statuses.append(call(office, server, f"question {number}", monkeypatch).exit_code)
        if number % 2:
            assert office.flush().exit_code == 0
    assert statuses == [0] * 4 + [3] * 3
    told = [json.loads(line)["callmeter"]["threshold"] for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert told == ["0.5", "0.75", "stop"]
    office.now += 86_400
    for number in range(3):
        call(office, server, f"question {number}", monkeypatch)
    office.flush()
    assert len((tmp_path / "told.jsonl").read_text().splitlines()) == 4


def test_a_request_for_approval_is_told(office: Office, tmp_path: Path) -> None:
    quota = {"subject": "agent:code", "limit": 10, "period": "month", "enforcement": "hard"}
    office.policy(to_file(tmp_path / "told.jsonl", "approval"), quotas=[quota])
    assert office.run("budget", "request", "agent:code", "5", "--reason", "release week").exit_code == 0
    office.flush()
    (line,) = (tmp_path / "told.jsonl").read_text().splitlines()
    text = json.loads(line)["text"]
    assert "agent:code asks for approval, `callmeter budget approve r-" in text and "release week" in text


def test_a_spool_that_cannot_be_written_fails_no_call(
    office: Office, server: CountingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.policy(to_file(tmp_path / "told.jsonl"), loop_breaker={"similar": 2, "warn_similar": 1})
    (office.home / "alerts.jsonl").mkdir()
    for _ in range(3):
        assert call(office, server, "again, please", monkeypatch).exit_code == 0


def test_a_caller_that_is_stopped_all_the_time_does_not_fill_the_spool(office: Office) -> None:
    for _ in range(100):
        office.spool("stopped")
    assert len((office.home / "alerts.jsonl").read_text().splitlines()) == 1
    for number in range(2000):
        office.spool(f"{number} " + "x" * 1900)
    assert (office.home / "alerts.jsonl").stat().st_size < (1 << 20) + 4096


# Crashes


def test_a_flush_that_is_killed_loses_nothing_and_repeats_under_the_same_id(
    office: Office, hook: Hook, start: Callable[..., subprocess.Popen[bytes]], run_callmeter: Run
) -> None:
    office.policy(webhook(hook))
    for text in ("one", "two"):
        spool(str(office.home / "alerts.jsonl"), World().now(), "threshold", text, text, {})
    hook.holding = True
    flush = start("callmeter", "budget", "alerts", "--flush")
    assert hook.came.wait(120)
    assert run_callmeter("budget", "alerts", "--flush").returncode == 8
    flush.send_signal(signal.SIGKILL)
    flush.wait()
    hook.holding = False
    assert run_callmeter("budget", "alerts", "--flush").returncode == 0
    assert hook.texts == ["callmeter: one", "callmeter: one", "callmeter: two"]
    assert hook.ids[0] == hook.ids[1] != hook.ids[2]


def test_half_a_line_in_the_spool_is_passed_over(office: Office, hook: Hook) -> None:
    office.policy(webhook(hook))
    (office.home / "alerts.jsonl").write_text('{"v":1,"id":"x","at":"2026-11-21T09')
    office.spool("whole")
    assert office.flush().exit_code == 0
    assert hook.texts == ["callmeter: whole"]


def test_a_damaged_record_of_what_is_pending_is_not_written_over(office: Office, hook: Hook) -> None:
    office.policy(webhook(hook))
    pending = office.home / "alerts.pending.json"
    pending.write_text("{}")
    office.spool()
    assert office.flush().exit_code == 5
    assert pending.read_text() == "{}" and hook.received == []
    pending.unlink()
    assert office.flush().exit_code == 0
    assert hook.texts == ["callmeter: fire"]


def test_an_event_is_what_its_receiver_is_told() -> None:
    event = Event("id", "2026-11-21T09:30:00.000Z", "breaker", "k", "text", {"subject": "agent:code"})
    assert event.message()["callmeter"] == {
        "id": "id",
        "at": "2026-11-21T09:30:00.000Z",
        "occasion": "breaker",
        "key": "k",
        "subject": "agent:code",
    }


def test_a_flush_is_one_try_however_many_receivers_cannot_be_told(office: Office) -> None:
    office.policy({"kind": "webhook", "target": "http://127.0.0.1:1/x"}, {"kind": "command", "target": "/no/such"})
    office.spool()
    for tries in (1, 2):
        assert office.flush().exit_code == 7
        assert [row["tries"] for row in office.waiting()] == [tries]
