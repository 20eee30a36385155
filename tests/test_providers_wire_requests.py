"""One contract for both wires: what leaves this machine, and to whom."""
# ruff: noqa: F401, F811 - fixtures are imported, and then asked for by name

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from callmeter.providers import connection
from callmeter.providers.wire import Transport
from servers.misbehaving import Client, MisbehavingServer
from servers.wires import KEY, LARGE, STREAM, Make, Playing, failure, make, read, resolve_to, secure, send, server, wire

# --- sending


def test_before_send_is_called_once_when_the_connection_stands(wire: Transport, server: MisbehavingServer) -> None:
    calls: list[int] = []
    before = len(server.requests)
    read(send(wire, server.url("ok"), before_send=lambda: calls.append(len(server.requests) - before)))
    assert calls == [0]


def test_before_send_is_not_called_when_there_is_no_connection(wire: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    calls: list[int] = []
    failure(wire, f"http://127.0.0.1:{port}/v1", before_send=lambda: calls.append(1))
    assert calls == []


def test_nothing_is_sent_when_before_send_refuses(make: Make, secure: MisbehavingServer) -> None:
    before = len(secure.requests)

    def refuse() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send(make(secure.cafile), secure.url("ok"), before_send=refuse)
    assert len(secure.requests) == before


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_a_large_request_reaches_a_slow_reader_whole(
    make: Make, server: MisbehavingServer, secure: MisbehavingServer, tls: bool
) -> None:
    running = secure if tls else server
    body = bytes(range(256)) * (4 * 1024 * 4)
    assert read(send(make(running.cafile or None), running.url("slow-reader"), body)) == STREAM
    assert running.requests[-1].body == body


@pytest.mark.parametrize(("name", "status"), [("early-413", 413), ("early-401-hold", 401)])
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_an_answer_that_comes_during_sending_is_read(
    make: Make, server: MisbehavingServer, secure: MisbehavingServer, name: str, status: int, tls: bool
) -> None:
    running = secure if tls else server
    wire = make(running.cafile or None)
    for _ in range(3):
        response = send(wire, running.url(name), LARGE, seconds=10)
        assert response.status == status
        assert b'"error"' in read(response)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Agent-ID", f"a\r\nX-Evil: {KEY}"),
        ("X-Agent-ID", f"a\n{KEY}"),
        ("X-Agent-ID", f"a\x00{KEY}"),
        ("X-Agent-ID", f"a\x7f{KEY}"),
        ("Authorization", f"Bearer {KEY}\u2014"),
        ("X Agent", KEY),
        ("X-Agent:", KEY),
        ("", KEY),
        ("Ä", KEY),
    ],
)
def test_a_header_cannot_become_two(wire: Transport, server: MisbehavingServer, name: str, value: str) -> None:
    before = len(server.requests)
    error = failure(wire, server.url("ok"), headers={name: value})
    assert (error.kind, error.sent) == ("bad_url", False)
    assert len(server.requests) == before


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{KEY}@127.0.0.1/v1",
        f"http://{KEY}@127.0.0.1/v1",
        f"http://127.0.0.1\\@{KEY}/",
        f"http://127.0.0.1/v1\r\nX-Evil: {KEY}",
        f"http://127.0.0.1/v1 {KEY}",
        f"http://127.0.0.1/é{KEY}",
        f"ftp://127.0.0.1/{KEY}",
        f"file:///{KEY}",
        f"127.0.0.1/{KEY}",
        f"http:/127.0.0.1/{KEY}",
        f"http:///{KEY}",
        f"http://:80/{KEY}",
        f"http://[::1/{KEY}",
        f"http://[::1]x/{KEY}",
        f"http://[host]/{KEY}",
        f"http://127.0.0.1:0/{KEY}",
        f"http://127.0.0.1:65536/{KEY}",
        f"http://127.0.0.1:8_0/{KEY}",
        f"http://127.0.0.1:+80/{KEY}",
        f"http://127.0.0.1:80:80/{KEY}",
        f"http://a,b/{KEY}",
        "",
    ],
)
def test_a_url_that_could_mislead_is_refused_and_not_repeated(wire: Transport, url: str) -> None:
    error = failure(wire, url)
    assert (error.kind, error.sent) == ("bad_url", False)
    assert ("user name" in error.message) == (url.startswith("http://") and "@127" in url)


def test_a_method_is_one_word(wire: Transport, server: MisbehavingServer) -> None:
    assert failure(wire, server.url("ok"), method="GET / HTTP/1.1\r\nX:").kind == "bad_url"


def test_a_key_that_the_server_repeats_stays_out_of_errors(wire: Transport, server: MisbehavingServer) -> None:
    def play(client: Client) -> None:
        key = client.request.headers["authorization"]
        client.write(f"HTTP/1.1 200 {key}\r\n{key}\r\n\x00{key}: {key}\r\n\r\n".encode())

    with Playing(play) as name:
        failure(wire, server.url(name))


# --- TLS


def test_a_certificate_of_an_unknown_authority_is_refused_before_the_request(
    make: Make, secure: MisbehavingServer, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    before = len(secure.requests)
    for trusting in (make(), make(str(other))):
        error = failure(trusting, secure.url("ok"))
        assert (error.kind, error.sent) == ("tls", False)
        assert "not trusted" in error.message
    assert len(secure.requests) == before


def test_a_certificate_for_another_name_is_refused(
    make: Make, secure: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, ("127.0.0.1", secure.port))
    error = failure(make(secure.cafile), "https://other.example/v1/ok/chat/completions")
    assert (error.kind, error.sent) == ("tls", False)
    assert read(send(make(secure.cafile), f"https://localhost:{secure.port}/v1/ok/chat/completions")) == STREAM


def test_https_to_a_server_that_speaks_in_the_clear_is_an_error_of_tls(make: Make, server: MisbehavingServer) -> None:
    error = failure(make(), server.url("ok").replace("http:", "https:"))
    assert (error.kind, error.sent) == ("tls", False)


def test_a_hashed_directory_of_authorities_is_enough(
    make: Make, secure: MisbehavingServer, tmp_path: Path, need: Callable[[str], str]
) -> None:
    naming = [need("openssl"), "x509", "-hash", "-noout", "-in", secure.cafile]
    name = subprocess.run(naming, capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / f"{name}.0").write_bytes(Path(secure.cafile).read_bytes())
    assert read(send(make(None, str(tmp_path)), secure.url("ok"))) == STREAM


@pytest.mark.parametrize("which", ["cafile", "capath"])
def test_authorities_that_are_named_but_missing_are_an_error_not_a_fallback(
    make: Make, secure: MisbehavingServer, tmp_path: Path, which: str
) -> None:
    missing = str(tmp_path / "missing")
    error = failure(make(**{which: missing}), secure.url("ok"))
    assert (error.kind, error.sent) == ("tls", False)
    assert missing in error.message


def test_without_named_authorities_the_system_decides_and_everything_is_checked() -> None:
    context = connection.trust(None, None)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
