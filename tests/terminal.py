"""A shell in a pseudo-terminal: what really happens when a person types."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PATIENCE = 60.0


class Terminal:
    """A program in a pseudo-terminal of 200 columns; `with` ends it."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.text = ""
        self._pid, self._descriptor = pty.fork()
        if self._pid == 0:
            try:
                os.chdir(cwd)
                os.execvpe(arguments[0], list(arguments), {**env, "TERM": "dumb", "COLUMNS": "200", "LINES": "50"})
            finally:
                os._exit(127)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the window, and end the program if that has not."""
        if self._pid:
            os.close(self._descriptor)
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def type(self, keys: str) -> None:
        """Press keys, without waiting for what they do."""
        os.write(self._descriptor, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Change the window's size, for programs that do not see COLUMNS and LINES."""
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait_for(self, text: str) -> str:
        """What came up to and with this text, since it was waited for last."""
        end = time.monotonic() + PATIENCE
        while text not in self.text:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                raise AssertionError(f"{text!r} did not come within {PATIENCE:.0f} s; what came: {self.text!r}")
            try:
                self.text += os.read(self._descriptor, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the program ended before {text!r} came; what came: {self.text!r}") from None
        before, found, self.text = self.text.partition(text)
        return before + found
