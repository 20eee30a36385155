"""Where a live view gets its figures: the log as it grows, the calls that run, quotas, requests and freezes.

Nothing that goes wrong after the beginning ends the view: it says so, and goes on with what it has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, tzinfo

from callmeter.cli.ledgers import ledger_of
from callmeter.cli.reading import Clock, open_usage
from callmeter.cli.world import World
from callmeter.flows.dashboard import Dashboard, dashboard
from callmeter.flows.orphans import recover_all
from callmeter.flows.recovery import recover
from callmeter.policy.document import Policy
from callmeter.policy.quotas import Quota
from callmeter.reports.grouping import condition_of
from callmeter.reports.live import Hour, Live, Traffic, hour_of
from callmeter.reports.odd_hours import HISTORY
from callmeter.reports.quota_choice import passes
from callmeter.store.running_calls import RunningCalls
from callmeter.store.usage_tail import Follower
from callmeter.words.errors import CallmeterError
from callmeter.words.period import Period, bucket, local_time
from callmeter.words.record import UsageRecord
from callmeter.words.wording import capitalised

# Seconds: quotas are read when something has happened, and then not too often; else now and then, because other
# hosts may share the ledger.
_PAUSE = 2.0
_SHARE = 8
_AT_LEAST = 15.0
# So much of the log is shown from the beginning, even just after midnight.
_BEFORE = timedelta(hours=12)


@dataclass(frozen=True)
class Picture:
    """Everything that is shown at one moment. `minute` is the time of day, to the minute; `problems` are sentences."""

    minute: str
    zone: str
    log: str
    conditions: Sequence[str]
    traffic: Traffic
    running: Sequence[tuple[UsageRecord, int]] = ()  # and for how many seconds
    board: Dashboard = field(default_factory=Dashboard)
    problems: Sequence[str] = ()


def unused_in(traffic: Traffic) -> Callable[[Quota, str, int], bool]:
    """What tells whether a quota's bucket, by its name and what is held of it, is about a session, or the like, that is
    not in the traffic and makes no call now."""
    lately = {f"{name}:{value}" for call in traffic.calls for name, value in call.tags.items()}
    return lambda quota, bucket, held: passes(quota) and not held and bucket not in lately


class Feed:
    """Follows one log, or those that a glob names. With `log` given, only that: quotas and running calls are those of
    this machine's own log. Raises CallmeterError when it cannot begin."""

    def __init__(self, world: World, log: str | None, conditions: Sequence[str]) -> None:
        self._world = world
        self._own = log is None
        self._path = log or world.paths.log
        self._conditions = list(conditions)
        self._clock = Clock(world, None)
        self._policy: Policy = world.policy
        self._matches = condition_of(conditions, self._clock.zone, self._policy.aliases)
        # Before the log is read: no line is missed between. Those that come twice are counted once.
        self._follower = Follower(self._path)
        self._running = RunningCalls(world.paths.inflight)
        self._live = self._begun(log)
        self._board = Dashboard()
        self._wanted = 0.0
        self._allowed = 0.0
        self._marks: object = None
        self._problems: dict[str, str] = {}

    def look(self) -> Picture:
        """How things are now."""
        now = self._world.now()
        happened = self._follow(now)
        running = self._look_at_running() if self._own else []
        marks = (self._signatures(), [record.id for record in running])
        if marks != self._marks:
            self._marks, happened = marks, True
        if self._own:
            self._reread_policy()
            self._look_at_board(now, happened=happened)
        return Picture(
            minute=f"{now.astimezone(self._clock.zone):%a %Y-%m-%d %H:%M}",
            zone=str(self._clock.zone),
            log=self._path,
            conditions=self._conditions,
            traffic=self._live.traffic(now),
            running=[
                (record, max(int((now - record.instant).total_seconds()), 0))
                for record in running
                if self._matches is None or self._matches(record)
            ],
            board=self._board,
            problems=[*self._problems.values(), *self._board.notes],
        )

    def _begun(self, log: str | None) -> Live:
        zone, now = self._clock.zone, self._clock.now
        usage = open_usage(self._world, log, self._clock)
        today = bucket(now, "day", zone)[0]
        before = Period(today - timedelta(days=HISTORY + 1), today, "")
        hours: dict[Hour, int] = {}
        for (label,), figures in usage.groups(("hour",), period=before, where=self._conditions):
            place = hour_of(label)
            hours[place] = hours.get(place, 0) + figures.nano
        live = Live(zone, hours, _day_of(usage.reading.first, zone))
        recent = usage.calls(period=Period(min(today, now - _BEFORE), None, ""), where=self._conditions)
        live.add(sorted(recent, key=lambda record: (record.instant, record.duration_ms or 0)), now)
        return live

    def _follow(self, now: datetime) -> bool:
        """Whether there were new lines."""
        found = []
        try:
            for record, _ in self._follower.poll():
                found.append(record)
            self._problems.pop("log", None)
        except CallmeterError as problem:
            self._problems["log"] = f"New calls are not shown: {problem.message}."
        if self._own and "log" not in self._problems and not os.path.exists(self._path):
            self._problems["log"] = f"There is no usage log {self._path}; the next call makes one."
        self._live.add((each for each in found if self._matches is None or self._matches(each)), now)
        return bool(found)

    def _look_at_running(self) -> list[UsageRecord]:
        try:
            found = self._running.look()
        except CallmeterError as problem:
            self._problems["running"] = f"Running calls are not shown: {problem.message}."
            return []
        self._problems.pop("running", None)
        return found

    def _reread_policy(self) -> None:
        world = self._world
        if not world.policy_changed() and "policy" not in self._problems:
            return
        try:
            self._policy = world.reread_policy()
        except CallmeterError as problem:
            self._problems["policy"] = f"The policy from before is shown: {problem.message}."
        else:
            self._problems.pop("policy", None)

    def _look_at_board(self, now: datetime, *, happened: bool) -> None:
        at = self._world.monotonic()
        if happened:
            self._wanted = min(self._wanted, at)
        if at < max(self._wanted, self._allowed):
            return
        problems = self._recovered(now)

        def over() -> Callable[[Quota, str, int], bool]:
            return unused_in(self._live.traffic(now))

        found = dashboard(self._policy, lambda: ledger_of(self._world), lambda: None, self._world.paths, now, over)
        self._board = replace(found, notes=[*found.notes, *problems])
        after = self._world.monotonic()
        self._wanted = after + _AT_LEAST
        self._allowed = after + max(_PAUSE, _SHARE * (after - at))

    def _recovered(self, now: datetime) -> list[str]:
        """Finish the calls of dead processes; the sentences say of which that failed."""
        paths = self._world.paths
        try:
            if self._policy.quotas:
                done = recover_all(
                    ledger_of(self._world),
                    paths.inflight,
                    paths.log,
                    now,
                    paths.recent,
                    policy=self._policy,
                    index=paths.index,
                )
            else:
                done = recover(paths.inflight, now, recent=paths.recent)
        except CallmeterError as problem:
            return [f"Calls of dead processes are not finished: {problem.message}."]
        return [f"{capitalised(problem)}." for problem in done.problems]

    def _signatures(self) -> list[tuple[int, ...]]:
        """What tells that somebody changed what is asked, granted or stopped."""
        paths = self._world.paths
        found: list[tuple[int, ...]] = []
        for path in (paths.policy, paths.approvals, paths.requests):
            try:
                stat = os.stat(path)
            except OSError:
                found.append(())
            else:
                found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return found


def _day_of(instant: datetime | None, zone: tzinfo) -> date | None:
    return None if instant is None else local_time(bucket(instant, "day", zone)[0], zone).date()
