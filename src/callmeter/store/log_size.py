"""How long a usage log is, without reading it."""

from __future__ import annotations

import os

from callmeter.store.usage_log import may_hold, segments_of
from callmeter.words.period import Period

# Text is packed to about a tenth.
PACKED = 10
_PACKED = (".zst", ".gz")


def text_size(log_path: str, period: Period) -> int:
    """How many bytes of text a reader of the period goes through, about. Raises FileProblem."""
    paths = [path for path in [*segments_of(log_path), log_path] if may_hold(path, period)]
    return sum(_size(path) * (PACKED if path.endswith(_PACKED) else 1) for path in paths)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0  # not there, or not to be read: the reader says so
