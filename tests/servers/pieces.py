"""What scenarios are built from: their register, and the parts of an OpenAI-compatible answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from servers.misbehaving import Scenario

TEXT = "Hello, world"
WIDE = "Grüße, 世界 🌍 a\u0301"
USAGE = (
    '{"prompt_tokens":1200,"completion_tokens":400,"total_tokens":1600,"cost":0.0096,"is_byok":false,'
    '"cost_details":{"upstream_inference_cost":null},"prompt_tokens_details":{"cached_tokens":0},'
    '"completion_tokens_details":{"reasoning_tokens":0}}'
)
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Played:
    play: Scenario
    reads_body: bool = True


SCENARIOS: dict[str, Played] = {}


def scenario(name: str, *, reads_body: bool = True) -> Callable[[Scenario], Scenario]:
    def register(play: Scenario) -> Scenario:
        assert name not in SCENARIOS, name
        SCENARIOS[name] = Played(play, reads_body)
        return play

    return register


def event(data: str) -> bytes:
    return b"data: " + data.encode() + b"\n\n"


def delta(text: object, finish: str | None = None, **more: object) -> str:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text, **more}, "finish_reason": finish}
    return json.dumps({"id": "gen-1234", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def usage_event(usage: str = USAGE) -> bytes:
    return event(f'{{"id":"gen-1234","object":"chat.completion.chunk","model":"m","choices":[],"usage":{usage}}}')


def said(text: str = TEXT, finish: str | None = "stop") -> list[bytes]:
    """The text in three events, and the event with the finish reason."""
    third = max(1, len(text) // 3)
    parts = [text[:third], text[third : 2 * third], text[2 * third :]]
    return [event(delta(part)) for part in parts] + ([event(delta("", finish))] if finish else [])


def whole(text: str = TEXT, usage: str = USAGE) -> list[bytes]:
    return [*said(text), usage_event(usage), DONE]


def completion(text: object = TEXT, finish: str | None = "stop", usage: str | None = USAGE) -> bytes:
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    document = json.dumps({"id": "gen-1234", "object": "chat.completion", "model": "m", "choices": choices})
    return (document if usage is None else f'{document[:-1]},"usage":{usage}}}').encode()


def error_body(code: object, message: str, **metadata: object) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "metadata": metadata or None}}).encode()
