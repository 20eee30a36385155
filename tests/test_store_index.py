"""The usage index says what a plain loop over the log says, whatever is in the log and however it came there."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callmeter.reports.usage import SUMS, Usage
from callmeter.store import index_ranks, index_rows, index_sums
from callmeter.store.index import UsageIndex
from callmeter.store.seen_ids import SeenIds
from callmeter.store.usage_log import LogReader, read_records
from callmeter.words.period import Period
from plain_usage import PlainUsage
from usage_lines import call, write

IDS = [f"01a0c450-6c00-7aa0-81e1-{number:012x}" for number in range(30)]
HOSTILE_TEXTS = [
    "",
    "a",
    "code",
    "Ünï",
    'qu"ote',
    "back\\slash",
    "a\nb",
    "\x00",
    "\x1b[31m",
    "'; DROP",
    "%_*",
    "(none)",
    "😀",
    "x" * 300,
    "=1+1",
    "\u202e",
    " ",
]
TIMES = [
    "2026-11-21T09:30:01.123Z",
    "2026-11-21T23:59:59.999Z",
    "2026-11-22T00:00:00.000Z",
    "2026-03-29T01:30:00.000Z",
    "2026-10-25T00:30:00.000Z",
    "2026-10-25T01:30:00.000Z",
    "2026-11-21T09:30:01,123Z",
    "2026-11-21T09:30:01Z",
    "2026-11-21",
    "2026-11-21T10:30:01.123456+01:00",
    "0001-01-01T00:00:00.000Z",
    "0999-12-31T00:00:00.000Z",
    "9999-12-31T23:59:59.999Z",
    "1890-06-01T12:00:00.000Z",
    "2026-W47-6",
    "20261121T093001Z",
    "not a time",
    "2026-02-30T00:00:00.000Z",
    "2026-11-21T24:00:00.000Z",
    "1969-12-31T23:59:59.999Z",
]
NUMBERS = [
    "0",
    "1",
    "0.0096",
    "0.000001979964",
    "0.00960",
    "1e-5",
    "12.5",
    "999.999999999999",
    "1000000",
    "0.1234567890123",
    "1.0000000000000000001",
    "123456789.987654321",
    "-0.5",
    "1e30",
    '"0.5"',
    "null",
    "0.000000000001",
    "-1e-12",
    "99999999999999999999",
    "NaN",
    "-0",
    "-0.0",
    "00.5",
    "0.5e1",
    "123456.123456789012",
    "999.9999999999995",
    "1000.000000000001",
]
COUNTS = [
    "0",
    "1",
    "1200",
    "9007199254740992",
    "9007199254740993",
    "-1",
    "1.0",
    "1.5",
    "1e3",
    "null",
    '"7"',
    "007",
    "123456789012345678901234567890",
    "-0",
    "4294967295",
    "4294967296",
    "true",
]


def text(value: str) -> str:
    return json.dumps(value)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A usage line: as callmeter writes it, or a bit or wholly off."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(
            st.sampled_from(
                [
                    b"",
                    b" ",
                    b"{}",
                    b"null",
                    b"[]",
                    b"{",
                    b'{"v":1',
                    b"\0\0\0",
                    b"\xff\xfe",
                    b"x" * 70000,
                    b"\xef\xbb\xbf",
                    b"\r",
                    b"\1",
                    b'{"v":1}{"v":1}',
                    b"nonsense\2",
                ]
            )
        )
    cost = draw(st.sampled_from(NUMBERS)) if draw(st.booleans()) else draw(st.sampled_from(["0.01", "0.5", "null"]))
    strange = draw(st.booleans())
    some = st.sampled_from(HOSTILE_TEXTS if strange else ["code", "triage", "review"])
    fields = [
        ("v", draw(st.sampled_from(["1", "1", "1", "1", "2", '"1"', "1.0"])) if strange else "1"),
        (
            "id",
            text(
                draw(
                    st.sampled_from([*IDS, IDS[3].upper(), "x", "", "call-7", "0" * 36, "f" * 36])
                    if strange
                    else st.sampled_from(IDS)
                )
            ),
        ),
        ("timestamp", text(draw(st.sampled_from(TIMES if strange else TIMES[:6])))),
        ("tags", draw(_tags(some, strange))),
        ("provider", text(draw(some))),
        ("model", text(draw(some))),
    ]
    tokens = [
        (name, draw(st.sampled_from(COUNTS if strange else COUNTS[:4])))
        for name in ("in", "out", "cached", "cache_write", "cache_write_1h", "reasoning")
        if draw(st.booleans())
    ]
    if draw(st.booleans()):
        fields.append(("tokens", "{" + ",".join(f"{text(name)}:{count}" for name, count in tokens) + "}"))
    fields.append(("cost", cost))
    sources = ["provider", "price", "estimate", "unknown", *(["guess"] if strange else [])]
    fields.append(("cost_source", text(draw(st.sampled_from(sources)))))
    if draw(st.booleans()):
        fields.append(("estimate", draw(st.sampled_from(NUMBERS if strange else NUMBERS[:4]))))
    fields.append(
        (
            "status",
            text(draw(st.sampled_from(["ok", "ok", "error", "refused", "truncated", *(["bad"] if strange else [])]))),
        )
    )
    for name in ("finish_reason", "error", "key", "host", "generation_id", "pool", "note"):
        if draw(st.integers(0, 3)) == 0:
            fields.append(
                (name, text(draw(some)) if draw(st.integers(0, 9)) else draw(st.sampled_from(["null", "5", "{}"])))
            )
    for name in ("duration_ms", "first_token_ms", "attempts"):
        if draw(st.booleans()):
            fields.append((name, draw(st.sampled_from(COUNTS if strange else COUNTS[:4]))))
    if draw(st.integers(0, 3)) == 0:
        fields.append(("corrects", text(draw(st.sampled_from([*IDS, "x", "call-7", IDS[3].upper()])))))
    if draw(st.integers(0, 3)) == 0:
        fields.append(("recorded_at", text(draw(st.sampled_from(TIMES)))))
    if strange and draw(st.integers(0, 4)) == 0:
        fields.append(("unheard_of", draw(st.sampled_from(['{"cost":1}', '"x"', "[1,2]"]))))
    if strange and draw(st.integers(0, 4)) == 0:
        fields = draw(st.permutations(fields))
    if strange and draw(st.integers(0, 4)) == 0:
        fields.append(draw(st.sampled_from(fields)))
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": ")])) if strange else (",", ":")
    line = "{" + comma.join(f"{text(name)}{colon}{value}" for name, value in fields) + "}"
    if strange:
        change = draw(st.integers(0, 9))
        if change == 0:
            line = line.replace("\\u00dc", "Ü").replace("\\ud83d\\ude00", "😀")
        if change == 1:
            line = line.replace("\\ude00", "")
        if change == 2:
            line = line[: draw(st.integers(0, len(line)))]
        if change == 3:
            return b"\0\0" + line.encode()
        if change == 4:
            return line.encode() + b"\r"
        if change == 6:
            line += draw(st.sampled_from([" ", "\t", " \t "]))
        if change == 5:
            return line.encode("latin-1", "replace").replace(b"a", b"\xe4")
    return line.encode("utf-8", "surrogatepass")


@st.composite
def _tags(draw: st.DrawFn, some: st.SearchStrategy[str], strange: bool) -> str:
    names = [
        "agent",
        "purpose",
        "session",
        "team",
        "work_item",
        *(["Agent", "a b", "user", "pool", "$x"] if strange else []),
    ]
    chosen = draw(st.lists(st.sampled_from(names), max_size=4, unique=not strange))
    values = [
        text(draw(some))
        if not strange or draw(st.integers(0, 9))
        else draw(st.sampled_from(["5", "null", '{"a":"b"}', "[]"]))
        for _ in chosen
    ]
    return "{" + ",".join(f"{text(name)}:{value}" for name, value in zip(chosen, values, strict=True)) + "}"


# A line as callmeter writes it, but for its id's end.
OWN = (
    '{"v":1,"id":"01a0c450-6c00-7aa0-81e1-ID","timestamp":"2026-11-21T09:30:01.123Z",'
    '"tags":{"agent":"code","team":"t"},"provider":"p","model":"m","tokens":{"in":12,"out":3,"cached":0,'
    '"cache_write":0,"cache_write_1h":0,"reasoning":0},"cost":0.5,"cost_source":"price","status":"ok",'
    '"duration_ms":7,"attempts":1,"host":"h"}'
)

QUESTIONS: list[dict[str, Any]] = [
    {"by": ()},
    {"by": ("agent", "purpose")},
    {"by": ("origin", "status")},
    {"by": ("team", "model")},
    {"by": ("day",)},
    {"by": ("hour", "cost_source")},
    {"by": ("month", "week")},
    {"by": ("session", "pool", "key", "host", "error", "user")},
    {"by": ("agent",), "where": ["agent=co*", "agent=(none)", "purpose=*e*"]},
    {"by": ("model",), "where": ["status=ok", "model=%_*", "model='; DROP", "model=code"]},
    {"by": ("agent",), "where": ["day=2026-11-21"]},
    {"by": ("agent",), "where": ["origin=price", "team=code"]},
    {"by": ("origin", "cost_source")},
    {"by": ("origin",), "where": ["cost_source=e*"]},
]
SOME_TIME = Period(datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 11, 21, 12, 0, 0, 500, tzinfo=UTC), "")
PERIODS = [
    SOME_TIME,
    Period(
        datetime(2026, 11, 21, 9, 30, 1, 123000, tzinfo=UTC), datetime(2026, 11, 21, 9, 30, 1, 124000, tzinfo=UTC), ""
    ),
    Period(datetime(2026, 10, 25, 0, 45, tzinfo=UTC), datetime(2026, 11, 21, 9, 30, 1, tzinfo=UTC), ""),
    Period(datetime(2026, 3, 29, 1, 0, tzinfo=UTC), None, ""),
    Period(None, datetime(2026, 11, 21, 23, 59, 59, 999000, tzinfo=UTC), ""),
    Period(datetime(9999, 12, 31, 12, tzinfo=UTC), None, ""),
]


def assert_same(
    index: Usage, plain: Usage, question: dict[str, Any], percentiles: Sequence[int] = (1, 50, 95, 100)
) -> None:
    assert index.groups(**question, latency=percentiles, costs=percentiles) == plain.groups(
        **question, latency=percentiles, costs=percentiles
    )
    assert index.levels(**question, latency=percentiles, costs=percentiles) == plain.levels(
        **question, latency=percentiles, costs=percentiles
    )


def assert_agree(
    paths: Sequence[str],
    directory: Path,
    zone: tzinfo = UTC,
    as_of: datetime | None = None,
    aliases: dict[str, str] | None = None,
    questions: Sequence[dict[str, Any]] = QUESTIONS,
    periods: Sequence[Period] = PERIODS,
) -> UsageIndex:
    """The index and the plain loop say the same of everything."""
    reader = read_records(list(paths))
    plain = PlainUsage(reader, zone, as_of, aliases)
    index = UsageIndex(list(paths), str(directory), zone, as_of, aliases)
    assert_says_the_same(index, reader, plain, questions, periods)
    return index


def assert_says_the_same(
    index: UsageIndex,
    reader: LogReader,
    plain: PlainUsage,
    questions: Sequence[dict[str, Any]],
    periods: Sequence[Period] = PERIODS,
) -> None:
    found = index.reading
    assert (found.lines, found.bad_lines, found.duplicates) == (reader.lines, reader.bad_count, reader.duplicates)
    assert list(found.files) == reader.files
    assert [(file, line, reason) for file, line, reason in found.bad] == [
        (bad.file, bad.line, bad.reason) for bad in reader.bad
    ]
    assert found.first == plain.reading.first
    for question in questions:
        assert_same(index, plain, question)
    assert list(index.calls()) == list(plain.calls())
    assert list(index.calls(last=3)) == list(plain.calls(last=3))
    conditions = {"period": SOME_TIME, "where": ["agent=*"]}
    assert list(index.calls(**conditions)) == list(plain.calls(**conditions))
    for rest in [
        {"outer": (), "kept": ["code"]},
        {"outer": ("code",), "kept": ["triage", "(none)"], "latency": (50,)},
    ]:
        assert index.rest(("agent", "purpose"), **rest) == plain.rest(("agent", "purpose"), **rest)
    assert index.taggings({"agent", "team"}) == plain.taggings({"agent", "team"})
    for period in periods:
        for by in (("agent", "day"), ("origin",)):
            assert index.groups(by, period=period) == plain.groups(by, period=period)
        bys: list[tuple[str, ...]] = [("agent", "day"), ("origin",), (), ("team", "model"), ("day", "agent")]
        bys.append(("cost_source", "agent"))
        for only in (SUMS, SUMS[:-2], ("nano", "unknown", "priced_nano"), ("calls", "last", "first"), ()):
            several = index.groupings(bys, only, period=period, where=["agent=*"])
            assert several == plain.groupings(bys, only, period=period, where=["agent=*"])
    for least in (None, 0, 10_000_000):
        for by in (("agent", "session", "day"), ("team", "origin"), ("agent", "week"), ("origin", "model")):
            for times in (True, False):
                spent, wanted = (usage.spent(by, least=least, times=times) for usage in (index, plain))
                assert sorted(spent, key=str) == sorted(wanted, key=str)


@contextmanager
def sums_of(small_logs: bool) -> Iterator[None]:
    """Sums are made of logs of any length, and short pieces are read line by line."""
    with pytest.MonkeyPatch.context() as patch:
        if small_logs:
            patch.setattr(index_rows, "_FEW", 500)
            patch.setattr(index_sums, "_FRESH", 0)
            patch.setattr(index_sums, "_AT_ONCE", 10)
            patch.setattr(index_ranks, "_AT_ONCE", 1)
        yield


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.lists(st.lists(lines(), max_size=25), min_size=1, max_size=3),
    st.sampled_from([b"\n", b"\n", b"\r\n"]),
    st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/St_Johns"), ZoneInfo("Australia/Lord_Howe")]),
    st.sampled_from([None, None, datetime(2026, 11, 21, 9, 30, 1, 123456, tzinfo=UTC)]),
    st.booleans(),
    st.data(),
)
def test_index_and_plain_loop_agree_on_any_log(
    parts: list[list[bytes]], newline: bytes, zone: tzinfo, as_of: datetime | None, finished: bool, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        names = ["usage-2026-10.jsonl.zst", "usage-2026-09.jsonl.gz", "usage.jsonl"][-len(parts) :]
        for name, part in zip(names, parts, strict=True):
            body = newline.join(part) + (newline if finished else b"")
            if data.draw(st.integers(0, 9)) == 0:
                body = b"\xef\xbb\xbf" + body
            if name.endswith(".zst"):
                body = zstandard.ZstdCompressor(write_checksum=True).compress(body)
            if name.endswith(".gz"):
                body = gzip.compress(body)
            if name != "usage.jsonl" and data.draw(st.integers(0, 9)) == 0:
                body = body[: len(body) // 2]
            (directory / name).write_bytes(body)
        log = str(directory / "usage.jsonl")
        questions = data.draw(st.lists(st.sampled_from(QUESTIONS), min_size=1, max_size=2))
        periods = data.draw(st.lists(st.sampled_from(PERIODS), max_size=2))
        with sums_of(data.draw(st.booleans())):
            assert_agree([log], directory / "index", zone, as_of, {"squad": "team"}, questions, periods)
        with open(log, "ab") as file:
            file.write(newline + newline.join(data.draw(st.lists(lines(), max_size=5))))
        with sums_of(data.draw(st.booleans())):
            assert_agree([log], directory / "index", zone, as_of, questions=questions, periods=periods)


# What stands in for a part of a line of callmeter's own: what it means, if anything, is the plain loop's to say.
ODD_PARTS = [
    ('"agent":"code"', '"agent":"code","agent":"other"'),
    ('"agent":"code"', '"team":"a","team":"b"'),
    ('"agent":"code"', '"agent":"\\ud83d"'),
    ('"agent":"code"', '"agent":null'),
    ('"agent":"code"', '"agent":5'),
    ('"model":"m"', '"model":"\\udc00m"'),
    ('"model":"m"', '"model":"m","model":"n"'),
    ('"model":"m"', '"model":""'),
    ('"model":"m"', '"model":null'),
    ('"model":"m"', '"model":5'),
    ('"model":"m"', '"model":"m\\",\\"served_model\\":\\"n"'),
    ('"model":"m",', ""),
    ('"provider":"p","model":"m"', '"model":"m","provider":"p"'),
    ('"in":12', '"in":1.2e1'),
    ('"in":12', '"in":12.0'),
    ('"in":12', '"in":012'),
    ('"in":12', '"in":-0'),
    ('"in":12', '"in":-12'),
    ('"in":12', '"in":"12"'),
    ('"in":12', '"in":4294967296'),
    ('"in":12', '"in":12,"in":13'),
    ('"in":12,', ""),
    ('"in":12,"out":3', '"out":3,"in":12'),
    ('"cost":0.5', '"cost":5e-1'),
    ('"cost":0.5', '"cost":0.50'),
    ('"cost":0.5', '"cost":00.5'),
    ('"cost":0.5', '"cost":-0'),
    ('"cost":0.5', '"cost":-0.5'),
    ('"cost":0.5', '"cost":0.12345678901'),
    ('"cost":0.5', '"cost":0.123456789012345'),
    ('"cost":0.5', '"cost":999.999999999999'),
    ('"cost":0.5', '"cost":123456.123456789012'),
    ('"cost":0.5', '"cost":null'),
    ('"cost":0.5', '"cost":"0.5"'),
    ('"cost":0.5,', ""),
    ('"duration_ms":7', '"duration_ms":-7'),
    ('"duration_ms":7', '"duration_ms":4294967296'),
    ('"duration_ms":7', '"duration_ms":7,"first_token_ms":-3'),
    ('"duration_ms":7', '"duration_ms":true'),
    ('"host":"h"', '"host":"h","note":"n","pool":"q"'),
    ('"host":"h"', '"host":"h","host":"i"'),
    ('"host":"h"', '"key":"k","key_fingerprint":"f","host":null'),
    ('"host":"h"', '"host":"h","recorded_at":"2026-11-21T09:30:01.123Z"'),
    ('"host":"h"}', '"host":"h"} '),
    ('"host":"h"}', '"host":"h",}'),
    ('"host":"h"}', '"host":"h","audit":"x"}\t'),
    ('{"v":1', ' {"v":1'),
    ('{"v":1', '{"v": 1'),
    ('{"v":1', '{"v":01'),
]


def test_lines_that_are_almost_callmeters_own_mean_what_the_plain_loop_says(tmp_path: Path) -> None:
    odd = []
    for number, (part, instead) in enumerate(ODD_PARTS):
        assert part in OWN
        odd.append(OWN.replace("ID", f"{number:012x}").replace(part, instead))
    for number, line in enumerate(odd):
        directory = tmp_path / str(number % 7)
        directory.mkdir(exist_ok=True)
        with open(directory / "usage.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")
    for directory in sorted(tmp_path.iterdir()):
        assert_agree([str(directory / "usage.jsonl")], directory / "index")


def test_what_callmeter_writes_takes_the_short_way(tmp_path: Path) -> None:
    others = {'"host":"h"': '"host":"h","corrects":"01a0c450-6c00-7aa0-81e1-000000000000"', '"in":12': '"in":1234567'}
    lines = [OWN, *(OWN.replace(part, instead) for part, instead in others.items())]
    lines += [OWN.replace('"cost":0.5', f'"cost":{cost}') for cost in ("null", "0", "0.000001979964", "999")]
    log = tmp_path / "usage.jsonl"
    log.write_text("".join(line.replace("ID", f"{number:012x}") + "\n" for number, line in enumerate(lines)))
    assert_agree([str(log)], tmp_path / "index")
    assert not list((tmp_path / "index").glob("*-odd.parquet"))


def test_the_price_of_tokens_is_that_of_whole_calls_with_their_corrections(tmp_path: Path) -> None:
    def line(number: int, *changes: tuple[str, str], corrects: int | None = None) -> str:
        text = OWN.replace("-ID", f"-{number:012x}")
        for old, new in changes:
            text = text.replace(old, new)
        return text if corrects is None else f'{text[:-1]},"corrects":"{IDS[corrects]}"}}'

    no_tokens = (OWN[OWN.index('"tokens"') : OWN.index('"cost"')], "")
    lines = [
        line(1, no_tokens, ('"cost":0.5', '"cost":0.0121')),
        line(2, ('"in":12,"out":3', '"in":1200,"out":400'), ('"cost":0.5', '"cost":-0.0025'), corrects=1),
        line(3, no_tokens, ('"cost":0.5', '"cost":0.3')),
        line(4, no_tokens, ('"cost":0.5', '"cost":-0.1'), corrects=3),
        # Of a call that is not in the log: there are no tokens to set it against.
        line(5, no_tokens, ('"cost":0.5', '"cost":0.7'))[:-1] + ',"corrects":"pruned"}',
    ]
    log = tmp_path / "usage.jsonl"
    log.write_text("\n".join(lines) + "\n")
    ((_, figures),) = UsageIndex([str(log)], str(tmp_path / "index"), UTC).groups()
    assert figures.per_1k == 6_000_000
    assert (figures.calls, figures.without_tokens, figures.nano) == (2, 1, 909_600_000)
    assert figures.calls_nano == 209_600_000


def test_groups_that_came_to_an_amount_are_found_whatever_their_parts_came_to(tmp_path: Path) -> None:
    def line(number: int, session: str, cost: str) -> str:
        return (
            OWN.replace("-ID", f"-{number:012x}").replace('"team":"t"', session).replace('"cost":0.5', f'"cost":{cost}')
        )

    lines = [
        line(1, '"session":""', "0.006"),  # an empty session, and none, are both nobody's
        line(2, '"team":"t"', "0.006"),
        line(3, '"session":"s"', "0.02"),  # dear on its own day, whatever a later credit makes of the session
        line(4, '"session":"s"', "-0.02").replace("2026-11-21", "2026-11-22")[:-1] + f',"corrects":"{IDS[20]}"}}',
        line(5, '"session":"cheap"', "0.009"),
    ]
    log = tmp_path / "usage.jsonl"
    log.write_text("\n".join(lines) + "\n")
    usage = UsageIndex([str(log)], str(tmp_path / "index"), UTC)
    found = {(*each.names, each.nano) for each in usage.spent(("session", "day"), least=10_000_000)}
    assert found == {("(none)", "2026-11-21", 12_000_000), ("s", "2026-11-21", 20_000_000)}


def test_an_id_of_more_digits_than_a_uuid_has_is_an_id_like_any_other(tmp_path: Path) -> None:
    digits = ("f" * 36, "+" + "e" * 35, "0" * 36)
    lines = [call(id=id) for id in (*digits, *digits)]
    lines.append(call(id="credit", cost=Decimal("-0.001"), cost_source="reconciled", corrects=digits[0], tokens=None))
    log = write(tmp_path / "usage.jsonl", lines)
    index = assert_agree([log], tmp_path / "index")
    assert index.reading.duplicates == 3
    assert [names for names, _ in index.groups(("origin",))] == [("provider",), ("reconciled",)]
    seen = SeenIds(newest=1)
    assert [seen.add(id) for id in (*digits, *digits)] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("has_sums", [True, False])
def test_corrected_calls_are_found_by_the_source_that_their_own_lines_name(tmp_path: Path, has_sums: bool) -> None:
    lines = [
        call(id="1", cost=Decimal("0.2"), cost_source="estimate"),
        call(id="2", cost=Decimal("0.3"), cost_source="estimate"),
        call(id="3", cost=Decimal("-0.1"), cost_source="reconciled", corrects="1", tokens=None),
    ]
    questions: list[dict[str, Any]] = [
        {"by": ("origin",), "where": ["cost_source=estimate"]},
        {"by": ("cost_source", "origin")},
        {"by": ("cost_source",), "where": ["origin=reconciled"]},
        {"by": (), "where": ["origin=reconciled"]},
        {"by": (), "where": ["origin=price"]},
    ]
    log = write(tmp_path / "usage.jsonl", lines)
    with sums_of(has_sums):
        index = assert_agree([log], tmp_path / "index", questions=questions)
        found = {names: figures.nano for names, figures in index.groups(**questions[0])}
        _, of_sources = index.groupings([("origin",), ("cost_source",)], ("calls",))
    assert {names: figures.calls for names, figures in of_sources}[("estimate",)] == 2
    assert found == {("estimate",): 300_000_000, ("reconciled",): 200_000_000}
