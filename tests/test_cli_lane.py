"""The lane reads a command line as Typer does, or hands it over."""

import subprocess
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from callmeter.cli.app import load
from callmeter.cli.lane import parse
from callmeter.cli.lane_table import COMMANDS

words = st.text(max_size=8) | st.sampled_from(["-", "--", "-x", "-qv", "hello", "a=b", "--no", "=", "-o"])
paths = st.sampled_from(sorted(COMMANDS))
every = sorted({option for _, _, options in COMMANDS.values() for option in options})
options = st.sampled_from([*every, "--help", "-h", "--unknown", "-mgpt", "--agen"])
arguments = st.lists(
    words
    | options
    | st.tuples(options, words).map(lambda pair: "=".join(pair))
    | st.sampled_from(["--agent", "--json", "-m"]),
    max_size=8,
)

loaded = {path: load(path) for path in COMMANDS}


def by_typer(path: str, given_arguments: list[str]) -> dict[str, Any] | None:
    try:
        context = loaded[path].make_context(path, list(given_arguments))
    except BaseException:
        return None
    return {name: list(value) if isinstance(value, list | tuple) else value for name, value in context.params.items()}


@settings(max_examples=600, deadline=None)
@given(paths, arguments)
def test_the_lane_agrees_with_typer_or_hands_over(path: str, given_arguments: list[str]) -> None:
    by_lane = parse(path, list(given_arguments))
    if by_lane is not None:
        by_lane = {name: list(value) if isinstance(value, list | tuple) else value for name, value in by_lane.items()}
        assert by_lane == by_typer(path, given_arguments)


def test_plain_command_lines_take_the_lane() -> None:
    plain = [
        "-m",
        "m",
        "--agent=code",
        "--tag",
        "a=b",
        "--tag",
        "c=d",
        "-o",
        "temperature",
        "0.2",
        "--json",
        "-u",
        "Hi",
    ]
    found = parse("llm-call", plain)
    assert found is not None
    assert found == {
        **COMMANDS["llm-call"][1],
        "model": "m",
        "agent": "code",
        "tag": ["a=b", "c=d"],
        "option": ["temperature=0.2"],
        "json": True,
        "usage": True,
        "prompt": "Hi",
    }


def test_what_is_not_plain_is_handed_over() -> None:
    for handed in (
        ["--help"],
        ["-qv", "Hi"],
        ["--agent"],
        ["-o", "temperature"],
        ["one", "two"],
        ["--json=yes"],
        ["--wait="],
    ):
        assert parse("llm-call", handed) is None
    assert parse("budget quota left", ["--agent", "code"]) is not None
    assert parse("budget quota left", ["code"]) is None


def test_the_table_is_what_the_typer_command_says() -> None:
    check = subprocess.run([sys.executable, "tools/lane_table.py", "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
