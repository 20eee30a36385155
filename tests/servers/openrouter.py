"""OpenRouter's account, keys and guardrails with their state, as its OpenAPI document describes them; and chat
completions that cost money, so that a key's ceiling means something.

    with OpenRouter() as router:
        secret = router.give_key("code", limit="1.00", reset="monthly")
        CALLMETER_MANAGEMENT_KEY=router.management_key, base URL router.base_url

Stricter than the contract where that leaves room: unknown members, `expires_at` in a PATCH and times without `Z` are
refused. It can be made to misbehave: `fault("POST", "/keys", "half")` does it to the next request of that kind; the
`..._lag` seconds delay what is seen; `flicker` is how often a new key is refused during its first seconds.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KINDS = ("lost before", "lost after", "half", "500 before", "500 after", "429", "html", "late", "empty", "list")
COST = Decimal("0.01")
_RESETS = ("daily", "weekly", "monthly", None)
_PATCHED = {"name", "disabled", "limit", "limit_reset", "include_byok_in_limit", "workspace_id"}
_POSTED = {"name", "limit", "limit_reset", "include_byok_in_limit", "expires_at", "workspace_id", "creator_user_id"}
_RAILS = {"name", "description", "limit_usd", "reset_interval", "allowed_models", "ignored_models"}
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Refuses(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": status, "message": message, "metadata": metadata or None}}


@dataclass
class Record:
    """A key. `spent` are times and amounts; `made` is on the server's monotonic clock."""

    secret: str
    name: str
    limit: Decimal | None
    limit_reset: str | None
    expires_at: str | None
    created: datetime
    made: float
    disabled: bool = False
    # Until when, on the monotonic clock, the old state of `disabled` and `limit` is still in force.
    before: tuple[float, bool, Decimal | None] = (0.0, False, None)
    spent: list[tuple[float, datetime, Decimal]] = field(default_factory=list)
    guardrail: str = ""

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.secret.encode()).hexdigest()


class OpenRouter:
    """`requests` are (method, path) in the order of their arrival; `answered` and `refused` count the chat calls
    of each secret."""

    def __init__(self, *, page: int = 100, nested_key: bool = False, seed: int = 1) -> None:
        self.management_key = "sk-or-mgmt-" + hashlib.sha256(f"{seed}m".encode()).hexdigest()
        self.management_key_is = self.management_key
        self.page = page
        self.nested_key = nested_key
        self.shift = timedelta(0)
        self.visible_lag = self.list_lag = self.usage_lag = self.revoke_lag = 0.0
        self.flicker, self.flicker_seconds = 0.0, 3.0
        self.late_seconds = 4.0
        self.cost = COST
        self.limit_digits: Decimal | None = None  # limits are rounded to these
        self.requests: list[tuple[str, str]] = []
        self.answered: dict[str, int] = {}
        self.refused: list[tuple[str, int]] = []
        self.secrets: list[str] = []  # of every key that there ever was
        self.on_request: Callable[[str, str], None] = lambda method, path: None
        self._records: dict[str, Record] = {}
        self._guardrails: dict[str, dict[str, Any]] = {}
        self._faults: list[tuple[str, str, str]] = []
        self._random = random.Random(seed)
        self._lock = threading.RLock()
        self._serving = 0
        self._is_late_enough = False
        self._quiet = threading.Condition()
        router = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with router._quiet:
                    router._serving += 1
                try:
                    router._serve(self)
                finally:
                    with router._quiet:
                        router._serving -= 1
                        router._quiet.notify_all()

            do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

            def date_time_string(self, timestamp: float | None = None) -> str:
                return f"{router.now():%a, %d %b %Y %H:%M:%S GMT}"

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/api/v1"

    def __enter__(self) -> OpenRouter:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    # What a test arranges and looks at

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shift

    def give_key(self, name: str, *, limit: str | None = None, reset: str | None = None, expires: str = "") -> str:
        """A key that a person made on the dashboard long ago: the secret."""
        with self._lock:
            record = self._new(name, None if limit is None else Decimal(limit), reset, expires or None)
            record.made -= 1e6
            return record.secret

    def record(self, secret: str) -> Record:
        """The record of a key."""
        return self._records[hashlib.sha256(secret.encode()).hexdigest()]

    @property
    def keys(self) -> list[Record]:
        """All keys there are, disabled ones too."""
        return list(self._records.values())

    @property
    def guardrails(self) -> list[dict[str, Any]]:
        return list(self._guardrails.values())

    def working(self) -> list[Record]:
        """The keys that could make a call."""
        return [record for record in self.keys if not self._dead(record)]

    def fault(self, method: str, path: str, kind: str, times: int = 1) -> None:
        """Misbehave at the next requests whose path matches a pattern in full (`/keys`, `/keys/.+`)."""
        assert kind in KINDS, kind
        self._faults += [(method, path, kind)] * times

    def wait_until_quiet(self) -> None:
        """Until every request that came has had its effect, the late ones too: what is late comes now."""
        with self._quiet:
            self._is_late_enough = True
            self._quiet.notify_all()
            assert self._quiet.wait_for(lambda: self._serving == 0, 120)
            self._is_late_enough = False

    @property
    def faults_left(self) -> int:
        return len(self._faults)

    def window(self, record: Record, *, lag: float = 0.0) -> Decimal:
        """What counts against a key's limit now."""
        return self._spent(record, record.limit_reset, lag)

    # Serving

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        path = urlsplit(handler.path)
        route = unquote(path.path.removeprefix("/api/v1"))
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        method = handler.command
        self.requests.append((method, route))
        self.on_request(method, route)
        kind = self._fault_for(method, route)
        try:
            if kind == "late":
                with self._quiet:
                    self._quiet.wait_for(lambda: self._is_late_enough, self.late_seconds)
            if kind == "lost before":
                handler.close_connection = True
                handler.connection.close()
                return
            if kind in ("500 before", "429", "html"):
                status = {"500 before": 500, "429": 429, "html": 200}[kind]
                self._say(handler, status, b"<html>Bad gateway</html>", "text/html" if kind == "html" else "text/plain")
                return
            token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
            try:
                status, answer = self._answer(method, route, parse_qs(path.query), body, token)
            except Refuses as refusal:
                status, answer = refusal.status, refusal.body
            data = answer if isinstance(answer, bytes) else json.dumps(answer, default=float).encode()
            if kind == "lost after":
                handler.close_connection = True
                handler.connection.close()
            elif kind == "500 after":
                self._say(handler, 500, b'{"error":{"code":500,"message":"oops"}}')
            elif kind in ("empty", "list"):
                self._say(handler, status, b"{}" if kind == "empty" else b"[]")
            elif kind == "half":
                self._say(handler, status, data, declared=len(data) + 50)
                handler.close_connection = True
                handler.connection.close()
            else:
                self._say(
                    handler, status, data, "text/event-stream" if isinstance(answer, bytes) else "application/json"
                )
        except OSError:
            pass  # the client went away

    def _fault_for(self, method: str, route: str) -> str:
        with self._lock:
            for fault in self._faults:
                if fault[0] == method and re.fullmatch(fault[1], route):
                    self._faults.remove(fault)
                    return fault[2]
        return ""

    def _say(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        data: bytes,
        media: str = "application/json",
        declared: int | None = None,
    ) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", media)
        handler.send_header("Content-Length", str(len(data) if declared is None else declared))
        if status == 429:
            handler.send_header("Retry-After", "0")
        handler.end_headers()
        handler.wfile.write(data)
        handler.wfile.flush()

    def _answer(
        self, method: str, route: str, query: dict[str, list[str]], body: bytes, token: str
    ) -> tuple[int, dict[str, Any] | bytes]:
        with self._lock:
            if route == "/chat/completions" and method == "POST":
                return 200, self._chat(token, json.loads(body))
            if route == "/key" and method == "GET":
                return 200, {"data": self._own(self._holder(token))}
            if token != self.management_key_is:
                if token in {record.secret for record in self.keys}:
                    raise Refuses(403, "Only management keys can perform this operation")
                raise Refuses(401, f"User not found: no key {token}")
            if route == "/keys":
                return self._list(query) if method == "GET" else self._mint(_object(body))
            if route.startswith("/keys/"):
                return self._one(method, route.removeprefix("/keys/"), body)
            if route.startswith("/guardrails"):
                return self._rails(method, route.split("/")[2:], body, query)
        raise Refuses(404, f"no such route: {method} {route}")

    # Keys

    def _new(self, name: str, limit: Decimal | None, reset: str | None, expires: str | None) -> Record:
        secret = "sk-or-v1-" + self._random.randbytes(32).hex()
        record = Record(secret, name, limit, reset, expires, self.now(), time.monotonic())
        self._records[record.hash] = record
        self.secrets.append(secret)
        return record

    def _mint(self, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        _require(fields, _POSTED)
        if not isinstance(fields.get("name"), str) or not fields["name"]:
            raise Refuses(400, "name: Required")
        expires = fields.get("expires_at")
        if expires is not None and not _UTC.fullmatch(str(expires)):
            raise Refuses(400, "expires_at: Invalid datetime")
        record = self._new(fields["name"], _limit(fields), _reset(fields), expires)
        data = self._shown(record)
        if self.nested_key:
            return 201, {"data": {**data, "key": record.secret}}
        return 201, {"data": data, "key": record.secret}

    def _list(self, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        offset = int(query.get("offset", ["0"])[0])
        disabled = query.get("include_disabled", ["false"])[0] == "true"
        ripe = time.monotonic() - self.list_lag
        listed = [each for each in self.keys if each.made <= ripe and (disabled or not each.disabled)]
        return 200, {"data": [self._shown(each) for each in listed[offset : offset + self.page]]}

    def _one(self, method: str, hash: str, body: bytes) -> tuple[int, dict[str, Any]]:
        record = self._records.get(hash)
        if record is None:
            raise Refuses(404, "API key not found")
        if method == "DELETE":
            del self._records[hash]
            return 200, {"deleted": True}
        if method == "PATCH":
            fields = _object(body)
            _require(fields, _PATCHED)
            record.before = (time.monotonic() + self.revoke_lag, record.disabled, record.limit)
            if "limit" in fields:
                record.limit = _limit(fields)
                if record.limit is not None and self.limit_digits is not None:
                    record.limit = record.limit.quantize(self.limit_digits)
            if "limit_reset" in fields:
                record.limit_reset = _reset(fields)
            record.disabled = bool(fields.get("disabled", record.disabled))
            record.name = fields.get("name", record.name)
        return 200, {"data": self._shown(record)}

    def _shown(self, record: Record) -> dict[str, Any]:
        used = {f"usage_{name}": self._spent(record, name, self.usage_lag) for name in ("daily", "weekly", "monthly")}
        window = self._spent(record, record.limit_reset, self.usage_lag)
        return {
            "hash": record.hash,
            "name": record.name,
            "label": f"{record.secret[:12]}...{record.secret[-3:]}",
            "disabled": record.disabled,
            "limit": record.limit,
            "limit_remaining": None if record.limit is None else record.limit - window,
            "limit_reset": record.limit_reset,
            "include_byok_in_limit": False,
            "usage": self._spent(record, None, self.usage_lag),
            **used,
            "byok_usage": 0,
            "byok_usage_daily": 0,
            "byok_usage_weekly": 0,
            "byok_usage_monthly": 0,
            "created_at": record.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "updated_at": None,
            "expires_at": record.expires_at,
            "creator_user_id": None,
            "workspace_id": "0df9e665-d932-5740-b2c7-b52af166bc11",
        }

    def _own(self, record: Record) -> dict[str, Any]:
        shown = self._shown(record)
        names = ("label", "limit", "limit_remaining", "limit_reset", "usage", "include_byok_in_limit")
        return {name: shown[name] for name in names} | {"is_management_key": False, "is_free_tier": False}

    def _spent(self, record: Record, window: str | None, lag: float) -> Decimal:
        start = _start(self.now(), window)
        until = time.monotonic() - lag
        return sum((cost for at, when, cost in record.spent if at <= until and when >= start), Decimal(0))

    # Calls

    def _dead(self, record: Record) -> bool:
        until, was_disabled, _ = record.before
        disabled = was_disabled if time.monotonic() < until else record.disabled
        expired = record.expires_at is not None and datetime.fromisoformat(record.expires_at) <= self.now()
        return disabled or expired

    def _holder(self, token: str) -> Record:
        record = self._records.get(hashlib.sha256(token.encode()).hexdigest())
        if record is None or self._dead(record):
            raise Refuses(401, "User not found.")
        age = time.monotonic() - record.made
        flickers = age < self.flicker_seconds and self._random.random() < self.flicker
        if age < self.visible_lag or flickers:
            raise Refuses(401, "No auth credentials found")
        return record

    def _chat(self, token: str, body: dict[str, Any]) -> bytes:
        try:
            if token == self.management_key:
                raise Refuses(401, "Management keys cannot be used for completions")
            record = self._holder(token)
            if record.limit is not None and self.window(record) + self.cost > record.limit:
                message = "Key limit exceeded (total limit)."
                raise Refuses(403, message, limit_source="openrouter_key_limit")
            self._check_models(record, str(body.get("model")))
        except Refuses as refusal:
            self.refused.append((token, refusal.status))
            raise
        record.spent.append((time.monotonic(), self.now(), self.cost))
        self.answered[token] = self.answered.get(token, 0) + 1
        usage = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10, "cost": self.cost}
        choice = {"index": 0, "delta": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
        head = {
            "id": f"gen-{len(record.spent)}",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": body["model"],
        }
        return (
            b"".join(
                b"data: " + json.dumps(each, default=float).encode() + b"\n\n"
                for each in ({**head, "choices": [choice]}, {**head, "choices": [], "usage": usage})
            )
            + b"data: [DONE]\n\n"
        )

    def _check_models(self, record: Record, model: str) -> None:
        allowed = self._guardrails.get(record.guardrail, {}).get("allowed_models")
        if allowed and model not in allowed:
            raise Refuses(403, f"{model} is not allowed by the guardrail", limit_source="openrouter_guardrail")

    # Guardrails

    def _rails(
        self, method: str, rest: list[str], body: bytes, query: dict[str, list[str]]
    ) -> tuple[int, dict[str, Any]]:
        offset, limit = int(query.get("offset", ["0"])[0]), min(self.page, int(query.get("limit", ["50"])[0]))
        if rest == ["assignments", "keys"]:
            held = [each for each in self.keys if each.guardrail]
            rows = [{"key_hash": each.hash, "key_name": each.name, "guardrail_id": each.guardrail} for each in held]
            return 200, {"data": rows[offset : offset + limit], "total_count": len(rows)}
        if not rest:
            if method == "GET":
                return 200, {"data": self.guardrails[offset : offset + limit], "total_count": len(self._guardrails)}
            fields = _object(body)
            self._check_rail(fields)
            if not fields.get("name"):
                raise Refuses(400, "name: Required")
            id = f"{len(self._guardrails) + 1:08x}-0000-4000-8000-000000000000"
            self._guardrails[id] = {"id": id, **fields, "created_at": "2026-11-01T00:00:00Z"}
            return 201, {"data": self._guardrails[id]}
        rail = self._guardrails.get(rest[0])
        if rail is None:
            raise Refuses(404, "Guardrail not found")
        if len(rest) == 1 and method == "PATCH":
            fields = _object(body)
            self._check_rail(fields)
            rail.update(fields)
        elif len(rest) == 1 and method == "DELETE":
            del self._guardrails[rest[0]]
            return 200, {"deleted": True}
        elif rest[1:] == ["assignments", "keys"]:
            hashes = _object(body)["key_hashes"]
            if not all(each in self._records for each in hashes):
                raise Refuses(400, "unknown key")
            for each in hashes:
                self._records[each].guardrail = rest[0]
            return 200, {"assigned_count": len(hashes)}
        return 200, {"data": rail}

    def _check_rail(self, fields: dict[str, Any]) -> None:
        _require(fields, _RAILS)
        if (fields.get("limit_usd") is None) != (fields.get("reset_interval") is None):
            raise Refuses(400, "limit_usd and reset_interval go together")


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body, parse_float=Decimal)
    except ValueError:
        raise Refuses(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refuses(400, "the body is not an object")
    return value


def _require(fields: dict[str, Any], known: set[str]) -> None:
    unknown = set(fields) - known
    if unknown:
        raise Refuses(400, f"unknown members: {sorted(unknown)}")


def _limit(fields: dict[str, Any]) -> Decimal | None:
    limit = fields.get("limit")
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | Decimal) or limit < 0:
        raise Refuses(400, "limit: Expected number")
    return Decimal(limit)


def _reset(fields: dict[str, Any]) -> str | None:
    reset = fields.get("limit_reset")
    if reset not in _RESETS:
        raise Refuses(400, "limit_reset: Invalid enum value")
    return reset


def _start(now: datetime, window: str | None) -> datetime:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if window == "daily":
        return midnight
    if window == "weekly":
        return midnight - timedelta(days=midnight.weekday())
    if window == "monthly":
        return midnight.replace(day=1)
    return datetime.min.replace(tzinfo=UTC)
