"""What `budget recover` does in this world, and how it tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from callmeter.cli.auditing import audit
from callmeter.cli.ledgers import ledger_of
from callmeter.cli.means import transport_of
from callmeter.cli.waiting import told
from callmeter.cli.world import World
from callmeter.flows.corrections import correct
from callmeter.flows.orphans import recover_all
from callmeter.flows.rebuild import accept_clock, catch_up, check, drop_lost, ensure, rebuild
from callmeter.flows.recovery import recover
from callmeter.ledger.protocol import DamagedLedger, Difference, LedgerProblem
from callmeter.ledger.sqlite_file import set_aside
from callmeter.providers.generation import find_usage
from callmeter.providers.presets import find_provider
from callmeter.reports.report import Cell, Column, Kind, Report, Row
from callmeter.secrets.lookup import key_for, readings
from callmeter.secrets.registry import read_registry
from callmeter.store.toml import read_toml
from callmeter.words.errors import NoKey, Refused
from callmeter.words.money import usd
from callmeter.words.record import UsageRecord


def finish(world: World) -> None:
    """Finish the calls of dead processes, correct estimated costs, tidy the ledger. Raises LedgerProblem when the
    ledger cannot be reached."""
    policy, paths, now = world.policy, world.paths, world.now()
    ledger = ledger_of(world) if policy.quotas else None
    if ledger is None:
        done = recover(paths.inflight, now, recent=paths.recent)
    else:
        done = recover_all(
            ledger, paths.inflight, paths.log, now, paths.recent, policy=policy, index=paths.index, tell=told(world)
        )
    for problem in done.problems:
        world.out.warn(problem)
    if done.unreachable:
        raise LedgerProblem("not everything is finished: the ledger is out of reach", "run it again later")
    corrections = correct(policy, ledger, paths.log, now, asking(world), index=paths.index, tell=told(world))
    for problem in corrections.problems:
        world.out.warn(problem)
    if ledger is not None:
        ensure(policy, ledger, paths.log, now, index=paths.index, tell=told(world))
        catch_up(policy, ledger, paths.log, now, index=paths.index, tell=told(world))
        ledger.prune(int(now.timestamp()))
    counts = [
        ("calls of dead processes logged", len(done.records)),
        ("costs corrected", len(corrections.records)),
        ("costs not known yet", corrections.open),
    ]
    parts = [f"{what}: {count}" for what, count in counts if count]
    world.out.note("callmeter: " + (", ".join(parts) or "nothing to finish"))


def compare(world: World) -> None:
    """Report where ledger and log differ. Raises Refused when they do."""
    paths = world.paths
    differences = check(world.policy, ledger_of(world), paths.log, world.now(), index=paths.index, tell=told(world))
    if not differences:
        world.out.note("callmeter: ledger and log agree")
        if world.out.format == "text":
            return
    world.out.report(_report("Ledger and log", differences))
    if differences:
        raise Refused(
            f"ledger and log differ in {len(differences)} window{'s' * (len(differences) != 1)}",
            "calls in flight aside, `callmeter budget recover --rebuild` makes the ledger what the log says",
            code="ledger_differs",
        )


def rebuild_ledger(world: World) -> None:
    """Make the ledger what the log says, and report what was different."""
    policy, now, paths = world.policy, world.now(), world.paths
    for _ in range(2):
        ledger = ledger_of(world)
        try:
            recover_all(
                ledger, paths.inflight, paths.log, now, paths.recent, policy=policy, index=paths.index, tell=told(world)
            )
            differences = rebuild(policy, ledger, paths.log, now, index=paths.index, tell=told(world))
            differences += drop_lost(policy, ledger, now)
            break
        except DamagedLedger:
            path = getattr(ledger, "path", "")
            moved = set_aside(path, f"damaged-{now:%Y%m%dT%H%M%S}")
            if moved:
                audit(world)("ledger.set_aside", {"ledger": path, "moved": moved})
                world.out.warn(f"the damaged ledger is now {moved}; what running calls hold is not in the new one")
    else:
        raise LedgerProblem("the ledger is damaged again and again", "look at its disk")
    if differences:
        audit(world)("ledger.rebuilt", {"windows": [_facts(each) for each in differences]})
    world.out.note(f"callmeter: the ledger was counted from the log; windows that were different: {len(differences)}")
    if differences or world.out.format != "text":
        world.out.report(_report("Counted anew", differences))


def accept(world: World) -> None:
    """Drop what a clock that was ahead has left in the ledger."""
    paths = world.paths
    dropped = accept_clock(world.policy, ledger_of(world), paths.log, world.now(), index=paths.index, tell=told(world))
    if dropped:
        audit(world)("ledger.clock_accepted", {"windows": dropped})
    world.out.note(f"callmeter: windows of the future dropped: {dropped}")


def asking(world: World) -> Callable[[UsageRecord], Any]:
    """How to ask the provider of a call what it cost; with the key that made it."""
    settings, places = world.settings, world.paths

    def ask(record: UsageRecord) -> Any:
        provider = find_provider(record.provider, settings.providers, None)
        label = None if record.key is None or record.key.startswith("env:") else record.key
        entry = key_for(
            read_registry(read_toml(places.keys, places.cache), places.keys),
            world.env,
            provider=provider.name,
            base_url=provider.base_url,
            agent=record.tags.get("agent", ""),
            environment=record.tags.get("environment", ""),
            label=label,
            now=world.now(),
        )
        assert entry is not None
        key = next(readings(entry, world.stores), None)
        if key is None:
            raise NoKey(f"the key {entry.label} is gone")
        return find_usage(
            transport_of(world, provider),
            provider,
            key.reveal(),
            record.generation_id or "",
            connect_timeout=settings.seconds("connect_timeout"),
            deadline=world.monotonic() + 30,
        )

    return ask


def _report(title: str, differences: Sequence[Difference]) -> Report:
    columns = [
        Column("bucket", "bucket", Kind.TEXT),
        Column("period", "period", Kind.TEXT),
        Column("ledger", "ledger", Kind.MONEY),
        Column("log", "log", Kind.MONEY),
        Column("difference", "difference", Kind.MONEY),
        Column("ledger_tokens", "tokens, ledger", Kind.COUNT, optional=2),
        Column("log_tokens", "log", Kind.COUNT, optional=2),
        Column("ledger_calls", "calls, ledger", Kind.COUNT, optional=1),
        Column("log_calls", "log", Kind.COUNT, optional=1),
    ]
    return Report(title, columns, [Row(_cells(each)) for each in differences])


def _cells(each: Difference) -> dict[str, Cell]:
    return {
        "bucket": each.window.bucket,
        "period": each.window.period,
        "ledger": each.settled.usd,
        "log": each.counted.usd,
        "difference": each.settled.usd - each.counted.usd,
        "ledger_tokens": each.settled.tokens,
        "log_tokens": each.counted.tokens,
        "ledger_calls": each.settled.calls,
        "log_calls": each.counted.calls,
    }


def _facts(each: Difference) -> dict[str, object]:
    return {
        "bucket": each.window.bucket,
        "period": each.window.period,
        "start": each.window.start,
        "before": usd(each.settled.usd),
        "after": usd(each.counted.usd),
    }
