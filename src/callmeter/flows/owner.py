"""Which process holds a reservation, and whether it is surely gone."""

from __future__ import annotations

import os

from callmeter.store.inflight import boot_id


def owner_here() -> str:
    """This process: host, boot, process namespace (containers have their own numbers), number, start time."""
    return f"{os.uname().nodename} {boot_id()} {_namespace()} {os.getpid()} {_started(os.getpid())}"


def is_gone(owner: str, deadline: int, now: float) -> bool:
    """Whether an owner is surely gone. One of this machine is asked for itself, and is never given up while it
    lives, stopped or slow; of any other only the deadline tells."""
    host, boot, namespace, number, started = (owner.split(" ") + [""] * 5)[:5]
    here = (os.uname().nodename, boot_id(), _namespace())
    if (host, boot, namespace) == here and boot and started and number.isdigit():
        return _started(int(number)) != started
    return now >= deadline


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, in the kernel's ticks since boot; "" when there is none (or no /proc)."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        text = os.read(descriptor, 4096)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    # The second field is the program's name in parentheses, which can hold anything.
    fields = text.rpartition(b")")[2].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return ""
    return fields[19].decode("ascii", "replace")
