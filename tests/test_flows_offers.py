"""List prices for reports: what a provider's model cost at an instant."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from callmeter.cli.world import World
from callmeter.flows.offers import rates_of
from callmeter.reports.anomaly_finding import Rates
from callmeter.words.money import parse_usd

AT = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def rates(home: Path) -> Rates:
    (home / "config.toml").write_text(
        '[providers.corp]\nbase_url = "https://llm.example.org/v1"\nprice_as = "openai"\n'
        '[providers.own]\nbase_url = "https://own.example.org/v1"\nfree = true\n'
    )
    world = World()
    return rates_of(world.paths, world.settings.providers)


def test_a_provider_has_the_prices_that_its_settings_name(rates: Rates) -> None:
    own = rates("openai", "gpt-4o-mini", AT)
    assert own is not None and own["in"] == parse_usd("0.00000015")
    assert rates("corp", "gpt-4o-mini", AT) == own


def test_a_free_provider_costs_nothing_and_a_stranger_nobody_knows_what(rates: Rates) -> None:
    free = rates("own", "any-model", AT)
    assert free is not None and set(free.values()) == {0}
    assert rates("stranger", "gpt-4o-mini", AT) is None
