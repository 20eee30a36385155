"""What the usage index takes lines to be like before it has read them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from callmeter.store import index_usual
from callmeter.store.index_rows import write_rows
from callmeter.store.index_text import Piece
from callmeter.store.index_usual import Habits, Usual, usual_lines
from test_store_index import OWN

LINE = OWN.replace("ID", f"{1:012x}")
CORRECTION = LINE.replace('"host":"h"', f'"host":"h","corrects":"01a0c450-6c00-7aa0-81e1-{7:012x}"')


def piece_of(lines: list[str]) -> Piece:
    piece = Piece(0, 0)
    piece.add("".join(f"{line}\n" for line in lines).encode())
    return piece


def usual(lines: list[str]) -> Usual:
    piece = piece_of(lines)
    try:
        return usual_lines(piece)
    finally:
        piece.close()


def tagged(*names: str) -> str:
    return LINE.replace('"agent":"code","team":"t"', ",".join(f'"{name}":"x"' for name in names))


@pytest.mark.parametrize("turn", [1, -1])
def test_tags_stand_as_in_the_lines_that_have_most_of_them(turn: int) -> None:
    lines = [tagged("agent", "team"), tagged("agent", "work_item"), tagged("agent", "work_item", "team")]
    found = usual(lines[::turn])
    assert list(found.tags) == ["agent", "work_item", "team"]
    assert found.every_tag == {"agent"}
    assert not found.mixed


def test_lines_with_tags_in_another_order_are_noticed() -> None:
    assert usual([tagged("agent", "team"), tagged("team", "agent")]).mixed


def test_what_all_lines_have_and_what_only_some_have_is_told_apart() -> None:
    found = usual([LINE, CORRECTION, "no JSON"])
    assert "corrects" in found.fields - found.every_field
    assert "host" in found.every_field


@pytest.mark.parametrize("reader", ["sql"], indirect=True)
@pytest.mark.parametrize("short", [False, True], ids=["by line", "in SQL"])
def test_what_one_piece_had_beside_the_usual_is_looked_for_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, short: bool
) -> None:
    monkeypatch.setattr(index_usual, "_PLACES", 1)
    lines = [LINE] * 6000
    for number in range(3000, 3100):  # where the sample does not look
        lines[number] = CORRECTION
    habits = Habits()
    with duckdb.connect() as connection:
        for turn in range(1 + short):
            piece = piece_of(lines)
            rows = write_rows(connection, piece, 7, str(tmp_path / f"rows{turn}"), habits)
            piece.close()
    assert [part.rows for part in rows.parts] == ([6000] if short else [5900, 100])
