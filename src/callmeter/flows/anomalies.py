"""Anomalies reach the audit log, and people, once: however often they are looked for, by however many at once.

The audit log is the memory: what stands in it was told. So nothing can be told twice but by losing the log, and whoever
is killed halfway leaves what is missing to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from callmeter.reports.anomaly_finding import Finding
from callmeter.store.audit import Audit, read_events
from callmeter.store.files import Lock
from callmeter.words.money import shown, usd

EVENT = "anomaly"


def tell(path: str, found: Iterable[Finding], audit: Audit, alert: Callable[[Finding], None]) -> list[Finding]:
    """Audit and alert what is not in the audit log at `path` yet, and give it back. Raises FileProblem, Busy."""
    found = list(found)
    if not found:
        return []
    with Lock(path.removesuffix(".jsonl") + ".anomalies.lock"):
        events = read_events(path, containing=b'"event":"' + EVENT.encode("ascii") + b'"')
        known = {event.fields.get("id") for event in events if event.fields.get("event") == EVENT}
        new = [each for each in found if each.id not in known]
        for each in new:
            # The alert first: one that is spooled already is not spooled again, an audit line would be written twice.
            alert(each)
            audit(EVENT, facts_of(each))
    return new


def facts_of(finding: Finding) -> dict[str, object]:
    """A finding for machines."""
    return {
        "id": finding.id,
        "finding": finding.kind,
        "subject": finding.subject,
        "first": finding.first,
        "last": finding.last,
        "excess": usd(finding.excess),
        "actual": usd(finding.actual),
        "evidence": finding.evidence,
        "command": finding.command,
    }


def headline(finding: Finding) -> str:
    """`spike: agent:code, 2026-11-20, $8.10 more than expected`; of what cost nothing, its first piece of evidence."""
    if not finding.excess:
        return f"{_where(finding)}: {finding.evidence.partition('; ')[0]}"
    excess = f"{shown(abs(finding.excess))} {'more' if finding.excess > 0 else 'less'} than expected"
    return f"{_where(finding)}, {excess}"


def sentence(finding: Finding) -> str:
    """A finding with its evidence in one sentence, for people who are alerted."""
    return f"{headline(finding) if finding.excess else _where(finding)}: {finding.evidence}"


def _where(finding: Finding) -> str:
    """What it is, and from when to when: a day or an hour once, and its second time without the day."""
    first, last = finding.first, finding.last
    if last != first:
        first = f"{first} to {last[11:] if last[:10] == first[:10] else last}"
    return f"{finding.kind}: {finding.subject}, {first}"
