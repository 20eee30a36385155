"""Checking the usage log: what it holds, and every fault in it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from callmeter.reports.log_faults import Checked, Fault
from callmeter.store.files import FileProblem, Lock
from callmeter.store.usage_append import lock_of
from callmeter.store.usage_log import BadLine, end_of_lines, opened, read_records

_MAX_LISTED = 1000


def check_log(path: str) -> Checked:
    """Everything about a log, or those that a glob names. Raises FileProblem when a file cannot be opened."""
    reader = read_records(path)
    first, last = "", ""
    corrections: list[tuple[str, str]] = []
    for record in reader:
        first = min(first or record.timestamp, record.timestamp)
        last = max(last, record.timestamp)
        if record.corrects is not None:
            corrections.append((record.id, record.corrects))
    lost = [(id, corrected) for id, corrected in corrections if corrected not in reader.seen]
    torn = [file for file in reader.torn if _stays_torn(file)]
    return Checked(
        files=reader.files,
        lines=reader.lines,
        size=reader.bytes,
        records=reader.records,
        corrections=len(corrections),
        first=first,
        last=last,
        counts={
            "bad_lines": reader.bad_count,
            "duplicates": reader.duplicates,
            "torn_tails": len(torn),
            "lost_originals": len(lost),
        },
        faults=[
            *_listed("bad line", reader.bad),
            *_listed("duplicate", reader.repeats),
            *(Fault("torn tail", file, None, "ends in half a line, left by a crash") for file in torn),
            *(
                Fault("lost original", "", None, f"{id} corrects {corrected}, which is not there")
                for id, corrected in lost[:_MAX_LISTED]
            ),
        ],
    )


def _listed(kind: str, lines: Iterable[BadLine]) -> list[Fault]:
    return [Fault(kind, bad.file, bad.line, bad.reason) for bad in lines]


def _stays_torn(path: str) -> bool:
    """Whether half a line at the end is there to stay: a reader can meet a writer in the middle of its write."""
    if not os.path.exists(lock_of(path)):
        return True
    try:
        with Lock(lock_of(path)):
            file = opened(path)
            if file is None:
                return False
            with file:
                return end_of_lines(file) < os.fstat(file.fileno()).st_size
    except FileProblem:  # somebody else's log, which is only to be read
        return True
