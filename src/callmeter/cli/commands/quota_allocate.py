"""`callmeter budget quota allocate`: hand a budget out to agents by a strategy.

callmeter budget quota allocate
callmeter budget quota allocate --strategy equal_base_plus_merit --base 20 --merit-pool 90 --weight a=2 --weight b=1
callmeter budget quota allocate --strategy role_based --role lead=60:code,chat --shared-pool 40 --apply
callmeter budget quota allocate --merit value --last 30d --apply
callmeter budget quota allocate --strategy dynamic --pool 500 --cap 100 --apply --yes
"""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from callmeter.cli import options as opt
from callmeter.cli.auditing import audit
from callmeter.cli.confirming import require_yes
from callmeter.cli.merit import asks_for_value, plan_by_merit
from callmeter.cli.plan_options import plan_from
from callmeter.cli.waiting import make_ready
from callmeter.cli.world import World
from callmeter.flows.quotas import change_policy, foreseen_policy
from callmeter.policy.strategy_edit import with_plan
from callmeter.reports.allocation_table import allocation_table
from callmeter.reports.report import Board, Report
from callmeter.reports.value_shares import with_merit


class Merit(enum.StrEnum):
    """What earns a share of the merit pool."""

    VALUE = "value"
    OUTPUTS = "outputs"


class Strategy(enum.StrEnum):
    """The strategies."""

    EQUAL = "equal_base_plus_merit"
    ROLES = "role_based"
    DYNAMIC = "dynamic"


def quota_allocate(
    ctx: typer.Context,
    strategy: Annotated[
        Strategy | None, typer.Option("--strategy", help="The strategy, instead of the policy's.")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", metavar="USD", help="What every agent gets.")] = None,
    merit_pool: Annotated[
        str | None, typer.Option("--merit-pool", metavar="USD", help="What is shared out by weights.")
    ] = None,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", metavar="AGENT=N", help="An agent's weight. Repeatable.")
    ] = None,
    merit: Annotated[
        Merit | None,
        typer.Option("--merit", help="Weights from recorded outcomes: by their value, or by the number of outputs."),
    ] = None,
    last: Annotated[
        str | None, typer.Option("--last", metavar="SPAN", help="The span whose outcomes count for `--merit`.")
    ] = None,
    agents: Annotated[
        str | None, typer.Option("--agents", metavar="LIST", help="The agents, with commas, if not all.")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role", metavar="ROLE=USD:AGENTS", help="A role: `lead=60:code,chat` gives each 60. Repeatable."
        ),
    ] = None,
    shared_pool: Annotated[
        str | None, typer.Option("--shared-pool", metavar="USD", help="What roles draw on when their own is gone.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="USD", help="The whole budget, first come, first served.")
    ] = None,
    cap: Annotated[str | None, typer.Option("--cap", metavar="USD", help="The most for one agent of the pool.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Put it into the policy, after showing it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    format: opt.Format = opt.Shape.TEXT,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Hand the budget out to agents by a strategy: shows what each would get; --apply puts it into the policy.

    Without options it shows what the policy's own strategy gives. What is not said stays as the policy has it.

    `--merit` turns what `budget outcome record` was told in the last 30 days (or `--last`) into weights, which the
    policy keeps until it is run again; a policy that says `"weights": "value"` means the same.
    """
    world: World = ctx.obj
    world.out.shape(format, quiet=quiet, verbose=verbose)
    allocations = {"base_per_agent": base, "merit_pool": merit_pool, "pool": pool, "cap_per_agent": cap}
    plan = plan_from(strategy or "", allocations, weight or (), agents, role or (), shared_pool)
    path = world.paths.policy
    page: Report | Board
    if merit or last or (asks_for_value(world.policy) and not weight and not strategy):
        plan, shares = plan_by_merit(world, plan, merit or Merit.VALUE, last)
        then = foreseen_policy(path, lambda text, now: with_plan(text, now, plan))
        page = with_merit(shares, allocation_table(world.policy, then))
    else:
        then = world.policy if plan.empty else foreseen_policy(path, lambda text, now: with_plan(text, now, plan))
        page = allocation_table(world.policy, then)
    world.out.report(page)
    if not apply or plan.empty:
        return
    require_yes(world, "Put this into the policy?", yes)
    make_ready(world, then)
    change_policy(path, "quota.allocate", lambda text, now: with_plan(text, now, plan), audit(world))
    world.out.note(f"callmeter: the policy's strategy is {then.strategy.name if then.strategy else 'none'}")
