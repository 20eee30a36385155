"""A real gnome-keyring on a session bus of its own; or a keychain that has no keys and keeps what it is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


def missing() -> str:
    """Why none can be started here; "" when it can."""
    for program in ("dbus-daemon", "gnome-keyring-daemon"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    try:
        import keyring  # noqa: F401
        import secretstorage  # noqa: F401
    except ImportError:
        return "keyring: install callmeter[keychain]"
    return ""


def _homes(home: Path) -> dict[str, str]:
    runtime = home / "runtime"
    for directory in (home, runtime):
        directory.mkdir(mode=0o700, exist_ok=True)
    return {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "XDG_RUNTIME_DIR": str(runtime)}


@contextmanager
def session_bus(home: Path) -> Iterator[dict[str, str]]:
    """The variables of a session: its homes and its bus, on which nothing else is."""
    env = _homes(home)
    bus = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address"],
        env={"PATH": os.environ.get("PATH", os.defpath), **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert bus.stdout is not None
        yield {**env, "DBUS_SESSION_BUS_ADDRESS": bus.stdout.readline().decode().strip()}
    finally:
        bus.kill()
        bus.communicate()


@contextmanager
def gnome_keyring(session: Mapping[str, str], password: str = "open sesame") -> Iterator[None]:
    """The daemon, unlocked by the password of its login keyring, which the first start makes. A wrong one leaves it
    locked, without a word."""
    daemon = subprocess.Popen(
        ["gnome-keyring-daemon", "--unlock", "--foreground", "--components=secrets"],
        env={"PATH": os.environ.get("PATH", os.defpath), **session},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert daemon.stdin is not None and daemon.stdout is not None
        daemon.stdin.write(password.encode())
        daemon.stdin.close()
        daemon.stdout.readline()  # it says where its socket is when it is there
        _until_on_the_bus(session)
        yield
    finally:
        daemon.kill()
        daemon.wait()
        daemon.stdout.close() if daemon.stdout else None


def lock(session: Mapping[str, str]) -> None:
    """Lock the default collection, as the desktop does when its user goes away."""
    import secretstorage
    from jeepney.io.blocking import open_dbus_connection

    connection = open_dbus_connection(session["DBUS_SESSION_BUS_ADDRESS"])
    next(secretstorage.get_all_collections(connection))  # see secrets/keychain.py
    secretstorage.get_collection_by_alias(connection, "default").lock()
    connection.close()


class Question(NamedTuple):
    """A message that a keychain was sent: by which connection, for which object, and what."""

    sender: str
    path: str
    member: str


@contextmanager
def empty_keychain(session: Mapping[str, str], refused: str = "") -> Iterator[list[Question]]:
    """What a keychain without a key, unlocked, is asked on a bus, one after the other. To `refused` it says no."""
    from jeepney import HeaderFields, new_error, new_method_return
    from jeepney.bus_messages import message_bus
    from jeepney.io.blocking import open_dbus_connection

    collection = "/org/freedesktop/secrets/collection/mine"
    answers: dict[str, tuple[str, Any]] = {
        "Collections": ("v", (("ao", [collection]),)),
        "Label": ("v", (("s", "Mine"),)),
        "Locked": ("v", (("b", False),)),
        "ReadAlias": ("o", (collection,)),
        "SearchItems": ("ao", ([],)),
    }
    asked: list[Question] = []
    connection = open_dbus_connection(session["DBUS_SESSION_BUS_ADDRESS"])
    connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.secrets"))

    def answer() -> None:
        while True:
            message = connection.receive()
            fields = message.header.fields
            member = fields[HeaderFields.member]
            if member == "Stop":
                return
            if fields[HeaderFields.path].startswith("/org/freedesktop/secrets"):
                member = message.body[1] if member == "Get" else member
                asked.append(Question(fields[HeaderFields.sender], fields[HeaderFields.path], member))
                if member == refused:
                    connection.send(new_error(message, "org.freedesktop.DBus.Error.LimitsExceeded", "s", ("no",)))
                else:
                    connection.send(new_method_return(message, *answers[member]))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield asked
    finally:
        _stop(session)
        thread.join()
        connection.close()


def _stop(session: Mapping[str, str]) -> None:
    from jeepney import DBusAddress, MessageFlag, new_method_call
    from jeepney.bus_messages import message_bus
    from jeepney.io.blocking import open_dbus_connection

    connection = open_dbus_connection(session["DBUS_SESSION_BUS_ADDRESS"])
    message = new_method_call(DBusAddress("/", "org.freedesktop.secrets", "a.b"), "Stop")
    message.header.flags = MessageFlag.no_reply_expected
    connection.send(message)
    connection.send_and_get_reply(message_bus.GetId())  # the bus has passed it on
    connection.close()


def _until_on_the_bus(session: Mapping[str, str]) -> None:
    from jeepney.bus_messages import message_bus
    from jeepney.io.blocking import open_dbus_connection

    connection = open_dbus_connection(session["DBUS_SESSION_BUS_ADDRESS"])
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            # Not whether it could be started: who asks for it before it is there has the bus start another one.
            if connection.send_and_get_reply(message_bus.NameHasOwner("org.freedesktop.secrets")).body[0]:
                return
            time.sleep(0.01)
        raise AssertionError("gnome-keyring-daemon does not come to the bus")
    finally:
        connection.close()
