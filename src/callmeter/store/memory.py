"""How much memory this process may have. Containers have a part of the machine's, and are killed if they want more."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from functools import cache

from callmeter.words.errors import CallmeterError

_SCARCE = 1 << 30
# DuckDB ends the process if its libraries and threads do not find so much of it.
_ADDRESS_SPACE = 1 << 30
# Of control groups, version 2 (which has no name for its one hierarchy) and version 1.
_LIMITS = {"": ("", "memory.max"), "memory": ("memory", "memory.limit_in_bytes")}


@cache
def is_scarce() -> bool:
    """Whether it is less than 1 GB: then what takes turns is better than what is done at once."""
    return allowed() < _SCARCE


def allowed(groups: str = "/proc/self/cgroup", mounted: str = "/sys/fs/cgroup") -> int:
    """Bytes: what the machine has, or what the strictest of this process's control groups lets it have."""
    least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for line in _text(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in _LIMITS:
                place, name = _LIMITS[controller]
                # A container may see the host's path, and its own limit at the top.
                while path:
                    text = _text(os.path.join(mounted, place, path.strip("/"), name)).strip()
                    least = min(least, int(text)) if text.isdecimal() else least
                    path = os.path.dirname(path) if path != "/" else ""
    return least


def require_address_space() -> None:
    """For whoever is about to import DuckDB. Raises CallmeterError if this process cannot have what it needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft >= _ADDRESS_SPACE:
        return
    if hard == resource.RLIM_INFINITY or hard >= _ADDRESS_SPACE:
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        return
    raise CallmeterError(
        f"a report needs {_ADDRESS_SPACE >> 20} MB of address space, and this process may have {hard >> 20} MB",
        "allow it more with `ulimit -v`",
    )


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
