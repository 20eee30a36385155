"""What is enforced, where, how exactly, and what is out of reach: nobody should rely on more than there is."""

from __future__ import annotations

from dataclasses import dataclass

from callmeter.policy.document import Policy
from callmeter.policy.quotas import SHORT_PERIODS, Quota
from callmeter.reports.quota_choice import NO_QUOTA
from callmeter.reports.report import Column, Kind, Report, Row

_COLUMNS = (
    Column("what", "what", Kind.TEXT),
    Column("holds", "holds", Kind.TEXT),
    Column("how", "how exactly", Kind.TEXT),
    Column("beyond", "out of reach", Kind.TEXT),
)


@dataclass(frozen=True)
class Ground:
    """What the guarantees stand on here: the ledger's address as it may be shown, whether several hosts share it, and
    which files this user can write."""

    ledger: str
    shared: bool
    writes_policy: bool
    writes_approvals: bool
    writes_log: bool


def guarantees(policy: Policy, ground: Ground) -> Report:
    """A row for each thing that somebody may rely on."""
    rows = [*_quotas(policy, ground), *_calls(policy), *_people(policy, ground), *_callers(ground)]
    notes = [] if policy.quotas else [NO_QUOTA]
    cells = [dict(zip(("what", "holds", "how", "beyond"), row, strict=True)) for row in rows]
    return Report("What holds", _COLUMNS, [Row(each) for each in cells], notes=notes)


def _quotas(policy: Policy, ground: Ground) -> list[tuple[str, str, str, str]]:
    hard, soft, shown = (_of(policy, way) for way in ("hard", "soft", "showback"))
    where = "all hosts that share the ledger" if ground.shared else "all processes of this host"
    exactly = f"the worst case of each call is held before it is sent; spent + held is at most the limit, over {where}"
    rows = [
        (
            _counted("hard quota", hard),
            "exactly" if hard else "not set",
            exactly,
            "what a true cost has above its worst case; it is booked and reported",
        )
    ]
    if any(quota.period in SHORT_PERIODS for quota in policy.quotas):
        how = "by the calendar's second or minute"
        rows.append(("rates", "exactly", how, "a burst on either side of a boundary is two bursts"))
    if any(quota.stages for quota in hard):
        how = "by what is spent and held when a call begins"
        rows.append(("stages", "exactly", how, "a session keeps the model it began with"))
    rows += [
        (_counted("soft quota", soft), "warns", "on stderr, once for each threshold and period", "it stops nothing"),
        (_counted("showback quota", shown), "shows", "in `quota show` and reports", "it says nothing to a call"),
    ]
    several = ("several hosts", "together", f"one ledger: {ground.ledger}", "hosts that use another one")
    if not ground.shared:
        each = "each host has a ledger and the whole of each limit for itself"
        several = (
            "several hosts",
            "each for itself",
            each,
            "a limit over all of them; set `ledger` to `postgresql://…`",
        )
    away = "calls under a hard quota are refused" if policy.unreachable == "fail_closed" else "calls go ahead"
    later = "nothing" if policy.unreachable == "fail_closed" else "what is sent meanwhile; it is booked afterwards"
    return [*rows, several, ("a ledger out of reach", policy.unreachable, away, later)]


def _calls(policy: Policy) -> list[tuple[str, str, str, str]]:
    rules = [rule for rule in policy.model_rules if rule.enforcement == "hard"]
    breaker = policy.loop_breaker
    way = {"off": "off", "log": "tells", "block": "stops"}[breaker.mode]
    most = policy.max_output_tokens
    return [
        (
            f"lists of models ({len(rules)})",
            "exactly" if rules else "not set",
            "by the name that is asked for, before anything is sent",
            "what an endpoint serves under that name",
        ),
        (
            "output ceiling",
            "at the endpoint",
            "one is sent with every call" + (f", at most {most:,} tokens" if most else ""),
            "endpoints that ignore it; the excess is booked",
        ),
        ("freezes", "exactly", "every call looks before it is sent, without any policy too", "calls that run already"),
        (
            "loop breaker",
            way,
            "by similar prompts and by spending far above an agent's own",
            "loops that differ enough",
        ),
    ]


def _people(policy: Policy, ground: Ground) -> list[tuple[str, str, str, str]]:
    rules = policy.approvals
    named = f"; approvers are {', '.join(rules.approvers)}" if rules.approvers else ""
    own = "" if rules.self_approval else "; nobody approves what he asked for himself"
    mine = "whoever works as this user can write it"
    return [
        (
            "approvals",
            "by permissions" if not ground.writes_approvals else "by habit",
            f"only what stands in approvals.jsonl counts{named}{own}",
            mine if ground.writes_approvals else "its owner",
        ),
        (
            "policy",
            "by permissions" if not ground.writes_policy else "by habit",
            "each call reads it; one that is broken refuses all calls",
            mine if ground.writes_policy else "its owner",
        ),
    ]


def _callers(ground: Ground) -> list[tuple[str, str, str, str]]:
    lost = "whoever deletes lines of it gives their money back"
    return [
        (
            "totals",
            "as the log",
            "they are counted from the usage log, and can be counted anew",
            lost if ground.writes_log else "its owner",
        ),
        (
            "tags",
            "as told",
            "callers say who they are; the policy can require tags",
            "a caller that says another's name; give each agent a key of its own",
        ),
        (
            "going around it",
            "no",
            "a caller with a key can use it without callmeter, or name another policy, log or ledger in a variable",
            "all of it; keep keys from such callers, and set limits on the keys at the provider too",
        ),
    ]


def _of(policy: Policy, enforcement: str) -> list[Quota]:
    return [quota for quota in policy.quotas if quota.enforcement == enforcement]


def _counted(name: str, quotas: list[Quota]) -> str:
    return f"{name}s ({len(quotas)})"
