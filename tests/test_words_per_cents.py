"""One way to write a per cent, wherever callmeter prints one: `30%`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

SOURCE = ROOT / "src" / "callmeter"
PAGES = [*sorted((ROOT / "man").rglob("*.[15]")), *sorted((ROOT / "docs").glob("*.md"))]
# What is told there is measured or decided, not printed.
OTHERS = ("benchmarks.md", "decisions.md")


def _printed(path: Path) -> Iterator[str]:
    """The texts of a module that are no docstrings, but those of commands, which are their help. What an f-string
    puts in is a `0` here."""
    tree = ast.parse(path.read_text())
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            helps = path.parent.name == "commands" and isinstance(node, ast.FunctionDef)
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and not helps:
                docstrings.add(first.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.value


def test_no_text_of_the_program_has_a_blank_before_a_per_cent_sign() -> None:
    texts = [(path.name, text) for path in SOURCE.rglob("*.py") for text in _printed(path)]
    assert not [found for found in texts if re.search(r"[0-9] %(?![a-z(])", found[1])]


def test_no_page_has_a_blank_before_a_per_cent_sign() -> None:
    text = "".join(page.read_text() for page in PAGES if page.name not in OTHERS)
    assert not re.findall(r".*[0-9] %.*", text)
