"""The books of a call: may it go ahead, what is held for it, and what it came to in the end.

Without quotas and model rules in the policy there is nothing to ask and nothing to hold, and no ledger is touched.
With them, a call is admitted by three steps that repeat until they agree: read where its windows stand, decide, and
hold the worst case under the limits that the decision relied on. Somebody who was quicker makes the third step say
no, and the decision is made again.
"""

from __future__ import annotations

from decimal import Decimal

from callmeter.flows.asking import Admission
from callmeter.flows.booking import basis_of, booked_line, stand_of, window_of_bucket, write_line
from callmeter.ledger.protocol import Amount, Cap, LedgerProblem, Reservation, Uncounted
from callmeter.policy.decision import Decision, Need, decide
from callmeter.policy.quotas import Bucket, candidate_buckets
from callmeter.words.errors import Busy, Refused
from callmeter.words.jsontext import dumps
from callmeter.words.money import nano, usd
from callmeter.words.period import zone_named
from callmeter.words.subject import facts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from callmeter.flows.asking import Asked
    from callmeter.flows.desk import Desk
    from callmeter.ledger.protocol import Basis, Ledger, Standing, Window
    from callmeter.policy.document import Policy


_TRIES = 25
_COUNTS = 3


class Books:
    """The policy over one ledger, for the calls of one log, whose usage index lies in `index`. `open_ledger` is called
    when a call falls under a quota; `open_desk` each time that a call asks, since what was approved or frozen may have
    changed; `reread` when somebody else's policy is another one; `recover` (a function of this ledger) before a call is
    refused for what others hold; `tell` with a key, a text and facts when a threshold is passed for the first time in
    its period; `wait` with what is waited for.

    `tentative` books only look: nothing is held or remembered.
    """

    def __init__(
        self,
        policy: Policy,
        open_ledger: Callable[[], Ledger],
        open_desk: Callable[[], Desk],
        *,
        log: str,
        index: str,
        reread: Callable[[], Policy],
        recover: Callable[[], None],
        tell: Callable[[str, str, dict[str, object]], None] | None = None,
        wait: Callable[[str], None],
        tentative: bool = False,
    ) -> None:
        self.policy = policy
        self._tell = tell
        self.log = log
        self._index = index
        self._wait = wait
        self._tentative = tentative
        self._open = open_ledger
        self._open_desk = open_desk
        self._reread = reread
        self._recover = recover
        self._ledger: Ledger | None = None
        self._basis: Basis | None = None
        self._held: dict[str, Reservation] = {}

    @property
    def ledger(self) -> Ledger:
        """The ledger, opened when first needed."""
        if self._ledger is None:
            self._ledger = self._open()
        return self._ledger

    def admit(self, asked: Asked) -> Admission:
        """Let a call go ahead and hold its worst case. Raises Refused, Busy or ApprovalNeeded with the arithmetic,
        LedgerProblem when the ledger is out of reach and the policy says that calls then stop."""
        for _ in range(_COUNTS):
            try:
                return self._ask(asked)
            except Uncounted:
                # The policy was changed, or the ledger is new: its totals say nothing yet about these quotas.
                from callmeter.flows.rebuild import ensure

                self.policy = self._reread()
                self._basis = None
                try:
                    ensure(self.policy, self.ledger, self.log, asked.at, index=self._index, tell=self._wait)
                except LedgerProblem as problem:
                    return self._unbooked(asked, Admission(asked.model, asked.ceiling), problem)
        raise Busy("the policy changes all the while", "try again", retry_after=1)

    def again(self, asked: Asked) -> Admission | None:
        """Let a call try once more, perhaps with another model. `asked` costs what this attempt and all before it may
        have cost together, and its hold takes the place of the first. None when that does not fit; then the call
        holds what it held."""
        admission = Admission(asked.model, asked.ceiling)
        if not self.policy.quotas:
            return admission
        try:
            return admission if self._readmit(asked, admission) else None
        except Uncounted:
            return None
        except LedgerProblem:
            return None if self._needs_ledger(asked) else admission

    def settle(self, record: dict[str, object], append: Callable[[], None], now: datetime) -> None:
        """Write the line and turn the hold into what the record says, in one step where there is a hold."""
        call_id = str(record["id"])
        if call_id not in self._held:
            append()
            return

        def write(assumed: Amount) -> Amount:
            if assumed:
                return write_line(self.log, record, assumed, now)
            append()
            return booked_line(record)

        if not self.ledger.settle(call_id, write):
            # The ledger was lost, or counted anew, while the call ran.
            self.ledger.distrust(basis_of(self.policy, self.log).log)
        del self._held[call_id]

    # Admission

    def _ask(self, asked: Asked) -> Admission:
        admission = Admission(asked.model, asked.ceiling)
        desk = self._open_desk()
        frozen = desk.allowances.frozen(self._facts(asked, admission.model))
        if frozen is not None:
            from callmeter.flows.refusals import frozen_refusal

            raise frozen_refusal(frozen)
        if self.policy.model_rules:
            self._check_models(asked, admission)
        if not self.policy.quotas:
            return admission
        try:
            self._admit(asked, admission, desk)
        except LedgerProblem as problem:
            return self._unbooked(asked, admission, problem)
        return admission

    def _unbooked(self, asked: Asked, admission: Admission, problem: LedgerProblem) -> Admission:
        """Let a call go ahead without the ledger, if the policy says so. Raises the problem."""
        if self._needs_ledger(asked):
            raise problem
        admission.unbooked = True
        admission.warnings.append(f"{problem.message}; the call goes ahead, as the policy says")
        return admission

    def _needs_ledger(self, asked: Asked) -> bool:
        """Whether the call stops when the ledger is out of reach: when it may fall under a hard quota."""
        facts = self._facts(asked, asked.model)
        buckets = candidate_buckets(self.policy.quotas, facts, asked.at, zone_named(self.policy.time_zone))
        hard = any(bucket.quota.enforcement == "hard" for bucket in buckets)
        return hard and self.policy.unreachable == "fail_closed"

    def _readmit(self, asked: Asked, admission: Admission) -> bool:
        """Decide again, as if the call held nothing yet, and move its hold. Nothing of the call may change: an attempt
        that would need a shorter answer, another model or an approval is not made."""
        zone = zone_named(self.policy.time_zone)
        first = self._held.get(asked.call_id)
        basis = first.basis if first is not None else basis_of(self.policy, self.log)
        desk = self._open_desk()
        for _ in range(_TRIES):
            buckets = candidate_buckets(self.policy.quotas, self._facts(asked, asked.model), asked.at, zone)
            if not buckets and first is None:
                return True
            windows = {bucket: window_of_bucket(bucket) for bucket in buckets}
            standings = self.ledger.standings(dict.fromkeys(windows.values()), basis)
            for window in first.windows if first is not None else ():
                if window in standings:
                    assert first is not None
                    standings[window].held -= first.hold
            stands = [stand_of(bucket, standings[window], desk.allowances) for bucket, window in windows.items()]
            need = self._need(asked, admission, True)
            decision = decide(stands, need, lowest_ceiling=self.policy.lowest_output_tokens)
            if not decision.allowed or decision.ceiling < asked.ceiling:
                return False
            further = self._last_calls(windows, standings, desk)
            if self._hold(asked, admission, decision, need, basis, windows, further):
                admission.pool = decision.pool
                return True
        return False

    def _check_models(self, asked: Asked, admission: Admission) -> None:
        from callmeter.policy.model_rules import forbidding

        for model in (asked.model, *asked.others):
            for rule in forbidding(self.policy, self._facts(asked, model))[:1]:
                said = f"the model {model} is not among those of {rule.subject} ({rule.source})"
                if rule.enforcement == "hard":
                    raise Refused(said, f"use one of {', '.join(rule.patterns)}", code="model_not_allowed")
                if rule.enforcement == "soft":
                    admission.warnings.append(said)

    def _facts(self, asked: Asked, model: str, pool: str = "") -> dict[str, str]:
        return facts_of(asked.tags, key=asked.key, model=model, provider=asked.provider, pool=pool)

    def _admit(self, asked: Asked, admission: Admission, desk: Desk) -> None:
        zone = zone_named(self.policy.time_zone)
        settled_model = self._model_of_session(asked)
        if settled_model:
            admission.model = settled_model
        keeps_model = bool(settled_model)
        if self._basis is None:
            self._basis = basis_of(self.policy, self.log)
        basis = self._basis
        recovered = False
        for _ in range(_TRIES):
            facts = self._facts(asked, admission.model)
            buckets = candidate_buckets(self.policy.quotas, facts, asked.at, zone)
            if not buckets:
                return
            windows = {bucket: window_of_bucket(bucket) for bucket in buckets}
            standings = self.ledger.standings(dict.fromkeys(windows.values()), basis)
            stands = [stand_of(bucket, standings[window], desk.allowances) for bucket, window in windows.items()]
            need = self._need(asked, admission, keeps_model)
            decision = decide(stands, need, lowest_ceiling=self.policy.lowest_output_tokens)
            if decision.action == "downgrade":
                self._downgrade(asked, admission, decision)
                keeps_model = True
                continue
            if not decision.allowed:
                if not recovered and decision.stand is not None and decision.stand.held:
                    self._recover()  # nobody is refused for what a dead process holds
                    recovered = True
                    continue
                from callmeter.flows.refusals import refusal

                raise refusal(asked, decision, facts, desk, self.ledger, self._alert)
            further = self._last_calls(windows, standings, desk)
            if self._hold(asked, admission, decision, need, basis, windows, further):
                self._admitted(asked, admission, decision, settled_model)
                return
        raise Busy("too many calls want the last of a quota at once", "try again", code="busy", retry_after=1)

    def _last_calls(self, windows: dict[Bucket, Window], standings: dict[Window, Standing], desk: Desk) -> list[Cap]:
        """Approvals for a number of calls end exactly there, however many callers ask at once."""
        caps = []
        for bucket, window in windows.items():
            quota, calls = bucket.quota, standings[window].taken("calls")
            last = desk.allowances.last_call(bucket.key, quota.period, quota.unit, calls)
            if last is not None and quota.enforcement == "hard":
                caps.append(Cap(window, "calls", last))
        return caps

    def _need(self, asked: Asked, admission: Admission, keeps_model: bool) -> Need:
        model = admission.model
        models = (model, *asked.others)
        known: dict[int, int | None] = {}

        def usd_at(ceiling: int) -> int | None:
            """The dearest of the models. Each quota asks, and a price takes longer to work out than all the rest."""
            if ceiling not in known:
                known[ceiling] = dearest(ceiling)
            return known[ceiling]

        def dearest(ceiling: int) -> int | None:
            worst = 0
            for name in models:
                amount = asked.worst_at(name, ceiling)
                if amount is None:
                    return None
                worst = max(worst, nano(amount))
            return worst

        return Need(
            admission.ceiling,
            usd_at,
            lambda ceiling: asked.tokens_at(model, ceiling),
            priority=asked.tags.get("priority", ""),
            model=model,
            new_session=not keeps_model,
        )

    def _hold(
        self,
        asked: Asked,
        admission: Admission,
        decision: Decision,
        need: Need,
        basis: Basis,
        windows: dict[Bucket, Window],
        further: list[Cap],
    ) -> bool:
        if self._tentative:
            return True
        worst = need.usd_at(decision.ceiling)
        record = {**asked.record, "model": admission.model, "estimate": None if worst is None else usd(worst)}
        if asked.key:
            record["key"] = asked.key
        record.pop("pool", None)
        if decision.pool:
            record["pool"] = decision.pool
        reservation = Reservation(
            asked.call_id,
            [windows[bucket] for bucket in decision.buckets],
            Amount(worst or 0, need.tokens_at(decision.ceiling), 1),
            created=int(asked.at.timestamp()),
            deadline=asked.deadline,
            owner=asked.owner,
            basis=basis,
            record=dumps(record),
        )
        caps = [Cap(windows[bucket], bucket.quota.unit, limit) for bucket, limit in decision.caps] + further
        if not self.ledger.reserve(reservation, caps):
            return False
        self._held[asked.call_id] = reservation
        admission.held = True
        return True

    def _admitted(self, asked: Asked, admission: Admission, decision: Decision, settled_model: str) -> None:
        admission.pool = decision.pool
        if decision.ceiling < admission.ceiling:
            admission.why = (admission.why + "; " if admission.why else "") + "output ceiling lowered to what is left"
            admission.warnings.append(
                f"the output ceiling is lowered from {admission.ceiling} to {decision.ceiling} tokens: that is what "
                "the quotas still afford"
            )
            admission.ceiling = decision.ceiling
        for stand, share in decision.warnings:
            if self._tentative or self._first_time(stand.bucket, share):
                from callmeter.flows.standing import quota_text, share_text, standing_text

                said = f"{quota_text(stand.bucket)} is past {share_text(share)}: {standing_text(stand)}"
                admission.warnings.append(said)
                self._alert(stand.bucket, str(share), said)
        if self._has_downgrades() and "session" in asked.tags and not settled_model and not self._tentative:
            self.ledger.remember(_session_key(asked), f"{asked.model}>{admission.model}")

    def _downgrade(self, asked: Asked, admission: Admission, decision: Decision) -> None:
        from callmeter.flows.standing import quota_text, share_text
        from callmeter.policy.model_rules import forbidding

        assert decision.stand is not None
        facts = self._facts(asked, decision.model)
        for rule in forbidding(self.policy, facts)[:1]:
            if rule.enforcement == "hard":
                raise Refused(
                    f"{quota_text(decision.stand.bucket)} asks for the cheaper model {decision.model}, which is not "
                    f"among those of {rule.subject}",
                    "mend the policy: `callmeter budget policy check`",
                    code="model_not_allowed",
                )
        assert decision.stage is not None
        admission.why = f"{quota_text(decision.stand.bucket)} is past {share_text(decision.stage.share)}"
        admission.warnings.append(f"{asked.model} is replaced by {decision.model}: {admission.why}")
        admission.model = decision.model

    def _has_downgrades(self) -> bool:
        return any(stage.action == "downgrade" for quota in self.policy.quotas for stage in quota.stages)

    def _model_of_session(self, asked: Asked) -> str:
        """The model that a running session was given when it first asked for this one; "" for a new session."""
        if "session" not in asked.tags or not self._has_downgrades():
            return ""
        before, _, served = self.ledger.remember(_session_key(asked)).partition(">")
        return served if before == asked.model else ""

    def _alert(self, bucket: Bucket, threshold: str, said: str) -> None:
        """Tell that a share is passed, or `stop`: that a call did not fit. Whoever hears of it drops repetitions."""
        quota = bucket.quota
        if self._tell is not None and quota.alerts and not self._tentative:
            key = f"threshold/{bucket.key}/{quota.period}/{quota.unit}/{bucket.start}/{threshold}"
            facts = {"subject": bucket.key, "period": quota.period, "unit": quota.unit, "threshold": threshold}
            self._tell(key, said, dict(facts))

    def _first_time(self, bucket: Bucket, share: Decimal) -> bool:
        """Whether this threshold is passed for the first time in its period; remembers it."""
        key = f"warned/{bucket.key}/{bucket.quota.period}/{bucket.quota.unit}/{bucket.start}"
        before = self.ledger.remember(key)
        if before and Decimal(before) >= share:
            return False
        before = self.ledger.remember(key, str(share))
        return not before or Decimal(before) < share


def _session_key(asked: Asked) -> str:
    return f"session/{asked.tags['session']}"
