"""The frame of a small server: a loopback port, a thread for each connection, everything closed at the end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Seen:
    """Where such a server listens, and what it received: header names are lower-case."""

    port: int = 0
    heads: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def listening(serve: Callable[[socket.socket, Seen], None]) -> Iterator[Seen]:
    listener = socket.create_server(("127.0.0.1", 0))
    seen = Seen(listener.getsockname()[1])
    connections: list[socket.socket] = []

    def play(sock: socket.socket) -> None:
        with sock:
            try:
                serve(sock, seen)
            except OSError:
                pass  # the client went away, which is its right

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            connections.append(sock)
            threading.Thread(target=play, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield seen
    finally:
        for sock in (listener, *connections):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed already
            sock.close()
