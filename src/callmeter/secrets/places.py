"""Where a key can lie, in the words of a person: `vault`, `keychain`, `file`, `command:pass/llm/code`."""

from __future__ import annotations

from callmeter.secrets.registry import STORES, reference_fault
from callmeter.words.errors import UsageError

# Where keys go in a store that others use too, when nobody says where.
_BELOW = {"vault": "secret/callmeter/", "aws-sm": "callmeter/"}


def reference_for(store: str, label: str) -> str:
    """The reference for a store that was asked for: a whole one stays as it is, a store alone (`vault`) gets a place
    named after the label, and so does a beginning (`vault:kv/team/`, `command:pass`). Raises UsageError."""
    scheme, _, name = store.partition(":")
    if scheme == "command" and name and "/" not in name:
        name += "/callmeter/"
    if not name:
        name = _BELOW.get(scheme, "")
        name = f"{name}{label}"
    elif name.endswith("/"):
        name += label
    reference = f"{scheme}:{name}"
    fault = (
        "names no helper" if scheme == "command" and store in ("command", "command:") else reference_fault(reference)
    )
    if fault:
        raise UsageError(
            f"the store {store!r} {fault}" if "key itself" not in fault else f"the store {fault}",
            f"write one of {', '.join(f'`{name}`' for name in STORES)}, or a whole reference such as "
            "`vault:secret/llm/code`, `command:pass/llm/code`",
        )
    return reference
