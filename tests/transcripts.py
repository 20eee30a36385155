"""Documents that cannot lie: the ```console blocks of a Markdown file, run, and their output compared.

    ```console
    $ callmeter prices show gpt-4o-mini --provider openai --format csv
    model,...
    $ llm-call
    callmeter: error: there is no prompt
    ...
    [exit status: 2]
    ```

A line that begins with `$ ` is a command, `> ` continues it, and what follows is what it prints, on stdout and
stderr, and its exit status unless that is 0. All commands of a file run in one shell, one directory and one home, so
that what one leaves behind, the next one finds. `...` stands for any text within its line, and alone in a line for
any lines. A comment `<!-- $ command -->` is a command that readers need not see; it has to succeed. Other blocks are
not run.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 120.0
_FENCE = re.compile(r"(?P<indent> *)(?P<fence>```+|~~~+) *(?P<language>\S*)")
_HIDDEN = re.compile(r"<!-- \$ (?P<command>.*) -->")


@dataclass
class Step:
    """One command of a document. `first` and `last` (exclusive) are the lines of its output, counted from 0."""

    command: str
    first: int
    last: int
    indent: str = ""
    hidden: bool = False


class Document:
    """A Markdown file and the commands in it. Raises ValueError for a block that does not begin with a command."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text().split("\n")
        self.steps = list(_steps(self.lines))

    def expected(self, step: Step) -> list[str]:
        """The output that the document shows."""
        return [line.removeprefix(step.indent) for line in self.lines[step.first : step.last]]

    def accept(self, outputs: list[list[str]]) -> bool:
        """Put true outputs, one for each step, in place of the ones shown; lines with `...` that still hold stay.
        Writes the file and gives True if anything changed."""
        before = list(self.lines)
        for step, output in reversed(list(zip(self.steps, outputs, strict=True))):
            if not step.hidden and not holds(self.expected(step), output):
                kept = _merged(self.expected(step), output)
                self.lines[step.first : step.last] = [(step.indent + line).rstrip() for line in kept]
        if self.lines == before:
            return False
        self.path.write_text("\n".join(self.lines))
        return True


class Shell:
    """One bash for all commands of a document; `with` ends it and what it started. Raises AssertionError when a
    command does not come back, or ends the shell."""

    def __init__(self, env: Mapping[str, str], directory: Path) -> None:
        self._mark = f"transcript-{os.urandom(8).hex()}"
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            env={**env, "COLUMNS": "80", "TERM": "dumb"},
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        # The group that it leads is there for as long as nobody has waited for it.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def run(self, command: str) -> tuple[list[str], int]:
        """A command's output by lines, stdout and stderr as they come, and its status, which `$?` has afterwards."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Its input is empty: a command that reads would eat the rest of the document.
        script = (
            f"eval {shlex.quote(command)} </dev/null\n"
            f"_status=$?; printf '\\n%s %d\\n' {self._mark} $_status; (exit $_status)\n"
        )
        self._process.stdin.write(script.encode())
        self._process.stdin.flush()
        previous = signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        lines: list[str] = []
        try:
            for raw in self._process.stdout:
                line = raw.decode(errors="replace").rstrip("\n")
                if line.startswith(f"{self._mark} "):
                    # The mark begins on a line of its own; the newline that makes it so is not the command's.
                    return (lines[:-1] if lines and not lines[-1] else lines), int(line.rpartition(" ")[2])
                lines.append(line)
        except TimeoutError:
            raise AssertionError(f"`{command}` did not end within {PATIENCE:.0f} s; it printed {lines}") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        raise AssertionError(f"`{command}` ended the shell; it printed {lines}")


def check(path: Path, env: Mapping[str, str], directory: Path, *, accept: bool = False) -> None:
    """Run a document's commands in a directory and compare; with `accept`, rewrite it instead. Raises AssertionError
    that names the line and shows both outputs."""
    document = Document(path)
    outputs: list[list[str]] = []
    with Shell(env, directory) as shell:
        for step in document.steps:
            output, status = shell.run(step.command)
            outputs.append([line.rstrip() for line in output] + ([f"[exit status: {status}]"] if status else []))
            where = f"{path.name}:{step.first}: $ {step.command}"
            if step.hidden:
                assert status == 0, f"{where}\nfailed with status {status}: {output}"
            elif not accept:
                expected = document.expected(step)
                assert holds(expected, outputs[-1]), (
                    f"{where}\n--- shown\n"
                    + "\n".join(expected)
                    + "\n--- printed\n"
                    + "\n".join(outputs[-1])
                    + "\nIf that is right, run pytest with --accept."
                )
    if accept:
        document.accept(outputs)


def holds(expected: list[str], output: list[str]) -> bool:
    """Whether an output is what is shown. Spaces at the ends of lines do not count."""
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "..." else f"{_pattern(line)}\n" for line in expected)
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in output)) is not None


def _pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.rstrip().split("..."))


def _merged(expected: list[str], output: list[str]) -> list[str]:
    """The output, with the shown lines that hold for one of its lines, in order, in that line's place."""
    wild = [line for line in expected if "..." in line and line.strip() != "..."]
    merged = []
    for line in output:
        found = next(
            (number for number, shown in enumerate(wild) if re.fullmatch(_pattern(shown), line.rstrip())), None
        )
        merged.append(line if found is None else wild[found])
        if found is not None:
            del wild[: found + 1]
    return merged


def _steps(lines: list[str]) -> Iterator[Step]:
    number = 0
    while number < len(lines):
        hidden = _HIDDEN.fullmatch(lines[number].strip())
        fence = _FENCE.fullmatch(lines[number].rstrip())
        number += 1
        if hidden:
            yield Step(hidden["command"], number, number, hidden=True)
        if fence:
            end = next(
                (n for n in range(number, len(lines)) if lines[n].strip() == fence["fence"]),
                len(lines),
            )
            if fence["language"] == "console":
                yield from _steps_of_block(lines, number, end, fence["indent"])
            number = end + 1


def _steps_of_block(lines: list[str], first: int, end: int, indent: str) -> Iterator[Step]:
    number = first
    while number < end:
        line = lines[number].removeprefix(indent)
        if not line.startswith("$ "):
            raise ValueError(f"line {number + 1}: a console block begins with a command, `$ …`")
        command = [line.removeprefix("$ ")]
        number += 1
        while number < end and lines[number].removeprefix(indent).startswith("> "):
            command.append(lines[number].removeprefix(indent).removeprefix("> "))
            number += 1
        start = number
        while number < end and not lines[number].removeprefix(indent).startswith("$ "):
            number += 1
        yield Step("\n".join(command), start, number, indent)


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError
