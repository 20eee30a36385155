"""Commands that run under another host's name, so that one machine is several."""

from __future__ import annotations

import subprocess

from conftest import lacking

_RENAMED = 'printf %s "$0" > /proc/sys/kernel/hostname && exec "$@"'


def on_host(name: str, *inside: str) -> list[str]:
    """What goes before a command so that it runs on a host of this name; the process stays the same (`exec`). With
    `inside`, a command that enters something else first, such as a network namespace. Skips the test where that is
    not allowed."""
    prefix = [*inside, "unshare", "--uts", "sh", "-c", _RENAMED, name]
    try:
        said = subprocess.run([*prefix, "uname", "-n"], capture_output=True, text=True, timeout=30)
    except FileNotFoundError as error:
        lacking(f"{error.filename} is not installed")
    if said.stdout.strip() != name:
        lacking(f"another host's name cannot be taken here: {said.stderr.strip() or said.stdout.strip()}")
    return prefix
