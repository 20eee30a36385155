"""Scenarios that are an event stream, well framed, with something odd in the events."""
# ruff: noqa: E501 - what travels on one line stands on one line

from __future__ import annotations

import json
from collections.abc import Iterator

from servers.misbehaving import Client
from servers.pieces import DONE, USAGE, WIDE, delta, event, said, scenario, usage_event, whole


def streamed(name: str, *pieces: bytes, end: bool = True) -> None:
    def play(client: Client) -> None:
        client.stream()
        client.chunks(pieces, end=end)

    scenario(name)(play)


def _bytes_of(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def _early_usage() -> list[bytes]:
    return [*said()[:1], usage_event(), *said()[1:], DONE]


def _growing_usage() -> Iterator[bytes]:
    for place, piece in enumerate(said(), 1):
        usage = f'{{"prompt_tokens":1200,"completion_tokens":{place * 100},"cost":{place * 24}e-4}}'
        yield piece[:-3] + f',"usage":{usage}}}\n\n'.encode()


streamed("ok", *whole())
streamed("crlf", *(piece.replace(b"\n", b"\r\n") for piece in whole()))
streamed("cr", *(piece.replace(b"\n", b"\r") for piece in whole()))
streamed("bom", b"\xef\xbb", b"\xbf" + whole()[0], *whole()[1:])
streamed("comments", b": OPENROUTER PROCESSING\n\n", *(b":\n\n" + piece + b": keep-alive\n\n" for piece in whole()))
streamed("one-byte", *_bytes_of(b"".join(whole(WIDE))))
streamed(
    "split-utf8",
    *_bytes_of(
        event(
            json.dumps(
                {"choices": [{"index": 0, "delta": {"content": WIDE}, "finish_reason": "stop"}]}, ensure_ascii=False
            )
        )
    ),
    usage_event(),
    DONE,
)
streamed(
    "line-separators",
    event('{"choices":[{"index":0,"delta":{"content":"a\u2028b\u2029c\u0085d"},"finish_reason":null}]}'),
    event(delta("\x0b\x0c", "stop")),
    usage_event(),
    DONE,
)
streamed("multi-line-data", *(piece.replace(b', "', b',\ndata: "') for piece in whole()))
streamed("no-space", *(piece.replace(b"data: ", b"data:") for piece in whole()))
streamed("other-fields", *(b"event: message\nid: 7\nretry: 10\ndatax: no\ndata-: no\n" + piece for piece in whole()))
streamed("no-final-newline", *said(), usage_event().rstrip(b"\n"))
streamed("usage-with-finish", *said(finish=None), event(delta("", "stop")[:-1] + f',"usage":{USAGE}}}'), DONE)
streamed("usage-each-chunk", *_growing_usage(), DONE)
streamed("usage-early", *_early_usage())
streamed("no-done", *said(), usage_event())
streamed(
    "reasoning",
    event(delta("", None, reasoning="hm, ")),
    event(delta(None, None, reasoning="so")),
    *said(),
    usage_event(USAGE.replace('"reasoning_tokens":0', '"reasoning_tokens":300')),
    DONE,
)

streamed("no-finish", *said(finish=None), usage_event(), DONE)
streamed("finish-length", *said(finish="length"), usage_event(), DONE)
streamed("finish-filter", *said(finish="content_filter"), usage_event(), DONE)
streamed("finish-tools", *said(finish="tool_calls"), usage_event(), DONE)
streamed("empty-text", event(delta("", "stop")), usage_event(), DONE)
streamed("null-text", event(delta(None)), event(delta(None, "stop")), usage_event(), DONE)
streamed(
    "parts-text",
    event(delta([{"type": "text", "text": "Hello, "}, {"type": "text", "text": "world"}])),
    event(delta("", "stop")),
    usage_event(),
    DONE,
)
streamed("number-text", event(delta(5, "stop")), usage_event(), DONE)
streamed("no-choices", event('{"id":"gen-1234"}'), *whole())
streamed("null-choices", event('{"id":"gen-1234","choices":null}'), *whole())
streamed("empty-choices-only", event('{"choices":[]}'), usage_event(), DONE)
streamed("close-mid-event", *said()[:2], said()[2][:20], end=False)

streamed("invalid-utf8", *said()[:1], b'data: {"choices":[{"delta":{"content":"\xff\xc3"}}]}\n\n', DONE)
streamed("not-json", *said()[:1], event('{"choices":[{"delta"'), DONE)
streamed("not-object", *said()[:1], event("5"), event("[]"), event("null"), *said()[1:], usage_event(), DONE)
streamed("nan-json", *said()[:1], event('{"choices":[],"x":NaN}'), *said()[1:], usage_event(), DONE)
streamed("nul-bytes", event(delta("a\x00b", "stop")), b"\x00\x00\n\n", usage_event(), DONE)
streamed(
    "duplicate-keys", *said(), usage_event('{"prompt_tokens":1,"completion_tokens":1,"cost":0.5,"cost":0.0096}'), DONE
)
streamed("deep-nesting", *said(), event('{"choices":[],"x":' + "[" * 100_000 + "]" * 100_000 + "}"), DONE)
streamed("giant-int", *said(), usage_event('{"prompt_tokens":' + "9" * 5000 + ',"completion_tokens":1}'), DONE)
streamed(
    "surrogates",
    event('{"choices":[{"index":0,"delta":{"content":"a\\ud800b\\udfffc"},"finish_reason":"stop"}]}'),
    usage_event(),
    DONE,
)
streamed("escapes", event(delta("\x1b[31mred\x1b]0;title\x07\x9b2J\u202eabc\u200b\x08", "stop")), usage_event(), DONE)

streamed(
    "error-first",
    event(
        '{"error":{"code":502,"message":"Provider returned error","metadata":{"error_type":"provider_unavailable"}}}'
    ),
)
streamed(
    "error-mid-stream",
    *said()[:2],
    event(
        '{"id":"gen-1234","error":{"code":502,"message":"Provider disconnected","metadata":{"error_type":"provider_unavailable"}},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}'
    ),
    DONE,
)
streamed(
    "error-mid-code",
    *said()[:2],
    event(
        '{"error":{"code":"server_error","message":"it broke"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}'
    ),
    usage_event(),
    DONE,
)
streamed("error-bare", *said()[:1], event("upstream error: something broke"))
streamed("error-event", *said()[:1], b'event: error\ndata: {"message":"overloaded","type":"overloaded_error"}\n\n')

streamed("usage-missing", *said(), DONE)
streamed("x-groq", *said(), event(f'{{"choices":[],"x_groq":{{"id":"req_1","usage":{USAGE}}}}}'), DONE)

_TOKENS = '"prompt_tokens":1200,"completion_tokens":400'
for _name, _usage in {
    "usage-null": "null",
    "usage-list": "[]",
    "usage-string": '"some"',
    "cost-null": f'{{{_TOKENS},"cost":null}}',
    "cost-negative": f'{{{_TOKENS},"cost":-0.01}}',
    "cost-nan": f'{{{_TOKENS},"cost":NaN}}',
    "cost-inf": f'{{{_TOKENS},"cost":Infinity}}',
    "cost-true": f'{{{_TOKENS},"cost":true}}',
    "cost-text": f'{{{_TOKENS},"cost":"cheap"}}',
    "cost-string": f'{{{_TOKENS},"cost":"0.0096"}}',
    "cost-huge": f'{{{_TOKENS},"cost":1e300}}',
    "cost-digits": f'{{{_TOKENS},"cost":0.{"1" * 60}}}',
    "cost-object": f'{{{_TOKENS},"cost":{{"total_cost":0.0096}}}}',
    "cost-list": f'{{{_TOKENS},"cost":[0.0096]}}',
    "cost-zero": f'{{{_TOKENS},"cost":0}}',
    "cost-tiny": f'{{{_TOKENS},"cost":0.000001979964}}',
    "tokens-negative": '{"prompt_tokens":-5,"completion_tokens":400}',
    "tokens-float": '{"prompt_tokens":1200.5,"completion_tokens":400.0}',
    "tokens-huge": '{"prompt_tokens":1e30,"completion_tokens":99999999999999999999}',
    "tokens-string": '{"prompt_tokens":"1200","completion_tokens":"400"}',
    "tokens-null": '{"prompt_tokens":null,"completion_tokens":null}',
    "tokens-true": '{"prompt_tokens":true,"completion_tokens":true}',
    "byok": f'{{{_TOKENS},"cost":0.0005,"is_byok":true,"cost_details":{{"upstream_inference_cost":0.01}}}}',
    "byok-no-upstream": f'{{{_TOKENS},"cost":0.0005,"is_byok":true,"cost_details":{{"upstream_inference_cost":null}}}}',
    "not-byok-upstream": f'{{{_TOKENS},"cost":0.0096,"is_byok":false,"cost_details":{{"upstream_inference_cost":0.0096}}}}',
}.items():
    streamed(_name, *whole(usage=_usage))
