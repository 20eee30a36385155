"""A gate before an OpenAI-compatible server, which lets in whoever has one of its keys; keys come and go at any time.

with KeyGate(local_model.base_url, local_model.api_key) as gate:
    gate.keys.add("sk-one")
"""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit


class KeyGate:
    """`used` counts the answered requests of each key; `refused` are the keys that were not let in."""

    def __init__(self, upstream: str, upstream_key: str) -> None:
        self.keys: set[str] = set()
        self.used: dict[str, int] = {}
        self.refused: list[str] = []
        where = urlsplit(upstream)
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                if key not in gate.keys:
                    gate.refused.append(key)
                    self._say(401, "application/json", b'{"error":{"code":401,"message":"no such key"}}')
                    return
                server = http.client.HTTPConnection(where.hostname or "", where.port)
                headers = {"Authorization": f"Bearer {upstream_key}", "Content-Type": "application/json"}
                server.request(self.command, where.path + self.path.removeprefix("/v1"), body, headers)
                answer = server.getresponse()
                data = answer.read()
                self._say(answer.status, answer.headers["Content-Type"], data)
                gate.used[key] = gate.used.get(key, 0) + 1

            do_POST = do_GET  # noqa: N815

            def _say(self, status: int, media: str, data: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", media)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> KeyGate:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
