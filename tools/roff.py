"""Text as man(7) source: nothing in it can be taken for a request, an escape or a quote."""

from __future__ import annotations

import re

from callmeter.cli.examples import broken

WIDTH = 78
# What a reader copies has to come out as the ASCII character, on every device.
_SPECIAL = {
    "\\": r"\e",
    "'": r"\(aq",
    "`": r"\(ga",
    '"': r"\(dq",
    "^": r"\(ha",
    "~": r"\(ti",
    "-": r"\-",
}


def literal(text: str) -> str:
    """Text that is to be typed or read exactly."""
    escaped = "".join(_SPECIAL.get(char) or (char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


def prose(text: str) -> str:
    """A sentence. What stands in backticks is set bold; a hyphen within a word may break there."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return _words(text)
    return "".join(_words(part) if number % 2 == 0 else bold(part) if part else "" for number, part in enumerate(parts))


def bold(text: str) -> str:
    """Literal text in bold."""
    return rf"\fB{literal(text)}\fR"


def italic(text: str) -> str:
    """Literal text that stands for a value."""
    return rf"\fI{literal(text)}\fR"


def filled(source: str) -> list[str]:
    """Escaped source as lines of a readable length."""
    lines: list[str] = []
    for word in source.split():
        if lines and len(lines[-1]) + 1 + len(word) <= WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(rf"\&{word}" if word.startswith((".", "'")) else word)
    return lines


def example(line: str, width: int = 52) -> list[str]:
    """A command line, broken where it is too long."""
    return [literal(part) for part in broken(line, width)]


def _words(text: str) -> str:
    escaped = literal(text)
    return re.sub(r"(?<=[^\W\d_])\\-(?=[^\W\d_])", "-", escaped)
