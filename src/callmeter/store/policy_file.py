"""Changing `budget.json`: under a lock, checked before it counts, replaced at once, the version before kept."""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections.abc import Callable
from hashlib import sha256

from callmeter.policy.document import MalformedPolicy, Policy, parse_policy
from callmeter.store.files import Lock, read_file, replace_file, sync_directory
from callmeter.store.new_file import NewFile, rename_file
from callmeter.words.errors import Busy, UsageError

_EMPTY = '{\n  "version": 1\n}\n'
# Agents of other users read it, and nothing in it is secret.
_READABLE = 0o644


class PolicyFile:
    """The file held against other writers for a `with` block: its `text` and the `policy` in it; without a file,
    those of the smallest policy. Raises Malformed when it is to be mended first."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = Lock(lock_of(path))

    def __enter__(self) -> PolicyFile:
        self._lock.__enter__()
        try:
            self._data = read_file(self.path)
            data = _EMPTY.encode() if self._data is None else self._data
            self.policy: Policy = parse_policy(data, self.path)
            self.text = data.decode("utf-8-sig")
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        self._lock.__exit__(None, None, None)

    def checked(self, text: str) -> Policy:
        """The policy that a text makes. Raises UsageError when it is not valid."""
        try:
            return parse_policy(self._encoded(text), self.path)
        except MalformedPolicy as error:
            faults = "; ".join(str(fault) for _, fault in error.faults)
            raise UsageError(
                f"{self.path} would not be valid: {faults}", "nothing was changed", code="invalid_change"
            ) from None

    def replace(self, text: str, before: Callable[[str, str], None]) -> Policy:
        """Put a new text in place, and give the policy that it makes. `before` is called once it is known to be
        valid, with short hashes of the old and the new bytes. Raises UsageError for a text that is no valid policy,
        Busy when the file was changed meanwhile; then it is as it was."""
        policy = self.checked(text)
        old, data = self._data, self._encoded(text)
        before(_hash(old), _hash(data))
        if read_file(self.path) != old:  # an editor knows of no lock
            raise Busy(f"{self.path} was changed by somebody else at this moment", "run the command again")
        if old is None:
            replace_file(self.path, data, mode=_READABLE)
        else:
            like = os.stat(self.path)
            _put(kept_of(self.path), old, like)
            _put(self.path, data, like)
        return policy

    def _encoded(self, text: str) -> bytes:
        marked = self._data is not None and self._data.startswith(BOM_UTF8)
        return text.encode("utf-8-sig" if marked else "utf-8")


def lock_of(path: str) -> str:
    """`budget.lock` beside `budget.json`."""
    return path.removesuffix(".json") + ".lock"


def kept_of(path: str) -> str:
    """`budget.previous.json` beside `budget.json`: the last good version before this one."""
    return path.removesuffix(".json") + ".previous.json"


def _put(path: str, data: bytes, like: os.stat_result) -> None:
    """A file with this content, mode and owner, at once."""
    directory = os.path.dirname(path) or "."
    new = os.path.join(directory, f".{os.path.basename(path)}.new")
    with NewFile(new, like) as file:
        file.write(data)
        file.sync()
    rename_file(new, path)
    sync_directory(directory)


def _hash(data: bytes | None) -> str:
    return "" if data is None else sha256(data).hexdigest()[:16]
