"""Running a function in a child process that dies, as by kill -9: at its end, or just before its n-th change to the
file system."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

CHANGES = ("open", "write", "pwrite", "rename", "unlink", "ftruncate", "fsync", "fdatasync", "fchmod", "close")


def dies(function: Callable[[], object]) -> None:
    """Run the function in a child that is killed as soon as it returns."""
    child = os.fork()
    if child == 0:
        try:
            function()
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the function failed in the child"


def every_kill(function: Callable[[], object]) -> Iterator[int]:
    """Run the function again and again, killed before its first change, its second, …; a step after each kill.

    Ends when it came through unharmed. A `write` that is hit has written half of its bytes.
    """
    for point in range(1, 1000):
        if not killed_at(point, function):
            return
        yield point
    raise AssertionError("the function never ends")


def killed_at(point: int, function: Callable[[], object]) -> bool:
    """Whether the function's process was killed before its `point`-th change; False when it ended before."""
    child = os.fork()
    if child == 0:
        try:
            _arm(point)
            function()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the function failed in the child; see stderr"
    return False


def _arm(point: int) -> None:
    left = point

    def deadly(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if name == "open" and not arguments[1] & os.O_CREAT:
                return change(*arguments, **options)
            left -= 1
            if left == 0:
                if name == "write":
                    change(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **options)

        return call

    for name in CHANGES:
        setattr(os, name, deadly(name, getattr(os, name)))
