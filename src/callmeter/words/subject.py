"""Subjects: what a quota is about, and which buckets of money a call falls into.

`total`; `KIND:VALUE`, where the kind is a tag's name, `key`, `model`, `provider` or `pool`; `KIND:*`, each value for
itself; `KIND:PATTERN` with `*` inside, everything that matches, together.
"""

from __future__ import annotations

from callmeter.words.errors import UsageError
from callmeter.words.key_shape import holds_key, key_given
from callmeter.words.tags import tag_name, tag_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Kinds that are not tags. `pool` is the shared pool that paid a call in the place of its agent's own allocation.
FACTS = ("key", "model", "provider", "pool")


class Subject:
    """A subject, `kind` and `value`; for `total` both are `total` and ``."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: str, value: str) -> None:
        self.kind = kind
        self.value = value

    @property
    def each(self) -> bool:
        """Whether each value has a bucket of its own (`session:*`)."""
        return self.value == "*"

    def bucket(self, facts: Mapping[str, str]) -> str | None:
        """The bucket that a call with these facts (its tags, and key, model, provider) falls into, or None."""
        if self.kind == "total":
            return "total"
        found = facts.get(self.kind)
        if found is None:
            return None
        if self.each:
            return f"{self.kind}:{found}"
        return str(self) if matches(self.value, found) else None

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else self.kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subject) and (self.kind, self.value) == (other.kind, other.value)

    def __hash__(self) -> int:
        return hash((self.kind, self.value))


def facts_of(
    tags: Mapping[str, str], *, key: str = "", model: str = "", provider: str = "", pool: str = ""
) -> dict[str, str]:
    """What decides under which subjects a call falls. A tag that is called like a fact cannot pass for it."""
    facts = {name: value for name, value in tags.items() if name not in FACTS}
    for name, value in (("key", key), ("model", model), ("provider", provider), ("pool", pool)):
        if value:
            facts[name] = value
    return facts


def parse_subject(text: str, aliases: Mapping[str, str] | None = None) -> Subject:
    """`agent:code`, `session:*`, `model:anthropic/*`, `total`; `aliases` are other names of tags. Raises UsageError."""
    if text == "total":
        return Subject("total", "")
    if holds_key(text):
        raise key_given("the subject")
    kind, colon, value = text.partition(":")
    if not colon or not value.strip() or not value.isprintable():
        raise UsageError(
            f"{text!r} is not a subject", "write `total`, `agent:code`, `session:*` or `model:anthropic/*`"
        )
    if kind in FACTS:
        return Subject(kind, value.strip())
    name = tag_name(kind)
    name = (aliases or {}).get(name, name)
    return Subject(name, tag_value(name, value))


def matches(pattern: str, text: str) -> bool:
    """Whether text matches a pattern in which `*` stands for any characters, and nothing else is special."""
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    if not text.startswith(first):
        return False
    position = len(first)
    *middle, last = others
    for part in middle:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(text) - position >= len(last) and text.endswith(last)
