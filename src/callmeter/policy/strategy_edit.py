"""An allocation strategy set or changed in the text of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from callmeter.policy.allocation import ALLOCATION_KEYS, STRATEGIES
from callmeter.policy.document import Policy
from callmeter.policy.document_text import DocumentText
from callmeter.policy.quota_edit import Change
from callmeter.words.errors import UsageError
from callmeter.words.jsontext import loads

_KEYS = ("allocation_strategy", "allocations", "roles")


@dataclass(frozen=True)
class Plan:
    """What is to change: members of `allocations` and of `roles`, as they stand in the document. An empty `strategy`
    is the one that the policy has."""

    strategy: str = ""
    allocations: Mapping[str, object] = field(default_factory=dict)
    roles: Mapping[str, object] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing is to change."""
        return not (self.strategy or self.allocations or self.roles)


def with_plan(text: str, policy: Policy, plan: Plan) -> Change:
    """The text with the strategy in it; what the plan does not say stays, unless another strategy has no use for it.
    Raises UsageError."""
    document = DocumentText(text)
    before = _standing(text)
    had = policy.strategy.name if policy.strategy else ""
    name = plan.strategy or had
    if not name:
        raise UsageError("the policy has no strategy", f"name one with `--strategy`: {', '.join(STRATEGIES)}")
    wanted = {"allocations": plan.allocations, "roles": plan.roles}
    useless = "allocations" if name == "role_based" else "roles"
    strange = [*wanted[useless], *(key for key in plan.allocations if key not in ALLOCATION_KEYS[name])]
    if strange:
        raise UsageError(f"{strange[0]} has no meaning under {name}", "leave it out, or name another `--strategy`")
    document.set(("allocation_strategy",), name)
    if (useless,) in document:
        document.remove((useless,))
    useful = "roles" if useless == "allocations" else "allocations"
    if name != had and useful == "allocations" and (useful,) in document:
        document.remove((useful,))
    for key, value in wanted[useful].items():
        if (useful,) not in document:
            document.set((useful,), {})
        document.set((useful, key), value)
    return Change(document.text, "agent:*", policy.period, "usd", before, _standing(document.text))


def _standing(text: str) -> dict[str, object]:
    """What the document says about allocation."""
    found = loads(text)
    assert isinstance(found, dict)
    return {key: found[key] for key in _KEYS if key in found}
