"""The policy, `budget.json`, as a value: read strictly, every fault reported at once.

An invalid policy denies: whoever reads it gets Malformed, never a policy without rules.

What stands in the document by strategy, tier, key profile or rate becomes quotas like those under `quotas`; all that
a call falls under hold at once. An entry under `quotas` or `rate_limits` replaces what a strategy, a tier or a
profile gives the same subject for the same period and unit.
"""

from __future__ import annotations

from callmeter.policy.controls import Approvals, LoopBreaker
from callmeter.policy.quotas import LIVES, WARN_AT
from callmeter.words.errors import Malformed
from callmeter.words.tags import ALIASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from decimal import Decimal

    from callmeter.policy.allocation import Strategy
    from callmeter.policy.controls import Alert
    from callmeter.policy.model_rules import ModelRule
    from callmeter.policy.quotas import Quota
    from callmeter.policy.reading import Fault
    from callmeter.words.subject import Subject

KEYS = (
    "$schema",
    "version",
    "time_zone",
    "enforcement",
    "period",
    "warn_at",
    "total_budget",
    "allocation_strategy",
    "allocations",
    "roles",
    "tiers",
    "users",
    "agents",
    "keys",
    "quotas",
    "rate_limits",
    "models",
    "loop_breaker",
    "approvals",
    "alerts",
    "unreachable",
    "max_output_tokens",
    "lowest_output_tokens",
    "tags",
)
TAG_KEYS = ("required", "allowed", "aliases")


class Policy:
    """What a team has decided. The empty policy, without a file, has no rules."""

    def __init__(self) -> None:
        self.time_zone = "UTC"
        # For every quota that does not say it itself; "" until the document says so.
        self.stated_enforcement = ""
        self.period = "month"
        self.warn_at: tuple[Decimal, ...] = WARN_AT
        self.total_budget: int | None = None
        self.strategy: Strategy | None = None
        self.tiers: dict[str, int | None] = {}
        self.quotas: tuple[Quota, ...] = ()
        self.model_rules: tuple[ModelRule, ...] = ()
        self.loop_breaker = LoopBreaker()
        self.approvals = Approvals()
        self.alerts: tuple[Alert, ...] = ()
        self.unreachable = "fail_closed"
        self.max_output_tokens: int | None = None
        self.lowest_output_tokens = 256
        self.required: tuple[str, ...] = ()
        self.allowed: dict[str, tuple[str, ...]] = {}
        self.aliases: dict[str, str] = dict(ALIASES)

    @property
    def enforcement(self) -> str:
        """What holds for a plain limit: `showback`, `soft` (unless the document says otherwise) or `hard`."""
        return self.stated_enforcement or "soft"

    def enforcement_for(self, *, acts: bool) -> str:
        """What holds for a rule that only makes sense when it is enforced, such as a rate: `hard` unless stated."""
        return self.stated_enforcement or ("hard" if acts else "soft")

    def period_for(self, subject: Subject) -> str:
        """What a quota on a subject is for, unless it says so itself. A session or work item has one run, not one a
        month."""
        return "life" if subject.kind in LIVES else self.period


# Who makes a call wants to know that the policy is broken; `policy check` tells all of it.
_TOLD = 3


class MalformedPolicy(Malformed):
    """`faults` are all of them, with the `line` of each, 0 where there is none."""

    code = "malformed_policy"

    def __init__(self, path: str, faults: list[tuple[int, Fault]]) -> None:
        texts = [f"{path}:{line}: {fault}" if line else f"{path}: {fault}" for line, fault in faults]
        found = [
            {"line": line, "key": fault.where, "message": fault.message, "hint": fault.advice} for line, fault in faults
        ]
        more = len(texts) - _TOLD
        message = "; ".join(texts if more <= 1 else [*texts[:_TOLD], f"and {more} more faults"])
        super().__init__(
            message, "run `callmeter budget policy check`; until it is mended, no call is made", faults=found
        )
        self.faults = faults


def parse_policy(data: bytes, path: str) -> Policy:
    """A policy from the bytes of a file. Raises MalformedPolicy, which lists every fault."""
    # Where there is no policy, calls do without the modules that read one; under a plain one, without most of them.
    from callmeter.policy.plain_document import plain_policy

    policy = plain_policy(data)
    if policy is None:
        from callmeter.policy.sections import read_policy

        policy = read_policy(data, path)
    return policy
