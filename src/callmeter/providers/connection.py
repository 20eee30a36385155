"""One connection on which every wait ends in time: name look-up, TCP, TLS, and bytes in both directions.

Both transports stand on it. Sockets are non-blocking and every wait is a `poll` with the time that is left, so
nothing that the other side does, or leaves undone, can hold a caller past its deadline.
"""

from __future__ import annotations

import _thread
import errno
import os
import select
import socket
from time import monotonic

from callmeter.providers.wire import MAX_HEADER, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from typing import Any

_OVERTIME = 1 << 20
_PIECE = 64 * 1024
_DAY = 86400.0
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class Connection:
    """A connected socket, with TLS over it once `start_tls` returned.

    Whoever speaks HTTP over it sets `sent` before the request's first byte; errors repeat it. One thread sends
    and receives; any thread may close. The deadline ends waiting: what has arrived by then can still be read, so
    that a process which was stopped for a while does not lose an answer that is paid for.
    """

    def __init__(self, sock: socket.socket, name: str, deadline: float) -> None:
        self.name = name
        self.deadline = deadline
        self._overtime = _OVERTIME
        self.sent = False
        self.ended = False  # the other side has nothing more to say
        self._socket = sock
        self._early = bytearray()
        self._closed = False
        self._in_use = _thread.allocate_lock()
        self._want_read: tuple[type[BaseException], ...] = ()
        self._want_write: tuple[type[BaseException], ...] = (BlockingIOError,)
        _open.add(self)

    def start_tls(self, context: ssl.SSLContext, host: str, timeout: float) -> None:
        """Shake hands; the certificate must be trusted and name `host`. Raises WireError."""
        import ssl

        if self._want_read:
            raise WireError("tls", "a proxy that is itself reached over TLS cannot carry a TLS connection", sent=False)
        self._want_read = (ssl.SSLWantReadError,)
        self._want_write = (BlockingIOError, ssl.SSLWantWriteError)
        until = min(self.deadline, monotonic() + timeout)
        try:
            wrapped = context.wrap_socket(
                self._socket, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            self._socket = wrapped
            self._repeat(wrapped.do_handshake, (), select.POLLIN, until)
        except ssl.SSLCertVerificationError as error:
            raise WireError(
                "tls",
                f"the certificate of {self.name} is not trusted: {error.verify_message.rstrip('.').lower()}",
                sent=False,
            ) from None
        except (OSError, ValueError) as error:
            raise WireError("tls", f"no TLS with {self.name}: {_reason(error)}", sent=False) from None

    def tls_object(self) -> object | None:
        """The TLS object, which knows what was negotiated; None without TLS."""
        return self._socket if self._want_read else None

    def send(self, data: bytes) -> bool:
        """Send all of it; False when the other side refused or broke off first, and an answer may be waiting.

        A server that says 413 or 401 in the middle of a large body often reads no further and resets the
        connection, and a reset can destroy an answer that nobody has read: so what arrives meanwhile is read.
        """
        view = memoryview(data)
        with self._in_use:
            while view:
                try:
                    view = view[self._socket.send(view[:_PIECE]) :]
                    continue
                except self._want_write:
                    events = select.POLLOUT
                except self._want_read:
                    events = select.POLLIN
                except OSError:
                    self._check_open()
                    return False
                if len(self._early) < MAX_HEADER:
                    events |= select.POLLIN
                if self._wait(events, self.deadline) & select.POLLIN and self._answered():
                    return False
        return True

    def receive(self, size: int) -> bytes:
        """The next bytes, at most `size`; empty at the end. Over TLS only the other side's farewell is an end:
        a connection that just stops was cut. Raises WireError."""
        data: bytes
        if self._early:
            data = bytes(self._early[:size])
            del self._early[:size]
            return data
        if monotonic() >= self.deadline:
            # What has arrived is still read, for a process that was stopped meanwhile; but one who never stops
            # sending never makes anybody wait, and would be read for ever.
            self._overtime -= size
            if self._overtime < 0:
                raise WireError("timeout", f"{self.name} did not come to an end in time", sent=self.sent)
        try:
            with self._in_use:
                data = self._repeat(self._socket.recv, (size,), select.POLLIN, self.deadline)
        except OSError as error:
            self._check_open()
            self.ended = True
            raise WireError(
                "reset", f"{self.name} broke off the connection: {_reason(error)}", sent=self.sent
            ) from None
        self._check_open()
        self.ended = not data
        return data

    def close(self) -> None:
        """End it now. While another thread waits on the socket, only that wait is ended, with a WireError, and
        that thread has to close: a number closed under a waiting thread may already belong to another file."""
        self._closed = True
        _open.discard(self)
        try:
            # Not the TLS object's own shutdown: it would let a thread inside `recv` read on without TLS.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass  # it was not connected any more
        if self._in_use.acquire(False):
            try:
                self._socket.close()
            finally:
                self._in_use.release()

    def _answered(self) -> bool:
        # Whether what arrived during sending makes further sending pointless: an error status, or the end.
        try:
            data = self._socket.recv(_PIECE)
        except OSError as error:
            return not isinstance(error, (*self._want_read, *self._want_write))
        self._early += data
        if not self._early.startswith(b"HTTP/1."):
            return not data
        status = self._early.rfind(b"HTTP/1.") + 9
        return not data or bytes(self._early[status : status + 1]) in (b"3", b"4", b"5")

    def _repeat(self, operation: Callable[..., Any], arguments: tuple[Any, ...], events: int, until: float) -> Any:
        while True:
            try:
                return operation(*arguments)
            except BlockingIOError:
                pass
            except self._want_read:
                events = select.POLLIN
            except self._want_write:
                events = select.POLLOUT
            self._wait(events, until)

    def _wait(self, events: int, until: float) -> int:
        self._check_open()
        ready = _poll(self._socket, events, until)
        if not ready:
            raise WireError("timeout", f"{self.name} did not answer in time", sent=self.sent)
        return ready

    def _check_open(self) -> None:
        if self._closed:
            raise WireError("reset", f"the connection to {self.name} was closed on this side", sent=self.sent)


_open: set[Connection] = set()


def close_all() -> None:
    """End every connection of this process, as `Connection.close` does: for a batch that is told to stop."""
    for connection in list(_open):
        connection.close()


def connect(host: str, port: int, connect_timeout: float, deadline: float) -> Connection:
    """A connection to the first of the host's addresses that answers, each given `connect_timeout` seconds.

    Raises WireError of kind `dns`, `connect` or `timeout`.
    """
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    failure = WireError("connect", f"no connection to {name}", sent=False)
    for family, address in _addresses(host, port, name, min(deadline, monotonic() + connect_timeout)):
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            failure = WireError("connect", f"no connection to {name}: {_reason(error)}", sent=False)
            continue
        try:
            sock.setblocking(False)
            code = sock.connect_ex(address)
            if code == errno.EINPROGRESS:
                if not _poll(sock, select.POLLOUT, min(deadline, monotonic() + connect_timeout)):
                    failure = WireError("timeout", f"no connection to {name} in time", sent=False)
                    sock.close()
                    continue
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Connection(sock, name, deadline)
            failure = WireError("connect", f"no connection to {name}: {os.strerror(code).lower()}", sent=False)
        except OSError as error:
            failure = WireError("connect", f"no connection to {name}: {_reason(error)}", sent=False)
        except BaseException:
            sock.close()
            raise
        sock.close()
    raise failure


def trust(cafile: str | None, capath: str | None) -> ssl.SSLContext:
    """A verifying TLS context: the authorities that are given, else the system's, else certifi's.

    The system's hashed directory comes before its bundle: OpenSSL then reads the one certificate it needs,
    not all of them, which costs several times as much. Raises WireError of kind `tls`.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if cafile or capath:
        for path, exists in ((cafile, os.path.isfile), (capath, os.path.isdir)):
            if path and not exists(path):
                raise WireError("tls", f"no certificate authorities at {path}", sent=False)
    else:
        capath, cafile = _system_trust(ssl.get_default_verify_paths())
    try:
        context.load_verify_locations(cafile=cafile or None, capath=capath or None)
    except OSError as error:
        where = cafile or capath
        raise WireError(
            "tls", f"cannot use the certificate authorities at {where}: {_reason(error)}", sent=False
        ) from None
    return context


def _system_trust(built_in: ssl.DefaultVerifyPaths) -> tuple[str | None, str | None]:
    for directory in (built_in.openssl_capath, "/etc/ssl/certs", "/etc/pki/tls/certs"):
        if _is_hashed(directory):
            return directory, None
    for bundle in (built_in.openssl_cafile, *_BUNDLES):
        if os.path.isfile(bundle):
            return None, bundle
    try:
        import certifi
    except ImportError:
        raise WireError("tls", "this system has no certificate authorities, and none were named", sent=False) from None
    return None, certifi.where()


def _is_hashed(directory: str) -> bool:
    # OpenSSL looks a certificate up as the hash of its subject: eight hexadecimal digits, a dot, a number.
    try:
        with os.scandir(directory) as entries:
            return any(len(entry.name) == 10 and entry.name.endswith(".0") for entry in entries)
    except OSError:
        return False


def _addresses(host: str, port: int, name: str, until: float) -> Iterator[tuple[int, tuple[Any, ...]]]:
    found: list[Any] = []

    def look_up() -> None:
        try:
            # As bytes: a str would import the IDNA codec, which costs as much as the whole connection.
            found[:] = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
        except OSError as error:
            found[:] = [error]
        finally:
            done.release()

    done = _thread.allocate_lock()
    done.acquire()
    if ":" in host or host == "localhost" or host.replace(".", "").isdigit():
        look_up()
    else:
        # The system's resolver cannot be interrupted and may take minutes: it is left behind when time is up.
        try:
            _thread.start_new_thread(look_up, ())
        except RuntimeError:
            raise WireError("dns", f"no thread can be started to look up {host}", sent=False) from None
    if not done.acquire(timeout=max(0.0, min(until - monotonic(), _DAY))):
        raise WireError("timeout", f"the name {host} was not resolved in time", sent=False)
    for entry in found:
        if isinstance(entry, OSError):
            raise WireError("dns", f"no address for {name}: {_reason(entry)}", sent=False)
        yield entry[0], entry[4]


def _poll(sock: socket.socket, events: int, until: float) -> int:
    """The events that came, or 0 when it was too late; `select` would fail beyond the 1024th open file."""
    while (left := until - monotonic()) > 0:
        poller = select.poll()
        poller.register(sock, events)
        if ready := poller.poll(int(min(left, _DAY) * 1000) + 1):
            return ready[0][1]
    return 0


def _reason(error: BaseException) -> str:
    """The system's words for it; never bytes that the other side sent."""
    if isinstance(error, OSError):
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        return str(reason).replace("_", " ").lower()
    return type(error).__name__.lower()
