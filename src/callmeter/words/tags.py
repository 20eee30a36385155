"""Tags: key=value on a call. Built-in names, their limits, and how several sources become one set."""

from __future__ import annotations

from callmeter.words.errors import UsageError
from callmeter.words.key_shape import holds_key, key_given

BUILT_IN = (
    "agent",
    "session",
    "purpose",
    "priority",
    "environment",
    "cost_center",
    "work_item",
    "customer",
    "user",
    "workflow",
)
MAX_TAGS = 16
MAX_VALUE = 512
MAX_NAME = 64

# The replaced scripts and ticket systems use these words; a policy may add to them.
ALIASES = {
    "caller": "agent",
    "ticket_id": "work_item",
    "ticket_uuid": "work_item",
    "ticket_num": "work_item",
}


def tag_name(text: str) -> str:
    """A tag's name in its one form (`cost-center` is `cost_center`). Raises UsageError."""
    if holds_key(text):
        raise key_given("the name of a tag")
    name = text.strip().replace("-", "_").lower()
    plain = name.replace("_", "").replace(".", "")
    if not plain.isalnum() or not plain.isascii() or name[0].isdigit() or len(name) > MAX_NAME:
        raise UsageError(
            f"tag name {text!r} is not made of letters, digits, `_` and `.`",
            f"use a name such as `team`, at most {MAX_NAME} characters",
            code="bad_tag",
        )
    return name


def tag_value(name: str, text: str) -> str:
    """A tag's value, in Unicode's composed form. Raises UsageError for empty, long or unprintable values, and for one
    that has a key in it."""
    value = text.strip()
    if not value.isascii():
        import unicodedata

        value = unicodedata.normalize("NFC", value)
    if holds_key(value):
        raise key_given(f"tag {name}")
    if not value:
        raise UsageError(f"tag {name} is empty", f"give `{name}` a value or leave it out", code="bad_tag")
    if len(value) > MAX_VALUE:
        raise UsageError(f"tag {name} has {len(value)} characters, {MAX_VALUE} are allowed", code="bad_tag")
    # Not printable are control characters, bidirectional and zero-width marks, and broken UTF-8 from argv.
    if not value.isprintable():
        raise UsageError(
            f"tag {name} has a control or invisible character in {value!a}",
            "remove it: tags are printed on terminals and sent in headers",
            code="bad_tag",
        )
    return value


def parse_tag(text: str) -> tuple[str, str]:
    """`team=search` as a pair. Raises UsageError."""
    name, separator, value = text.partition("=")
    if not separator:
        if holds_key(text):
            raise key_given("--tag")
        raise UsageError(f"--tag {text!r} is not NAME=VALUE", "write `--tag team=search`", code="bad_tag")
    name = tag_name(name)
    return name, tag_value(name, value)
