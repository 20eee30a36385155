"""The floors of the house: who may import whom, and which outside library is confined to which room.

Read from the source of every module, imports inside functions and under TYPE_CHECKING included.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "callmeter"

FLOORS = {
    "words": 0,
    "data": 0,
    "policy": 1,
    "reports": 1,
    "store": 2,
    "ledger": 2,
    "providers": 2,
    "secrets": 2,
    "exchange": 2,
    "flows": 3,
    "cli": 4,
}

# All adapters open, lock and replace files through this module; nothing else is shared on their floor.
OPEN_TO_ITS_FLOOR = {"callmeter.store.files"}

# Reports show what the policy says; the policy knows nothing of reports.
ONE_WAY = {("reports", "policy")}

# An outside library, and the packages or modules (below `callmeter.`) that may import it.
LIBRARIES = {
    "typer": ("cli",),
    "rich": ("cli",),
    "httpx": ("providers.http",),
    "httpcore": ("providers.http",),
    "certifi": ("providers.connection",),
    "tomli_w": ("store", "secrets.registry_file"),
    "platformdirs": ("store.places",),
    "msgspec": ("words.record", "words.outcome", "store.index_manifest", "store.index_sums", "store.index_usual"),
    "duckdb": (
        "store.index",
        "store.index_answers",
        "store.index_build",
        "store.index_corrections",
        "store.index_days",
        "store.index_log",
        "store.index_manifest",
        "store.index_query",
        "store.index_relation",
        "store.index_rows",
        "store.index_steps",
        "store.index_sums",
        "store.index_twins",
    ),
    "zstandard": ("store",),
    "jinja2": ("cli.html_page",),
    "jsonschema": ("policy.answer_schema",),
    "referencing": ("policy.answer_schema",),
    "xllamacpp": ("providers.local_server",),
    "sqlite3": ("ledger.sqlite_file", "store"),
    "psycopg": ("ledger.postgres_database",),
    "hvac": ("secrets.vault",),
    "requests": ("secrets.vault",),  # hvac's errors come from it
    "boto3": ("secrets.aws",),
    "botocore": ("secrets.aws",),
    "keyring": ("secrets.keychain",),
    "secretstorage": ("secrets.keychain",),
    "jeepney": ("secrets.keychain",),  # secretstorage's errors come from it
    "_sha2": ("words.digest",),  # the standard library of Python 3.12
}

BANNED_NAMES = {"util", "utils", "helper", "helpers", "common", "core", "base", "manager", "service", "misc"}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = list(path.relative_to(SOURCE.parent).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = path
    return found


def imports(name: str, path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports; `from a import b` gives a.b where that is a module."""
    known = modules()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def room(module: str) -> str:
    """`store` for `callmeter.store.files`; an empty text for `callmeter` itself and its entry points."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else ""


def fault(importer: str, imported: str) -> str:
    """What is wrong with an import inside the house, or nothing."""
    here, there = room(importer), room(imported)
    if here == there or not there:
        return ""
    if not here:
        return "" if there == "cli" else "the package and its entry points import nothing but the command line"
    if FLOORS[there] > FLOORS[here]:
        return f"upward, from floor {FLOORS[here]} to floor {FLOORS[there]}"
    if FLOORS[there] == FLOORS[here] and (here, there) not in ONE_WAY and imported not in OPEN_TO_ITS_FLOOR:
        return f"sideways on floor {FLOORS[here]}"
    return ""


def test_every_package_has_its_floor() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages <= set(FLOORS)


def test_no_module_imports_upward_or_sideways() -> None:
    faults = {
        f"{path.relative_to(SOURCE)}:{line}: imports {imported}: {wrong}"
        for name, path in modules().items()
        for line, imported in imports(name, path)
        if imported.split(".")[0] == "callmeter" and (wrong := fault(name, imported))
    }
    assert not faults, "\n".join(sorted(faults))


def test_each_outside_library_stays_in_its_room() -> None:
    faults = set()
    for name, path in modules().items():
        for line, imported in imports(name, path):
            library = imported.split(".")[0]
            if library == "callmeter" or (library in sys.stdlib_module_names and library not in LIBRARIES):
                continue
            rooms = LIBRARIES.get(library)
            where = f"{path.relative_to(SOURCE)}:{line}: imports {library}"
            if rooms is None:
                faults.add(f"{where}, which has no room")
            elif not any(f"{name}.".startswith(f"callmeter.{allowed}.") for allowed in rooms):
                faults.add(f"{where}, which belongs to {' and '.join(rooms)}")
    assert not faults, "\n".join(sorted(faults))


def test_no_module_has_a_name_that_says_nothing() -> None:
    faults = [name for name in modules() if BANNED_NAMES & set(name.split("."))]
    assert not faults


@pytest.mark.parametrize(
    ("importer", "imported", "wrong"),
    [
        ("callmeter.words.money", "callmeter.policy.prices", "upward"),
        ("callmeter.providers.plain", "callmeter.store.settings", "sideways"),
        ("callmeter.policy.prices", "callmeter.reports.report", "sideways"),
        ("callmeter.reports.status", "callmeter.policy.prices", ""),
        ("callmeter.store.files", "callmeter.flows.call", "upward"),
        ("callmeter.providers.local", "callmeter.store.files", ""),
        ("callmeter.cli.calling", "callmeter.flows.call", ""),
        ("callmeter.store.segments", "callmeter.store.usage_log", ""),
        ("callmeter.__main__", "callmeter.words.money", "entry points"),
    ],
)
def test_the_rule_finds_what_it_should(importer: str, imported: str, wrong: str) -> None:
    found = fault(importer, imported)
    assert wrong in found
    assert bool(found) == bool(wrong)


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
