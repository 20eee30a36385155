"""The parts of the policy that are not quotas, as they stand in the document: `loop_breaker`, `approvals`, `alerts`."""

from __future__ import annotations

from callmeter.policy.controls import ALERT_KINDS, MODES, OCCASIONS, Alert
from callmeter.policy.reading import Fault, Part, closest, kind_of, number_of, shown, whole_number
from callmeter.words.origin import is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from decimal import Decimal

    from callmeter.policy.document import Policy

BREAKER_KEYS = (
    "mode",
    "of_last",
    "similar",
    "warn_similar",
    "times_largest_session",
    "session_floor",
    "times_busiest",
    "busiest_calls",
    "freeze_minutes",
)
ALERT_KEYS = ("kind", "target", "on")
APPROVAL_KEYS = ("self_approval", "approvers")


def read_controls(root: Part, policy: Policy) -> None:
    """All three."""
    read_breaker(root, policy)
    read_approvals(root, policy)
    read_alerts(root, policy)


def read_breaker(root: Part, policy: Policy) -> None:
    """`loop_breaker`."""
    part = (root.part("loop_breaker") or root.nothing()).only(BREAKER_KEYS)
    breaker = policy.loop_breaker
    breaker.mode = part.choice("mode", MODES, breaker.mode)
    for key in ("of_last", "similar", "warn_similar", "busiest_calls"):
        setattr(breaker, key, part.count(key) or getattr(breaker, key))
    for key in ("times_largest_session", "times_busiest"):
        if key in part.found:
            setattr(breaker, key, _times(part, key))
    breaker.session_floor = part.usd("session_floor") or breaker.session_floor
    if part.found.get("freeze_minutes") == "until_thawed":
        breaker.freeze_minutes = 0
    elif "freeze_minutes" in part.found:
        breaker.freeze_minutes = _minutes(part)
    if breaker.of_last > 1000:
        part.fault("of_last", f"{breaker.of_last} is more prompts than are kept", "write at most `1000`")
    if breaker.similar > breaker.of_last:
        part.fault("similar", f"{breaker.similar} is more than the {breaker.of_last} prompts it looks at")
    if breaker.warn_similar > breaker.similar and "warn_similar" in part.found:
        part.fault("warn_similar", f"{breaker.warn_similar} is above the {breaker.similar} at which it trips")


def read_alerts(root: Part, policy: Policy) -> None:
    """`alerts`."""
    found = []
    for part in root.listed("alerts"):
        part.only(ALERT_KEYS)
        for key in ("kind", "target"):
            if key not in part.found:
                part.fault(None, f"has no `{key}`", "an alert has `kind`, `target` and, if not for all, `on`")
        kind = part.choice("kind", ALERT_KINDS, "") if "kind" in part.found else ""
        target = part.found.get("target", "")
        if not isinstance(target, str) or not target.isprintable():
            part.fault("target", f"is not a text but {kind_of(target)}")
        elif "target" in part.found and not _reaches(kind, target):
            part.fault("target", f"is not where a {kind or 'alert'} goes", _WANTED.get(kind, ""))
        else:
            found.append(Alert(kind, target, _occasions(part)))
    policy.alerts = tuple(found)


def read_approvals(root: Part, policy: Policy) -> None:
    """`approvals`."""
    part = (root.part("approvals") or root.nothing()).only(APPROVAL_KEYS)
    policy.approvals.self_approval = part.flag("self_approval", True)
    policy.approvals.approvers = part.texts("approvers", "names")
    if "approvers" in part.found and not part.found["approvers"]:
        part.fault("approvers", "names nobody", "list some, or leave it out")


_WANTED = {
    "webhook": "write a URL that begins with `https://`, or `http://` for this machine",
    "command": "write the command",
    "file": "write an absolute path",
}


def _reaches(kind: str, target: str) -> bool:
    if kind == "webhook":
        if target.startswith("http://"):
            return is_loopback(target)
        return target.startswith("https://") and len(target) > len("https://")
    return target.startswith("/") if kind == "file" else bool(target.strip())


def _occasions(part: Part) -> tuple[str, ...]:
    if "on" not in part.found:
        return OCCASIONS
    found = part.texts("on", "occasions")
    for index, word in enumerate(found):
        if word not in OCCASIONS:
            close = closest(word, OCCASIONS)
            advice = f"did you mean `{close}`?" if close else ""
            part.faults.append(
                Fault((*part.path, "on", index), f"{shown(word)} is none of {', '.join(OCCASIONS)}", advice)
            )
    if not part.found["on"]:
        part.fault("on", "names no occasion", "list some, or leave it out for all")
    return found


def _times(part: Part, key: str) -> Decimal | int:
    found = number_of(part.found[key])
    if found is None or not 1 < found <= 1000:
        part.fault(key, f"{shown(part.found[key])} is not a factor above 1 and up to 1000")
        return 1
    return found


def _minutes(part: Part) -> int:
    try:
        return whole_number(part.found["freeze_minutes"])
    except ValueError as error:
        part.fault("freeze_minutes", error.args[0], "`until_thawed` means for good")
        return 0
