"""One contract for both wires, against a server that misbehaves: answers, and what is refused."""
# ruff: noqa: F401, F811 - fixtures are imported, and then asked for by name

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callmeter.providers.events import events
from callmeter.providers.http import HttpTransport
from callmeter.providers.wire import MAX_BODY, Transport, WireError
from servers import scenarios
from servers.misbehaving import Client, MisbehavingServer
from servers.pieces import SCENARIOS, completion
from servers.wires import KEY, STREAM, Make, Playing, failure, make, read, secure, send, server, wire

# --- answers


@pytest.mark.parametrize(
    "name",
    [
        "ok",
        "ok-length",
        "ok-until-close",
        "extensions",
        "interim",
        "interim-hints",
        "bare-lf",
        "length-twice",
        "no-done",
    ],
)
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_an_answer_arrives_whole_however_it_is_framed(
    make: Make, server: MisbehavingServer, secure: MisbehavingServer, name: str, tls: bool
) -> None:
    running = secure if tls else server
    response = send(make(running.cafile or None), running.url(name))
    assert response.status == 200
    assert response.headers["content-type"] == "text/event-stream"
    body = read(response)
    assert body == (STREAM if name != "no-done" else STREAM.removesuffix(b"data: [DONE]\n\n"))


def test_the_request_arrives_as_it_was_given(wire: Transport, server: MisbehavingServer) -> None:
    read(send(wire, server.url("ok") + "?a=b%20c", b'{"prompt":"\xc3\xa9"}'))
    request = server.requests[-1]
    assert (request.method, request.path) == ("POST", "/v1/ok/chat/completions?a=b%20c")
    assert request.body == b'{"prompt":"\xc3\xa9"}'
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-agent-id"] == "code"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["content-length"] == "15"


def test_a_get_has_no_body(wire: Transport, server: MisbehavingServer) -> None:
    response = send(wire, server.base_url("ok") + "/models", b"", method="GET")
    assert b"pricing" in read(response)
    assert "content-length" not in server.requests[-1].headers


def test_events_arrive_one_by_one_while_the_answer_is_still_being_made(
    wire: Transport, server: MisbehavingServer
) -> None:
    response = send(wire, server.url("stall-mid-stream"))
    assert "Hell" in next(events(response.chunks()))
    response.close()


@pytest.mark.parametrize(
    "name", ["one-byte", "split-utf8", "comments", "crlf", "cr", "bom", "multi-line-data", "no-final-newline"]
)
def test_odd_but_lawful_streams_give_their_events(wire: Transport, server: MisbehavingServer, name: str) -> None:
    found = list(events(send(wire, server.url(name)).chunks()))
    assert '"cost":0.0096' in found[-1] or '"cost":0.0096' in found[-2]


@pytest.mark.parametrize(
    ("name", "status"),
    [(name, int(name[:3])) for name in SCENARIOS if name[:3].isdigit() and not name.endswith("then-ok")]
    + [("html-502", 502), ("error-empty", 500), ("error-huge", 500), ("error-list", 500)],
)
def test_an_error_status_is_an_answer_with_its_headers_and_body(
    wire: Transport, server: MisbehavingServer, name: str, status: int
) -> None:
    response = send(wire, server.url(name))
    assert response.status == status
    length = int(response.headers["content-length"])
    assert len(read(response)) == length
    if name in ("402-in-flight", "429"):
        assert response.headers["retry-after"] in ("1", "2")
    if name == "524":
        assert response.headers["x-generation-id"] == "gen-1234"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(wire: Transport, server: MisbehavingServer, status: int) -> None:
    response = send(wire, server.url(f"redirect-{status}"))
    assert (response.status, read(response)) == (status, b"moved")
    assert "/chat/completions" in response.headers["location"]
    assert server.stranger.connections == 0


@pytest.mark.parametrize("name", ["status-204", "status-304"])
def test_an_answer_without_a_body_ends_at_once(wire: Transport, server: MisbehavingServer, name: str) -> None:
    response = send(wire, server.url(name))
    assert (response.status, read(response)) == (int(name[7:]), b"")


def test_repeated_headers_are_joined_and_names_are_lower_case(wire: Transport, server: MisbehavingServer) -> None:
    response = send(wire, server.url("interim-hints"))
    assert all(name == name.lower() for name in response.headers)
    assert "link" not in response.headers, "an interim answer's header is not the answer's"
    response = send(wire, server.url("length-twice"))
    assert set(response.headers["content-length"].split(", ")) == {str(len(STREAM))}
    response.close()


# --- what is refused


def test_compression_is_not_asked_for_even_when_the_caller_does(wire: Transport, server: MisbehavingServer) -> None:
    read(send(wire, server.url("ok"), headers={"accept-encoding": "gzip", "Content-Length": "9", "host": "evil.test"}))
    request = server.requests[-1]
    head = request.raw_head.lower()
    assert head.count(b"accept-encoding: identity") == head.count(b"accept-encoding:") == 1
    assert head.count(b"content-length: 2") == head.count(b"content-length:") == 1
    assert b"evil.test" not in head


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd", "gzip-bomb"])
def test_a_compressed_answer_is_refused(wire: Transport, server: MisbehavingServer, name: str) -> None:
    error = failure(wire, server.url(name))
    assert (error.kind, error.sent) == ("encoding", True)


def test_the_status_of_a_compressed_error_can_still_be_read(wire: Transport, server: MisbehavingServer) -> None:
    response = send(wire, server.url("gzip-429"))
    assert (response.status, response.headers["retry-after"]) == (429, "1")
    with pytest.raises(WireError):
        read(response)


@pytest.mark.parametrize(
    "name",
    [
        "not-http",
        "http-09",
        "status-garbage",
        "status-101",
        "no-colon",
        "nul-header",
        "space-before-colon",
        "length-conflict",
        "length-and-chunks",
        "length-garbage",
        "length-negative",
        "length-underscore",
        "chunk-garbage",
        "chunk-giant",
        "chunk-negative",
        "chunk-too-long",
        "coding-gzip",
    ],
)
def test_what_is_not_http_is_refused_as_such(wire: Transport, server: MisbehavingServer, name: str) -> None:
    error = failure(wire, server.url(name), seconds=5)
    assert (error.kind, error.sent) == ("protocol", True)


@pytest.mark.parametrize(
    "name",
    [
        "huge-header",
        "many-headers",
        "endless-headers",
        "endless-extension",
        "endless-trailers",
        "huge-length",
        "endless-json",
        "endless-comments",
        "endless-tokens",
        "endless-line",
    ],
)
def test_what_has_no_end_is_refused_at_a_limit(wire: Transport, server: MisbehavingServer, name: str) -> None:
    error = failure(wire, server.url(name), seconds=60)
    assert error.sent
    # The engine under the http wire calls an overlong piece of framing malformed.
    assert error.kind == "too_large" or (isinstance(wire, HttpTransport) and error.kind == "protocol")
    assert not name.startswith("endless") or server.requests[-1].cancelled.wait(60)


def test_interim_answers_without_end_are_refused(wire: Transport, server: MisbehavingServer) -> None:
    assert failure(wire, server.url("endless-interim")).kind in ("protocol", "too_large")


@pytest.mark.parametrize(("length", "fits"), [(60_000, True), (70_000, False)])
def test_the_head_has_a_limit_of_its_own(wire: Transport, server: MisbehavingServer, length: int, fits: bool) -> None:
    with Playing(lambda client: client.answer(200, b"hello", f"X-Long: {'a' * length}")) as name:
        if fits:
            assert read(send(wire, server.url(name))) == b"hello"
        else:
            assert failure(wire, server.url(name)).kind == "too_large"


def test_an_answer_stops_at_the_limit_and_not_before(wire: Transport, server: MisbehavingServer) -> None:
    received = 0
    with pytest.raises(WireError):
        for chunk in send(wire, server.url("endless-json"), seconds=60).chunks():
            assert chunk
            received += len(chunk)
    assert MAX_BODY - 128 * 1024 <= received <= MAX_BODY


# --- whatever comes
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    cuts=st.lists(st.integers(0, 3000), max_size=5),
)
def test_a_chunked_body_is_the_same_however_packets_cut_it(
    wire: Transport, server: MisbehavingServer, pieces: list[bytes], cuts: list[int]
) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"

    def play(client: Client) -> None:
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        for start, end in pairwise(edges):
            client.write(data[start:end])

    with Playing(play) as name:
        assert read(send(wire, server.url(name))) == b"".join(pieces)


@FUZZ
@given(
    good=st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\r\n\r\nhello",
        ]
    ),
    edits=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4),
)
def test_whatever_bytes_come_there_is_an_answer_or_a_wire_error(
    wire: Transport, server: MisbehavingServer, good: bytes, edits: list[tuple[int, int, bytes]]
) -> None:
    data = good
    for place, length, new in edits:
        data = data[:place] + new + data[place + length :]

    with Playing(lambda client: client.write(data)) as name:
        try:
            response = send(wire, server.url(name), seconds=5)
            assert 200 <= response.status <= 999
            read(response)
        except WireError as error:
            assert error.sent
            assert error.kind in ("protocol", "reset", "too_large", "encoding")


# --- the server's own table


def test_the_table_of_scenarios_is_complete() -> None:
    listed = set()
    for row in (line for line in (scenarios.__doc__ or "").splitlines() if line.startswith("| `")):
        last = ""
        for name in row.split("|")[1].replace(",", " ").replace("`", " ").split():
            last = last.rpartition("-")[0] + name if name.startswith("-") else name
            listed.add(last)
    assert listed == set(SCENARIOS)
    assert len(listed) > 150


def test_a_json_answer_is_given_where_a_stream_was_asked_for(wire: Transport, server: MisbehavingServer) -> None:
    response = send(wire, server.url("ok-json"))
    assert (response.headers["content-type"], read(response)) == ("application/json", completion())
