"""TOML files, read through a cache of their parsed form.

Agents read `config.toml` and `keys.toml` at each call, and `tomllib` alone costs most of a Python start. So the
parsed document is kept as JSON in the state directory, under the identity of the file it came from (device,
inode, size, both times to the nanosecond). A cache that cannot be read or written is simply not used.
"""

from __future__ import annotations

import json
import os

from callmeter.store.files import FileProblem, read_file, replace_file
from callmeter.words.errors import Malformed

_LAYOUT = 1


def read_toml(path: str, cache_dir: str) -> dict[str, object]:
    """The document, or {} when there is no file. Dates come as ISO text. Raises Malformed with file and line."""
    try:
        found = os.stat(path)
    except OSError:
        found = None
    if found is None:
        read_file(path)  # says why, if it is there but cannot be reached
        return {}
    identity = [_LAYOUT, path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    cache = os.path.join(cache_dir, os.path.basename(path) + ".json")
    try:
        kept = json.loads(read_file(cache) or b"null")
        if kept and kept["identity"] == identity:
            document = kept["document"]
            if isinstance(document, dict):
                return document
    except (ValueError, KeyError, TypeError, FileProblem, Malformed):
        pass
    return _parse(path, cache, identity)


def _parse(path: str, cache: str, identity: list[object]) -> dict[str, object]:
    import tomllib

    data = read_file(path) or b""
    try:
        document = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Malformed(f"{path} is not UTF-8 text", "save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Malformed(f"{path}: {_lower(str(error))}", f"mend that line of {path}") from None
    try:
        text = json.dumps({"identity": identity, "document": document}, default=_date, allow_nan=False)
    except (ValueError, TypeError):
        raise Malformed(f"{path} holds a value that settings cannot be (NaN, infinity or a time)") from None
    try:
        replace_file(cache, text.encode(), sync=False)
    except FileProblem:
        pass
    plain: dict[str, object] = json.loads(text)["document"]
    return plain


def _date(value: object) -> str:
    isoformat = getattr(value, "isoformat", None)
    if isoformat is None:
        raise TypeError
    return str(isoformat())


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
