"""Chat completions: what is sent, and what an endpoint's stream or document means.

The answer is read as the endpoints really give it, not as they should: the media type decides between stream and
document, `error` is looked for before `choices`, usage may be absent or absurd, content may be text, parts or
null, and success needs a finish reason.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import chain

from callmeter.providers.events import events
from callmeter.providers.presets import Provider
from callmeter.providers.wire import WireError
from callmeter.words.jsontext import dumps, loads
from callmeter.words.money import nano, parse_usd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from callmeter.providers.wire import Response

MAX_DOCUMENT = 40 * 1024 * 1024
MAX_ERROR = 64 * 1024
_MAX_TOKENS = 1_000_000_000


class Request:
    """One call's content, before it is bound to an endpoint. `options` are further body members."""

    def __init__(
        self,
        model: str,
        messages: list[dict[str, object]],
        *,
        max_tokens: int,
        fallbacks: tuple[str, ...] = (),
        options: Mapping[str, object] | None = None,
    ) -> None:
        self.model = model
        self.messages = messages
        self.max_tokens = max_tokens
        self.fallbacks = fallbacks
        self.options = dict(options or {})

    def with_ceiling(self, max_tokens: int, model: str | None = None) -> Request:
        """The same request with another output ceiling, or for another model. The messages are shared."""
        return Request(
            model or self.model,
            self.messages,
            max_tokens=max_tokens,
            fallbacks=self.fallbacks if model in (None, self.model) else (),
            options=self.options,
        )


def body_of(request: Request, provider: Provider, tags: Mapping[str, str], *, send_tags: bool) -> bytes:
    """The JSON body. It always streams, always asks for usage, always has an output ceiling."""
    body: dict[str, object] = {"model": request.model}
    if request.fallbacks and provider.name == "openrouter":
        body["models"] = [request.model, *request.fallbacks]
    body["messages"] = request.messages
    body[provider.ceiling] = request.max_tokens
    body["stream"] = True
    body["stream_options"] = {"include_usage": True}
    if send_tags:
        _add_tags(body, provider.send, tags)
    body.update(request.options)
    return dumps(body).encode("ascii")


def _add_tags(body: dict[str, object], places: tuple[str, ...], tags: Mapping[str, str]) -> None:
    if "user" in places and "user" in tags:
        body["user"] = tags["user"][:128]
    if "session_id" in places and "session" in tags:
        body["session_id"] = tags["session"][:256]
    if "metadata" in places and tags:
        body["metadata"] = {name[:64]: value[:512] for name, value in list(tags.items())[:16]}
    if "trace" in places and tags:
        trace: dict[str, object] = {name: value for name, value in tags.items() if name not in ("user", "session")}
        if "purpose" in tags:
            trace["generation_name"] = tags["purpose"]
        if "workflow" in tags:
            trace["trace_name"] = tags["workflow"]
        if trace:
            body["trace"] = trace


_TAG_HEADERS = (("X-Agent-ID", "agent"), ("X-Session-ID", "session"), ("X-Cost-Center", "cost_center"))


def headers_of(provider: Provider, secret: str | None, tags: Mapping[str, str], *, send_tags: bool) -> dict[str, str]:
    """The request's headers, with the key. Values are ASCII: other characters of a tag are percent-encoded."""
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    if send_tags:
        if "headers" in provider.send:
            for header, tag in _TAG_HEADERS:
                if tag in tags:
                    headers[header] = _ascii(tags[tag])
        for header, template in provider.headers.items():
            value = template
            for name, tag_value in tags.items():
                value = value.replace("{" + name + "}", tag_value)
            if "{" not in value:  # a tag that this call lacks: no half-filled header
                headers[header] = _ascii(value)
    return headers


def _ascii(value: str) -> str:
    if value.isascii():
        return value
    return "".join(c if c.isascii() else "".join(f"%{byte:02X}" for byte in c.encode("utf-8")) for c in value)


class Usage:
    """What the endpoint says was used. Each part may be missing; what is absurd counts as missing."""

    def __init__(self, tokens: dict[str, int] | None, cost: Decimal | None) -> None:
        self.tokens = tokens
        self.cost = cost


class Answer:
    """What came of one attempt whose response head arrived.

    `finish_reason` None means that the answer was cut. `failure` is the endpoint's own error, wherever it
    stood (status, body, stream); `raw` keeps the beginning of a surprising body, for -v.
    """

    def __init__(self, status: int, generation_id: str | None) -> None:
        self.status = status
        self.generation_id = generation_id
        self.text: list[str] = []
        self.served_model: str | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.failure: Failure | None = None
        self.raw = b""

    @property
    def has_text(self) -> bool:
        """Whether any of the answer came."""
        return any(self.text)


class Failure:
    """An endpoint's error: `code` as it gave it (number or text), `kind` its stable name if it has one.

    `retry_after` is the head's Retry-After as sent; `metadata` the error object's.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        kind: str = "",
        retry_after: str = "",
        metadata: dict[str, object] | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.kind = kind
        self.retry_after = retry_after
        self.metadata = metadata or {}


def read_answer(
    response: Response,
    *,
    on_text: Callable[[str], None],
    on_usage: Callable[[Usage], None],
    answer: Answer,
) -> None:
    """Read a response into `answer`, handing on text as it comes.

    Raises WireError when the body is cut, too large, too late or not what its media type says. What had come
    until then is in `answer`.
    """
    media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    answer.generation_id = answer.generation_id or response.headers.get("x-generation-id")
    if not 200 <= response.status < 300:
        answer.raw = _bounded(response.chunks(), MAX_ERROR)
        answer.failure = _failure_of_body(response, answer.raw)
        return
    chunks = response.chunks()
    if media == "text/event-stream":
        first = next(chunks, b"")
        if not first.lstrip().startswith(b"{"):
            _read_events(chain((first,), chunks), on_text, on_usage, answer)
            return
        chunks = chain((first,), chunks)  # a document under the wrong name
    answer.raw = _bounded(chunks, MAX_DOCUMENT, strict=True)
    start = answer.raw.lstrip()[:6]
    if start.startswith((b"data:", b":", b"event:")):  # a stream under the wrong name
        _read_events(iter([answer.raw]), on_text, on_usage, answer)
        return
    try:
        document = loads(answer.raw, lenient=True)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        shown = media or "no media type"
        raise WireError("protocol", f"the endpoint answered with something that is not JSON ({shown})", sent=True)
    if not _take(document, on_text, on_usage, answer):
        raise WireError("protocol", "the endpoint's answer has neither choices nor an error", sent=True)


def _read_events(
    chunks: Iterator[bytes], on_text: Callable[[str], None], on_usage: Callable[[Usage], None], answer: Answer
) -> None:
    for data in events(chunks):
        if data.strip() == "[DONE]":
            return
        if not data.strip():
            continue
        try:
            chunk = loads(data, lenient=True)
        except ValueError as error:
            answer.raw = data.encode("utf-8", "backslashreplace")[:MAX_ERROR]
            raise WireError("protocol", f"a chunk of the stream is not JSON: {error}", sent=True) from None
        before = answer.usage
        if isinstance(chunk, dict):
            _take(chunk, on_text, on_usage, answer)
            if answer.failure:
                answer.raw = data.encode("utf-8", "backslashreplace")[:MAX_ERROR]
                return
        if answer.finish_reason and answer.usage is not before:
            # Everything is there: the final usage comes with the finish reason or after it. Some endpoints
            # never close, so nobody waits for the end of the stream.
            return


def _take(
    document: dict[str, object], on_text: Callable[[str], None], on_usage: Callable[[Usage], None], answer: Answer
) -> bool:
    """One chunk or whole document; True when it had something to say."""
    spoke = False
    identity = document.get("id")
    if not answer.generation_id and isinstance(identity, str) and identity:
        answer.generation_id = identity[:200]
    model = document.get("model")
    if isinstance(model, str) and model:
        answer.served_model = model[:200]
    error = document.get("error")
    if error:
        answer.failure = _failure_of(error)
        spoke = True
    choices = document.get("choices")
    if isinstance(choices, list):
        spoke = True
        for choice in choices[:1]:
            if isinstance(choice, dict):
                _take_choice(choice, on_text, answer)
    usage = document.get("usage")
    if not isinstance(usage, dict) and isinstance(document.get("x_groq"), dict):
        groq = document["x_groq"]
        usage = groq.get("usage") if isinstance(groq, dict) else None
    # A chunk that only carries an error may carry a usage of zeros: that is not the call's usage.
    if isinstance(usage, dict) and not (error and not choices):
        answer.usage = read_usage(usage)
        on_usage(answer.usage)
    return spoke


def _take_choice(choice: dict[str, object], on_text: Callable[[str], None], answer: Answer) -> None:
    part = choice.get("delta")
    if not isinstance(part, dict):
        part = choice.get("message")
    if isinstance(part, dict):
        text = _text_of(part.get("content")) or _text_of(part.get("refusal"))
        if text:
            answer.text.append(text)
            on_text(text)
    elif isinstance(choice.get("text"), str):
        answer.text.append(str(choice["text"]))
        on_text(str(choice["text"]))
    error = choice.get("error")
    reason = choice.get("finish_reason")
    if error or reason == "error":
        answer.failure = answer.failure or _failure_of(error or {"message": "the model stopped with an error"})
    if isinstance(reason, str) and reason:
        answer.finish_reason = reason[:64]


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def read_usage(usage: dict[str, object]) -> Usage:
    """An endpoint's `usage` object. Counts that are not whole numbers from 0 up, and costs that are not finite
    amounts from 0 up, are taken as missing.

    With one's own provider key at OpenRouter (`is_byok`), `cost` is only its fee, and what the provider charges
    is `cost_details.upstream_inference_cost`; without, adding that would double the cost.
    """
    tokens_in, tokens_out = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    tokens = None
    if tokens_in is not None and tokens_out is not None and 0 < tokens_in + tokens_out < _MAX_TOKENS:
        prompt = _object(usage.get("prompt_tokens_details"))
        completion = _object(usage.get("completion_tokens_details"))
        cached = min(_count(prompt.get("cached_tokens")) or 0, tokens_in)
        write = min(_count(prompt.get("cache_write_tokens")) or 0, tokens_in - cached)
        tokens = {
            "in": tokens_in,
            "out": tokens_out,
            "cached": cached,
            "cache_write": write,
            "cache_write_1h": 0,
            "reasoning": min(_count(completion.get("reasoning_tokens")) or 0, tokens_out),
        }
    cost = usage.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    amount = _amount(cost)
    if amount is not None and usage.get("is_byok") is True:
        upstream = _amount(_object(usage.get("cost_details")).get("upstream_inference_cost"))
        amount = None if upstream is None else amount + upstream
    return Usage(tokens, amount)


def _count(value: object) -> int | None:
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_TOKENS else None


def _amount(value: object) -> Decimal | None:
    try:
        if isinstance(value, str):
            value = parse_usd(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            value = Decimal(value)
        if not isinstance(value, Decimal) or value < 0:
            return None
        nano(value)
        return value
    except ValueError:
        return None


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _failure_of(error: object) -> Failure:
    if isinstance(error, str):
        return Failure("error", error[:500])
    found = _object(error)
    code = found.get("code")
    if code is None or isinstance(code, dict | list):
        code = found.get("type") or "error"
    message = found.get("message")
    metadata = _object(found.get("metadata"))
    kind = metadata.get("error_type") or found.get("type")
    return Failure(
        str(code)[:64],
        str(message)[:500] if isinstance(message, str) else "no message",
        kind=str(kind)[:64] if isinstance(kind, str) else "",
        metadata=metadata,
    )


def _failure_of_body(response: Response, raw: bytes) -> Failure:
    try:
        document = loads(raw, lenient=True)
    except ValueError:
        document = None
    failure = None
    if isinstance(document, dict):
        error = document.get("error") or document.get("detail") or document.get("message")
        if error:
            failure = _failure_of(error)
    if failure is None:
        failure = Failure(str(response.status), f"status {response.status} without a readable error")
    if failure.code in ("error", "None"):
        failure.code = str(response.status)
    failure.retry_after = response.headers.get("retry-after-ms", "") and "ms:" + response.headers["retry-after-ms"]
    failure.retry_after = failure.retry_after or response.headers.get("retry-after", "")
    return failure


def _bounded(chunks: Iterator[bytes], limit: int, *, strict: bool = False) -> bytes:
    parts = []
    size = 0
    try:
        for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                if strict:
                    raise WireError("too_large", f"the answer is larger than {limit} bytes", sent=True)
                break
    except WireError:
        if strict:
            raise
        # An error's status is known; that its body was cut changes nothing.
    return b"".join(parts)[:limit]
