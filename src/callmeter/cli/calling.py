"""From parameters to one call and back: what `llm-call` does once its command line is read, by either way."""

from __future__ import annotations

from decimal import Decimal
from itertools import chain

from callmeter.cli.answering import as_json, money_text, shaped, usage_text, warnings_about
from callmeter.cli.means import books_of, breaker_of, keys_of, ledger_for, transport_of
from callmeter.cli.question import parameter, user_content
from callmeter.flows.call import make_call
from callmeter.flows.charges import refuse
from callmeter.flows.pricing import Known, Quote, Quoter
from callmeter.flows.recovery import recover
from callmeter.flows.terms import Call, Means, Outcome
from callmeter.policy.tag_rules import TagsRefused, settle_tags
from callmeter.providers.chat import Request, body_of
from callmeter.providers.presets import Provider, find_provider
from callmeter.secrets.environment import keys_in
from callmeter.secrets.secret import require_no_key
from callmeter.store.audit_head import newest_anchor
from callmeter.store.settings import seconds, whole_number
from callmeter.words.errors import CallmeterError, Incomplete, NoKey, Refused, Stopped, UsageError
from callmeter.words.key_shape import holds_key, key_given
from callmeter.words.money import parse_usd
from callmeter.words.tags import BUILT_IN, parse_tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from callmeter.cli.replaying import Recording
    from callmeter.cli.world import World

    Value = TypeVar("Value")

Given = dict[str, object]


def run(world: World, given: Given) -> int:
    """Make the call, or the batch, and give the exit status. Raises CallmeterError."""
    out = world.out
    out.shape("json" if given["json"] else "text", quiet=bool(given["quiet"]), verbose=bool(given["verbose"]))
    if given["log"]:
        import os.path

        world.paths.log = os.path.abspath(os.path.expanduser(str(given["log"])))
    if not given["dry_run"]:
        # Calls of processes that died get their lines from whoever comes next; usually there is nothing to do.
        paths = world.paths
        done = recover(paths.inflight, world.now(), limit=64, ledger=ledger_for(world), recent=paths.recent)
        for problem in done.problems:
            out.warn(problem)
    if given["batch"] is not None:
        from callmeter.cli.batching import run_batch

        return run_batch(world, given)
    for option in ("concurrency", "as_completed"):
        if given[option]:
            raise UsageError(f"--{option.replace('_', '-')} goes with --batch", "add `--batch FILE`")
    return One(world, given).run()


class One:
    """One call from the command line (or from a line of a batch, whose members overlay the command line's)."""

    def __init__(self, world: World, given: Given) -> None:
        self.world = world
        self.given = given
        self.tags: dict[str, str] = {}
        self.template_tags: list[tuple[str, str]] = []
        self.line_tags: list[tuple[str, str]] = []
        self.warnings: list[str] = []
        self.history: list[dict[str, object]] = []
        self.known_prices: Known | None = None
        self.conversation: str | None = None
        self.conversation_model: str | None = None
        self.local_key: str | None = None
        self.schema: dict[str, object] | None = None

    def run(self) -> int:
        """Everything, with output. Gives the exit status."""
        given, world, out = self.given, self.world, self.world.out
        if given["template"] is not None:
            from callmeter.cli.templates import apply_template

            self.template_tags = apply_template(world, given)
        elif given["param"]:
            raise UsageError("-p goes with a template", "add `-t NAME`")
        call = self.prepare()
        if given["dry_run"]:
            out.object(self.preview(call))
            return 0
        if given["idempotency_key"] is None:
            return self._make(call)
        from callmeter.cli.replaying import Recording

        with Recording(world, str(given["idempotency_key"]), call, self.history) as recording:
            if recording.outcome is not None:
                return _ended(self._show(recording.outcome, replayed=True))
            return self._make(call, recording)

    def _make(self, call: Call, recording: Recording | None = None) -> int:
        given, world, out = self.given, self.world, self.world.out
        shows_usage = world.settings.flag("usage", _flag(given, "usage"))
        if shows_usage and not out.quiet:
            out.say(f"callmeter: estimate {self._estimate_text(call)}")
        no_stream = world.settings.flag("no_stream", _flag(given, "no_stream") or None)
        whole = bool(no_stream or given["json"] or given["extract"] or self.schema is not None)
        outcome = make_call(call, self.means(call, (lambda text: None) if whole else out.answer))
        outcome.warnings[:0] = self.warnings
        self._keep(call, outcome, recording)
        error = self._show(outcome, streamed=not whole)
        if shows_usage and not out.quiet and not isinstance(error, Stopped | KeyboardInterrupt):
            out.say(f"callmeter: {usage_text(outcome)}")
        return _ended(error)

    # Preparing

    def prepare(self) -> Call:
        """The call, its request composed and its tags settled; nothing is sent. A call that the policy refuses is
        logged as refused. Raises CallmeterError."""
        world, given = self.world, self.given
        settings = world.settings
        options = dict(parameter(text) for text in _texts(given, "option"))
        if given["schema"] is not None:
            from callmeter.cli.question import schema_text
            from callmeter.policy.answer_schema import parse_schema, response_format

            self.schema = parse_schema(schema_text(str(given["schema"])))
            options["response_format"] = response_format(self.schema)
        name = settings.text("provider", _text(given, "provider")) or "openrouter"
        named = settings.text("model", _text(given, "model")) or ""
        if any(map(holds_key, [name, named, *self._fallbacks()])):
            raise key_given("the name of a provider or model")
        provider = find_provider(name, settings.providers, settings.text("base_url", _text(given, "base_url")))
        try:
            self.tags = self.settled_tags()
        except TagsRefused as error:
            # The policy's refusal is an outcome of a call; it is logged at no cost.
            self._log_refusal(provider, error.tags, error, named)
            raise
        self.history = self._history()
        messages = self._messages()
        # A conversation goes on with its model, unless the call itself names another.
        model = settings.text("model", _text(given, "model") or self.conversation_model)
        model = model or ("smollm2" if provider.name == "local" else None)
        if not model:
            raise UsageError("no model is named", "add `-m MODEL`, or set `model` in config.toml")
        self.quoter = Quoter(provider, world.paths, world.now(), self.known_prices)
        request = Request(
            model,
            messages,
            max_tokens=self._ceiling(model),
            fallbacks=tuple(self._fallbacks()),
            options=options,
        )
        limit = settings.text("max_cost", _text(given, "max_cost"))
        return Call(
            request,
            provider,
            self.tags,
            timeout=settings.seconds("timeout", _seconds(given, "timeout")),
            connect_timeout=settings.seconds("connect_timeout", _seconds(given, "connect_timeout")),
            retries=settings.number("retries", _number(given, "retries")),
            max_retry_wait=settings.seconds("max_retry_wait"),
            max_cost=None if limit is None else _usd(limit),
            send_tags=settings.flag("send_tags", _flag(given, "send_tags")),
            wait=_patience(given, "wait", 300.0),
            wait_approval=_patience(given, "wait_approval", 3600.0),
        )

    def settled_tags(self) -> dict[str, str]:
        """The tags of the call. Raises UsageError, or TagsRefused for what the policy does not let through."""
        given = self.given
        by_settings: list[tuple[str, str]] = []
        by_variable: list[tuple[str, str]] = []
        for name, value, origin in self.world.settings.tags():
            (by_settings if origin == "config.toml" else by_variable).append((name, value))
        by_option = [(name, str(given[name])) for name in BUILT_IN if given[name] is not None]
        by_option += [parse_tag(text) for text in _texts(given, "tag")]
        sources = [by_settings, by_variable, self.template_tags, by_option, self.line_tags]
        require_no_key([value for source in sources for _, value in source], keys_in(self.world.env))
        return settle_tags(sources, self.world.policy)

    def _fallbacks(self) -> list[str]:
        by_option = _texts(self.given, "fallback_model")
        by_setting = (self.world.settings.text("fallback_model") or "").split(",")
        return by_option or [name.strip() for name in by_setting if name.strip()]

    def _ceiling(self, model: str) -> int:
        """The output ceiling: what is asked for, lowered to what the policy allows and the model can give."""
        wanted = self.world.settings.number("max_tokens", _number(self.given, "max_tokens"))
        if wanted < 1:
            raise UsageError("--max-tokens must be 1 or more", "leave it out for the setting's value")
        found = self.quoter.price(model)
        limits = {"policy": self.world.policy.max_output_tokens, "model": found.max_output if found else None}
        ceiling = wanted
        for whose, most in limits.items():
            if most is not None and most < ceiling:
                ceiling = most
                if self.given["max_tokens"] is not None:
                    self.warnings.append(f"the {whose} lowers the output ceiling from {wanted} to {most} tokens")
        return ceiling

    def _history(self) -> list[dict[str, object]]:
        """Earlier messages of the conversation that this call continues, or those of a batch's line."""
        if not (self.given["continue_"] or self.given["conversation"] is not None):
            return self.history
        from callmeter.cli.conversing import history

        return history(self)

    def _messages(self) -> list[dict[str, object]]:
        given = self.given
        prompt, images = _text(given, "prompt"), _texts(given, "attachment")
        in_batch = given["batch"] is not None
        messages = list(self.history)
        system = self.world.settings.text("system", _text(given, "system"))
        if system:
            messages = [message for message in messages if message["role"] != "system"]
            messages.insert(0, {"role": "system", "content": system})
        # A batch's line may bring messages instead of a prompt; standard input is then the batch, or nobody's.
        if prompt is not None or not (in_batch and self.history):
            content = user_content(self.world, prompt, _texts(given, "file"), images, piped=not in_batch)
            messages.append({"role": "user", "content": content})
        return messages

    # Means

    def means(self, call: Call, on_text: Callable[[str], None]) -> Means:
        """What the call works with in this world. A local model is started if none runs. A call without a usable
        key is logged as refused. Raises NoKey, Refused, UsageError, Unavailable."""
        world, provider = self.world, call.provider
        if provider.name == "local" and not provider.base_url:
            self.find_local(provider)
        keys = keys_of(world, call, self.given, self.local_key)
        try:
            first = next(keys)
        except (NoKey, Refused) as error:
            self._log_refusal(provider, call.tags, error, call.request.model)
            raise
        if first is not None:
            require_no_key(call.tags.values(), [first.secret])
        return Means(
            transport=transport_of(world, call.provider),
            keys=chain([first], keys),
            quote=self.quoter.quote,
            log=world.paths.log,
            inflight=world.paths.inflight,
            host=world.host,
            now=world.now,
            monotonic=world.monotonic,
            sleep=world.sleep,
            on_text=on_text,
            books=books_of(world),
            policy_changed=world.policy_changed,
            breaker=breaker_of(world, batch=self.given["batch"] is not None),
            anchor=lambda: newest_anchor(world.paths.audit),
        )

    def _log_refusal(self, provider: Provider, tags: dict[str, str], error: CallmeterError, model: str) -> None:
        world, anchor = self.world, newest_anchor(self.world.paths.audit)
        refuse(provider.name, tags, error, model, log=world.paths.log, host=world.host, anchor=anchor, now=world.now())

    def find_local(self, provider: Provider) -> None:
        """Start the local model, or find it, and put its address into `provider`. Raises Unavailable."""
        from callmeter.providers.local import start

        server = start(self.world.paths.state_dir)
        provider.base_url = server.base_url
        self.local_key = server.api_key

    def _quote(self, call: Call) -> Quote:
        return self.quoter.quote(call.request.model, call.request)

    # Showing

    def _estimate_text(self, call: Call) -> str:
        quote = self._quote(call)
        if quote.expected is None:
            return f"unknown: {call.request.model} has no price"
        return f"{money_text(quote.expected)} expected, at most {money_text(quote.worst)}"

    def preview(self, call: Call) -> dict[str, object]:
        """What --dry-run shows."""
        from callmeter.words.jsontext import loads

        quote = self._quote(call)
        body = loads(body_of(call.request, call.provider, call.tags, send_tags=call.send_tags))
        return {
            "dry_run": True,
            "url": call.provider.base_url + "/chat/completions",
            "request": body,
            "tags": call.tags,
            "estimate": {"expected": quote.expected, "worst_case": quote.worst, "currency": "USD"},
            "warnings": self.warnings,
        }

    def _keep(self, call: Call, outcome: Outcome, recording: Recording | None) -> None:
        """Keep what later calls may need: the conversation, the answer under its idempotency key."""
        if outcome.error is not None:
            return
        given = self.given
        try:
            if recording is not None:
                recording.remember(outcome)
            if (
                given["continue_"]
                or given["conversation"] is not None
                or self.world.settings.flag("keep_conversations")
            ):
                from callmeter.cli.conversing import keep

                keep(self, call, outcome)
        except CallmeterError as problem:
            # The answer is there and paid for; it is not lost because its copy cannot be kept.
            outcome.warnings.append(f"this answer is not kept for later calls: {problem.message}")

    def _show(self, outcome: Outcome, *, streamed: bool = False, replayed: bool = False) -> BaseException | None:
        """Print the answer, or the rest of it, and what is to be said about it; give its error, if any."""
        given, out = self.given, self.world.out
        text = outcome.text
        shown_text, error = self.shape(outcome)
        if error is None and outcome.record.get("finish_reason") == "length":
            out.note("callmeter: note: the answer stops at the output ceiling; raise `--max-tokens` for more")
        outcome.warnings += warnings_about(str(outcome.record.get("finish_reason")))
        if given["json"]:
            if error is None or isinstance(error, Incomplete):
                out.object(as_json(outcome, shown_text, replayed=replayed))
        elif streamed:
            if text and not text.endswith("\n") and not isinstance(error, Stopped | KeyboardInterrupt):
                out.answer("\n")
        elif shown_text and (error is None or isinstance(error, Incomplete)):
            out.answer(shown_text if shown_text.endswith("\n") else shown_text + "\n")
        for warning in outcome.warnings:
            out.warn(warning)
        if outcome.raw and out.verbose and outcome.error is not None:
            out.say("callmeter: the endpoint said: " + outcome.raw[:4000].decode("utf-8", "replace"))
        return error

    def shape(self, outcome: Outcome) -> tuple[str, BaseException | None]:
        """The answer as it was asked for, by --schema, --extract and --strict, and what is wrong with it."""
        if outcome.error is not None:
            if isinstance(outcome.error, Refused) and outcome.error.code == "limit_exceeded":
                from callmeter.cli.limit_reached import explain

                explain(self.world, outcome.error, str(outcome.record.get("key") or ""))
            return outcome.text, outcome.error
        text, error = shaped(outcome.text, block=bool(self.given["extract"]), schema=self.schema)
        strict = self.world.settings.flag("strict", _flag(self.given, "strict") or None)
        if error is None and strict and outcome.record.get("finish_reason") == "length":
            error = Incomplete("the answer stops at the output ceiling", "raise `--max-tokens`", code="length")
        return text, error


def _ended(error: BaseException | None) -> int:
    if error is not None:
        raise error
    return 0


def _usd(text: str) -> Decimal:
    try:
        amount = parse_usd(text)
    except ValueError as error:
        raise UsageError(f"--max-cost: {error}", "write `--max-cost 0.05`") from None
    if amount < 0:
        raise UsageError("--max-cost is below 0", "write `--max-cost 0.05`")
    return amount


def _text(given: Given, name: str) -> str | None:
    value = given[name]
    return None if value is None else str(value)


def _flag(given: Given, name: str) -> bool | None:
    value = given[name]
    return None if value is None else bool(value)


def _texts(given: Given, name: str) -> list[str]:
    values = given[name]
    return [str(value) for value in values] if isinstance(values, list | tuple) else []


def _patience(given: Given, name: str, otherwise: float) -> float:
    """Seconds to wait: 0 without the option, `otherwise` with the option alone."""
    if given[name] == "":
        return otherwise
    return _seconds(given, name) or 0.0


def _seconds(given: Given, name: str) -> float | None:
    return _read(given, name, seconds)


def _number(given: Given, name: str) -> int | None:
    return _read(given, name, whole_number)


def _read(given: Given, name: str, read: Callable[[object], Value]) -> Value | None:
    if given[name] is None:
        return None
    try:
        return read(given[name])
    except ValueError as error:
        raise UsageError(f"--{name.replace('_', '-')} {given[name]!r}: {error}", "see `llm-call --help`") from None
