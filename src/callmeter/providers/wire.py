"""The protocol that both transports keep: one POST (or GET) out, one bounded answer back, one deadline over all.

`plain` serves all calls, with sockets alone; `http` those that go through a proxy, by httpcore. One contract test
runs over both.

What a transport promises, whatever the other side does:

- It never follows a redirect: the prompt and the key stay with the host that was named.
- It asks for `identity` and refuses any other Content-Encoding, so a compressed bomb cannot unfold.
- Everything is bounded: header block 64 KiB, interim (1xx) responses 16, body `MAX_BODY`.
- `deadline` (on `time.monotonic()`) ends every wait: name look-up, connecting, TLS, sending, each read.
- A failure is a `WireError` whose `sent` says whether any byte of the request may have left this machine.
- No header value, hence no key, appears in an error's text.
"""

from __future__ import annotations

from callmeter.words.errors import CallmeterError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Protocol
else:
    Protocol = object

MAX_HEADER = 64 * 1024
MAX_INTERIM = 16
MAX_BODY = 64 * 1024 * 1024


class WireError(CallmeterError):
    """The exchange failed below the level of HTTP statuses.

    `kind` is one of `bad_url`, `dns`, `connect`, `tls`, `timeout` (the deadline or the connect timeout passed),
    `reset` (the connection broke), `protocol` (not HTTP, or broken framing), `too_large`, `encoding`.
    `sent` is False only when certainly no byte of the request left.
    """

    def __init__(self, kind: str, message: str, *, sent: bool) -> None:
        super().__init__(message, code=kind)
        self.kind = kind
        self.sent = sent


class Response(Protocol):
    """An answer whose head has been read. `headers` has lower-case names; repeated ones are joined by `, `."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives, decoded from its framing, never an empty chunk. Raises WireError when it is
        compressed, cut before its declared end, grows past MAX_BODY, or the deadline passes."""

    def close(self) -> None:
        """End the exchange at once; at most providers this stops the meter. Idempotent, callable from a signal
        handler's exception path and from another thread."""


class Transport(Protocol):
    """Sends one request at a time; safe to use from several threads."""

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
    ) -> Response:
        """Returns when the final response's head has arrived. `before_send` is called once, when the connection
        stands and before the first byte of the request. Raises WireError."""
