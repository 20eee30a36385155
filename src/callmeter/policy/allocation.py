"""Allocation strategies: how a budget is handed out to agents.

`equal_base_plus_merit` gives every agent a base, and a merit pool shared out by weights. Without weights, or as long
as they are to come from recorded value, the merit pool is undivided: whoever has used up its base draws on it.

`role_based` gives each agent of a role the role's allocation. When it is gone, the agent draws on the role's shared
pool, then on the one of all roles.

`dynamic` hands nothing out: first come, first served from the total, with a cap for each agent if there is one.

An agent that is not among those named has no allocation; what it may use is a shared pool.
"""

from __future__ import annotations

import math
from decimal import Decimal

from callmeter.policy.quota_rules import TOTAL, plain_quota
from callmeter.policy.quotas import Quota
from callmeter.policy.reading import Fault, Part, kind_of, number_of, path_text, shown
from callmeter.words.errors import CallmeterError
from callmeter.words.subject import Subject
from callmeter.words.tags import tag_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from callmeter.policy.document import Policy
    from callmeter.policy.reading import Path
    from callmeter.policy.sections import Gathered

STRATEGIES = ("equal_base_plus_merit", "role_based", "dynamic")
ALLOCATION_KEYS = {
    "equal_base_plus_merit": ("base_per_agent", "merit_pool", "agents", "weights"),
    "role_based": (),
    "dynamic": ("pool", "cap_per_agent"),
}
ROLE_KEYS = ("allocation", "agents", "shared_pool")
SHARED_POOL = "shared_pool"
MERIT_POOL = "merit_pool"
EVERYONE = "*"
_MOST_WEIGHT = 10**9


class Role:
    """What each of its agents gets, and the pool behind them; amounts in nano-dollars."""

    def __init__(self, allocation: int, agents: tuple[str, ...], pool: int) -> None:
        self.allocation = allocation
        self.agents = agents
        self.pool = pool


class Strategy:
    """A strategy as the document states it; amounts in nano-dollars, 0 where there is none. `agents` is None as long
    as every agent counts. `by_value` means that weights are to come from recorded value."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.base = 0
        self.merit_pool = 0
        self.agents: tuple[str, ...] | None = None
        self.weights: dict[str, Decimal] = {}
        self.by_value = False
        self.roles: dict[str, Role] = {}
        self.shared_pool = 0
        self.pool = 0
        self.cap = 0


def allocate(
    strategy: Strategy, policy: Policy, value: Mapping[str, Decimal] | None = None
) -> list[tuple[Path, Quota]]:
    """The quotas that a strategy gives, each with the path in the document that it comes from. With `value`, the
    merit pool is shared out by it instead of by the weights."""
    if strategy.name == "equal_base_plus_merit":
        return _equal(strategy, policy, strategy.weights if value is None else value)
    return _by_role(strategy, policy) if strategy.name == "role_based" else _dynamic(strategy, policy)


def split(pool: int, weights: Mapping[str, Decimal]) -> dict[str, int]:
    """A pool in parts by weight, which add up to it exactly: the largest remainders get one more. Nobody gets
    anything when no weight is above 0."""
    ratios = {name: weight.as_integer_ratio() for name, weight in weights.items()}
    scale = math.lcm(*(below for _, below in ratios.values()))
    whole = {name: above * (scale // below) for name, (above, below) in ratios.items()}
    total = sum(whole.values())
    if not total:
        return dict.fromkeys(weights, 0)
    parts = {name: pool * weight // total for name, weight in whole.items()}
    left = pool - sum(parts.values())
    for name in sorted(whole, key=lambda name: (-(pool * whole[name] % total), name))[:left]:
        parts[name] += 1
    return parts


def merit_weights(strategy: Strategy, earned: Mapping[str, int]) -> dict[str, Decimal]:
    """Weights for the merit pool by what each agent earned (nano-dollars of value, or outputs): of the strategy's
    agents, those that earned anything. An agent whose name would stand for others has none, nor has one of a foreign
    log whose name no policy can hold."""
    weights = {
        name: Decimal(amount).scaleb(-9).normalize()
        for name, amount in sorted(earned.items())
        if amount > 0 and "*" not in name and (strategy.agents is None or name in strategy.agents) and _is_value(name)
    }
    # The document takes weights up to a billion; only their proportions matter.
    while weights and max(weights.values()) > _MOST_WEIGHT:
        weights = {name: weight.scaleb(-1) for name, weight in weights.items()}
    return weights


def _is_value(name: str) -> bool:
    try:
        return tag_value("agent", name) == name
    except CallmeterError:
        return False


def handed_out(strategy: Strategy) -> int | None:
    """Everything that a strategy hands out, pools included; None when it does not say to how many agents."""
    if strategy.name == "equal_base_plus_merit":
        return None if strategy.agents is None else strategy.base * len(strategy.agents) + strategy.merit_pool
    if any(EVERYONE in role.agents for role in strategy.roles.values()):
        return None
    given = sum(role.allocation * len(role.agents) + role.pool for role in strategy.roles.values())
    return given + strategy.shared_pool if strategy.name == "role_based" else None


def read_strategy(root: Part, policy: Policy, gathered: Gathered) -> None:
    """`allocation_strategy`, `allocations` and `roles`."""
    name = root.choice("allocation_strategy", STRATEGIES, "")
    if not name:
        for key in ("allocations", "roles"):
            if key in root.found and "allocation_strategy" not in root.found:
                root.fault(key, "stands without a strategy", f"add `allocation_strategy`: {', '.join(STRATEGIES)}")
        return
    strategy = Strategy(name)
    allocations = (root.part("allocations") or root.nothing()).only(ALLOCATION_KEYS[name])
    if name == "equal_base_plus_merit":
        _read_equal(root, allocations, strategy)
    elif name == "role_based":
        _read_roles(root, strategy)
    else:
        _read_dynamic(allocations, strategy, policy)
    if "roles" in root.found and name != "role_based":
        root.fault("roles", f"has no meaning under `{name}`", "remove it, or set `allocation_strategy` to `role_based`")
    policy.strategy = strategy
    for path, quota in allocate(strategy, policy):
        gathered.add(path, quota, derived=True)


def _equal(strategy: Strategy, policy: Policy, weights: Mapping[str, Decimal]) -> list[tuple[Path, Quota]]:
    merit = split(strategy.merit_pool, weights)
    pools = (MERIT_POOL,) if strategy.merit_pool and not any(merit.values()) else ()
    source: Path = ("allocations", "base_per_agent")
    named = dict.fromkeys((*(strategy.agents or ()), *merit))
    found: list[tuple[Path, Quota]] = [
        (source, plain_quota(Subject("agent", name), strategy.base + merit.get(name, 0), policy, pools=pools))
        for name in named
    ]
    others = strategy.base if strategy.agents is None else 0
    found.append((source, plain_quota(Subject("agent", EVERYONE), others, policy, pools=pools)))
    if pools:
        pool = plain_quota(Subject("pool", MERIT_POOL), strategy.merit_pool, policy)
        found.append((("allocations", MERIT_POOL), pool))
    return found


def _by_role(strategy: Strategy, policy: Policy) -> list[tuple[Path, Quota]]:
    shared = (SHARED_POOL,) if strategy.shared_pool else ()
    found: list[tuple[Path, Quota]] = []
    for name, role in strategy.roles.items():
        pools = (*((name,) if role.pool else ()), *shared)
        for agent in role.agents:
            quota = plain_quota(Subject("agent", agent), role.allocation, policy, pools=pools)
            found.append((("roles", name), quota))
        if role.pool:
            pool = plain_quota(Subject("pool", name), role.pool, policy)
            found.append((("roles", name, SHARED_POOL), pool))
    if not any(EVERYONE in role.agents for role in strategy.roles.values()):
        found.append((("roles",), plain_quota(Subject("agent", EVERYONE), 0, policy, pools=shared)))
    if shared:
        pool = plain_quota(Subject("pool", SHARED_POOL), strategy.shared_pool, policy)
        found.append((("roles", SHARED_POOL), pool))
    return found


def _dynamic(strategy: Strategy, policy: Policy) -> list[tuple[Path, Quota]]:
    found: list[tuple[Path, Quota]] = []
    if strategy.pool:
        found.append((("allocations", "pool"), plain_quota(TOTAL, strategy.pool, policy)))
    if strategy.cap:
        cap = plain_quota(Subject("agent", EVERYONE), strategy.cap, policy)
        found.append((("allocations", "cap_per_agent"), cap))
    return found


def _read_equal(root: Part, allocations: Part, strategy: Strategy) -> None:
    if "base_per_agent" not in allocations.found:
        root.fault("allocations", "has no `base_per_agent`", "add the amount that every agent gets")
    strategy.base = allocations.usd("base_per_agent") or 0
    strategy.merit_pool = allocations.usd("merit_pool") or 0
    if "agents" in allocations.found:
        strategy.agents = allocations.values("agents", "agent", "agents")
    weights = allocations.found.get("weights", {})
    if weights == "value":
        strategy.by_value = True
    elif isinstance(weights, dict):
        _read_weights(Part(weights, (*allocations.path, "weights"), allocations.faults), strategy)
    else:
        allocations.fault("weights", f"is neither an object of weights nor `value` but {kind_of(weights)}")


def _read_weights(weights: Part, strategy: Strategy) -> None:
    for text, value in weights.found.items():
        weight = number_of(value)
        name = weights.value("agent", text)
        if weight is None or not 0 <= weight <= _MOST_WEIGHT:
            weights.fault(text, f"{shown(value)} is not a weight from 0 to a billion")
        elif strategy.agents is not None and name not in strategy.agents:
            weights.fault(text, "is not among `allocations.agents`", "add it there, or remove its weight")
        else:
            strategy.weights[name] = weight
    if weights.found and not any(strategy.weights.values()):
        weights.fault(None, "has no weight above 0")


def _read_roles(root: Part, strategy: Strategy) -> None:
    roles = root.part("roles")
    if "roles" not in root.found:
        root.fault("allocation_strategy", "is `role_based`, but there are no `roles`", "add them")
    seen: dict[str, str] = {}
    for name, found in roles.found.items() if roles is not None else ():
        assert roles is not None
        if name == SHARED_POOL:
            strategy.shared_pool = _pool(roles, name)
        elif isinstance(found, dict):
            role = Part(found, (*roles.path, name), roles.faults).only(ROLE_KEYS)
            roles.value("role", name)
            strategy.roles[name] = _role(role, name, seen)
        else:
            roles.fault(name, f"is not an object with `allocation` and `agents` but {kind_of(found)}")


def _role(role: Part, name: str, seen: dict[str, str]) -> Role:
    agents = role.values("agents", "agent", "agents")
    if not agents:
        role.fault("agents" if "agents" in role.found else None, "names no agents", "list them, or `*` for all others")
    own = []
    for index, agent in enumerate(agents):
        path = (*role.path, "agents", index)
        if agent in seen:
            where = path_text(("roles", seen[agent]))
            role.faults.append(Fault(path, f"{shown(agent)} is already in `{where}`", "an agent has one role"))
        elif EVERYONE in agent and agent != EVERYONE:
            role.faults.append(
                Fault(path, f"{shown(agent)} is no agent's name", "name each agent, or `*` for all others")
            )
        else:
            own.append(agent)
    seen.update(dict.fromkeys(own, name))
    if "allocation" not in role.found and SHARED_POOL not in role.found:
        role.fault(None, "has no `allocation`", "add the amount that each of its agents gets")
    return Role(role.usd("allocation") or 0, tuple(own), _pool(role, SHARED_POOL) if SHARED_POOL in role.found else 0)


def _pool(part: Part, key: str) -> int:
    """A shared pool: an amount, or an object with one as `allocation`."""
    found = part.found[key]
    if isinstance(found, dict):
        pool = Part(found, (*part.path, key), part.faults).only(("allocation",))
        if "allocation" not in found:
            pool.fault(None, "has no `allocation`", "add the amount that is in the pool")
        return pool.usd("allocation") or 0
    return part.usd(key) or 0


def _read_dynamic(allocations: Part, strategy: Strategy, policy: Policy) -> None:
    strategy.pool = allocations.usd("pool") or 0
    strategy.cap = allocations.usd("cap_per_agent") or 0
    if strategy.pool and policy.total_budget not in (None, strategy.pool):
        allocations.fault("pool", "is not what `total_budget` says", "keep one of them: both are the whole budget")
