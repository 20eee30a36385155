"""What one plain `llm-call` imports: agents start it all day, so a new import there is a decision, not an accident."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from servers.misbehaving import MisbehavingServer

# The standard library's share. Whoever adds to it measures it first: `python benchmarks/startup.py`.
ALLOWED = "_blake2 datetime decimal errno fcntl gc itertools json os select signal socket stat sys time zlib"

NOT_OURS = (
    "callmeter.cli.app",
    "callmeter.cli.rendering",
    "callmeter.cli.options",
    "callmeter.cli.batching",
    "callmeter.cli.conversing",
    "callmeter.cli.replaying",
    "callmeter.cli.templates",
    "callmeter.providers.http",
    "callmeter.providers.local_server",
    "callmeter.reports",
    "callmeter.store.usage_log",
    "callmeter.store.segments",
    "callmeter.store.audit",
    "callmeter.store.private",
    "callmeter.words.record",
    "callmeter.ledger",
)

SHOW = "import json, sys; from callmeter.cli.main import start; status = start(sys.argv[1:]); "
SHOW += "print(json.dumps([status, sorted(sys.modules)]), file=sys.stderr)"


def modules(code: str, *arguments: str, env: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    status, found = json.loads(done.stderr.splitlines()[-1])
    assert status == 0, done.stderr
    assert isinstance(found, list)
    return found


def test_a_plain_call_imports_nothing_beyond_what_it_uses(home: Path, environment: dict[str, str]) -> None:
    (home / "config.toml").write_text('model = "openai/gpt-4o-mini"\n')
    (home / "budget.json").write_text('{"tags": {"required": ["agent"]}}')
    env = {**environment, "CALLMETER_API_KEY": "sk-or-v1-0123456789abcdef"}
    floor = f"from __future__ import annotations; import {ALLOWED.replace(' ', ', ')}; "
    floor += "print(json.dumps([0, sorted(sys.modules)]), file=sys.stderr)"
    with MisbehavingServer() as server:
        call = ["llm-call", "-q", "--base-url", server.base_url("ok"), "--agent", "a", "Hi"]
        modules(SHOW, *call, env=env)  # the first call parses config.toml and keeps the result
        used = modules(SHOW, *call, env=env)
    allowed = set(modules(floor, env=env)) | {"_sha2", "_sha256"}  # see words/digest.py
    foreign = [name for name in used if name not in allowed and name.partition(".")[0] != "callmeter"]
    assert foreign == []
    heavy = [name for name in used if any(name == other or name.startswith(other + ".") for other in NOT_OURS)]
    assert heavy == []
