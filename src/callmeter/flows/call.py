"""One call, from the estimate to the line in the usage log. The order of things is decided here.

    estimate -> breadcrumb -> secret -> attempts -> outcome -> line in the log -> breadcrumb removed

Whatever ends the call once a byte may have left (an error, the deadline, Ctrl-C, SIGTERM, the reader of stdout
going away, a defect in this program) goes through `_record`, with signals held back, so that it has exactly one
line. What even that cannot reach (kill -9, a full disk) the breadcrumb tells to `flows/recovery.py`.

Which failures are repeated: only those that certainly cost nothing, and, at endpoints that do not promise it, a
server's own error, whose possible cost is then counted with the reserved worst case. Never a request whose fate
is unknown: it would be paid for twice.
"""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from decimal import Decimal

from callmeter.flows.charges import over_max_cost, settle_cost
from callmeter.flows.terms import Call, Means, Outcome
from callmeter.flows.verdict import Verdict, judge, judge_stop, retry_wait
from callmeter.providers.chat import Answer, body_of, headers_of, read_answer
from callmeter.providers.wire import WireError
from callmeter.store.files import FileProblem
from callmeter.store.inflight import Breadcrumb
from callmeter.store.usage_append import append_usage
from callmeter.words.errors import ApprovalNeeded, Busy, CallmeterError, Refused, Unavailable
from callmeter.words.ids import uuid7
from callmeter.words.instant import text_of
from callmeter.words.usage import VERSION, usage_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from callmeter.flows.asking import Asked
    from callmeter.flows.books import Books
    from callmeter.flows.terms import Key, Quote
    from callmeter.providers.chat import Usage


# A reservation outlives its call's own deadline by this many seconds before another host may end it.
_LEASE = 60
# Who waits for others asks again after this many seconds.
_ASK_AGAIN = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def make_call(call: Call, means: Means) -> Outcome:
    """Make one call and log it. The outcome carries an error instead of raising it, so that the text that did
    come is not lost. Raises CallmeterError when nothing was sent because it could not be logged (disk, lock)."""
    return _Run(call, means).run()


class _Run:
    """The state of one running call."""

    crumb: Breadcrumb  # laid by `run` before anything else can happen to the call

    def __init__(self, call: Call, means: Means) -> None:
        self.call = call
        self.means = means
        self.started = means.monotonic()
        self.deadline = self.started + call.timeout
        now = means.now()
        self.record: dict[str, object] = {
            "v": VERSION,
            "id": uuid7(int(now.timestamp() * 1000)),
            "timestamp": text_of(now),
            "tags": call.tags,
            "provider": call.provider.name,
            "model": call.request.model,
            "status": "unknown",
            "attempts": 0,
            "host": means.host,
        }
        anchor = means.anchor()
        if anchor is not None:
            self.record["audit"] = anchor
        self.admitted = now
        self.until = now + timedelta(seconds=call.timeout)
        self.outcome = Outcome(self.record)
        self.quote = self._dearest()
        self.record["estimate"] = self.quote.worst
        # Costs of earlier attempts that may have been charged, each at its worst case; None is unknown.
        self.earlier: Decimal | None = Decimal(0)
        self.answer: Answer | None = None
        self.sent = False
        self.charged = self.held = self.unbooked = False
        self.key = next(means.keys)

    def run(self) -> Outcome:
        call, means = self.call, self.means
        if call.max_cost is not None:
            error = over_max_cost(call.max_cost, self.quote.worst, call.request.model)
            if error:
                self.outcome.error = error
                self.record.update(status="refused", error=error.code, cost=Decimal(0), cost_source="price")
                append_usage(means.log, usage_line(self.record))
                return self.outcome
        if means.breaker is not None:
            means.breaker.sketch(self.record, call.request.messages)
        self.crumb = Breadcrumb.begin(means.inflight, self.record, means.log, self.until.timestamp())
        try:
            if means.books is not None:
                self._admit(means.books)
            if means.breaker is not None:
                self.outcome.warnings += means.breaker.check(self.record, call.request.messages, means.now())
            self._attempts()
        except BaseException as stop:
            self.outcome.error = stop
            if judge_stop(stop, self.record):
                self.charged = self.sent
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._record()
            if means.breaker is not None:
                means.breaker.ended(self.record, means.now())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self.outcome

    # Before the request

    def _dearest(self) -> Quote:
        """The quote to reserve: of the models that may serve the request, the one with the highest worst case."""
        request = self.call.request
        quotes = [self.means.quote(model, request) for model in (request.model, *request.fallbacks)]
        best = quotes[0]
        for quote in quotes[1:]:
            if quote.worst is None or (best.worst is not None and quote.worst > best.worst):
                best = quote
        return best

    def _admit(self, books: Books) -> None:
        """Let the policy decide, and hold the worst case. It may give another model or a lower output ceiling."""
        call, means = self.call, self.means
        request = call.request
        while True:
            self.admitted = now = means.now()
            self.deadline = means.monotonic() + call.timeout
            self.record["timestamp"] = text_of(now)  # a call belongs to the period in which it was let through
            try:
                admission = books.admit(self._asked(request.model, request.fallbacks))
                break
            except (Busy, Refused, ApprovalNeeded) as refusal:
                self._wait_for(refusal)
        self.outcome.warnings += admission.warnings
        self.held, self.unbooked = admission.held, admission.unbooked
        if admission.pool:
            self.record["pool"] = admission.pool
        if admission.why:
            self.record["note"] = admission.why
        if admission.model != request.model:
            self.record["asked_model"] = request.model
            self.record["model"] = admission.model
        if (admission.ceiling, admission.model) != (request.max_tokens, request.model):
            call.request = request.with_ceiling(admission.ceiling, admission.model)
            self.quote = self._dearest()
            self.record["estimate"] = self.quote.worst

    def _asked(self, model: str, others: Sequence[str]) -> Asked:
        """What the call asks the books, with what earlier attempts may have cost."""
        from callmeter.flows.asking import asked_for

        return asked_for(
            self.call,
            self.means.quote,
            self.record,
            key=self.key.label if self.key else "",
            model=model,
            others=others,
            earlier=self.earlier,
            at=self.admitted,
            deadline=int(self.admitted.timestamp() + self.call.timeout) + _LEASE,
        )

    def _wait_for(self, refusal: CallmeterError) -> None:
        """Wait until it is worth asking again; raises the refusal when that would be too long."""
        call, means = self.call, self.means
        patience = call.wait_approval if isinstance(refusal, ApprovalNeeded) else call.wait
        pause = refusal.details.get("retry_after", _ASK_AGAIN if isinstance(refusal, ApprovalNeeded) else None)
        if not isinstance(pause, int | float):
            raise refusal
        left = self.started + patience - means.monotonic()
        # What is held by calls in flight may come free at any moment, so nobody sleeps through it.
        pause = min(float(pause), _ASK_AGAIN) if isinstance(refusal, Busy) else float(pause)
        if pause > left:
            raise refusal
        means.sleep(pause)

    # The attempts

    def _attempts(self) -> None:
        call, means = self.call, self.means
        models = [call.request.model]
        if call.provider.name != "openrouter":  # it falls back by itself: they travel in the request
            models += call.request.fallbacks
        keys = means.keys
        key = self.key
        failures = 0
        while True:
            verdict = self._attempt(models[0], key)
            if verdict.done:
                return
            if verdict.key_refused:
                key = next(keys, None)
                if key is not None:
                    continue
            elif verdict.retry and failures < call.retries:
                failures += 1
                if self._wait(verdict, failures) and self._affords(models[0], verdict):
                    continue
            if verdict.other_model and len(models) > 1 and self._affords(models[1], verdict):
                models.pop(0)
                failures = 0
                continue
            assert verdict.error is not None
            raise verdict.error

    def _affords(self, model: str, verdict: Verdict) -> bool:
        """Whether another attempt may follow, with this model. One that may have been charged stays in the cost at its
        worst case, and the quotas must have room for both."""
        before, books = self.earlier, self.means.books
        if verdict.charged:
            worst = self.quote.worst
            self.earlier = None if worst is None or before is None else before + worst
        if books is None or self.unbooked or (model == self.record["model"] and not verdict.charged):
            return True
        # A cost that does not become known is counted as that of the dearest model.
        admission = books.again(self._asked(model, (self.call.request.model, *self.call.request.fallbacks)))
        if admission is None:
            self.earlier = before
            self.outcome.warnings.append(
                f"no further attempt with {model}: the quotas do not let it pass"
                + (" beside this one, which may have been charged" if verdict.charged else "")
            )
            return False
        if admission.held:
            self.held = True
            self.record.pop("pool", None)
            if admission.pool:
                self.record["pool"] = admission.pool
        return True

    def _attempt(self, model: str, key: Key | None) -> Verdict:
        """One request, and the verdict on it."""
        call, means, record = self.call, self.means, self.record
        attempts = record["attempts"]
        assert isinstance(attempts, int)
        record["attempts"] = attempts + 1
        record["model"] = model
        if key is not None:
            record["key"] = key.label
            record["key_fingerprint"] = key.fingerprint
        request = call.request
        if model != request.model:
            request = request.with_ceiling(request.max_tokens, model)
        answer = self.answer = Answer(0, None)
        self.sent = False
        failure: WireError | None = None
        response = None
        secret = key.reveal() if key is not None else None
        try:
            response = means.transport.send(
                "POST",
                call.provider.base_url + "/chat/completions",
                headers_of(call.provider, secret, call.tags, send_tags=call.send_tags),
                body_of(request, call.provider, call.tags, send_tags=call.send_tags),
                connect_timeout=call.connect_timeout,
                deadline=self.deadline,
                before_send=self._before_send,
            )
            answer.status = response.status
            generation_id = response.headers.get("x-generation-id")
            if generation_id:
                answer.generation_id = generation_id[:200]
                self.crumb.generation(answer.generation_id)
            read_answer(response, on_text=self._on_text, on_usage=self._on_usage, answer=answer)
        except WireError as error:
            failure = error
            self.sent = error.sent
        finally:
            if response is not None:
                response.close()
        if answer.raw:
            self.outcome.raw = answer.raw.replace(secret.encode(), b"***") if secret else answer.raw
        if answer.failure is not None and secret:  # some endpoints quote the key that they refuse
            answer.failure.message = answer.failure.message.replace(secret, "***")
        verdict = judge(answer, failure, call.provider, key.label if key else "")
        self.record["status"] = verdict.status
        if verdict.code:
            self.record["error"] = verdict.code
        else:
            self.record.pop("error", None)
        self.charged = verdict.charged
        return verdict

    def _before_send(self) -> None:
        self.sent = True
        worst = self.quote.worst
        estimate = None if worst is None or self.earlier is None else worst + self.earlier
        changes: dict[str, object] = {
            name: self.record[name]
            for name in ("model", "asked_model", "pool", "key", "key_fingerprint")
            if name in self.record
        }
        # Not to be skipped: without it on disk, nobody would know that this call may be charged.
        changes.update(timestamp=self.record["timestamp"], attempts=self.record["attempts"], estimate=estimate)
        self.crumb.sent(changes)

    def _on_text(self, text: str) -> None:
        if "first_token_ms" not in self.record:
            self.record["first_token_ms"] = self._elapsed_ms()
        self.means.on_text(text)

    def _on_usage(self, usage: Usage) -> None:
        if usage.cost is not None or usage.tokens is not None:
            cost = None if usage.cost is None or self.earlier is None else usage.cost + self.earlier
            self.crumb.usage(usage.tokens, cost)

    def _wait(self, verdict: Verdict, failures: int) -> bool:
        """Wait before another attempt; False when it would be too long."""
        jitter = int.from_bytes(os.urandom(4), "big") / 2**32
        seconds = retry_wait(verdict.retry_after, failures, jitter, self.means.now())
        if seconds > self.call.max_retry_wait or self.means.monotonic() + seconds >= self.deadline:
            if isinstance(verdict.error, Busy) and verdict.retry_after:
                whole = int(min(seconds, 1e9)) + 1
                verdict.error.details["retry_after"] = whole
                verdict.error.hint = f"try again in {whole} s"
            return False
        self.means.sleep(seconds)
        return True

    # The outcome

    def _record(self) -> None:
        record, answer, outcome = self.record, self.answer, self.outcome
        if answer is not None:
            outcome.text = "".join(answer.text)
            for name in ("served_model", "finish_reason", "generation_id"):
                value = getattr(answer, name)
                if value:
                    record[name] = value
        record["duration_ms"] = self._elapsed_ms()
        usage, worst = (answer.usage if answer is not None else None), self.quote.worst
        warning = settle_cost(record, usage, worst, self._cost_of, charged=self.charged, earlier=self.earlier)
        if warning:
            outcome.warnings.append(warning)
        line = usage_line(record)
        written = False

        def append() -> None:
            nonlocal written
            append_usage(self.means.log, line)
            written = True

        try:
            if self.means.books is not None:
                self.means.books.settle(record, append, self.means.now())
            else:
                append()
        except (FileProblem, Busy, Unavailable) as problem:
            self._keep_for_later(problem, append, written)
            return
        if self.unbooked or (not self.held and self.means.policy_changed()):
            self.crumb.leave()  # the ledger does not know of this call; who comes next tells it
        else:
            self.crumb.done()

    def _cost_of(self, tokens: dict[str, int]) -> Decimal | None:
        served = self.answer.served_model if self.answer else None
        model = str(self.record["model"])
        for name in (served, model):
            if name:
                cost = self.means.quote(name, self.call.request).cost(tokens)
                if cost is not None:
                    return cost
        return None

    def _keep_for_later(self, problem: CallmeterError, append: Callable[[], None], written: bool) -> None:
        """The log or the ledger does not take the outcome: the breadcrumb keeps it, and the next call or report puts
        it where it belongs."""
        if not written and not isinstance(problem, FileProblem):
            try:
                append()
                written = True
            except (FileProblem, Busy):
                pass
        if written:  # only the ledger is behind: recovery finds the line
            self.crumb.leave()
            self.outcome.warnings.append(f"{problem.message}; the next call books it")
            return
        try:
            self.crumb.final(self.record)
            kept = "the line is kept and will be appended by the next call"
        except FileProblem:
            kept = "the next call will log it at its estimate"
        self.crumb.leave()
        if self.outcome.error is None:
            self.outcome.error = FileProblem(f"{problem.message}; {kept}", problem.hint)
        else:
            self.outcome.warnings.append(f"{problem.message}; {kept}")

    def _elapsed_ms(self) -> int:
        return int((self.means.monotonic() - self.started) * 1000)
