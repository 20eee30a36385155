"""Keys in the desktop's keychain: `keychain:NAME`. GNOME Keyring or KWallet by the Secret Service, or macOS's Keychain.

Each slot is an entry of the service `callmeter`. A keychain knows no compare-and-set: a lock beside the file store's
keys keeps this installation's writers apart; and its readers, since gnome-keyring 42.1 takes an entry out before it
puts the new one in: a reader at that moment finds nothing or, once in some hundred times, ends the daemon.

A locked keychain is an error; it is never asked to unlock itself, since that opens a window and waits, and cron and
agents have nobody to type a password.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from callmeter.secrets.deadline import in_time
from callmeter.secrets.locked import LockedStore
from callmeter.secrets.secret import Secret, parse_secret
from callmeter.secrets.store import CURRENT, SecretStore, library_missing
from callmeter.words.errors import Unavailable

try:
    from keyring.backend import KeyringBackend
    from keyring.errors import KeyringError, PasswordDeleteError

    if sys.platform == "darwin":
        from keyring.backends.macOS import Keyring
    else:
        import secretstorage
        from keyring.backends.SecretService import Keyring
        from secretstorage.exceptions import SecretStorageException
except ImportError:
    raise library_missing("the keychain", "keychain") from None

_SERVICE = "callmeter"
_WHERE = "the keychain"
_Result = TypeVar("_Result")


def keychain_store(directory: str) -> SecretStore:
    """The store over the keychain of whoever runs this; its lock lies in `directory`."""
    return LockedStore(_Keychain(), os.path.join(directory, ".keychain.lock"), readers_too=True)


class _Keychain:
    """See `locked.Entries`."""

    writable = True

    def __init__(self) -> None:
        # Not keyring's own choice, which takes whatever ranks highest, a file in the clear among them.
        self._keyring: KeyringBackend = Keyring()  # type: ignore[no-untyped-call, unused-ignore]

    def read(self, name: str, slot: str) -> Secret | None:
        """The key, or None."""
        found = self._ask(lambda: self._keyring.get_password(_SERVICE, _user(name, slot)))
        return None if found is None else parse_secret(found.encode("utf-8"), f"in {self.describe(name)}")

    def put(self, name: str, slot: str, secret: Secret) -> None:
        """Replace an entry."""
        self._ask(lambda: self._keyring.set_password(_SERVICE, _user(name, slot), secret.reveal()))

    def remove(self, name: str, slot: str) -> bool:
        """Remove an entry; False when there was none."""

        def remove() -> bool:
            try:
                self._keyring.delete_password(_SERVICE, _user(name, slot))
            except PasswordDeleteError:
                return False
            return True

        return self._ask(remove)

    def describe(self, name: str) -> str:
        """The entry's service and name."""
        return f"the keychain, {_SERVICE}/{name}"

    def _ask(self, action: Callable[[], _Result]) -> _Result:
        def ask() -> _Result:
            if sys.platform == "darwin":
                return action()
            _require_unlocked()
            try:
                return action()
            except (SecretStorageException, OSError) as error:
                raise _unreachable(error) from None

        try:
            return in_time(_WHERE, ask)
        except KeyringError as error:
            raise Unavailable(
                f"{_WHERE} failed ({type(error).__name__})",
                "unlock it, and see whether it can be read",
                code="store_failed",
            ) from None


def _require_unlocked() -> None:
    """Raises Unavailable for a keychain that is locked, has no default collection, or is out of reach."""
    try:
        connection = secretstorage.dbus_init()
        try:
            # By its alias: `get_default_collection` makes a new one where there is none, and asks for a password.
            locked = secretstorage.Collection(connection, "/org/freedesktop/secrets/aliases/default").is_locked()
        finally:
            connection.close()
    except (SecretStorageException, OSError) as error:
        raise _unreachable(error) from None
    if locked:
        raise Unavailable(
            f"{_WHERE} is locked",
            "unlock it (log in to the desktop), or keep keys of agents and cron in a `file:` or `vault:` store",
            code="store_locked",
        )


def _unreachable(error: Exception) -> Unavailable:
    return Unavailable(
        f"{_WHERE} cannot be reached ({type(error).__name__}): no session bus, or no keyring that was unlocked once",
        "cron and services have none: move the key with `callmeter budget keys move LABEL file`",
        code="store_down",
    )


def _user(name: str, slot: str) -> str:
    return name if slot == CURRENT else f"{name}.{slot}"
