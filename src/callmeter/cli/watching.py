"""A page that is drawn again and again in the same place, until somebody presses q or Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable

from callmeter.cli.rendering import render
from callmeter.cli.world import World
from callmeter.reports.report import Board

# Seconds from one drawing to the next; a page that takes long to make is made less often.
_PAUSE = 2.0
_SHARE = 4


def watch(world: World, page: Callable[[], Board]) -> None:
    """Draw the page, over and over. Raises UsageError when stdout is no terminal; ends by a key, or by
    KeyboardInterrupt or Stopped, with the terminal as it was."""
    from callmeter.cli.screen import QUIT, REDRAW, require_screen, screen

    require_screen(world, "--watch", "leave out `--watch`, and run the command as often as you need it")
    from rich.text import Text

    with screen(world) as taken:
        pressed = REDRAW
        while not QUIT & set(pressed):
            began = world.monotonic()
            text = render(page(), "text", world.out.stdout, world.env)
            taken.draw(Text.from_ansi(_fitted(text, taken.size[1]), no_wrap=True))
            pressed = taken.wait(max(_PAUSE, _SHARE * (world.monotonic() - began)))


def _fitted(text: str, height: int) -> str:
    """As many lines as the terminal has, and how many are missing."""
    lines = text.splitlines()
    if len(lines) > height:
        lines = [*lines[: height - 1], f"… {len(lines) - height + 1} more lines: make the window taller"]
    return "\n".join(lines)
