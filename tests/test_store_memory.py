"""How much memory a process may have, as its control groups say."""

from __future__ import annotations

from pathlib import Path

import pytest

from callmeter.store import memory
from callmeter.store.memory import allowed

ALL = allowed("/nowhere")


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("", {}, ALL),
        ("0::/\n", {"memory.max": "536870912\n"}, 512 << 20),
        ("0::/pod/box\n", {"memory.max": "max\n", "pod/memory.max": "300\n", "pod/box/memory.max": "max\n"}, 300),
        ("0::/of/the/host\n", {"memory.max": "268435456\n"}, 256 << 20),
        ("0::/a\n", {"a/memory.max": "max\n"}, ALL),
        ("9:cpu:/x\n4:memory:/box\n0::/\n", {"memory/box/memory.limit_in_bytes": "1000\n"}, 1000),
        ("4:cpu,memory:/host\n", {"memory/memory.limit_in_bytes": "2000\n"}, 2000),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, ALL),
        ("4:cpu:/box\n", {"cpu/box/memory.max": "1\n"}, ALL),
        ("0::/a:b\n", {"a:b/memory.max": "7\n"}, 7),
        ("0::/\n", {"memory.max": "what\n"}, ALL),
    ],
)
def test_the_strictest_limit_counts(tmp_path: Path, groups: str, limits: dict[str, str], expected: int) -> None:
    (tmp_path / "groups").write_text(groups)
    for name, text in limits.items():
        (tmp_path / "mounted" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mounted" / name).write_text(text)
    assert allowed(str(tmp_path / "groups"), str(tmp_path / "mounted")) == expected


def test_less_than_a_gigabyte_is_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, is_scarce in {512 << 20: True, 1 << 30: False}.items():
        monkeypatch.setattr(memory, "allowed", lambda limit=limit: limit)
        memory.is_scarce.cache_clear()
        assert memory.is_scarce() is is_scarce
    memory.is_scarce.cache_clear()
