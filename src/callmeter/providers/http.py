"""The wire for what the plain one leaves out: proxies and HTTP/2, through httpcore, the engine inside httpx.

httpx itself has no total deadline for synchronous calls, and none can be added from outside: a dripping server
satisfies each read, and nothing interrupts a name look-up. httpcore takes the network as an argument, so here
it stands on the same `Connection` as the plain wire, where every wait already ends in time. Each call has its own
connection, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpcore

from callmeter.providers.connection import Connection, connect, trust
from callmeter.providers.plain import (
    Target,
    checked_method,
    declared_length,
    refuse_coding,
    refuse_encoding,
    request_headers,
    response_headers,
)
from callmeter.providers.wire import MAX_BODY, MAX_HEADER, WireError

if TYPE_CHECKING:
    import ssl


class HttpTransport:
    """`Transport` over httpcore, with HTTP/2 where the server speaks it.

    `proxy` is the URL of a proxy for every call, with its user name and password if it wants them. Without it,
    `environment` may be given: then its HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY decide. Without both, no
    proxy is used, whatever the process's own environment says. `cafile`, `capath`: as for `PlainTransport`.
    """

    def __init__(
        self,
        cafile: str | None = None,
        capath: str | None = None,
        *,
        proxy: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._cafile = cafile
        self._capath = capath
        self._proxy = proxy
        self._environment = environment or {}

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        connect_timeout: float,
        deadline: float,
        before_send: Callable[[], None] | None = None,
    ) -> HttpResponse:
        """See `Transport.send`."""
        target = Target(url)
        network = _Network(connect_timeout, deadline, before_send)
        request = httpcore.Request(
            checked_method(method),
            _engine_url(target),
            headers=request_headers(target, method, headers, body),
            content=body,
            extensions={"trace": network.trace},
        )
        proxy = self._proxy or _proxy_for(target, self._environment)
        pool = httpcore.ConnectionPool(
            ssl_context=trust(self._cafile, self._capath) if target.secure else None,
            proxy=self._opened_proxy(proxy) if proxy else None,
            http2=True,
            network_backend=network,
        )
        try:
            with _wire_errors(network):
                answer = pool.handle_request(request)
            return HttpResponse(answer, network, method)
        except BaseException:
            network.close()
            raise

    def _opened_proxy(self, url: str) -> httpcore.Proxy:
        scheme, separator, rest = url.partition("://")
        if not separator:
            scheme, rest = "http", url
        login, at, authority = rest.rpartition("@")
        target = Target(f"{scheme}://{authority}", "the proxy's URL")
        user, _, password = login.partition(":")
        return httpcore.Proxy(
            _engine_url(target),
            auth=(unquote(user), unquote(password)) if at else None,
            ssl_context=trust(self._cafile, self._capath) if target.secure else None,
        )


class HttpResponse:
    """`Response` over one answer of the engine."""

    def __init__(self, answer: httpcore.Response, network: _Network, method: str) -> None:
        network.head_arrived = True
        if sum(len(name) + len(value) for name, value in answer.headers) > MAX_HEADER:
            raise WireError("too_large", f"the head of the answer is longer than {MAX_HEADER} bytes", sent=True)
        if answer.status < 200:
            raise WireError("protocol", "only interim answers came, never a final one", sent=True)
        self.status: int = answer.status
        self.headers: Mapping[str, str] = response_headers(answer.headers)
        self._length = declared_length(self.headers) or 0
        self._empty = method == "HEAD" or self.status in (204, 304)
        self._answer = answer
        self._network = network
        refuse_coding(self.headers)

    def chunks(self) -> Iterator[bytes]:
        """See `Response.chunks`."""
        try:
            if self._empty:
                return
            refuse_encoding(self.headers)
            total = self._length
            if total <= MAX_BODY:
                total = 0
                with _wire_errors(self._network):
                    for data in self._answer.iter_stream():
                        total += len(data)
                        if total > MAX_BODY:
                            break
                        if data:
                            yield data
            if total > MAX_BODY:
                raise WireError("too_large", f"the answer is larger than {MAX_BODY} bytes", sent=True)
        finally:
            self.close()

    def close(self) -> None:
        """See `Response.close`. It ends the connection itself: the engine's own close is for the reading thread."""
        self._network.close()


class _Network(httpcore.NetworkBackend, httpcore.NetworkStream):
    """The network of one call, as the engine wants it: what opens connections, and the one that it opens."""

    def __init__(self, connect_timeout: float, deadline: float, before_send: Callable[[], None] | None) -> None:
        self.head_arrived = False
        self.sent = False
        self.connection: Connection | None = None
        self._connect_timeout = connect_timeout
        self._deadline = deadline
        self._before_send = before_send
        self._before_head = 0

    def trace(self, event: str, about: Mapping[str, Any]) -> None:
        """Called by the engine at each step: the request leaves after this one. A tunnel's CONNECT is not it."""
        if event.endswith(".send_request_headers.started") and about["request"].method != b"CONNECT":
            if self._before_send:
                self._before_send()
            self.sent = True
            if self.connection:
                self.connection.sent = True

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        self.connection = connect(host, port, self._connect_timeout, self._deadline)
        return self

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        self._open().start_tls(ssl_context, server_hostname or "", self._connect_timeout)
        return self

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._open().receive(max_bytes)
        if not self.head_arrived:
            # The engine has no limit for interim answers. One head and the first bytes of a body fit in here.
            self._before_head += len(data)
            if self._before_head > 2 * MAX_HEADER:
                raise WireError("too_large", f"the head of the answer is longer than {MAX_HEADER} bytes", sent=True)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer and not self._open().send(buffer):
            # After this one the engine looks for an answer that came early.
            raise httpcore.WriteError("the other side does not listen")

    def close(self) -> None:
        if self.connection:
            self.connection.close()

    def get_extra_info(self, info: str) -> Any:
        return self._open().tls_object() if info == "ssl_object" else None

    def _open(self) -> Connection:
        assert self.connection is not None, "the engine connects before it reads or writes"
        return self.connection


@contextmanager
def _wire_errors(network: _Network) -> Iterator[None]:
    # The engine's own texts quote what the server sent, which may be the key: none of them is passed on.
    try:
        yield
    except httpcore.ProxyError as error:
        status = str(error)[:3]
        why = f" with status {status}" if status.isdigit() else ""
        raise WireError("connect", f"the proxy refused the connection{why}", sent=network.sent) from None
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        ended = network.connection is None or network.connection.ended
        if ended or isinstance(error, httpcore.NetworkError):
            raise WireError("reset", "the connection ended before the answer did", sent=network.sent) from None
        raise WireError("protocol", "the answer is not HTTP", sent=network.sent) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("h2", "hpack", "h11"):
            raise
        raise WireError("protocol", "the answer is not HTTP", sent=network.sent) from None


def _engine_url(target: Target) -> httpcore.URL:
    return httpcore.URL(
        scheme="https" if target.secure else "http", host=target.host, port=target.port, target=target.path
    )


def _proxy_for(target: Target, environment: Mapping[str, str]) -> str | None:
    # In order, capitals come first, so that the lower-case spelling of a variable wins, as it does in curl.
    named = {name.lower(): value for name, value in sorted(environment.items()) if value}
    if target.host in ("localhost", "::1") or target.host.startswith("127."):
        return None  # it would be the proxy's own loopback
    for entry in named.get("no_proxy", "").lower().split(","):
        suffix = entry.strip().removeprefix(".")
        if suffix in ("*", target.host, target.authority) or (suffix and target.host.endswith("." + suffix)):
            return None
    return named.get("https_proxy" if target.secure else "http_proxy") or named.get("all_proxy")
