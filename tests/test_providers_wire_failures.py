"""One contract for both wires: deadlines, connections that fail, and closing."""
# ruff: noqa: F401, F811 - fixtures are imported, and then asked for by name

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from callmeter.providers import connection
from callmeter.providers.events import events
from callmeter.providers.wire import Transport, WireError
from conftest import lacking
from servers.misbehaving import MisbehavingServer
from servers.wires import LARGE, STREAM, Make, failure, make, read, resolve_to, secure, send, server, wire

# --- time


@pytest.mark.parametrize(
    "name",
    [
        "stall-head",
        "stall-body",
        "stall-mid-stream",
        "drip",
        "drip-head",
        "drip-comments",
        "slow-interim",
        "error-stall",
        "never-reads",
    ],
)
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_the_deadline_ends_every_wait(
    make: Make, server: MisbehavingServer, secure: MisbehavingServer, name: str, tls: bool
) -> None:
    running = secure if tls else server
    body = LARGE if name == "never-reads" else b"{}"
    for seconds in (0.25, 1.0, 4.0):  # a busy machine may take longer to connect than the first ones
        began = time.monotonic()
        error = failure(make(running.cafile or None), running.url(name), body, seconds=seconds)
        assert error.kind == "timeout"
        assert seconds <= time.monotonic() - began < seconds + 10
        if error.sent:
            break
    assert error.sent


def test_a_deadline_that_has_passed_sends_nothing(wire: Transport, server: MisbehavingServer) -> None:
    before = len(server.requests)
    error = failure(wire, server.url("ok"), seconds=-1)
    assert (error.kind, error.sent) == ("timeout", False)
    assert len(server.requests) == before


def test_the_connect_timeout_ends_a_connection_that_nobody_accepts(wire: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        queue = [socket.socket() for _ in range(4)]
        for waiting in queue:  # a full queue drops what comes after
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        began = time.monotonic()
        error = failure(wire, f"http://127.0.0.1:{listener.getsockname()[1]}/v1", connect=0.3)
        assert (error.kind, error.sent) == ("timeout", False)
        assert time.monotonic() - began < 10
        for waiting in queue:
            waiting.close()


@pytest.mark.parametrize("ended_by", ["connect", "deadline"])
def test_a_name_look_up_that_never_ends_is_left_behind(
    wire: Transport, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    over = threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        over.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    began = time.monotonic()
    limits = (0.3, 30.0) if ended_by == "connect" else (30.0, 0.3)
    error = failure(wire, "http://slow.example/v1", connect=limits[0], seconds=limits[1])
    over.set()
    assert (error.kind, error.sent) == ("timeout", False)
    assert time.monotonic() - began < 10


def test_a_tls_handshake_that_never_ends_is_left(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = failure(make(), f"https://127.0.0.1:{listener.getsockname()[1]}/v1", connect=0.3)
        assert (error.kind, error.sent) == ("timeout", False)


def test_what_arrived_before_the_deadline_can_be_read_after_it(
    wire: Transport, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = send(wire, server.url("interim"))  # head and body in one packet
    monkeypatch.setattr(connection, "monotonic", lambda: float("inf"))
    assert read(response) == STREAM


# --- connections that fail


@pytest.mark.parametrize("name", ["close-head", "close-mid-head", "reset-head", "reset-unread"])
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_an_end_before_the_answer_is_a_reset_after_sending(
    make: Make, server: MisbehavingServer, secure: MisbehavingServer, name: str, tls: bool
) -> None:
    running = secure if tls else server
    error = failure(make(running.cafile or None), running.url(name), LARGE if name == "reset-unread" else b"{}")
    assert (error.kind, error.sent) == ("reset", True)


@pytest.mark.parametrize("name", ["close-mid-chunk", "close-mid-event", "close-early", "reset-mid-stream"])
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_an_answer_that_is_cut_is_never_taken_for_whole(
    make: Make, server: MisbehavingServer, secure: MisbehavingServer, name: str, tls: bool
) -> None:
    running = secure if tls else server
    error = failure(make(running.cafile or None), running.url(name))
    assert (error.kind, error.sent) == ("reset", True)


def test_over_tls_an_unframed_answer_without_a_farewell_is_cut(make: Make, secure: MisbehavingServer) -> None:
    error = failure(make(secure.cafile), secure.url("until-close-cut"))
    assert (error.kind, error.sent) == ("reset", True)


def test_a_closed_port_is_known_to_have_received_nothing(wire: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = failure(wire, f"http://127.0.0.1:{port}/v1")
    assert (error.kind, error.sent) == ("connect", False)
    assert "connection refused" in error.message
    assert f"127.0.0.1:{port}" in error.message


def test_an_unknown_name_is_known_to_have_received_nothing(wire: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    error = failure(wire, "https://nowhere.example/v1")
    assert (error.kind, error.sent) == ("dns", False)


def test_every_address_of_a_name_is_tried(
    wire: Transport, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    resolve_to(monkeypatch, ("127.0.0.1", closed), ("127.0.0.1", server.port))
    assert read(send(wire, "http://models.example/v1/ok/chat/completions")) == STREAM


def test_an_ipv6_address_stands_in_brackets(wire: Transport) -> None:
    try:
        server = MisbehavingServer(host="::1").__enter__()
    except OSError:
        lacking("an IPv6 loopback: `sysctl net.ipv6.conf.lo.disable_ipv6=0`")
    try:
        assert read(send(wire, server.url("ok"))) == STREAM
        assert server.requests[-1].headers["host"] == f"[::1]:{server.port}"
    finally:
        server.__exit__()


# --- closing


def test_closing_stops_the_server(wire: Transport, server: MisbehavingServer) -> None:
    response = send(wire, server.url("endless-tokens"))
    next(iter(response.chunks()))
    response.close()
    response.close()
    assert server.requests[-1].cancelled.wait(60)


def test_leaving_the_chunks_early_closes_the_connection(wire: Transport, server: MisbehavingServer) -> None:
    for _ in send(wire, server.url("endless-tokens")).chunks():
        break
    assert server.requests[-1].cancelled.wait(60)


@pytest.mark.parametrize("name", ["stall-mid-stream", "stall-unframed"])
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_another_thread_can_end_a_read_that_waits(
    make: Make, server: MisbehavingServer, secure: MisbehavingServer, name: str, tls: bool
) -> None:
    running = secure if tls else server
    response = send(make(running.cafile or None), running.url(name))
    chunks = response.chunks()
    next(chunks)
    closer = threading.Timer(0.05, response.close)
    closer.start()
    began = time.monotonic()
    with pytest.raises(WireError) as caught:
        next(chunks)
    closer.join()
    assert caught.value.kind == "reset"
    assert time.monotonic() - began < 15, "not the deadline"
    assert running.requests[-1].cancelled.wait(60)


def test_no_file_stays_open(wire: Transport, server: MisbehavingServer) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        lacking("/proc/self/fd, which lists open files")

    def mine() -> int:
        # The server's ends are files of this process too; it closes them in its own time.
        ends = [socket.socket(fileno=int(entry.name)) for entry in descriptors.iterdir() if _is_socket(entry)]
        count = 0
        for end in ends:
            try:
                # Sockets of the file system are other tests', in the same process.
                count += end.family != socket.AF_UNIX and end.getpeername()[1] == server.port
            except OSError:
                pass  # not connected
            end.detach()
        return count

    before = mine()
    kept: list[object] = []  # else a lost object would close its socket by the way
    for name in ("ok", "close-mid-chunk", "length-conflict", "gzip", "huge-header", "status-204", "reset-head"):
        try:
            kept.append(response := send(wire, server.url(name)))
            read(response)
        except WireError as error:
            kept.append(error)
    assert mine() == before


def _is_socket(entry: Path) -> bool:
    try:
        return entry.readlink().name.startswith("socket:")
    except OSError:
        return False


def test_one_wire_serves_many_threads(make: Make, secure: MisbehavingServer) -> None:
    wire = make(secure.cafile)

    def one(number: int) -> bool:
        return f'"number {number}"' in "".join(
            events(send(wire, secure.url("echo"), f'"number {number}"'.encode()).chunks())
        ).replace("\\", "").replace('"number', '"number')

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(64)))
