"""How long a store on another machine, or behind a daemon, is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from callmeter.words.errors import Unavailable

SECONDS = 5.0
_Result = TypeVar("_Result")


def in_time(where: str, action: Callable[[], _Result], seconds: float = SECONDS) -> _Result:
    """What `action` gives back or raises. Raises Unavailable when that takes too long.

    Libraries bound each wait for the next byte, not the whole answer, and some not even that. The action then goes on
    in a thread that nobody waits for, so it may still take effect: whoever changes something looks before trying again.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []

    def act() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise Unavailable(f"{where} has not answered in {seconds:.0f} s", "try again", code="store_down")
    return results[0]
