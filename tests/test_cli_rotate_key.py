"""`budget rotate-key` as a person, cron and eight agents meet it, against an OpenRouter account with its state."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from conftest import Run
from servers.openrouter import OpenRouter
from terminal import Terminal


class Team:
    """Agents with a key each at an OpenRouter account, and the commands that they and their owner run."""

    def __init__(self, home: Path, router: OpenRouter, run: Run, call: Run) -> None:
        self.home = home
        self.router = router
        self._run = run
        self._call = call
        (home / "config.toml").write_text(f'[providers.openrouter]\nbase_url = "{router.base_url}"\n')
        self.secrets: set[str] = {router.management_key}

    def hire(self, agent: str, *options: str, limit: str = "5", reset: str = "monthly") -> str:
        secret = self.router.give_key(f"{agent} by hand", limit=limit, reset=reset)
        self.secrets.add(secret)
        done = self._run("budget", "keys", "add", agent, *options, input=secret)
        assert done.returncode == 0, done.stderr
        return secret

    def rotate(
        self, *options: str, status: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        given = {"CALLMETER_MANAGEMENT_KEY": self.router.management_key, **(env or {})}
        done = self._run("budget", "rotate-key", *options, env=given)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        self.secrets |= {record.secret for record in self.router.keys}
        return done

    def call(self, agent: str) -> subprocess.CompletedProcess[str]:
        return self._call("--agent", agent, "-m", "openai/gpt-5-mini", "hello")

    def show(self, label: str) -> subprocess.CompletedProcess[str]:
        return self._run("budget", "keys", "show", label, "--format", "json")

    def current(self, agent: str) -> str:
        return (self.home / "secrets" / f"{agent}@openrouter").read_text().strip()

    def rows(self, *options: str, status: int = 0) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = json.loads(self.rotate(*options, "--format", "json", status=status).stdout)[
            "rows"
        ]
        return rows

    def leaks(self) -> list[str]:
        """Files outside the store of keys that hold one."""
        found = []
        for path in self.home.rglob("*"):
            if path.is_file() and path.parent.name != "secrets":
                data = path.read_bytes()
                found += [str(path) for secret in self.secrets if secret.encode() in data]
        return found


@pytest.fixture
def router() -> Iterator[OpenRouter]:
    with OpenRouter() as router:
        yield router


@pytest.fixture
def team(home: Path, router: OpenRouter, run_callmeter: Run, run_llm_call: Run) -> Team:
    return Team(home, router, run_callmeter, run_llm_call)


def test_a_rotation_gives_the_agent_a_new_key_and_says_what_is_left_to_do(team: Team) -> None:
    old = team.hire("code")
    done = team.rotate("code@openrouter", status=3)
    assert team.current("code") not in (old, "")
    assert "grace period" in done.stdout
    assert team.call("code").returncode == 0
    assert team.router.answered == {team.current("code"): 1}
    (row,) = team.rows("code@openrouter", "--status", status=3)
    assert row["state"] == "swapped"
    assert not team.leaks()


def test_who_still_uses_the_old_key_is_named_from_our_own_log(team: Team) -> None:
    team.hire("code")
    team.call("code")
    old = team.current("code")
    team.rotate("code@openrouter", status=3)
    (row,) = team.rows("code@openrouter", "--status", status=3)
    assert row["in_use_by"] is None
    stored = team.home / "secrets" / "code@openrouter"
    new = stored.read_text()
    stored.write_text(old)  # an agent that keeps its key in memory
    team.call("code")
    stored.write_text(new)
    (row,) = team.rows("code@openrouter", "--status", status=3)
    assert row["in_use_by"] == "code"


def test_a_leaked_key_is_dead_at_once_and_the_agent_goes_on(team: Team) -> None:
    old = team.hire("code")
    team.rotate("code@openrouter", "--now", status=3)
    assert team.router.record(old).disabled
    assert team.call("code").returncode == 0
    team.rotate("code@openrouter", "--delete-old", status=3)
    assert len([record for record in team.router.keys if not record.disabled]) == 1


def test_eight_agents_call_without_pause_while_their_keys_rotate_and_no_call_fails(team: Team) -> None:
    agents = [f"agent{number}" for number in range(8)]
    for agent in agents:
        team.hire(agent)
    team.router.flicker, team.router.flicker_seconds = 0.3, 2.0
    stop = threading.Event()
    failed: list[str] = []
    made = dict.fromkeys(agents, 0)

    def work(agent: str) -> None:
        while not stop.is_set():
            done = team.call(agent)
            made[agent] += 1
            if done.returncode != 0:
                failed.append(done.stderr)

    workers = [threading.Thread(target=work, args=(agent,)) for agent in agents]
    for worker in workers:
        worker.start()
    first = {agent: team.current(agent) for agent in agents}
    try:
        team.rotate("--all", status=3)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert not failed
    assert all(made.values())
    assert all(team.current(agent) != first[agent] for agent in agents)
    assert not team.leaks()


def test_cron_rotates_what_is_due_and_leaves_the_rest(team: Team) -> None:
    team.hire("young")
    old = team.hire("old")
    registry = team.home / "keys.toml"
    text = re.sub(
        r'(\[keys\."old@openrouter"\][^[]*?created = )"[^"]*"', r'\1"2026-01-01T00:00:00.000Z"', registry.read_text()
    )
    assert "No rotation is going on, and no key is due." in team.rotate("--status").stdout
    registry.write_text(text)
    assert [(row["label"], row["state"]) for row in team.rows("--status", status=3)] == [("old@openrouter", "due")]
    assert [row["label"] for row in team.rows("--due", "--dry-run")] == ["old@openrouter"]
    assert [row["label"] for row in team.rows("--due", status=3)] == ["old@openrouter"]
    assert team.current("old") != old
    team.rotate("--due", status=3)  # the same again: it waits for the grace period, and begins nothing


def test_one_key_that_fails_does_not_stop_the_others_and_the_exit_status_says_so(team: Team) -> None:
    bad = team.hire("bad")
    good = team.hire("good")
    del team.router._records[team.router.record(bad).hash]
    done = team.rotate("--all", status=7)
    assert team.current("good") != good
    assert "bad@openrouter" in done.stderr and "has no key" in done.stderr


def test_a_rotation_that_fails_alerts_somebody_once_a_day(team: Team) -> None:
    told = {"kind": "file", "target": str(team.home / "told"), "on": ["rotation"]}
    (team.home / "budget.json").write_text(json.dumps({"alerts": [told]}))
    bad = team.hire("bad")
    del team.router._records[team.router.record(bad).hash]
    for _ in range(2):
        team.rotate("bad@openrouter", status=3)
    assert team._run("budget", "alerts", "--flush").returncode == 0
    (line,) = (team.home / "told").read_text().splitlines()
    assert "rotation of the key bad@openrouter failed" in line
    assert not team.leaks()


def test_a_rotation_can_be_taken_back(team: Team) -> None:
    old = team.hire("code")
    team.rotate("code@openrouter", status=3)
    team.rotate("code@openrouter", "--rollback")
    assert team.current("code") == old
    assert [record.secret for record in team.router.keys] == [old]
    assert team.call("code").returncode == 0


def test_the_new_ceiling_is_what_the_old_key_has_left(team: Team) -> None:
    team.hire("code", limit="1")
    for _ in range(3):
        assert team.call("code").returncode == 0
    team.rotate("code@openrouter", "--now", status=3)
    assert team.router.record(team.current("code")).limit == Decimal("0.97")
    team.router.shift += timedelta(days=40)


def test_the_management_key_never_reaches_an_inference_endpoint_and_may_lie_in_the_registry(
    team: Team, run_callmeter: Run
) -> None:
    team.hire("code")
    done = team.rotate("code@openrouter", status=6, env={"CALLMETER_MANAGEMENT_KEY": ""})
    assert "no management key" in done.stderr and "--paste" in done.stderr
    added = run_callmeter("budget", "keys", "add", "--management", "--label", "boss", input=team.router.management_key)
    assert added.returncode == 0, added.stderr
    team.rotate("code@openrouter", status=3, env={"CALLMETER_MANAGEMENT_KEY": ""})
    team.call("code")
    assert team.router.management_key not in {token for token, _ in team.router.refused}
    assert not team.leaks()


def test_a_person_pastes_the_new_key_in_a_terminal_that_does_not_show_it(
    team: Team, environment: dict[str, str], tmp_path: Path
) -> None:
    team.hire("code")
    pasted = team.router.give_key("made on the dashboard", limit="5", reset="monthly")
    with Terminal(["bash", "--norc", "-i"], {**environment, "PS1": "ready> "}, tmp_path) as shell:
        shell.wait_for("ready> ")
        shell.type("callmeter budget rotate-key code@openrouter --paste\n")
        seen = shell.wait_for("not shown): ")
        shell.type(pasted + "\n")
        seen += shell.wait_for("ready> ")
        shell.type("history\n")
        seen += shell.wait_for("ready> ")
    assert pasted not in seen
    assert team.current("code") == pasted
    assert not team.leaks()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "which key?"),
        (["nobody@openrouter"], "no key 'nobody@openrouter'"),
        (["--all", "--paste"], "are for one key"),
        (["--all", "--status", "--resume"], "contradict"),
        (["code@openrouter", "--grace", "soon"], "is not a span"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line_and_changes_nothing(
    team: Team, options: list[str], told: str
) -> None:
    team.hire("code")
    team.hire("docs")
    status = 6 if options[:1] == ["nobody@openrouter"] else 2
    done = team.rotate(*options, status=status)
    assert told in done.stderr
    assert len(team.router.keys) == 2


def test_two_rotations_of_one_key_at_once_and_the_second_says_who_is_at_it(
    team: Team, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    team.hire("code")
    arrived, go = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> None:
        if method == "POST" and path == "/keys":
            arrived.set()
            go.wait(60)

    team.router.on_request = hold
    env = {"CALLMETER_MANAGEMENT_KEY": team.router.management_key}
    first = start("callmeter", "budget", "rotate-key", "code@openrouter", env=env)
    assert arrived.wait(60)
    second = team.rotate("code@openrouter", status=8)
    assert re.search(r"by \w+@[\w-]+, process \d+ since 20\d\d-", second.stderr)
    go.set()
    first.communicate(timeout=120)
    assert first.returncode == 3


def test_the_new_key_makes_real_calls_before_it_is_used_and_each_is_in_the_log(team: Team) -> None:
    old = team.hire("code", "--models", "openai/gpt-5-mini,openai/gpt-4*")
    team.router.cost = Decimal("0.001")
    team.rotate("code@openrouter", "--try", "allowed", status=3)
    lines = [json.loads(line) for line in (team.home / "usage.jsonl").read_text().splitlines()]
    assert [line["tags"] for line in lines] == [{"agent": "code", "purpose": "key_rotation"}] * 2
    assert lines[0]["model"] == "openai/gpt-5-mini" and lines[1]["model"].startswith("openai/gpt-4")
    assert team.router.answered == {team.current("code"): 2}
    team.rotate("code@openrouter", "--delete-old")
    team.router.cost = Decimal("0.02")  # more than the new key may spend while it is tested
    done = team.rotate("code@openrouter", "--try", "openai/gpt-5-mini", status=7)
    assert "failed its test (openai/gpt-5-mini: " in done.stderr
    assert old not in done.stderr


def test_who_has_the_old_key_from_keys_exec_is_named_and_waited_for(
    team: Team, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    old = team.hire("code")
    program = start("callmeter", "budget", "keys", "exec", "code", "--", "sh", "-c", "echo ready; read x", stdin=-1)
    assert program.stdout is not None and program.stdin is not None
    assert program.stdout.readline() == b"ready\n"
    team.rotate("code@openrouter", "--grace", "0s", status=3)
    (row,) = team.rows("code@openrouter", "--status", status=3)
    assert "by `keys exec`" in str(row["in_use_by"])
    done = team.rotate("code@openrouter", "--now", status=3)
    assert "cut off now" in done.stderr and "keys exec" in done.stderr
    assert team.router.record(old).disabled
    program.communicate(b"\n", timeout=120)


def test_cron_hears_nothing_where_nothing_is_due_and_nothing_new_while_it_waits(team: Team) -> None:
    team.hire("code")
    done = team.rotate("--due")
    assert (done.stdout, done.stderr) == ("", "")
    team.rotate("code@openrouter", status=3)
    done = team.rotate("--due", "-q", status=3)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_rotation_that_fails_is_in_the_audit_log(team: Team, run_callmeter: Run) -> None:
    team.hire("code")
    team.router.fault("POST", "/keys", "500 before", times=3)
    team.rotate("code@openrouter", status=7)
    events = [json.loads(line) for line in (team.home / "audit.jsonl").read_text().splitlines()]
    assert "key.rotate_failed" in json.dumps(events)


def test_a_new_key_can_be_given_an_end(team: Team) -> None:
    team.hire("code")
    team.rotate("code@openrouter", "--expires", "180d", status=3)
    assert team.router.record(team.current("code")).expires_at is not None
    facts = json.loads(team.show("code@openrouter").stdout)["facts"]
    assert facts["expires"] > facts["last_rotated"]


def test_a_program_that_was_refused_is_given_the_next_key_that_may_do(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    import callmeter
    from callmeter.words.errors import NoKey

    old = team.hire("code")
    team.rotate("code@openrouter", status=3)
    new = callmeter.get_secret("code")
    assert new == team.current("code")
    assert callmeter.get_secret("code", refused=[new]) == old
    assert callmeter.get_secret("code", refused=[old]) == new
    with pytest.raises(NoKey, match="all refused"):
        callmeter.get_secret("code", refused=[old, new])
