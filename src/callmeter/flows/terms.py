"""The terms of a call: what is to be sent, what it works with, what came of it."""

from __future__ import annotations

from decimal import Decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from typing import Protocol

    from callmeter.flows.books import Books
    from callmeter.flows.breaker import Breaker
    from callmeter.providers.chat import Request
    from callmeter.providers.presets import Provider
    from callmeter.providers.wire import Transport

    class Key(Protocol):
        """A key as a call needs it."""

        label: str
        fingerprint: str

        def reveal(self) -> str:
            """The secret itself, for the request header."""

    class Quote(Protocol):
        """A model's price for one request. `worst` is an upper bound, `expected` a guess; None is unknown."""

        worst: Decimal | None
        expected: Decimal | None
        most_tokens: int

        def cost(self, tokens: dict[str, int]) -> Decimal | None:
            """What these tokens cost at the call's time."""


class Call:
    """What is to be sent, where, under which tags and limits. Times are seconds; `max_cost` is USD.

    `wait` is how long to wait for a quota that is busy or resets, `wait_approval` for an approval; `timeout` counts
    from the moment when the call is let through.
    """

    def __init__(
        self,
        request: Request,
        provider: Provider,
        tags: dict[str, str],
        *,
        timeout: float,
        connect_timeout: float,
        retries: int,
        max_retry_wait: float,
        max_cost: Decimal | None = None,
        send_tags: bool = True,
        wait: float = 0.0,
        wait_approval: float = 0.0,
    ) -> None:
        self.wait = wait
        self.wait_approval = wait_approval
        self.request = request
        self.provider = provider
        self.tags = tags
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self.retries = retries
        self.max_retry_wait = max_retry_wait
        self.max_cost = max_cost
        self.send_tags = send_tags


class Means:
    """What a call works with. `keys` yields the key to use, and another one each time one was refused (401).
    `books` is None where the policy has nothing to say about money; `policy_changed` says whether it may have now.
    `breaker` is None where it looks for no loops; `anchor` gives the audit log's newest one."""

    def __init__(
        self,
        *,
        transport: Transport,
        keys: Iterator[Key | None],
        quote: Callable[[str, Request], Quote],
        log: str,
        inflight: str,
        host: str,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        on_text: Callable[[str], None],
        books: Books | None = None,
        policy_changed: Callable[[], bool] = lambda: False,
        breaker: Breaker | None = None,
        anchor: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.books = books
        self.breaker = breaker
        self.anchor = anchor
        self.policy_changed = policy_changed
        self.transport = transport
        self.keys = keys
        self.quote = quote
        self.log = log
        self.inflight = inflight
        self.host = host
        self.now = now
        self.monotonic = monotonic
        self.sleep = sleep
        self.on_text = on_text


class Outcome:
    """What came of a call. `record` are the fields of its usage line; `error` is set unless the answer is whole.

    `text` is what came of the answer, also beside an error. `raw` is the body of a surprise.
    """

    def __init__(self, record: dict[str, object]) -> None:
        self.record = record
        self.text = ""
        self.warnings: list[str] = []
        self.error: BaseException | None = None
        self.raw = b""

    @property
    def cost(self) -> Decimal | None:
        """USD; None is unknown."""
        cost = self.record.get("cost")
        return cost if isinstance(cost, Decimal) else None
