"""Where a review goes: to stdout, into a file, into the mail."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from datetime import timedelta

from callmeter.cli.out_file import require_place
from callmeter.cli.rendering import render
from callmeter.cli.rotating import span_in
from callmeter.cli.world import World
from callmeter.exchange.mail import Letter, check_address, find_sendmail, send
from callmeter.reports.report import Board
from callmeter.reports.review import subject_line
from callmeter.secrets.registry import Entry
from callmeter.store.files import replace_file
from callmeter.words.errors import UsageError

# What old mail programs show without folding lines.
_PLAIN = {"COLUMNS": "78"}
_ENDINGS = {
    ".txt": "text",
    ".md": "markdown",
    ".html": "html",
    ".htm": "html",
    ".json": "json",
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}


def shape_for(format: str | None, out: str | None, mail_to: Sequence[str]) -> str:
    """The shape that was asked for, or that the file's ending says. Everything that could fail after a long report is
    checked here, before it is made. Raises UsageError, Unavailable."""
    for address in mail_to:
        check_address(address)
    if mail_to and out is None and format is not None:
        raise UsageError(
            f"--mail-to and --format {format} contradict each other",
            "mail is always sent as text and HTML; `--out FILE` takes another shape",
            code="contradiction",
        )
    if out is None:
        return format or "text"
    require_place(out)
    ending = os.path.splitext(out)[1].lower()
    if format is None and ending not in _ENDINGS:
        raise UsageError(
            f"--out {out} does not say which shape it has",
            f"end its name in one of {', '.join(_ENDINGS)}, or add `--format`",
            code="no_shape",
        )
    return format or _ENDINGS[ending]


def made(world: World, page: Board, shape: str, *, printed: bool = False) -> str:
    """The review in its shape. Text is plain and at most 78 columns wide, unless it is `printed` on a terminal."""
    if shape == "html":
        from callmeter.cli.html_page import html_page

        return html_page(page)
    if printed and world.out.to_terminal:
        return render(page, shape, world.out.stdout, world.env)
    return render(page, shape, None, _PLAIN)


def rotation_period(world: World) -> Callable[[Entry], timedelta]:
    """How often a key is to be rotated: as its entry says, else as the settings do."""
    usual = timedelta(days=world.settings.number("rotate_every"))
    return lambda entry: span_in(entry.rotate_every, "rotate_every") if entry.rotate_every else usual


def saved(world: World, path: str, text: str) -> None:
    """Put the review into a file, at once: who reads it sees the old one or the new one. A new file can be read by
    whom the umask lets; one that is replaced keeps its mode, and a link to it stays. Raises FileProblem."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        mask = os.umask(0o077)
        os.umask(mask)
        mode = 0o666 & ~mask
    replace_file(os.path.realpath(path), text.encode("utf-8", "backslashreplace"), mode=mode)
    world.out.note(f"callmeter: written: {path}")


def posted(world: World, addresses: Sequence[str], page: Board) -> None:
    """Mail the review, as text and as HTML, to all addresses in one letter. Raises Unavailable."""
    program = find_sendmail(world.env)
    user, _, host = world.who.partition("@")
    letter = Letter(
        sender=(user, host),
        to=list(addresses),
        subject=subject_line(page),
        text=made(world, page, "text"),
        html=made(world, page, "html"),
        at=world.now(),
    )
    send(program, letter, world.env)
    world.out.note(f"callmeter: handed to {program}: {', '.join(addresses)}")
