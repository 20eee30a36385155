"""One process counts a log; the others wait for it, and know what for."""

from __future__ import annotations

import os
from collections.abc import Callable

from callmeter.store.files import Lock, read_file
from callmeter.words.errors import Busy, CallmeterError

COUNTING = "counting the usage log for the quotas"
_PATIENCE = 120  # seconds
# The lock's file begins with its holder's process number; what that is doing follows.
_NUMBER = 10
_LONGEST = 100


class Turn:
    """A `with` block that begins when it `is_ours`, or when `is_done` says that somebody else has counted. `tell` hears
    what is waited for. Raises Busy, FileProblem."""

    def __init__(self, path: str, is_done: Callable[[], bool], tell: Callable[[str], None]) -> None:
        self.is_ours = False
        self._path = path
        self._is_done = is_done
        self._told = tell
        self._lock = Lock(path, 1.0)

    def __enter__(self) -> Turn:
        for _ in range(_PATIENCE):
            try:
                self._lock.__enter__()
            except Busy:
                if self._is_done():
                    return self
                self._told(self._waiting())
                continue
            self.is_ours = True
            try:
                if self._is_done():
                    self.__exit__()
                else:
                    self._note("")
            except BaseException:
                self.__exit__()
                raise
            return self
        holder, _ = self._holder()
        raise Busy(
            f"{self._waiting()}; what is left is not known before that is done",
            f"try again, or look at it with `ps -p {holder}`: it may be stopped" if holder else "try again",
            code="counting",
            retry_after=30,
        )

    def __exit__(self, *_: object) -> None:
        if self.is_ours:
            self.is_ours = False
            self._lock.__exit__(None, None, None)

    def tell(self, text: str) -> None:
        """Say what goes on, also to those who wait."""
        self._note(text)
        self._told(text)

    def _waiting(self) -> str:
        holder, text = self._holder()
        who = f"process {holder}" if holder else "another process"
        return f"{who} is {text or COUNTING}"

    def _holder(self) -> tuple[str, str]:
        try:
            data = read_file(self._path, _NUMBER + _LONGEST) or b""
        except CallmeterError:
            return "", ""
        text = data.decode("ascii", "replace")
        return text[:_NUMBER].strip(), text[_NUMBER:].strip()

    def _note(self, text: str) -> None:
        data = text.encode("ascii", "replace")[:_LONGEST]
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        try:
            os.ftruncate(descriptor, _NUMBER)
            os.pwrite(descriptor, data, _NUMBER)
        except OSError:
            pass  # a full disk: it is only a courtesy
        finally:
            os.close(descriptor)
