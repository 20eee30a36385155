"""Conversations: what `-c` and `--conversation` continue, and what is kept for them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from conftest import LocalModel, Run
from servers.counting import CountingServer

Ask = Callable[..., CompletedProcess[str]]


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


@pytest.fixture
def ask(run_llm_call: Run, server: CountingServer) -> Ask:
    def ask(*arguments: str, **env: str) -> CompletedProcess[str]:
        return run_llm_call("--base-url", server.base_url, *arguments, env={"CALLMETER_MODEL": "m", **env})

    return ask


def messages(server: CountingServer) -> list[tuple[str, str]]:
    """Who said what in the last request."""
    return [(message["role"], message["content"]) for message in server.bodies[-1]["messages"]]


def kept(home: Path) -> list[Path]:
    return sorted((home / "private").rglob("*.json"))


def test_a_named_conversation_goes_on_with_everything_that_was_said(ask: Ask, server: CountingServer) -> None:
    first = ask("--conversation", "review", "-s", "Be brief.", "one")
    assert (first.returncode, first.stdout, first.stderr) == (0, "answer to one\n", "")
    ask("--cid", "review", "two")
    ask("--conversation", "review", "three")
    assert messages(server) == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "answer to one"),
        ("user", "two"),
        ("assistant", "answer to two"),
        ("user", "three"),
    ]
    ask("--conversation", "another", "four")
    assert messages(server) == [("user", "four")]


def test_a_system_prompt_that_is_given_later_replaces_the_one_before(ask: Ask, server: CountingServer) -> None:
    ask("--cid", "x", "-s", "Be brief.", "one")
    ask("--cid", "x", "-s", "Be long.", "two")
    assert messages(server)[0] == ("system", "Be long.")
    ask("--cid", "x", "three")
    assert [message for message in messages(server) if message[0] == "system"] == [("system", "Be long.")]
    assert messages(server)[0] == ("system", "Be long.")


def test_continue_takes_up_the_latest_conversation_of_the_same_agent_and_session(
    ask: Ask, server: CountingServer
) -> None:
    ask("--agent", "code", "--session", "s1", "-c", "code s1")
    ask("--agent", "code", "--session", "s2", "-c", "code s2")
    ask("--agent", "docs", "--cid", "named", "docs")
    ask("--agent", "code", "--session", "s1", "-c", "more")
    assert messages(server) == [("user", "code s1"), ("assistant", "answer to code s1"), ("user", "more")]
    # A named conversation counts as the latest too.
    ask("--agent", "docs", "-c", "more")
    assert messages(server)[0] == ("user", "docs")


def test_the_first_continue_says_that_nothing_earlier_was_kept_and_why(ask: Ask, home: Path) -> None:
    assert ask("--agent", "code", "plain").stderr == ""
    assert not (home / "private").exists(), "a plain call keeps no text"
    done = ask("--agent", "code", "-c", "one")
    assert done.returncode == 0
    assert "warning: no earlier conversation of agent code is kept, so this call begins one" in done.stderr
    assert "keep_conversations" in done.stderr
    assert ask("--agent", "code", "-c", "two").stderr == ""
    assert "no earlier conversation" in json.loads(ask("--agent", "docs", "--json", "-c", "x").stdout)["warnings"][0]


def test_the_setting_keeps_every_call_and_its_id_names_the_conversation(ask: Ask, server: CountingServer) -> None:
    keep = {"CALLMETER_KEEP_CONVERSATIONS": "1"}
    first = json.loads(ask("--json", "one", **keep).stdout)["id"]
    ask("two", **keep)
    ask("-c", "three")
    assert messages(server) == [("user", "two"), ("assistant", "answer to two"), ("user", "three")]
    ask("--conversation", first, "again")
    assert messages(server)[0] == ("user", "one")


def test_a_conversation_goes_on_with_its_model_unless_the_call_names_another(ask: Ask, server: CountingServer) -> None:
    ask("-m", "first", "--cid", "x", "one")
    ask("--cid", "x", "two")
    assert server.bodies[-1]["model"] == "first"
    ask("-m", "second", "--cid", "x", "three")
    ask("--cid", "x", "four")
    assert server.bodies[-1]["model"] == "second"


def test_only_whole_answers_become_part_of_a_conversation(ask: Ask, server: CountingServer) -> None:
    server.failing.add("bad")
    ask("--cid", "x", "one")
    assert ask("--cid", "x", "bad").returncode == 7
    assert ask("--cid", "x", "--dry-run", "preview").returncode == 0
    ask("--cid", "x", "two")
    assert messages(server) == [("user", "one"), ("assistant", "answer to one"), ("user", "two")]


def test_what_is_kept_only_its_owner_can_read_and_no_name_leads_elsewhere(ask: Ask, home: Path) -> None:
    outside = set(home.parent.rglob("*"))
    for name in ("../../../escape", "/etc/x", "a/b", "\n", "é\u2028"):
        ask("--conversation", name, "secret text")
    new = set(home.parent.rglob("*")) - outside
    holding = {path for path in new if path.is_file() and b"secret text" in path.read_bytes()}
    assert len(holding) == 4, "an empty name is refused"
    for path in holding:
        assert path.parent == home / "private" / "conversations"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_damaged_conversation_is_an_error_and_stays_as_it_is(ask: Ask, home: Path, server: CountingServer) -> None:
    ask("--conversation", "x", "one")
    path = next(path for path in kept(home) if b"one" in path.read_bytes())
    for damage in (path.read_bytes()[:-20], b"", b'{"v":1,"name":"x","turns":[{"model":"m","messages":[1]}]}'):
        path.write_bytes(damage)
        done = ask("--conversation", "x", "two")
        assert (done.returncode, done.stdout) == (5, "")
        assert str(path) in done.stderr
        assert f"rm {path}" in done.stderr
        assert path.read_bytes() == damage
    assert server.prompts == ["one"]


def test_several_processes_on_one_conversation_lose_no_turn_and_tear_none(
    start: Callable[..., Any], ask: Ask, server: CountingServer
) -> None:
    ask("--cid", "shared", "begin")
    calls = [
        start("llm-call", "--base-url", server.base_url, "-m", "m", "--cid", "shared", f"hold {number}")
        for number in range(8)
    ]
    server.arrived(9)
    server.release()
    for call in calls:
        assert call.communicate(timeout=60)[1] == b""
    ask("--cid", "shared", "end")
    said = messages(server)
    assert [role for role, _ in said] == ["user", "assistant"] * 9 + ["user"]
    for (_, question), (_, answer) in zip(said[::2], said[1::2], strict=False):
        assert answer == f"answer to {question}"
    assert {text for _, text in said if text.startswith("hold")} == {f"hold {number}" for number in range(8)}


def test_an_answer_whose_copy_cannot_be_kept_is_still_given(ask: Ask, home: Path, server: CountingServer) -> None:
    ask("--cid", "x", "one")
    room = home / "private" / "conversations"
    for lock in room.glob("*.lock"):
        lock.unlink()
        lock.mkdir()
    done = ask("--cid", "x", "two")
    assert (done.returncode, done.stdout) == (0, "answer to two\n")
    assert "not kept" in done.stderr
    log = [json.loads(line) for line in (home / "usage.jsonl").read_text().splitlines()]
    assert [line["status"] for line in log] == ["ok", "ok"]


def test_conversations_are_swept_after_their_retention(ask: Ask, home: Path, server: CountingServer) -> None:
    ask("--cid", "x", "one")
    for path in (home / "private").rglob("*"):
        os.utime(path, (0, 0))
    ask("--cid", "y", "other")
    ask("--cid", "x", "two")
    assert messages(server) == [("user", "two")]


def test_two_ways_to_name_a_conversation_do_not_go_together(ask: Ask, server: CountingServer) -> None:
    done = ask("-c", "--conversation", "x", "one")
    assert done.returncode == 2
    assert "do not go together" in done.stderr
    assert ask("--conversation", " ", "one").returncode == 2
    assert server.bodies == []


def test_a_conversation_with_the_real_model(run_llm_call: Run, local_model: LocalModel, home: Path) -> None:
    for prompt in ("My name is Ada.", "What is my name?"):
        done = run_llm_call(
            *local_model.options, "--max-tokens", "12", "--cid", "real", "--json", prompt, env=local_model.env
        )
        assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (home / "usage.jsonl").read_text().splitlines()]
    assert log[1]["tokens"]["in"] > log[0]["tokens"]["in"] + 12, "the second call carried the first"
