"""docs/formats.md: its tables are those of the program, its example is a usage line. docs/operations.md: every file."""

from __future__ import annotations

import json
import re
from pathlib import Path

from callmeter.store.audit import Verdict
from callmeter.store.places import Places
from callmeter.words.errors import Exit
from callmeter.words.record import parse_record
from callmeter.words.usage import COST_SOURCES, FIELDS, STATUSES, TOKENS
from conftest import ROOT

PAGE = Path(ROOT, "docs", "formats.md").read_text()


def table(header: str) -> list[list[str]]:
    """The rows below a header row that begins so, their cells without backticks."""
    found = re.search(rf"\n\| {re.escape(header)} \|.*\n\|---.*\n((\|.*\n)+)", PAGE)
    assert found, f"no table with the header {header}"
    lines = found[1].splitlines()
    return [[re.sub("^`([^`]*)`$", r"\1", cell.strip()) for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_field_status_and_source_of_a_usage_line_is_described() -> None:
    assert tuple(row[0] for row in table("field")) == FIELDS
    assert tuple(row[0] for row in table("`status`")) == STATUSES
    assert tuple(row[0] for row in table("`cost_source`")) == COST_SOURCES
    (tokens,) = [row[2] for row in table("field") if row[0] == "tokens"]
    assert set(re.findall(r"`(\w+)`", tokens)) == set(TOKENS)


def test_the_example_is_a_usage_line_in_its_order() -> None:
    (line,) = re.findall(r"```json\n(.*)\n```", PAGE)
    record = parse_record(line.encode())
    assert record.status == "ok" and record.tokens is not None and record.tokens.in_ == 1200
    names = list(json.loads(line))
    assert names == [name for name in FIELDS if name in names]


def test_the_verdicts_on_an_audit_log_are_described() -> None:
    rows = [(row[0], row[1], row[2]) for row in table("verdict")]
    assert rows == [(each.name, each.value, "yes" if each.tampering else "no") for each in Verdict]


def test_the_exit_statuses_are_the_programs() -> None:
    assert table("status") == [[str(int(status)), status.meaning] for status in Exit]


def test_every_file_is_in_the_tables_of_what_to_back_up_and_what_may_be_deleted() -> None:
    tables = "".join(re.findall(r"(?m)^\|.*\n", Path(ROOT, "docs", "operations.md").read_text()))
    names = {Path(path).name for path in vars(Places("config", "state")).values()} - {"config", "state"}
    assert [name for name in sorted(names) if f"`{name}" not in tables] == []
