"""Style and types: what `make lint` says, as tests, so that one summary holds everything."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import lacking

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=["style", "format", "types"]
)
def test_the_source_is_clean(command: tuple[str, ...]) -> None:
    if importlib.util.find_spec(command[0]) is None:
        lacking(f"{command[0]} is not installed; run `make test`")
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_test_is_skipped_only_by_lacking_which_fails_in_ci() -> None:
    words = tuple("pytest." + word for word in ("skip(", "importorskip", "mark.skip", "xfail", "mark.xfail"))
    found = {
        path.name: [word for word in words if word in path.read_text()]
        for path in (ROOT / "tests").rglob("*.py")
        if path.name != "conftest.py"
    }
    assert {name: words for name, words in found.items() if words} == {}


def test_every_note_says_that_it_is_callmeters() -> None:
    strange = []
    for path in (ROOT / "src" / "callmeter" / "cli").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "note":
                written = ast.unparse(call.args[0]).lstrip("f").lstrip("'\"")
                if not written.startswith("callmeter: "):
                    strange.append(f"{path.relative_to(ROOT)}:{call.lineno}: {written}")
    assert strange == []
