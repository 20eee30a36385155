"""`--batch FILE`: a file of prompts as JSON lines, answered as JSON lines, several at once.

A result has the line's `index` (from 0, blank lines not counted) and `id`, the members of `--json` (whose `id` is
here the `call_id`), and, where something went wrong, those of an error. Each line is a call of its own, with its own
tags, tries and line in the log.

What is answered is recorded before it is printed, so a batch that was broken off goes on where it was, when the
same command is run again: recorded answers are printed at no cost (`replayed`), and failed items are tried again.
A line that changed is a new request. The record belongs to the file and the options that shape its requests, or to
`--idempotency-key NAME`, and lives as long as what is private does (`private_days`); a new name begins anew. What
comes from a pipe can only go on under a name.
"""

from __future__ import annotations

import os
import signal
import stat
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager

from callmeter.cli.answering import as_json
from callmeter.cli.batch_bar import Bar, Tally
from callmeter.cli.batch_lines import identity, parse, source, too_long
from callmeter.cli.calling import Given, One
from callmeter.cli.templates import Template
from callmeter.cli.world import World
from callmeter.flows.batch import Batch, Item, Result
from callmeter.flows.call import make_call
from callmeter.flows.halting import Halt
from callmeter.flows.pricing import Known
from callmeter.flows.terms import Call, Outcome
from callmeter.providers.wire import Transport
from callmeter.store.batch_progress import BatchProgress
from callmeter.store.private import BATCHES, open_room
from callmeter.words.errors import Busy, CallmeterError, Exit, Stopped, UsageError
from callmeter.words.jsontext import dumps
from callmeter.words.lines import Line, lines

MAX_CONCURRENCY = 256
_MINUTE = 60.0

# Options that go with one call only.
_ALONE = ("continue_", "conversation")
# What shapes the requests of a batch, beside its lines.
_SHAPING = (
    *("model", "fallback_model", "provider", "base_url", "system", "option", "schema", "max_tokens"),
    *("template", "param", "file", "attachment"),
)


class BatchFailed(CallmeterError):
    """Some items have no answer: with the status that all of them have, or 9 when they failed in several ways."""

    code = "batch_failed"

    def __init__(self, tally: Tally) -> None:
        ways = ", ".join(f"{count} {code}" for code, count in sorted(tally.failed.items()))
        super().__init__(
            f"{tally.failures} of {tally.items} items failed: {ways}",
            "run the same command again: what is answered is not paid for again",
        )
        self.exit_status = next(iter(tally.statuses)) if len(tally.statuses) == 1 else Exit.INCOMPLETE


def run_batch(world: World, given: Given) -> int:
    """Answer a batch and give 0. Raises BatchFailed after the last result, UsageError before the first."""
    for name in _ALONE:
        if given[name]:
            option = "-c" if name == "continue_" else f"--{name}"
            raise UsageError(f"{option} does not go with --batch", "give a line `messages` instead")
    if given["prompt"] is not None:
        raise UsageError("a prompt does not go with --batch", "put it before each line's with `-t` or `-s`")
    if "-" in [*_list(given["file"]), *_list(given["attachment"])]:
        raise UsageError("`-` does not go with --batch: standard input may be the batch", "name a file")
    return _Run(world, given).run()


class _Run:
    """One run of a batch."""

    def __init__(self, world: World, given: Given) -> None:
        self.world = world
        self.given = given
        self.concurrency = _concurrency(given["concurrency"])
        self.halt = Halt()
        self.tally = Tally()
        self.template = None if given["template"] is None else Template(world, str(given["template"]))
        self.path = str(given["batch"])
        self._bar = Bar(world.out, self.tally)
        self._printing = False
        self._prices: Known = {}
        self._forget_at = 0.0
        self._transports: dict[str, Transport] = {}
        self._local: tuple[str, str | None] | None = None
        self._starting = threading.Lock()

    def run(self) -> int:
        world, tally = self.world, self.tally
        stdin = world.stdin
        stream = source(self.path, None if stdin is None else stdin.buffer)
        assert world.policy  # what is lazy is made before there are threads
        try:
            with self._progress(stream) as progress:
                self._answer(lines(stream.read), progress, _size(stream))
        except (KeyboardInterrupt, Stopped):
            world.out.note(f"callmeter: note: stopped after {tally.text()}")
            raise
        if world.settings.flag("usage", _flag(self.given["usage"])):
            world.out.say(f"callmeter: {tally.text()}")
        elif self.given["dry_run"]:
            world.out.note(f"callmeter: note: {tally.text()}")
        elif tally.replayed:
            world.out.note(f"callmeter: note: {tally.replayed} of {tally.items} answers come from the record")
        if tally.failures:
            raise BatchFailed(tally)
        return 0

    def _answer(self, found: Iterator[Line], progress: BatchProgress, size: int | None) -> None:
        batch = Batch(
            (self._compose(position, line) for position, line in enumerate(found)),
            self._make,
            self._show,
            progress,
            self.halt,
            concurrency=self.concurrency,
            in_order=not self.given["as_completed"],
        )
        with self._signals(batch), self._bar.over(size), closing(batch.lines()) as results:
            try:
                for line in results:
                    self._printing = True
                    self.world.out.text(line)
                    self._printing = False
            except BaseException as reason:
                self.halt.order(reason)
                raise

    # What the batch calls: the first two in its threads

    def _compose(self, position: int, line: Line) -> Item:
        """An item of a line: its call, or why it has none."""
        place = f"{self.path}:{line.number}"
        item = Item(position, place, line.end)
        try:
            if line.data is None:
                raise too_long(place)
            item.id = identity(line.data)
            said = parse(line.data, place)
            given = {**self.given, **said.given}
            for name in ("option", "param"):
                given[name] = [*_list(self.given[name]), *_list(said.given[name])]
            one = One(self.world, given)
            one.history = said.messages
            one.known_prices = self._known_prices()
            one.line_tags = said.tags
            if self.template is not None:
                one.template_tags = self.template.fill(self.world, given, piped=False)
            elif given["param"]:
                raise UsageError(f"{place}: `params` goes with a template", "add `-t NAME`", code="bad_line")
            call = one.prepare()
            if given["dry_run"]:
                item.about = one.preview(call)
            else:
                item.about, item.call = one, call
        except Exception as error:
            item.error = error
        return item

    def _make(self, item: Item) -> Outcome:
        one, call = item.about, item.call
        assert isinstance(one, One)
        assert call is not None
        self._find_local(one, call)
        means = one.means(call, lambda text: self.halt.obey())
        # One transport for each endpoint: certificates are loaded once.
        means.transport = self._transports.setdefault(call.provider.base_url, self.halt.over(means.transport))
        means.sleep = self.halt.sleep
        outcome = make_call(call, means)
        outcome.warnings[:0] = one.warnings
        return outcome

    def _show(self, result: Result) -> str:
        """A result as a line, counted."""
        item, outcome, error = result.item, result.outcome, result.error
        members: dict[str, object] = {"index": item.position, "id": item.id}
        if isinstance(item.about, dict):
            members.update(item.about)
            self.tally.estimate(item.about["estimate"])
        elif isinstance(item.about, One) and outcome is not None:
            text, error = item.about.shape(outcome)
            said = as_json(outcome, text, replayed=result.replayed)
            members["call_id"] = said.pop("id")
            members.update(said)
        failure = None if error is None else self._named(error)
        if failure is not None:
            members.update(failure.as_json())
        self.tally.count(item.end, outcome, failure, replayed=result.replayed)
        self._bar.draw()
        return dumps(members)

    def _named(self, error: BaseException) -> CallmeterError:
        """An error that can be printed. A defect on one line does not end the others; -v shows where it is."""
        if isinstance(error, CallmeterError):
            return error
        if self.world.out.verbose:
            self.world.out.say("".join(traceback.format_exception(error)))
        return CallmeterError(f"an unexpected failure: {type(error).__name__}: {error}", code="internal")

    def _known_prices(self) -> Known:
        """Prices are looked up once a minute: they change with the hour at some providers."""
        now = self.world.monotonic()
        if now >= self._forget_at:
            self._prices = {}
            self._forget_at = now + _MINUTE
        return self._prices

    def _find_local(self, one: One, call: Call) -> None:
        """Start the local model, or find it: once, and not for each call."""
        if call.provider.name != "local" or call.provider.base_url:
            return
        with self._starting:
            if self._local is None:
                one.find_local(call.provider)
                self._local = call.provider.base_url, one.local_key
        call.provider.base_url, one.local_key = self._local

    # The record and the signals

    @contextmanager
    def _progress(self, stream: object) -> Iterator[BatchProgress]:
        """The batch's record, held."""
        world, key = self.world, self.given["idempotency_key"]
        room = open_room(world.paths.private, BATCHES, world.settings.number("private_days"), world.clock())
        if self.given["dry_run"] or (key is None and _size(stream) is None):
            # Nobody can come back to it.
            progress = BatchProgress(room.path(f"once {os.urandom(16).hex()}", ".db"))
            try:
                yield progress
            finally:
                progress.close(remove=True)
            return
        shape = [os.path.realpath(self.path), *(_list(self.given[name]) or self.given[name] for name in _SHAPING)]
        name = f"file {dumps(shape)}" if key is None else f"key {key}"
        lock = room.lock(name, 1.0)
        try:
            lock.__enter__()
        except Busy as busy:
            raise Busy(
                f"this batch is running: {busy.message}",
                "wait for it, or give this one a record of its own: `--idempotency-key NAME`",
                retry_after=busy.details.get("retry_after"),
            ) from None
        try:
            with closing(BatchProgress(room.path(name, ".db"))) as progress:
                yield progress
        finally:
            lock.__exit__(None, None, None)

    @contextmanager
    def _signals(self, batch: Batch) -> Iterator[None]:
        """Signals ask the batch to stop, instead of breaking in where a paid answer is in the main thread's hands.
        While it prints, which may take for ever, and the second time, they break in as ever."""

        def stop(number: int, frame: object) -> None:
            reason = KeyboardInterrupt() if number == signal.SIGINT else Stopped(Exit.TERMINATED)
            if self._printing or self.halt.given:
                raise reason
            batch.stop(reason)

        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _concurrency(wanted: object) -> int:
    text = "8" if wanted is None else str(wanted)
    if text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MAX_CONCURRENCY:
        return int(text)
    raise UsageError(
        f"--concurrency {text}: a whole number from 1 to {MAX_CONCURRENCY} is wanted", "leave it out for 8"
    )


def _size(stream: object) -> int | None:
    """The size of a regular file; None for what cannot be read again, such as a pipe."""
    try:
        found = os.fstat(stream.fileno())  # type: ignore[attr-defined]
    except (OSError, AttributeError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _list(values: object) -> list[object]:
    return list(values) if isinstance(values, list | tuple) else []


def _flag(value: object) -> bool | None:
    return None if value is None else bool(value)
