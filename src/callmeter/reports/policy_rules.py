"""The policy as reports: what is wrong or doubtful about it, and what it means for one call."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from callmeter.policy.document import MalformedPolicy, Policy, parse_policy
from callmeter.policy.doubts import Doubt, doubts
from callmeter.policy.model_rules import ModelRule, forbidding
from callmeter.policy.quotas import Bucket, Quota, candidate_buckets
from callmeter.reports.report import Board, Cell, Column, Kind, Report, Row
from callmeter.words.instant import text_of
from callmeter.words.period import zone_named
from callmeter.words.wording import counted

CHECKED = (
    Column("place", "place", Kind.TEXT),
    Column("kind", "kind", Kind.TEXT, optional=1),
    Column("key", "key", Kind.TEXT),
    Column("message", "what", Kind.TEXT),
    Column("hint", "do", Kind.TEXT, below=True),
)
QUOTAS = (
    Column("subject", "subject", Kind.TEXT),
    Column("usd", "USD", Kind.RATE),
    Column("count", "count", Kind.COUNT, quiet=True),
    Column("unit", "unit", Kind.TEXT, optional=3),
    Column("period", "per", Kind.TEXT),
    Column("enforcement", "enforced", Kind.TEXT),
    Column("stages", "stages", Kind.TEXT, quiet=True),
    Column("warn_at", "warns at", Kind.TEXT, optional=2),
    Column("reserve", "reserved", Kind.CHANGE, optional=4, quiet=True),
    Column("pools", "then", Kind.TEXT, quiet=True),
    Column("resets", "resets", Kind.INSTANT, optional=5, quiet=True),
    Column("source", "from", Kind.TEXT, optional=1),
)
NOTHING = {"faults": 0, "warnings": 0}
MODELS = (
    Column("subject", "subject", Kind.TEXT),
    Column("models", "models", Kind.TEXT),
    Column("enforcement", "enforced", Kind.TEXT),
    Column("permits", "permits", Kind.TEXT, quiet=True),
    Column("source", "from", Kind.TEXT, optional=1),
)


def checked_policy(data: bytes | None, path: str, *, writable: bool = False) -> Report:
    """Every fault of a policy, in the order of its lines; of one without faults, what is doubtful about it. The
    facts say how many there are. `data` is None for a policy that is not there, `writable` says that anyone could
    change it."""
    title, name = f"Policy {path}", path.rpartition("/")[2]
    if data is None:
        return Report(title, CHECKED, (), notes=["There is no such file: calls have no rules."], facts=NOTHING)
    try:
        policy = parse_policy(data, path)
    except MalformedPolicy as error:
        rows = [
            _row(f"{name}:{line}" if line else name, "fault", fault.where, fault.message, fault.advice)
            for line, fault in error.faults
        ]
        notes = ["As it is, every call is refused."]
        return Report(title, CHECKED, rows, notes=notes, facts={**NOTHING, "faults": len(rows)})
    found = doubts(policy)
    if writable:
        found.append(Doubt("", "can be changed by every user of this machine", f"run `chmod o-w {path}`"))
    rows = [_row(name, "warning", each.source, each.message, each.advice) for each in found]
    notes = [f"No faults: {_summary(policy)}."]
    return Report(title, CHECKED, rows, notes=notes, facts={**NOTHING, "warnings": len(rows)})


def faults_text(report: Report) -> str:
    """`1 fault`, `3 faults`."""
    return counted(len(report.rows), "fault")


def policy_board(policy: Policy, path: str) -> Board:
    """The whole policy: every quota and every list of models."""
    quotas = [Row(_quota_cells(quota, str(quota.subject))) for quota in policy.quotas]
    models = [Row(_rule_cells(rule, None)) for rule in policy.model_rules]
    return _board(f"Policy {path}", quotas, models, policy, {})


def rules_for_call(policy: Policy, path: str, facts: Mapping[str, str], now: datetime) -> Board:
    """What the policy means for a call with these facts: the quotas and lists of models that it falls under."""
    buckets = candidate_buckets(policy.quotas, facts, now, zone_named(policy.time_zone))
    quotas = [
        Row({**_quota_cells(bucket.quota, bucket.key.removeprefix("own/")), **_reset(bucket)}) for bucket in buckets
    ]
    model = facts.get("model")
    models = [Row(_rule_cells(rule, model)) for rule in policy.model_rules if rule.applies(facts)]
    board = _board(f"Policy {path} for a call with {_call_text(facts)}", quotas, models, policy, facts)
    refused = [rule.source for rule in forbidding(policy, facts)] if model else []
    allowed: dict[str, object] = {"model_allowed": not refused, "forbidden_by": refused} if model else {}
    return Board(board.title, board.sections, board.notes, {**board.facts, **allowed, "call": dict(facts)})


def _board(title: str, quotas: list[Row], models: list[Row], policy: Policy, facts: Mapping[str, str]) -> Board:
    sections = {
        "quotas": Report("Quotas", QUOTAS, quotas),
        "models": Report("Allowed models", MODELS, models, notes=[] if models else ["Every model is allowed."]),
    }
    missing = [name for name in policy.required if name not in facts]
    notes = [f"A call needs the tag{'s' if len(missing) > 1 else ''} {', '.join(missing)}."] if missing else []
    notes.append(
        f"Loop breaker: {policy.loop_breaker.mode}. Ledger unreachable: {policy.unreachable.replace('_', ' ')}. "
        f"Time zone: {policy.time_zone}."
    )
    ceiling = {"max_output_tokens": policy.max_output_tokens, "lowest_output_tokens": policy.lowest_output_tokens}
    settings = {"enforcement": policy.enforcement, "unreachable": policy.unreachable, "time_zone": policy.time_zone}
    return Board(title, sections, notes, {**settings, **ceiling, "loop_breaker": policy.loop_breaker.mode})


def _row(place: str, kind: str, key: str, message: str, hint: str) -> Row:
    return Row({"place": place, "kind": kind, "key": key, "message": message, "hint": hint})


def _quota_cells(quota: Quota, subject: str) -> dict[str, Cell]:
    money = quota.unit == "usd"
    return {
        "subject": subject,
        "usd": quota.limit if money else None,
        "count": None if money else quota.limit,
        "unit": quota.unit,
        "period": quota.period,
        "enforcement": quota.enforcement,
        "stages": ", ".join(f"{_share(stage.share)} {stage}" for stage in quota.stages),
        "warn_at": ", ".join(_share(share) for share in quota.warn_at if quota.enforcement != "showback"),
        "reserve": quota.reserve or None,
        "pools": ", ".join(f"pool:{pool}" for pool in quota.pools),
        "resets": "",
        "source": quota.source,
    }


def _reset(bucket: Bucket) -> dict[str, Cell]:
    return {"resets": text_of(datetime.fromtimestamp(bucket.end, UTC)) if bucket.end else ""}


def _rule_cells(rule: ModelRule, model: str | None) -> dict[str, Cell]:
    permits = "" if model is None else "yes" if rule.permits(model) else "no"
    return {
        "subject": str(rule.subject),
        "models": ", ".join(rule.patterns),
        "enforcement": rule.enforcement,
        "permits": permits,
        "source": rule.source,
    }


def _share(share: Decimal) -> str:
    return f"{(share * 100).normalize():f}%"


def _call_text(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in facts.items())


def _summary(policy: Policy) -> str:
    quotas, lists = counted(len(policy.quotas), "quota"), counted(len(policy.model_rules), "list")
    return f"{quotas}, {lists} of models; enforcement is {policy.enforcement}"
