"""SHA-256 without `hashlib`, whose import loads OpenSSL: a fifth of a Python start, at each call."""

from __future__ import annotations

try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12 and later
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]  # Python 3.11
    except ImportError:
        from hashlib import sha256


def hex_digest(data: bytes) -> str:
    """The digest of bytes, as 64 hexadecimal digits."""
    text: str = sha256(data).hexdigest()
    return text
