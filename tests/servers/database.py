"""A real PostgreSQL, a real pgbouncer before it, and a wire between them that can be cut; all on loopback."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# PostgreSQL and pgbouncer refuse to run as root.
_USER = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def program(name: str) -> str | None:
    """The path of one of PostgreSQL's programs, which Debian keeps out of PATH."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found[-1] if found else shutil.which(name)


def missing() -> str:
    """Why no database can be started here; "" when it can."""
    absent = [name for name in ("initdb", "postgres") if program(name) is None]
    if absent:
        return f"{' and '.join(absent)} of PostgreSQL: install postgresql"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg: install callmeter[postgres]"
    return ""


def pooler_missing() -> bool:
    """Whether pgbouncer is not installed."""
    return _pgbouncer() is None


def _pgbouncer() -> str | None:
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


@contextmanager
def directory() -> Iterator[Path]:
    """A directory that the database's user can reach: pytest's own are closed to it."""
    path = Path(tempfile.mkdtemp(prefix="callmeter-"))
    try:
        if _USER:
            shutil.chown(path, "postgres", "postgres")
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Postgres:
    """A server with an empty database at `address`, and at `socket` in the file system. `durable` as in real life: it
    syncs."""

    def __init__(self, base: Path, *, durable: bool = False) -> None:
        initdb = program("initdb")
        assert initdb is not None
        self._base, self._data, self._port = base, str(base / "data"), free_port()
        subprocess.run(
            [
                initdb,
                "-D",
                self._data,
                "-U",
                "callmeter",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=base,
            **_USER,  # type: ignore[call-overload]
        )
        self._settings = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(base),
            "fsync": "on" if durable else "off",
            "max_connections": 120,
            "client_connection_check_interval": "500ms",
            "timezone": "UTC",
        }
        self.address = f"postgresql://callmeter@127.0.0.1:{self._port}/postgres"
        self.socket = str(base / f".s.PGSQL.{self._port}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        server = program("postgres")
        assert server is not None
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with open(self._base / "log", "ab") as log:
            self._running = subprocess.Popen(
                [server, "-D", self._data, *options],
                stdout=log,
                stderr=log,
                cwd=self._base,
                **_USER,  # type: ignore[call-overload]
            )
        _answering(self.address, self._running, self._base / "log")

    def stop(self, signal: int = 2) -> None:
        """Stop it: 2 breaks all connections and shuts down in order, 3 is as a power failure."""
        self._running.send_signal(signal)
        self._running.wait(30)


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """A running server."""
    with directory() as base:
        server = Postgres(base, durable=durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def pgbouncer(address: str) -> Iterator[str]:
    """A pooler in transaction mode before a server; its address."""
    path = _pgbouncer()
    assert path is not None
    upstream = int(address.rpartition(":")[2].partition("/")[0])
    port = free_port()
    with directory() as base:
        (base / "users").write_text('"callmeter" ""\n')
        (base / "ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={upstream}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {base}\nauth_type = trust\n"
            f"auth_file = {base}/users\npool_mode = transaction\ndefault_pool_size = 8\nmax_client_conn = 500\n"
        )
        with open(base / "log", "wb") as log:
            running = subprocess.Popen(
                [path, str(base / "ini")],
                stdout=log,
                stderr=log,
                cwd=base,
                **_USER,  # type: ignore[call-overload]
            )
        try:
            pooled = f"postgresql://callmeter@127.0.0.1:{port}/postgres"
            _answering(pooled, running, base / "log")
            yield pooled
        finally:
            running.kill()
            running.wait(30)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answering(address: str, running: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    until = time.monotonic() + 120
    while True:
        try:
            psycopg.connect(address, connect_timeout=3).close()
            return
        except psycopg.OperationalError:
            if running.poll() is not None or time.monotonic() > until:
                raise AssertionError(log.read_text(errors="replace")) from None
            time.sleep(0.05)  # the server says nowhere else that it is ready


class Wire:
    """A TCP proxy before a server. `cut_after(n)` breaks every connection at the n-th message of a client from now on:
    `before` it is passed on, or after the server has done it, in which case the answer is lost. `hang()` passes
    nothing on any more, `heal()` all.

    A client's good-bye is passed on but is no message: nobody waits until it has arrived, so that it could be counted
    before or after whatever comes next.
    """

    def __init__(self, address: str) -> None:
        head, _, rest = address.rpartition(":")
        port, _, path = rest.partition("/")
        self._upstream = int(port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"{head}:{self._listener.getsockname()[1]}/{path}"
        self._lock = threading.Lock()
        self._left = -1
        self._before = self._for_good = self._silent = False
        self.messages = 0
        self.cut = False
        self._lines: list[_Line] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._break()

    def cut_after(self, number: int, *, before: bool = False, for_good: bool = False) -> None:
        """See the class; `for_good` refuses connections from then on, until `heal`. 0 cuts now, for good. `cut` says
        whether it has happened."""
        with self._lock:
            self._left, self._before, self._for_good = number, before, for_good
            self.cut = number == 0
        if number == 0:
            self._break()

    def hang(self) -> None:
        """Say nothing any more, in either direction, to anybody."""
        self._silent = True

    def heal(self) -> None:
        """Pass everything on again."""
        self._silent = False
        with self._lock:
            self._left = -1

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._left == 0:
                    client.close()
                    continue
                line = _Line(client, socket.create_connection(("127.0.0.1", self._upstream)))
                self._lines.append(line)
            threading.Thread(target=self._pass_on, args=(line,), daemon=True).start()
            threading.Thread(target=self._pass_back, args=(line,), daemon=True).start()

    def _pass_on(self, line: _Line) -> None:
        try:
            for message in _messages(line.client):
                if self._silent:
                    continue
                if message[:1] != b"X" and self._counts():
                    line.cut = True
                    if not self._before:
                        line.server.sendall(message)
                        line.answered.wait()
                    self._break()
                    return
                line.server.sendall(message)
        except OSError:
            pass
        line.shut()

    def _pass_back(self, line: _Line) -> None:
        try:
            while (data := line.server.recv(1 << 20)) and not line.cut:
                if not self._silent:
                    line.client.sendall(data)
        except OSError:
            pass
        line.answered.set()
        if not line.cut:
            line.shut()

    def _counts(self) -> bool:
        """Count a message; whether it is the one to cut at."""
        with self._lock:
            self.messages += 1
            if self._left <= 0:
                return False
            self._left -= 1
            if self._left > 0:
                return False
            self._left = 0 if self._for_good else -1
            self.cut = True
            return True

    def _break(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        for line in lines:
            line.shut()


class _Line:
    """One client's connection, on both sides. Once it is `cut`, the server's next answer, or its end, is lost."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.cut = False
        self.answered = threading.Event()

    def shut(self) -> None:
        """Not closed: the other thread may be reading from it, and its number would be the next connection's."""
        for one in (self.client, self.server):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def _messages(client: socket.socket) -> Iterator[bytes]:
    """What a client of PostgreSQL says, message by message. The first ones have no type, which would be a letter."""
    stream = client.makefile("rb")
    while head := stream.read(1):
        head += stream.read(3 if head == b"\0" else 4)
        yield head + stream.read(int.from_bytes(head[-4:], "big") - 4)
