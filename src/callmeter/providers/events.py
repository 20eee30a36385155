"""Server-sent events out of bytes, by the WHATWG's rules, as far as a stream of JSON needs them.

Lines end at `\\n`, `\\r\\n` and `\\r` and nowhere else: `str.splitlines` would also split at U+2028 and U+0085, which
models write.
"""

from __future__ import annotations

from callmeter.providers.wire import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_LINE = 16 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def events(chunks: Iterable[bytes]) -> Iterator[str]:
    """Each event's data, as soon as its blank line has arrived; an unfinished last event is given at the end.

    Comments and all other fields are skipped. Raises WireError: `too_large` for a line beyond MAX_LINE,
    `protocol` for data that is not UTF-8.
    """
    data: list[str] = []
    for line in _lines(chunks):
        if not line:
            if data:
                yield "\n".join(data)
                data = []
        elif line == b"data":
            data.append("")
        elif line.startswith(b"data:"):
            try:
                data.append(line[6:].decode() if line[5:6] == b" " else line[5:].decode())
            except UnicodeDecodeError:
                raise WireError("protocol", "the stream is not UTF-8", sent=True) from None
    if data:
        yield "\n".join(data)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    unfinished = bytearray()
    begun = False  # past the first line, which may begin with a byte order mark
    after_return = False  # the last chunk ended with \r: a \n that follows belongs to it
    for chunk in chunks:
        if after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            after_return = False
        if not chunk:
            continue
        after_return = chunk.endswith(b"\r")
        pieces = chunk.splitlines()  # of bytes: at \n, \r and \r\n only
        rest = b"" if chunk.endswith((b"\n", b"\r")) else pieces.pop()
        for piece in pieces:
            line = bytes(unfinished) + piece if unfinished else piece
            unfinished.clear()
            _check(line)
            yield line if begun else line.removeprefix(_BYTE_ORDER_MARK)
            begun = True
        unfinished += rest
        _check(unfinished)
    if unfinished:
        yield bytes(unfinished) if begun else bytes(unfinished).removeprefix(_BYTE_ORDER_MARK)


def _check(line: bytes | bytearray) -> None:
    if len(line) > MAX_LINE:
        raise WireError("too_large", f"a line of the stream is longer than {MAX_LINE} bytes", sent=True)
