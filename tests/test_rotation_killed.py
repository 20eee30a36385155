"""`budget rotate-key` in processes that are killed, while agents call without a pause: no call fails, nothing is left.

`benchmarks/rotation.py` takes every point; here it is a few of each kind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rotation_team import KILLED, Team
from servers.openrouter import OpenRouter

LABEL = "a@openrouter"


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """One team for all: its callers never stop, and its keys are rotated again and again."""
    with OpenRouter(seed=5) as router:
        team = Team(tmp_path_factory.mktemp("team") / "home", router)
        team.begin()
        yield team
        team.end()


def whole(team: Team, calls: int) -> None:
    team.finish(LABEL)
    assert team.faults() == []
    made, failed = team.so_far
    assert made > calls
    assert failed == 0, Path(team.log).read_text()[-2000:]


@pytest.mark.parametrize("point", [24, 58, 92, 126, 160])
def test_killed_before_a_change_to_a_file(team: Team, point: int) -> None:
    calls, _ = team.so_far
    assert team.rotate(LABEL, kill_at=point) == KILLED
    whole(team, calls)


@pytest.mark.parametrize("request_", [5, 10])
def test_killed_when_a_request_has_arrived(team: Team, request_: int) -> None:
    calls, _ = team.so_far
    seen = 0

    def arrived(method: str, path: str) -> None:
        nonlocal seen
        if path != "/chat/completions":
            seen += 1
            if seen == request_:
                team.kill_now()

    team.router.on_request = arrived
    assert team.rotate(LABEL) == KILLED
    team.router.on_request = lambda method, path: None
    whole(team, calls)


def test_killed_three_times_while_the_provider_has_a_bad_day(team: Team) -> None:
    calls, _ = team.so_far
    router = team.router
    router.visible_lag, router.flicker, router.page, router.list_lag = 0.2, 0.3, 1, 0.2
    router.fault("POST", "/keys", "lost after")
    router.fault("PATCH", "/keys/.+", "half")
    router.fault("GET", "/keys", "500 before")
    for point in (60, 60, 100):
        assert team.rotate(LABEL, kill_at=point) == KILLED
    whole(team, calls)
    router.visible_lag, router.flicker, router.page, router.list_lag = 0.0, 0.0, 100, 0.0


def test_no_key_is_anywhere_but_in_its_store(team: Team) -> None:
    """Files, command lines and environments of all processes, what was written to stderr; also with -v and a defect."""
    for options in (("-v",), ("-v", "--now"), ("--status", "--all", "--format", "json"), ("--rollback",)):
        team.rotate(LABEL, *options)
    team.crash = "callmeter.flows.rotation_end.finish"
    assert team.rotate(LABEL, "-v") == 1
    team.crash = ""
    assert "Traceback" in Path(team.log).read_text()
    team.to_the_end(LABEL)
    secrets = [secret.encode() for secret in team.router.secrets]
    assert len(secrets) > 10
    store = team.home / "secrets"
    found = [
        str(path)
        for path in team.home.parent.rglob("*")
        if path.is_file() and path.parent != store and any(secret in path.read_bytes() for secret in secrets)
    ]
    assert found == []
    management = team.router.management_key.encode()
    assert not [path for path in team.home.parent.rglob("*") if path.is_file() and management in path.read_bytes()]
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        for name in ("cmdline", "environ"):
            try:
                data = (process / name).read_bytes()
            except OSError:
                continue
            assert not [secret for secret in (*secrets, management) if secret in data], process


def test_a_creation_that_is_killed_anywhere_is_finished_by_the_same_command(tmp_path: Path) -> None:
    point, killed = 6, True
    while killed:
        with OpenRouter() as router:
            team = Team(tmp_path / str(point), router, agents=())
            create = ("budget", "keys", "create", "new", "5", "--models", "a/b")
            killed = team.run(*create, kill_at=point) == KILLED
            if killed and team.run(*create) != 0:
                assert len(router.working()) == 1  # it was finished before the kill
            (record,) = router.keys
            assert (record.limit, record.limit_reset) == (5, "monthly")
            assert record.secret == team.current("new")
            assert len(router.guardrails) == 1 and record.guardrail
        point += 9
    assert point > 60
