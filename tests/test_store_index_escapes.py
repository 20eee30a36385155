"""Texts with escapes, as callmeter writes all that is not ASCII, become rows like others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from test_store_index import OWN
from test_store_index_columns import expected, written

pytestmark = pytest.mark.usefixtures("reader")

SHORT = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
CHARACTERS = st.sampled_from('aü€😀é"\\/\b\f\n\r\t\x01\x7f\u2028\ud7ff\ue000\uffff\U0010ffff') | st.characters(
    exclude_categories=["Cs"], exclude_characters="\0"
)
WAYS = st.sampled_from(["raw", "short", "lower", "upper"])


def spelled(character: str, way: str) -> str:
    """A character as JSON may have it in a text."""
    if way == "short" and character in SHORT:
        return SHORT[character]
    if way == "raw" and character not in SHORT and character >= " ":
        return character
    units = character.encode("utf-16-be")
    codes = [f"{units[place]:02x}{units[place + 1]:02x}" for place in range(0, len(units), 2)]
    return "".join("\\u" + (code.upper() if way == "upper" else code) for code in codes)


TEXTS = st.lists(st.tuples(CHARACTERS, WAYS), max_size=8).map(
    lambda parts: ("".join(character for character, _ in parts), "".join(spelled(*part) for part in parts))
)


@pytest.mark.parametrize("reader", ["compiled"], indirect=True)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_a_text_is_the_same_however_it_is_spelled(
    tmp_path_factory: pytest.TempPathFactory, reader: str, texts: list[tuple[tuple[str, str], ...]]
) -> None:
    lines = []
    for number, ((_, agent), (_, team), (_, model)) in enumerate(texts):
        line = OWN.replace("ID", f"{number:012x}")
        for old, new in (('"code"', agent), ('"t"', team), ('"model":"m"', model)):
            line = line.replace(old, f'"model":"{new}"' if "model" in old else f'"{new}"', 1)
        lines.append(line)
    rows, short = written(tmp_path_factory.mktemp("rows"), lines)
    assert rows == expected(lines)
    assert short == len(lines)
    for row, ((agent, _), (team, _), (model, _)) in zip(rows, texts, strict=True):
        assert (row["tag_agent"], row["more"], row["model"]) == (agent, {"team": team}, model)


@pytest.mark.parametrize(
    "text",
    ["\\ud800", "\\udc00", "\\ud800\\ud800", "\\ud83dx", "\\ud83d\\u0041", "\\udc00\\ud800", "\\u0000", "\\u00g0",
     "\\u00", "\\x41", "\\", "\\'", "\\U0041", "\\u 041", "\\u-041", "\\u+041", "\\ud83d\\ude0"],
)  # fmt: skip
def test_what_is_no_character_is_left_to_the_reading_of_the_line_for_itself(tmp_path: Path, text: str) -> None:
    lines = [
        OWN.replace("ID", f"{number:012x}").replace(part, part[: -len(end)] + text + end, 1)
        for number, (part, end) in enumerate((('"code"', '"'), ('"t"', '"'), ('"model":"m"', '"')))
    ]
    rows, short = written(tmp_path, lines)
    assert rows == expected(lines)
    assert short == 0


def test_a_name_that_is_spelled_with_an_escape_is_the_name_it_spells(tmp_path: Path, reader: str) -> None:
    names = ["\\u0061gent", "t\\u0065am", "tea\\u006d", "a\\u00e9", "\\/"]
    lines = [
        OWN.replace("ID", f"{number:012x}").replace('"team":"t"', f'"team":"t","{name}":"other"')
        for number, name in enumerate(names)
    ]
    rows, short = written(tmp_path, lines)
    assert rows == expected(lines)
    assert short == 0
    assert rows[0]["tag_agent"] == "other" and rows[1]["more"] == {"team": "other"}


def test_texts_with_escapes_that_all_differ_stay_what_they_are(tmp_path: Path, reader: str) -> None:
    texts = [f"größe {number} {'ß' * (number % 700)}" for number in range(4000)]
    lines = [
        OWN.replace("ID", f"{number:012x}").replace('"code"', json.dumps(text)).replace('"m"', json.dumps(text[::-1]))
        for number, text in enumerate(texts)
    ]
    rows, short = written(tmp_path, lines)
    assert rows == expected(lines)
    assert [row["tag_agent"] for row in rows] == texts
    assert short == (len(lines) if reader == "compiled" else 0)
