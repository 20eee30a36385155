"""Asking a provider whether a key is good, where that costs nothing: by default its list of models."""

from __future__ import annotations

from callmeter.providers.wire import Transport, WireError
from callmeter.words.errors import Unavailable


def accepts(
    transport: Transport, url: str, header: str, secret: str, *, connect_timeout: float, deadline: float
) -> bool:
    """Whether a key is accepted at `url`, sent as a bearer token in `Authorization` or bare in any other header.
    Raises Unavailable when the provider says neither yes nor no."""
    value = f"Bearer {secret}" if header.lower() == "authorization" else secret
    headers = {"Accept": "application/json", header: value}
    try:
        response = transport.send("GET", url, headers, b"", connect_timeout=connect_timeout, deadline=deadline)
        response.close()
    except WireError as error:
        raise Unavailable(f"cannot fetch {url}: {error.message}", code=error.kind) from None
    if 200 <= response.status < 300:
        return True
    if response.status in (401, 403):
        return False
    raise Unavailable(f"{url} answered with status {response.status}")
