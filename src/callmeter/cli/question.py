"""What is asked: the prompt, files, standard input and images become the messages of a request."""

from __future__ import annotations

import os

from callmeter.store.files import read_file
from callmeter.words.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from callmeter.cli.world import World

MAX_INPUT = 32 * 1024 * 1024
MAX_IMAGE = 20 * 1024 * 1024

_IMAGES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
_MARKS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def user_content(
    world: World, prompt: str | None, files: Sequence[str], attachments: Sequence[str], *, piped: bool = True
) -> str | list[dict[str, object]]:
    """The user's message: `input_text`, and with images, the text and the images as parts. Raises UsageError when
    there is nothing to ask, or input is not text."""
    text = input_text(world, prompt, files, attachments, piped=piped)
    if not text.strip() and not attachments:
        raise UsageError("there is no prompt", 'give one: `llm-call "…"`, `llm-call < FILE`, `llm-call -f FILE`')
    if not attachments:
        return text
    content: list[dict[str, object]] = [{"type": "text", "text": text}] if text.strip() else []
    for attachment in attachments:
        content.append({"type": "image_url", "image_url": {"url": _image_url(world, attachment)}})
    return content


def input_text(
    world: World, prompt: str | None, files: Sequence[str], attachments: Sequence[str], *, piped: bool = True
) -> str:
    """Files, then standard input (unless it is named among files or images, or not `piped`), then the prompt,
    separated by blank lines; empty when there is none of them. Raises UsageError when input is not text."""
    parts = [_stdin_text(world) if path == "-" else _file_text(path) for path in files]
    if piped and "-" not in files and "-" not in attachments:
        parts.append(_stdin_text(world))
    if prompt is not None:
        parts.append(prompt)
    text = "\n\n".join(part.strip("\n") for part in parts if part.strip())
    # argv that is not UTF-8 arrives as lone surrogates, which no endpoint takes.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def schema_text(text: str) -> str:
    """A --schema: what a file of this name holds, else the text itself. Raises UsageError."""
    if text.lstrip().startswith(("{", "[")) or "\n" in text:
        return text
    if os.path.exists(text):
        return _file_text(text)
    if "/" in text or text.endswith(".json"):
        raise UsageError(f"--schema: there is no file {text}", "give a file, a JSON Schema, or `name, age int`")
    return text


def _stdin_text(world: World) -> str:
    stream = world.stdin
    if stream is None:
        return ""
    try:
        if stream.isatty():
            return ""
        data = stream.buffer.read(MAX_INPUT + 1)
    except (OSError, ValueError):  # closed, or not readable: there is no input
        return ""
    return _decoded(data or b"", "standard input")


def _file_text(path: str) -> str:
    # A person's own file may be a link or a pipe (<(…)), so the strict reader of the program's files is not used.
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_INPUT + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    return _decoded(data, path)


def _decoded(data: bytes, name: str) -> str:
    if len(data) > MAX_INPUT:
        raise UsageError(f"{name} is larger than {MAX_INPUT // 2**20} MiB", "send a part of it")
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            raise UsageError(f"{name} is {encoding}, not UTF-8", f"convert it: `iconv -f {encoding} -t UTF-8`")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 text (byte {error.start})",
            "convert it with `iconv -t UTF-8`; an image is attached with `-a`",
        ) from None
    if "\0" in text:
        raise UsageError(f"{name} is binary (it has a NUL byte)", "an image is attached with `-a`")
    return text


def _image_url(world: World, attachment: str) -> str:
    if attachment.startswith(("https://", "http://", "data:image/")):
        return attachment
    if attachment == "-":
        stream = world.stdin
        data = stream.buffer.read(MAX_IMAGE + 1) if stream is not None else b""
    elif os.path.exists(attachment):
        data = read_file(os.path.realpath(attachment), MAX_IMAGE) or b""
    else:
        raise UsageError(f"there is no file {attachment}", "give a file, an http(s) URL, or `-`")
    if len(data) > MAX_IMAGE:
        raise UsageError(f"{attachment} is larger than {MAX_IMAGE // 2**20} MiB")
    media = next((media for start, media in _IMAGES if data.startswith(start)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        media = "image/webp"
    if not media:
        raise UsageError(f"{attachment} is not a PNG, JPEG, GIF or WebP image", "text files go in with `-f`")
    import base64

    return f"data:{media};base64,{base64.b64encode(data).decode('ascii')}"


def parameter(text: str) -> tuple[str, object]:
    """`temperature=0.2` (from `-o temperature 0.2`) as a body member: JSON where the value is JSON, else text."""
    from callmeter.words.jsontext import loads

    name, _, value = text.partition("=")
    if not name.replace("_", "").replace(".", "").isalnum() or not name.isascii():
        raise UsageError(f"-o {name!r}: not the name of a parameter", "write `-o temperature 0.2`")
    if name in RESERVED:
        raise UsageError(f"-o {name}: callmeter sets this itself", RESERVED[name])
    try:
        return name, loads(value)
    except ValueError:
        return name, value


RESERVED = {
    "model": "use `--model`",
    "models": "use `--fallback-model`",
    "messages": "use the prompt and `--system`",
    "stream": "answers always stream on the wire; `--no-stream` prints them whole",
    "stream_options": "usage is always asked for",
    "max_tokens": "use `--max-tokens`",
    "max_completion_tokens": "use `--max-tokens`",
    "n": "one answer is what is metered; make several calls",
}
