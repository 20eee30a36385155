"""The lines themselves, read again from where the index says they are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import BinaryIO

from callmeter.store.files import FileProblem
from callmeter.store.index_build import LogFile
from callmeter.store.index_rows import meanings
from callmeter.store.index_text import BOM
from callmeter.store.usage_log import Damaged
from callmeter.words.record import UsageRecord


class LineReader:
    """Reads lines of the log's files (by the number of their source), which stay open: names may go elsewhere.

    The text of a packed file is unpacked once, into a file without a name.
    """

    def __init__(self, files: Mapping[int, LogFile]) -> None:
        self._files = files
        self._unpacked: dict[int, BinaryIO] = {}

    def record(self, source: int, line: int, start: int, size: int) -> UsageRecord:
        """The record of a line. Raises FileProblem when the file is not what was indexed any more."""
        return self.entry(source, line, start, size)[0]

    def entry(self, source: int, line: int, start: int, size: int) -> tuple[UsageRecord, bytes]:
        """The record, and the line that it was read from. Raises as `record`."""
        file = self._files[source]
        text = os.pread(self._text(source, file).fileno(), size, start)
        for found in meanings(text, line, finished=True):
            if isinstance(found, UsageRecord):
                return found, text.removeprefix(BOM if line == 1 else b"").strip(b"\0").removesuffix(b"\r")
        raise FileProblem(f"{file.path} was changed while it was read", "run the command again")

    def _text(self, source: int, file: LogFile) -> BinaryIO:
        if not file.packed:
            return file.file
        if source not in self._unpacked:
            unpacked = tempfile.TemporaryFile()  # open as long as this reader is
            file.file.seek(0)
            try:
                for chunk in file.text():
                    unpacked.write(chunk)
            except Damaged:
                pass  # what could be unpacked was indexed, and the rest is in the index's list of faults
            unpacked.flush()
            self._unpacked[source] = unpacked
        return self._unpacked[source]
