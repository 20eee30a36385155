"""Write a person's own prices, and leave the rest of their file, comments included, as it is."""

from __future__ import annotations

import os
import tomllib

from callmeter.store.files import Lock, read_file, replace_file
from callmeter.words.errors import Malformed

Document = dict[str, dict[str, dict[str, object]]]

_BEGINNING = """\
# Your own prices, before all others: USD for a million tokens (`request`: for one request).
# Written by `callmeter prices set`; you may edit it too. `from = "2026-11-21"` and `until` say when a price holds;
# without them, reports that price calls again take it for earlier ones too.

"""


def set_override(path: str, provider: str, model: str, entry: dict[str, object]) -> bool:
    """Put an entry into prices.toml; True when it replaced one. Raises Malformed, FileProblem, Busy."""
    with Lock(path + ".lock"):
        text, document = _read(path)
        replaced = model in document.get(provider, {})
        document.setdefault(provider, {})[model] = entry
        block = _dump({provider: {model: entry}})
        cut = _without(text, provider, model) if replaced else text
        _write(path, (cut.rstrip("\n") + "\n\n" if cut.strip() else _BEGINNING) + block, document)
        return replaced


def remove_override(path: str, provider: str, model: str) -> bool:
    """Take an entry out of prices.toml; False when there is none. Raises Malformed, FileProblem, Busy."""
    with Lock(path + ".lock"):
        text, document = _read(path)
        if model not in document.get(provider, {}):
            return False
        del document[provider][model]
        if not document[provider]:
            del document[provider]
        _write(path, _without(text, provider, model), document)
        return True


def _read(path: str) -> tuple[str, Document]:
    try:
        text = (read_file(path) or b"").decode("utf-8-sig")
        document = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Malformed(f"{path}: {str(error)[:1].lower()}{str(error)[1:]}", f"mend that line of {path}") from None
    return text, document


def _write(path: str, text: str, document: Document) -> None:
    """The edited text, if it means what it should; else (tables written inline, dotted keys) the document anew."""
    try:
        same = tomllib.loads(text) == document
    except tomllib.TOMLDecodeError:
        same = False
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
    replace_file(path, (text if same else _BEGINNING + _dump(document)).encode("utf-8"), mode=mode)


def _without(text: str, provider: str, model: str) -> str:
    """The text without the table of one model, up to the comment above the next table."""
    kept: list[str] = []
    skipping = False
    skipped: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("["):
            if skipping:
                kept += _trailing_comment(skipped)
            skipping = _names(line) == {provider: {model: {}}}
            skipped = []
        (skipped if skipping else kept).append(line)
    return "".join(kept)


def _trailing_comment(lines: list[str]) -> list[str]:
    """The comment that stands directly above the next table belongs to that one."""
    comment: list[str] = []
    for line in reversed(lines[1:]):
        if not line.lstrip().startswith("#"):
            break
        comment.insert(0, line)
    return comment


def _names(header: str) -> object:
    try:
        return tomllib.loads(header)
    except tomllib.TOMLDecodeError:
        return None


def _dump(document: object) -> str:
    import tomli_w

    return tomli_w.dumps(document)  # type: ignore[arg-type]
