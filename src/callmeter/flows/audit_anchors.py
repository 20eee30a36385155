"""Anchors of the audit log that lie in the usage log: each line names the audited event that was the newest then."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from callmeter.store.audit import Anchor
from callmeter.store.usage_log import Damaged, open_logs, opened, split_lines, unpacked
from callmeter.words.record import parse_record

_ANCHOR = re.compile(rb'"audit":\s*"(\d{1,18}:[0-9a-f]{16})"')


def anchors_in(log_paths: Sequence[str]) -> Iterator[Anchor]:
    """Each anchor once, with the file it was found in first. Raises FileProblem.

    Lines that hold no new anchor are not parsed, which makes this as fast as reading; what looks like an anchor and
    stands in a tag is none.
    """
    seen: set[bytes] = set()
    for path, line in _lines(log_paths):
        for text in _ANCHOR.findall(line):
            if text in seen:
                continue
            try:
                audit = parse_record(line).audit
            except ValueError:
                continue
            if audit is None or audit.encode() != text:
                continue
            seen.add(text)
            number, _, digits = audit.partition(":")
            yield Anchor(int(number), digits, path)


def _lines(log_paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for log in open_logs(log_paths):
        for path in [*log.segments, log.path]:
            file = log.live if path == log.path else opened(path)
            if file is None:
                continue
            with file:
                try:
                    for line, _ in split_lines(unpacked(path, file)):
                        if line is not None and b'"audit"' in line:
                            yield path, line
                except Damaged:  # `budget log verify` says so
                    continue
