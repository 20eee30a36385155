"""What an allocation strategy gives to whom."""

from __future__ import annotations

from callmeter.policy.allocation import handed_out
from callmeter.policy.document import Policy
from callmeter.policy.quotas import Quota
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.words.money import amount_text
from callmeter.words.wording import listed

_SOURCES = ("allocations", "roles")
_NAMED = 5


def allocation_table(now: Policy, then: Policy) -> Report:
    """A row for each agent and pool: its limit now, and as it would be then."""
    before, after = _given(now), _given(then)
    columns = [
        Column("subject", "subject", Kind.TEXT),
        Column("now", "now", Kind.RATE, quiet=True),
        Column("then", "then", Kind.RATE),
        Column("period", "per", Kind.TEXT),
        Column("pools", "when it is gone", Kind.TEXT, quiet=True),
        Column("enforcement", "enforced", Kind.TEXT, optional=1),
    ]
    rows = [
        Row(
            {
                "subject": subject,
                "now": before[subject].limit if subject in before else None,
                "then": after[subject].limit if subject in after else None,
                "period": (after.get(subject) or before[subject]).period,
                "pools": ", ".join(after[subject].pools) if subject in after else "",
                "enforcement": (after.get(subject) or before[subject]).enforcement,
            }
        )
        for subject in [*after, *(subject for subject in before if subject not in after)]
    ]
    return Report("What the strategy gives", columns, rows, notes=_notes(then))


def _given(policy: Policy) -> dict[str, Quota]:
    return {str(quota.subject): quota for quota in policy.quotas if quota.source.startswith(_SOURCES)}


def _own(policy: Policy) -> list[Quota]:
    """Quotas of the same kind that entries of their own give instead."""
    given = _given(policy)
    kinds = {(quota.subject.kind, quota.period, quota.unit) for quota in given.values()}
    return [
        quota
        for quota in policy.quotas
        if (quota.subject.kind, quota.period, quota.unit) in kinds
        and "*" not in quota.subject.value
        and str(quota.subject) not in given
    ]


def _notes(policy: Policy) -> list[str]:
    strategy = policy.strategy
    if strategy is None:
        return ["The policy has no strategy; `--strategy` names one."]
    notes = [f"The strategy is {strategy.name}."]
    given = handed_out(strategy)
    if given is not None:
        of = "" if policy.total_budget is None else f" of {amount_text(policy.total_budget, 'usd')}"
        notes.append(f"It hands out {amount_text(given, 'usd')}{of}.")
        if policy.total_budget is not None and given > policy.total_budget:
            notes.append("That is more than the total, which stops everybody when it is used up.")
    if strategy.by_value:
        notes.append("The merit pool is to be shared out by recorded value; without any, whoever needs it draws on it.")
    own = _own(policy)
    if own:
        said = listed([f"{quota.subject}, {amount_text(quota.limit, quota.unit)}" for quota in own], _NAMED)
        notes.append(f"Entries in `quotas` go before what the strategy gives: {said}.")
    if all(quota.enforcement != "hard" for quota in _given(policy).values()):
        notes.append(f"These quotas are {policy.enforcement}: they stop no call until the policy says `hard`.")
    return notes
