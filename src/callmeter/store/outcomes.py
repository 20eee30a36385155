"""The outcomes file, `outcomes.jsonl`: appended to under a lock, never changed; each id counts once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from callmeter.store.files import Lock, append_line, open_to_read
from callmeter.words.outcome import MAX_LINE, Outcome, outcome_line, parse_outcome

_MOST_LISTED = 100


@dataclass
class OutcomesRead:
    """The lines of an outcomes file in their order, corrections too; `bad` has number and reason of the first hundred
    of `bad_count` lines that are none."""

    outcomes: list[Outcome] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)
    bad_count: int = 0


@dataclass
class Recorded:
    """What `record` did: `new` lines were written, `known` were there already, and `conflicts` have the id of one that
    says something else; `strays` correct an outcome that there is not. The last two were not written."""

    new: list[Outcome] = field(default_factory=list)
    known: list[Outcome] = field(default_factory=list)
    conflicts: list[Outcome] = field(default_factory=list)
    strays: list[Outcome] = field(default_factory=list)


def read_outcomes(path: str) -> OutcomesRead:
    """Everything that was recorded; nothing when there is no file. Raises FileProblem."""
    found = OutcomesRead()
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            found.outcomes.append(parse_outcome(line))
        except ValueError as error:
            found.bad_count += 1
            if len(found.bad) < _MOST_LISTED:
                found.bad.append((number, str(error)))
    return found


def record(path: str, outcomes: Sequence[Outcome], tell: Callable[[Recorded], None]) -> Recorded:
    """Append those that are not there yet, all at once and durably. `tell` runs before anything is written, and only
    if something will be. Raises FileProblem or Busy; then nothing was written."""
    with Lock(lock_of(path)):
        there = {outcome.id: outcome for outcome in reversed(read_outcomes(path).outcomes)}
        done = Recorded()
        for outcome in outcomes:
            before = there.get(outcome.id)
            if before is not None:
                (done.known if before.same(outcome) else done.conflicts).append(outcome)
            elif outcome.corrects and outcome.corrects not in there:
                done.strays.append(outcome)
            else:
                there[outcome.id] = outcome
                done.new.append(outcome)
        if done.new:
            tell(done)
            append_line(path, b"".join(map(outcome_line, done.new)), sync=True)
    return done


def lock_of(path: str) -> str:
    """`outcomes.lock` beside `outcomes.jsonl`."""
    return path.removesuffix(".jsonl") + ".lock"


def _lines(path: str) -> Iterator[bytes]:
    descriptor = open_to_read(path)
    if descriptor is None:
        return
    with os.fdopen(descriptor, "rb") as file:
        while line := file.readline(MAX_LINE + 2):
            whole = line
            while not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
                if not line:
                    break
            yield whole.rstrip(b"\r\n")
