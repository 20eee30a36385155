"""Fetch a provider's `/models` and keep its prices, if there are any in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from callmeter.policy.price_listing import listing_lines
from callmeter.providers.presets import Provider
from callmeter.providers.wire import Transport, WireError
from callmeter.store.price_table import read_listing, write_listing
from callmeter.words.errors import Unavailable
from callmeter.words.instant import text_of
from callmeter.words.jsontext import dumps, loads

_MAX_DOCUMENT = 40 * 1024 * 1024


@dataclass(frozen=True)
class Refreshed:
    """What a refresh brought: models that are listed with a price, that are new, dearer or cheaper than before, or
    gone; models whose price the provider itself calls unknown; entries that could not be read."""

    priced: int
    new: int
    changed: int
    gone: int
    unknown: int
    unreadable: int


def refresh_prices(
    provider: Provider, transport: Transport, cache_dir: str, now: datetime, *, connect_timeout: float, deadline: float
) -> Refreshed:
    """Fetch and keep the listing; no key is sent. Raises Unavailable when no listing with prices comes back, and
    then the one before stays."""
    lines, unreadable = _fetch(provider, transport, connect_timeout, deadline)
    priced = {str(line["id"]): dumps(line["rates"]) for line in lines if line["rates"]}
    if not priced:
        raise Unavailable(
            f"{provider.name} lists no prices at {_url(provider)}",
            "the shipped table is used; set others with `callmeter prices set`",
        )
    before = read_listing(cache_dir, provider.name)
    old = {} if before is None else {name: dumps(line["rates"]) for name, line in before[1].items()}
    write_listing(cache_dir, provider.name, text_of(now), lines)
    listed = {str(line["id"]) for line in lines}
    return Refreshed(
        priced=len(priced),
        new=len(listed - set(old)),
        changed=sum(name in old and old[name] != rates for name, rates in priced.items()),
        gone=len(set(old) - listed),
        unknown=len(listed) - len(priced),
        unreadable=unreadable,
    )


def _fetch(
    provider: Provider, transport: Transport, connect_timeout: float, deadline: float
) -> tuple[list[dict[str, object]], int]:
    url = _url(provider)
    hint = f"run `callmeter prices refresh --provider {provider.name}` again later; the prices known so far stay"
    try:
        response = transport.send(
            "GET", url, {"Accept": "application/json"}, b"", connect_timeout=connect_timeout, deadline=deadline
        )
        try:
            if response.status != 200:
                raise Unavailable(f"{url} answered with status {response.status}", hint)
            body = b""
            for chunk in response.chunks():
                body += chunk
                if len(body) > _MAX_DOCUMENT:
                    raise Unavailable(f"{url} answered with more than {_MAX_DOCUMENT} bytes", hint)
        finally:
            response.close()
    except WireError as error:
        raise Unavailable(f"cannot fetch {url}: {error.message}", hint, code=error.kind) from None
    try:
        return listing_lines(loads(body))
    except ValueError as error:
        raise Unavailable(f"{url} did not answer with a list of models: {error}", hint) from None


def _url(provider: Provider) -> str:
    return provider.base_url + "/models"
