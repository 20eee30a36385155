"""A policy's rules over the tags of a call: aliases, required tags, allowed values, how many."""

from __future__ import annotations

from callmeter.policy.document import Policy
from callmeter.words.errors import CallmeterError, Exit
from callmeter.words.tags import BUILT_IN, MAX_TAGS, tag_name, tag_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class TagsRefused(CallmeterError):
    """The policy does not let a call through with these tags; `tags` are the ones it had."""

    exit_status = Exit.USAGE
    code = "tags_refused"

    def __init__(self, message: str, hint: str, tags: dict[str, str], **details: object) -> None:
        super().__init__(message, hint, "", **details)
        self.tags = tags


def settle_tags(sources: Iterable[Iterable[tuple[str, str]]], policy: Policy) -> dict[str, str]:
    """One set of tags from several sources, weakest first (settings, variables, options), under the policy.

    Names are brought to one form and through the aliases. Raises UsageError for a malformed tag or one given
    twice in a source with two values, TagsRefused for what the policy forbids.
    """
    tags: dict[str, str] = {}
    for source in sources:
        given: dict[str, tuple[str, str]] = {}
        for raw, text in source:
            name = tag_name(raw)
            name = policy.aliases.get(name, name)
            value = tag_value(name, text)
            if name in given and given[name][0] != value:
                raise TagsRefused(
                    f"tag {name} is given twice: {given[name][0]!r} (as {given[name][1]}) and {value!r} (as {raw})",
                    "give it once",
                    tags,
                )
            given[name] = (value, raw)
            tags[name] = value
    missing = [name for name in policy.required if name not in tags]
    if missing:
        options = " ".join(
            f"--{name.replace('_', '-')} …" if name in BUILT_IN else f"--tag {name}=…" for name in missing
        )
        raise TagsRefused(
            f"the policy requires the tag{'s' if len(missing) > 1 else ''} {', '.join(missing)}",
            f"add `{options}`",
            tags,
            missing=missing,
        )
    for name, values in policy.allowed.items():
        if name in tags and tags[name] not in values:
            raise TagsRefused(
                f"tag {name}={tags[name]} is not allowed by the policy",
                f"use one of {', '.join(values)}",
                tags,
                allowed=list(values),
            )
    if len(tags) > MAX_TAGS:
        raise TagsRefused(f"{len(tags)} tags, {MAX_TAGS} are allowed", "leave some out", tags)
    return tags
