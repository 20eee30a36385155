"""What `callmeter doctor` looks at. Each function looks at one thing, cheaply, and changes nothing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import callmeter
from callmeter.flows.key_places import WORTH, advice, standing
from callmeter.flows.keys import states_of, where_it_lies
from callmeter.ledger.open_ledger import open_ledger, without_password
from callmeter.ledger.protocol import Window
from callmeter.secrets.environment import variable_for
from callmeter.secrets.holders import holders
from callmeter.secrets.open_store import Stores
from callmeter.secrets.registry import Entry
from callmeter.store.files import is_locked
from callmeter.store.inflight import SUFFIX
from callmeter.store.places import Places
from callmeter.store.price_table import read_listing, shipped_version
from callmeter.store.usage_log import opened
from callmeter.store.usage_tail import lines_backwards
from callmeter.words.errors import CallmeterError
from callmeter.words.instant import parse_instant
from callmeter.words.origin import origin_of
from callmeter.words.record import parse_record
from callmeter.words.wording import counted

OK, WARN, BAD = "ok", "warn", "bad"
_TAIL = 1000
_MEBIBYTE = 1 << 20
_MONTH, _FORTNIGHT, _WEEK = timedelta(days=30), timedelta(days=14), timedelta(days=7)


class Check:
    """One line: what was looked at, `ok`, `warn` or `bad`, what was found, and what to do about it."""

    def __init__(self, area: str, state: str, found: str, hint: str = "") -> None:
        self.area = area
        self.state = state
        self.found = found
        self.hint = hint


def installation(env: Mapping[str, str]) -> Iterator[Check]:
    """Which program runs, whether agents find the same one, and whether it starts as fast as it can."""
    version = ".".join(map(str, sys.version_info[:3]))
    here = os.path.join(sys.prefix, "bin")
    found = shutil.which("llm-call", path=env.get("PATH", os.defpath))
    what = f"callmeter {callmeter.__version__} on Python {version} in {sys.prefix}"
    if found is None:
        yield Check("installation", WARN, f"{what}; `llm-call` is not on PATH", f"add {here} to PATH")
    elif f"{os.sep}shims{os.sep}" in found:
        yield Check("installation", WARN, f"{found} is a shim, which costs more than the call", f"put {here} before it")
    elif os.path.dirname(os.path.realpath(found)) != os.path.realpath(here) and not _runs_here(found):
        yield Check(
            "installation", WARN, f"{what}; `llm-call` on PATH is another one: {found}", f"put {here} before it"
        )
    else:
        yield Check("installation", OK, what)
    yield _bytecode(env)
    yield _log_reader()


def _runs_here(script: str) -> bool:
    """Whether a script's first line names this interpreter: uv and pipx link their scripts elsewhere."""
    try:
        with open(script, "rb") as file:
            return os.fsencode(sys.prefix) in file.readline(500)
    except OSError:
        return False


def _bytecode(env: Mapping[str, str]) -> Check:
    package = Path(callmeter.__file__).parent
    sources = list(package.rglob("*.py"))
    missing = [path for path in sources if not os.path.exists(importlib.util.cache_from_source(str(path)))]
    # Which ones a command needs is not known here; a few that no command has used yet are no harm.
    if len(missing) * 2 <= len(sources):
        return Check("bytecode", OK, f"{len(sources) - len(missing)} of {len(sources)} modules are compiled")
    blocked = env.get("PYTHONDONTWRITEBYTECODE") or not os.access(package, os.W_OK)
    if not blocked:
        return Check("bytecode", OK, "not compiled yet; the first runs do that")
    return Check(
        "bytecode",
        WARN,
        "the program is compiled anew at each start, which makes it about five times slower",
        f"run `{sys.executable} -m compileall -q {package}`, or install with `uv tool install --compile-bytecode`",
    )


def _log_reader() -> Check:
    from callmeter.store.index_native import native

    if native() is not None:
        return Check("log reader", OK, "compiled")
    slower = "a first report on a long log takes about four times as long"
    return Check("log reader", OK, f"not compiled, as there was no C compiler: {slower}")


def permissions(places: Places) -> Iterator[Check]:
    """Who else could change, or read, what nobody else should."""
    shared = {
        places.config_dir: "directory of the configuration",
        places.state_dir: "directory of the state",
        places.settings: "settings",
        places.policy: "policy",
        places.keys: "key registry",
        places.prices: "prices",
        places.log: "usage log",
        places.ledger: "ledger",
        places.audit: "audit log",
        places.approvals: "approvals",
    }
    private = {places.secrets: "keys", places.private: "kept texts", places.holders: "programs with a key"}
    looked, faults = 0, 0
    for path, what in {**shared, **private}.items():
        try:
            found = os.stat(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Check("permissions", BAD, f"{path}: {(error.strerror or '').lower()}", f"see `ls -ld {path}`")
            continue
        looked += 1
        mode = stat.S_IMODE(found.st_mode)
        if path in private and mode & 0o077:
            state, wrong, mend = BAD, "is open to other users", "chmod go-rwx"
        elif mode & 0o002:
            state, wrong, mend = BAD, "can be changed by every user", "chmod o-w"
        elif mode & 0o020 and path in (places.keys, places.settings, places.config_dir):
            state, wrong, mend = WARN, "can be changed by its group", "chmod g-w"
        elif found.st_uid not in (os.geteuid(), 0):
            state, wrong, mend = WARN, f"belongs to another user (uid {found.st_uid})", "ls -ld"
        else:
            continue
        faults += 1
        yield Check("permissions", state, f"{path} ({what}) {wrong} (mode {mode:04o})", f"run `{mend} {path}`")
    if not faults:
        yield Check("permissions", OK, f"{looked} files and directories; nobody else can change them")


def keys(entries: Sequence[Entry], stores: Stores, places: Places, now: datetime) -> Iterator[Check]:
    """Where each key lies and how well, and whether it can be used; those that are well together, store by store."""
    states = states_of(entries, stores, now)
    well: dict[str, list[str]] = {}
    for entry in sorted(entries, key=lambda entry: (standing(entry).rank, entry.label)):
        state = states[entry.label]
        what = f"{entry.label}: {where_it_lies(entry, stores)}"
        replace = f"callmeter budget keys add --label {entry.label} --replace"
        if state == "expired":
            yield Check("keys", BAD, f"{what}; it has expired", f"run `{replace}`")
        elif state == "changed":
            yield Check("keys", WARN, f"{what}; it is another key than the registered one", f"run `{replace}` with it")
        elif state == "missing" and standing(entry).weak:
            yield Check("keys", BAD, f"{what}, which is not set", "set it, or move the key to a store")
        elif state == "missing":
            yield Check("keys", BAD, f"{what}; there is none", f"run `{replace}`")
        elif state in ("unsafe", "unreachable"):
            reason, hint = _why_not(entry, stores)
            yield Check("keys", BAD, f"{entry.label}: {reason}", hint)
        elif entry.copy:
            mend = f"run `callmeter budget keys move {entry.label} {entry.secret}`"
            yield Check("keys", WARN, f"{what}; a move to or from {entry.copy} was interrupted", mend)
        elif entry.expires is not None and entry.expires - now < _FORTNIGHT:
            yield Check("keys", WARN, f"{what}; it expires on {entry.expires:%Y-%m-%d}", f"run `{replace}` before that")
        elif standing(entry).weak:
            yield Check("keys", WARN, f"{what}: {standing(entry).worth}", f"run `{advice(entry)}`")
        else:
            plain = entry.secret == f"file:{entry.label}"  # it lies where its label says
            place = entry.label if plain else f"{entry.label} ({where_it_lies(entry, stores)})"
            well.setdefault(standing(entry).store, []).append(place)
    for store, labels in well.items():
        where = stores.directory if store == "file" else f"`{store}:`"
        yield Check("keys", OK, f"{counted(len(labels), 'key')} in {where}: {', '.join(labels)}; {WORTH[store]}")
    running = holders(places.holders)
    if running:
        named = ", ".join(f"{holder.program} (process {holder.pid}) with {holder.label}" for holder in running[:5])
        more = f" and {len(running) - 5} more" if len(running) > 5 else ""
        yield Check("keys", OK, f"given out by `keys exec`, until these end: {named}{more}")


def unregistered_key(env: Mapping[str, str], base_url: str, needed: bool) -> Check | None:
    """What a call without a registered key would use."""
    try:
        variable = variable_for(env, origin_of(base_url))
    except ValueError:
        variable = None
    add = "run `callmeter budget keys add AGENT`"
    if variable:
        return Check("keys", WARN, f"none is registered; calls use {variable}, which all that runs here shares", add)
    return Check("keys", WARN, "none is registered, and the provider wants one", add) if needed else None


def _why_not(entry: Entry, stores: Stores) -> tuple[str, str]:
    """Why a key cannot be read, and what to do."""
    try:
        store, name = stores.open(entry.secret)
        store.read(name)
    except CallmeterError as error:
        return error.message, error.hint
    return "it could not be read a moment ago, and now it can", ""


def log(path: str, state_dir: str, now: datetime) -> Iterator[Check]:
    """The end of the usage log, whether it can be written to, the disk below it, and the clock against it."""
    file = opened(path)
    closed = [place for place in ([] if file else [path]) + [state_dir] if not _may_write(place)]
    if closed:
        yield Check(
            "usage log",
            BAD,
            f"this user cannot write to {' and '.join(closed)}, so no call is made",
            f"see `ls -ld {closed[-1]}`, or set `CALLMETER_HOME` to a directory that you can write to",
        )
    elif file is None:
        yield Check("usage log", OK, f"{path} begins with the first call")
    if file is not None:
        with file:
            size = os.fstat(file.fileno()).st_size
            lines = list(islice(lines_backwards(file), _TAIL))
        yield from _log_lines(path, size, lines, now)
    yield _space(state_dir)


def _may_write(path: str) -> bool:
    """Whether this user can write to a file or directory, or make it where there is none yet."""
    found = path
    while not os.path.lexists(found) and os.path.dirname(found) != found:
        found = os.path.dirname(found)
    return os.access(found, os.W_OK) and (found == path or os.path.isdir(found))


def _log_lines(path: str, size: int, lines: Sequence[bytes], now: datetime) -> Iterator[Check]:
    torn, whole = bool(lines and lines[0]), [line for line in lines[1:] if line]
    records = []
    for line in whole:
        try:
            records.append(parse_record(line))
        except ValueError:
            pass
    bad = len(whole) - len(records)
    what = f"{path}, {size / _MEBIBYTE:,.1f} MiB"
    if not os.access(path, os.W_OK):
        yield Check("usage log", BAD, f"{what} cannot be written to: no call can be made", f"see `ls -l {path}`")
    elif bad:
        found = f"{what}: {bad} of the last {len(whole)} lines are no usage lines, and count nowhere"
        yield Check("usage log", WARN, found, "run `callmeter budget log verify`")
    elif torn:
        yield Check("usage log", WARN, f"{what} ends in half a line", "the next call seals it")
    elif size > 1024 * _MEBIBYTE:
        yield Check("usage log", WARN, f"{what} is long", "run `callmeter budget log close`, and have cron do so")
    else:
        lately = "its last line is" if len(whole) == 1 else f"its last {len(whole)} lines are"
        yield Check("usage log", OK, f"{what}; {lately} whole")
    latest = max((parse_instant(record.timestamp) for record in records), default=None)
    if latest is not None and latest > now + timedelta(minutes=2):
        found = f"the log has a call of {latest:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M} UTC now"
        yield Check("clock", BAD, found, "set the clock; quotas and keys end at the wrong moment")
    else:
        yield Check("clock", OK, f"{now:%Y-%m-%d %H:%M:%S} UTC, not before the latest call")


def _space(directory: str) -> Check:
    while not os.path.isdir(directory) and directory != os.path.dirname(directory):
        directory = os.path.dirname(directory)
    free = shutil.disk_usage(directory).free // _MEBIBYTE
    what = f"{free:,} MiB free below {directory}"
    if free < 16:
        return Check("disk", BAD, f"{what}: a call that cannot be logged is not made", "make room")
    return Check("disk", WARN if free < 256 else OK, what, "make room" if free < 256 else "")


def ledger(address: str, wanted: bool) -> Check:
    """Whether the ledger answers. Raises LedgerProblem."""
    shown = without_password(address)
    if not wanted:
        return Check("ledger", OK, "not used: the policy has no quotas")
    if "://" not in address and not os.path.exists(address):
        return Check("ledger", OK, f"{shown} begins with the first call")
    open_ledger(address).standings([Window("total", "life", 0, 0)])
    return Check("ledger", OK, f"{shown} answers")


def prices(cache_dir: str, provider: str, now: datetime) -> Check:
    """How old the prices are that calls are estimated by."""
    listing = read_listing(cache_dir, provider)
    source, date = ("the provider's", listing[0]) if listing else ("the shipped table's", shipped_version()[1])
    age = now - parse_instant(date if "T" in date else f"{date}T00:00:00Z")
    what = f"{source} prices of {date[:10]}, {max(0, age.days)} days old"
    if age > (_WEEK if listing else _MONTH):
        return Check("prices", WARN, what, "run `callmeter prices refresh`, and have cron do so")
    return Check("prices", OK, what)


def left_over(places: Places) -> Iterator[Check]:
    """Calls of dead processes, and keys that a crash left half written."""
    dead = [name for name in _names(places.inflight) if name.endswith(SUFFIX)]
    dead = [name for name in dead if not is_locked(os.path.join(places.inflight, name))]
    if dead:
        found = f"{counted(len(dead), 'call')} of processes that died, not in the log yet"
        yield Check("unfinished", WARN, found, "run `callmeter budget recover`; the next call does it too")
    half = [name for name in _names(places.secrets) if name.endswith(".tmp")]
    if half:
        found = f"{counted(len(half), 'half-written key')} in {places.secrets}"
        yield Check("unfinished", WARN, found, "run `callmeter budget keys add … --replace`; each writer removes them")
    if not dead and not half:
        yield Check("unfinished", OK, "nothing was left by a crash")


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
