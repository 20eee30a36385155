"""Signals that ask for an end become exceptions, so that a running call is stopped, logged and settled first.

The default action of SIGTERM and SIGHUP, and SIGPIPE's elsewhere, would end the process between its reservation
and its log line, and leave money held.
"""

from __future__ import annotations

import signal

from callmeter.words.errors import Exit, Stopped

_asked: Exit | None = None


def install() -> None:
    """SIGTERM and SIGHUP raise Stopped(TERMINATED) in the main thread; Ctrl-C is KeyboardInterrupt as ever."""
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, _terminated)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)


def asked() -> Exit | None:
    """How a signal asked for an end; None if none did. DuckDB makes an error of its own of what a handler raises."""
    return _asked


def _terminated(number: int, frame: object) -> None:
    global _asked
    _asked = Exit.TERMINATED
    raise Stopped(Exit.TERMINATED)


def _interrupted(number: int, frame: object) -> None:
    global _asked
    _asked = Exit.INTERRUPTED
    raise KeyboardInterrupt
