"""budget recover at the command line, and quotas whose ledger is lost, damaged or far away."""
# ruff: noqa: F401, F811 - fixtures are imported, and then asked for by name

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from ledger_engines import new_database, pooler, server
from servers.counting import COST, CountingServer
from servers.database import Wire

# A call's worst case at this ceiling.
WORST = Decimal("0.00013755")
MODEL = ("-m", "openai/gpt-4o-mini", "--max-tokens", "96", "--agent", "code")
KEY = {"CALLMETER_API_KEY": "sk-test-0123456789abcdef"}


@pytest.fixture
def model() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


def lines(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_float=Decimal) for line in (home / "usage.jsonl").read_text().splitlines()]


def quota(home: Path, limit: Decimal | int, **members: object) -> None:
    document = {
        "enforcement": "hard",
        "quotas": [{"subject": "total", "limit": str(limit), "period": "month"}],
        **members,
    }
    (home / "budget.json").write_text(json.dumps(document))


def killed_mid_answer(start: Callable[..., subprocess.Popen[bytes]], model: CountingServer, *options: str) -> None:
    """A call whose process is killed when its first words have come."""
    asked = len(model.prompts)
    process = start("llm-call", "--base-url", model.base_url, *MODEL, *options, "drip", env=KEY)
    assert process.stdout is not None
    model.arrived(asked + 1)
    process.stdout.read(1)
    process.kill()
    process.wait()


# --- finishing


def test_what_a_killed_call_held_is_settled_in_silence(
    home: Path, model: CountingServer, start: Callable[..., subprocess.Popen[bytes]], run_callmeter: Run
) -> None:
    quota(home, 1)
    killed_mid_answer(start, model)
    done = run_callmeter("budget", "recover")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (line,) = lines(home)
    assert (line["status"], line["cost"], line["cost_source"]) == ("unknown", line["estimate"], "estimate")
    assert run_callmeter("budget", "recover", "--check").returncode == 0
    again = run_callmeter("budget", "recover", "-v")
    assert again.stderr == "callmeter: costs not known yet: 1\n"


def test_recovery_says_what_it_did_when_asked(
    home: Path, model: CountingServer, start: Callable[..., subprocess.Popen[bytes]], run_callmeter: Run
) -> None:
    killed_mid_answer(start, model)
    killed_mid_answer(start, model)
    done = run_callmeter("budget", "recover", "-v")
    assert "calls of dead processes logged" in done.stderr
    assert len(lines(home)) == 2


def test_what_a_running_call_holds_is_busy_and_free_when_it_ends(
    home: Path,
    model: CountingServer,
    start: Callable[..., subprocess.Popen[bytes]],
    run_llm_call: Run,
) -> None:
    quota(home, WORST + Decimal(COST))
    process = start("llm-call", "--base-url", model.base_url, *MODEL, "hold", env=KEY)
    model.arrived(1)
    refused = run_llm_call("--base-url", model.base_url, *MODEL, "hello", env=KEY)
    assert refused.returncode == 8
    model.release()
    process.wait()
    model.hold_again()
    assert run_llm_call("--base-url", model.base_url, *MODEL, "hello", env=KEY).returncode == 0


# --- costs that the provider tells later


class Told:
    """Makes the model's server answer `GET /generation`; `costs` by generation id, others get 404."""

    def __init__(self, model: CountingServer) -> None:
        self.costs: dict[str, object] = {}
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.status = 200
        told = self

        def get(handler: BaseHTTPRequestHandler) -> None:
            generation = handler.path.rpartition("=")[2]
            told.asked.append(generation)
            told.keys.add(handler.headers.get("Authorization", ""))
            status = told.status if generation in told.costs else 404
            data = {"id": generation, "total_cost": told.costs.get(generation), "is_byok": False}
            data.update(native_tokens_prompt=10, native_tokens_completion=5)
            body = json.dumps({"data": data}).encode()
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body)))
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.wfile.write(body)

        model._server.RequestHandlerClass.do_GET = get  # type: ignore[attr-defined]


@pytest.fixture
def told(model: CountingServer, home: Path) -> Told:
    (home / "config.toml").write_text(f'[providers.openrouter]\nbase_url = "{model.base_url}"\n')
    return Told(model)


def test_a_call_of_a_dead_process_gets_its_true_cost_from_the_provider(
    home: Path, model: CountingServer, told: Told, start: Callable[..., subprocess.Popen[bytes]], run_callmeter: Run
) -> None:
    quota(home, 1)
    process = start("llm-call", *MODEL, "drip", env=KEY)
    assert process.stdout is not None
    process.stdout.read(1)
    process.kill()
    process.wait()
    first = run_callmeter("budget", "recover", "-v", env=KEY)
    assert "calls of dead processes logged: 1, costs not known yet: 1" in first.stderr
    told.costs["gen-1"] = 0.00002
    done = run_callmeter("budget", "recover", "-v", env=KEY)
    assert done.stderr == "callmeter: costs corrected: 1\n"
    call, correction = lines(home)
    assert correction["corrects"] == call["id"]
    assert correction["cost"] == Decimal("0.00002") - call["cost"]
    assert correction["cost_source"] == "reconciled"
    for same in ("timestamp", "tags", "model", "provider", "key"):
        assert correction.get(same) == call.get(same)
    assert correction["tokens"]["in"] == 10
    assert told.keys == {f"Bearer {KEY['CALLMETER_API_KEY']}"}
    asked = len(told.asked)
    assert run_callmeter("budget", "recover", "-v", env=KEY).stderr == "callmeter: nothing to finish\n"
    assert len(told.asked) == asked, "a call that was corrected is not asked for again"
    assert run_callmeter("budget", "recover", "--check").returncode == 0
    assert KEY["CALLMETER_API_KEY"] not in (home / "usage.jsonl").read_text()


def test_ten_who_correct_at_once_correct_once(
    home: Path,
    model: CountingServer,
    told: Told,
    start: Callable[..., subprocess.Popen[bytes]],
    run_callmeter: Run,
) -> None:
    quota(home, 1)
    told.costs["gen-1"] = 0.00002
    process = start("llm-call", *MODEL, "drip", env=KEY)
    assert process.stdout is not None
    process.stdout.read(1)
    process.kill()
    process.wait()
    running = [start("callmeter", "budget", "recover", env=KEY) for _ in range(10)]
    for one in running:
        assert one.wait() == 0, one.communicate()
    assert len(lines(home)) == 2
    assert sum(line["cost"] for line in lines(home)) == Decimal("0.00002")
    assert run_callmeter("budget", "recover", "--check").returncode == 0


def test_a_provider_that_fails_is_not_asked_for_everything(
    home: Path, model: CountingServer, told: Told, run_callmeter: Run
) -> None:
    told.status = 500
    for number in range(10):
        told.costs[f"gen-{number}"] = 1
        record = {
            "v": 1,
            "id": f"c{number}",
            "timestamp": "2026-11-21T09:30:00.000Z",
            "provider": "openrouter",
            "cost": 0.5,
            "cost_source": "estimate",
            "status": "unknown",
            "generation_id": f"gen-{number}",
        }
        with (home / "usage.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")
    done = run_callmeter("budget", "recover", env=KEY)
    assert done.returncode == 0
    assert done.stderr.count("status 500") == 3 == len(told.asked)
    assert len(lines(home)) == 10


# --- ledger and log


def test_a_difference_is_shown_and_mended_and_audited(
    home: Path, model: CountingServer, run_llm_call: Run, run_callmeter: Run
) -> None:
    quota(home, 1)
    assert run_llm_call("--base-url", model.base_url, *MODEL, "hello", env=KEY).returncode == 0
    extra = {**lines(home)[0], "id": "somebody-wrote-this", "cost": 0.25}
    with (home / "usage.jsonl").open("a") as log:
        log.write(json.dumps(extra, default=float) + "\n")
    checked = run_callmeter("budget", "recover", "--check", "--format", "json")
    assert checked.returncode == 3
    (row,) = json.loads(checked.stdout)["rows"]
    assert (row["bucket"], row["ledger"], row["log"], row["difference"]) == ("total", 0.000125, 0.250125, -0.25)
    assert "--rebuild" in checked.stderr
    rebuilt = run_callmeter("budget", "recover", "--rebuild")
    assert rebuilt.returncode == 0 and "total" in rebuilt.stdout
    agreed = run_callmeter("budget", "recover", "--check")
    assert (agreed.returncode, agreed.stdout) == (0, "")
    (event,) = [json.loads(line) for line in (home / "audit.jsonl").read_text().splitlines()]
    assert event["event"] == "ledger.rebuilt"
    assert "0.250125" in json.dumps(event)


def test_a_damaged_ledger_stops_calls_until_it_is_counted_anew(
    home: Path, model: CountingServer, run_llm_call: Run, run_callmeter: Run
) -> None:
    quota(home, WORST + 2 * Decimal(COST))
    call = ("--base-url", model.base_url, *MODEL, "hello")
    assert run_llm_call(*call, env=KEY).returncode == 0
    for file in home.glob("ledger.db-*"):
        file.unlink()
    (home / "ledger.db").write_bytes(b"garbage" * 1000)
    stopped = run_llm_call(*call, env=KEY)
    assert stopped.returncode == 7
    assert "damaged" in stopped.stderr and "`callmeter budget recover --rebuild`" in stopped.stderr
    assert len(model.prompts) == 1
    rebuilt = run_callmeter("budget", "recover", "--rebuild")
    assert rebuilt.returncode == 0 and "is now" in rebuilt.stderr
    assert [file.read_bytes()[:7] for file in home.glob("ledger.db.damaged-*")] == [b"garbage"]
    assert run_llm_call(*call, env=KEY).returncode == 0
    assert run_llm_call(*call, env=KEY).returncode == 0
    assert run_llm_call(*call, env=KEY).returncode == 3, "what was spent before still counts"
    assert run_callmeter("budget", "recover", "--check").returncode == 0


def test_a_deleted_ledger_is_counted_anew_by_the_next_call(
    home: Path, model: CountingServer, run_llm_call: Run, run_callmeter: Run
) -> None:
    quota(home, WORST + Decimal(COST))
    call = ("--base-url", model.base_url, *MODEL, "hello")
    assert [run_llm_call(*call, env=KEY).returncode for _ in range(3)] == [0, 0, 3]
    for file in home.glob("ledger.db*"):
        file.unlink()
    assert run_llm_call(*call, env=KEY).returncode == 3
    assert run_callmeter("budget", "recover", "--check").returncode == 0


def test_a_new_quota_counts_what_was_spent_before_it_was_set(
    home: Path, model: CountingServer, run_llm_call: Run
) -> None:
    call = ("--base-url", model.base_url, *MODEL, "hello")
    assert run_llm_call(*call, env=KEY).returncode == 0
    quota(home, WORST)
    assert run_llm_call(*call, env=KEY).returncode == 3


def test_what_was_spent_while_there_was_no_quota_is_counted_when_the_same_one_is_back(
    home: Path, model: CountingServer, run_llm_call: Run, run_callmeter: Run
) -> None:
    call = ("--base-url", model.base_url, *MODEL, "hello")
    setting = ("budget", "quota", "set", "total", "1", "--hard")
    assert run_callmeter(*setting).returncode == 0
    assert not (home / "ledger.db").exists(), "the first quota opens no ledger"
    assert run_llm_call(*call, env=KEY).returncode == 0
    assert run_callmeter("budget", "quota", "unset", "total").returncode == 0
    assert run_llm_call(*call, env=KEY).returncode == 0
    assert run_callmeter(*setting).returncode == 0
    assert run_llm_call(*call, env=KEY).returncode == 0
    assert len(lines(home)) == 3
    checked = run_callmeter("budget", "recover", "--check")
    assert checked.returncode == 0, checked.stdout


def test_two_ways_to_recover_at_once_are_a_wrong_command_line(run_callmeter: Run) -> None:
    assert run_callmeter("budget", "recover", "--check", "--rebuild").returncode == 2


def test_a_clock_that_was_ahead_can_be_accepted(
    home: Path, model: CountingServer, run_llm_call: Run, run_callmeter: Run
) -> None:
    import sqlite3

    quota(home, 1)
    call = ("--base-url", model.base_url, *MODEL, "hello")
    assert run_llm_call(*call, env=KEY).returncode == 0
    with sqlite3.connect(home / "ledger.db") as ledger:
        ledger.execute(
            'INSERT INTO windows (bucket, period, start, log, "end") VALUES ("total", "month", 9e9, "x", 9.1e9)'
        )
    stopped = run_llm_call(*call, env=KEY)
    assert stopped.returncode == 7 and "clock went back" in stopped.stderr
    assert run_callmeter("budget", "recover", "--accept-clock").returncode == 0
    assert run_llm_call(*call, env=KEY).returncode == 0


# --- a ledger in PostgreSQL


@pytest.fixture
def far(server: str) -> Iterator[Wire]:
    """A wire to an empty database, which can be cut."""
    with Wire(new_database(server)) as wire:
        yield wire


def test_calls_are_booked_in_postgresql(
    home: Path, model: CountingServer, far: Wire, run_llm_call: Run, run_callmeter: Run
) -> None:
    quota(home, WORST + 3 * Decimal(COST))
    env = {**KEY, "CALLMETER_LEDGER": far.address}
    call = ("--base-url", model.base_url, *MODEL, "hello")
    assert [run_llm_call(*call, env=env).returncode for _ in range(6)] == [0, 0, 0, 0, 3, 3]
    assert run_callmeter("budget", "recover", "--check", env=env).returncode == 0
    assert not (home / "ledger.db").exists()


def test_without_the_ledger_a_hard_policy_sends_nothing(
    home: Path, model: CountingServer, far: Wire, run_llm_call: Run
) -> None:
    quota(home, 1)
    far.cut_after(0)
    done = run_llm_call("--base-url", model.base_url, *MODEL, "hello", env={**KEY, "CALLMETER_LEDGER": far.address})
    assert done.returncode == 7
    assert "the ledger at 127.0.0.1" in done.stderr
    assert model.prompts == []


def test_what_is_sent_without_the_ledger_is_booked_when_it_is_back(
    home: Path, model: CountingServer, far: Wire, run_llm_call: Run, run_callmeter: Run
) -> None:
    quota(home, 1, unreachable="fail_open")
    env = {**KEY, "CALLMETER_LEDGER": far.address}
    call = ("--base-url", model.base_url, *MODEL, "hello")
    assert run_llm_call(*call, env=env).returncode == 0
    far.cut_after(0)
    alone = run_llm_call(*call, env=env)
    assert alone.returncode == 0 and "as the policy says" in alone.stderr
    assert run_llm_call(*call, env=env).returncode == 0
    far.heal()
    assert run_llm_call(*call, env=env).returncode == 0
    assert run_llm_call(*call, env=env).returncode == 0
    assert len(lines(home)) == 5
    assert run_callmeter("budget", "recover", "--check", env=env).returncode == 0
    assert list((home / "inflight").iterdir()) == []


def test_a_report_does_not_keep_from_the_ledger_what_was_sent_without_it(
    home: Path, model: CountingServer, far: Wire, run_llm_call: Run, run_callmeter: Run
) -> None:
    quota(home, 1, unreachable="fail_open")
    env = {**KEY, "CALLMETER_LEDGER": far.address}
    call = ("--base-url", model.base_url, *MODEL, "hello")
    assert run_llm_call(*call, env=env).returncode == 0
    far.cut_after(0)
    assert run_llm_call(*call, env=env).returncode == 0
    away = run_callmeter("budget", "breakdown", "--by-agent", "--format", "json", env=env)
    assert (away.returncode, json.loads(away.stdout)["total"]["calls"]) == (0, 2)
    assert "the calls of dead processes are not settled" in away.stderr
    far.heal()
    back = run_callmeter("budget", "breakdown", "--by-agent", "--format", "json", env=env)
    assert (back.returncode, back.stderr, back.stdout) == (0, "", away.stdout)
    assert run_llm_call(*call, env=env).returncode == 0
    assert run_callmeter("budget", "recover", "--check", env=env).returncode == 0
    assert list((home / "inflight").iterdir()) == []


def test_a_ledger_that_goes_away_during_a_call_costs_no_answer_and_no_line(
    home: Path,
    model: CountingServer,
    far: Wire,
    start: Callable[..., subprocess.Popen[bytes]],
    run_callmeter: Run,
) -> None:
    quota(home, 1)
    env = {**KEY, "CALLMETER_LEDGER": far.address}
    process = start("llm-call", "--base-url", model.base_url, *MODEL, "hold", env=env)
    model.arrived(1)
    far.cut_after(0)
    model.release()
    output, errors = process.communicate()
    assert output == b"answer to hold\n", errors
    assert b"the next call books it" in errors
    assert [line["status"] for line in lines(home)] == ["ok"]
    far.heal()
    assert run_callmeter("budget", "recover", env=env).returncode == 0
    assert run_callmeter("budget", "recover", "--check", env=env).returncode == 0
    assert list((home / "inflight").iterdir()) == []


def test_two_homes_share_one_quota(
    home: Path,
    tmp_path: Path,
    model: CountingServer,
    far: Wire,
    start: Callable[..., subprocess.Popen[bytes]],
    run_callmeter: Run,
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    fitting = 9
    for each in (home, other):
        quota(each, WORST + (fitting - 1) * Decimal(COST))
    running = []
    for number in range(24):
        env = {**KEY, "CALLMETER_LEDGER": far.address, "CALLMETER_HOME": str((home, other)[number % 2])}
        running.append(start("llm-call", "--base-url", model.base_url, *MODEL, "hello", env=env))
    served = sum(process.wait() == 0 for process in running)
    assert served <= fitting
    env = {**KEY, "CALLMETER_LEDGER": far.address}
    while served < fitting:
        process = start("llm-call", "--base-url", model.base_url, *MODEL, "hello", env=env)
        assert process.wait() == 0, "money is left, and nobody holds it"
        served += 1
    process = start("llm-call", "--base-url", model.base_url, *MODEL, "hello", env=env)
    assert process.wait() == 3
    spent = sum(line["cost"] for each in (home, other) for line in lines(each))
    assert spent == fitting * Decimal(COST)
    for each in (home, other):
        checked = run_callmeter("budget", "recover", "--check", env={**env, "CALLMETER_HOME": str(each)})
        assert checked.returncode == 0, checked.stdout


def test_the_password_of_the_database_is_shown_nowhere(home: Path, run_callmeter: Run, run_llm_call: Run) -> None:
    quota(home, 1)
    env = {**KEY, "CALLMETER_LEDGER": "postgresql://callmeter:hunter2@127.0.0.1:9/x"}
    outputs = [
        run_callmeter("config", "show", env=env),
        run_llm_call("--base-url", "http://127.0.0.1:9/v1", *MODEL, "hello", env=env),
        run_callmeter("budget", "recover", env=env),
        run_callmeter("budget", "recover", "--check", env=env),
    ]
    assert [done.returncode for done in outputs] == [0, 7, 7, 7]
    assert not [done for done in outputs if "hunter2" in done.stdout + done.stderr]
