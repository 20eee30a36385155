"""Options of two words, such as `-o temperature 0.2`, which Typer cannot express for repeatable options.

They are declared as lists of text with a metavar of two words; the parser takes two arguments and joins them
with `=`.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class PairsCommand(TyperCommand):
    """A command whose options with a metavar of two words take two arguments."""

    def make_parser(self, ctx: Any) -> Any:
        parser: Any = super().make_parser(ctx)
        for option in {**parser._long_opt, **parser._short_opt}.values():
            if takes_pair(option.obj) and option.nargs == 1:
                option.nargs = 2
                option.process = _joining(option.process)
        return parser


def takes_pair(parameter: Any) -> bool:
    """Whether an option takes two words."""
    return " " in (getattr(parameter, "metavar", None) or "")


def _joining(process: Any) -> Any:
    return lambda value, state: process("=".join(value), state)
