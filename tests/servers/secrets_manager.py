"""Moto's server with AWS Secrets Manager on loopback, as AWS's own library sees it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers.database import free_port


def missing() -> str:
    """Why no server can be started here; "" when it can."""
    try:
        import boto3  # noqa: F401
        import flask  # noqa: F401
        import moto  # noqa: F401
    except ImportError:
        return "moto's server: install moto[server] and boto3"
    return ""


class Aws:
    """An account at `address`; `env` is what a caller's environment needs."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.env = {
            "AWS_ENDPOINT_URL": address,
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, **options: Any) -> Any:
        """A client of boto3 of the account's owner."""
        import boto3

        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", **options}
        return boto3.client(service, region_name="eu-central-1", endpoint_url=self.address, **keys)

    def user(self, *actions: str) -> dict[str, str]:
        """The environment of a user who may do only `actions`; from then on permissions count."""
        iam = self.client("iam")
        iam.create_user(UserName="agent")
        rules = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [*actions], "Resource": "*"}]}
        iam.put_user_policy(UserName="agent", PolicyName="rules", PolicyDocument=json.dumps(rules))
        key = iam.create_access_key(UserName="agent")["AccessKey"]
        self._permissions_count_after(b"0")
        return {
            **self.env,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    def reset(self) -> None:
        """An empty account, in which everything is allowed."""
        self._permissions_count_after(b"1e18")
        self._post("/moto-api/reset", b"")

    def _permissions_count_after(self, requests: bytes) -> None:
        self._post("/moto-api/reset-auth", requests)

    def _post(self, path: str, data: bytes) -> None:
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "text/plain"})
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextmanager
def moto() -> Iterator[Aws]:
    """A running server."""
    port = free_port()
    program = Path(sys.executable).parent / "moto_server"
    command = [str(program), "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    with urllib.request.urlopen(f"{address}/moto-api/", timeout=5):
                        break
                except OSError:
                    time.sleep(0.05)
            yield Aws(address)
        finally:
            server.terminate()
