"""The columns of the usage index hold what `parse_record` reads, whichever way a line took to become a row."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from uuid import UUID

import duckdb
import pytest

from callmeter.store import index_usual
from callmeter.store.index_columns import COLUMNS, row_of
from callmeter.store.index_rows import write_rows
from callmeter.store.index_text import Piece
from callmeter.words.record import parse_record
from test_store_index import ODD_PARTS, OWN

Row = dict[str, object]

pytestmark = pytest.mark.usefixtures("reader")

SKETCHES = ["0123456789abcdef", "ffffffffffffffff", "0123456789ABCDEF", "123456789abcdef", "0x23456789abcdef",
            "0123456789abcdeg", "+123456789abcdef", "0_23456789abcdef", "", "ü123456789abcdef"]  # fmt: skip


def written(directory: Path, lines: list[str]) -> tuple[list[Row], int]:
    """The rows of these lines, and how many of them took the short way."""
    piece = Piece(0, 0)
    piece.add("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
    found: list[Row] = []
    with duckdb.connect() as connection:
        rows = write_rows(connection, piece, 7, str(directory / "rows"))
        for part in rows.parts:
            given = {"path": str(directory / part.file)}
            every = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM read_parquet([$path])", given)
            found += [_meant(dict(zip(COLUMNS, row, strict=True))) for row in every.fetchall()]
            assert len(found) >= part.rows
    piece.close()
    short = sum(part.rows for part in rows.parts if "odd" not in part.file)
    return sorted(found, key=lambda row: str(row["line"]).zfill(9)), short


def expected(lines: list[str]) -> list[Row]:
    found, start = [], 0
    for number, line in enumerate(lines, 1):
        data = line.encode("utf-8", "surrogatepass")
        try:
            row = row_of(parse_record(data), 7, number, start, len(data))
        except ValueError:
            row = None
        if row is not None:
            found.append(_meant({name: _as_column(name, row.get(name)) for name in COLUMNS}))
        start += len(data) + 1
    return found


def _meant(row: Row) -> Row:
    return {**row, "more": None if row["more"] is None else json.loads(str(row["more"]))}


def _as_column(name: str, value: object) -> object:
    return UUID(str(value)) if value is not None and COLUMNS[name] == "UUID" else value


def test_every_column_of_almost_plain_lines_is_what_the_line_says(tmp_path: Path) -> None:
    lines = [
        OWN.replace("ID", f"{number:012x}").replace(part, instead) for number, (part, instead) in enumerate(ODD_PARTS)
    ]
    assert written(tmp_path, lines)[0] == expected(lines)


@pytest.mark.parametrize("sketch", SKETCHES)
def test_a_sketch_is_a_number_if_that_says_it_all_and_else_text(tmp_path: Path, sketch: str) -> None:
    line = OWN.replace("ID", f"{1:012x}").replace('"host":"h"', f'"host":"h","prompt_sketch":"{sketch}"')
    rows, short = written(tmp_path, [line])
    assert rows == expected([line])
    assert (rows[0]["sketch"] is None) == (rows[0]["prompt_sketch"] == sketch) == (not short)


def test_the_two_kinds_of_cache_writes_have_columns(tmp_path: Path) -> None:
    line = OWN.replace('"cache_write":0,"cache_write_1h":0', '"cache_write":3,"cache_write_1h":4')
    line = line.replace("ID", f"{1:012x}")
    [row], short = written(tmp_path, [line])
    assert (row["tokens_cache_write"], row["tokens_cache_write_1h"], short) == (7, 4, 1)


# A line in several orders of its tags; and ways to say nearly the same with fewer bytes, or more.
TAGS = {"agent": "7", "team": "true", "session": "[1]", "user": "NaN", "purpose": "{}", "a.b": "-1e3"}
NEARLY = OWN.replace('"agent":"code","team":"t"', "TAGS").replace('"cost":0.5', '"cost":0.0001')
NEARLY = (
    NEARLY.replace('"host":"h"', '"host":"8"')
    .replace('"in":12', '"in":1000')
    .replace('"model":"m"', '"model":"5"')
    .replace('s":7', 's":7000')
)
SHORTER = [(f'"{name}":"{value}"', f'"{name}":{value}') for name, value in TAGS.items()]
SHORTER += [
    ('"host":"8"', '"host":8'),
    ('{"v":1', '{"v":2'),
    ('"model":"5"', '"model":5'),
    (":0.0001", ":1e-4"),
    (":1000", ":1e3"),
    (":7000", ":7e3"),
]
LONGER = [('"agent":', '"agent":"b","agent":'), ('"team":', '"":1,"team":'), (',"provider"', ',"x":1,"provider"')]
LONGER += [('"reasoning":0', '"reasoning":0,'), ('"out":3', '"out":"3"'), ('"out":3', '"out":4,"out":3')]
LONGER += [
    ('"},"prov', '",},"prov'),
    ('"},"prov', '"},"y":{},"prov'),
    ('"status"', '"v":2,"status"'),
    ("ok", "ok "),
]


@pytest.mark.parametrize("order", [list(TAGS), list(TAGS)[::-1], ["host", *TAGS]], ids=["same", "other", "field"])
def test_nothing_makes_up_for_what_is_not_as_callmeter_writes_it(tmp_path: Path, order: list[str]) -> None:
    tags = {**TAGS, "host": "8"}
    usual, whole = (
        NEARLY.replace("TAGS", ",".join(f'"{name}":"{tags[name]}"' for name in names)).replace("ID", f"{1:012x}")
        for names in ([*TAGS, "host"], order)
    )
    lines = [usual] * 40  # the order that most lines have, as far as is known
    for count in (1, 2, 3, 6, 7, 9, 11):
        for some in itertools.combinations(SHORTER, count):
            short = whole
            for part, instead in some:
                assert part in short
                short = short.replace(part, instead, 1)
            for part, instead in [("", ""), *LONGER]:
                line = short.replace(part, instead, 1)
                # What is left goes to where spaces mean nothing: among the tags, or elsewhere.
                fill = " " * (len(whole) - len(line))
                if len(line) + len(fill) == len(whole):
                    lines += [line.replace(place, place + fill, 1) for place in ('"tags":{', '"provider":')]
    rows, short_way = written(tmp_path, [*dict.fromkeys(lines), *lines[:40]])
    assert rows == expected([*dict.fromkeys(lines), *lines[:40]])
    assert short_way >= 40


def test_tags_in_any_order_take_the_short_way(tmp_path: Path) -> None:
    some = {"agent": "code", "team": "7", "purpose": "a b", "squad": "true", "work_item": "12345"}
    orders = list(itertools.permutations(some))[::7]
    lines = []
    for number, order in enumerate([*orders, (), ("team",)]):
        tags = ",".join(f'"{name}":"{some[name]}"' for name in order)
        lines.append(OWN.replace("ID", f"{number:012x}").replace('"agent":"code","team":"t"', tags))
    rows, short = written(tmp_path, lines)
    assert rows == expected(lines)
    assert short == len(lines)


def test_tags_that_a_sample_does_not_show_are_read_all_the_same(tmp_path: Path, reader: str) -> None:
    lines = [OWN.replace("ID", f"{number:012x}") for number in range(4000)]
    for number in range(0, 4000, 40):  # too many names, most of them where nobody looks for names
        name = ("Team", "a b", "é")[number // 40] if number < 120 else f"name{number}"
        lines[number] = lines[number].replace('"team":"t"', f'"{name}":"t","team":"{number}"')
    rows, short = written(tmp_path, lines)
    assert rows == expected(lines)
    assert short == 4000 if reader == "compiled" else 3900 < short < 4000


def test_what_is_no_text_never_stands_for_one(tmp_path: Path) -> None:
    # Lists and objects whose quotes, read the other way round, are JSON too; beside what would make up the length.
    lines = [OWN.replace("ID", f"{1:012x}")] * 3
    for value in ('{",":":"}', '[","]', '["x"]', '{"team":"5"}', '[",",":"]', "[1e20,1e20,1e20]"):
        members = [f'"agent":{value}', f'"agent":"{value}"', '"team":5', '"team":"5"', '"a":1e20', '"]":"}"']
        for count in (1, 2, 3):
            for some in itertools.permutations(members, count):
                line = lines[0].replace('"agent":"code","team":"t"', ",".join(some))
                lines += [line, line.replace('"host":"h"', f'"host":{value}')]
    rows, short = written(tmp_path, lines)
    assert rows == expected(lines)
    assert short >= 3


def test_lines_that_are_not_as_the_sample_are_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    monkeypatch.setattr(index_usual, "_PLACES", 1)
    plain = OWN.replace("ID", f"{1:012x}")
    rare = [
        plain.replace(',"host":"h"', ""),
        plain.replace('"host":"h"', '"host":"h","note":"n","pool":"p"'),
        plain.replace('"host":"h"', f'"host":"h","corrects":"01a0c450-6c00-7aa0-81e1-{7:012x}"'),
        plain.replace('"cost":0.5', '"cost":null'),
        plain.replace('"agent":"code","team":"t"', '"team":"t","agent":"code"'),
        plain.replace('"agent":"code",', ""),
        "no JSON",
    ]
    lines = [plain] * 4000
    for number, line in enumerate(rare):  # in places where the sample does not look
        lines[1500 + number] = line
    rows, short = written(tmp_path, lines)
    assert rows == expected(lines)
    # In SQL any line may have no cost.
    assert short == (3999 if reader == "compiled" else 4001 - len(rare))
