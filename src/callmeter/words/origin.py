"""Whom a URL leads to: what decides where a key may go, and whether it may go there in the clear."""

from __future__ import annotations

_BYTES = frozenset(map(str, range(256)))


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, `https://openrouter.ai:443`, for comparing whom a key is sent to.

    Takes only what every parser of URLs reads in the same way. Raises ValueError.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    authority = rest.partition("/")[0].lower()
    host, colon, port = authority.rpartition(":")
    if not colon or not port.isdigit():
        host, port = authority, {"http": "80", "https": "443"}.get(scheme, "")
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    allowed = ".-_:" if name != host else ".-_"
    plain = name.translate({ord(mark): None for mark in allowed})
    if not separator or not port or not url.isascii() or not plain.isalnum():
        # The URL itself is not shown: somebody may have put a password or a key into it.
        raise ValueError("the URL is not a plain http or https URL")
    return f"{scheme}://{host}:{int(port)}"


def leads_here(origin: str) -> bool:
    """Whether an origin is this machine's own, so that a key may travel there in the clear."""
    host = origin.partition("://")[2].rpartition(":")[0]
    numbers = host.split(".")
    # What is no address, as 127.0.0.256, is a name: somebody else is asked where that leads.
    is_ipv4 = len(numbers) == 4 and all(number in _BYTES for number in numbers)
    return host in ("localhost", "[::1]") or (is_ipv4 and numbers[0] == "127")


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine; what not every parser reads in the same way does not."""
    try:
        return leads_here(origin_of(url))
    except ValueError:
        return False
