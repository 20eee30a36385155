"""Commands that run under another host's name, so that one machine is several."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from conftest import SCRIPTS, lacking

_RENAMED = 'printf %s "$0" > /proc/sys/kernel/hostname && exec "$@"'


def on_host(name: str, *inside: str) -> list[str]:
    """What goes before a command so that it runs on a host of this name; the process stays the same (`exec`). With
    `inside`, a command that enters something else first, such as a network namespace. Skips the test where that is
    not allowed."""
    prefix = [*inside, "unshare", "--uts", "sh", "-c", _RENAMED, name]
    try:
        said = subprocess.run([*prefix, "uname", "-n"], capture_output=True, text=True, timeout=120)
    except FileNotFoundError as error:
        lacking(f"{error.filename} is not installed")
    if said.stdout.strip() != name:
        lacking(f"another host's name cannot be taken here: {said.stderr.strip() or said.stdout.strip()}")
    return prefix


class Host:
    """A home under a host name of its own, with a policy. What it runs is run `inside` something else, as above."""

    def __init__(
        self, name: str, home: Path, environment: Mapping[str, str], policy: Mapping[str, object], *inside: str
    ) -> None:
        self.name = name
        self.home = home
        self._prefix = on_host(name, *inside)
        self._env = {**environment, "CALLMETER_HOME": str(home)}
        home.mkdir(mode=0o700, exist_ok=True)
        (home / "budget.json").write_text(json.dumps(policy))

    def start(self, script: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start an installed script without waiting."""
        return subprocess.Popen(
            [*self._prefix, str(SCRIPTS / script), *arguments],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, script: str, *arguments: str) -> tuple[int, str]:
        """Its exit status and everything that it said."""
        return ended(self.start(script, *arguments))

    def lines(self) -> list[dict[str, Any]]:
        """The lines of its usage log."""
        text = (self.home / "usage.jsonl").read_text()
        return [json.loads(line, parse_float=Decimal) for line in text.splitlines()]


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The exit status of a process and everything that it said."""
    output, errors = process.communicate(timeout=60)
    return process.returncode, (output + errors).decode()
