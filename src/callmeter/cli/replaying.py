"""`--idempotency-key`: the same key and the same request again give the recorded answer, and nothing is paid.

What makes two requests the same is what the model sees and where it runs: endpoint, models, messages, parameters
and the output ceiling. Tags, keys, timeouts and retries may differ. Only whole answers are recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from callmeter.cli.world import World
from callmeter.flows.recorded import as_kept, fingerprint, from_kept
from callmeter.flows.terms import Call, Outcome
from callmeter.store.private import ANSWERS, open_room
from callmeter.words.errors import Busy, UsageError

MAX_KEY = 255


class Recording:
    """A key, held for a `with` block: `outcome` is the recorded one, or None, and then the call is to be made.

    `earlier` are messages of the conversation that the call continues, which do not tell requests apart. Whoever
    comes with the same key meanwhile waits, up to the timeout of its call. However the holder ends, the
    kernel lets go. Raises UsageError for another request under the same key, Busy, Malformed, FileProblem.
    """

    def __init__(self, world: World, key: str, call: Call, earlier: Sequence[object] = ()) -> None:
        if not 0 < len(key) <= MAX_KEY:
            raise UsageError(f"--idempotency-key has 1 to {MAX_KEY} characters", "a UUID is a good one")
        self.outcome: Outcome | None = None
        self._key = key
        self._request = fingerprint(call, earlier)
        days = world.settings.number("private_days")
        self._room = open_room(world.paths.private, ANSWERS, days, world.clock())
        self._lock = self._room.lock(key, call.timeout)

    def __enter__(self) -> Recording:
        try:
            self._lock.__enter__()
        except Busy as busy:
            raise Busy(
                f"another call with the idempotency key {self._key!r} is still running: {busy.message}",
                "try again later, or raise `--timeout` to wait longer",
                retry_after=busy.details.get("retry_after"),
            ) from None
        try:
            self.outcome = self._recorded()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, value, trace)

    def remember(self, outcome: Outcome) -> None:
        """Record a whole answer under the key. Raises FileProblem, Malformed."""
        self._room.write(self._key, {"request": self._request, "answer": as_kept(outcome)})

    def _recorded(self) -> Outcome | None:
        document = self._room.read(self._key)
        if document is None:
            return None
        if document.get("request") != self._request:
            raise UsageError(
                f"the idempotency key {self._key!r} was used for another request",
                "use a new key for a new request: model, endpoint, messages, parameters and `--max-tokens` count",
                code="key_reused",
            )
        outcome = from_kept(document.get("answer"))
        if outcome is None:
            raise self._room.damaged(self._key, "not a recorded answer")
        return outcome
