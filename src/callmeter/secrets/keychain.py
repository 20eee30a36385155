"""Keys in the desktop's keychain: `keychain:NAME`. GNOME Keyring or KWallet by the Secret Service, or macOS's Keychain.

Each slot is an entry of the service `callmeter`. A keychain knows no compare-and-set: a lock beside the file store's
keys keeps this installation's writers apart; and its readers, since gnome-keyring takes an entry out before it puts
the new one in: a reader at that moment finds nothing.

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
        from jeepney import DBusErrorResponse  # type: ignore[import-untyped]
        from keyring.backends import SecretService
        from secretstorage.exceptions import LockedException, SecretStorageException

        _BROKEN = (SecretStorageException, DBusErrorResponse, OSError)
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
            try:
                return action()
            except LockedException:
                raise _locked() from None
            except _BROKEN as error:
                raise _unreachable(error) from None

        try:
            return in_time(_WHERE, ask)
        except KeyringError as error:
            raise Unavailable(
                f"{_WHERE} failed ({type(error).__name__})",
                "unlock it, and see whether it can be read",
                code="store_failed",
            ) from None


if sys.platform != "darwin":

    class Keyring(SecretService.Keyring):
        """Keyring's own, but nothing is unlocked or made: both would open a window."""

        def get_preferred_collection(self) -> secretstorage.Collection:
            """The default collection, on a connection that whoever takes it closes. Raises LockedException."""
            connection = secretstorage.dbus_init()
            try:
                # gnome-keyring, 42 to 50 at the least, has two races with a connection that has just been made. Its
                # first message may be taken before the connection is known, and one for a collection then ends the
                # daemon, whose successor is locked: the list of collections it gives to anybody. And a collection
                # is now and then not found under /aliases/default: its path is asked for.
                next(secretstorage.get_all_collections(connection), None)
                collection = secretstorage.get_collection_by_alias(connection, "default")
                collection.ensure_not_locked()
            except BaseException:
                connection.close()
                raise
            return collection

        def unlock(self, item: object) -> None:
            """Nothing: an item of an unlocked collection is not locked."""


def _locked() -> Unavailable:
    return Unavailable(
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
