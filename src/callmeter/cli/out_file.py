"""`--out FILE`: a file that a command replaces instead of printing."""

from __future__ import annotations

import os

from callmeter.words.errors import UsageError


def require_place(out: str) -> None:
    """Raises UsageError unless a file could be there: other programs read it, so no directory is made for it."""
    if not out:
        raise UsageError("--out names no file", "leave out `--out` to print it", code="no_file")
    if os.path.isdir(out):
        what = "is a directory"
    elif not os.path.isdir(os.path.dirname(out) or "."):
        what = "is in no directory that exists"
    elif os.path.exists(out) and not os.path.isfile(out):
        raise UsageError(f"--out {out} is no file", "leave out `--out` to print it", code="no_file")
    else:
        return
    raise UsageError(f"--out {out} {what}", "name a file in a directory that exists", code="no_file")
