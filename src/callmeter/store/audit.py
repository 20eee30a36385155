"""The audit log: JSON lines, each with its number and the SHA-256 of the line before it, byte for byte.

So an edited, removed, inserted or moved line shows, and `sha256sum` is enough to check it. A chain alone proves
nothing against somebody who can write the file: he can make a new one. What such a person cannot change are copies
of a number and its hash kept elsewhere, the anchors; `HEAD` beside the log is only the nearest of them.
"""

from __future__ import annotations

import enum
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from callmeter.store.audit_head import head_of
from callmeter.store.files import FileProblem, Lock, append_line, open_to_read, replace_file
from callmeter.words.errors import Malformed
from callmeter.words.instant import text_of
from callmeter.words.jsontext import dumps, loads

# Appends one event with its details, at the time and by the person that the command knows of.
Audit = Callable[[str, Mapping[str, object]], None]

MAX_LINE = 64 * 1024
GENESIS = "0" * 64
_TAIL = 4 * MAX_LINE


class Verdict(enum.Enum):
    """What can be wrong with an audit log; the last two are what crashes leave, not tampering."""

    CHAIN = "a line before this one was edited, removed, inserted or moved"
    SEQ = "the numbers do not go up by one"
    TRUNCATED = "lines are missing at the end: an anchor lies beyond it"
    ANCHOR = "an anchor says that this line was another one: the log was written anew"
    GARBAGE = "not an audit line; the chain covers it"
    TORN = "half a line at the end, left by a crash"

    @property
    def tampering(self) -> bool:
        """Whether no crash can explain it."""
        return self not in (Verdict.GARBAGE, Verdict.TORN)


@dataclass(frozen=True)
class Anchor:
    """A copy of a line's number and the beginning of its hash (at least 16 hex digits); `origin` is for people."""

    seq: int
    hash: str
    origin: str


@dataclass(frozen=True)
class Finding:
    """A verdict on one line of a file; `line` counts from 1, and is 0 for the file as a whole."""

    verdict: Verdict
    line: int
    detail: str


@dataclass(frozen=True)
class Verified:
    """What `verify` found: `events` good lines, the last one's number and hash, and how many anchors held."""

    events: int
    head: Anchor | None
    anchors: int
    findings: tuple[Finding, ...]

    @property
    def tampered(self) -> bool:
        return any(finding.verdict.tampering for finding in self.findings)


@dataclass(frozen=True)
class Event:
    """One line of the audit log. `fields` are all its members but `seq` and `prev`."""

    fields: dict[str, object]


def append_event(path: str, event: str, at: datetime, by: str, details: Mapping[str, object]) -> Anchor:
    """Append an event durably and give back its number and hash, which are an anchor for whoever keeps it.

    `details` are further members (JSON values, Decimal for money) and never hold a key or a prompt. Raises
    FileProblem or Busy; then nothing was appended.
    """
    with Lock(lock_of(path)):
        prev, seq = _end(path)
        line = dumps(_event(seq + 1, prev, event, at, by, details))
        data = line.encode("ascii") + b"\n"
        if len(data) > MAX_LINE:
            raise ValueError(f"an audit line of {len(data)} bytes, {MAX_LINE} are allowed")
        append_line(path, data, sync=True)
        anchor = Anchor(seq + 1, hashlib.sha256(data).hexdigest(), head_of(path))
        # A crash before this leaves HEAD behind the log, which means nothing. HEAD beyond the log does: its line was
        # on disk first. So HEAD itself need not be synced.
        replace_file(head_of(path), f"{anchor.seq} {anchor.hash}\n".encode(), sync=False, locked=True)
    return anchor


def read_events(path: str, *, containing: bytes = b"") -> Iterator[Event]:
    """The events in order, of lines with `containing` in them; lines that are none are left out. Raises FileProblem."""
    for _, line, _ in _lines(path):
        if containing not in line:
            continue
        fields = _fields(line)
        if fields is not None:
            yield Event({name: value for name, value in fields.items() if name not in ("seq", "prev")})


def verify(path: str, anchors: Iterable[Anchor] = ()) -> Verified:
    """Check every line against the one before it, and the log against `anchors` and its own HEAD. Raises Malformed
    when one of the two cannot be read."""
    try:
        return _verified(path, anchors)
    except FileProblem as problem:
        raise Malformed(problem.message, problem.hint) from None


def read_head(path: str) -> Anchor | None:
    """The side-car's anchor; None when there is none. Raises Malformed."""
    side = head_of(path)
    descriptor = open_to_read(side)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(200).decode("utf-8", "replace")
    return parse_anchor(text, side) if text else None  # a power failure can leave it empty


def parse_anchor(text: str, origin: str) -> Anchor:
    """`NUMBER HASH`, as HEAD and `budget audit verify` write it; the hash may be cut to 16 digits. Raises Malformed."""
    number, _, digits = text.strip().replace(":", " ").partition(" ")
    digits = digits.strip().lower()
    plain = number.isascii() and number.isdigit() and len(number) < 19
    if not plain or not 16 <= len(digits) <= 64 or set(digits) - set("0123456789abcdef"):
        raise Malformed(f"{origin}: not an anchor: {text[:80]!r}", "an anchor is a number and at least 16 hex digits")
    return Anchor(int(number), digits, origin)


def lock_of(path: str) -> str:
    """`audit.lock` beside `audit.jsonl`."""
    return path.removesuffix(".jsonl") + ".lock"


def _verified(path: str, anchors: Iterable[Anchor]) -> Verified:
    findings: list[Finding] = []
    wanted: dict[int, list[Anchor]] = {}
    head = read_head(path)
    for anchor in [*anchors, *([head] if head else [])]:
        wanted.setdefault(anchor.seq, []).append(anchor)
    held = events = last = number = 0
    before, digest = GENESIS, ""
    for number, line, complete in _lines(path):
        if not complete and _fields(line) is None:
            findings.append(Finding(Verdict.TORN, number, f"{len(line)} bytes"))
            continue
        digest = hashlib.sha256(line + b"\n").hexdigest()
        fields = _fields(line)
        if fields is None:
            findings.append(Finding(Verdict.GARBAGE, number, f"{len(line)} bytes"))
            before = digest
            continue
        seq = fields["seq"]
        assert isinstance(seq, int)
        events += 1
        if fields["prev"] != before:
            findings.append(Finding(Verdict.CHAIN, number, f"number {seq}"))
        if seq != last + 1:
            findings.append(Finding(Verdict.SEQ, number, f"number {seq} follows {last}"))
        for anchor in wanted.pop(seq, ()):
            if digest.startswith(anchor.hash):
                held += 1
            else:
                findings.append(Finding(Verdict.ANCHOR, number, f"number {seq}, anchor in {anchor.origin}"))
        before, last = digest, seq
    for seq in sorted(wanted):
        for anchor in wanted[seq]:
            findings.append(Finding(Verdict.TRUNCATED, 0, f"number {seq} is missing, anchor in {anchor.origin}"))
    end = Anchor(last, digest, path) if events else None
    return Verified(events, end, held, tuple(findings))


def _event(seq: int, prev: str, event: str, at: datetime, by: str, details: Mapping[str, object]) -> dict[str, object]:
    own = {"seq": seq, "prev": prev, "event": event, "at": text_of(at), "by": by}
    taken = own.keys() & details.keys()
    if taken:
        raise ValueError(f"every audit line has its own {sorted(taken)}")
    return {**own, **details}


def _end(path: str) -> tuple[str, int]:
    """The hash of the last line and the number of the last event, from the end of the file."""
    descriptor = open_to_read(path)
    if descriptor is None:
        return GENESIS, 0
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        window = _TAIL
        while True:
            start = max(0, size - window)
            data = os.pread(file.fileno(), size - start, start)
            *lines, rest = data.split(b"\n")
            if start:
                lines = lines[1:]
            if rest:  # a crash left half a line: the append seals it, and the chain covers it
                lines.append(rest)
            for line in reversed(lines):
                fields = _fields(line)
                if fields is not None:
                    seq = fields["seq"]
                    assert isinstance(seq, int)
                    return hashlib.sha256(lines[-1] + b"\n").hexdigest(), seq
            if not start:
                return (hashlib.sha256(lines[-1] + b"\n").hexdigest() if lines else GENESIS), 0
            window *= 4


def _lines(path: str) -> Iterator[tuple[int, bytes, bool]]:
    descriptor = open_to_read(path)
    if descriptor is None:
        return
    with os.fdopen(descriptor, "rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE and not line.endswith(b"\n"):
                raise FileProblem(
                    f"{path}: a line is longer than {MAX_LINE} bytes: this is no audit log",
                    "restore it from a copy, and find out who wrote it",
                )
            number += 1
            complete = line.endswith(b"\n")
            yield number, line.removesuffix(b"\n"), complete


def _fields(line: bytes) -> dict[str, object] | None:
    try:
        value = loads(line, unique_keys=True)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    seq = value.get("seq")
    if not isinstance(seq, int) or isinstance(seq, bool) or not isinstance(value.get("prev"), str):
        return None
    return value
