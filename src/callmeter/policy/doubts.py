"""What is allowed in a policy but probably not meant: limits that nobody reaches, rules that nothing falls under."""

from __future__ import annotations

from dataclasses import dataclass

from callmeter.policy.allocation import EVERYONE, handed_out
from callmeter.policy.document import Policy
from callmeter.policy.model_rules import forbidding
from callmeter.policy.quotas import LIVES
from callmeter.policy.reading import closest
from callmeter.words.money import amount_text, shown
from callmeter.words.subject import FACTS, facts_of
from callmeter.words.tags import BUILT_IN

# Tags that say for whom money is spent.
WHO = ("agent", "user", "customer")


@dataclass(frozen=True)
class Doubt:
    """`source` is where it stands in the document, or empty; `advice` what to write, if it was not meant."""

    source: str
    message: str
    advice: str


def doubts(policy: Policy) -> list[Doubt]:
    """All of them, those about the whole first."""
    return [
        *_enforcement(policy),
        *_missing_tags(policy),
        *_kinds(policy),
        *_strategy(policy),
        *_out_of_reach(policy),
        *_stages(policy),
    ]


def _enforcement(policy: Policy) -> list[Doubt]:
    found = []
    if any(quota.enforcement == "soft" for quota in policy.quotas) and not policy.stated_enforcement:
        message = "is not set, so limits warn and do not stop"
        found.append(Doubt("enforcement", message, "write `hard`, or `soft` if that is meant"))
    if policy.unreachable == "fail_open" and any(quota.enforcement == "hard" for quota in policy.quotas):
        message = "lets calls through uncounted as long as the ledger cannot be reached, hard limits or not"
        found.append(Doubt("unreachable", message, "write `fail_closed` if limits must hold"))
    return found


def _missing_tags(policy: Policy) -> list[Doubt]:
    """A quota on a tag that calls may leave out can be walked around by leaving it out."""
    found: dict[str, Doubt] = {}
    for quota in policy.quotas:
        kind = quota.subject.kind
        avoidable = kind in WHO or (quota.subject.each and kind not in (*FACTS, *LIVES))
        if quota.enforcement == "hard" and avoidable and kind not in (*policy.required, *found):
            message = f"a call without the tag {kind} does not fall under it"
            found[kind] = Doubt(quota.source, message, f"add `{kind}` to `tags.required`")
    return list(found.values())


def _kinds(policy: Policy) -> list[Doubt]:
    """A subject of a kind that looks like another one, misspelt."""
    found = []
    own = {*policy.required, *policy.allowed, *policy.aliases.values()}
    rules = [(quota.subject, quota.source) for quota in policy.quotas]
    for subject, source in [*rules, *((rule.subject, rule.source) for rule in policy.model_rules)]:
        if subject.kind in ("total", *FACTS, *BUILT_IN, *own):
            continue
        close = closest(subject.kind, (*BUILT_IN, *FACTS))
        if close:
            message = f"is about a tag called {subject.kind}"
            found.append(Doubt(source, message, f"did you mean `{close}:{subject.value}`?"))
    return found


def _strategy(policy: Policy) -> list[Doubt]:
    strategy = policy.strategy
    if strategy is None:
        return []
    found = []
    given, total = handed_out(strategy), policy.total_budget
    if given is not None and total is not None and given > total:
        message = f"hands out {shown(given)}, the total is {shown(total)}: whoever comes last finds nothing"
        found.append(Doubt("allocation_strategy", message, "raise `total_budget`, or hand out less"))
    if strategy.by_value and strategy.merit_pool:
        message = "is shared as it is drawn on until recorded value gives weights"
        found.append(Doubt("allocations.merit_pool", message, "run `callmeter budget quota allocate`"))
    if strategy.name == "role_based" and not strategy.shared_pool:
        everyone = any(EVERYONE in role.agents for role in strategy.roles.values())
        if not everyone:
            message = "leaves nothing to an agent that is in no role"
            found.append(Doubt("roles", message, f"list all agents, one role for `{EVERYONE}`, or a `shared_pool`"))
    if strategy.name == "dynamic" and total is None and not strategy.pool:
        found.append(Doubt("allocation_strategy", "has no budget to draw on", "add `total_budget`"))
    return found


def _out_of_reach(policy: Policy) -> list[Doubt]:
    """Quotas above the total of the same period."""
    totals = {(quota.period, quota.unit): quota.limit for quota in policy.quotas if quota.subject.kind == "total"}
    found = []
    for quota in policy.quotas:
        total = totals.get((quota.period, quota.unit))
        if total is not None and quota.limit > total:
            limit, whole = amount_text(quota.limit, quota.unit), amount_text(total, quota.unit)
            message = f"allows {limit}, more than the total's {whole}: the total stops first"
            found.append(Doubt(quota.source, message, ""))
    return found


def _stages(policy: Policy) -> list[Doubt]:
    found = []
    for quota in policy.quotas:
        if quota.stages and quota.enforcement != "hard":
            message = f"has stages, which do not act while it is {quota.enforcement}"
            found.append(Doubt(quota.source, message, "write `hard`"))
        for stage in quota.stages:
            facts = facts_of({}, model=stage.model)
            if stage.model and any(rule.enforcement == "hard" for rule in forbidding(policy, facts)):
                message = f"leads to {stage.model}, which `{forbidding(policy, facts)[0].source}` does not allow"
                found.append(Doubt(quota.source, message, "allow it, or name another model"))
    return found
