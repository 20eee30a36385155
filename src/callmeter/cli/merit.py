"""How `budget quota allocate` comes to weights from recorded outcomes."""

from __future__ import annotations

from dataclasses import replace

from callmeter.cli.outcomes import standing_outcomes
from callmeter.cli.reading import Clock, open_usage
from callmeter.cli.world import World
from callmeter.flows.quotas import foreseen_policy
from callmeter.policy.allocation import merit_weights
from callmeter.policy.document import Policy
from callmeter.policy.strategy_edit import Plan, with_plan
from callmeter.reports.report import Report
from callmeter.reports.value import Credits
from callmeter.reports.value_shares import earned, merit_shares
from callmeter.words.errors import UsageError
from callmeter.words.period import chosen_period

SPAN = "30d"


def asks_for_value(policy: Policy) -> bool:
    """Whether the policy says that recorded value gives the weights."""
    return policy.strategy is not None and policy.strategy.by_value


def plan_by_merit(world: World, plan: Plan, measure: str, last: str | None) -> tuple[Plan, Report]:
    """The plan with weights from outcomes, and the figures behind them. Raises UsageError when weights are also given,
    the strategy has no merit pool, or nobody earned anything."""
    if "weights" in plan.allocations:
        raise UsageError("--merit and --weight contradict each other", "keep one of them", code="contradiction")
    had = world.policy.strategy
    strategy = None
    if (plan.strategy or (had.name if had is not None else "")) == "equal_base_plus_merit":
        # Weights that the policy has may name agents that the plan leaves out.
        bare = replace(plan, allocations={**plan.allocations, "weights": {}})
        strategy = foreseen_policy(world.paths.policy, lambda text, now: with_plan(text, now, bare)).strategy
    if strategy is None or not strategy.merit_pool:
        raise UsageError(
            "there is no merit pool to share out",
            "add `--strategy equal_base_plus_merit --base USD --merit-pool USD`",
            code="no_merit_pool",
        )
    clock = Clock(world, None)
    period = chosen_period(clock.now, clock.zone, last=last, default=SPAN)
    outcomes, notes = standing_outcomes(world, clock, period)
    agents = Credits.of(open_usage(world, None, clock), outcomes, period).by("agent")
    weights = merit_weights(strategy, earned(agents, measure))
    if not weights:
        raise UsageError(
            f"no {measure} of an agent is recorded, {period.label}",
            "record some with `callmeter budget outcome record`, or set `--weight`",
            code="no_value",
        )
    report = merit_shares(agents, weights, strategy.merit_pool, measure, period, str(clock.zone))
    allocations = {**plan.allocations, "weights": weights}
    return replace(plan, allocations=allocations), replace(report, notes=[*report.notes, *notes])
