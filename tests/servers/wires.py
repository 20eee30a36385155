"""Both wires and what tests do with them: fixtures, a call, its failure."""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Callable, Iterator

import pytest

from callmeter.providers.http import HttpTransport
from callmeter.providers.plain import PlainTransport
from callmeter.providers.wire import Response, Transport, WireError
from servers.misbehaving import Client, MisbehavingServer
from servers.pieces import SCENARIOS, Played, whole

KEY = "sk-or-v1-0123456789abcdef-secret"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "X-Agent-ID": "code"}
STREAM = b"".join(whole())
LARGE = b"p" * (8 * 1024 * 1024)
Make = Callable[..., Transport]


@pytest.fixture(scope="module")
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as running:
        yield running


@pytest.fixture(scope="module")
def secure() -> Iterator[MisbehavingServer]:
    with MisbehavingServer(tls=True) as running:
        yield running


@pytest.fixture(params=[PlainTransport, HttpTransport], ids=["plain", "http"])
def make(request: pytest.FixtureRequest) -> Make:
    kind: Make = request.param
    return kind


@pytest.fixture
def wire(make: Make) -> Transport:
    return make()


def send(
    wire: Transport,
    url: str,
    body: bytes = b"{}",
    *,
    seconds: float = 20.0,
    connect: float = 10.0,
    before_send: Callable[[], None] | None = None,
    headers: dict[str, str] | None = None,
    method: str = "POST",
) -> Response:
    return wire.send(
        method,
        url,
        HEADERS if headers is None else headers,
        body,
        connect_timeout=connect,
        deadline=time.monotonic() + seconds,
        before_send=before_send,
    )


def read(response: Response) -> bytes:
    return b"".join(response.chunks())


def failure(wire: Transport, url: str, body: bytes = b"{}", **options: object) -> WireError:
    """The WireError with which the exchange ends, wherever it does; nothing that is shown of it holds the key."""
    with pytest.raises(WireError) as caught:
        read(send(wire, url, body, **options))  # type: ignore[arg-type]
    error = caught.value
    shown = "".join(traceback.format_exception_only(error)) + repr(error.as_json()) + repr(error.args)
    assert KEY not in shown
    assert error.__suppress_context__ or error.__context__ is None, "the cause would be printed, with what it quotes"
    return error


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


class Playing:
    """Registers a scenario for a `with` block and gives its name."""

    def __init__(self, play: Callable[[Client], None]) -> None:
        self.play = play

    def __enter__(self) -> str:
        SCENARIOS["scripted"] = Played(self.play)
        return "scripted"

    def __exit__(self, *_: object) -> None:
        del SCENARIOS["scripted"]
