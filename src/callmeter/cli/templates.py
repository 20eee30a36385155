"""Templates, `-t NAME`: a call's fixed parts in a TOML file, with holes.

    prompt = "Summarise $input for $audience, in $count sentences."
    system = "You write plainly."
    model = "openai/gpt-4o-mini"
    max_tokens = 400
    tags = { purpose = "summary", work_item = "$ticket" }
    options = { temperature = 0.2 }
    defaults = { audience = "engineers", count = 3 }

`$name` and `${name}` in `prompt`, `system` and the tags are filled from `-p name value`, else from `defaults`;
`$$` is a dollar sign. `$input` is what a call without the template would have asked: files, standard input and
the prompt; a template whose prompt does not mention it has it added at its end.

What a call says itself wins: option, template, variable, `config.toml`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from decimal import Decimal
from string import Template as Holes
from typing import NoReturn

from callmeter.cli.question import input_text
from callmeter.cli.world import World
from callmeter.store.toml import read_toml
from callmeter.words.errors import Malformed, UsageError
from callmeter.words.jsontext import dumps

Given = dict[str, object]

_INPUT = "input"
_TEXTS = ("prompt", "system", "model", "provider")
_TABLES = ("tags", "options", "defaults")
KEYS = (*_TEXTS, "max_tokens", *_TABLES, "schema", "extract")


def apply_template(world: World, given: Given, *, piped: bool = True) -> list[tuple[str, str]]:
    """Fill what the command line left open in `given`, and give the template's tags.

    Files and standard input go into the prompt, and are not to be read again. Raises UsageError for a template
    that does not exist or a parameter without a value, Malformed for a template that is wrong.
    """
    template = Template(world, str(given["template"]))
    return template.fill(world, given, piped=piped)


class Template:
    """A template that was read and checked. Raises UsageError, Malformed."""

    def __init__(self, world: World, name: str) -> None:
        self.path = _find(world.paths.templates, name)
        self.document = read_toml(self.path, os.path.join(world.paths.cache, "templates"))
        for key, value in self.document.items():
            self._check(key, value)
        tags = self.document.get("tags")
        self._tags: dict[str, str] = {}
        if isinstance(tags, dict):
            self._tags = {tag: _plain(value) for tag, value in tags.items()}

    def fill(self, world: World, given: Given, *, piped: bool) -> list[tuple[str, str]]:
        """See `apply_template`."""
        document = self.document
        values = self._values(_strings(given["param"]))
        images = _strings(given["attachment"])
        asked = None if given["prompt"] is None else str(given["prompt"])
        asked = input_text(world, asked, _strings(given["file"]), images, piped=piped)
        values[_INPUT] = asked
        given["prompt"] = self._prompt(values, asked, bool(images)) or None
        given["file"] = None
        if given["system"] is None and document.get("system"):
            given["system"] = self._filled("system", str(document["system"]), values)
        for key in ("model", "provider", "max_tokens", "schema"):
            value = document.get(key)
            if given[key] is None and value is not None:
                given[key] = dumps(_exact(value)) if isinstance(value, dict) else str(value)
        options = document.get("options")
        if isinstance(options, dict):
            # Weakest first: a later one of the same name wins.
            given["option"] = [
                *(f"{name}={dumps(_exact(value))}" for name, value in options.items()),
                *_strings(given["option"]),
            ]
        given["extract"] = bool(given["extract"] or document.get("extract"))
        return [(tag, self._filled(f"tags.{tag}", text, values)) for tag, text in self._tags.items()]

    def _prompt(self, values: dict[str, str], asked: str, has_images: bool) -> str:
        text = str(self.document.get("prompt") or "")
        wants_input = _INPUT in self._names("prompt", text)
        if wants_input and not asked and not has_images:
            raise UsageError(
                f"the template {self.path} asks for input, and there is none",
                f'give one: `llm-call -t … "…"`, or leave `${_INPUT}` out of it',
            )
        filled = self._filled("prompt", text, values)
        if asked and not wants_input:
            filled = f"{filled}\n\n{asked}" if filled else asked
        return filled

    def _values(self, parameters: list[str]) -> dict[str, str]:
        """What the holes are filled with: `-p` over `defaults`."""
        defaults = self.document.get("defaults")
        values = {name: _plain(value) for name, value in defaults.items()} if isinstance(defaults, dict) else {}
        texts = {key: str(self.document.get(key) or "") for key in ("prompt", "system")}
        texts.update({f"tags.{tag}": text for tag, text in self._tags.items()})
        holes = {name for key, text in texts.items() for name in self._names(key, text)} - {_INPUT}
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name not in holes:
                raise UsageError(
                    f"-p {name}: the template {self.path} has no such parameter{_meant(name, holes)}",
                    f"it has {', '.join(f'`{hole}`' for hole in sorted(holes)) or 'none'}",
                )
            values[name] = value
        missing = sorted(holes - set(values))
        if missing:
            raise UsageError(
                f"the template {self.path} needs a value for {', '.join(missing)}",
                f"add `{' '.join(f'-p {name} …' for name in missing)}`, or set it under `[defaults]` there",
                missing=missing,
            )
        return values

    def _names(self, key: str, text: str) -> set[str]:
        """The holes in a text. A `$` that begins none is an error: it would be sent as it stands, or worse."""
        names = set()
        for hole in Holes.pattern.finditer(text):
            if hole["invalid"] is not None:
                line = text.count("\n", 0, hole.start()) + 1
                raise Malformed(
                    f"{self.path}: `{key}`, line {line}: a `$` without a name after it", "write `$$` for a dollar sign"
                )
            name = hole["named"] or hole["braced"]
            if name:
                names.add(name)
        return names

    def _filled(self, key: str, text: str, values: Mapping[str, str]) -> str:
        self._names(key, text)  # or `substitute` would raise for a bare dollar sign
        return Holes(text).substitute(values)

    def _check(self, key: str, value: object) -> None:
        if key not in KEYS:
            self._wrong(f"unknown key `{key}`{_meant(key, KEYS)}", f"the keys are {', '.join(KEYS)}")
        if key in _TEXTS and not isinstance(value, str):
            self._wrong(f"`{key}` is not text", f'write `{key} = "…"`')
        if key in _TABLES and not isinstance(value, dict):
            self._wrong(f"`{key}` is not a table", f"write `[{key}]`")
        if key == "max_tokens" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            self._wrong("`max_tokens` is not a whole number above 0", "write `max_tokens = 400`")
        if key == "schema" and not isinstance(value, str | dict):
            self._wrong("`schema` is neither text nor a table", 'write `schema = "name, age int"`')
        if key == "extract" and not isinstance(value, bool):
            self._wrong("`extract` is not `true` or `false`", "write `extract = true`")
        if isinstance(value, dict) and key in ("tags", "defaults"):
            for name, item in value.items():
                if not isinstance(item, str | int | float):
                    self._wrong(f"`{key}.{name}` is not text or a number", f'write `{name} = "…"`')
                if name == _INPUT and key == "defaults":
                    self._wrong("`defaults.input`: the input has no default", "use a parameter of another name")

    def _wrong(self, what: str, hint: str) -> NoReturn:
        raise Malformed(f"{self.path}: {what}", hint)


def _find(directory: str, name: str) -> str:
    """A name is a file of the templates directory, whatever it is made of; with a slash or `.toml` it is a path."""
    is_path = os.sep in name or name.endswith(".toml")
    path = os.path.abspath(os.path.expanduser(name)) if is_path else os.path.join(directory, name + ".toml")
    if os.path.lexists(path):
        return path
    if is_path:
        raise UsageError(f"there is no template {path}", "give a TOML file, or a name: `-t NAME`")
    try:
        known = sorted(entry.removesuffix(".toml") for entry in os.listdir(directory) if entry.endswith(".toml"))
    except OSError:
        known = []
    there = f"there are {', '.join(known[:20])}" if known else f"write `{path}`"
    raise UsageError(f"there is no template {name!r} in {directory}{_meant(name, known)}", there)


def _meant(name: str, known: object) -> str:
    close = difflib.get_close_matches(name, [*known], 1)  # type: ignore[misc]
    return f", did you mean {close[0]!r}?" if close else ""


def _plain(value: object) -> str:
    """A default as text: numbers as they were written, `true` as TOML has it."""
    return value if isinstance(value, str) else dumps(_exact(value))


def _exact(value: object) -> object:
    """A TOML value without binary fractions; their shortest text is what was written."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    return value


def _strings(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list | tuple) else []
