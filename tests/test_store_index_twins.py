"""Where the usage index looks for ids that are there twice."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callmeter.store import index_twins
from callmeter.store.index_manifest import Part

RANKS = st.integers(0, 40) | st.sampled_from([1 << 40, 1 << 63, (1 << 64) - 1])


@st.composite
def parts(draw: st.DrawFn) -> list[tuple[Part, bool]]:
    """Files of rows, and whether each is new."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        low, high = sorted((draw(RANKS), draw(RANKS)))
        distinct = draw(st.booleans())
        most = min(30, high - low + 1) if distinct else 30
        rows = draw(st.integers(1, most))
        found.append((Part(f"{number}.parquet", rows, 0, 0, low, high, distinct), draw(st.booleans())))
    return found


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts())
def test_wherever_an_id_can_be_there_twice_all_its_files_are_looked_into_at_once(
    monkeypatch: pytest.MonkeyPatch, found: list[tuple[Part, bool]]
) -> None:
    monkeypatch.setattr(index_twins, "_AT_ONCE", 10)
    every = [part for part, _ in found]
    added = [part for part, is_new in found if is_new]
    groups = list(index_twins._cuts(added, every))
    rows = sum(part.rows for part in every)
    assert len(groups) <= 2 * (len(found) + rows / 10) + 1
    edges = {edge for part in every for edge in (part.low, part.high)}
    for rank in edges | {edge + 1 for edge in edges} | {edge - 1 for edge in edges}:
        here = [part for part in every if part.low <= rank <= part.high]
        is_sure = len(here) == 1 and here[0].distinct
        if is_sure or not any(part in added for part in here):
            continue
        wanted = {part.file for part in here}
        looked = [{cut.file for cut in cuts if cut.low <= rank <= cut.high} for cuts in groups]
        (together,) = (files for files in looked if files & wanted)
        assert together >= wanted
