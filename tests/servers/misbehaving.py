"""An OpenAI-compatible server on a free loopback port that misbehaves on request.

The first part of the path after `/v1/` names what it does; `servers/scenarios.py` has the table:

    with MisbehavingServer() as server:
        llm_call("--base-url", server.base_url("429-then-ok"))     # http://127.0.0.1:PORT/v1/429-then-ok
        assert len(server.requests) == 2

`MisbehavingServer(tls=True)` speaks TLS with a certificate for 127.0.0.1, ::1 and localhost, whose authority is in
the file `server.cafile`. `server.requests` has every request as it came, with headers and body. `server.stranger` is
a second server, to which redirects lead: what it received, a client has given away.

Nothing sleeps to synchronise: a scenario that waits does so until the client goes away or the server is closed.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

MAX_HEAD = 1 << 20


class Gone(Exception):
    """The client went away, or the server is being closed."""


@dataclass
class Request:
    """One request as it came. `headers` have lower-case names. `cancelled` is set once the client has gone away
    before the scenario's end."""

    method: str
    path: str
    scenario: str
    headers: dict[str, str]
    raw_head: bytes
    body: bytes = b""
    cancelled: threading.Event = field(default_factory=threading.Event)


class Client:
    """The client's end of one exchange, in a scenario's hands."""

    def __init__(self, server: MisbehavingServer, sock: socket.socket) -> None:
        self.server = server
        self.socket = sock
        self.request = Request("", "", "", {}, b"")
        self.number = 0  # this request's place among those of its scenario, from 1
        self._buffer = b""

    def read_head(self) -> Request:
        while b"\r\n\r\n" not in self._buffer:
            data = self._receive()
            if not data or len(self._buffer) > MAX_HEAD:
                raise Gone
            self._buffer += data
            if self._buffer.startswith(b"\x16\x03"):  # TLS, to a server that does not speak it
                self.head(400, "Content-Length: 0")
                raise Gone
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        parts = path.partition("?")[0].split("/")
        self.request = Request(method, path, parts[2] if len(parts) > 2 else "", headers, head)
        return self.request

    def read_body(self, limit: int | None = None) -> bytes:
        """Read the rest of the body, or `limit` bytes of it, into the request's record."""
        length = int(self.request.headers.get("content-length", "0"))
        if limit is not None:
            length = min(length, limit)
        while len(self._buffer) < length:
            data = self._receive()
            if not data:
                raise Gone
            self._buffer += data
        self.request.body += self._buffer[:length]
        self._buffer = self._buffer[length:]
        return self.request.body

    def write(self, data: bytes) -> None:
        if self.server.closing.is_set():
            raise Gone
        try:
            self.socket.sendall(data)
        except OSError:
            raise Gone from None

    def head(self, status: int = 200, *headers: str, reason: str = "Reason") -> None:
        self.write("\r\n".join([f"HTTP/1.1 {status} {reason}", *headers, "", ""]).encode("latin-1"))

    def answer(self, status: int, body: bytes, *headers: str, kind: str = "application/json") -> None:
        types = [f"Content-Type: {kind}"] if kind else []
        self.head(status, *types, f"Content-Length: {len(body)}", *headers)
        self.write(body)

    def stream(self, *headers: str, kind: str = "text/event-stream") -> None:
        """The head of an event stream in chunks, with a generation id."""
        types = [f"Content-Type: {kind}"] if kind else []
        self.head(200, *types, "Transfer-Encoding: chunked", "X-Generation-Id: gen-1234", *headers)

    def chunks(self, pieces: Iterable[bytes], *, end: bool = True) -> None:
        """Each piece as a chunk and a packet of its own; `end` adds the last chunk."""
        for piece in pieces:
            self.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if end:
            self.write(b"0\r\n\r\n")

    def drip(self, data: bytes, pause: float = 0.02) -> None:
        """One byte at a time."""
        for byte in data:
            self.write(bytes([byte]))
            self.pause(pause)

    def repeat(self, data: bytes, pause: float = 0.0) -> None:
        """The same bytes until the client goes away."""
        for _ in itertools.count():
            self.write(data)
            if pause:
                self.pause(pause)

    def pause(self, seconds: float) -> None:
        if self.server.closing.wait(seconds):
            raise Gone

    def stall(self) -> None:
        """Say nothing until the client goes away."""
        while self._receive():
            pass
        raise Gone

    def hold(self) -> None:
        """Neither read nor write until the server is closed."""
        self.server.closing.wait()
        raise Gone

    def reset(self) -> None:
        """Break the connection off with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The bare socket's close: a polite TLS farewell would not be a reset.
        self.socket.close()

    def farewell(self) -> None:
        """End TLS as it should be ended, so that the client can tell the end from a cut. Nothing without TLS."""
        if isinstance(self.socket, ssl.SSLSocket):
            try:
                self.socket.unwrap()
            except OSError:
                raise Gone from None

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except OSError:
            raise Gone from None


Scenario = Callable[[Client], None]


class MisbehavingServer:
    """See the module. `now` is the clock for dates in Retry-After."""

    def __init__(
        self,
        *,
        tls: bool = False,
        host: str = "127.0.0.1",
        now: Callable[[], float] = time.time,
        with_stranger: bool = True,
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.closing = threading.Event()
        self.now = now
        self.cafile = ""
        self._host = host
        self._scheme = "https" if tls else "http"
        self._context: ssl.SSLContext | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port = 0
        self._stranger = MisbehavingServer(tls=tls, host=host, now=now, with_stranger=False) if with_stranger else None

    @property
    def stranger(self) -> MisbehavingServer:
        assert self._stranger, "a stranger has no stranger of its own"
        return self._stranger

    def base_url(self, scenario: str) -> str:
        """What `--base-url` takes."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{self._scheme}://{host}:{self.port}/v1/{scenario}"

    def url(self, scenario: str) -> str:
        return f"{self.base_url(scenario)}/chat/completions"

    def __enter__(self) -> MisbehavingServer:
        if self._scheme == "https":
            self._make_certificate()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self._host, 0))
        self._listener.listen(256)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)
        if self._stranger:
            self._stranger.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        _shut(self._listener)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for sock in connections:
            _shut(sock)
        for thread in list(self._threads):
            thread.join(5)
            assert not thread.is_alive(), "a scenario does not end when the server is closed"
        if self._directory:
            self._directory.cleanup()
        if self._stranger:
            self._stranger.__exit__()

    def _make_certificate(self) -> None:
        import trustme

        authority = trustme.CA()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "::1", "localhost").configure_cert(self._context)
        self._directory = tempfile.TemporaryDirectory()
        self.cafile = str(Path(self._directory.name) / "authority.pem")
        authority.cert_pem.write_to_path(self.cafile)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        with self._lock:
            self._threads = [old for old in self._threads if old.is_alive() or old.ident is None]
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._open.add(sock)
            self._start(self._serve, sock)

    def _serve(self, bare: socket.socket) -> None:
        from servers.scenarios import SCENARIOS, any_other_path

        sock = bare
        client = Client(self, sock)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                sock = client.socket = self._context.wrap_socket(bare, server_side=True)
                with self._lock:
                    self._open.discard(bare)
                    self._open.add(sock)
            request = client.read_head()
            with self._lock:
                self.requests.append(request)
                client.number = self._counts[request.scenario] = self._counts.get(request.scenario, 0) + 1
            scenario = SCENARIOS.get(request.scenario)
            if scenario is None or not request.path.partition("?")[0].endswith(("/chat/completions", "/completions")):
                client.read_body()
                any_other_path(client)
            else:
                if scenario.reads_body:
                    client.read_body()
                scenario.play(client)
        except (Gone, OSError):
            if not self.closing.is_set():
                client.request.cancelled.set()
        finally:
            with self._lock:
                self._open.discard(bare)
                self._open.discard(sock)
            sock.close()


def _shut(sock: socket.socket) -> None:
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass
