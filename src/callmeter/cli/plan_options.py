"""What the options of `budget quota allocate` mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from callmeter.cli.amounts import amount_in
from callmeter.policy.reading import number_of
from callmeter.policy.strategy_edit import Plan
from callmeter.words.errors import UsageError
from callmeter.words.money import usd


def plan_from(
    strategy: str,
    allocations: Mapping[str, str | None],
    weights: Sequence[str],
    agents: str | None,
    roles: Sequence[str],
    shared_pool: str | None,
) -> Plan:
    """An allocation as the document has it, from options. Raises UsageError."""
    given: dict[str, object] = {name: _usd(text, name) for name, text in allocations.items() if text is not None}
    if agents is not None:
        given["agents"] = _names(agents)
    if weights:
        given["weights"] = dict(_weight(text) for text in weights)
    found: dict[str, object] = dict(_role(text) for text in roles)
    if shared_pool is not None:
        found["shared_pool"] = {"allocation": _usd(shared_pool, "shared_pool")}
    return Plan(strategy, given, found)


def _usd(text: str, name: str) -> int | Decimal:
    option = "--" + name.removesuffix("_per_agent").replace("_", "-")
    return usd(amount_in(text, option, "usd")[0])


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _weight(text: str) -> tuple[str, Decimal]:
    name, equals, value = text.rpartition("=")
    weight = number_of(value.strip())
    if not equals or weight is None:
        raise UsageError(f"--weight {text!r} is not AGENT=N", "write `--weight code=2`")
    return name.strip(), weight


def _role(text: str) -> tuple[str, dict[str, object]]:
    name, equals, rest = text.partition("=")
    amount, colon, agents = rest.partition(":")
    if not equals or not colon or not _names(agents):
        raise UsageError(f"--role {text!r} is not ROLE=USD:AGENTS", "write `--role lead=60:code,chat`")
    return name.strip(), {"allocation": usd(amount_in(amount, "--role", "usd")[0]), "agents": _names(agents)}
