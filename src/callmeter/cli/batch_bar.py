"""How far a batch is: the tally of its results, and the bar that shows it to a person."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

from callmeter.cli.output import Output
from callmeter.flows.terms import Outcome
from callmeter.words.errors import CallmeterError, Exit
from callmeter.words.money import nano, shown

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PAUSE = 0.1


class Tally:
    """Counts and sums of a batch's results. Costs are those of this run: what is replayed costs nothing."""

    def __init__(self) -> None:
        self.items = 0
        self.replayed = 0
        self.failed: Counter[str] = Counter()
        self.statuses: set[Exit] = set()
        self.cost = Decimal(0)
        self.unknown_costs = 0
        self.reached = 0
        self.estimates = 0
        self.expected: Decimal | None = Decimal(0)
        self.worst: Decimal | None = Decimal(0)

    @property
    def failures(self) -> int:
        """How many items have an error."""
        return self.failed.total()

    def count(self, end: int, outcome: Outcome | None, error: CallmeterError | None, *, replayed: bool) -> None:
        """Count one result; `end` is the byte of the file after its line."""
        self.items += 1
        self.reached = max(self.reached, end)
        if error is not None:
            self.failed[error.code] += 1
            self.statuses.add(error.exit_status)
        if replayed:
            self.replayed += 1
        elif outcome is not None:
            if outcome.cost is None:
                self.unknown_costs += 1
            else:
                self.cost += outcome.cost

    def estimate(self, estimate: dict[str, Decimal | None]) -> None:
        """Add what one call may cost, which is not made. One that is unknown makes the sum unknown."""
        self.estimates += 1
        expected, worst = estimate["expected"], estimate["worst_case"]
        self.expected = None if self.expected is None or expected is None else self.expected + expected
        self.worst = None if self.worst is None or worst is None else self.worst + worst

    def text(self) -> str:
        """`120 items: 118 answered (20 from the record), 2 failed; cost $0.0312`."""
        if self.estimates:
            return (
                f"{self.items} items: {self.items - self.failures} would be sent; "
                f"{_money(self.expected)} expected, at most {_money(self.worst)}"
            )
        record = f" ({self.replayed} from the record)" if self.replayed else ""
        failed = f", {self.failures} failed" if self.failures else ""
        unknown = f" and {self.unknown_costs} of unknown cost" if self.unknown_costs else ""
        answered = self.items - self.failures
        return f"{self.items} items: {answered} answered{record}{failed}; cost {_money(self.cost)}{unknown}"


def _money(amount: Decimal | None) -> str:
    return shown(None if amount is None else nano(amount))


class Bar:
    """A progress bar on stderr, for a person: not with -q, and not where results appear on the same terminal."""

    def __init__(self, out: Output, tally: Tally) -> None:
        self._out = out
        self._tally = tally
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._drawn = 0.0

    @contextmanager
    def over(self, size: int | None) -> Iterator[None]:
        """Show the bar for a `with` block. `size` is the file's, None when nobody knows."""
        out = self._out
        if out.quiet or not out.errors_to_terminal or out.to_terminal:
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        self._progress = Progress(
            *columns,
            console=Console(file=out.stderr),
            auto_refresh=False,  # it would be a thread of its own
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with self._progress:
            self._task = self._progress.add_task("", total=size)
            yield
        self._progress = None

    def draw(self) -> None:
        """Show how far it is, at most ten times a second."""
        now = time.monotonic()
        if self._progress is None or self._task is None or now - self._drawn < _PAUSE:
            return
        self._drawn = now
        self._progress.update(self._task, completed=self._tally.reached, description=self._tally.text(), refresh=True)
