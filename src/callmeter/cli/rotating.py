"""What `budget rotate-key` works with, which keys it means, and what it says of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from callmeter.cli.account import account_of, is_good
from callmeter.cli.auditing import audit
from callmeter.cli.reading import Clock, open_usage
from callmeter.cli.trial_calls import try_models
from callmeter.cli.world import World
from callmeter.flows.rotation_run import Bench, Progress, Use, Wishes
from callmeter.policy.rotation import Rotation, due_at, is_due, next_reset, read_rotation
from callmeter.reports.report import Column, Kind, Report, Row
from callmeter.secrets.holders import holders
from callmeter.secrets.registry import Entry
from callmeter.store.rotation_journal import journal_of, read_journal
from callmeter.words.errors import Exit, UsageError
from callmeter.words.instant import parse_instant, text_of
from callmeter.words.period import Period

_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Due:
    """Whether a key is to be rotated now, and if not, when: `why` is for people."""

    now: bool
    why: str
    at: datetime | None = None


def bench_of(world: World) -> Bench:
    """What rotations of this world work with."""
    return Bench(
        registry=world.paths.keys,
        stores=world.stores,
        journals=world.paths.rotations,
        management=lambda entry: account_of(world, entry.provider, entry.base_url),
        answers=lambda entry, secret: is_good(world, entry, secret),
        uses=lambda fingerprint, since: uses_of(world, fingerprint, since),
        calls=lambda entry, secret, models: try_models(world, entry, secret, list(models)),
        audit=audit(world),
        who=f"{world.who}, process {world.pid}",
        now=world.now,
        monotonic=world.monotonic,
        pause=world.sleep,
        tell=lambda line: world.out.note(f"callmeter: {line}"),
        warn=world.out.warn,
    )


def uses_of(world: World, fingerprint: str, since: datetime) -> list[Use]:
    """Who used a key since then, by the usage log, and which programs have it from `keys exec`; the latest first."""
    usage = open_usage(world, None, Clock(world, None))
    found = usage.groups(("agent",), period=Period(since, None, ""), where=(f"key_fingerprint={fingerprint}",))
    uses = [Use(names[0], parse_instant(figures.last)) for names, figures in found if figures.last is not None]
    now = world.now()
    uses += [
        Use(f"{held.program} (process {held.pid}, by `keys exec`)", now)
        for held in holders(world.paths.holders)
        if held.fingerprint == fingerprint
    ]
    return sorted(uses, key=lambda use: use.last, reverse=True)


def rotation_of(world: World, label: str) -> Rotation | None:
    """The latest rotation of a key, as its journal has it; None when there never was one."""
    return read_rotation(read_journal(journal_of(world.paths.rotations, label)))


def due_of(world: World, entry: Entry) -> Due:
    """Whether a key is due: older than its period, or expiring within a fortnight; better on its limit's first day."""
    every = timedelta(days=world.settings.number("rotate_every"))
    if entry.rotate_every:
        every = span_in(entry.rotate_every, "rotate_every")
    at = due_at(entry.last_rotated or entry.created, entry.expires, every)
    now, wait = is_due(world.now(), at, entry.expires, entry.budget_reset)
    if at is None:
        return Due(False, "nobody knows how old it is: see `budget keys show`")
    if now:
        return Due(True, "it is older than its period" if at <= world.now() else "it is due before the next reset", at)
    if wait is not None:
        return Due(False, "it is due, and waits for the reset of its limit", wait)
    return Due(False, "not due yet", at)


def span_in(text: str, option: str) -> timedelta:
    """`30m`, `24h`, `3d`, `2w`. Raises UsageError."""
    digits, size = text.strip()[:-1], _SPANS.get(text.strip()[-1:], 0)
    if not size or not digits.isascii() or not digits.isdigit() or len(digits) > 4:
        raise UsageError(f"{option} {text!r} is not a span", "write `30m`, `24h`, `3d` or `2w`", code="bad_time")
    return timedelta(seconds=int(digits) * size)


def progress_report(progress: Iterable[Progress], failures: Sequence[tuple[str, str]], title: str, none: str) -> Report:
    """A row for each key: how far its rotation is, when to run again, and why. `none` is said when there is none."""
    columns = [
        Column("label", "key", Kind.TEXT),
        Column("state", "state", Kind.TEXT),
        Column("until", "run again", Kind.INSTANT, optional=1),
        Column("in_use_by", "old key used by", Kind.TEXT, optional=2),
        Column("detail", "what", Kind.TEXT),
    ]
    rows = [
        Row(
            {
                "label": each.label,
                "state": each.state,
                "until": text_of(each.until) if each.until else None,
                "in_use_by": ", ".join(use.agent for use in each.uses) or None,
                "detail": each.detail,
            }
        )
        for each in progress
    ]
    rows += [
        Row({"label": label, "state": "failed", "until": None, "in_use_by": None, "detail": message})
        for label, message in failures
    ]
    return Report(title, columns, rows, notes=[] if rows else [none])


def status_of(world: World, entries: Iterable[Entry], every: bool) -> list[Progress]:
    """Where the rotations of keys stand, and which are due; `every`: also those that need nothing."""
    found = []
    for entry in entries:
        rotation = rotation_of(world, entry.label)
        if rotation is not None and rotation.open:
            uses = uses_of(world, rotation.old_fingerprint, rotation.swapped) if rotation.swapped else []
            what, until = _stands(rotation, world.now())
            why = f"{what}; begun on {rotation.began:%Y-%m-%d %H:%M} UTC by {rotation.by}"
            found.append(Progress(entry.label, rotation.state, False, why, until, uses))
        elif rotation is not None and rotation.unsettled:
            why = "taken back; a key may still appear, or a limit is still to be made whole"
            found.append(Progress(entry.label, rotation.state, False, why))
        else:
            due = due_of(world, entry)
            if due.now or every:
                found.append(Progress(entry.label, "due" if due.now else "ok", not due.now, due.why, due.at))
    return found


def _stands(rotation: Rotation, now: datetime) -> tuple[str, datetime | None]:
    """Where an open rotation stands, for people, and when there is something to do."""
    if rotation.backing:
        return "being taken back: run it again", None
    if rotation.before_swap:
        return "the new key is not in use yet: run it again", None
    if rotation.state == "swapped":
        return "callers have the new key, and the old one stays good for now", rotation.grace_until
    if rotation.state == "disabled" and rotation.disabled is not None:
        return "the old key is disabled, and is deleted later", rotation.disabled + Wishes.delete_after
    if rotation.state == "deleted":
        return "a request to mint was never answered, and may still take effect", rotation.may_appear(now)
    return "the old key is gone; the limit is what it left, until the reset", next_reset(now, rotation.window)


def exit_status(progress: Iterable[Progress], failed: bool) -> int:
    """0 when all is done, 3 when some wait, 7 when some failed."""
    if failed:
        return Exit.UNAVAILABLE
    return Exit.DONE if all(each.done for each in progress) else Exit.REFUSED
