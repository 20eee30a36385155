"""A page that is drawn again and again in the same place, until Ctrl-C."""

from __future__ import annotations

import os
from collections.abc import Callable

from callmeter.cli.rendering import render
from callmeter.cli.world import World
from callmeter.reports.report import Board
from callmeter.words.errors import UsageError

# Seconds from one drawing to the next; a page that takes long to make is made less often.
_PAUSE = 2.0
_SHARE = 4
# The terminal's second screen, without a cursor: what was there before comes back at the end.
_BEGIN, _END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_PAGE = "\x1b[H", "\x1b[K", "\x1b[J"


def require_terminal(world: World) -> None:
    """Raises UsageError when stdout cannot be drawn on."""
    if not world.out.to_terminal or world.env.get("TERM", "dumb") == "dumb":
        raise UsageError(
            "--watch draws on a terminal, and standard output is none that can be drawn on",
            "leave out `--watch`, and run the command as often as you need it",
            code="no_terminal",
        )


def watch(world: World, page: Callable[[], Board]) -> None:
    """Draw the page, over and over. Ends by KeyboardInterrupt or Stopped, with the terminal as it was."""
    out = world.out
    out.text(_BEGIN)
    try:
        while True:
            began = world.monotonic()
            text = render(page(), "text", out.stdout, world.env)
            out.text(_HOME + _fitted(text, _height(world)) + _REST_OF_PAGE + "\n")
            world.sleep(max(_PAUSE, _SHARE * (world.monotonic() - began)))
    finally:
        out.text(_END)


def _fitted(text: str, height: int) -> str:
    """As many lines as the terminal has, and how many are missing."""
    lines = text.splitlines()
    room = max(height - 1, 2)  # the newline after the last one must not scroll
    if len(lines) > room:
        lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more lines: make the window taller"]
    return "\n".join(line + _REST_OF_LINE for line in lines)


def _height(world: World) -> int:
    stream = world.out.stdout
    try:
        return os.get_terminal_size(stream.fileno() if stream else 1).lines or 24
    except (OSError, ValueError):
        return 24
