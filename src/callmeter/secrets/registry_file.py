"""The key registry as it is changed: under its lock, from what is in the file at that moment, in one step.

A file that cannot be read as a registry is never written over: it may hold the only record of somebody's keys.
"""

from __future__ import annotations

import tomllib
from datetime import date, datetime
from typing import Any

from callmeter.secrets.registry import VERSION, Entry, read_registry
from callmeter.store.files import Lock, read_file, replace_file
from callmeter.words.errors import Malformed
from callmeter.words.instant import text_of

_HEAD = """\
# callmeter's key registry. It holds no key: each entry says where its key lies.
# `callmeter budget keys` writes this file anew, without comments; you may edit it.

"""


class RegistryFile:
    """The registry, locked for a `with` block. `entries` is what it holds, and follows each change.

    Entering raises Malformed, FileProblem, Busy.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self._document: dict[str, Any] = {}
        self._lock = Lock(path + ".lock")

    def __enter__(self) -> RegistryFile:
        self._lock.__enter__()
        try:
            self._document = _parse(self.path)
            self.entries = read_registry(self._document, self.path)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__(None, None, None)

    def put(self, entry: Entry) -> None:
        """Add an entry, or replace the one with its label; durable when it returns."""
        self._document.setdefault("keys", {})[entry.label] = _table(entry)
        self._write()
        self.entries[entry.label] = entry

    def rename(self, label: str, entry: Entry) -> None:
        """Put an entry with another label in the place of one; durable when it returns."""
        keys = self._document["keys"]
        self._document["keys"] = {(entry.label if name == label else name): table for name, table in keys.items()}
        self._write()
        self.entries = {(entry.label if name == label else name): each for name, each in self.entries.items()}
        self.entries[entry.label] = entry

    def remove(self, label: str) -> None:
        """Take out an entry; durable when it returns."""
        del self._document["keys"][label]
        self._write()
        del self.entries[label]

    def _write(self) -> None:
        import tomli_w

        text = tomli_w.dumps({"version": VERSION, **self._document})
        replace_file(self.path, (_HEAD + text).encode("utf-8"))


def _table(entry: Entry) -> dict[str, object]:
    table: dict[str, object] = {
        "provider": entry.provider,
        "base_url": entry.base_url,
        "agent": entry.agent,
        "default": entry.default,
        "environment": entry.environment,
        "owner": entry.owner,
        "purpose": entry.purpose,
        "allowed_models": list(entry.allowed_models),
        "created": text_of(entry.created) if entry.created else "",
        "expires": text_of(entry.expires) if entry.expires else "",
        "secret": entry.secret,
        "copy": entry.copy,
        "fingerprint": entry.fingerprint,
        "shared": entry.shared,
        "user": entry.user,
        "budget": entry.budget,
        "budget_reset": entry.budget_reset,
        "rotate_every": entry.rotate_every,
        "last_rotated": text_of(entry.last_rotated) if entry.last_rotated else "",
        "provider_key": entry.provider_key,
        "retired": text_of(entry.retired) if entry.retired else "",
        "management": entry.management,
    }
    return {name: value for name, value in table.items() if value}


def changed(entry: Entry, **members: Any) -> Entry:
    """The entry with other members, given as the registry holds them (dates as text)."""
    return Entry(entry.label, **{**_table(entry), **members})


def _parse(path: str) -> dict[str, Any]:
    try:
        document = tomllib.loads((read_file(path) or b"").decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Malformed(f"{path} is not UTF-8 text", "save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = str(error)
        raise Malformed(f"{path}: {reason[:1].lower()}{reason[1:]}", f"mend that line of {path}") from None
    plain: dict[str, Any] = _dates_as_text(document)
    return plain


def _dates_as_text(value: Any) -> Any:
    # A person may have written `expires = 2026-12-31` without quotation marks.
    if isinstance(value, dict):
        return {name: _dates_as_text(item) for name, item in value.items()}
    return value.isoformat() if isinstance(value, date | datetime) else value
