"""The lane reads a command line as Typer does, or hands it over."""

import subprocess
import sys
from typing import Any

from callmeter.cli.app import load
from callmeter.cli.lane import parse
from callmeter.cli.lane_table import DEFAULTS, OPTIONS
from hypothesis import given, settings
from hypothesis import strategies as st

words = st.text(max_size=8) | st.sampled_from(["-", "--", "-x", "-qv", "hello", "a=b", "--no", "=", "-o"])
options = st.sampled_from([*OPTIONS, "--help", "-h", "--unknown", "-mgpt", "--agen"])
arguments = st.lists(
    words
    | options
    | st.tuples(options, words).map(lambda pair: "=".join(pair))
    | st.sampled_from(["--agent", "--json", "-m"]),
    max_size=8,
)

command = load("llm-call")


def by_typer(given_arguments: list[str]) -> dict[str, Any] | None:
    try:
        context = command.make_context("llm-call", list(given_arguments))
    except BaseException:
        return None
    return {name: list(value) if isinstance(value, list | tuple) else value for name, value in context.params.items()}


@settings(max_examples=600, deadline=None)
@given(arguments)
def test_the_lane_agrees_with_typer_or_hands_over(given_arguments: list[str]) -> None:
    by_lane = parse(list(given_arguments))
    if by_lane is not None:
        by_lane = {name: list(value) if isinstance(value, list | tuple) else value for name, value in by_lane.items()}
        assert by_lane == by_typer(given_arguments)


def test_plain_command_lines_take_the_lane() -> None:
    plain = ["-m", "m", "--agent=code", "--tag", "a=b", "--tag", "c=d", "-o", "temperature", "0.2", "--json", "-u", "Hi"]
    found = parse(plain)
    assert found is not None
    assert found == {
        **DEFAULTS,
        "model": "m",
        "agent": "code",
        "tag": ["a=b", "c=d"],
        "option": ["temperature=0.2"],
        "json": True,
        "usage": True,
        "prompt": "Hi",
    }


def test_what_is_not_plain_is_handed_over() -> None:
    for handed in (["--help"], ["-qv", "Hi"], ["--agent"], ["-o", "temperature"], ["one", "two"], ["--json=yes"]):
        assert parse(handed) is None


def test_the_table_is_what_the_typer_command_says() -> None:
    check = subprocess.run([sys.executable, "tools/lane_table.py", "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
