"""The forecasts that were made, `forecasts.jsonl`: kept so that they can be graded when their days are over.

One line for each of the same days and subject: a later forecast takes the place of an earlier one. Who deletes the file
loses grades and nothing else, so lines that cannot be read are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

from callmeter.reports.forecast_grades import Said
from callmeter.store.files import Lock, read_file, replace_file
from callmeter.words.jsontext import dumps, loads
from callmeter.words.money import nano, usd

VERSION = 1
_KEPT = timedelta(400)
_MOST = 2000
_AMOUNTS = ("expected", "median", "low_80", "high_80", "low_95", "high_95")


def read_forecasts(path: str) -> list[Said]:
    """Every forecast that is kept, the oldest first. Raises FileProblem."""
    found = []
    for line in (read_file(path) or b"").splitlines():
        try:
            found.append(_parsed(loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def keep_forecasts(path: str, said: Sequence[Said], today: date) -> None:
    """Keep these, each in the place of one made before for the same days and subject; drop what is old, and the
    oldest when there are too many. Raises FileProblem, Busy."""
    if not said:
        return
    with Lock(path.removesuffix(".jsonl") + ".lock"):
        kept = {each.place: each for each in read_forecasts(path) if each.last >= today - _KEPT}
        for each in said:
            kept.pop(each.place, None)
            kept[each.place] = each
        lines = [_line(each) for each in list(kept.values())[-_MOST:]]
        replace_file(path, b"".join(lines), sync=False, locked=True)


def _line(said: Said) -> bytes:
    amounts = (said.expected, said.median, *said.likely, *said.nearly_sure)
    fields = {
        "v": VERSION,
        "made_at": said.made_at,
        "horizon": said.horizon,
        "first": said.first.isoformat(),
        "last": said.last.isoformat(),
        "by": dict(said.by),
        **{name: usd(amount) for name, amount in zip(_AMOUNTS, amounts, strict=True)},
    }
    return dumps(fields).encode("ascii") + b"\n"


def _parsed(value: object) -> Said:
    """Raises ValueError, KeyError, TypeError or AttributeError for what is no such line."""
    if not isinstance(value, dict) or value.get("v") != VERSION:
        raise ValueError("not a forecast")
    expected, median, *ends = (nano(Decimal(value[name])) for name in _AMOUNTS)
    return Said(
        str(value["made_at"]),
        str(value["horizon"]),
        date.fromisoformat(value["first"]),
        date.fromisoformat(value["last"]),
        expected,
        median,
        (ends[0], ends[1]),
        (ends[2], ends[3]),
        {str(name): str(text) for name, text in value["by"].items()},
    )
