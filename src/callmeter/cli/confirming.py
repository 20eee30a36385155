"""Asking a person before something is changed."""

from __future__ import annotations

import typer

from callmeter.cli.output import safe
from callmeter.cli.world import World
from callmeter.words.errors import UsageError


def require_yes(world: World, question: str, yes: bool) -> None:
    """Go on only with `--yes`, or when a person at a terminal says so. Raises UsageError when nobody is there."""
    if yes:
        return
    stdin = world.stdin
    if stdin is None or not stdin.isatty() or not world.out.errors_to_terminal:
        raise UsageError("nobody is there to confirm the change", "add `--yes`")
    if not _asked(question):
        raise typer.Abort


def confirmed(world: World, question: str) -> bool:
    """Whether a person at a terminal says yes; no where nobody is there."""
    stdin = world.stdin
    if stdin is None or not stdin.isatty() or not world.out.errors_to_terminal:
        return False
    return _asked(question)


def _asked(question: str) -> bool:
    try:
        return bool(typer.confirm(safe(question), err=True))
    except typer.Abort:  # Ctrl-C, or the terminal is gone
        raise KeyboardInterrupt from None
