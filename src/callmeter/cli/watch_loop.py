"""Look, draw what has changed, wait: until somebody presses q."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from callmeter.cli.look import look_of
from callmeter.cli.screen import QUIT, REDRAW, screen
from callmeter.cli.watch_feed import Feed
from callmeter.cli.watch_view import page
from callmeter.cli.world import World


def follow(world: World, log: str | None, conditions: Sequence[str], interval: float) -> None:
    """Show a log as it grows. Ends by a key, or by KeyboardInterrupt or Stopped; the terminal is then as it was.

    Raises CallmeterError when it cannot begin.
    """
    look = look_of(world.out.stdout, world.env)
    with screen(world) as taken:
        taken.draw(Text("Reading the usage log …" if look.blocks else "Reading the usage log"))
        feed = Feed(world, log, conditions)
        drawn: object = None
        pressed = ""
        while not QUIT & set(pressed):
            picture = feed.look()
            size = taken.size
            # A page that says the same is not drawn: a view that nobody feeds costs next to nothing.
            if REDRAW in pressed or (picture, size) != drawn:
                drawn = (picture, size)
                taken.draw(page(picture, *size, look))
            pressed = taken.wait(interval)
