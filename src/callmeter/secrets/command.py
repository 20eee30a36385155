"""Keys that a program keeps: `command:HELPER/NAME`, with the helper `pass`, `gopass`, `op`, or one of `[helpers.…]`.

A helper is up to three commands, `read`, `write` and `delete`, in which `{name}` stands for the name. `read` prints
the key on its first line; `write` gets it on standard input, never as an argument. A helper without `write` can only
be read, and its keys are rotated elsewhere. Slots are names of their own (NAME.pending, NAME.previous), under a lock of
ours. A command runs without a terminal and in a session of its own, so that none can ask for a password or take the
screen, and is killed with its children when it takes too long.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from callmeter.secrets.deadline import SECONDS
from callmeter.secrets.environment import KEY_VARIABLES
from callmeter.secrets.locked import LockedStore
from callmeter.secrets.secret import MAX_KEY, Secret, parse_secret
from callmeter.secrets.store import CURRENT, SecretStore
from callmeter.words.errors import Malformed, Unavailable, UsageError

Helper = Mapping[str, Sequence[str]]
_HELPERS: dict[str, Helper] = {
    "pass": {
        "read": ["pass", "show", "{name}"],
        "write": ["pass", "insert", "--multiline", "--force", "{name}"],
        "delete": ["pass", "rm", "--force", "{name}"],
    },
    "gopass": {
        "read": ["gopass", "show", "--password", "{name}"],
        "write": ["gopass", "insert", "--force", "{name}"],
        "delete": ["gopass", "rm", "--force", "{name}"],
    },
    # 1Password's program takes new values as arguments only, which every process can see.
    "op": {"read": ["op", "read", "op://{name}"]},
}
# The exit status that says "no such entry". pass 1.7: 1, and 2 and more for gpg's failures; gopass: its exit codes.
_ABSENT = {"gopass": 10}


def command_store(helper: str, directory: str, env: Mapping[str, str], own: Mapping[str, Helper]) -> SecretStore:
    """The store over a helper, which may be one of a person's `own`; names are HELPER/NAME. Its lock lies in
    `directory`. Raises Malformed for a helper that nobody knows."""
    # pass writes an entry in place: whoever reads meanwhile finds half of it, and reads again.
    return LockedStore(_Entries(helper, env, own), os.path.join(directory, ".command.lock"), readers_too=False)


class _Entries:
    """See `locked.Entries`."""

    def __init__(self, helper: str, env: Mapping[str, str], own: Mapping[str, Helper]) -> None:
        commands = own.get(helper) or _HELPERS.get(helper)
        if commands is None:
            known = ", ".join([*_HELPERS, *own])
            raise Malformed(
                f"there is no helper {helper!r} for keys", f"use one of {known}, or add `[helpers.{helper}]`"
            )
        self._helper = helper
        self._commands = commands
        self._ours = helper not in own
        self._absent = _ABSENT.get(helper, 1) if self._ours else 1
        self._env = env
        self.writable = "write" in commands

    def read(self, name: str, slot: str) -> Secret | None:
        """The first line that the helper prints, or None when it says that there is no such entry."""
        if slot != CURRENT and not self.writable:
            return None
        printed = self._run("read", name, slot)
        if printed is None:
            return None
        return parse_secret(
            printed[: MAX_KEY + 3].partition(b"\n")[0], f"that {self._helper} printed for {_rest(name)}"
        )

    def put(self, name: str, slot: str, secret: Secret) -> None:
        """Have the helper replace the entry. Raises UsageError when it can only be read."""
        if self._run("write", name, slot, secret) is None:
            raise self._failed("write", name, f"it ended with status {self._absent}")

    def remove(self, name: str, slot: str) -> bool:
        """Have the helper remove the entry. Raises UsageError when it cannot."""
        # Not every helper's status tells whether there was something.
        if self.read(name, slot) is None:
            return False
        return self._run("delete", name, slot) is not None

    def describe(self, name: str) -> str:
        """The helper and the name."""
        return f"{self._helper} {_rest(name)}"

    def _run(self, what: str, name: str, slot: str, secret: Secret | None = None) -> bytes | None:
        """What a command printed; None when it ended with the status for "no such entry"."""
        command = self._commands.get(what)
        if not command:
            raise UsageError(
                f"{self._helper} can only be read by callmeter: there is no `{what}` command for it",
                f"{what} the key with {self._helper} itself, or set `{what}` in `[helpers.{self._helper}]`",
            )
        entry = _rest(name) if slot == CURRENT else f"{_rest(name)}.{slot}"
        if self._ours and not (self._env.get("HOME") or self._env.get("PASSWORD_STORE_DIR")):
            # Without one, pass says that there is no such entry.
            raise Unavailable(f"{self._helper} cannot find its store: HOME is not set", "set `HOME`", code="store_down")
        source = subprocess.DEVNULL if secret is None else _filled_pipe(secret)
        try:
            process = subprocess.Popen(
                [part.replace("{name}", entry) for part in command],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(self._env),
                start_new_session=True,
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Unavailable(f"cannot run {command[0]}: {reason}", "install it", code="store_down") from None
        finally:
            if source >= 0:
                os.close(source)
        try:
            printed, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise self._failed(what, name, f"it was not done in {SECONDS:.0f} s") from None
        finally:
            if process.returncode is None:
                _end(process)
        if process.returncode == self._absent:
            return None
        if process.returncode:
            raise self._failed(what, name, f"it ended with status {process.returncode}")
        return printed

    def _failed(self, what: str, name: str, how: str) -> Unavailable:
        shown = " ".join(part.replace("{name}", _rest(name)) for part in self._commands[what])
        return Unavailable(
            f"{self._helper} cannot {what} {_rest(name)}: {how}",
            f"unlock it (its gpg-agent, or its session); `{shown} >/dev/null` shows what is wrong"
            if what == "read"
            else f"see whether {self._helper} works by itself, and is unlocked",
            code="store_failed",
        )


def _filled_pipe(secret: Secret) -> int:
    """A descriptor to read the key from. It is all there before the helper begins: if we were killed while writing, the
    helper would take what it got, perhaps nothing, for the key."""
    reading, writing = os.pipe()
    try:
        os.write(writing, secret.reveal().encode("ascii") + b"\n")  # a pipe holds more than the longest key
    finally:
        os.close(writing)
    return reading


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    # gpg must not ask for a passphrase: its window, or its hold on the terminal, would wait for somebody.
    quiet = {
        name: f"{env.get(name, '')} --batch --pinentry-mode error".strip()
        for name in ("PASSWORD_STORE_GPG_OPTS", "GOPASS_GPG_OPTS")
    }
    return {name: value for name, value in env.items() if name not in KEY_VARIABLES} | quiet


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _rest(name: str) -> str:
    return name.partition("/")[2]
