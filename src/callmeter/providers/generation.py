"""What OpenRouter says later about one call: `GET /generation?id=…`, with the key that made the call."""

from __future__ import annotations

from urllib.parse import quote

from callmeter.providers.chat import MAX_ERROR, Usage, read_usage
from callmeter.providers.presets import Provider
from callmeter.providers.wire import Transport, WireError
from callmeter.words.errors import NoKey, Unavailable
from callmeter.words.jsontext import loads


def find_usage(
    transport: Transport,
    provider: Provider,
    secret: str,
    generation_id: str,
    *,
    connect_timeout: float,
    deadline: float,
) -> Usage | None:
    """The tokens and the cost of a call by its generation id; None while the provider has no record of it, which can
    take minutes. Raises NoKey when it refuses the key, Unavailable for everything else."""
    url = f"{provider.base_url}/generation?id={quote(generation_id, safe='')}"
    headers = {"Accept": "application/json", "Authorization": f"Bearer {secret}"}
    try:
        response = transport.send("GET", url, headers, b"", connect_timeout=connect_timeout, deadline=deadline)
        try:
            body = b""
            for chunk in response.chunks():
                body += chunk
                if len(body) > MAX_ERROR:
                    raise Unavailable(f"{url} answered with more than {MAX_ERROR} bytes")
        finally:
            response.close()
    except WireError as error:
        raise Unavailable(f"cannot fetch {url}: {error.message}", code=error.kind) from None
    if response.status == 404:
        return None
    if response.status in (401, 403):
        raise NoKey(f"{provider.name} refuses the key that made the call {generation_id}")
    if response.status != 200:
        raise Unavailable(f"{url} answered with status {response.status}")
    try:
        document = loads(body, lenient=True)
    except ValueError as error:
        raise Unavailable(f"{url} did not answer with JSON: {error}") from None
    found = document.get("data") if isinstance(document, dict) else None
    if not isinstance(found, dict):
        raise Unavailable(f"{url} did not answer with a call's record")
    return read_usage(
        {
            "prompt_tokens": found.get("native_tokens_prompt"),
            "completion_tokens": found.get("native_tokens_completion"),
            "prompt_tokens_details": {"cached_tokens": found.get("native_tokens_cached")},
            "completion_tokens_details": {"reasoning_tokens": found.get("native_tokens_reasoning")},
            "cost": found.get("total_cost"),
            "is_byok": found.get("is_byok"),
            "cost_details": {"upstream_inference_cost": found.get("upstream_inference_cost")},
        }
    )
