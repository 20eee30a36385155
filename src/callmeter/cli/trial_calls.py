"""Real calls with a key that is not in its place yet: booked, logged and tagged like any other, one of each model."""

from __future__ import annotations

from itertools import chain

from callmeter.cli.calling import One
from callmeter.cli.lane import parse
from callmeter.cli.world import World
from callmeter.flows.call import make_call
from callmeter.flows.pricing import Quoter
from callmeter.providers.chat import Request
from callmeter.providers.presets import find_provider
from callmeter.secrets.lookup import Key
from callmeter.secrets.registry import Entry
from callmeter.secrets.secret import Secret
from callmeter.store.price_table import all_prices
from callmeter.words.errors import CallmeterError, UsageError

PURPOSE = "key_rotation"
_PROMPT, _CEILING = "Say yes.", 16


def trial_models(world: World, entry: Entry) -> list[str]:
    """A model for each name or family (`anthropic/*`) that a key is meant for: of a family the cheapest one that has a
    price. Raises UsageError for a key without a list, and for a family without a price."""
    if not entry.allowed_models:
        raise UsageError(
            f"the key {entry.label} has no list of models to try", "name them: `--try MODEL`", code="no_models"
        )
    provider = find_provider(entry.provider, world.settings.providers, None)
    places, now = world.paths, world.now()
    quoter = Quoter(provider, places, now)
    request = Request("", [{"role": "user", "content": _PROMPT}], max_tokens=_CEILING)
    found = []
    for allowed in entry.allowed_models:
        if not allowed.endswith("*"):
            found.append(allowed)
            continue
        prices = all_prices(provider.name, now, overrides=places.prices, cache_dir=places.cache)
        # What follows a colon is another way to be served: in a batch, with search.
        names = [each.model for each in prices if each.model.startswith(allowed[:-1]) and ":" not in each.model]
        worst = [(price, name) for name in names if (price := quoter.quote(name, request).worst)]
        if not worst:
            raise UsageError(f"no model of {allowed} has a price", "name one: `--try MODEL`", code="no_models")
        found.append(min(worst)[1])
    return found


def try_models(world: World, entry: Entry, secret: Secret, models: list[str]) -> str:
    """Call each model once with a key; why the first failed, or nothing."""
    for model in models:
        words = ["--key", entry.label, "--provider", entry.provider, "-m", model, "--purpose", PURPOSE]
        words += ["--base-url", entry.base_url, "--max-tokens", str(_CEILING)]
        for name in ("agent", "user", "environment"):
            if getattr(entry, name):
                words += [f"--{name}", getattr(entry, name)]
        given = parse("llm-call", [*words, "--", _PROMPT])
        assert given is not None
        try:
            one = One(world, given)
            call = one.prepare()
            means = one.means(call, lambda text: None)
            means.keys = chain([Key(entry.label, secret, secret.fingerprint(world.stores.salt()))])
            error = make_call(call, means).error
        except CallmeterError as problem:
            error = problem
        if isinstance(error, CallmeterError):
            return f"{model}: {error.message}"
        if error is not None:
            raise error
    return ""
