"""The protocol of secret stores. A reference such as `file:code@openrouter` names a store and a name in it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from callmeter.secrets.secret import Secret
else:
    Protocol = object


class SecretStore(Protocol):
    """Keeps keys by name. One process writes a name at a time: the registry's lock sees to that."""

    def read(self, name: str) -> Secret | None:
        """The key as it is now, or None when there is none. Raises NoKey when what is there must not be used."""

    def write(self, name: str, secret: Secret) -> None:
        """Put the key in place of what is there, at once and durably. Raises NoKey, Unavailable."""

    def delete(self, name: str) -> bool:
        """Remove the key; False when there was none. Raises NoKey, Unavailable."""

    def describe(self, name: str) -> str:
        """Where the key lies, for a person."""
