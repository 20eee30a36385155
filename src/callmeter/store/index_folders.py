"""Folders in the index's directory: one for each other log that was ever named to a report, while that is used."""

from __future__ import annotations

import os
import shutil
import time

from callmeter.words.digest import hex_digest

_UNUSED = 30 * 86400  # seconds
_LENGTH = 16


def folder_of(directory: str, log: str) -> str:
    """The folder for the index of `log`, which counts as used now; folders not used for 30 days are removed.

    Whoever still reads one of these makes its index anew, as after any damage.
    """
    name = hex_digest(os.path.abspath(log).encode("utf-8", "surrogateescape"))[:_LENGTH]
    folder = os.path.join(directory, name)
    try:
        if os.path.isdir(folder):
            os.utime(folder)
        with os.scandir(directory) as entries:
            for entry in entries:
                if _is_folder(entry) and time.time() - entry.stat(follow_symlinks=False).st_mtime > _UNUSED:
                    shutil.rmtree(entry.path, ignore_errors=True)
    except OSError:
        pass  # not there yet, or not ours to write: the index says so if it matters
    return folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this made it: nobody else's folder is removed."""
    return (
        len(entry.name) == _LENGTH and not entry.name.strip("0123456789abcdef") and entry.is_dir(follow_symlinks=False)
    )
