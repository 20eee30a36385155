"""Examples of commands: command lines in the docstrings of their modules, for help and man pages."""

from __future__ import annotations

import inspect
import re
import textwrap


def examples_in(docstring: str | None) -> list[str]:
    """The command lines that stand in paragraphs of their own below a docstring's first."""
    found: list[str] = []
    for paragraph in inspect.cleandoc(docstring or "").split("\n\n")[1:]:
        lines = paragraph.splitlines()
        if lines[0].startswith(("callmeter ", "llm-call ")):
            found += lines
    return found


def broken(line: str, width: int) -> list[str]:
    """A command line, broken with backslashes where it is too long, so that it can still be copied. A comment at its
    end, in which a backslash would break nothing, goes before it."""
    command, _, comment = line.partition("  # ")
    lines = textwrap.wrap(comment, width, initial_indent="# ", subsequent_indent="# ")
    part = ""
    for word in _shell_words(command):
        if part and len(part) + 1 + len(word) > width - 2:
            lines.append(f"{part} \\")
            part = f"    {word}"
        else:
            part += f" {word}" if part else word
    return [*lines, part]


def _shell_words(line: str) -> list[str]:
    """The words of a command line as they stand, quotes included; an option keeps its value beside it."""
    words = re.findall(r"""(?:"[^"]*"|'[^']*'|[^\s"'])+""", line)
    joined: list[str] = []
    before = ""
    for word in words:
        if (before.startswith("-") and word[0] not in "-|<>") or before in ("|", "<", ">"):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
        before = word
    return joined
