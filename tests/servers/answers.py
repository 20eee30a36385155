"""Scenarios that are one well-framed body: JSON, pages, compressed ones, redirects, and the HTTP errors."""
# ruff: noqa: E501 - what travels on one line stands on one line

from __future__ import annotations

import gzip
import json
import zlib
from email.utils import formatdate

from servers.misbehaving import Client
from servers.pieces import SCENARIOS, USAGE, completion, error_body, scenario, whole

BROTLI_HELLO = b"\x0b\x02\x80hello\x03"
ZSTD_HELLO = b"\x28\xb5\x2f\xfd\x04\x58\x29\x00\x00hello\x89\xd4\x8a\x05"


def answered(name: str, status: int, body: bytes, *headers: str, kind: str = "application/json") -> None:
    def play(client: Client) -> None:
        client.answer(status, body, *headers, kind=kind)

    scenario(name)(play)


_RATE = "Rate limit exceeded"
_CUT_GZIP = gzip.compress(b"\x00" * (1 << 20), mtime=0)

answered("ok-json", 200, completion(), "X-Generation-Id: gen-1234")
answered("ok-length", 200, b"".join(whole()), kind="text/event-stream")
answered("json-as-text", 200, completion(), kind="text/plain")
answered("json-as-sse", 200, completion(), kind="text/event-stream")
answered("sse-as-json", 200, b"".join(whole()))
answered("sse-untyped", 200, b"".join(whole()), kind="")
answered("html-200", 200, b"<!doctype html><title>Log in</title><p>Welcome to the hotel's network", kind="text/html")
answered("html-502", 502, b"<html><head><title>502 Bad Gateway</title></head></html>", kind="text/html")
answered("empty-200", 200, b"")
answered("text-200", 200, b"upstream connect error", kind="text/plain")
answered("gzip", 200, gzip.compress(completion(), mtime=0), "Content-Encoding: gzip")
answered("deflate", 200, zlib.compress(completion()), "Content-Encoding: deflate")
answered("br", 200, BROTLI_HELLO, "Content-Encoding: br")
answered("zstd", 200, ZSTD_HELLO, "Content-Encoding: zstd")
answered("gzip-bomb", 200, _CUT_GZIP * 1024, "Content-Encoding: gzip")
answered("gzip-429", 429, gzip.compress(error_body(429, _RATE), mtime=0), "Content-Encoding: gzip", "Retry-After: 1")

answered("error-json", 200, error_body(502, "Provider returned error", error_type="provider_unavailable"))
answered("error-json-code", 200, error_body("server_error", "it broke"))
answered("error-json-text", 200, b'{"error":"model \'m\' not found"}')
answered(
    "error-choice",
    200,
    b'{"id":"gen-1234","choices":[{"index":0,"message":{"role":"assistant","content":"Hel"},"finish_reason":"error","error":{"code":502,"message":"Provider disconnected"}}],"usage":'
    + USAGE.encode()
    + b"}",
)

answered("400", 400, error_body(400, "temperature must be at most 2", error_type="invalid_request"))
answered(
    "400-context",
    400,
    error_body(400, "This endpoint's maximum context length is 8192 tokens", error_type="context_length_exceeded"),
)
answered("401", 401, error_body(401, "User not found."))
answered("402-credits", 402, error_body(402, "Insufficient credits", limit_source="openrouter_credits"))
answered(
    "402-afford",
    402,
    error_body(
        402,
        "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only afford 30104.",
    ),
)
answered(
    "402-in-flight",
    402,
    error_body(402, "In-flight budget exceeded", limit_source="openrouter_in_flight_budget"),
    "Retry-After: 2",
)
answered("402-key-limit", 402, error_body(402, "Key limit exceeded", limit_source="openrouter_key_limit"))
answered(
    "403-key-limit",
    403,
    error_body(
        403,
        "Key limit exceeded (total limit). Manage it using https://example.test/keys",
        limit_source="openrouter_key_limit",
        resets_at="2026-12-01T00:00:00Z",
    ),
)
answered(
    "403-guardrail",
    403,
    error_body(
        403,
        "Guardrail budget exceeded",
        limit_source="openrouter_guardrail_budget",
        scope="member",
        limit_usd=10,
        spend_usd=10.02,
        resets_at="2026-12-01T00:00:00Z",
    ),
)
answered(
    "403-moderation",
    403,
    error_body(
        403,
        "Your chosen model requires moderation and your input was flagged",
        reasons=["violence"],
        flagged_input="the first words of the prompt",
        provider_name="P",
    ),
)
answered("404", 404, error_body(404, "No endpoints found for m"))
answered("408", 408, error_body(408, "Request timed out"), "X-Generation-Id: gen-1234")
answered("413", 413, error_body(413, "Request too large", error_type="payload_too_large"))
answered("422", 422, error_body(422, "messages: field required", error_type="unprocessable"))
answered("451", 451, error_body(451, "Not available in your region"))
answered("429", 429, error_body(429, _RATE), "Retry-After: 1", "X-RateLimit-Limit: 20", "X-RateLimit-Remaining: 0")
answered("429-milliseconds", 429, error_body(429, _RATE), "Retry-After-Ms: 1500")
answered("429-nonsense", 429, error_body(429, _RATE), "Retry-After: soon")
answered("429-huge", 429, error_body(429, _RATE), "Retry-After: 99999999999999999999")
answered("429-negative", 429, error_body(429, _RATE), "Retry-After: -5")
answered("429-none", 429, error_body(429, _RATE))
answered(
    "429-upstream", 429, error_body(429, "m is temporarily rate-limited upstream", provider_code=429, raw="slow down")
)
answered(
    "429-quota",
    429,
    b'{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}',
)
answered("500", 500, error_body(500, "Internal Server Error"), "X-Generation-Id: gen-1234")
answered(
    "502",
    502,
    error_body(502, "Provider returned error", error_type="provider_unavailable"),
    "X-Generation-Id: gen-1234",
)
answered("503", 503, error_body(503, "No instances available"), "X-Generation-Id: gen-1234")
answered("503-retry", 503, error_body(503, "No instances available"), "Retry-After: 1")
answered("504", 504, error_body(504, "Gateway timeout"), "X-Generation-Id: gen-1234")
answered("524", 524, b"<html>a timeout occurred</html>", "X-Generation-Id: gen-1234", kind="text/html")
answered("529", 529, error_body(529, "Overloaded", error_type="provider_overloaded"))
answered("error-empty", 500, b"")
answered("error-huge", 500, error_body(500, "x" * (1 << 20)))
answered("error-escapes", 500, error_body(500, "\x1b[2J\x1b]0;owned\x07 broke\n\u202e"))
answered("error-list", 500, b"[]")


@scenario("429-date")
def _429_date(client: Client) -> None:
    date = formatdate(client.server.now() + 2, usegmt=True)
    client.answer(429, error_body(429, _RATE), f"Retry-After: {date}")


for _status in (301, 302, 303, 307, 308):

    def _redirect(client: Client, status: int = _status) -> None:
        there = client.server.stranger.base_url("ok") + client.request.path[client.request.path.rindex("/chat") :]
        client.answer(status, b"moved", f"Location: {there}", kind="text/plain")

    scenario(f"redirect-{_status}")(_redirect)


def then_ok(name: str, first: str, times: int = 1) -> None:
    def play(client: Client) -> None:
        SCENARIOS[first if client.number <= times else "ok"].play(client)

    scenario(name)(play)


then_ok("401-then-ok", "401")
then_ok("402-then-ok", "402-in-flight")
then_ok("429-then-ok", "429", 2)
then_ok("500-then-ok", "500")
then_ok("503-then-ok", "503-retry")
then_ok("529-then-ok", "529")
then_ok("reset-then-ok", "reset-head")
then_ok("error-then-ok", "error-json")


def any_other_path(client: Client) -> None:
    kind = client.request.path.partition("?")[0].rpartition("/")[2]
    if kind == "models":
        pricing = {"prompt": "0.000003", "completion": "0.000015"}
        client.answer(200, json.dumps({"data": [{"id": "m", "context_length": 8192, "pricing": pricing}]}).encode())
    elif kind == "key":
        client.answer(200, b'{"data":{"label":"sk-or-v1-abc...123","limit":null,"limit_remaining":null,"usage":0}}')
    elif kind == "generation":
        data = {"id": "gen-1234", "total_cost": 0.0096, "tokens_prompt": 1200, "tokens_completion": 400}
        client.answer(200, json.dumps({"data": data}).encode())
    else:
        client.answer(404, error_body(404, f"no scenario {client.request.scenario!r}"))
