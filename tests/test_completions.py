"""Completion in real shells: what a person gets who types some letters and Tab."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callmeter.cli import completing
from conftest import ROOT, Run
from terminal import Terminal

SHELLS = ["bash", "zsh", "fish"]
COMPLETIONS = ROOT / "completions"
HOSTILE = [
    r"\$(touch pwned)",
    "$(touch pwned)",
    "co$(touch pwned)",
    "`touch pwned`",
    "co;touch pwned",
    "co\ntouch pwned\n",
    "co'$(touch pwned)'",
    "co(touch)",
    "=touch",
    "-rf",
    "~root",
    "*",
    "co:touch",
    "co touch",
    "cö",
    "co\x1b]0;pwned\x07",
    "x" * 1000,
]


@pytest.fixture
def used(home: Path, tmp_path: Path) -> Path:
    """A home in which there is something to complete, below a directory with a file to name."""
    names = ["code", "zed", *HOSTILE, "code"]
    lines = [
        {
            "v": 1,
            "id": str(number),
            "model": name.replace("code", "my/model"),
            "tags": {"agent": name, "team": "search"},
        }
        for number, name in enumerate(names)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (home / "usage.jsonl").write_text(f'{text}{{"torn":\n[]\n{"[" * 5000}\n{text}')
    for number, label in enumerate(["code@openrouter", *HOSTILE]):
        with (home / "keys.toml").open("a") as file:
            file.write(
                f"[keys.{json.dumps(label)}]\nagent = {json.dumps(f'keyed{number}')}\n".replace("\\u001b", "\\u001B")
            )
    (home / "templates").mkdir()
    for name in ("review", "$(touch pwned)"):
        (home / "templates" / f"{name}.toml").write_text("")
    (home / "config.toml").write_text('[providers.gateway]\nbase_url = "https://gateway.example.org"\n')
    (tmp_path / "diff.txt").write_text("")
    return home


@pytest.fixture(params=SHELLS)
def shell(
    request: pytest.FixtureRequest, used: Path, tmp_path: Path, environment: dict[str, str], need: Callable[[str], str]
) -> Iterator[Terminal]:
    """A shell with the completions, as a person would have set it up, in the directory with the file."""
    name = request.param
    program = need(name)
    # The prompt is put together by the shell, so that its echo is not taken for it.
    if name == "bash":
        arguments = [program, "--norc", "--noprofile", "-i"]
        setup = (
            f"PS1='REA''DY '; bind 'set bell-style none'; . {COMPLETIONS}/callmeter.bash; . {COMPLETIONS}/llm-call.bash"
        )
    elif name == "zsh":
        arguments = [program, "-f", "-i"]
        setup = f"PS1='REA''DY '; bindkey -e; fpath=({COMPLETIONS} $fpath); autoload -Uz compinit; compinit -D -u"
    else:
        arguments = [program, "--no-config", "-i"]
        setup = f"function fish_prompt; echo 'REA''DY '; end; set fish_complete_path {COMPLETIONS}"
    with Terminal(arguments, environment, tmp_path) as terminal:
        terminal.type(f"{setup}\r")
        terminal.wait_for("READY ")
        yield terminal


def completed(shell: Terminal, keys: str) -> list[str]:
    """The words that the shell would run after these keys and Tab."""
    # Back to the start of the line, to have its words printed instead of run.
    shell.type(f"{keys}\t\x01printf '<%s>' \x05 'E''ND'\r")
    shown = shell.wait_for("<END>")
    shell.wait_for("READY ")
    words = re.findall(r"<([^<>]*)>", shown)
    last = len(words) - 1 - words[::-1].index(keys.split()[0])
    return words[last:-1]


def test_the_committed_scripts_are_those_of_the_commands() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "tools" / "completions.py", "--check"], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


CASES = {
    # commands
    "callmeter bud": "callmeter budget",
    "callmeter budget bre": "callmeter budget breakdown",
    "callmeter budget keys ad": "callmeter budget keys add",
    "callmeter pri": "callmeter prices",
    # options
    "llm-call --fallb": "llm-call --fallback-model",
    "callmeter llm-call hello --purp": "callmeter llm-call hello --purpose",
    "llm-call --no-str": "llm-call --no-stream",
    "callmeter prices show --form": "callmeter prices show --format",
    "llm-call -- --purp": "llm-call -- --purp",
    # fixed values
    "callmeter prices show --format mark": "callmeter prices show --format markdown",
    "callmeter prices show --format=mark": "callmeter prices show --format=markdown",
    # values from files
    "llm-call --agent co": "llm-call --agent code",
    "llm-call --agent=co": "llm-call --agent=code",
    "llm-call --caller z": "llm-call --caller zed",
    "llm-call --agent keyed1": "llm-call --agent keyed1",
    "llm-call -m my/": "llm-call -m my/model",
    "llm-call --priority crit": "llm-call --priority critical",
    "llm-call --provider gat": "llm-call --provider gateway",
    "llm-call --key co": "llm-call --key code@openrouter",
    "llm-call --key code@op": "llm-call --key code@openrouter",
    "llm-call -t rev": "llm-call -t review",
    "callmeter budget keys show co": "callmeter budget keys show code@openrouter",
    "callmeter budget keys show code@": "callmeter budget keys show code@openrouter",
    "callmeter budget keys show --format json co": "callmeter budget keys show --format json code@openrouter",
    # values of two words
    "llm-call -o temperature di": "llm-call -o temperature di",
    "llm-call -o temperature 0.2 --purp": "llm-call -o temperature 0.2 --purpose",
    # files
    "llm-call -f di": "llm-call -f diff.txt",
    "llm-call --file=di": "llm-call --file=diff.txt",
    "callmeter llm-call -a di": "callmeter llm-call -a diff.txt",
    "llm-call -t di": "llm-call -t diff.txt",
    "llm-call --batch di": "llm-call --batch diff.txt",
    "llm-call di": "llm-call di",
}


def test_tab_completes(shell: Terminal) -> None:
    found = {keys: " ".join(completed(shell, keys)) for keys in CASES}
    assert found == CASES


LISTINGS = [
    "llm-call --agent ",
    "llm-call -m co",
    "llm-call --key ",
    "llm-call -t ",
    "callmeter budget keys add ",
    "llm-call --agent co\\$",
    "llm-call --agent '$",
]


def test_what_stands_in_the_log_is_neither_run_nor_offered(shell: Terminal, tmp_path: Path) -> None:
    for keys in LISTINGS:
        # The first Tab inserts what is common, the second lists, the third takes one of them.
        shell.type(f"{keys}\t\t\t\x15printf '<%s>' 'E''ND'\r")
        shown = shell.wait_for("<END>")
        shell.wait_for("READY ")
        assert "touch" not in shown, keys
        assert "pwned" not in shown, keys
    assert list(tmp_path.rglob("pwned*")) == []


def pretended(directory: Path, script: str) -> str:
    """What to type to have this script in place of the installed commands."""
    for name in ("callmeter", "llm-call"):
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return f"export PATH={directory}:/usr/bin:/bin\r"


def test_commands_and_options_are_completed_without_starting_callmeter(shell: Terminal, tmp_path: Path) -> None:
    shell.type(pretended(tmp_path, "touch started"))
    assert completed(shell, "callmeter bud") == ["callmeter", "budget"]
    assert completed(shell, "llm-call --fallb") == ["llm-call", "--fallback-model"]
    assert not (tmp_path / "started").exists()
    completed(shell, "llm-call --agent co")
    assert (tmp_path / "started").exists()


def test_a_callmeter_that_prints_anything_else_gets_nothing_past_the_shell(shell: Terminal, tmp_path: Path) -> None:
    lines = "\n".join(name.replace("\n", " ") for name in HOSTILE)
    shell.type(pretended(tmp_path, f"cat <<'END'\ncode\n{lines}\nEND"))
    shell.wait_for("READY ")
    shell.type("llm-call --agent \t\t\t\x15printf '<%s>' 'E''ND'\r")
    assert "touch" not in shell.wait_for("<END>")
    shell.wait_for("READY ")
    assert completed(shell, "llm-call --agent co") == ["llm-call", "--agent", "code"]
    assert list(tmp_path.rglob("pwned*")) == []


def test_bash_completes_after_any_word_breaks(
    used: Path, environment: dict[str, str], need: Callable[[str], str]
) -> None:
    """`COMP_WORDBREAKS` is each person's own; what is offered has to fit what readline will replace."""
    script = """
        . "$1"
        COMP_WORDBREAKS=$2 COMP_LINE='llm-call --key=code@op' COMP_POINT=22
        read -r -a COMP_WORDS <<<"$3"
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _llm_call
        printf '%s' "${COMPREPLY[*]}"
    """
    for breaks, words, offered in (
        (" \t\n", "llm-call --key=code@op", "--key=code@openrouter"),
        (" =", "llm-call --key = code@op", "code@openrouter"),
        (" =@", "llm-call --key = code @ op", "@openrouter"),
    ):
        done = subprocess.run(
            [need("bash"), "-c", script, "bash", COMPLETIONS / "llm-call.bash", breaks, words],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == (offered, "")


@pytest.mark.parametrize("file", sorted(COMPLETIONS.glob("*")), ids=lambda file: file.name)
def test_a_script_is_one_its_shell_can_read(file: Path, need: Callable[[str], str]) -> None:
    shell = {".bash": "bash", ".fish": "fish"}.get(file.suffix, "zsh")
    done = subprocess.run([need(shell), "-n", file], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if shell == "zsh":
        # compinit looks at the first line only, and calls the function that is named like the file.
        assert file.read_text().splitlines()[0] == f"#compdef {file.name[1:]}"
        assert f"\n{file.name}() {{\n" in file.read_text()


# What `callmeter __complete` prints


def test_the_values_of_a_kind_are_sorted_and_stand_there_once(used: Path, run_callmeter: Run) -> None:
    done = run_callmeter("__complete", "agent")
    keyed = sorted(f"keyed{number}" for number in range(len(HOSTILE) + 1))
    assert (done.returncode, done.stdout.split("\n"), done.stderr) == (0, ["code", *keyed, "zed", ""], "")


def test_tags_that_only_the_log_knows_are_offered_by_name(used: Path, run_callmeter: Run) -> None:
    assert {"team", "agent", "cost_center"} <= set(run_callmeter("__complete", "tag").stdout.split())


def test_values_that_the_policy_allows_are_offered_before_anybody_used_them(home: Path, run_callmeter: Run) -> None:
    (home / "budget.json").write_text(json.dumps({"tags": {"allowed": {"environment": ["prod", "dev", "$(x)"]}}}))
    assert run_callmeter("__complete", "environment").stdout == "dev\nprod\n"


def test_models_with_a_price_are_offered_before_anybody_used_them(home: Path, run_callmeter: Run) -> None:
    found = run_callmeter("__complete", "model", env={"CALLMETER_PROVIDER": "openai"}).stdout.split()
    assert "gpt-4o-mini" in found
    assert found == sorted(set(found))


@pytest.mark.parametrize("kind", [*completing.KINDS, "nonsense", ""])
@pytest.mark.parametrize("damage", ["nothing there", "damaged", "directories", "home is a file"])
def test_whatever_is_wrong_tab_stays_silent(
    kind: str, damage: str, home: Path, run_callmeter: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("usage.jsonl", "keys.toml", "config.toml", "budget.json", "templates", "prices.toml"):
        if damage == "damaged":
            (home / name).write_bytes(b"\xff\x00[[[[")
        elif damage == "directories":
            (home / name).mkdir()
    if damage == "home is a file":
        home.rmdir()
        home.write_text("")
    assert completing.offer([kind] if kind else []) == 0
    assert capsys.readouterr().err == ""


def test_a_fifo_in_place_of_the_log_does_not_hang_the_shell(home: Path, run_callmeter: Run) -> None:
    os.mkfifo(home / "usage.jsonl")
    done = run_callmeter("__complete", "agent", timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_of_a_long_log_the_end_counts(home: Path, run_callmeter: Run) -> None:
    line = json.dumps({"v": 1, "id": "x", "model": "m" * 500, "tags": {"agent": "%s"}}) + "\n"
    with (home / "usage.jsonl").open("w") as file:
        file.write(line % "first")
        file.write((line % "middle") * (completing.TAIL // 500))
        file.write(line % "last")
    assert run_callmeter("__complete", "agent").stdout == "last\nmiddle\n"


def test_tab_does_not_pay_for_what_it_does_not_need(home: Path, environment: dict[str, str]) -> None:
    code = "import sys; from callmeter.cli.main import start; start(['__complete', sys.argv[1]]); print(*sys.modules)"
    for kind in ("agent", "key", "provider"):
        done = subprocess.run([sys.executable, "-c", code, kind], env=environment, capture_output=True, text=True)
        heavy = {"typer", "pydantic", "rich", "httpx", "msgspec", "typing", "dataclasses", "tomllib"}
        assert heavy & set(done.stdout.split()) == set()


def test_no_variable_turns_a_command_into_something_else(home: Path, run_callmeter: Run) -> None:
    """Typer's own completion would take over here, and run at each call whoever set the variable."""
    for wish in ("complete_bash", "source_zsh", "nonsense"):
        done = run_callmeter("--version", env={"_CALLMETER_COMPLETE": wish, "_TYPER_COMPLETE_ARGS": "callmeter "})
        assert (done.returncode, done.stdout[:10], done.stderr) == (0, "callmeter ", "")


def test_a_prompt_can_be_the_word_that_asks_for_completions(home: Path, run_llm_call: Run) -> None:
    done = run_llm_call(
        "__complete", "--dry-run", "--model", "m", "--provider", "local", "--base-url", "http://localhost:1"
    )
    assert json.loads(done.stdout)["request"]["messages"][0]["content"] == "__complete"


@given(st.text(max_size=12) | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@/+-]{0,250}\n?", fullmatch=True))
def test_only_plain_words_are_offered(value: str) -> None:
    expected = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@/+-]{0,199}", value) is not None
    assert completing.is_plain(value) == expected
