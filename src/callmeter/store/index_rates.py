"""What rates hold for which works: pieces of time and of sizes of prompts, in each of which two tariffs stand still."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from callmeter.reports.savings_pricing import Charge
from callmeter.reports.savings_question import Question

DAY = 86_400_000
YEAR_1 = 62_135_596_800_000  # milliseconds from then to 1970: what is divided is not negative
NO_LIMIT = (1 << 63) - 1
# A call is set against all the pieces of its work, or, where those are more, of its work's day.
_FEW = 4


class Piece(NamedTuple):
    """The charges of a work for calls from `begin` to before `end` with a prompt of more than `above` tokens and at
    most `upto`; None where nobody knows the price, or there is no other model."""

    work: int
    begin: int
    end: int
    above: int
    upto: int
    own: Charge | None
    other: Charge | None


class Pieces:
    """The pieces of a question's works."""

    def __init__(self, question: Question) -> None:
        tariffs = [_merged(tariff) for tariff in question.tariffs]
        known: dict[tuple[int, int | None], list[Piece]] = {}
        self._works: list[list[Piece]] = []
        for number, work in enumerate(question.works):
            pair = work.own, work.other
            if pair not in known:
                known[pair] = _pieces(tariffs[work.own], () if work.other is None else tariffs[work.other])
            self._works.append([piece._replace(work=number) for piece in known[pair]])

    def within(self, begin: int, end: int) -> tuple[list[Piece], list[str]]:
        """The pieces of a part of the period, and conditions that tell which one `rates` holds for a row of a work."""
        works = [
            [
                piece._replace(begin=max(piece.begin, begin), end=min(piece.end, end))
                for piece in pieces
                if piece.begin < end and piece.end > begin
            ]
            for pieces in self._works
        ]
        conditions = []
        if max(map(len, works), default=0) > _FEW:
            works = [[each for piece in pieces for each in _by_day(piece)] for pieces in works]
            conditions.append(f"rates.day = (rows.ms + {YEAR_1}) // {DAY}")
        found = [piece for pieces in works for piece in pieces]
        if any((piece.begin, piece.end) != (begin, end) for piece in found):
            conditions.append("rows.ms >= rates.begins AND rows.ms < rates.ends")
        if any((piece.above, piece.upto) != (-1, NO_LIMIT) for piece in found):
            conditions.append("tokens_in > rates.above AND tokens_in <= rates.upto")
        return found, conditions


def columns_of(pieces: Sequence[Piece], money: str, counts: Sequence[str]) -> Mapping[str, tuple[str, list[object]]]:
    """The columns of a table of pieces, each with its type and its values; `counts` name what has an amount."""
    number, found = (
        "BIGINT",
        {
            "work": [piece.work for piece in pieces],
            "day": [(piece.begin + YEAR_1) // DAY for piece in pieces],
            "begins": [piece.begin for piece in pieces],
            "ends": [piece.end for piece in pieces],
            "above": [piece.above for piece in pieces],
            "upto": [piece.upto for piece in pieces],
            "takes": [_limit(piece.other, lambda charge: charge.context) for piece in pieces],
            "gives": [_limit(piece.other, lambda charge: charge.max_output) for piece in pieces],
        },
    )
    columns: dict[str, tuple[str, list[object]]] = {name: (number, list(values)) for name, values in found.items()}
    for side in ("own", "other"):
        rates = [None if charge is None else charge.rates for charge in (getattr(piece, side) for piece in pieces)]
        for name in ("request", "unit"):
            columns[f"{side}_{name}"] = money, [rate and getattr(rate, name) for rate in rates]
        for name in counts:
            # Arithmetic is several times as fast without NULL, so a bit says which amounts are unknown.
            columns[f"{side}_{name}"] = money, [rate and (getattr(rate, name) or 0) for rate in rates]
        bits = [(1 << place, name) for place, name in enumerate(counts)]
        columns[f"{side}_unknown"] = (
            "INTEGER",
            [rate and sum(bit for bit, name in bits if getattr(rate, name) is None) for rate in rates],
        )
    return columns


def _limit(charge: Charge | None, limit: Callable[[Charge], int | None]) -> int:
    found = None if charge is None else limit(charge)
    return NO_LIMIT if found is None else found


def _merged(charges: Sequence[Charge]) -> list[Charge]:
    """Charges, which come by day, without the days' borders where nothing changes."""
    found: list[Charge] = []
    last: dict[tuple[object, ...], int] = {}
    for charge in charges:
        key = charge[2:]
        place = last.get(key)
        if place is not None and found[place].end == charge.begin:
            found[place] = found[place]._replace(end=charge.end)
        else:
            last[key] = len(found)
            found.append(charge)
    return found


def _pieces(own: Sequence[Charge], other: Sequence[Charge]) -> list[Piece]:
    """All of time and all prompts, cut where one of two tariffs changes."""
    every = [*own, *other]
    times = sorted({-YEAR_1, NO_LIMIT, *(at for charge in every for at in (charge.begin, charge.end))})
    sizes = sorted({-1, NO_LIMIT, *(at for charge in every for at in (charge.above, charge.upto) if at is not None)})
    return [
        Piece(0, begin, end, above, upto, _holding(own, begin, above), _holding(other, begin, above))
        for begin, end in pairwise(times)
        for above, upto in pairwise(sizes)
    ]


def _holding(charges: Sequence[Charge], at: int, above: int) -> Charge | None:
    """The charge for calls at that time with a few more tokens than `above`."""
    for charge in charges:
        if charge.begin <= at < charge.end and charge.above <= above and (charge.upto is None or above < charge.upto):
            return charge
    return None


def _by_day(piece: Piece) -> list[Piece]:
    """A piece, cut at the midnights of UTC."""
    found = []
    begin = piece.begin
    while begin < piece.end:
        end = min(((begin + YEAR_1) // DAY + 1) * DAY - YEAR_1, piece.end)
        found.append(piece._replace(begin=begin, end=end))
        begin = end
    return found
