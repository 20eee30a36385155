"""The entry points. What agents run all day takes the lane, if its command line is plain; everything else goes through
Typer."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """`callmeter`."""
    _leave(start(sys.argv[1:]))


def llm_call() -> None:
    """`llm-call`, the same as `callmeter llm-call`."""
    _leave(start(["llm-call", *sys.argv[1:]]))


def _leave(status: int) -> None:
    """End the process. After the lane at once: taking the interpreter apart costs a third of a Python start, and all
    that was to be written has been flushed by then (`failure.run`)."""
    if "callmeter.cli.app" not in sys.modules:
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
            if sys.stdout is not None:
                sys.stdout.flush()
        except (OSError, ValueError):
            pass
        os._exit(status)
    sys.exit(status)


def start(arguments: list[str]) -> int:
    """Run a command line and give its exit status."""
    if arguments[:1] == ["__complete"]:  # asked by the completion scripts; no command, so that no help lists it
        from callmeter.cli.completing import offer

        return offer(arguments[1:])
    from callmeter.cli.stopping import asked, install

    install()
    try:
        return _run(arguments)
    except BaseException:
        # Somebody asked for an end while modules were still being imported: before there is anyone to catch that.
        ending = asked()
        if ending is None:
            raise
        return int(ending)


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["llm-call"] or arguments[:3] == ["budget", "quota", "left"]:
        from callmeter.cli.lane import take

        status = take(arguments)
        if status is not None:
            return status
    from callmeter.cli.app import app

    try:
        app(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0
