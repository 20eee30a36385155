"""The one owner of stdout and stderr.

Rules: stdout carries the result and nothing else. stderr is silent unless there is something to act on;
confirmations appear only when a person looks (stderr is a terminal) or asks (`-v`), because mail from cron should
mean that something went wrong. Text that came from a model, a tag or a log line never drives a terminal.
"""

from __future__ import annotations

import os
import sys
from errno import EAGAIN

from callmeter.words.errors import CallmeterError, Exit, Stopped
from callmeter.words.jsontext import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from callmeter.cli.world import World
    from callmeter.reports.report import Board, Report


class Output:
    """Results, notes, warnings and errors, in the chosen format.

    Raises Stopped(PIPE_CLOSED) when stdout's reader has gone, CallmeterError when stdout cannot be written.
    """

    def __init__(self, world: World, stdout: TextIO | None, stderr: TextIO | None) -> None:
        self._world = world
        self._stdout = stdout
        self._stderr = stderr
        self.format = "text"
        self.quiet = False
        self.verbose = False
        self._passing = False  # whether there is a line on stderr that whatever comes next replaces

    @property
    def stdout(self) -> TextIO | None:
        """None when it is closed."""
        return self._stdout or sys.stdout

    @property
    def stderr(self) -> TextIO | None:
        """None when it is closed."""
        return self._stderr or sys.stderr

    def shape(self, format: str = "text", *, quiet: bool = False, verbose: bool = False) -> None:
        """What the command line asked for."""
        self.format = format
        self.quiet = quiet
        self.verbose = verbose

    @property
    def to_terminal(self) -> bool:
        """Whether a person looks at stdout."""
        return _is_terminal(self.stdout)

    @property
    def errors_to_terminal(self) -> bool:
        """Whether a person looks at stderr."""
        return _is_terminal(self.stderr)

    def answer(self, text: str) -> None:
        """A part of a model's answer, at once. On a terminal, control characters become visible escapes."""
        self._write(safe(text) if self.to_terminal else text)

    def text(self, text: str) -> None:
        """Lines of a result, newline added if it lacks one. The caller made untrusted parts `safe`."""
        self._write(text if text.endswith("\n") else text + "\n")

    def object(self, value: object) -> None:
        """A result as one line of JSON; Decimal is written as an exact number."""
        self._write(dumps(value) + "\n")

    def report(self, report: Report | Board) -> None:
        """A report, or several on one page, in the chosen format."""
        from callmeter.cli.rendering import pieces

        for piece in pieces(report, self.format, self.stdout, self._world.env):
            self._write(piece)

    def note(self, text: str) -> None:
        """A confirmation on stderr, for a person or with -v."""
        if not self.quiet and (self.verbose or self.errors_to_terminal):
            self._tell(text)

    def passing(self, text: str) -> None:
        """What goes on, for a person who waits: a line on stderr that whatever is written next replaces."""
        stream = self.stderr
        if stream is None or self.quiet or not self.errors_to_terminal or self._world.env.get("TERM") in (None, "dumb"):
            return
        self._clear()
        # A line that is folded could not be taken back.
        self._passing = _put(stream, safe(text)[: _columns(stream) - 1])

    def warn(self, text: str) -> None:
        """Something to act on, on stderr."""
        if not self.quiet:
            self._tell(f"callmeter: warning: {text}")

    def say(self, text: str) -> None:
        """What was asked for by an option (`--usage`), on stderr, whoever looks."""
        self._tell(text)

    def error(self, error: CallmeterError) -> None:
        """An error in the chosen format, on stderr."""
        if self.format in ("json", "jsonl"):
            self._tell(dumps(error.as_json()))
            return
        self._tell(f"callmeter: error: {error.message}")
        if error.hint:
            self._tell(f"callmeter: hint: {error.hint}")

    def flush(self) -> None:
        """Everything out. A full disk shows here, not as Python's status 120."""
        self._write("")

    def require_reader(self) -> None:
        """Raises Stopped(PIPE_CLOSED) when stdout's reader has gone, for those who wait and seldom write."""
        import select

        stream = self.stdout
        try:
            poll = select.poll()
            poll.register(stream.fileno() if stream else -1, 0)
            gone = any(events & select.POLLERR for _, events in poll.poll(0))
        except (OSError, ValueError):
            return
        if gone and stream is not None:
            silence(stream)
            raise Stopped(Exit.PIPE_CLOSED)

    def _clear(self) -> None:
        stream = self.stderr
        if self._passing and stream is not None:
            _put(stream, "\r\x1b[2K")
        self._passing = False

    def _write(self, text: str) -> None:
        self._clear()
        stream = self.stdout
        if stream is None:
            raise CallmeterError("standard output is closed", "redirect it to a file or to /dev/null")
        try:
            # Bytes, not text: an answer must not fail on the characters that a C locale lacks.
            stream.flush()
            # With PYTHONUNBUFFERED there is no buffer, and a write that a full disk or a closed pipe cuts short is no
            # error: the next one is.
            rest = memoryview(text.encode("utf-8", "backslashreplace"))
            while rest:
                written = stream.buffer.write(rest)
                if written is None:  # so says an unbuffered pipe that does not block
                    raise BlockingIOError(EAGAIN, os.strerror(EAGAIN))
                rest = rest[written:]
            stream.buffer.flush()
        except BrokenPipeError:
            silence(stream)
            raise Stopped(Exit.PIPE_CLOSED) from None
        except OSError as error:
            silence(stream)
            reason = (error.strerror or str(error)).lower()
            raise CallmeterError(f"cannot write to standard output: {reason}") from None

    def _tell(self, text: str) -> None:
        self._clear()
        if self.stderr is not None:
            _put(self.stderr, safe(text).rstrip("\n") + "\n")


def safe(text: str) -> str:
    """Text that cannot drive a terminal: control, bidirectional and zero-width characters as visible escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t\u200d" else ascii(c)[1:-1] for c in text)


def _columns(stream: TextIO) -> int:
    """How wide a terminal is; 80 if it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _put(stream: TextIO, text: str) -> bool:
    try:
        stream.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
        stream.flush()
    except (OSError, ValueError, UnicodeError):
        silence(stream)
        return False
    return True


def silence(stream: TextIO) -> None:
    """Point a broken stream at nothing, so that the interpreter's last flush does not fail with status 120."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
