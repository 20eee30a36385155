"""A server that speaks HTTP/2 over TLS, and nothing else."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import h2.config
import h2.connection
import h2.events

from servers.listening import Seen, listening


@contextmanager
def http2_server(context: ssl.SSLContext, answer: list[bytes]) -> Iterator[Seen]:
    """Answers each request with status 200 and the pieces of `answer` as data frames."""
    context.set_alpn_protocols(["h2"])

    def serve(bare: socket.socket, seen: Seen) -> None:
        with context.wrap_socket(bare, server_side=True) as sock:
            connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            connection.initiate_connection()
            sock.sendall(connection.data_to_send())
            body = b""
            while data := sock.recv(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        seen.heads.append({name.decode(): value.decode() for name, value in event.headers or ()})
                    elif isinstance(event, h2.events.DataReceived):
                        body += event.data or b""
                        connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 1)
                    elif isinstance(event, h2.events.StreamEnded):
                        seen.bodies.append(body)
                        stream = event.stream_id or 1
                        connection.send_headers(stream, [(":status", "200"), ("content-type", "text/event-stream")])
                        for piece in answer:
                            connection.send_data(stream, piece)
                        connection.end_stream(stream)
                sock.sendall(connection.data_to_send())

    with listening(serve) as seen:
        yield seen
