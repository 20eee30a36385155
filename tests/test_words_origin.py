"""Whom a URL leads to."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callmeter.words.origin import is_loopback, origin_of


@given(st.text(max_size=40))
def test_whatever_follows_the_host_cannot_change_whom_a_key_goes_to(rest: str) -> None:
    try:
        origin = origin_of("https://openrouter.ai" + rest)
    except ValueError:
        return
    host = origin.removeprefix("https://").rpartition(":")[0]
    assert host == "openrouter.ai" or (rest[0] not in "/\\@:?#" and host.startswith("openrouter.ai"))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://[::1]:8080/v1", "http://[::1]:8080"),
        ("http://[::1]/v1", "http://[::1]:80"),
        ("http://my_service:80", "http://my_service:80"),
        ("http://127.0.0.1:0080/v1", "http://127.0.0.1:80"),
    ],
)
def test_addresses_of_this_machine_are_addresses_too(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    ["http://localhost", "http://LOCALHOST:8080/v1", "http://127.0.0.1/v1", "https://127.9.9.9:1", "http://[::1]/v1"],
)
def test_this_machine_is_known_by_its_names_and_numbers(url: str) -> None:
    assert is_loopback(url)


@given(st.text(alphabet="@:/?#\\[]. localhost127x", max_size=30))
@example("?@127.0.0.1/")
@example("#@localhost")
@example("\\@127.0.0.1")
@example("127.0.0.1@evil.example")
@example(".localhost")
def test_nothing_written_after_another_host_makes_it_this_machine(rest: str) -> None:
    assert not is_loopback("http://evil.example" + rest)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://localhost:x@evil.example/v1",
        "http://127.0.0.1.evil.example",
        "http://127.1",
        "http://127.0.0.256/v1",
        "http://127.0.0.08/v1",
        "http://127.0.0.4294967297:80",
    ],
)
def test_what_only_begins_like_this_machine_is_another_one(url: str) -> None:
    assert not is_loopback(url)
