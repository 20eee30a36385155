"""Ending calls that run in other threads: signals reach the main thread only, and it tells them.

A call that is told raises in its own thread what a signal would have raised in a process of its own, so that it
is recorded as cancelled in the same way. One that is not yet on the wire will not get there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from callmeter.providers.connection import close_all
from callmeter.providers.wire import Response, Transport, WireError
from callmeter.words.errors import Stopped


class Halt:
    """One order to stop, given once, by `order`."""

    def __init__(self) -> None:
        self._given = threading.Event()
        self._reason: BaseException = KeyboardInterrupt()

    def order(self, reason: BaseException) -> None:
        """Stop everything that runs, and let nothing begin; `reason` is Stopped, or else as if by Ctrl-C. The first
        order counts."""
        if not self._given.is_set():
            self._reason = reason
            self._given.set()
        close_all()

    @property
    def given(self) -> bool:
        """Whether the order was given."""
        return self._given.is_set()

    def obey(self) -> None:
        """Raise Stopped or KeyboardInterrupt once the order was given."""
        if self._given.is_set():
            reason = self._reason
            raise Stopped(reason.exit_status) if isinstance(reason, Stopped) else KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Sleep, until the order at the longest."""
        self._given.wait(seconds)
        self.obey()

    def over(self, transport: Transport) -> Transport:
        """The transport, with exchanges that obey."""
        return _Obedient(transport, self)


class _Obedient:
    def __init__(self, transport: Transport, halt: Halt) -> None:
        self._transport = transport
        self._halt = halt

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
        """See `Transport.send`."""

        def last_moment() -> None:
            # Before the caller's: after it, the call counts as sent.
            self._halt.obey()
            if before_send:
                before_send()

        self._halt.obey()
        try:
            return _ObedientResponse(
                self._transport.send(
                    method,
                    url,
                    headers,
                    body,
                    connect_timeout=connect_timeout,
                    deadline=deadline,
                    before_send=last_moment,
                ),
                self._halt,
            )
        except WireError:
            self._halt.obey()  # it is the order that closed the connection
            raise


class _ObedientResponse:
    def __init__(self, response: Response, halt: Halt) -> None:
        self._response = response
        self._halt = halt
        self.status = response.status
        self.headers = response.headers

    def chunks(self) -> Iterator[bytes]:
        """See `Response.chunks`."""
        try:
            yield from self._response.chunks()
        except WireError:
            self._halt.obey()
            raise

    def close(self) -> None:
        """See `Response.close`."""
        self._response.close()
