"""Finding the local model's server, and starting one when there is none.

A server (`providers/local_server.py`) holds the lock on `local.lock` in the state directory for as long as it
lives, and says in `local.json` (0600) where it listens and which key it takes. The lock alone decides whether it
is alive: what a killed server left behind counts for nothing.
"""

from __future__ import annotations

import os
import time

from callmeter.store.files import Lock, is_locked, read_file, remove_file
from callmeter.words.errors import Malformed, Unavailable
from callmeter.words.jsontext import loads

# A server that was started for a call ends after so many seconds without one.
IDLE = 60
_PATIENCE = 90.0
_POLL = 0.02
# A server outlives its caller, so it gets nothing of its environment that could be a secret.
_ENVIRONMENT = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONDONTWRITEBYTECODE",
)


class LocalServer:
    """A running server. `base_url` ends in `/v1`; `api_key` is the only key that it takes."""

    def __init__(self, base_url: str, api_key: str, model: str, pid: int) -> None:
        self.base_url = base_url
        self.api_key = api_key
        self.model = model
        self.pid = pid


def running(state_dir: str) -> LocalServer | None:
    """The server that is up, or None. Costs two small file reads. Raises Malformed, FileProblem."""
    if not is_locked(lock_file(state_dir)):
        return None
    data = read_file(state_file(state_dir), private=True)
    if data is None:
        return None  # it is not ready yet, or about to end
    try:
        found = loads(data)
        if not isinstance(found, dict):
            raise ValueError("not an object")
        return LocalServer(str(found["base_url"]), str(found["api_key"]), str(found["model"]), int(found["pid"]))
    except (ValueError, KeyError, TypeError):
        raise Malformed(
            f"{state_file(state_dir)} is not what a local server writes", "run `callmeter local stop`"
        ) from None


def start(state_dir: str) -> LocalServer:
    """The server that is up, else a new one, which ends after IDLE seconds without a call.

    However many callers come at once, one of them starts it and the others use it. Raises Unavailable.
    """
    found = running(state_dir)
    if found is not None:
        return found
    with Lock(os.path.join(state_dir, "local-start.lock"), patience=_PATIENCE):
        return _start(state_dir)


def stop(state_dir: str) -> bool:
    """End the server, and with it the calls that it is serving; False when there was none. Raises Unavailable."""
    import signal

    lock = lock_file(state_dir)
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + 5
        signalled = False
        while time.monotonic() < end:
            if not is_locked(lock):
                return signalled or number == signal.SIGKILL
            if not signalled:
                signalled = _signal(lock, number)
            time.sleep(_POLL)
    raise Unavailable("the local model's server does not end", "look for it with `ps -e | grep callmeter`")


def lock_file(state_dir: str) -> str:
    """Locked by the server while it lives; holds its pid."""
    return os.path.join(state_dir, "local.lock")


def state_file(state_dir: str) -> str:
    """Where the server says how to reach it."""
    return os.path.join(state_dir, "local.json")


def log_file(state_dir: str) -> str:
    """What llama.cpp says about itself."""
    return os.path.join(state_dir, "local.log")


def _start(state_dir: str) -> LocalServer:
    import subprocess
    import sys

    child: subprocess.Popen[str] | None = None
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        found = running(state_dir)
        if found is not None:
            return found
        if child is not None and child.poll() is not None:
            assert child.stderr is not None
            # Its own message, which names the packages that are missing and how to install them.
            message, _, hint = child.stderr.read().partition("\ncallmeter: hint: ")
            message = message.rpartition("callmeter: error: ")[2].strip()
            raise Unavailable(message or "the local model did not start", hint.strip() or _look(state_dir))
        if child is None and not is_locked(lock_file(state_dir)):
            remove_file(state_file(state_dir))
            environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "callmeter", "local", "serve", "--idle", str(IDLE)],
                env={**environment, "CALLMETER_HOME": state_dir},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for the call, not for the server that others use too
            )
        time.sleep(_POLL)
    raise Unavailable(f"the local model was not ready after {_PATIENCE:.0f} s", _look(state_dir))


def _look(state_dir: str) -> str:
    return f"see what llama.cpp said: `cat {log_file(state_dir)}`"


def _signal(lock: str, number: int) -> bool:
    """Send a signal to the lock's holder; False while it has not yet written its pid."""
    pid = (read_file(lock) or b"").strip()
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), number)
    except ProcessLookupError:
        return False
    return True
