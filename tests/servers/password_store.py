"""A real `pass` with a gnupg home and a key of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def missing() -> str:
    """Why there can be none here; "" when it can."""
    absent = [program for program in ("pass", "gpg") if shutil.which(program) is None]
    return f"{' and '.join(absent)}: not installed" if absent else ""


@contextmanager
def password_store(passphrase: str = "") -> Iterator[dict[str, str]]:
    """The variables under which `pass` finds its store. With a passphrase it is locked, once the agent is gone."""
    # A short path: gpg-agent's socket lies below it.
    home = Path(tempfile.mkdtemp(prefix="pass-"))
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LANG": "C.UTF-8"}

    def run(*command: str) -> None:
        subprocess.run(command, env=env, check=True, stdin=subprocess.DEVNULL, capture_output=True)

    try:
        making = ["gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", passphrase]
        run(*making, "--quick-gen-key", "N <a@b.invalid>", "default", "default", "never")
        run("pass", "init", "a@b.invalid")
        if passphrase:
            run("gpgconf", "--kill", "gpg-agent")
        yield env
    finally:
        subprocess.run(["gpgconf", "--kill", "gpg-agent"], env=env, check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
