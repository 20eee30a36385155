"""The event stream's decoder against the WHATWG's algorithm, for every way of cutting a stream into chunks."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callmeter.providers import events as module
from callmeter.providers.events import events
from callmeter.providers.wire import WireError

LINE = st.one_of(
    st.sampled_from(
        ["data", "data:", "data: ", "data:  x", ":", ": note", "id: 1", "event: x", "retry: 5", "dataset: y"]
    ),
    st.text(alphabet=st.sampled_from("a:é世🌍\u2028\u0085\x0b\x0c\ufeff \x00"), max_size=6).map("data:".__add__),
    st.just(""),
)
STREAM = st.lists(st.tuples(LINE, st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\r", "\r\n\r\n"])), max_size=12)


def reference(stream: bytes) -> list[str]:
    """The algorithm as the specification tells it, on the whole text at once; only, what is unfinished counts too."""
    text = stream.decode("utf-8").removeprefix("\ufeff")
    found: list[str] = []
    data: list[str] = []
    for line in [*re.split("\r\n|\n|\r", text), ""]:
        if line == "":
            if data:
                found.append("\n".join(data))
            data = []
            continue
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
    return found


def cut(stream: bytes, places: list[int]) -> Iterator[bytes]:
    edges = sorted({place % (len(stream) + 1) for place in places})
    for start, end in zip([0, *edges], [*edges, len(stream)], strict=True):
        yield stream[start:end]


@given(
    lines=STREAM,
    tail=st.one_of(st.just(""), LINE),
    mark=st.booleans(),
    places=st.lists(st.integers(min_value=0), max_size=8),
)
@example(lines=[("data: x", "\r\n\r\n")], tail="", mark=True, places=[1, 2, 11, 12, 13])
def test_however_a_stream_is_cut_the_events_are_those_of_the_specification(
    lines: list[tuple[str, str]], tail: str, mark: bool, places: list[int]
) -> None:
    stream = (("\ufeff" if mark else "") + "".join(line + end for line, end in lines) + tail).encode()
    assert list(events(cut(stream, places))) == reference(stream)
    assert list(events(cut(stream, list(range(len(stream)))))) == reference(stream)


def test_an_event_is_given_before_the_next_bytes_are_asked_for() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"data: one\r\n\r"
        raise AssertionError("the decoder waits for bytes that it does not need")

    assert next(events(chunks())) == "one"


def test_several_data_lines_are_one_event_with_line_breaks() -> None:
    assert list(events([b'data: {"a":\ndata: 1}\n\n'])) == ['{"a":\n1}']


def test_separators_that_only_python_knows_stay_inside_the_text() -> None:
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"
    assert list(events([f"data: {text}\n\n".encode()])) == [text]


def test_an_event_whose_blank_line_never_came_is_delivered() -> None:
    assert list(events([b"data: [DONE]"])) == ["[DONE]"]


def test_comments_and_keep_alives_give_nothing() -> None:
    assert list(events([b": OPENROUTER PROCESSING\n\n", b":\n\n", b"event: ping\n\n"])) == []


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\xe4\xb8", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_bytes_that_are_not_utf8_end_the_stream_after_the_good_events(broken: bytes) -> None:
    found = events([b"data: good\n\ndata: " + broken + b"\n\n"])
    assert next(found) == "good"
    with pytest.raises(WireError) as caught:
        next(found)
    assert (caught.value.kind, caught.value.sent) == ("protocol", True)


def test_a_character_cut_in_two_by_a_chunk_is_whole_again() -> None:
    assert list(events([b"data: \xf0\x9f", b"\x8c", b"\x8d\n\n"])) == ["🌍"]


@pytest.mark.parametrize("size", [1, 64 * 1024])
def test_a_line_without_an_end_is_refused_at_the_limit(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 100_000)
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        yield b"data: "
        while True:
            read += size
            yield b"a" * size

    with pytest.raises(WireError) as caught:
        next(events(chunks()))
    assert caught.value.kind == "too_large"
    assert read <= 100_000 + size


def test_a_long_line_in_many_pieces_is_whole_again() -> None:
    piece = b"a" * 64
    pieces = [b"data: ", *[piece] * 60_000, b"\n\n"]
    assert [len(found) for found in events(pieces)] == [60_000 * 64]


def test_the_limit_allows_sixteen_mebibytes() -> None:
    assert module.MAX_LINE == 16 * 1024 * 1024
