"""What `budget quota check` and `explain` do with a call that is not made: compose it as `llm-call` would."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from callmeter.cli.asking import closed_desk
from callmeter.cli.calling import One
from callmeter.cli.lane_table import COMMANDS
from callmeter.cli.ledgers import ledger_of, recover_holds
from callmeter.cli.means import breaker_of, entry_for
from callmeter.cli.waiting import told
from callmeter.cli.world import World
from callmeter.flows.asking import Admission, Asked
from callmeter.flows.books import Books
from callmeter.flows.terms import Call
from callmeter.policy.grants import Freeze
from callmeter.reports.quota_standings import Wanted
from callmeter.words.errors import CallmeterError, UsageError
from callmeter.words.money import amount_text, nano
from callmeter.words.subject import FACTS, Subject
from callmeter.words.tags import BUILT_IN

_LARGEST = 100_000_000


class Tried:
    """A call as it would be: `call`, the label of its key, and what it asks the books."""

    def __init__(self, world: World, given: Mapping[str, object]) -> None:
        self._world = world
        every = {
            **COMMANDS["llm-call"][1],
            **{name: value for name, value in given.items() if name in COMMANDS["llm-call"][1]},
        }
        # Nothing is read from standard input, which a script may need for the call itself.
        one = One(world, {**every, "prompt": _prompt(given), "batch": ""})
        one.settled_tags()  # here, because `prepare` would log a refusal, and this is no call
        self.call: Call = one.prepare()
        self.warnings = one.warnings
        self._knows_prompt = given.get("prompt") is not None
        self._quoter = one.quoter
        self._key = "local"
        if self.call.provider.name != "local":
            entry = entry_for(world, self.call, every)
            self._key = entry.label if entry else ""

    def worst_at(self, model: str, ceiling: int) -> Decimal | None:
        """The most that the call may cost, in USD."""
        return self._quoter.quote(model, self.call.request.with_ceiling(ceiling)).worst

    def tokens_at(self, model: str, ceiling: int) -> int:
        """The most tokens that it may take."""
        return self._quoter.quote(model, self.call.request.with_ceiling(ceiling)).most_tokens

    @property
    def asked(self) -> Asked:
        """What it asks the books."""
        request = self.call.request
        return Asked(
            {"id": "check"},
            self.call.tags,
            key=self._key,
            provider=self.call.provider.name,
            model=request.model,
            others=request.fallbacks,
            ceiling=request.max_tokens,
            worst_at=self.worst_at,
            tokens_at=self.tokens_at,
            at=self._world.now(),
            deadline=0,
            owner="",
        )

    def books(self) -> Books:
        """Books that only look."""
        world = self._world
        return Books(
            world.policy,
            lambda: ledger_of(world),
            lambda: closed_desk(world),
            log=world.paths.log,
            index=world.paths.index,
            reread=world.reread_policy,
            recover=lambda: recover_holds(world),
            wait=told(world),
            tentative=True,
        )

    def admission(self) -> Admission:
        """How the call would be let through. Raises what would stop it."""
        found = self.books().admit(self.asked)
        found.warnings[:0] = self.warnings
        breaker = breaker_of(self._world, batch=False)
        if breaker is not None:
            known = self.call.request.messages if self._knows_prompt else []
            found.warnings += breaker.foresee(self.call.tags, known, self._world.now())
        return found


def _prompt(given: Mapping[str, object]) -> str:
    size = given["prompt_size"]
    if size is None:
        return str(given.get("prompt") or "a")
    if given.get("prompt") is not None:
        raise UsageError("--prompt-size goes without a prompt", "keep one of them", code="contradiction")
    assert isinstance(size, int)
    if size > _LARGEST:
        raise UsageError(f"--prompt-size {size} is larger than {_LARGEST} bytes")
    return "a" * size


def as_caller(bucket: Subject, given: dict[str, object]) -> dict[str, str]:
    """Put a subject among the options of a call, as far as it is a tag, and give its facts."""
    if bucket.kind in BUILT_IN:
        given[bucket.kind] = bucket.value
    elif bucket.kind not in ("total", *FACTS):
        given["tag"] = [f"{bucket.kind}={bucket.value}"]
    return {bucket.kind: bucket.value}


def foreseen(world: World, given: Mapping[str, object], frozen: Freeze | None) -> tuple[Wanted | None, list[str]]:
    """What the call that the options describe would take, and sentences on what would become of it; where they name
    neither its model nor its size there is no call."""
    if all(given[name] is None for name in ("model", "prompt_size", "max_tokens")):
        if frozen is None:
            return None, []
        return None, [f"{frozen.subject} is frozen by {frozen.by}: {frozen.reason}"]
    tried = Tried(world, given)
    model, ceiling = tried.call.request.model, tried.call.request.max_tokens
    worst, tokens = tried.worst_at(model, ceiling), tried.tokens_at(model, ceiling)
    amounts = {"usd": None if worst is None else nano(worst), "tokens": tokens, "calls": 1}
    wanted = Wanted(amounts, f"{model}, at most {tokens:,} tokens, {ceiling:,} of them out")
    try:
        admission = tried.admission()
    except CallmeterError as error:
        return wanted, [f"The call would end with status {int(error.exit_status)}: {error.message}."]
    return wanted, ["The call would pass.", *(f"{warning[:1].upper()}{warning[1:]}." for warning in admission.warnings)]


def show_admission(world: World, tried: Tried, admission: Admission) -> None:
    """Say how the call would be let through."""
    out = world.out
    model, ceiling = admission.model, admission.ceiling
    worst, tokens = tried.worst_at(model, ceiling), tried.tokens_at(model, ceiling)
    if out.format == "json":
        out.object(
            {
                "pass": True,
                "model": model,
                "asked_model": tried.call.request.model,
                "max_tokens": ceiling,
                "worst_case": worst,
                "most_tokens": tokens,
                "pool": admission.pool or None,
                "warnings": admission.warnings,
            }
        )
        return
    for warning in admission.warnings:
        out.warn(warning)
    most = "a cost that is unknown" if worst is None else amount_text(nano(worst), "usd")
    out.text(f"it would pass: {model}, at most {ceiling:,} tokens out, {most}")
