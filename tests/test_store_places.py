"""Where callmeter's files lie."""

from __future__ import annotations

import pytest

from callmeter.store import places
from callmeter.store.places import find_places
from callmeter.words.errors import Malformed


@pytest.mark.parametrize(
    ("home", "what"), [("work", "HOME is work, which is no absolute path"), ("", "HOME is not set")]
)
def test_without_a_home_directory_the_error_says_what_home_is(
    monkeypatch: pytest.MonkeyPatch, home: str, what: str
) -> None:
    monkeypatch.setattr(places.sys, "platform", "linux")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # a user whom the system does not know
    with pytest.raises(Malformed, match=what):
        find_places({"HOME": home} if home else {})
    assert find_places({"HOME": home, "CALLMETER_HOME": "/srv"}).log == "/srv/usage.jsonl"
    assert find_places({"HOME": "/home/ada"}).log == "/home/ada/.local/state/callmeter/usage.jsonl"
