"""Which cheaper model could have served: of those that the policy's lists name or the team uses, the cheapest one that
serves the purpose already, without one the cheapest.

What nobody can read from a log is whether its answers would have been good enough; what the log does say goes along as
evidence: whether the model serves this purpose already, and how often it fails there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from callmeter.policy.document import Policy
from callmeter.policy.model_rules import forbidding
from callmeter.reports.grouping import NONE
from callmeter.reports.savings_pricing import Tariffs
from callmeter.reports.usage import Figures, Usage, summed
from callmeter.words.errors import UsageError
from callmeter.words.period import Period
from callmeter.words.record import Tokens
from callmeter.words.subject import facts_of

_ENOUGH = 20  # calls that make an error rate, and experience with a model
_WORSE = Decimal("0.05")
_SERVED = ("purpose", "provider", "model")
_COUNTED = (
    "calls", "errors", "nano", "without_tokens", "priced_nano", "priced_tokens",
    "tokens_in", "tokens_out", "tokens_cached", "tokens_cache_write", "tokens_reasoning",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """The model to change to, and what speaks for it; `tried`: it serves the purpose already, or was asked about."""

    model: str
    evidence: str
    tried: bool = True


class Cheaper:
    """Chooses a target for every kind of call: by purpose, provider, model, and whatever else the lists go by.

    It also knows the `days` on which each model was called, as provider, model and day, and what was `spent` in all:
    calls and cost. `only` are the models to think of, instead of those that are listed or in use. Raises UsageError
    for one of them that has no price at any provider in use.
    """

    def __init__(
        self, usage: Usage, policy: Policy, tariffs: Tariffs, period: Period, at: datetime, only: Sequence[str] = ()
    ) -> None:
        self._policy = policy
        self._tariffs = tariffs
        self._at = at
        self._only = tuple(only)
        kinds = {rule.subject.kind for rule in policy.model_rules} - {"total", "pool", *_SERVED}
        self.keys = (*_SERVED, *sorted(kinds))
        self._served: dict[tuple[str, ...], Figures] = {}
        self._whole: dict[str, Figures] = {}
        self._used: dict[str, dict[str, int]] = {}
        groups, days = usage.groupings([self.keys, ("provider", "model", "day")], _COUNTED, period=period)
        self.days = [(provider, model, day) for (provider, model, day), _ in days]
        self.spent = summed(figures for _, figures in groups)
        self._require_prices({names[1] for names, _ in groups})
        for names, figures in groups:
            _, provider, model = names[:3]
            self._served.setdefault(names[:3], Figures()).merge(figures)
            self._whole.setdefault(provider, Figures()).merge(figures)
            if figures.calls > figures.errors:
                used = self._used.setdefault(provider, {})
                used[model] = used.get(model, 0) + figures.calls
        # By the values of `keys`; None where there is no cheaper one.
        self.targets = {names: self._target(names, figures) for names, figures in groups}
        # Of the models asked about, how many calls the policy's lists keep from each.
        self.kept = {model: sum(f.calls for names, f in groups if not self._may(names, model)) for model in self._only}

    @property
    def listed(self) -> bool:
        """Whether the policy has lists of models at all."""
        return bool(self._policy.model_rules)

    def _require_prices(self, providers: Collection[str]) -> None:
        for model in self._only:
            if providers and not any(self._tariffs.rates(name, model, self._at, 0) for name in providers):
                raise UsageError(
                    f"--to {model!r} has no price at {', '.join(sorted(providers))}",
                    "see `callmeter prices show`, or say what it costs: `callmeter prices set`",
                    code="no_price",
                )

    def _target(self, names: tuple[str, ...], figures: Figures) -> Target | None:
        purpose, provider, model = names[:3]
        if figures.calls <= figures.errors or figures.priced_nano <= 0 or figures.priced_tokens <= 0:
            return None
        costs: dict[str, int] = {}
        for candidate in self._candidates(names):
            cost = self._cost(provider, candidate, figures)
            if cost is not None and (self._only or self._fit(purpose, provider, model, candidate)):
                costs[candidate] = cost
        # What was billed may lie above the list, for reasons that another model would not change.
        own = self._cost(provider, model, figures)
        most = min(figures.priced_nano, figures.priced_nano if own is None else own)
        costs = {name: cost for name, cost in costs.items() if cost < most}
        if not costs:
            return None
        tried = {name for name in costs if self._is_tried(purpose, provider, name)}
        used = self._used.get(provider, {})
        # A model that most of the calls do not fit would save on the others only.
        prompt, answer = _mean(figures.tokens_in, figures), _mean(figures.tokens_out, figures)
        small = {name for name in costs if not self._tariffs.takes(provider, name, self._at, prompt, answer)}
        best = min(costs, key=lambda name: (name in small, name not in tried, costs[name], -used.get(name, 0), name))
        return Target(best, self._evidence(purpose, provider, best), best in tried)

    def _candidates(self, names: tuple[str, ...]) -> Iterable[str]:
        _, provider, model = names[:3]
        for candidate in self._only or self._named(self._tags(names), provider, model):
            if candidate != model and self._may(names, candidate):
                yield candidate

    def _may(self, names: tuple[str, ...], model: str) -> bool:
        """Whether the policy's lists permit a model for such calls."""
        tags = self._tags(names)
        return not forbidding(self._policy, facts_of(tags, key=tags.get("key", ""), model=model, provider=names[1]))

    def _tags(self, names: tuple[str, ...]) -> dict[str, str]:
        given = zip(self.keys, names, strict=True)
        return {name: value for name, value in given if value != NONE and name not in ("provider", "model")}

    def _named(self, tags: Mapping[str, str], provider: str, model: str) -> Iterable[str]:
        """Models in use at the provider, and those that lists for such calls name in full. A pattern vouches for no
        model in particular."""
        used = self._used.get(provider, {})
        found = dict.fromkeys(used)
        subject = facts_of(tags, key=tags.get("key", ""), model=model, provider=provider)
        for rule in self._policy.model_rules:
            if rule.subject.kind == "model" or rule.applies(subject):
                for pattern in rule.patterns:
                    if "*" not in pattern and not any(_same(pattern, name) for name in found):
                        found[pattern if "/" in pattern or "/" not in model else _beside(pattern, model)] = None
        return found

    def _cost(self, provider: str, model: str, figures: Figures) -> int | None:
        """What those of these calls whose cost is known would come to, near enough to choose by; the report prices each
        for itself."""
        rates = self._tariffs.rates(provider, model, self._at, _mean(figures.tokens_in, figures))
        if rates is None:
            return None
        parts = figures.tokens_cached, figures.tokens_cache_write, 0, figures.tokens_reasoning
        every = rates.cost(Tokens(figures.tokens_in, figures.tokens_out, *parts), figures.calls)
        tokens = figures.tokens_in + figures.tokens_out
        return None if every is None or tokens <= 0 else every * figures.priced_tokens // tokens

    def _fit(self, purpose: str, provider: str, model: str, candidate: str) -> bool:
        """Whether nothing speaks against a model: that it fails clearly more often at the same work than the model in
        use; or, where that has too few calls to tell, than what else the provider served."""
        own, other = (self._served.get((purpose, provider, name), Figures()) for name in (model, candidate))
        calls, errors = own.calls, own.errors
        if calls < _ENOUGH:
            whole = self._whole[provider]
            calls, errors = whole.calls - other.calls, whole.errors - other.errors
        if min(calls, other.calls) < _ENOUGH:
            return True
        return Decimal(other.errors) / other.calls <= Decimal(errors) / calls + _WORSE

    def _is_tried(self, purpose: str, provider: str, model: str) -> bool:
        served = self._served.get((purpose, provider, model))
        return bool(self._only) or (served is not None and served.calls >= _ENOUGH)

    def _evidence(self, purpose: str, provider: str, model: str) -> str:
        figures = self._served.get((purpose, provider, model))
        if figures is not None and figures.calls:
            share = Decimal(figures.errors) / figures.calls
            return f"serves this purpose already: {figures.calls:,} calls, {share:.0%} failed"
        if model in self._used.get(provider, {}):
            return "in use for other purposes"
        return "never used here"


def _mean(tokens: int, figures: Figures) -> int:
    return tokens // max(figures.calls - figures.without_tokens, 1)


def _same(pattern: str, name: str) -> bool:
    plain = name.lower()
    return pattern in (plain, plain.rpartition("/")[2])


def _beside(pattern: str, model: str) -> str:
    """A listed name without a vendor, as that of the vendor in use: `claude-3-haiku` is `anthropic/claude-3-haiku`."""
    return f"{model.partition('/')[0]}/{pattern}"
