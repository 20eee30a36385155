"""What keys of well-known providers look like, to find one that was given where a name stands."""

from __future__ import annotations

from callmeter.words.errors import UsageError

_BEGINNINGS = ("sk-", "sk_", "gsk_", "xai-", "pplx-", "hf_", "r8_", "AIza", "key-", "nvapi-", "fw_", "csk-")
# No name begins like these; agents are called `key-rotation-service` and `xai-research-assistant`.
_CERTAIN = ("sk-or-v1-", "sk-ant-api", "sk-ant-admin", "AIzaSy")
_SHORTEST = 16
# So many letters and digits in a row are random where they are of one, two or all three kinds: a, A and 0.
_RANDOM = (28, 20, 12)


def looks_like_key(text: str) -> bool:
    """Whether text is probably a key, which does not belong where labels and options of commands for keys stand."""
    return (
        len(text) >= _SHORTEST
        and text.startswith(_BEGINNINGS)
        and text.isascii()
        and text.isprintable()
        and " " not in text
    )


def holds_key(text: str) -> bool:
    """Whether a key stands anywhere in text that may be any name: the beginning of one, and then what no name has."""
    if len(text) < _SHORTEST:
        return False
    for beginning in _BEGINNINGS:
        start = text.find(beginning)
        while start >= 0:
            if not text[start - 1 : start].isalnum() and _goes_on(text[start:]):
                return True
            start = text.find(beginning, start + 1)
    return False


def key_given(what: str) -> UsageError:
    """The error for a key, or what looks like one, in the place of `what`, such as `tag agent`. It does not repeat
    the key."""
    return UsageError(
        f"{what} has a key in it, or what looks like one",
        "rotate that key, since others may have seen it, and give a name: names are logged",
        code="key_given",
    )


def _goes_on(text: str) -> bool:
    word = text.split(None, 1)[0]
    if word.startswith(_CERTAIN):
        return len(word) >= _SHORTEST
    runs = "".join(sign if sign.isalnum() else " " for sign in word).split()
    return any(len(run) >= _RANDOM[_kinds(run) - 1] for run in runs)


def _kinds(run: str) -> int:
    return sum(any(map(is_kind, run)) for is_kind in (str.isdigit, str.islower, str.isupper)) or 1
