"""How commands reach outcomes: recording one or a file of them, and reading them for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO

from callmeter.cli.auditing import audit
from callmeter.cli.reading import Clock
from callmeter.cli.world import World
from callmeter.exchange.outcome_rows import Reader
from callmeter.reports.outcomes import faults_note, standing
from callmeter.store.files import file_problem
from callmeter.store.outcomes import Recorded, read_outcomes, record
from callmeter.words.errors import Malformed, UsageError
from callmeter.words.ids import uuid7
from callmeter.words.instant import text_of
from callmeter.words.money import shown, usd
from callmeter.words.outcome import Outcome
from callmeter.words.period import EVER, Period, moment, zone_named

_MOST_SAID = 100


def standing_outcomes(world: World, clock: Clock, period: Period = EVER) -> tuple[list[Outcome], list[str]]:
    """The outcomes of a period as they stood then, and what to say about lines that are none."""
    path = world.paths.outcomes
    found = read_outcomes(path)
    return standing(found.outcomes, period=period, as_of=clock.as_of), faults_note(found.bad, found.bad_count, path)


def record_one(world: World, said: Mapping[str, object]) -> None:
    """Record what options say. Raises UsageError for what is no outcome, an id that says something else already, and
    a correction of nothing."""
    try:
        outcome = _reader(world).outcome(said, uuid7(int(world.clock() * 1000)))
    except ValueError as error:
        raise UsageError(str(error), "run `callmeter budget outcome record --help`") from None
    done = _record(world, [outcome], "")
    if done.conflicts:
        raise _conflict(outcome)
    if done.strays:
        raise _stray(outcome)
    how = "recorded" if done.new else "known already"
    worth = "" if outcome.value is None else f", {shown(outcome.worth)}"
    about = f"corrects {outcome.corrects}" if outcome.corrects else outcome.work_item
    world.out.note(f"callmeter: {how}: {about}{worth}, id {outcome.id}")


def record_file(world: World, source: str) -> None:
    """Record the rows of a file. Raises Malformed when some are no outcomes, after the others were recorded."""
    place = "stdin" if source == "-" else source
    with _opened(world, source) as file:
        rows = _reader(world).rows(file, place)
    done = _record(world, [outcome for _, outcome in rows.outcomes], place)
    numbers = {id(outcome): number for number, outcome in rows.outcomes}
    bad = [*rows.bad]
    bad += [(numbers[id(outcome)], _conflict(outcome).message) for outcome in done.conflicts]
    bad += [(numbers[id(outcome)], _stray(outcome).message) for outcome in done.strays]
    counts = f"{len(done.new):,} recorded, {len(done.known):,} known already"
    if not bad:
        world.out.note(f"callmeter: {counts}")
        return
    bad.sort()
    for number, reason in bad[:_MOST_SAID]:
        world.out.say(f"{place}:{number}: {reason}")
    if len(bad) > _MOST_SAID:
        world.out.say(f"{place}: {len(bad) - _MOST_SAID:,} more")
    total = len(bad) + len(done.new) + len(done.known)
    raise Malformed(
        f"{place}: {len(bad):,} of {total:,} rows are no outcomes; {counts}",
        "mend those lines and give the whole file again: nothing counts twice",
        rows=[{"line": number, "message": reason} for number, reason in bad],
    )


def _record(world: World, outcomes: Sequence[Outcome], place: str) -> Recorded:
    def tell(done: Recorded) -> None:
        first = done.new[0]
        facts: dict[str, object] = {
            "outcomes": len(done.new),
            "value": usd(sum(outcome.worth for outcome in done.new)),
            "ids": [outcome.id for outcome in done.new[:20]],
        }
        if place:
            facts["from"] = place[-200:]
        elif first.corrects:
            facts["corrects"] = first.corrects
        else:
            facts["work_item"] = first.work_item
        audit(world)("outcome.record", facts)

    return record(world.paths.outcomes, outcomes, tell)


def _conflict(outcome: Outcome) -> UsageError:
    return UsageError(
        f"the outcome {outcome.id} was recorded before and says something else",
        f"to change it, use `--corrects {outcome.id}`",
        code="conflict",
    )


def _stray(outcome: Outcome) -> UsageError:
    return UsageError(
        f"there is no outcome {outcome.corrects} to correct", "run `callmeter budget outcome list`", code="no_outcome"
    )


def _reader(world: World) -> Reader:
    zone = zone_named(world.policy.time_zone)
    return Reader(
        world.policy.aliases, lambda text: text_of(moment(text, zone, "--at")), text_of(world.now()), world.who
    )


def _opened(world: World, source: str) -> BinaryIO:
    if source == "-":
        stdin = world.stdin
        if stdin is None:
            raise UsageError("--from -: standard input is closed", "name a file, or pipe one in")
        return stdin.buffer
    try:
        # A pipe will do: `--from <(a query)`.
        return open(source, "rb")
    except FileNotFoundError:
        problem = f"there is no file {source}"
    except IsADirectoryError:
        problem = f"{source} is a directory"
    except OSError as error:
        raise file_problem("read", source, error) from None
    raise UsageError(f"--from: {problem}", "name a CSV or JSON lines file", code="no_file")
