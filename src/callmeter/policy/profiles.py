"""Key profiles: what may be done with one key, by its label in the key registry.

    "keys": {"production": {"budget": 15.00, "allowed_models": ["claude-3.5-sonnet"], "rate_limit": "100/day"}}

A profile may also stand at the top of the document, if its name ends in `_key`: `production_key` is the profile of
the key with that very label.
"""

from __future__ import annotations

from callmeter.policy.model_rules import add_rule
from callmeter.policy.quota_rules import period_in, plain_quota, rate_quotas
from callmeter.policy.quotas import ENFORCEMENTS
from callmeter.policy.reading import Part, shown
from callmeter.words.subject import Subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callmeter.policy.document import Policy
    from callmeter.policy.sections import Gathered

PROFILE_KEYS = ("budget", "period", "enforcement", "allowed_models", "rate_limit", "alerts")
SUFFIX = "_key"
_ALERTS: dict[object, bool] = {"enabled": True, "disabled": False, True: True, False: False}


def read_profiles(root: Part, policy: Policy, gathered: Gathered) -> None:
    """`keys`, and the profiles at the top of the document."""
    for label, profile in (root.part("keys") or root.nothing()).parts():
        _profile(profile, label, policy, gathered)
    for label, found in root.found.items():
        if label.endswith(SUFFIX) and isinstance(found, dict):
            _profile(Part(found, (label,), root.faults), label, policy, gathered)


def _profile(part: Part, label: str, policy: Policy, gathered: Gathered) -> None:
    part.only(PROFILE_KEYS)
    if not label.strip() or not label.isprintable() or "*" in label:
        part.fault(None, "is no key's label", "take one of `callmeter budget keys list`")
        return
    subject = Subject("key", label)
    alerts = part.found.get("alerts", True)
    wanted = _ALERTS.get(alerts) if isinstance(alerts, str | bool) else None
    if wanted is None:
        part.fault("alerts", f"{shown(alerts)} is neither `enabled` nor `disabled`")
    quotas = []
    budget = part.usd("budget")
    if budget is not None:
        quota = plain_quota(subject, budget, policy)
        quota.period = period_in(part, policy)
        quotas.append(((*part.path, "budget"), quota))
    elif "period" in part.found and "budget" not in part.found:
        part.fault("period", "goes with `budget`", "add one, or remove it")
    if "rate_limit" in part.found:
        quotas += rate_quotas(part, "rate_limit", subject, policy)
    enforcement = part.choice("enforcement", ENFORCEMENTS, "")
    for path, quota in quotas:
        quota.alerts = wanted is not False
        quota.enforcement = enforcement or quota.enforcement
        gathered.add(path, quota, derived=True)
    if "allowed_models" in part.found:
        add_rule(part, "allowed_models", subject, policy, enforcement)
