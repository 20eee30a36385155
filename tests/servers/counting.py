"""A small OpenAI-compatible endpoint on loopback that behaves, echoes, and remembers what it was asked.

    with CountingServer() as server:
        llm_call("--base-url", server.base_url, "-m", "m", "hello")      # answer to hello
        assert server.prompts == ["hello"]

A prompt in `server.answers` gets that text instead; one in `server.failing` gets status 400. One that begins with
`hold` gets no byte, and one that begins with `drip` its first word and no more, until `release()`; who waits for
`server.arrived(n)` knows that n requests have come.
"""

from __future__ import annotations

import json
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

COST = "0.000125"


class CountingServer:
    """`prompts` are the last user messages in the order of their arrival, `bodies` the whole requests; `cancelled`
    are the prompts whose clients went away before the answer."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        self.answers: dict[str, str] = {}
        self.failing: set[str] = set()
        self.finish_reason = "stop"
        self._changed = threading.Condition()
        self._open: list[object] = []
        self._ended: list[object] = []
        self._release, self._released = socket.socketpair()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 512

            def process_request(self, request: Any, client_address: Any) -> None:
                server._open.append(client_address)
                super().process_request(request, client_address)

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                super().process_request_thread(request, client_address)
                with server._changed:
                    server._open.remove(client_address)
                    server._ended.append(client_address)
                    server._changed.notify_all()

        self._server = Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> CountingServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._release.close()

    @property
    def prompts(self) -> list[str]:
        return [_prompt(body) for body in self.bodies]

    def arrived(self, count: int) -> None:
        """Wait until that many requests have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.bodies) >= count, 120), self.prompts

    def gone(self, count: int) -> None:
        """Wait until that many clients have gone away before their answer."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.cancelled) >= count, 120), self.cancelled

    def all_ended(self) -> None:
        """Wait until every request has been read and its connection is over, for clients that have gone already."""
        with socket.create_connection(self._server.server_address[:2]) as last:  # accepted after all others
            name = last.getsockname()
        with self._changed:
            assert self._changed.wait_for(lambda: name in self._ended and not self._open, 120), self._open

    def release(self) -> None:
        """Let everything go on that is held, and hold nothing any more."""
        self._release.send(b"x")

    def hold_again(self) -> None:
        """Hold what comes from now on, as before the release."""
        self._released.recv(16)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        prompt = _prompt(body)
        with self._changed:
            self.bodies.append(body)
            number = len(self.bodies)
            self._changed.notify_all()
        if prompt in self.failing:
            self._say(handler, 400, "application/json", b'{"error":{"code":400,"message":"no"}}')
            return
        try:
            self._stream(handler, prompt, number)
        except ConnectionError:
            with self._changed:
                self.cancelled.append(prompt)
                self._changed.notify_all()

    def _stream(self, handler: BaseHTTPRequestHandler, prompt: str, number: int) -> None:
        if prompt.startswith("hold"):
            self._hold(handler)
        words = self.answers.get(prompt, f"answer to {prompt}")
        head, rest = words[:6], words[6:]
        started = prompt.startswith("drip")
        if started:
            self._say(handler, 200, "text/event-stream", _chunk({"content": head}), f"gen-{number}")
            self._hold(handler)
        stream = b"" if started else _chunk({"content": head})
        stream += _chunk({"content": rest}) + _chunk({}, self.finish_reason)
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "cost": float(COST)}
        stream += b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
        stream += b"data: [DONE]\n\n"
        if started:
            handler.wfile.write(stream)
        else:
            self._say(handler, 200, "text/event-stream", stream, f"gen-{number}")

    def _hold(self, handler: BaseHTTPRequestHandler) -> None:
        """Wait for `release`. Raises ConnectionAbortedError when the client goes away."""
        ready, _, _ = select.select([handler.connection, self._released], [], [])
        if self._released not in ready:
            raise ConnectionAbortedError

    def _say(self, handler: BaseHTTPRequestHandler, status: int, media: str, data: bytes, name: str = "") -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", media)
        handler.send_header("Connection", "close")
        if name:
            handler.send_header("X-Generation-Id", name)
        handler.end_headers()
        handler.wfile.write(data)


def _chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"model": "served-model", "choices": [choice]}).encode() + b"\n\n"


def _prompt(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else str(content[0].get("text"))
