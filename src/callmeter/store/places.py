"""Where callmeter's files lie: two directories, or one, flat, with CALLMETER_HOME."""

from __future__ import annotations

import os
import sys

from callmeter.words.errors import Malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Places:
    """Every path as text. `log`, `policy`, `keys`, … can be moved by `config.toml` (see `Settings.places`)."""

    def __init__(self, config_dir: str, state_dir: str) -> None:
        self.config_dir = config_dir
        self.state_dir = state_dir
        self.settings = os.path.join(config_dir, "config.toml")
        self.policy = os.path.join(config_dir, "budget.json")
        self.keys = os.path.join(config_dir, "keys.toml")
        self.prices = os.path.join(config_dir, "prices.toml")
        self.templates = os.path.join(config_dir, "templates")
        self.secrets = os.path.join(config_dir, "secrets")
        self.approvals = os.path.join(config_dir, "approvals.jsonl")
        self.log = os.path.join(state_dir, "usage.jsonl")
        self.ledger = os.path.join(state_dir, "ledger.db")
        self.audit = os.path.join(state_dir, "audit.jsonl")
        self.requests = os.path.join(state_dir, "requests.jsonl")
        self.alerts = os.path.join(state_dir, "alerts.jsonl")
        self.outcomes = os.path.join(state_dir, "outcomes.jsonl")
        self.forecasts = os.path.join(state_dir, "forecasts.jsonl")
        self.rotations = os.path.join(state_dir, "rotations")
        self.recent = os.path.join(state_dir, "recent")
        self.index = os.path.join(state_dir, "index")
        self.inflight = os.path.join(state_dir, "inflight")
        self.holders = os.path.join(state_dir, "holders")
        self.private = os.path.join(state_dir, "private")
        self.cache = os.path.join(state_dir, "cache")


def find_places(env: Mapping[str, str]) -> Places:
    """The places for an environment. Raises Malformed when there is no home directory to put them in."""
    flat = env.get("CALLMETER_HOME", "")
    if flat:
        flat = os.path.abspath(os.path.expanduser(flat))
        return Places(flat, flat)
    if sys.platform != "linux":
        import platformdirs

        return Places(platformdirs.user_config_dir("callmeter"), platformdirs.user_state_dir("callmeter"))
    # The same two directories as platformdirs gives on Linux (a test compares them); importing it costs as much
    # as starting Python twice, and agents start `llm-call` all day.
    return Places(
        _xdg(env, "XDG_CONFIG_HOME", ".config"),
        _xdg(env, "XDG_STATE_HOME", os.path.join(".local", "state")),
    )


def _xdg(env: Mapping[str, str], variable: str, default: str) -> str:
    base = env.get(variable, "").strip()
    if not os.path.isabs(base):  # relative values are to be ignored, says the XDG base directory specification
        home = env.get("HOME", "") or os.path.expanduser("~")
        if not os.path.isabs(home):
            given = env.get("HOME")
            what = f"HOME is {given}, which is no absolute path" if given else "HOME is not set"
            raise Malformed(f"there is no home directory: {what}", "set `CALLMETER_HOME` to a directory")
        base = os.path.join(home, default)
    return os.path.join(base, "callmeter")
