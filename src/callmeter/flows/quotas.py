"""Changing quotas in the policy: the change is checked, audited, and then put in place."""

from __future__ import annotations

from collections.abc import Callable

from callmeter.policy.document import Policy
from callmeter.policy.quota_edit import Change, Wish, with_quota
from callmeter.store.audit import Audit
from callmeter.store.policy_file import PolicyFile


def set_quota(path: str, wish: Wish, audit: Audit) -> tuple[Change, Policy]:
    """Set one quota."""
    return change_policy(path, "quota.set", lambda text, policy: with_quota(text, policy, wish), audit)


def change_policy(
    path: str, event: str, changed: Callable[[str, Policy], Change], audit: Audit
) -> tuple[Change, Policy]:
    """Change the policy in one place, and give the change and the policy that it makes. Raises UsageError when it
    would not be valid then; nothing has changed in that case."""
    with PolicyFile(path) as file:
        change = changed(file.text, file.policy)

        def tell(old: str, new: str) -> None:
            facts = {"subject": change.subject, "period": change.period, "unit": change.unit}
            audit(
                event, {**facts, "before": change.before, "after": change.after, "old_policy": old, "new_policy": new}
            )

        if change.text == file.text:
            return change, file.policy
        return change, file.replace(change.text, tell)


def foreseen_policy(path: str, changed: Callable[[str, Policy], Change]) -> Policy:
    """The policy that a change would make; nothing is changed. Raises UsageError when it would not be valid."""
    with PolicyFile(path) as file:
        return file.checked(changed(file.text, file.policy).text)
