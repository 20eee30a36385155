"""A forward proxy that leads everything to one port on loopback, whatever host was asked for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from servers.listening import Seen, listening


@contextmanager
def proxy_to(port: int, *, status: int = 200) -> Iterator[Seen]:
    """Tunnels CONNECT and passes absolute URLs on; or answers with `status`, and repeats the request's last header
    in the reason. The request line is in `heads` under an empty name."""

    def serve(sock: socket.socket, seen: Seen) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(65536)
            if not data:
                return
            head += data
        first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        parted = [line.partition(": ") for line in lines]
        seen.heads.append({"": first, **{name.lower(): value for name, _, value in parted}})
        if status != 200:
            sock.sendall(f"HTTP/1.1 {status} no to {lines[-1]}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            method, url, version = first.split(" ")
            if method == "CONNECT":
                sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = "/" + url.split("/", 3)[3]
                upstream.sendall(head.replace(first.encode(), f"{method} {path} {version}".encode(), 1))
            back = threading.Thread(target=_copy, args=(upstream, sock), daemon=True)
            back.start()
            _copy(sock, upstream)
            back.join(5)

    with listening(serve) as seen:
        yield seen


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one side went away
