"""A key in memory, and what makes text a key."""

from __future__ import annotations

from callmeter.words.digest import hex_digest
from callmeter.words.errors import NoKey
from callmeter.words.key_shape import key_given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_KEY = 8 * 1024
# A shorter one is a stand-in (`none`, `test`) for an endpoint that takes any.
_SHORTEST = 12


class Secret(str):
    """A key whose text is `***`. Only `reveal` gives the key.

    It is text, so that whoever forgets `reveal` prints, formats, logs, encodes, pickles or sends three asterisks.
    """

    __slots__ = ("_key",)
    _key: str

    def __new__(cls, key: str) -> Secret:
        secret = str.__new__(cls, "***")
        secret._key = key
        return secret

    def reveal(self) -> str:
        """The key itself, for the header of a request or its place in a store."""
        return self._key

    def fingerprint(self, salt: bytes) -> str:
        """What names this key in logs and the registry: 12 hexadecimal digits of SHA-256 over salt and key."""
        return hex_digest(salt + self._key.encode("ascii"))[:12]

    def __eq__(self, other: object) -> bool:
        """Compares the keys, in the same time wherever they differ. Nothing but a Secret is equal to one."""
        import hmac

        return isinstance(other, Secret) and hmac.compare_digest(self._key, other._key)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, ("***",)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self


def require_no_key(values: Iterable[str], keys: Iterable[Secret]) -> None:
    """Raises UsageError when one of these values of tags has one of these keys in it."""
    known = [key.reveal() for key in keys if len(key.reveal()) >= _SHORTEST]
    if any(key in value for value in values for key in known):
        raise key_given("a tag")


def parse_secret(data: bytes, where: str) -> Secret:
    """The key in some bytes, less one newline at their end. `where` names the place in the message.

    Raises NoKey for everything that cannot be sent in a header or that no provider issues. The message never has
    any of the key.
    """
    key = data.removesuffix(b"\n").removesuffix(b"\r")
    if not key:
        fault = "is empty"
    elif len(key) > MAX_KEY:
        fault = f"is longer than {MAX_KEY} bytes"
    elif b"\n" in key or b"\r" in key:
        fault = "has more than one line"
    elif any(byte in b" \t" for byte in key):
        fault = "has a space in it"
    elif any(byte in b"\"'`" for byte in key):
        fault = "has a quotation mark in it"
    elif not all(0x21 <= byte <= 0x7E for byte in key):
        fault = "has a character that is not printable ASCII"
    else:
        return Secret(key.decode("ascii"))
    raise NoKey(f"the key {where} {fault}", "give the bare key, on one line, as the provider shows it", code="bad_key")
