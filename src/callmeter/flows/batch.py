"""Many calls at once: each is made as any other call is, in a thread of its own, and its result goes on in order.

    items (a thread) -> main thread: answered before? -> threads: the call -> main thread: kept, then shown

Only the main thread touches the progress and the output, so neither needs a lock; it takes one event after the
other from one queue, into which a signal handler can put one too. The memory of a batch does not grow with its
length: only so many items are between their line and their result, and results that wait for their turn lie in
the progress file.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from queue import Empty, SimpleQueue

from callmeter.flows.halting import Halt
from callmeter.flows.recorded import as_kept, fingerprint, from_kept
from callmeter.flows.terms import Call, Outcome
from callmeter.store.batch_progress import BatchProgress
from callmeter.store.files import FileProblem
from callmeter.words.errors import Malformed, UsageError
from callmeter.words.jsontext import dumps, loads

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How long a stopped batch waits for its calls to be recorded. What is longer hangs in a name look-up or a connect:
# nothing was sent, and the breadcrumb says so.
_GRACE = 5.0
_AT_ONCE = 64
_NEAR = 512
_SHORT = 32 * 1024


class Item:
    """One line of a batch. `position` counts from 0, `place` says where it stands, `end` is the byte after it.

    It has a `call`, or the `error` that keeps it from being one. `about` is the caller's own.
    """

    __slots__ = ("about", "call", "end", "error", "id", "place", "position", "request", "time")

    def __init__(self, position: int, place: str, end: int) -> None:
        self.position = position
        self.place = place
        self.end = end
        self.id: str | int | None = None
        self.call: Call | None = None
        self.error: BaseException | None = None
        self.about: object = None
        self.request = ""
        self.time = 0


class Result:
    """What came of an item: an `outcome`, or an `error`, or both. `replayed`: from the record, at no cost now."""

    __slots__ = ("error", "item", "outcome", "replayed")

    def __init__(
        self, item: Item, outcome: Outcome | None, error: BaseException | None = None, *, replayed: bool = False
    ) -> None:
        self.item = item
        self.outcome = outcome
        self.error = error
        self.replayed = replayed


class Batch:
    """A batch: `items` are composed in a thread of their own, `make` makes an item's call in one of `concurrency`
    threads, `show` gives the line of a result, in the main thread."""

    def __init__(
        self,
        items: Iterator[Item],
        make: Callable[[Item], Outcome],
        show: Callable[[Result], str],
        progress: BatchProgress,
        halt: Halt,
        *,
        concurrency: int,
        in_order: bool,
    ) -> None:
        self._items = items
        self._make = make
        self._show = show
        self._progress = progress
        self._halt = halt
        self._concurrency = concurrency
        self._in_order = in_order
        self._events: SimpleQueue[Item | Result | BaseException | None] = SimpleQueue()
        self._jobs: SimpleQueue[Item | None] = SimpleQueue()
        # Between line and result: those that run, and as many that are ready to.
        self._room = threading.Semaphore(2 * concurrency)
        self._threads: list[threading.Thread] = []
        self._running = 0
        self._open = 0
        self._next = 0
        self._ready: deque[str] = deque()
        # Results that wait for their turn: some here, as many as come out of turn at any width; others on disk.
        self._near: dict[int, str] = {}
        self._far = 0

    def stop(self, reason: BaseException) -> None:
        """End the batch with this exception as soon as possible; may be called from a signal handler."""
        self._events.put(reason)

    def lines(self) -> Generator[str, None, None]:
        """The results' lines, in the order of the items or as they come. Every answer is kept before its line is
        given. Closing the iterator stops what runs: each call is cancelled and logged. Raises what `items` raised,
        the reason of `stop`, Malformed, FileProblem."""
        self._start(self._feed)
        try:
            yield from self._answered()
        except BaseException as reason:
            self._halt.order(reason)
            raise
        finally:
            self._end()

    def _answered(self) -> Iterator[str]:
        reading = True
        while reading or self._open:
            try:
                for event in self._take():
                    if event is None:
                        reading = False
                    elif isinstance(event, Item):
                        self._open += 1
                        self._begin(event)
                    elif isinstance(event, Result):
                        self._running -= 1
                        self._finish(event)
                    else:
                        raise event
                self._progress.commit()
            except (FileProblem, Malformed):
                yield from self._rescued()
                raise
            while self._ready:
                yield self._ready.popleft()

    def _rescued(self) -> Iterator[str]:
        """The lines of what is answered or runs, out of turn, when nothing can be kept any more: it is paid for."""
        self._ready.extend(self._near[position] for position in sorted(self._near))
        yield from self._ready
        try:
            while True:
                self._jobs.get_nowait()
                self._running -= 1
        except Empty:
            pass  # the others have begun
        while self._running:
            event = self._events.get()
            if isinstance(event, Result):
                self._running -= 1
                yield self._show(event)
            elif isinstance(event, BaseException):
                raise event

    def _take(self) -> Iterator[Item | Result | BaseException | None]:
        """The next event, and the others that are there already, so that they share a commit."""
        yield self._events.get()
        try:
            for _ in range(_AT_ONCE):
                yield self._events.get_nowait()
        except Empty:
            return

    def _begin(self, item: Item) -> None:
        """An item's way: its line is wrong, its answer is there, or its call is to be made."""
        if item.id is not None and self._progress.times_seen(f"id {dumps(item.id)}"):
            item.error = UsageError(
                f"{item.place}: the id {item.id!r} stands twice", "give each line its own id", code="duplicate_id"
            )
        if item.error is not None or item.call is None:
            self._finish(Result(item, None, item.error))
            return
        item.request = fingerprint(item.call)
        item.time = self._progress.times_seen(f"request {item.request}")
        kept = self._progress.answer(item.request, item.time)
        if kept is not None:
            outcome = from_kept(loads(kept))
            if outcome is not None:
                self._finish(Result(item, outcome, replayed=True))
                return
        self._running += 1
        self._jobs.put(item)
        workers = len(self._threads) - 1  # the first one reads
        if workers < min(self._running, self._concurrency):
            try:
                self._start(self._work)
            except RuntimeError:
                if not workers:  # the limit of the system is reached, and nobody is there to do it
                    raise

    def _finish(self, result: Result) -> None:
        item = result.item
        line = self._show(result)
        try:
            self._keep(result)
        except BaseException:
            self._ready.append(line)
            raise
        self._open -= 1
        self._room.release()
        if not self._in_order:
            self._ready.append(line)
        elif item.position != self._next:
            self._park(item.position, line)
        else:
            following: str | None = line
            while following is not None:
                self._ready.append(following)
                self._next += 1
                following = self._fetch(self._next)

    def _park(self, position: int, line: str) -> None:
        if len(self._near) < _NEAR and len(line) < _SHORT:
            self._near[position] = line
        else:
            self._progress.park(position, line)
            self._far += 1

    def _fetch(self, position: int) -> str | None:
        line = self._near.pop(position, None)
        if line is None and self._far:
            line = self._progress.fetch(position)
            self._far -= line is not None
        return line

    def _keep(self, result: Result) -> None:
        outcome = result.outcome
        if outcome is not None and outcome.error is None and not result.replayed:
            self._progress.keep(result.item.request, result.item.time, dumps(as_kept(outcome)))

    # Threads

    def _start(self, work: Callable[[], None]) -> None:
        def run() -> None:
            # Signals are the main thread's, whose wait they then end.
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            work()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _feed(self) -> None:
        try:
            while True:
                self._room.acquire()
                if self._halt.given:
                    return
                item = next(self._items, None)
                self._events.put(item)
                if item is None:
                    return
        except BaseException as error:
            self._events.put(error)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            try:
                self._halt.obey()
                result = Result(item, self._make(item))
            except BaseException as error:
                result = Result(item, None, error)
            self._events.put(result)

    def _end(self) -> None:
        """Wait for the threads, and keep what they had finished: it is paid for."""
        for _ in self._threads:
            self._jobs.put(None)
        self._room.release()
        for thread in self._threads[1:]:  # the one that reads may wait for its input for ever
            thread.join(_GRACE)
            if thread.is_alive():
                break
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, Result):
                self._keep(event)
        self._progress.commit()
