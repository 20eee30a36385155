"""A sketch of a prompt: 64 bits that are alike for texts that are alike, and that tell nobody what the text was.

A similarity hash: each feature of the text is a random direction in 64 dimensions, drawn with a secret salt, and a
bit says on which side the sum lies. Charikar, "Similarity Estimation Techniques from Rounding Algorithms", 2002.

The beginning and the end of a text count as much as all that lies between. What tells one task from the next stands
there, before or after a long instruction that never changes; and a retry that appends the same failure again and
again keeps both.
"""

from __future__ import annotations

from itertools import pairwise

try:
    from _blake2 import blake2b  # hashlib would load OpenSSL, at each call
except ImportError:  # another Python
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Up to this distance two prompts are near-identical. The same task with other digits lies at 0, so does a retry that
# repeats its failure. Of tasks that share a long instruction and differ in three words, one pair in eight lies within
# it, of those that differ in ten, none of 200; unrelated texts lie around 32.
NEAR = 3

_EDGE = 24  # words
_MOST_FEATURES = 192  # of the middle; lane sums of 16 bits hold 257
_HEAD, _TAIL = 12_288, 4_096  # characters that are looked at in a long text
_LONG_WORD = 24
_NO_DIGITS = dict.fromkeys(b"0123456789")
_EVEN = int.from_bytes(b"\x00\xff" * 32, "big")


def prompt_sketch(text: str, salt: bytes) -> str:
    """The sketch as 16 hex digits. Digits, spaces and case do not count; `salt` has at most 64 bytes."""
    if len(text) > _HEAD + _TAIL:
        text = text[:_HEAD] + text[-_TAIL:]
    words = _words(text)
    if len(words) <= 2 * _EDGE:
        regions = [_pairs(words)]
    else:
        regions = [_pairs(words[:_EDGE]), _some(set(words[_EDGE:-_EDGE])), _pairs(words[-_EDGE:])]
    sums = [0] * 64
    for features in regions:
        # A few words between two edges must not count as much as an edge.
        weight = min(len(features), _EDGE) if len(regions) > 1 else 1
        for lane, excess in enumerate(_sum(features, salt)):
            sums[lane] += weight * excess
    bits = 0
    for excess in sums:
        bits = bits << 1 | (excess > 0)
    return f"{bits:016x}"


def distance(one: str, other: str) -> int:
    """In how many of the 64 bits two sketches differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def last_words(messages: Sequence[Mapping[str, object]]) -> str:
    """The text of the last message of the user; "" when there is none."""
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                parts = (part.get("text") for part in content if isinstance(part, dict))
                return "\n".join(part for part in parts if isinstance(part, str))
            return content if isinstance(content, str) else ""
    return ""


def _words(text: str) -> list[str]:
    """The words. What has no spaces (Chinese, minified JSON) is cut into pieces."""
    words = text.translate(_NO_DIGITS).lower().split()
    if max(map(len, words), default=0) <= _LONG_WORD:
        return words
    return [word[start : start + 8] for word in words for start in range(0, len(word), 8)]


def _pairs(words: Sequence[str]) -> set[str]:
    """Each word with the next; the first also alone, so that a single word is a text."""
    return {"", *words[:1], *(f"{one} {two}" for one, two in pairwise(words))}


def _some(words: set[str]) -> set[str]:
    """Not too many of the words; which ones depends on each word alone, so that a longer text keeps most of them."""
    if len(words) <= _MOST_FEATURES:
        return words
    from zlib import crc32

    ranked = sorted(words, key=lambda word: crc32(word.encode("utf-8", "surrogatepass")))
    return set(ranked[:_MOST_FEATURES])


def _sum(features: Iterable[str], salt: bytes) -> Iterable[int]:
    """The mean of the features' directions, in 64 lanes. A direction is a digest, a lane one of its bytes; two big
    integers add 32 lanes of 16 bits each in one step."""
    even = odd = count = 0
    for feature in features:
        digest = blake2b(feature.encode("utf-8", "surrogatepass"), key=salt).digest()
        lanes = int.from_bytes(digest, "big")
        even += lanes & _EVEN
        odd += lanes >> 8 & _EVEN
        count += 1
    for sums in (even, odd):
        data = sums.to_bytes(64, "big")
        for place in range(0, 64, 2):
            yield (2 * (data[place] << 8 | data[place + 1]) - 255 * count) * 1_000_000 // max(1, count)
