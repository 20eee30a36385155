"""What only one of the wires does: the plain one's cheapness; the http one's proxies and HTTP/2."""
# ruff: noqa: F401, F811 - fixtures are imported, and then asked for by name

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from callmeter.providers.http import HttpTransport
from callmeter.providers.plain import PlainTransport
from servers.http2 import http2_server
from servers.misbehaving import Client, MisbehavingServer
from servers.pieces import whole
from servers.proxy import proxy_to
from servers.wires import KEY, STREAM, Playing, failure, make, read, resolve_to, secure, send, server, wire

# --- only the plain wire


def test_the_plain_wire_refuses_folded_headers(server: MisbehavingServer) -> None:
    assert failure(PlainTransport(), server.url("folded")).kind == "protocol"


def test_the_plain_wire_bounds_what_stands_beside_a_chunk(server: MisbehavingServer) -> None:
    def play(client: Client) -> None:
        client.stream()
        client.write(b"5;" + b"x" * 5000 + b"\r\nhello\r\n0\r\n\r\n")

    with Playing(play) as name:
        assert failure(PlainTransport(), server.url(name)).kind == "too_large"


def test_the_plain_wire_imports_next_to_nothing(server: MisbehavingServer) -> None:
    code = f"""
import sys
from time import monotonic
before = set(sys.modules)
from callmeter.providers.events import events
from callmeter.providers.plain import PlainTransport
wire = PlainTransport()
response = wire.send("POST", {server.url("ok")!r}, {{}}, b"{{}}", connect_timeout=5, deadline=monotonic() + 20)
assert len(list(events(response.chunks()))) == 6
print(*sorted(set(sys.modules) - before))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "typing",
        "dataclasses",
        "contextlib",
        "pathlib",
        "uuid",
        "re",
        "logging",
        "ssl",
        "http",
        "urllib",
        "httpx",
    }
    assert set(run.stdout.split()).isdisjoint(heavy | {"httpcore", "asyncio", "encodings.idna", "threading", "random"})


# --- only the http wire


def test_the_http_wire_speaks_http2_where_the_server_does(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    calls: list[int] = []
    with http2_server(context, whole()) as seen:
        wire = HttpTransport(str(tmp_path / "ca.pem"))
        url = f"https://127.0.0.1:{seen.port}/v1/chat/completions"
        body = b"p" * 300_000
        response = send(wire, url, body, before_send=lambda: calls.append(len(seen.heads)))
        assert (response.status, read(response)) == (200, STREAM)
    assert calls == [0]
    assert seen.heads[0]["authorization"] == f"Bearer {KEY}"
    assert seen.heads[0][":authority"] == f"127.0.0.1:{seen.port}"
    assert seen.bodies == [body]


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_a_proxy_from_the_environment_carries_the_call(
    server: MisbehavingServer, secure: MisbehavingServer, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    running = secure if tls else server
    name = "localhost" if tls else "models.example"
    url = running.url("ok").replace("127.0.0.1", name)
    calls: list[int] = []
    with proxy_to(running.port) as proxy:
        address = f"http://me:pass%20word@127.0.0.1:{proxy.port}"
        if tls:  # loopback never goes through the environment's proxy, so a test has to name it
            wire = HttpTransport(running.cafile, proxy=address)
        else:
            wire = HttpTransport(environment={"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": address})
        before = len(running.requests)
        response = send(wire, url, before_send=lambda: calls.append(len(running.requests) - before))
        assert read(response) == STREAM
    assert calls == [0]
    assert proxy.heads[0]["proxy-authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    if tls:
        assert proxy.heads[0][""].startswith("CONNECT localhost:")
        assert KEY not in str(proxy.heads)


@pytest.mark.parametrize("status", [407, 502])
def test_a_proxy_that_refuses_has_passed_nothing_on(secure: MisbehavingServer, status: int) -> None:
    with proxy_to(secure.port, status=status) as proxy:
        wire = HttpTransport(secure.cafile, proxy=f"http://me:{KEY}@127.0.0.1:{proxy.port}")
        error = failure(wire, secure.url("ok"))
    assert (error.kind, error.sent) == ("connect", False)
    assert str(status) in error.message


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"http_proxy": "http://127.0.0.1:1", "no_proxy": "other.example, .models.example"},
        {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "*"},
        {"https_proxy": "http://127.0.0.1:1"},
    ],
)
def test_no_proxy_is_used_where_none_is_named(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    resolve_to(monkeypatch, ("127.0.0.1", server.port))
    url = f"http://a.models.example:{server.port}/v1/ok/chat/completions"
    assert read(send(HttpTransport(environment=environment), url)) == STREAM


def test_loopback_is_not_reached_through_the_proxy_of_the_environment(server: MisbehavingServer) -> None:
    wire = HttpTransport(environment={"http_proxy": "http://127.0.0.1:1", "all_proxy": "http://127.0.0.1:1"})
    assert read(send(wire, server.url("ok"))) == STREAM


@pytest.mark.parametrize("proxy", [f"socks5://127.0.0.1:1/{KEY}", f"http://{KEY}:x@", f"http://{KEY} x:1"])
def test_a_proxy_that_cannot_be_used_is_named_as_the_culprit(server: MisbehavingServer, proxy: str) -> None:
    error = failure(HttpTransport(proxy=proxy), server.url("ok"))
    assert (error.kind, error.sent) == ("bad_url", False)
    assert "proxy" in error.message
