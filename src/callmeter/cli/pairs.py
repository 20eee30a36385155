"""Two kinds of options that Typer cannot express.

Options of two words, such as `-o temperature 0.2`: they are declared as lists of text with a metavar of two words,
and the two arguments are joined with `=`. Options whose value may be left out, such as `--wait` or `--wait=60`:
they are declared as text with a metavar in brackets; without a value they are "".
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from callmeter.words.errors import UsageError


class PairsCommand(TyperCommand):
    """A command with such options."""

    def make_parser(self, ctx: Any) -> Any:
        parser: Any = super().make_parser(ctx)
        for option in {**parser._long_opt, **parser._short_opt}.values():
            if takes_pair(option.obj) and option.nargs == 1:
                option.nargs = 2
                option.process = _joining(option.process)
        parser._match_long_opt = _sparing(parser, parser._match_long_opt)
        return parser


def takes_pair(parameter: Any) -> bool:
    """Whether an option takes two words."""
    return " " in (getattr(parameter, "metavar", None) or "")


def may_lack_value(parameter: Any) -> bool:
    """Whether an option's value may be left out; a value then follows `=`."""
    return parameter.param_type_name == "option" and (getattr(parameter, "metavar", None) or "").startswith("[")


def _joining(process: Any) -> Any:
    return lambda value, state: process("=".join(value), state)


def _sparing(parser: Any, match: Any) -> Any:
    def match_long_option(name: str, explicit_value: str | None, state: Any) -> None:
        option = parser._long_opt.get(name)
        if option is not None and not explicit_value and may_lack_value(option.obj):
            if explicit_value is not None:
                # `--fail-if-over=$LIMIT` with a variable that is not set does not mean the option alone.
                raise UsageError(f"{name} has nothing behind its `=`", f"write `{name}` alone, or give it a value")
            option.process("", state)
        else:
            match(name, explicit_value, state)

    return match_long_option
