"""A terminal taken over by a live view: its second screen, keys that come at once, and everything as it was at the end.

The screen is drawn by rich. Here are its beginning and end, whatever ends it: a key, Ctrl-C, Ctrl-Z and back, SIGTERM,
or an error.
"""

from __future__ import annotations

import os
import select
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

from callmeter.cli.look import look_of
from callmeter.cli.world import World
from callmeter.words.errors import Exit, Stopped, UsageError

# What Ctrl-L sends, and what stands for another size and for coming back.
REDRAW = "\f"
# The keys that end a view.
QUIT = frozenset("qQ")
_WAKING = (signal.SIGTSTP, signal.SIGWINCH)
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_Mode = list[Any]


def require_screen(world: World, view: str, hint: str) -> None:
    """Raises UsageError when stdout cannot be drawn on."""
    if not world.out.to_terminal or world.env.get("TERM", "dumb") == "dumb":
        raise UsageError(
            f"{view} draws on a terminal, and standard output is none that can be drawn on", hint, code="no_terminal"
        )


@contextmanager
def screen(world: World) -> Iterator[Screen]:
    """The terminal for a `with` block; it is as it was when that ends. Notes and warnings would be drawn across it."""
    taken, quiet = Screen(world), world.out.quiet
    try:
        taken.begin()
        world.out.quiet = True
        yield taken
    finally:
        world.out.quiet = quiet
        taken.end()


class Screen:
    """What is drawn on, and the keys that are pressed meanwhile."""

    def __init__(self, world: World) -> None:
        look = look_of(world.out.stdout, world.env)
        self._console = Console(
            file=world.out.stdout,
            color_system="standard" if look.colour else None,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live: Live | None = None
        self._keys = -1
        stdin = world.stdin
        try:
            if stdin is not None and stdin.isatty():
                self._keys = stdin.fileno()
        except (OSError, ValueError):  # closed
            pass
        self._mode: _Mode | None = None
        self._handlers: dict[int, Any] = {}
        self._ended = False
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        width, height = self._console.size
        return max(width, 20), max(height, 5)

    def begin(self) -> None:
        """Take the terminal over."""
        for number in _WAKING:
            self._handlers[number] = signal.signal(number, self._interrupted)
        for number in _ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                self._handlers[number] = signal.signal(number, self._terminated)
        self._take()

    def end(self) -> None:
        """Give the terminal back."""
        self._give()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._wake)

    def draw(self, page: RenderableType) -> None:
        """Show a page. Raises Stopped when the terminal has gone."""
        assert self._live is not None
        try:
            self._live.update(page, refresh=True)
        except OSError:
            raise Stopped(Exit.PIPE_CLOSED) from None

    def wait(self, seconds: float) -> str:
        """The keys that are pressed meanwhile; REDRAW when the screen must be drawn anew. After Ctrl-Z, comes back with
        `fg`. Raises Stopped when the terminal has gone, or the process is to end."""
        if self._ended:
            raise Stopped(Exit.TERMINATED)
        watched = [self._woken, *([self._keys] if self._keys >= 0 else [])]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._woken in ready:
            numbers = os.read(self._woken, 64)
            if signal.SIGTSTP in numbers:
                self._suspend()
            return REDRAW
        if self._keys in ready:
            try:
                pressed = os.read(self._keys, 64)
            except OSError:
                pressed = b""
            if not pressed:
                raise Stopped(Exit.PIPE_CLOSED)
            return pressed.decode("ascii", "replace")
        if not self._console.file.isatty():
            raise Stopped(Exit.PIPE_CLOSED)
        return ""

    def _interrupted(self, number: int, frame: object) -> None:
        try:
            os.write(self._wake, bytes([number]))
        except BlockingIOError:
            pass  # there are enough to wake up for

    def _terminated(self, number: int, frame: object) -> None:
        # Raised where it may be taken for one of the problems that a view tells and survives: the next wait says so.
        self._ended = True
        raise Stopped(Exit.TERMINATED)

    def _suspend(self) -> None:
        """Stop until the shell's `fg`, with the terminal as it was."""
        self._give()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._interrupted)
        self._take()

    def _take(self) -> None:
        if self._keys >= 0:
            try:
                self._mode = termios.tcgetattr(self._keys)
                mode: _Mode = termios.tcgetattr(self._keys)
                mode[3] &= ~(termios.ICANON | termios.ECHO)
                termios.tcsetattr(self._keys, termios.TCSADRAIN, mode)
            except termios.error:
                self._mode, self._keys = None, -1
        self._live = Live(
            "",
            console=self._console,
            screen=True,
            auto_refresh=False,  # it would be a thread of its own
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _give(self) -> None:
        if self._live is not None:
            try:
                self._live.stop()
            except OSError:
                pass
            self._live = None
        if self._mode is not None:
            try:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._mode)
            except termios.error:
                pass
            self._mode = None
