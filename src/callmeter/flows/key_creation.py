"""A key for an agent or a user that has none, minted with a ceiling: like the beginning of a rotation, journal and all.

The key is worth a cent until it is tested and registered; a run that was interrupted is finished, or taken back, by the
same command. So no key with a real limit is ever lost between the provider and the registry.
"""

from __future__ import annotations

import os
from datetime import datetime
from decimal import Decimal
from typing import Any

from callmeter.flows.key_guards import guard_models
from callmeter.flows.keys import require_free
from callmeter.flows.rotation_mint import mint_key, try_key
from callmeter.flows.rotation_run import Bench, Run, Wishes
from callmeter.secrets.registry import Entry
from callmeter.secrets.registry_file import RegistryFile, changed
from callmeter.secrets.store import CURRENT
from callmeter.store.rotation_journal import Journal
from callmeter.words.errors import NoKey, Unavailable, UsageError
from callmeter.words.instant import text_of
from callmeter.words.money import nano, usd


def create_key(
    entry: Entry, bench: Bench, *, limit: Decimal | None, expires: datetime | None
) -> tuple[Entry, list[str]]:
    """Mint, store and register a key as `entry` describes it, with a limit in USD (None: none) that resets as its
    `budget_reset` says. Gives back the entry as it is registered, and
    what the provider cannot hold of it, as sentences.

    Raises UsageError when the label, the agent or the place is taken, NoKey without a management key, Unavailable.
    """
    made = changed(
        entry,
        created=text_of(bench.now()),
        expires=text_of(expires) if expires else "",
        budget="" if limit is None else f"{limit:f}",
    )
    with Journal(bench.journals, entry.label, bench.who, bench.now()) as journal:
        run = Run(made, bench, Wishes(), journal, slot=CURRENT)
        _require_free(run)
        ceiling = None if limit is None else nano(limit)
        if run.latest is None or not run.latest.open:
            _begin(run, ceiling)
        elif run.rotation.old_fingerprint:
            raise UsageError(
                f"the key {entry.label} is being rotated",
                f"see `callmeter budget rotate-key {entry.label} --status`",
                code="key_exists",
            )
        mint_key(run)
        try_key(run)
        rotation, account = run.rotation, run.account()
        registered = changed(made, fingerprint=rotation.new_fingerprint, provider_key=rotation.new_hash)
        with RegistryFile(bench.registry) as registry:
            require_free(registry.entries, registered)
            registry.put(registered)
        try:
            warnings = guard_models(bench, registered)
        except (NoKey, Unavailable) as error:  # calls through here keep to the list all the same
            later = "run `callmeter budget quota sync`"
            warnings = [f"the provider does not hold the model list yet: {error.message}; {later}"]
        run.record("ceiling", limit=ceiling)
        account.change(
            rotation.new_hash,
            {"limit": None if ceiling is None else usd(ceiling), "limit_reset": entry.budget_reset or None},
        )
        run.record("done")
        return registered, warnings


def _require_free(run: Run) -> None:
    with RegistryFile(run.bench.registry) as registry:
        known = registry.entries.get(run.label)
        going = run.latest is not None and run.latest.open
        if known is not None and not (going and known.fingerprint == run.rotation.new_fingerprint):
            raise UsageError(
                f"there is a key {run.label} already",
                f"rotate it with `callmeter budget rotate-key {run.label}`, or choose another `--label`",
                code="key_exists",
            )
        if known is None:
            require_free(registry.entries, run.entry)
            if not going and run.read() is not None:
                raise UsageError(
                    f"there is a key already at {run.store.describe(run.name)}, which is not registered",
                    "register it with `callmeter budget keys add --existing`, or choose another `--label`",
                )


def _begin(run: Run, ceiling: int | None) -> None:
    facts: dict[str, Any] = {
        "id": os.urandom(4).hex(),
        "by": run.bench.who,
        "old_hash": "",
        "old_fingerprint": "",
        "base": ceiling,
        "full": ceiling,
        "window": run.entry.budget_reset,
        "grace": 0,
    }
    run.record("begin", **facts)
