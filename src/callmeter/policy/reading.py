"""Reading one object of a document strictly, without stopping at the first fault.

A method that reads a member gives its value; for a member that is not there, its default; for one that is wrong,
None or nothing, after a fault was noted. Amounts are exact: whole numbers and Decimal, never a float.
"""

from __future__ import annotations

from decimal import Decimal

from callmeter.words.errors import CallmeterError
from callmeter.words.key_shape import holds_key
from callmeter.words.money import nano
from callmeter.words.tags import MAX_VALUE, tag_name, tag_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Path = tuple[str | int, ...]

# A billion dollars is 10^18 nano-dollars, which still fits an SQL integer twice over.
MOST_USD = 10**9
MOST_COUNT = 10**15
VALUE_ADVICE = f"use up to {MAX_VALUE} visible characters"


class Fault:
    """`path` leads to what is wrong: keys and list positions. `advice` is what to write or do instead, or empty."""

    __slots__ = ("advice", "message", "path")

    def __init__(self, path: Path, message: str, advice: str = "") -> None:
        self.path = path
        self.message = message
        self.advice = advice

    @property
    def where(self) -> str:
        """The path as text: `quotas[2].limit`."""
        return path_text(self.path)

    def __str__(self) -> str:
        where = f"`{self.where}` " if self.path else ""
        return where + self.message + (f", {self.advice}" if self.advice else "")


class Unfit:
    """Stands in a document for what JSON does not know (NaN) or nobody can compute with (a number of 5,000 digits)."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Part:
    """An object of the document: its members, where it stands, and the list that takes faults."""

    __slots__ = ("faults", "found", "path")

    def __init__(self, found: dict[str, object], path: Path, faults: list[Fault]) -> None:
        self.found = found
        self.path = path
        self.faults = faults

    def fault(self, key: str | int | None, message: str, advice: str = "") -> None:
        """Note what is wrong with a member, or with the object itself."""
        self.faults.append(Fault(self.path if key is None else (*self.path, key), message, advice))

    def only(self, known: tuple[str, ...], *, ending: str = "") -> Part:
        """Itself; every member that is not known is a fault. With `ending`, objects may stand under names that end
        so."""
        for name, found in self.found.items():
            if name not in known and not (ending and name.endswith(ending) and isinstance(found, dict)):
                close = closest(name, known)
                self.fault(name, "is not known here", f"did you mean `{close}`?" if close else "")
        return self

    def part(self, key: str) -> Part | None:
        """An object."""
        found = self.found.get(key)
        if found is None and key not in self.found:
            return None
        if isinstance(found, dict):
            return Part(found, (*self.path, key), self.faults)
        self.fault(key, f"is not an object but {kind_of(found)}")
        return None

    def nothing(self) -> Part:
        """An object without members, for one that is not there."""
        return Part({}, self.path, self.faults)

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Its members, each of them an object."""
        for key in self.found:
            part = self.part(key)
            if part is not None:
                yield key, part

    def listed(self, key: str) -> Iterator[Part]:
        """A list of objects."""
        found = self.found.get(key, ())
        if not isinstance(found, list | tuple):
            self.fault(key, f"is not a list of objects but {kind_of(found)}")
            return
        for index, item in enumerate(found):
            if isinstance(item, dict):
                yield Part(item, (*self.path, key, index), self.faults)
            else:
                self.faults.append(Fault((*self.path, key, index), f"is not an object but {kind_of(item)}"))

    def usd(self, key: str) -> int | None:
        """An amount of money above 0, in nano-dollars."""
        return None if key not in self.found else self._checked(key, nano_dollars)

    def count(self, key: str) -> int | None:
        """A whole number above 0."""
        return None if key not in self.found else self._checked(key, whole_number)

    def share(self, key: str, default: Decimal, *, below_one: bool = False) -> Decimal:
        """A share from 0 to 1."""
        if key not in self.found:
            return default
        found = number_of(self.found[key])
        if found is not None and 0 <= found <= 1 and not (below_one and found == 1):
            return found
        self.fault(key, f"{shown(self.found[key])} is not a share from 0 to 1", _share_advice(found))
        return default

    def shares(self, key: str, default: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
        """A list of shares above 0 and up to 1, as a sorted tuple."""
        found = self.found.get(key, default)
        if found is default:
            return default
        if not isinstance(found, list):
            self.fault(key, f"is not a list of shares such as `[0.5, 0.9]` but {kind_of(found)}")
            return default
        result = set()
        for index, item in enumerate(found):
            share = number_of(item)
            if share is not None and 0 < share <= 1:
                result.add(share)
            else:
                path = (*self.path, key, index)
                self.faults.append(
                    Fault(path, f"{shown(item)} is not a share above 0 and up to 1", _share_advice(share))
                )
        return tuple(sorted(result))

    def choice(self, key: str, among: tuple[str, ...], default: str) -> str:
        """One of several words."""
        if key not in self.found:
            return default
        found = self.found[key]
        if isinstance(found, str) and found in among:
            return found
        close = closest(found, among) if isinstance(found, str) else ""
        self.fault(
            key,
            f"{shown(found)} is none of {', '.join(among)}",
            f"did you mean `{close}`?" if close else "",
        )
        return default

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        found = self.found.get(key, default)
        if isinstance(found, bool):
            return found
        self.fault(key, f"{shown(found)} is neither true nor false")
        return default

    def texts(self, key: str, what: str) -> tuple[str, ...]:
        """A list of texts, none of them empty or unprintable."""
        found = self.found.get(key, ())
        if not isinstance(found, list | tuple):
            self.fault(key, f"is not a list of {what} but {kind_of(found)}")
            return ()
        result = []
        for index, item in enumerate(found):
            if isinstance(item, str) and item.strip() and item.isprintable():
                result.append(item.strip())
            else:
                self.faults.append(Fault((*self.path, key, index), f"{shown(item)} is not one of the {what}"))
        return tuple(result)

    def values(self, key: str, tag: str, what: str) -> tuple[str, ...]:
        """A list of a tag's values, in the form in which calls have them; one that stands twice is a fault."""
        result: dict[str, None] = {}
        for index, text in enumerate(self.texts(key, what)):
            value = self.value(tag, text, key)
            if value in result:
                self.faults.append(Fault((*self.path, key, index), f"{shown(value)} stands twice"))
            result[value] = None
        return tuple(result)

    def value(self, tag: str, text: str, key: str | None = None) -> str:
        """A tag's value, in the form in which calls have it."""
        try:
            return tag_value(tag, text)
        except CallmeterError:
            self.fault(key if key is not None else text, f"{shown(text)} cannot be the value of a tag", VALUE_ADVICE)
            return text

    def name(self, text: str, key: str) -> str:
        """A tag's name, in its one form."""
        try:
            return tag_name(text)
        except CallmeterError:
            self.fault(key, f"{shown(text)} is not a tag's name", "use letters, digits, `_` and `.`")
            return text

    def _checked(self, key: str, read: Callable[[object], int]) -> int | None:
        try:
            return read(self.found[key])
        except ValueError as error:
            message, advice = error.args
            self.fault(key, message, advice)
            return None


def number_of(value: object) -> Decimal | None:
    """A JSON number, or a text that is one in plain decimals ("0.25"), exactly; else None."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str) and len(value) <= 40 and value.isascii() and value.replace(".", "", 1).isdigit():
        return None if value[0] == "." or value[-1] == "." else Decimal(value)
    return None


def nano_dollars(value: object) -> int:
    """An amount above 0 in nano-dollars, rounded up. Raises ValueError(message, advice)."""
    number = number_of(value)
    if number is None:
        raise ValueError(f"{shown(value)} is not an amount in USD", _number_advice(value))
    if not 0 < number < MOST_USD:
        raise ValueError(f"{shown(value)} is not above 0 and below a billion USD", "")
    try:
        return nano(number)
    except ValueError:
        raise ValueError(f"{shown(value)} has too many digits", "") from None


def whole_number(value: object) -> int:
    """A whole number above 0. Raises ValueError(message, advice)."""
    number = number_of(value)
    if number is None or number != number.to_integral_value() or (isinstance(value, str) and "." in value):
        raise ValueError(f"{shown(value)} is not a whole number", _number_advice(value))
    if not 0 < number <= MOST_COUNT:
        raise ValueError(f"{shown(value)} is not a whole number above 0 and up to {MOST_COUNT}", "")
    return int(number)


def closest(name: str, known: tuple[str, ...]) -> str:
    """The known word that was probably meant, or nothing."""
    import difflib

    plain = name.strip().lower().replace("-", "_")
    begun = [word for word in known if len(plain) > 2 and word.startswith(plain)]
    close = begun if len(begun) == 1 else difflib.get_close_matches(plain, known, 1)
    return close[0] if close else ""


def shown(value: object) -> str:
    """A value in a message. Not in full if it is long or could be a key: people paste them into odd places."""
    if isinstance(value, Unfit):
        return value.text if len(value.text) <= 40 else f"a number of {len(value.text)} digits"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        return (
            f"a text of {len(value)} characters"
            if len(value) > 40 or "sk-" in value or holds_key(value)
            else repr(value)
        )
    if isinstance(value, int | Decimal):
        text = str(value)
        return text if len(text) <= 40 else f"a number of {len(text)} digits"
    return kind_of(value)


def kind_of(value: object) -> str:
    """What a value is, in JSON's words."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return "a text"
    return "null" if value is None else "true or false" if isinstance(value, bool) else "a number"


def path_text(path: Path) -> str:
    """`quotas[2].limit`; a key that holds a dot or a bracket stands in quotes."""
    result = ""
    for step in path:
        if isinstance(step, int):
            result += f"[{step}]"
            continue
        name = step if len(step) <= 60 and "sk-" not in step else f"{step[:6]}…"
        if not name or not name.replace("_", "").replace("-", "").replace("$", "").isalnum():
            name = f'"{name}"' if name.isprintable() else ascii(name)
        result += f".{name}" if result else name
    return result


def _number_advice(value: object) -> str:
    """The number that a person probably meant."""
    if not isinstance(value, str) or len(value) > 40:
        return ""
    import unicodedata

    plain = unicodedata.normalize("NFKC", value).upper().replace("USD", "").strip("$€ ").replace("_", "")
    for ending, unit in (("TOKENS", "tokens"), ("TOK", "tokens"), ("CALLS", "calls")):
        count = plain.removesuffix(ending).strip()
        if count != plain and number_of(count) is not None:
            return f'write `{count}`, and `"unit": "{unit}"` beside it'
    number = number_of(plain)
    return f"write `{plain}`" if number is not None else ""


def _share_advice(found: Decimal | None) -> str:
    if found is not None and 1 < found <= 100:
        return f"did you mean `{(found / 100).normalize():f}`?"
    return ""
