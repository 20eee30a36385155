"""Where prices come from: a person's own, the provider's `/models` as it was fetched last, the shipped table.

The shipped table and the fetched listings have one layout, JSON lines: what it is and its date; for each provider
a line with its `fallback` providers and `patterns`; for each model a line with the `names` that mean it. A
look-up searches the bytes for the quoted name and parses that line alone: agents do this at every call.
"""

from __future__ import annotations

import os
from decimal import Decimal

from callmeter.policy.price_overrides import BadOverride, Override, parse_overrides
from callmeter.policy.prices import FREE, Price, Rate, from_json
from callmeter.store.files import read_file, replace_file
from callmeter.store.toml import read_toml
from callmeter.words.errors import CallmeterError, Malformed
from callmeter.words.instant import parse_instant
from callmeter.words.jsontext import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

SHIPPED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "prices.jsonl")

# OpenRouter takes these on any model; they only change the routing. Others (`:free`, `:batch`) are models of their own.
_ROUTING = (":nitro", ":floor", ":exacto", ":online")
# What `:online` adds to a request when the model has no search of its own: five results at 4 USD a thousand.
_ONLINE_FEE = Decimal("0.02")
# A listing says what holds when it is fetched. For calls longer before that, the dated prices of the table are better.
_LISTING_REACHES_BACK_DAYS = 7


class PriceFound:
    """A price, the model's name in its source, and where it comes from.

    `source` is `override`, `provider`, `table` or `local`; `date` is the day of that source, or "". `bounded` is
    False when the endpoint adds to the prompt by itself, so that no worst case can be given.
    """

    __slots__ = ("bounded", "context", "date", "max_output", "model", "price", "source")

    def __init__(
        self,
        price: Price,
        model: str,
        source: str,
        date: str = "",
        context: int | None = None,
        max_output: int | None = None,
        bounded: bool = True,
    ) -> None:
        self.price = price
        self.model = model
        self.source = source
        self.date = date
        self.context = context
        self.max_output = max_output
        self.bounded = bounded


def find_price(
    provider: str,
    model: str,
    at: datetime,
    *,
    overrides: str,
    cache_dir: str,
    price_as: str | None = None,
    free: bool = False,
) -> PriceFound | None:
    """What a model cost at an instant; None is unknown.

    `overrides` is the path of prices.toml. `price_as` names the provider whose part of the shipped table holds for
    this one, where it is not its own; with "" none does. `free` (and the provider `local`) prices at 0 what has no
    price of one's own. Raises Malformed for a prices.toml that is wrong.
    """
    names = list(_names(provider, model))
    own = read_overrides(overrides, cache_dir).get(provider, {})
    found = None
    for name in names:
        override = own.get(name)
        if override is not None and override.price.amounts(at):
            found = PriceFound(override.price, name, "override", override.date)
            break
    else:
        if free or provider == "local":
            return PriceFound(FREE, model, "local")
        table = provider if price_as is None else price_as
        for source, date, line in _lines(provider, table, names, at, cache_dir):
            found = _found(line, source, date)
            break
    if found is not None and provider == "openrouter" and model.endswith(":online"):
        _add_search(found, at)
    return found


def source_changes(provider: str, *, overrides: str, cache_dir: str) -> list[datetime]:
    """From when on `find_price` may take another source for a provider's models, in order of time; between these
    instants it gives the same. Raises Malformed for a prices.toml that is wrong."""
    from datetime import timedelta

    entries = read_overrides(overrides, cache_dir).get(provider, {}).values()
    found = {at for entry in entries for rate in entry.price.rates for at in (rate.since, rate.until) if at is not None}
    listing = read_listing(cache_dir, provider)
    if listing is not None:
        # The first instant that `find_price` takes to be so near.
        found.add(parse_instant(listing[0]) - timedelta(days=_LISTING_REACHES_BACK_DAYS) + timedelta(microseconds=1))
    return sorted(found)


def all_prices(
    provider: str, at: datetime, *, overrides: str, cache_dir: str, price_as: str | None = None
) -> list[PriceFound]:
    """Every model with a price, by name: one's own and the provider's listing, or the shipped table without one."""
    own = read_overrides(overrides, cache_dir).get(provider, {})
    result = {
        name: PriceFound(override.price, name, "override", override.date)
        for name, override in own.items()
        if override.price.amounts(at)
    }
    listing = read_listing(cache_dir, provider)
    if listing is not None:
        source, date, lines = "provider", listing[0], list(listing[1].values())
    else:
        data = _shipped()
        source, date, lines = "table", _date_of(data), list(_section(data, provider if price_as is None else price_as))
    for line in lines:
        found = _found(line, source, date)
        if found is not None:
            result.setdefault(found.model, found)
    return [result[name] for name in sorted(result)]


def read_overrides(path: str, cache_dir: str) -> dict[str, dict[str, Override]]:
    """A person's own prices by provider and model. Raises Malformed with file and line."""
    document = read_toml(path, cache_dir)
    try:
        return parse_overrides(document)
    except BadOverride as error:
        raise Malformed(
            f"{path}:{_line_number(path, error)}: {error}",
            f"mend that line of {path}, or set the price with `callmeter prices set`",
        ) from None


def read_listing(cache_dir: str, provider: str) -> tuple[str, dict[str, dict[str, object]]] | None:
    """When the provider's listing was fetched (RFC 3339) and its lines by model; None without a usable one."""
    data = _read_listing(cache_dir, provider)
    if data is None:
        return None
    try:
        return _date_of(data), {str(line["id"]): line for line in _section(data, provider)}
    except (ValueError, KeyError):
        return None


def write_listing(cache_dir: str, provider: str, fetched_at: str, lines: Iterable[dict[str, object]]) -> None:
    """Keep a listing in place of the one before. Raises FileProblem."""
    head = [{"table": provider, "date": fetched_at}, {"provider": provider, "fallback": [], "patterns": []}]
    text = "".join(dumps(line) + "\n" for line in [*head, *lines])
    replace_file(_listing_path(cache_dir, provider), text.encode("ascii"))


def shipped_version() -> tuple[str, str]:
    """What the shipped table was made from, and its date."""
    data = _shipped()
    head = loads(data[: data.find(b"\n")])
    assert isinstance(head, dict)
    return str(head["table"]), str(head["date"])


def _lines(
    provider: str, section: str, names: list[str], at: datetime, cache_dir: str
) -> Iterator[tuple[str, str, dict[str, object]]]:
    """The model's lines in the sources that have it, the best source first, as (source, its date, line)."""
    shipped = _shipped()
    table = ("table", _date_of(shipped), shipped, section)
    sources = [table]
    listing = _read_listing(cache_dir, provider)
    if listing is not None:
        try:
            date = _date_of(listing)
            reaches = (parse_instant(date) - at).days < _LISTING_REACHES_BACK_DAYS
            # A listing older than the table is a forgotten one.
            sources.insert(0 if reaches and date >= table[1] else 1, ("provider", date, listing, provider))
        except ValueError:
            pass  # a damaged cache is no cache
    for source, date, data, part in sources:
        line = None
        for name in names:
            try:
                line = line or _look_up(data, part, name)
            except (ValueError, KeyError, TypeError):
                if source == "table":
                    raise
        if line is not None:
            yield source, date, line


def _found(line: dict[str, object], source: str, date: str) -> PriceFound | None:
    """None for a model that its source lists without a price."""
    rates, context, most = line["rates"], line.get("context"), line.get("max_output")
    if not rates:
        return None
    return PriceFound(
        from_json(rates),
        str(line["id"]),
        source,
        date[:10],
        context if isinstance(context, int) else None,
        most if isinstance(most, int) else None,
    )


def _names(provider: str, model: str) -> Iterator[str]:
    """What a model may be called in a source, the exact name first."""
    yield model
    if provider != "openrouter":
        return
    plain = model
    while plain.endswith(_ROUTING):
        plain = plain.rpartition(":")[0]
    if plain != model:
        yield plain
    # The slug with which OpenRouter says what it served has a date.
    base, colon, variant = plain.partition(":")
    for length in (len("-20261121"), len("-2026-11-21")):
        date = base[-length:]
        if date[:3] == "-20" and len(digits := date.replace("-", "")) == 8 and digits.isdigit():
            yield base[:-length] + colon + variant


def _add_search(found: PriceFound, at: datetime) -> None:
    amounts = found.price.amounts(at)
    fee = amounts.get("request", Decimal(0)) + max(amounts.get("web_search", Decimal(0)), _ONLINE_FEE)
    found.price = Price((*found.price.rates, Rate({"request": fee})))
    found.bounded = False


def _look_up(data: bytes, provider: str, name: str) -> dict[str, object] | None:
    """The line of the model that a provider's part of a price file has under this name."""
    name = name.lower()
    line = _match(data, provider, name, follow=True)
    if line is None and "-20" in name:
        import re

        # OpenRouter and LiteLLM write `-20251211` where the price data has `-2025-12-11`.
        dashed = re.sub(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)", r"-\1-\2-\3", name)
        if dashed != name:
            line = _match(data, provider, dashed, follow=True)
    return line


def _match(data: bytes, provider: str, name: str, *, follow: bool) -> dict[str, object] | None:
    start, body, end = _bounds(data, provider)
    if start < 0:
        return None
    quoted = dumps(name).encode("ascii")
    place = data.find(quoted, body, end)
    while place >= 0:
        line_end = data.find(b"\n", place)
        line = loads(data[data.rfind(b"\n", 0, place) + 1 : line_end])
        assert isinstance(line, dict)
        if name in line["names"]:
            return line
        place = data.find(quoted, line_end, end)
    head = loads(data[start:body])
    assert isinstance(head, dict)
    for clause, model in head["patterns"]:
        if _holds(clause, name):
            place = data.index(b'\n{"id":' + dumps(model).encode("ascii") + b",", body - 1, end)
            line = loads(data[place + 1 : data.find(b"\n", place + 1)])
            assert isinstance(line, dict)
            return line
    if follow:
        for other in head["fallback"]:
            line = _match(data, other, name, follow=False)
            if line is not None:
                return line
    return None


def _holds(clause: str | list[str], name: str) -> bool:
    """Whether a pattern holds: `^` starts with, `$` ends with, `*` contains, `=` equals, `#` the same with `#` for
    a digit, `~` regular expression; of a list, all."""
    if isinstance(clause, list):
        return all(_holds(part, name) for part in clause)
    sign, text = clause[0], clause[1:]
    if sign == "^":
        return name.startswith(text)
    if sign == "$":
        return name.endswith(text)
    if sign == "*":
        return text in name
    if sign == "=":
        return name == text
    if sign == "#":
        return len(name) == len(text) and all(
            a == b or (a == "#" and b.isdigit()) for a, b in zip(text, name, strict=True)
        )
    import re

    return re.search(text, name) is not None


def _bounds(data: bytes, provider: str) -> tuple[int, int, int]:
    """Where a provider's line, its models and its end are; (-1, -1, -1) without one."""
    start = data.find(b'\n{"provider":' + dumps(provider).encode("ascii") + b",") + 1
    if start == 0:
        return -1, -1, -1
    end = data.find(b'\n{"provider":', start)
    return start, data.index(b"\n", start) + 1, len(data) if end < 0 else end


def _section(data: bytes, provider: str) -> Iterator[dict[str, object]]:
    _, body, end = _bounds(data, provider)
    if body >= 0:
        for text in data[body:end].split(b"\n"):
            if text:
                line = loads(text)
                if not isinstance(line, dict):
                    raise ValueError("a line that is no object")
                yield line


def _date_of(data: bytes) -> str:
    head = loads(data[: data.find(b"\n")])
    if not isinstance(head, dict) or not isinstance(head.get("date"), str):
        raise ValueError("no date")
    return str(head["date"])


def _shipped() -> bytes:
    # Not read_file: an installer may have put a symbolic link here.
    with open(SHIPPED, "rb") as file:
        return file.read()


def _listing_path(cache_dir: str, provider: str) -> str:
    # ASCII only: it may come from a log, and file names need not be able to hold more.
    safe = "".join(c if (c.isascii() and c.isalnum()) or c in "-_." else f"%{ord(c):02X}" for c in provider)
    return os.path.join(cache_dir, f"models-{safe}.jsonl")


def _read_listing(cache_dir: str, provider: str) -> bytes | None:
    try:
        return read_file(_listing_path(cache_dir, provider))
    except CallmeterError:
        return None


def _line_number(path: str, error: BadOverride) -> int:
    """The line of a wrong entry: of its member, else of its header, else the first."""
    best = 1
    lines = (read_file(path) or b"").decode("utf-8-sig", "replace").splitlines()
    inside = False
    for number, text in enumerate(lines, 1):
        plain = text.strip()
        if plain.startswith("["):
            inside = error.table[-1] in plain
            if inside:
                best = number
        elif inside and error.member and plain.partition("=")[0].strip().strip("\"'") == error.member:
            return number
    return best
