"""The loop breaker on a call: sketch its prompt, look at what its session did lately, and stop a runaway.

In the mode `log` nobody is told but the audit log, once for each trip, and the usage line's note. In the mode `block`
the call is refused and its agent frozen, so that its next calls are stopped too, whatever they ask. Whatever is wrong
with the breaker's own memory stops no call.
"""

from __future__ import annotations

from decimal import Decimal

from callmeter.policy.loop_rule import Verdict, judge
from callmeter.store.recent_calls import RecentCalls, salt_in
from callmeter.words.errors import CallmeterError, Refused
from callmeter.words.money import nano
from callmeter.words.sketch import last_words, prompt_sketch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from callmeter.policy.controls import LoopBreaker
    from callmeter.policy.grants import Freeze
    from callmeter.words.subject import Subject

    Messages = Sequence[Mapping[str, object]]
    # Freezes a subject until a time (None: until it is thawed), for a reason.
    Trip = Callable[[Subject, datetime | None, str], Freeze]
    # Tells what tripped: the subject ("" for calls without an agent) and the facts.
    Tell = Callable[[str, Mapping[str, object]], None]


class Breaker:
    """The policy's loop breaker over the memory in `directory`. The calls of a `batch` may be alike."""

    def __init__(self, rules: LoopBreaker, directory: str, *, batch: bool, freeze: Trip, tell: Tell) -> None:
        self.rules = rules
        self.directory = directory
        self.batch = batch
        self._freeze = freeze
        self._tell = tell

    def sketch(self, record: dict[str, object], messages: Messages) -> None:
        """Put the sketch of the user's last message into the record of a usage line, if it can be made."""
        try:
            record["prompt_sketch"] = prompt_sketch(last_words(messages), salt_in(self.directory))
        except CallmeterError as problem:
            _note(record, f"the loop breaker has no memory: {problem.message}")

    def check(self, record: dict[str, object], messages: Messages, now: datetime) -> list[str]:
        """Look at a call that is about to be sent. Gives what its caller is to be told; what only the log is told
        goes into the record's note. Raises Refused with the figures."""
        agent, session = _place(record)
        sketch = record.get("prompt_sketch")
        if not isinstance(sketch, str):
            return []
        try:
            with RecentCalls(self.directory, agent, int(now.timestamp()), self.rules.of_last) as recent:
                recent.begin(session, str(record["id"]), sketch, _size(messages))
                verdict = self._judge(recent, session)
                if verdict.level == "none":
                    return []
                if verdict.level == "warn":
                    if not recent.first_time(session, f"warn {verdict.rule}"):
                        return []
                    said = f"this may be a runaway loop: {verdict.said}"
                    _note(record, said)
                    return [said] if self.rules.mode == "block" else []
                # Under the lock: of callers side by side, one trips. And before it is forgotten: who is killed in
                # between leaves it to the next call.
                refusal = self._trip(agent, session, verdict, now)
                # What cannot be frozen is refused as long as it goes on.
                if refusal is None or refusal.details["subject"]:
                    recent.forget(session)
        except CallmeterError as problem:
            _note(record, f"the loop breaker has no memory: {problem.message}")
            return []
        _note(record, f"the loop breaker tripped: {verdict.said}")
        if refusal is not None:
            raise refusal
        return []

    def foresee(self, tags: Mapping[str, str], messages: Messages, now: datetime) -> list[str]:
        """What `check` would say to a call that is not made: nothing is kept, frozen or told. Without `messages` the
        prompt is not known, and only what the session has cost counts."""
        agent, session = _place({"tags": tags})
        try:
            salt = salt_in(self.directory, look=True)
            if not salt or self.rules.mode != "block":
                return []
            sketch = prompt_sketch(last_words(messages), salt)
            with RecentCalls(self.directory, agent, int(now.timestamp()), self.rules.of_last, look=True) as recent:
                if messages:
                    recent.begin(session, "", sketch, _size(messages))
                verdict = self._judge(recent, session, batch=not messages)
                if verdict.level == "warn" and recent.first_time(session, f"warn {verdict.rule}"):
                    return [f"this may be a runaway loop: {verdict.said}"]
        except CallmeterError:
            return []
        if verdict.level == "trip":
            minutes = self.rules.freeze_minutes
            stopped = f"would be frozen for {minutes} min" if minutes else "would be frozen until it is thawed"
            subject = _subject(agent)
            refusal = _refused(subject, session, verdict, f"; it {stopped}" if subject else "", "")
            refusal.hint = "see what it does; nothing is frozen by this question"
            raise refusal
        return []

    def _judge(self, recent: RecentCalls, session: str, *, batch: bool = False) -> Verdict:
        return judge(
            recent.calls(session),
            recent.spent(session),
            recent.in_ten_minutes,
            recent.usual(session),
            self.rules,
            batch=batch or self.batch,
        )

    def ended(self, record: Mapping[str, object], now: datetime) -> None:
        """Remember what a call came to."""
        remember_cost(self.directory, record, now)

    def _trip(self, agent: str, session: str, verdict: Verdict, now: datetime) -> Refused | None:
        """Freeze and tell. What was refused is told by the error, None when the mode only logs."""
        from datetime import timedelta

        subject = _subject(agent)
        blocks = self.rules.mode == "block"
        problem = ""
        frozen: Freeze | None = None
        try:
            if blocks and subject is not None:
                minutes = self.rules.freeze_minutes
                until = now + timedelta(minutes=minutes) if minutes else None
                frozen = self._freeze(subject, until, f"loop breaker: {verdict.said}")
            self._tell(_named(subject), _facts(session, self.rules.mode, verdict))
        except CallmeterError as error:
            problem = f"; {error.message}"
        if not blocks:
            return None
        stopped = ""
        if frozen is not None:
            minutes = self.rules.freeze_minutes
            stopped = f"; it is frozen for {minutes} min" if minutes else "; it is frozen until it is thawed"
        return _refused(subject, session, verdict, stopped, problem)


def _refused(subject: Subject | None, session: str, verdict: Verdict, stopped: str, problem: str) -> Refused:
    """The refusal of a call, under the mode `block`."""
    return Refused(
        f"{_named(subject)} looks like a runaway loop: {verdict.said}{stopped}{problem}",
        f"see what it does; `callmeter budget thaw {subject}` lets it go on"
        if subject
        else "see what it does, and name it with `--agent`",
        code="loop",
        subject=str(subject) if subject else None,
        **_facts(session, "block", verdict),
    )


def _facts(session: str, mode: str, verdict: Verdict) -> dict[str, object]:
    return {"session": session, "mode": mode, "rule": verdict.rule, "reason": verdict.said, **verdict.figures}


def _named(subject: Subject | None) -> str:
    return str(subject) if subject else "a caller without an agent"


def _subject(agent: str) -> Subject | None:
    from callmeter.words.subject import Subject

    # A name with `*` would freeze others too.
    return Subject("agent", agent) if agent and "*" not in agent else None


def remember_cost(directory: str, record: Mapping[str, object], now: datetime) -> None:
    """What a call came to, told by itself or by whoever finished it. Told again, it counts once."""
    cost = record.get("cost")
    if "prompt_sketch" not in record or not isinstance(cost, Decimal | int) or not cost:
        return
    agent, session = _place(record)
    try:
        with RecentCalls(directory, agent, int(now.timestamp()), 0) as recent:
            recent.spend(session, str(record["id"]), nano(Decimal(cost)))
    except CallmeterError:
        pass


def _place(record: Mapping[str, object]) -> tuple[str, str]:
    """The agent and the session of a call, "" where it has none."""
    tags = record["tags"]
    assert isinstance(tags, dict)
    return str(tags.get("agent", "")), str(tags.get("session", ""))


def _note(record: dict[str, object], said: str) -> None:
    record["note"] = f"{record['note']}; {said}" if "note" in record else said


def _size(messages: Messages) -> int:
    size = 0
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        size += sum(len(str(part.get("text") or "")) for part in parts if isinstance(part, dict))
    return size
