"""OpenRouter's own contract, enforced: Prism serves its OpenAPI document, and this server stands in front of it.

Prism checks every request against the document and answers with the document's examples, but it cannot stream. So
a request goes to Prism first; if the contract accepts it and it asks for a stream, the example is sent as chunks in
the form that the document gives for streams, with the usage in the last one.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class ContractServer(ThreadingHTTPServer):
    """`verdicts` are the statuses that the contract gave to the requests, `bodies` the requests."""

    daemon_threads = True

    def __init__(self, prism_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.prism_port = prism_port
        self.verdicts: list[int] = []
        self.bodies: list[dict[str, object]] = []
        self.base_url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: ContractServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._forward(b"")

    def do_POST(self) -> None:
        self._forward(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _forward(self, body: bytes) -> None:
        prism = http.client.HTTPConnection("127.0.0.1", self.server.prism_port, timeout=60)
        kept = ("authorization", "content-type", "prefer", "x-session-id", "x-agent-id", "x-cost-center")
        headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
        prism.request(self.command, self.path, body or None, {**headers, "Accept": "application/json"})
        answer = prism.getresponse()
        document = answer.read()
        self.server.verdicts.append(answer.status)
        if body:
            self.server.bodies.append(json.loads(body))
        if answer.status == 200 and body and json.loads(body).get("stream"):
            self._stream(json.loads(document))
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)

    def _stream(self, document: dict[str, object]) -> None:
        choice = document["choices"][0]  # type: ignore[index]
        base = {"id": document["id"], "object": "chat.completion.chunk", "created": 1, "model": document["model"]}
        words = choice["message"]["content"].split(" ")
        deltas = [{"role": "assistant", "content": word + " " * (word is not words[-1])} for word in words]
        chunks: list[dict[str, object]] = [
            {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
        ]
        chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
        chunks.append({**base, "choices": [], "usage": {**document["usage"], "cost": 0.00015}})  # type: ignore[dict-item]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("X-Generation-Id", str(document["id"]))
        self.end_headers()
        self.wfile.write(b": OPENROUTER PROCESSING\n\n")
        for chunk in chunks:
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")


@contextmanager
def contract_server(prism: str, document: Path) -> Iterator[ContractServer]:
    """Prism and the server before it, both on free loopback ports."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [prism, "mock", str(document), "-h", "127.0.0.1", "-p", str(port), "--errors"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as mock:
        try:
            assert mock.stdout is not None
            said = []
            for line in mock.stdout:
                said.append(line)
                if "listening" in line:
                    break
            else:
                raise AssertionError("Prism did not start: " + "".join(said))
            drain = threading.Thread(target=mock.stdout.read, daemon=True)
            drain.start()
            with ContractServer(port) as server:
                serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
                serving.start()
                yield server
                server.shutdown()
                serving.join()
        finally:
            mock.terminate()
