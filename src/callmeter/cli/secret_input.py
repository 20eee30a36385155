"""How a key comes in: typed or pasted without echo, through a pipe, or on a descriptor. Never as an argument."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from callmeter.cli.world import World
from callmeter.secrets.secret import MAX_KEY, Secret, parse_secret
from callmeter.words.errors import NoKey, UsageError
from callmeter.words.key_shape import looks_like_key

# What the line discipline keeps of one line; it drops the rest without a word.
_TERMINAL_LINE = 4095


def read_secret(world: World, label: str, *, stdin: bool, fd: int | None) -> Secret:
    """The key from descriptor `fd`, from stdin if it is asked for or is no terminal, else typed on the terminal.

    Raises NoKey for what cannot be a key, UsageError when there is no way to read one unseen.
    """
    if fd is not None:
        return parse_secret(_from_descriptor(fd), f"on descriptor {fd}")
    stream = world.stdin
    if stream is None:
        raise UsageError("there is no standard input to read the key from", "pipe it in, or use `--fd N`")
    if stream.isatty():
        if stdin:
            raise UsageError("standard input is a terminal, which would show the key", "leave out `--stdin`")
        return parse_secret(_from_terminal(f"Key for {label} (not shown): "), "that was typed")
    return parse_secret(stream.buffer.read(MAX_KEY + 3), "on standard input")


def refuse_keys(arguments: Sequence[str]) -> None:
    """Raises UsageError when an argument, the value after its `=`, or a word of it looks like a key. It is not
    repeated: what stands on a command line is in the shell's history, and was in the process list. What follows `--`
    is another program's."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    for argument in ours:
        if any(looks_like_key(word) for word in (*argument.split(), argument.partition("=")[2])):
            raise UsageError(
                "an argument looks like a key; a key is never given on the command line",
                "rotate that key, since others may have seen it; then pipe it in, or type it when you are asked",
                code="key_in_arguments",
            )


def _from_terminal(prompt: str) -> bytes:
    import getpass

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would go on and show the key
            key = getpass.getpass(prompt)
    except getpass.GetPassWarning:
        raise UsageError("this terminal cannot hide what is typed", "pipe the key in: `… < FILE`") from None
    except EOFError:
        key = ""
    except UnicodeDecodeError:
        raise NoKey("the key that was typed is not printable ASCII", "paste the bare key", code="bad_key") from None
    if len(key) >= _TERMINAL_LINE:
        raise NoKey("the key that was typed is longer than a terminal's line", "pipe it in", code="bad_key")
    return os.fsencode(key)


def _from_descriptor(fd: int) -> bytes:
    data = b""
    try:
        if os.isatty(fd):
            raise UsageError(f"descriptor {fd} is a terminal, which would show the key", "leave out `--fd`")
        while len(data) <= MAX_KEY + 2 and (part := os.read(fd, MAX_KEY + 3)):
            data += part
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot read descriptor {fd}: {reason}", f"write `--fd {fd} {fd}< FILE`") from None
    return data
