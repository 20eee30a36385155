"""A real gnome-keyring on a session bus of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


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


def is_open(session: Mapping[str, str]) -> bool:
    """Whether the daemon is there and unlocked. Release 42.1 ends by itself now and then; the bus then starts another,
    which nobody has unlocked."""
    import secretstorage
    from jeepney.io.blocking import open_dbus_connection

    connection = open_dbus_connection(session["DBUS_SESSION_BUS_ADDRESS"])
    try:
        return not secretstorage.Collection(connection, "/org/freedesktop/secrets/aliases/default").is_locked()
    except secretstorage.exceptions.SecretStorageException:
        return False
    finally:
        connection.close()


def lock(session: Mapping[str, str]) -> None:
    """Lock the default collection, as the desktop does when its user goes away."""
    import secretstorage
    from jeepney.io.blocking import open_dbus_connection

    connection = open_dbus_connection(session["DBUS_SESSION_BUS_ADDRESS"])
    secretstorage.get_default_collection(connection).lock()
    connection.close()


def _until_on_the_bus(session: Mapping[str, str]) -> None:
    import secretstorage
    from jeepney.io.blocking import open_dbus_connection

    connection = open_dbus_connection(session["DBUS_SESSION_BUS_ADDRESS"])
    try:
        for _ in range(2000):
            if secretstorage.check_service_availability(connection):
                return
        raise AssertionError("gnome-keyring-daemon does not come to the bus")
    finally:
        connection.close()
