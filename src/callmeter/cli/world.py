"""The world that a command sees: clock, environment, streams, files. A test hands over another one."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime

from callmeter.cli.output import Output
from callmeter.policy.document import Policy, parse_policy
from callmeter.store.files import read_file
from callmeter.store.places import Places, find_places
from callmeter.store.settings import Settings, read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from callmeter.secrets.open_store import Stores


class World:
    """Everything outside the program, with lazy members: what a command does not touch is not read.

    `clock` gives seconds since 1970 (as `time.time`), `monotonic` and `sleep` are those of `time`.
    """

    def __init__(
        self,
        *,
        env: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        stdin: TextIO | None = None,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.env = os.environ if env is None else env
        self.clock = clock
        self.monotonic = monotonic
        self.sleep = sleep
        self._stdin = stdin
        self.out = Output(self, stdout, stderr)
        self._places: Places | None = None
        self._settings: Settings | None = None
        self._policy: Policy | None = None
        self._policy_file: tuple[int, ...] = ()

    def now(self) -> datetime:
        """The instant, aware, UTC."""
        return datetime.fromtimestamp(self.clock(), UTC)

    @property
    def stdin(self) -> TextIO | None:
        """Standard input; None when it is closed."""
        return self._stdin or sys.stdin

    @property
    def paths(self) -> Places:
        """Where the files lie, with what `config.toml` and the variables moved."""
        if self._places is None:
            places = find_places(self.env)
            self._settings = read_settings(places, self.env)
            self._places = places
        return self._places

    @property
    def settings(self) -> Settings:
        """`config.toml` and the CALLMETER_ variables. Raises Malformed, UsageError."""
        assert self.paths
        assert self._settings is not None
        return self._settings

    @property
    def stores(self) -> Stores:
        """What opens the secret stores that the key registry names."""
        from callmeter.secrets.open_store import Stores

        return Stores(self.paths.secrets, self.env, self.settings.vault, self.settings.helpers)

    @property
    def policy(self) -> Policy:
        """`budget.json`; without a file, a policy without rules. Raises Malformed."""
        if self._policy is None:
            self._policy_file = _signature(self.paths.policy)
            data = read_file(self.paths.policy)
            self._policy = Policy() if data is None else parse_policy(data, self.paths.policy)
        return self._policy

    def policy_changed(self) -> bool:
        """Whether the file is another one than the one that was read."""
        return self._policy is not None and _signature(self.paths.policy) != self._policy_file

    def reread_policy(self) -> Policy:
        """`budget.json` as it is now. Raises Malformed."""
        self._policy = None
        return self.policy

    @property
    def host(self) -> str:
        """This host's name in the usage log: the setting `host`, else the system's, up to its first dot."""
        return self.settings.text("host") or os.uname().nodename.partition(".")[0] or "localhost"

    @property
    def pid(self) -> int:
        """This process's number."""
        return os.getpid()

    @property
    def who(self) -> str:
        """Who runs this, for the audit log: `alice@build7`. The name comes from the uid: variables can say anything."""
        import pwd

        try:
            name = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:  # a container's arbitrary uid
            name = str(os.geteuid())
        return f"{name}@{self.host}"


def _signature(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
