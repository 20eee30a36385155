"""What goes on while a log is counted is told to a person as it changes, to a script once, and to nobody at first."""

from __future__ import annotations

import io

import pytest

from callmeter.cli.waiting import told
from callmeter.cli.world import World


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


def heard(world: World, clock: list[float], after: float) -> None:
    tell = told(world)
    tell("reading: 0%")
    for percent in (10, 20):
        clock[0] += after
        tell(f"reading: {percent}%")


def test_a_script_hears_it_once_and_only_when_it_takes_long(home: object, clock: list[float]) -> None:
    for after, said in ((4.0, ""), (11.0, "callmeter: warning: reading: 10%\n")):
        errors = io.StringIO()
        heard(World(stderr=errors, monotonic=lambda: clock[0]), clock, after)
        assert errors.getvalue() == said


def test_a_person_sees_it_change_on_one_line(home: object, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for after, said in ((0.4, ""), (1.5, "reading: 10%\r\x1b[2Kreading: 20%")):
        errors = Screen()
        heard(World(stderr=errors, monotonic=lambda: clock[0]), clock, after)
        assert errors.getvalue() == said
