"""Outcomes from options, and from the rows of a CSV file or JSON lines.

    work_item,value,accepted,agent,note
    SUP-1,12.5,yes,code,merged

A row that is none is named by its line and leaves the others alone. A row without an `id` gets one that is made from
what it says (of equal rows, the first, the second, …), so that the same file can be recorded twice.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from itertools import chain
from typing import BinaryIO

from callmeter.reports.grouping import NONE
from callmeter.words.errors import CallmeterError, Malformed, UsageError
from callmeter.words.instant import parse_instant
from callmeter.words.jsontext import dumps, loads
from callmeter.words.lines import lines
from callmeter.words.money import parse_usd
from callmeter.words.outcome import MAX_NOTE, TAGS, VERSION, Outcome
from callmeter.words.tags import tag_value

MEMBERS = ("id", "work_item", "value", "accepted", *TAGS, "note", "at", "corrects")
_YES = ("true", "yes", "y", "1", "accepted")
_NO = ("false", "no", "n", "0", "rejected")
_LONGEST_ID = 200
# All rows of a file are recorded in one step, and are in memory until then.
MOST_ROWS = 200_000


@dataclass
class Rows:
    """What was read: outcomes with the line they stand on, and for each row that is none its line and the reason."""

    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)


class Reader:
    """Makes outcomes of what rows and options say. `aliases` are other names of tags; `moment` reads a time and raises
    UsageError; `now` and `by` are when and by whom it is recorded."""

    def __init__(self, aliases: Mapping[str, str], moment: Callable[[str], str], now: str, by: str) -> None:
        self._aliases = aliases
        self._moment = moment
        self._now = now
        self._by = by
        self._seen: dict[str, int] = {}

    def rows(self, file: BinaryIO, place: str) -> Rows:
        """All rows of a stream: JSON lines if the first line is an object, else CSV. Raises Malformed for a header
        that cannot be understood, and for too many rows; then there are none."""
        found = Rows()
        numbered = ((line.number, line.data) for line in lines(file.read))
        first = next(numbered, None)
        if first is None:
            return found
        every = chain([first], numbered)
        is_json = (first[1] or b"").removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
        for number, row in _json_rows(every) if is_json else _csv_rows(every, place, self._named):
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                found.outcomes.append((number, self.outcome(row)))
            except (ValueError, CallmeterError) as error:
                found.bad.append((number, error.message if isinstance(error, CallmeterError) else str(error)))
            if len(found.outcomes) + len(found.bad) > MOST_ROWS:
                raise Malformed(f"{place}: more than {MOST_ROWS:,} rows", "give them in several files")
        return found

    def outcome(self, said: Mapping[str, object], id: str = "") -> Outcome:
        """One outcome. Raises UsageError or ValueError for what is none."""
        given = {self._named(name): value for name, value in said.items() if value is not None and value != ""}
        unknown = [name for name in given if name not in MEMBERS]
        if unknown:
            raise UsageError(_unknown(unknown[0]))
        texts = {name: _text(name, given[name]) for name in ("work_item", *TAGS) if name in given}
        for name, text in texts.items():
            # As a work item it would share the value out among all work that has none.
            if text == NONE:
                raise UsageError(
                    f"{NONE} is no {name}: reports call calls so that have none",
                    f"name the `{name}`, or leave the row out",
                )
        value, accepted = _value(given.get("value")), _verdict(given.get("accepted"))
        corrects, note = _id("corrects", given.get("corrects", "")), _note(given.get("note", ""))
        if not corrects and "work_item" not in texts:
            raise UsageError("there is no work item", "name it with `--work-item`")
        if not corrects and value is None and accepted is None:
            raise UsageError(
                "nothing is said about what came of it",
                "add `--value`, `--accepted` or `--rejected`",
                code="no_outcome",
            )
        if corrects and not (texts or note) and value is None and accepted is None:
            raise UsageError("nothing is said about what is to change", "add `--value`, `--accepted` or `--rejected`")
        at = given.get("at")
        if at is not None and not isinstance(at, str):
            raise ValueError("`at` is not a time")
        own = _id("id", given.get("id", "")) or id or self._id_of(given)
        return Outcome(
            v=VERSION,
            id=own,
            at=self._now if at is None else self._past(at),
            value=value,
            accepted=accepted,
            note=note,
            corrects=corrects,
            recorded_at=self._now,
            by=self._by,
            **texts,
        )

    def _past(self, text: str) -> str:
        at = self._moment(text)
        # Clocks differ, and in another zone it is tomorrow already.
        if parse_instant(at) > parse_instant(self._now) + timedelta(days=1):
            raise UsageError(
                f"--at {text!r} has not happened yet", "name the time at which it was accepted or rejected"
            )
        return at

    def _named(self, text: str) -> str:
        name = text.strip().lower().replace("-", "_").replace(" ", "_")
        return self._aliases.get(name, name)

    def _id_of(self, given: Mapping[str, object]) -> str:
        said = dumps({name: str(given[name]).strip() for name in sorted(given)})
        count = self._seen[said] = self._seen.get(said, 0) + 1
        return "row-" + hashlib.sha256(f"{said} {count}".encode("ascii")).hexdigest()[:24]


def _json_rows(numbered: Iterator[tuple[int, bytes | None]]) -> Iterator[tuple[int, Mapping[str, object] | str]]:
    for number, data in numbered:
        if data is None:
            yield number, "the line is too long"
            continue
        try:
            found = loads(data.removeprefix(b"\xef\xbb\xbf"), unique_keys=True)
        except ValueError as error:
            yield number, f"not JSON: {error}"
            continue
        yield number, found if isinstance(found, dict) else "not a JSON object"


def _csv_rows(
    numbered: Iterator[tuple[int, bytes | None]], place: str, named: Callable[[str], str]
) -> Iterator[tuple[int, Mapping[str, object] | str]]:
    place_of = _Place()
    text = place_of.watched(numbered)
    header_line = next(text, "").removeprefix("\ufeff")
    delimiter = max(",;\t", key=header_line.count)
    header = [named(name) for name in next(csv.reader([header_line], delimiter=delimiter), [])]
    strange = [name for name in header if name not in MEMBERS]
    if strange or len(set(header)) != len(header):
        reason = _unknown(strange[0]) if strange else "a column stands twice"
        raise Malformed(
            f"{place}:{place_of.number}: {reason}", f"the first line names the columns: {', '.join(MEMBERS)}"
        )
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        before = place_of.number
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            # A quote that is not closed takes the lines after it along.
            first, last = place_of.first(before), place_of.number
            yield first, f"not CSV{f', down to line {last}' if last > first else ''}: {error}"
            continue
        number = place_of.first(before)
        if len(row) > len(header):
            yield number, f"{len(row)} cells under {len(header)} columns"
        elif any(not cell.isascii() and "\udc80" <= max(cell) <= "\udcff" for cell in row):
            yield number, "not UTF-8"
        elif any(cell.strip() for cell in row):
            yield number, {name: cell.strip() for name, cell in zip(header, row, strict=False)}


class _Place:
    """On which line of a file a row begins, when rows may have several and blank lines have gone."""

    def __init__(self) -> None:
        self.number = 0
        self._given: list[int] = []

    def watched(self, numbered: Iterator[tuple[int, bytes | None]]) -> Iterator[str]:
        for number, data in numbered:
            self.number = number
            self._given.append(number)
            # A line of more than 32 MiB is no row, and must not pass for a blank one.
            yield ("\0" if data is None else data.decode("utf-8", "surrogateescape")) + "\n"

    def first(self, before: int) -> int:
        """The first line that was given out after `before`."""
        given, self._given = [number for number in self._given if number > before], []
        return given[0] if given else self.number


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, MEMBERS, 1)
    return f"there is no `{name}` in an outcome" + (f": did you mean `{close[0]}`?" if close else "")


def _text(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"`{name}` is not text")
    return tag_value(name, str(value))


def _value(value: object) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError("`value` is not an amount")
    amount = parse_usd(str(value))
    if amount < 0:
        raise ValueError(f"the value {amount} is below 0: what is worth nothing is rejected")
    return amount


def _verdict(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise ValueError(f"`accepted` is neither yes nor no but {str(value)[:40]!a}")


def _id(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"`{name}` is not text")
    text = str(value).strip()
    if len(text) > _LONGEST_ID or not text.isprintable():
        raise ValueError(f"`{name}` is longer than {_LONGEST_ID} characters, or has one that cannot be printed")
    return text


def _note(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("`note` is not text")
    text = " ".join(value.split())
    if len(text) > MAX_NOTE or not text.isprintable():
        raise ValueError(f"`note` is longer than {MAX_NOTE} characters, or has one that cannot be printed")
    return text
