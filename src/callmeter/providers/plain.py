"""The wire of the hot path: HTTP/1.1 over a socket, one request a connection, nothing else imported.

It exists beside `http` because agents start a process for each call, and importing httpcore costs more than all the
rest of that process. What it cannot do (proxies, HTTP/2) it does not try.
"""

from __future__ import annotations

from callmeter.providers.connection import connect, trust
from callmeter.providers.wire import MAX_BODY, MAX_HEADER, MAX_INTERIM, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from callmeter.providers.connection import Connection

_READ = 64 * 1024
_MAX_CHUNK_LINE = 4096
_HEX = frozenset(b"0123456789abcdefABCDEF")
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CONTROLS = bytes((*range(9), *range(10, 32), 127))  # all but the tab
_HOST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_")
# Framing and what the transport promises are not the caller's to set.
_OWN = frozenset(
    ("host", "connection", "content-length", "transfer-encoding", "accept-encoding", "expect", "te", "upgrade")
)


class PlainTransport:
    """`Transport` over sockets. `cafile` and `capath` name certificate authorities instead of the system's."""

    def __init__(self, cafile: str | None = None, capath: str | None = None) -> None:
        self._cafile = cafile
        self._capath = capath
        self._context: ssl.SSLContext | None = None

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
    ) -> PlainResponse:
        """See `Transport.send`."""
        target = Target(url)
        lines = [f"{checked_method(method)} {target.path} HTTP/1.1".encode("ascii")]
        lines += [b"%b: %b" % pair for pair in request_headers(target, method, headers, body)]
        request = b"\r\n".join((*lines, b"Connection: close", b"", body))
        if target.secure and self._context is None:
            self._context = trust(self._cafile, self._capath)
        connection = connect(target.host, target.port, connect_timeout, deadline)
        try:
            if self._context and target.secure:
                connection.start_tls(self._context, target.host, connect_timeout)
            if before_send:
                before_send()
            connection.sent = True
            connection.send(request)
            return PlainResponse(_Reader(connection), method)
        except BaseException:
            connection.close()
            raise


class Target:
    """Where a URL leads: `secure`, `host` without brackets, `port`, `authority` for the Host header, `path` with
    the query. Raises WireError `bad_url`, which never repeats the URL: it may hold a key."""

    def __init__(self, url: str, what: str = "the URL") -> None:
        scheme, separator, rest = url.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            raise _bad_url(what, "it does not begin with http:// or https://")
        if not all("!" <= character <= "~" and character != "\\" for character in url):
            raise _bad_url(what, "it holds a character that a URL cannot hold")
        rest = rest.partition("#")[0]
        end = min(place for place in (rest.find("/"), rest.find("?"), len(rest)) if place >= 0)
        authority, path = rest[:end].lower(), rest[end:]
        if "@" in authority:
            raise _bad_url(what, "it holds a user name or a password, which belong in a header")
        host, port = _host_and_port(authority, what)
        self.secure = scheme.lower() == "https"
        self.host = host
        self.port = port or (443 if self.secure else 80)
        name = f"[{host}]" if ":" in host else host
        self.authority = name if self.port == (443 if self.secure else 80) else f"{name}:{self.port}"
        self.path = path if path.startswith("/") else "/" + path


def _host_and_port(authority: str, what: str) -> tuple[str, int]:
    if authority.startswith("["):
        host, closed, tail = authority[1:].partition("]")
        digits = tail[1:]
        good = bool(closed) and tail[:1] in ("", ":") and ":" in host and set(host) <= set("0123456789abcdef:.")
    else:
        host, _, digits = authority.partition(":")
        good = bool(host) and set(host) <= _HOST
    if not good:
        raise _bad_url(what, "it has no valid host name")
    if digits and not (digits.isdigit() and len(digits) <= 5 and 0 < int(digits) < 65536):
        raise _bad_url(what, "its port is not a number from 1 to 65535")
    return host, int(digits or 0)


def checked_method(method: str) -> str:
    """The method, or WireError `bad_url` when it could end the request line."""
    if not (method.isascii() and method.isalpha()):
        raise WireError("bad_url", "the method is not one word of letters", sent=False)
    return method


def request_headers(target: Target, method: str, headers: Mapping[str, str], body: bytes) -> list[tuple[bytes, bytes]]:
    """The caller's headers and the transport's own, checked: one line each, whatever a key or a tag holds.

    Raises WireError `bad_url` that names the header but never its value.
    """
    pairs = [(b"Host", target.authority.encode("ascii"))]
    for name, value in headers.items():
        if name.lower() in _OWN:
            continue
        try:
            pair = (name.encode("ascii"), value.strip(" \t").encode("latin-1"))
        except UnicodeEncodeError:
            pair = (b"", b"")
        if not pair[0] or not _TOKEN.issuperset(pair[0]) or not _is_text(pair[1]):
            raise WireError("bad_url", f"the header {name!r:.60} holds a character that cannot be sent", sent=False)
        pairs.append(pair)
    pairs.append((b"Accept-Encoding", b"identity"))
    if body or method not in ("GET", "HEAD", "DELETE"):
        pairs.append((b"Content-Length", b"%d" % len(body)))
    return pairs


def response_headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header lines as the protocol's mapping: lower-case names, repeated ones joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = raw_name.decode("latin-1").lower()
        value = raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def declared_length(headers: Mapping[str, str]) -> int | None:
    """The body's length by Content-Length, or None without one. Raises WireError `protocol` when several
    disagree, when it is not a plain number, or when Transfer-Encoding says otherwise."""
    text = headers.get("content-length")
    if text is None:
        return None
    if "transfer-encoding" in headers:
        raise WireError("protocol", "the answer declares its length in two ways", sent=True)
    values = {part.strip(" \t") for part in text.split(",")}
    value = values.pop()
    if values or not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise WireError("protocol", "the answer's Content-Length is not one number", sent=True)
    return int(value)


def refuse_encoding(headers: Mapping[str, str]) -> None:
    """Raises WireError `encoding` when the body is compressed, though `identity` was asked for."""
    if headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise WireError("encoding", "the answer is compressed, which was not asked for", sent=True)


def refuse_coding(headers: Mapping[str, str]) -> bool:
    """Whether the body comes in chunks. Raises WireError `protocol` for every other Transfer-Encoding."""
    coding = headers.get("transfer-encoding")
    if coding is not None and coding.strip().lower() != "chunked":
        raise WireError("protocol", "the answer's Transfer-Encoding is not `chunked` alone", sent=True)
    return coding is not None


class PlainResponse:
    """`Response` over one connection, whose head it reads when it is made."""

    def __init__(self, reader: _Reader, method: str) -> None:
        self._reader = reader
        self.status, headers = _final_head(reader)
        self.headers: Mapping[str, str] = headers
        self._empty = method == "HEAD" or self.status in (204, 304)
        self._length = declared_length(self.headers)
        self._chunked = refuse_coding(self.headers)

    def chunks(self) -> Iterator[bytes]:
        """See `Response.chunks`. A compressed body is refused here, so that status and headers stay readable."""
        try:
            if self._empty:
                return
            refuse_encoding(self.headers)
            total = 0
            for data in self._framed():
                total += len(data)
                if total > MAX_BODY:
                    raise WireError("too_large", f"the answer is larger than {MAX_BODY} bytes", sent=True)
                yield data
        finally:
            self.close()

    def close(self) -> None:
        """See `Response.close`."""
        self._reader.connection.close()

    def _framed(self) -> Iterator[bytes]:
        reader = self._reader
        if self._chunked:
            return _chunked(reader)
        if self._length is None:
            return iter(lambda: reader.some(_READ), b"")
        if self._length > MAX_BODY:
            raise WireError("too_large", f"the answer is larger than {MAX_BODY} bytes", sent=True)
        return reader.exactly(self._length)


def _final_head(reader: _Reader) -> tuple[int, dict[str, str]]:
    for _ in range(MAX_INTERIM + 1):
        status = _status(reader.line(MAX_HEADER))
        headers = response_headers(_header_lines(reader))
        if status >= 200:
            return status, headers
        if status == 101:
            break
    raise WireError("protocol", "only interim answers came, never a final one", sent=True)


def _status(line: bytes) -> int:
    # "HTTP/1.1 200 OK"; the reason is often missing, and with it sometimes the space before it.
    code = line[9:12]
    if (
        line[:9] not in (b"HTTP/1.1 ", b"HTTP/1.0 ")
        or not (code.isdigit() and code >= b"100")
        or line[12:13] not in b" "
    ):
        raise WireError("protocol", "the answer is not HTTP/1.1", sent=True)
    return int(code)


def _header_lines(reader: _Reader) -> Iterator[tuple[bytes, bytes]]:
    room = MAX_HEADER
    while line := reader.line(room):
        room -= len(line)
        name, colon, value = line.partition(b":")
        # A line that begins with a space continues the one before, by a rule that HTTP has withdrawn, and is
        # refused here like every name that is not a token.
        if not colon or not name or not _TOKEN.issuperset(name) or not _is_text(value):
            raise WireError("protocol", "the answer has a malformed header line", sent=True)
        yield name, value.strip(b" \t")


def _chunked(reader: _Reader) -> Iterator[bytes]:
    while size := _chunk_size(reader.line(_MAX_CHUNK_LINE)):
        yield from reader.exactly(size)
        if reader.line(_MAX_CHUNK_LINE):
            raise WireError("protocol", "a chunk is longer than it declares", sent=True)
    for _ in _header_lines(reader):
        pass  # trailers say nothing that a call needs


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].rstrip(b" \t")
    if not 0 < len(digits) <= 15 or not _HEX.issuperset(digits):
        raise WireError("protocol", "the answer's chunks are malformed", sent=True)
    return int(digits, 16)


class _Reader:
    """Lines and counted bytes from a connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._buffer = bytearray()

    def line(self, limit: int) -> bytes:
        """The next line without its end, which may be a bare line feed. Raises WireError."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > limit:
                break
            self._fill()
        if end < 0 or end > limit:
            raise WireError("too_large", "a line or the head of the answer is too long", sent=True)
        line = bytes(self._buffer[: end - 1 if self._buffer[:end].endswith(b"\r") else end])
        del self._buffer[: end + 1]
        return line

    def some(self, size: int) -> bytes:
        """At least one byte, at most `size`; empty at the end of the connection."""
        if not self._buffer:
            return self.connection.receive(size)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def exactly(self, count: int) -> Iterator[bytes]:
        """That many bytes, in pieces as they arrive."""
        while count:
            data = self.some(min(count, _READ))
            if not data:
                raise self._cut()
            count -= len(data)
            yield data

    def _fill(self) -> None:
        data = self.connection.receive(_READ)
        if not data:
            raise self._cut()
        self._buffer += data

    def _cut(self) -> WireError:
        return WireError("reset", f"{self.connection.name} closed the connection before the answer's end", sent=True)


def _is_text(value: bytes) -> bool:
    return value.translate(None, _CONTROLS) == value


def _bad_url(what: str, reason: str) -> WireError:
    return WireError("bad_url", f"{what} cannot be used: {reason}", sent=False)
