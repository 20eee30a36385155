"""The help: every command, option and exit status is in it, and it says the same as the tables it is made from."""

from __future__ import annotations

import subprocess
import textwrap

import pytest
from typer.testing import CliRunner

from callmeter.cli.app import COMMANDS, GROUPS, app, load
from callmeter.cli.examples import broken
from callmeter.words.errors import Exit

PAGES = ["", *GROUPS, *COMMANDS]
# Nothing to choose in them; and the call's examples stand above its arguments.
PLAIN = ("config show", "demo", "local status", "local stop", "llm-call")


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_is_summed_up_in_its_groups_help_as_in_its_own(path: str) -> None:
    assert COMMANDS[path][1] == (load(path).help or "").splitlines()[0]


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_and_argument_says_what_it_is_for(path: str) -> None:
    for parameter in load(path).params:
        assert (parameter.help or "").strip().endswith((".", "…")), parameter.name


@pytest.mark.parametrize("path", PAGES)
def test_every_help_ends_with_the_exit_statuses(path: str, home: object) -> None:
    result = CliRunner().invoke(app, [*path.split(), "--help"])
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split("Exit status:")[1].split())
    assert said == " ".join(f"{int(status)} {status.meaning}" for status in Exit)


@pytest.mark.parametrize("path", PAGES)
def test_no_help_has_a_line_that_80_columns_would_break(path: str, home: object) -> None:
    result = CliRunner().invoke(app, [*path.split(), "--help"], env={"COLUMNS": "80"})
    assert [line for line in result.output.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("path", COMMANDS)
def test_the_examples_of_a_help_can_be_copied_into_a_shell(path: str, home: object) -> None:
    output = CliRunner().invoke(app, [*path.split(), "--help"]).output
    examples = textwrap.dedent(output.partition("  Examples:\n")[2].partition("\n\n")[0])
    if path not in PLAIN:
        assert path in examples
    checked = subprocess.run(["bash", "-n"], input=examples, text=True, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_comment_of_an_example_stands_before_its_command() -> None:
    line = "callmeter budget keys audit --fix    # on a terminal: asks before each command"
    assert broken(line, 40) == [
        "# on a terminal: asks before each",
        "# command",
        "callmeter budget keys audit --fix",
    ]


@pytest.mark.parametrize("path", COMMANDS)
def test_no_help_speaks_of_types_of_python(path: str, home: object) -> None:
    output = CliRunner().invoke(app, [*path.split(), "--help"]).output
    assert not [name for name in ("<str>", "list[", "<int>", "<float>", "<bool>") if name in output]


def test_the_first_help_says_what_this_is_and_lists_commands_and_groups_in_the_order_of_use(home: object) -> None:
    output = CliRunner().invoke(app, ["--help"]).output
    assert "The meter between LLM agents and their keys" in output
    names = [
        line.split()[0]
        for line in output.split("Commands:")[1].splitlines()
        if line.startswith("  ") and line[2:3].strip()
    ]
    assert names[:2] == ["llm-call", "budget"]
    assert names.index("prices") < names.index("doctor")


@pytest.mark.parametrize("path", GROUPS)
def test_a_group_without_a_command_shows_its_help_and_is_a_wrong_command_line(path: str, home: object) -> None:
    result = CliRunner().invoke(app, path.split())
    assert result.exit_code == Exit.USAGE
    for below in [command for command in COMMANDS if command.startswith(f"{path} ")]:
        assert below.removeprefix(f"{path} ").split()[0] in result.output


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("budget forecast --days 0", "--days': it is not greater than or equal to 1", "budget forecast"),
        ("budget forecast --days x", "--days': it is not a valid integer", "budget forecast"),
        ("budget status --format xml", "--format': 'xml' is not one of 'text'", "budget status"),
        ("budget breakdown --compare", "option '--compare' requires an argument", "budget breakdown"),
        ("budget quota set total --limit", "no such option: --limit", "budget quota set"),
    ],
)
def test_a_wrong_value_is_one_sentence_and_names_the_commands_own_help(line: str, message: str, hint: str) -> None:
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == Exit.USAGE
    told = result.stderr.splitlines()
    assert len(told) == 2
    assert told[0].startswith("callmeter: error: ")
    assert message in told[0]
    assert told[1] == f"callmeter: hint: run `callmeter {hint} --help`"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("status", "it is `callmeter budget status`"),
        ("quota set agent:code 5", "it is `callmeter budget quota set`"),
        ("keys list", "it is `callmeter budget keys list`"),
        ("quota", "it is `callmeter budget quota`"),
        ("budget prices show", "it is `callmeter prices show`"),
        ("budget doctor -v", "it is `callmeter doctor`"),
        ("budget breakdwn", "run `callmeter budget --help`"),
        ("show", "run `callmeter --help`"),
        ("nothing like it", "run `callmeter --help`"),
        ("config set model x", "run `callmeter config --help`"),
    ],
)
def test_a_command_that_lies_in_another_group_is_named(line: str, hint: str) -> None:
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == Exit.USAGE
    assert result.stderr.splitlines()[1] == f"callmeter: hint: {hint}"
