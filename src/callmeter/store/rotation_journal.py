"""The journal of a key's rotations: one file a label, one line a record with a checksum, on disk before the step that
it announces.

Half a line that a crash left is passed over, and sealed by the next record. One process at a time rotates a label: the
others learn who does, and since when.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from datetime import datetime

from callmeter.store.files import Lock, append_line, make_directory, read_file, replace_file, sync_directory
from callmeter.words.errors import Busy, Malformed
from callmeter.words.instant import text_of
from callmeter.words.jsontext import dumps, loads

_ENDING = ".jsonl"
_PATIENCE = 0.1


class Journal:
    """One label's journal, held for a `with` block. Entering raises Busy when another process holds it."""

    def __init__(self, directory: str, label: str, who: str, now: datetime) -> None:
        self._path = journal_of(directory, label)
        self._label = label
        self._holder = f"{who} since {now:%Y-%m-%d %H:%M:%S} UTC"
        self._lock = Lock(os.path.join(directory, f"{label}.lock"), _PATIENCE)

    def __enter__(self) -> Journal:
        make_directory(os.path.dirname(self._path))
        try:
            self._lock.__enter__()
        except Busy:
            holder = (read_file(self._side) or b"another process").decode("utf-8", "replace").strip()
            raise Busy(
                f"the key {self._label} is being rotated already, by {holder}",
                f"see `callmeter budget rotate-key {self._label} --status`",
                retry_after=30,
            ) from None
        replace_file(self._side, self._holder.encode(), sync=False, locked=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__(None, None, None)

    @property
    def _side(self) -> str:
        return self._path.removesuffix(_ENDING) + ".who"

    def records(self) -> list[dict[str, object]]:
        """What it holds."""
        return read_journal(self._path)

    def add(self, step: str, at: datetime, facts: Mapping[str, object]) -> dict[str, object]:
        """Append a record durably and give it back. Raises FileProblem: then the step must not be taken."""
        record = {"step": step, "at": text_of(at), **facts}
        body = dumps(record)
        offset = append_line(self._path, f'{{"crc":{_sum(body)},"record":{body}}}\n'.encode("ascii"), sync=True)
        if offset == 0:
            sync_directory(os.path.dirname(self._path))
        return record


def journal_of(directory: str, label: str) -> str:
    """Where a label's journal lies."""
    return os.path.join(directory, label + _ENDING)


def labels_in(directory: str) -> list[str]:
    """The labels that have a journal."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(_ENDING) for name in names if name.endswith(_ENDING))


def read_journal(path: str) -> list[dict[str, object]]:
    """The records of a journal; none where there is no file. Raises Malformed for a whole line that is no record:
    a rotation must not go on from a journal that somebody has changed."""
    records = []
    lines = (read_file(path) or b"").split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            document = loads(line, unique_keys=True)
        except ValueError:
            continue  # torn
        whole = document if isinstance(document, dict) else {}
        record = whole.get("record")
        if not isinstance(record, dict) or whole.get("crc") != _sum(dumps(record)):
            raise Malformed(f"{path}, line {number}: the checksum does not match", "restore the file from a copy")
        records.append(record)
    return records


def _sum(body: str) -> int:
    return zlib.crc32(body.encode("ascii"))
