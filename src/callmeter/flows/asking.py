"""What a call asks of the books, and what it is given."""

from __future__ import annotations

from callmeter.flows.owner import owner_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from decimal import Decimal

    from callmeter.flows.terms import Call, Quote
    from callmeter.providers.chat import Request


class Asked:
    """What a call asks for. `record` is its usage line as far as it is known. `worst_at` gives the worst case in USD of
    a model at an output ceiling, None unknown; `tokens_at` the most tokens."""

    def __init__(
        self,
        record: dict[str, object],
        tags: dict[str, str],
        *,
        key: str,
        provider: str,
        model: str,
        others: Sequence[str],
        ceiling: int,
        worst_at: Callable[[str, int], Decimal | None],
        tokens_at: Callable[[str, int], int],
        at: datetime,
        deadline: int,
        owner: str,
    ) -> None:
        self.record = record
        self.call_id = str(record["id"])
        self.tags = tags
        self.key = key
        self.provider = provider
        self.model = model
        self.others = others
        self.ceiling = ceiling
        self.worst_at = worst_at
        self.tokens_at = tokens_at
        self.at = at
        self.deadline = deadline
        self.owner = owner


class Admission:
    """A call that may go ahead: with this model and output ceiling, paid by this pool ("" for none). `why` says why
    the model or the ceiling is another one than asked for. `held` unless it falls under no quota, or the ledger is out
    of reach and the policy lets it go ahead (`unbooked`)."""

    def __init__(self, model: str, ceiling: int) -> None:
        self.held = self.unbooked = False
        self.model = model
        self.ceiling = ceiling
        self.pool = ""
        self.why = ""
        self.warnings: list[str] = []


def asked_for(
    call: Call,
    quote: Callable[[str, Request], Quote],
    record: dict[str, object],
    *,
    key: str,
    model: str,
    others: Sequence[str],
    earlier: Decimal | None,
    at: datetime,
    deadline: int,
) -> Asked:
    """What a call asks with this model, or with `others` in its place. `earlier` is what attempts before this one may
    have cost, in USD; None is unknown."""
    request = call.request

    def quoted(model: str, ceiling: int) -> Quote:
        return quote(model, request.with_ceiling(ceiling))

    def worst_at(model: str, ceiling: int) -> Decimal | None:
        worst = quoted(model, ceiling).worst
        return None if worst is None or earlier is None else worst + earlier

    return Asked(
        record,
        call.tags,
        key=key,
        provider=call.provider.name,
        model=model,
        others=others,
        ceiling=request.max_tokens,
        worst_at=worst_at,
        tokens_at=lambda model, ceiling: quoted(model, ceiling).most_tokens,
        at=at,
        deadline=deadline,
        owner=owner_here(),
    )
