"""What compiled code makes of a log's lines is what each line says for itself, whatever bytes the log holds."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from callmeter.reports.sums import FAILED
from callmeter.store import index_text
from callmeter.store.index_columns import COLUMNS, row_of
from callmeter.store.index_native import Native, native
from callmeter.store.index_rows import meanings, write_rows
from callmeter.store.index_text import given as texts_given
from callmeter.store.index_text import pieces
from callmeter.words.record import UsageRecord
from callmeter.words.tags import BUILT_IN
from callmeter.words.usage import COST_SOURCES, FIELDS, MAX_LINE, STATUSES, TOKENS
from conftest import lacking

# Every field as callmeter writes it, with a value that is not plain for none of them.
WHOLE: dict[str, str] = {
    "v": "1",
    "id": '"01a0c450-6c00-7aa0-81e1-00000000abcd"',
    "timestamp": '"2026-11-21T09:30:01.123Z"',
    "tags": '{"agent":"code","team":"t"}',
    "provider": '"p"',
    "model": '"m"',
    "served_model": '"s"',
    "tokens": '{"in":12,"out":3,"cached":4,"cache_write":5,"cache_write_1h":6,"reasoning":7}',
    "cost": "0.5",
    "cost_source": '"price"',
    "estimate": "0.25",
    "status": '"ok"',
    "finish_reason": '"stop"',
    "error": '"e"',
    "duration_ms": "70",
    "first_token_ms": "7",
    "attempts": "2",
    "key": '"k"',
    "key_fingerprint": '"f"',
    "generation_id": '"g"',
    "host": '"h"',
    "corrects": '"01a0c450-6c00-7aa0-81e1-00000000abce"',
    "recorded_at": '"2026-11-21T09:30:02.000Z"',
    "note": '"n"',
    "asked_model": '"a"',
    "pool": '"o"',
    "prompt_sketch": '"0123456789abcdef"',
    "audit": '"u"',
}
NEEDED = ("v", "id", "timestamp", "tags", "provider", "model", "cost", "cost_source", "status")


def line_of(**changes: str | None) -> bytes:
    """A line with every field, except those that are None."""
    fields: dict[str, str | None] = {**WHOLE, **changes}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items() if value is not None) + "}").encode(
        "utf-8", "surrogateescape"
    )


@pytest.fixture(scope="module")
def compiled() -> Native:
    return native() or lacking("callmeter was installed without a C compiler")


Agree = Callable[..., int]


@pytest.fixture(scope="module")
def agree(compiled: Native, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agree]:
    """`agree(lines)` reads them by compiled code, and compares each row; how many of the lines became one. `by` is
    whose memory it takes."""
    directory = tmp_path_factory.mktemp("rows")
    number = itertools.count()
    with duckdb.connect() as connection:

        def compare(lines: list[bytes], by: Native = compiled, before: int = 4, place: int = 1 << 33) -> int:
            path = str(directory / f"{next(number)}.parquet")
            text = b"".join(line + b"\n" for line in lines)
            lines = text.split(b"\n")[:-1]
            data = bytearray(text)
            written = by.write(data, len(text), len(lines), path, source=3, line=before, start=place)
            assert data[len(text) :] == bytes(64)
            found: list[dict[str, Any]] = []
            if written.rows:
                question = f"SELECT {', '.join(COLUMNS)} FROM read_parquet($path)"
                every = connection.execute(question, {"path": path}).fetchall()
                found = [dict(zip(COLUMNS, row, strict=True)) for row in every]
                ranks = [row["rank"] for row in found]
                assert (min(ranks), max(ranks)) == (written.low, written.high)
                assert written.distinct <= (len(set(ranks)) == len(ranks))
                assert written.distinct or len(set(ranks)) < len(ranks) or 0 in ranks
                Path(path).unlink()
            assert not Path(path).exists()
            assert len(found) == written.rows
            rows, gaps = iter(found), list(written.gaps)
            stop = place
            for index, line in enumerate(lines, before + 1):
                start, stop = stop, stop + len(line) + 1
                if gaps and gaps[0].start <= start < gaps[0].stop:
                    assert gaps[0].start != start or gaps[0].line == index - 1
                    if gaps[0].stop == stop:
                        gaps.pop(0)
                    continue
                [record] = meanings(line, index, finished=True)
                assert isinstance(record, UsageRecord), (record, line)
                wanted = row_of(record, 3, index, start, len(line))
                assert meant(next(rows)) == meant({name: as_column(name, wanted.get(name)) for name in COLUMNS}), line
            assert not gaps
            assert next(rows, None) is None
            return written.rows

        yield compare


def meant(row: dict[str, Any]) -> dict[str, Any]:
    pairs = None if row["more"] is None else json.loads(row["more"], object_pairs_hook=list)
    return {**row, "more": pairs}


def as_column(name: str, value: object) -> object:
    return UUID(str(value)) if value is not None and COLUMNS[name] == "UUID" else value


# Nearly plain lines

TEXTS = [
    '"m"', '""', '"x y"', '"é€🙂"', '"\x7f"', '"\x80"', '"\x85"', '"\u2028"', '"\ufeff"', '"\ufffe"',
    '"\\u00e9"', '"\\""', '"\\\\"',
    '"\\n"', '"\t"', '"\x1f"', '"\0"', "null", "5", "true", "[]", '{"a":"b"}', '"a":"b"', '"a","b"', "'m'", "", '"',
    '"' + "long " * 30 + '"', '"\udcff"', '"\udcc0\udc80"', '"\udced\udca0\udc80"', '"\udcf4\udc90\udc80\udc80"',
    '"\udce2\udc82"', '"\udcf0\udc8f\udcbf\udcbf"', '"\udcc3"', '"\udce0\udc9f\udcbf"', '"\udcf5\udc80\udc80\udc80"',
]  # fmt: skip
COUNTS = ["0", "1", "2", "12", "962", "00", "012", "-0", "-1", "+1", "1.0", "1e3", "1E3", "0x1", "1_0", "",
          " 1", "1 ", '"1"',
          "null", "true", "4294967295", "4294967296", "99999999999999", "999999999999999", "1000000000000000",
          "9007199254740992", "9007199254740993", "9223372036854775808", "18446744073709551616", "٣"]  # fmt: skip
AMOUNTS = ["0", "0.5", "0.50", "-0.5", "-0", "0.0", "-0.0", "1e-9", "5E-1", "1e400", "00.5", ".5", "1.",
           "1.e1", "+1", "null", '"1"',
           "NaN", "999", "999999", "1000000", "999999999", "1000000000", "0.000000001", "0.0000000001",
           "-0.0000000001",
           "0.0000000011", "-0.0000000019", "-1.9999999999", "0.000000000001", "0.0000000000001", "0.000001979964",
           "0.123456789012", "0.1234567890123", "999999.999999999999", "-999999.999999999999",
           "0.30000000000000004", "1 ", "1-", "--1", "0.5.5"]  # fmt: skip
TIMES = [
    f'"{time}"' for time in (
        "2026-11-21T09:30:01.123Z", "2024-02-29T00:00:00.000Z", "2023-02-29T00:00:00.000Z",
        "2000-02-29T23:59:59.999Z",
        "1900-02-29T00:00:00.000Z", "2100-02-29T00:00:00.000Z", "2100-02-28T00:00:00.000Z",
        "2100-03-01T00:00:00.000Z",
        "1600-02-29T00:00:00.000Z", "2026-04-31T00:00:00.000Z", "2026-12-31T23:59:59.999Z",
        "2026-01-00T00:00:00.000Z",
        "2026-00-01T00:00:00.000Z", "2026-13-01T00:00:00.000Z", "2026-01-32T00:00:00.000Z",
        "2026-06-30T23:59:60.000Z",
        "2026-01-01T24:00:00.000Z", "2026-01-01T23:60:00.000Z", "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00.000Z",
        "0001-01-01T00:00:00.000Z", "0999-12-31T23:59:59.999Z", "1000-01-01T00:00:00.000Z",
        "1582-10-10T00:00:00.000Z",
        "9998-12-31T23:59:59.999Z", "9999-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z",
        "2026-11-21T09:30:01.123z",
        "2026-11-21 09:30:01.123Z", "2026-11-21t09:30:01.123Z", "2026-11-21T09:30:01Z", "2026-11-21T09:30:01.123456Z",
        "2026-11-21T09:30:01.12Z", "2026-11-21T09:30:01,123Z", "2026-11-21T09:30:01.123+00:00", "2026-11-21",
        "2026-11-21T09:30:01.123+02:00", "2026-W47-6T09:30:01.123Z", "20261121T093001.123Z", "",
        "not a time", "٢٠٢٦-11-21",
    )
] + ["null", "5"]  # fmt: skip
IDS = [
    f'"{id}"' for id in (
        "01a0c450-6c00-7aa0-81e1-00000000abcd", "01a0c450-6c00-7aa0-81e1-00000000abce",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff", "80000000-0000-0000-0000-000000000000",
        "00000000-0000-0000-0000-000000000001",
        "01A0C450-6C00-7AA0-81E1-00000000ABCD", "01a0c4506c007aa081e100000000abcd",
        "{01a0c450-6c00-7aa0-81e1-00000000abcd}",
        "01a0c450-6c00-7aa0-81e1-00000000abc", "01a0c450-6c00-7aa0-81e1-00000000abcdd",
        "01a0c450-6c00-7aa0-81e1_00000000abcd",
        "01a0c45-06c00-7aa0-81e1-00000000abcd", "01a0c450-6c00-7aa0-81e1-00000000abcg",
        "urn:uuid:01a0c450-6c00-7aa0-81e1-00",
        "", "call 1", "é", "01a0c450-6c00-7aa0-81e1-0000000\\u0030abcd",
    )
] + ["null", "7"]  # fmt: skip
SKETCHES = ['"0123456789abcdef"', '"ffffffffffffffff"', '"0000000000000000"', '"0123456789ABCDEF"',
            '"123456789abcdef"',
            '"0x23456789abcdef"', '"0123456789abcdef0"', '"é23456789abcdef"', '""', "null", "1"]  # fmt: skip
TAG_NAMES = [*BUILT_IN, "team", "tea", "team2", "t", "", "Agent", "agent ", "a.b", "é", "host", "in", "v", "a" * 70]
ORDERS = [list(FIELDS), [*FIELDS[:3], *reversed(FIELDS[3:])], [*FIELDS[:4], FIELDS[5], FIELDS[4], *FIELDS[6:]]]

some_texts = st.one_of(
    st.just('"m"'), st.sampled_from(TEXTS), st.text("abé{}:,/-", max_size=12).map(lambda text: f'"{text}"')
)
some_counts = st.one_of(st.sampled_from(COUNTS), st.integers(0, 10**16).map(str))
some_amounts = st.one_of(
    st.sampled_from(AMOUNTS),
    st.tuples(st.integers(0, 10**7), st.text("0123456789", max_size=14)).map(lambda x: f"{x[0]}.{x[1]}"),
)


@st.composite
def nearly_plain(draw: st.DrawFn) -> bytes:
    """A line in which a few things are not as they are usually, of which it still may be plain."""
    fields = dict(WHOLE)
    for name in draw(st.sets(st.sampled_from([name for name in FIELDS if name not in NEEDED]))):
        del fields[name]
    if draw(st.integers(0, 9)) == 0:
        fields.pop(draw(st.sampled_from(NEEDED)))
    kinds: dict[str, st.SearchStrategy[str]] = dict.fromkeys(FIELDS, some_texts)
    kinds.update(dict.fromkeys(("duration_ms", "first_token_ms", "attempts"), some_counts))
    kinds.update(dict.fromkeys(("cost", "estimate"), some_amounts))
    kinds.update(dict.fromkeys(("timestamp", "recorded_at"), st.sampled_from(TIMES)))
    kinds.update(dict.fromkeys(("id", "corrects"), st.sampled_from(IDS)))
    kinds["prompt_sketch"] = st.sampled_from(SKETCHES)
    kinds["v"] = st.sampled_from(["1", "1", "1", "2", "01", "1.0", "1e0", '"1"', "true", "-1", ""])
    kinds["status"] = st.sampled_from([*(f'"{status}"' for status in STATUSES), '"OK"', '"ok "', '""', "null"])
    kinds["cost_source"] = st.sampled_from([*(f'"{source}"' for source in COST_SOURCES), '"prices"', '""', "null"])
    kinds["tokens"] = tokens()
    kinds["tags"] = tags()
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=4)):
        fields[name] = draw(kinds[name])
    order = draw(st.sampled_from([*ORDERS[:1] * 12, *ORDERS]))
    members = [f'"{name}":{fields[name]}' for name in order if name in fields]
    if draw(st.integers(0, 12)) == 0:
        members.insert(
            draw(st.integers(0, len(members))),
            draw(st.sampled_from(['"x":1', '"cost":null', '"cost":7', '"model":"n"', '"tags":{}', "", '"audit":"z"'])),
        )
    line = ("{" + ",".join(members) + "}").encode("utf-8", "surrogateescape")
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(line)))
        odd = [b"", b" ", b"\\", b'"', b"\0", b"\r", b"\n", b"\t", b"\xff", b"\xc3\xa9", b",", b"}", b"{", b"0", b"-"]
        line = line[:at] + draw(st.sampled_from(odd)) + line[at + draw(st.integers(0, 2)) :]
    head = draw(st.sampled_from([b""] * 12 + [b"\xef\xbb\xbf", b" ", b"\0", b"\r"]))
    return head + line + draw(st.sampled_from([b""] * 12 + [b"\r", b"\r\r", b" ", b"\0", b",", b"}", b"\r\n"]))


@st.composite
def tokens(draw: st.DrawFn) -> str:
    names = [name for name in TOKENS if draw(st.integers(0, 3))]
    if draw(st.integers(0, 7)) == 0:
        names = draw(st.permutations([*names, *TOKENS[:1]]))
    members = [f'"{name}":{draw(some_counts) if draw(st.integers(0, 3)) == 0 else 7}' for name in names]
    return "{" + ",".join(members) + draw(st.sampled_from([""] * 9 + [","])) + "}"


@st.composite
def tags(draw: st.DrawFn) -> str:
    names = draw(st.lists(st.sampled_from(TAG_NAMES), max_size=12, unique=draw(st.integers(0, 9)) > 0))
    if draw(st.integers(0, 9)) == 0:
        names += [f"n{number}" for number in range(draw(st.integers(50, 70)))]
    members = [
        f'"{name}":{draw(some_texts) if draw(st.integers(0, 6)) == 0 else f""" "{name}" """.strip()}' for name in names
    ]
    return "{" + ",".join(members) + draw(st.sampled_from([""] * 19 + [","])) + "}"


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(st.lists(nearly_plain(), min_size=1, max_size=6))
@example([line_of()])
@example([b""])
@example([b"\xef\xbb\xbf" + line_of(), line_of() + b"\r"])
def test_rows_are_those_of_reading_each_line_for_itself(agree: Agree, lines: list[bytes]) -> None:
    agree(lines)


def each_alone() -> Iterator[bytes]:
    """Each field with each value there is for it, all others plain."""
    values: dict[str, list[str]] = dict.fromkeys(FIELDS, TEXTS)
    values.update(dict.fromkeys(("duration_ms", "first_token_ms", "attempts"), COUNTS))
    values.update(dict.fromkeys(("cost", "estimate"), AMOUNTS))
    values.update(dict.fromkeys(("timestamp", "recorded_at"), TIMES))
    values.update(dict.fromkeys(("id", "corrects"), IDS))
    values.update(v=["1", "2", "01", "1.0"], prompt_sketch=SKETCHES)
    values["status"] = [f'"{status}"' for status in STATUSES]
    values["cost_source"] = [f'"{source}"' for source in COST_SOURCES]
    values["tokens"] = [f'{{"{name}":{count}}}' for name in TOKENS for count in COUNTS] + ["{}", "null", "[]"]
    values["tags"] = [f'{{"{name}":{text}}}' for name in ("agent", "team") for text in TEXTS] + ["{}", "null", "[]"]
    for name in FIELDS:
        for value in values[name]:
            yield line_of(**{name: value})
            yield line_of(**{name: value}, **({} if name == "corrects" else {"corrects": None}))
        yield line_of(**{name: None})


def test_each_value_of_each_field_is_what_the_line_says(agree: Agree) -> None:
    lines = [line for line in each_alone() if b"\n" not in line]
    assert agree(lines) > len(lines) / 4


def test_lines_that_were_cut_or_changed_anywhere_are_what_they_say(agree: Agree) -> None:
    whole = line_of(tags='{"agent":"code","te":"","team":"é","user":"u","purpose":"p"}')
    lines = [whole[:at] for at in range(len(whole))] + [whole[at:] for at in range(1, len(whole))]
    for at in range(len(whole)):
        lines.append(whole[:at] + whole[at + 1 :])
        for odd in (b'"', b"\\", b",", b"}", b"0", b"9", b"-", b"e", b" ", b"\0", b"\r", b"\x7f", b"\x80", b"\xc3\xa9"):
            lines += [whole[:at] + odd + whole[at:], whole[:at] + odd + whole[at + 1 :]]
        lines += [whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for bit in range(8)]
        lines += [whole[:at] + whole[at : at + size] + whole[at:] for size in (1, 2, 12)]
    assert agree(lines) > 1000


def test_what_is_left_of_one_line_is_never_made_up_for_by_the_next(agree: Agree) -> None:
    whole = line_of()
    lines: list[bytes] = []
    for at in range(len(whole)):
        lines += [whole[:at], whole[at:], whole]
    assert agree(lines) >= len(whole)


@pytest.mark.parametrize("size", range(MAX_LINE - 1, MAX_LINE + 5))
@pytest.mark.parametrize("shape", [b"LINE", b"LINE\r", b"\xef\xbb\xbfLINE", b"LINE\r\r", b"LINE\0"])
def test_lines_of_about_the_greatest_length(agree: Agree, size: int, shape: bytes) -> None:
    room = size - len(shape) + 4 - len(line_of())
    line = shape.replace(b"LINE", line_of(model='"m' + "x" * room + '"'))
    assert len(line) == size
    assert agree([line_of(), line, line_of()]) == 2 + (
        line == line_of(model='"m' + "x" * room + '"') and size <= MAX_LINE
    ) + (shape == b"LINE\r" and size <= MAX_LINE + 1)
    assert agree([line], before=0, place=0) <= 1


def test_tags_of_every_order_and_number(agree: Agree) -> None:
    lines = []
    for order in itertools.permutations(["agent", "te", "team", "", "user"]):
        lines.append(line_of(tags="{" + ",".join(f'"{name}":"{name}"' for name in order) + "}"))
    for count in range(70):
        names = [f"n{number}" for number in range(count)] + ["agent"]
        lines.append(line_of(tags="{" + ",".join(f'"{name}":""' for name in names) + "}"))
        lines.append(line_of(tags="{" + ",".join(f'"{name}":""' for name in [*names, "n0"]) + "}"))
    assert agree(lines) == 120 + 64 + 1  # with more than 64 tags a line is read for itself


# Columns


def agreeing_rows(count: int, **changing: Callable[[int], str | None]) -> list[bytes]:
    """As many lines, in which some fields have a value that depends on the line's number."""
    names: dict[str, Callable[[int], str | None]] = {
        "id": lambda number: f'"01a0c450-6c00-7aa0-81e1-{number:012x}"',
        **changing,
    }
    return [line_of(**{name: value(number) for name, value in names.items()}) for number in range(count)]


def text(value: object) -> str:
    return f'"{value}"'


CHANGING: dict[str, dict[str, Callable[[int], str | None]]] = {
    "all equal": {},
    "all null": dict.fromkeys(set(FIELDS) - set(NEEDED), lambda _: None),
    "now and then": {
        name: (lambda number, step=step, name=name: None if number % step else WHOLE[name])
        for step, name in enumerate([name for name in FIELDS if name not in NEEDED], 2)
    },
    "texts that differ": {
        "generation_id": lambda number: text(f"gen-{number * 7919 % 100_000}-{number:x}"),
        "host": lambda number: text("x" * (number % 300)),
        "error": lambda number: None if number % 3 else text(number),
        "pool": lambda number: text(number) if number < 1000 else text("as before"),
        "key": lambda number: text(number % 1023),
        "key_fingerprint": lambda number: text(number % 1024),
        "served_model": lambda number: text(number % 1025),
        "finish_reason": lambda number: text(number // 2),
        "model": lambda number: text("") if number % 2 else text(number),
        "tags": lambda number: f'{{"agent":"{number}","team":"{number}","user":"é{number % 40}000"}}',
    },
    "numbers": {
        "duration_ms": lambda number: str((number * 0x9E3779B97F4A7C15 >> number % 50) % 10**15),
        "tokens": lambda number: (
            f'{{"in":{number},"out":{999_999_999_999_999 * (number % 2)},"cached":{2 ** (number % 49)},'
            f'"cache_write":{number // 128}}}'
        ),
        "cost": lambda number: (
            f"{'-' if number % 2 else ''}{number % 1000}.{number * 31337 % 10**9:09}{number % 999 + 1:03}"
        ),
        "estimate": lambda number: f"{number}.5",
        "attempts": lambda number: str(number % 4),
        "status": lambda number: text(STATUSES[number % len(STATUSES)]),
        "prompt_sketch": lambda number: text(f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"),
    },
    "ranks": {
        "id": lambda number: (
            IDS[2:6][number % 4] if number % 5 == 0 else text(str(UUID(int=number * 0x9E3779B97F4A7C15**2 % 2**128)))
        ),
        "corrects": lambda number: None if number % 7 else IDS[number % 2],
    },
}


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 31, 32, 33, 127, 128, 129, 130, 257, 1023, 1024, 1025, 2500])
@pytest.mark.parametrize("kind", CHANGING)
def test_columns_hold_what_was_put_there(agree: Agree, kind: str, count: int) -> None:
    assert agree(agreeing_rows(count, **CHANGING[kind])) == count


def test_memory_that_served_one_text_serves_any_other(agree: Agree) -> None:
    library = Native(native_path())
    chance = random.Random(1)
    for _ in range(30):
        count = chance.choice([1, 3, 40, 700, 2100])
        lines = agreeing_rows(count, **CHANGING[chance.choice(list(CHANGING))])
        for _ in range(chance.choice([0, 0, 5, count])):
            lines.insert(chance.randrange(len(lines) + 1), chance.choice([b"", b"no JSON", line_of(v="2")]))
        assert agree(lines, by=library) == count
        agree([b"odd"] * chance.choice([1, 50]), by=library)
    assert agree([], by=Native(native_path())) == 0


@pytest.mark.usefixtures("compiled")
def test_what_was_there_before_leaves_no_trace_in_a_file(tmp_path: Path) -> None:
    used, path = Native(native_path()), tmp_path / "rows"

    def content(library: Native, lines: list[bytes]) -> bytes:
        text = b"".join(line + b"\n" for line in lines)
        library.write(bytearray(text), len(text), len(lines), str(path), source=1, line=0, start=0)
        return path.read_bytes()

    for kind in (*CHANGING, *reversed(CHANGING)):
        lines = agreeing_rows(1500, **CHANGING[kind])
        assert content(used, lines) == content(Native(native_path()), lines)


def native_path() -> str:
    from callmeter.store import index_native

    return index_native._LIBRARY


def test_only_ranks_that_are_distinct_are_said_to_be(compiled: Native, tmp_path: Path) -> None:
    def distinct(ids: list[int]) -> bool:
        lines = [line_of(id=text(str(UUID(int=id)))) for id in ids]
        data = b"".join(line + b"\n" for line in lines)
        path = str(tmp_path / "rows.parquet")
        return compiled.write(bytearray(data), len(data), len(lines), path, source=1, line=0, start=0).distinct

    assert distinct([5 << 80, 6 << 80])
    assert distinct([number << 80 for number in range(1, 5000)])
    assert distinct([2**128 - 1, (1 << 127), 1])
    assert not distinct([5 << 80, 6 << 80, 5 << 80])
    assert not distinct([1 << 80, 1 << 80 | 7 << 16])  # another id of the same rank
    assert not distinct([number << 80 for number in [*range(1, 5000), 1]])
    assert not distinct([0, 5 << 80, 0])
    assert distinct([2**128 - 1])
    assert not distinct([2**128 - 1, 2**128 - 1])


# Pieces


@pytest.mark.parametrize("room", [1, 700, 4096, 20_000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
def test_pieces_come_to_the_same_wherever_they_end(
    tmp_path: Path, reader: str, monkeypatch: pytest.MonkeyPatch, room: int, end: bytes
) -> None:
    monkeypatch.setattr(index_text, "_PIECE", room)
    monkeypatch.setattr(index_text, "CHUNK", room // 3 + 1)
    monkeypatch.setattr(index_text, "_spare", [])
    chance = random.Random(room)
    lines = [b"\xef\xbb\xbf" + line_of()]
    for number in range(60):
        lines += agreeing_rows(1, id=lambda _, number=number: text(str(UUID(int=number << 80))))  # type: ignore[misc]
        for _ in range(chance.choice([0, 0, 0, 1, 4])):
            lines.append(
                chance.choice(
                    [b"", b"\r", b"odd", line_of(v="2"), line_of(model='"\\u00e9"'), line_of() + b"\r", b"\0" * 9]
                )
            )
        if number in (20, 40):
            lines.append(line_of(note=text("x" * (MAX_LINE - len(line_of()) + number - 20))))
            lines.append(b"x" * (MAX_LINE + 3 + number // 40))
    whole = b"\n".join(lines) + end
    agree_with_reading_it(whole, tmp_path)


def test_both_ways_say_of_each_value_what_reading_the_line_says(tmp_path: Path, reader: str) -> None:
    agree_with_reading_it(b"".join(line + b"\n" for line in each_alone()), tmp_path)


def agree_with_reading_it(whole: bytes, directory: Path) -> None:
    """The rows and faults of a log's text, in pieces, are those of its lines."""
    faults: list[tuple[int, str]] = []
    found: list[dict[str, Any]] = []
    stop = line = 0
    with duckdb.connect() as connection:
        for number, piece in enumerate(pieces(texts_given([whole]), 0, 0)):
            assert (piece.start, piece.line) == (stop, line)
            stop, line = piece.stop, piece.line + piece.lines
            rows = write_rows(connection, piece, 3, str(directory / f"{number}"))
            faults += rows.faults
            for part in rows.parts:
                question = f"SELECT {', '.join(COLUMNS)} FROM read_parquet($path)"
                every = connection.execute(question, {"path": str(directory / part.file)}).fetchall()
                assert len(every) == part.rows
                found += [meant(dict(zip(COLUMNS, row, strict=True))) for row in every]
            piece.close()
    wanted: list[dict[str, Any]] = []
    wrong: list[tuple[int, str]] = []
    start = 0
    each = whole.split(b"\n")
    for number, content in enumerate(each, 1):
        for meaning in meanings(content, number, finished=number < len(each)):
            if isinstance(meaning, str):
                wrong.append((number, meaning))
            else:
                row = row_of(meaning, 3, number, start, len(content))
                wanted.append(meant({name: as_column(name, row.get(name)) for name in COLUMNS}))
        start += len(content) + 1
    found.sort(key=lambda row: int(row["line"]))
    assert [row["line"] for row in found] == [row["line"] for row in wanted]
    for row, other in zip(found, wanted, strict=True):
        assert row == other, each[row["line"] - 1]
    assert sorted(faults, key=lambda fault: fault[0]) == wrong
    assert stop == len(whole)


# What C and Python both know


def test_each_name_that_python_knows_is_known_to_the_compiled_code(agree: Agree) -> None:
    every = [line_of()]
    every += [line_of(**{name: None}) for name in FIELDS if name not in NEEDED]
    every += [line_of(status=text(status)) for status in STATUSES]
    every += [line_of(cost_source=text(source)) for source in COST_SOURCES]
    every += [line_of(tokens=f'{{"{name}":5}}') for name in TOKENS]
    every += [line_of(tokens="{" + ",".join(f'"{name}":5' for name in TOKENS) + "}")]
    every += [line_of(tags=f'{{"{name}":"x"}}') for name in BUILT_IN]
    every += [line_of(tags="{" + ",".join(f'"{name}":"x"' for name in BUILT_IN) + "}")]
    every += [line_of(cost="null"), line_of(cost="-1"), line_of(attempts="0")]
    assert list(WHOLE) == list(FIELDS)
    assert agree(every) == len(every)  # and what their rows hold, `kind` and `pace` among it
    assert set(STATUSES) > FAILED


def test_the_compiled_code_knows_nothing_that_python_does_not(agree: Agree) -> None:
    assert (
        agree([line_of(v=text("1")), line_of(v="2"), line_of(status=text("failed")), line_of(cost_source=text("free"))])
        == 0
    )
    source = Path(native_path()).with_name("line.h").read_text(encoding="ascii")
    known = {
        part.split('"')[1]
        for part in source.replace("WORD(s)", "").replace("NAME(s)", "").split("(")
        if part[:1] == '"'
    }
    known = {name for name in known if not set(name) - set("abcdefghijklmnopqrstuvwxyz_0123456789")}
    python = {*FIELDS[4:], *TOKENS, *BUILT_IN, *STATUSES, *COST_SOURCES}
    assert known == python


def test_every_pace_is_the_one_that_python_counts(agree: Agree) -> None:
    durations = {*range(600), *(2**n + d for n in range(49) for d in (-2, -1, 0, 1)), 10**15 - 1}
    edges = {int(2 ** (pace / 24)) + d for pace in range(1190) for d in (-2, -1, 0, 1)}
    every = sorted(number for number in durations | edges if 0 <= number < 10**15)
    lines = [line_of(duration_ms=str(number), corrects=None) for number in every]
    assert agree(lines) == len(lines)
