"""The demo's stage: a home of its own with a policy, settings and a running local model, and its script."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from callmeter.flows.demo_past import made_up
from callmeter.providers.local import LocalServer, start
from callmeter.store.files import FileProblem, make_directory, replace_file
from callmeter.words.errors import CallmeterError

# Only a directory that holds this file is ever emptied.
_MARKER = ".callmeter-demo"
_FILES = {
    _MARKER: "`callmeter demo` empties this directory each time it begins.\n",
    "config.toml": 'provider = "local"\nmax_tokens = 48\n',
    "budget.json": """\
{
  "version": 1,
  "tags": {"required": ["agent"]},
  "quotas": [
    {"subject": "total", "limit": 0.1},
    {"subject": "agent:intern", "limit": 0.0001, "period": "day", "enforcement": "hard"}
  ]
}
""",
}


@dataclass(frozen=True)
class Step:
    """A shell line, what to say before it, and the exit status that it must end with."""

    says: str
    line: str
    status: int = 0


SCRIPT = (
    Step(
        "The local model costs nothing. So that there is money to look at, price it like a small hosted one:",
        "callmeter prices set smollm2 --input 0.15 --output 0.60",
    ),
    Step(
        "An agent's call says who makes it and what for. The answer streams to stdout, nothing else does:",
        'llm-call --agent triage --session s-1 --purpose classify "Bug or wish? The app crashes."',
    ),
    Step(
        "A script pipes its input in, and sees what the call may cost and what it did cost:",
        'printf "Fixed the login. Added dark mode." |\n'
        '    llm-call --usage --agent docs --session s-1 --purpose changelog "One sentence, please."',
    ),
    Step(
        "Several agents at once, all writing to the same log:",
        "for agent in code docs research ops; do\n"
        "    llm-call --no-stream --max-tokens 20 --agent $agent --session nightly --purpose summary \\\n"
        '      "What is $agent?" &\n'
        "  done; wait",
    ),
    Step(
        "The answer with its tokens, cost and tags as one JSON object:",
        'llm-call --json --max-tokens 12 --agent code --session s-2 --work-item SUP-7 "Name a sorting method."',
    ),
    Step(
        "The reader goes away (head): the call stops the meter and is logged all the same:",
        'llm-call --max-tokens 100 --agent docs --session s-2 --purpose draft "Tell a story." | head -c 40; echo',
    ),
    Step(
        "A prompt longer than the model's context fails; the exit status tells a script what happened:",
        'yes "and so on" | head -n 2000 | llm-call --agent research --session s-3 --purpose summary',
        status=7,
    ),
    Step(
        "A call without the tag that this demo's budget.json requires is refused before anything is sent:",
        'llm-call "Who is asking?"',
        status=2,
    ),
    Step(
        "The intern may spend $0.0001 a day. One call fits. The next might not, and is refused before it is sent:",
        "for question in money time; do\n"
        "    llm-call --no-stream --max-tokens 20 --agent intern --session s-4 --purpose essay \\\n"
        '      "What is $question?"\n'
        "  done",
        status=3,
    ),
    Step("What is left of the quotas?", "callmeter budget quota show"),
    Step("What was spent, and what fits that?", "callmeter budget status"),
    Step("By whom, and on what, today?", "callmeter budget breakdown --by-agent --by-purpose --today"),
    Step(
        "What will next week cost, and will the quotas last? (The three weeks before today are made up.)",
        "callmeter budget forecast --next-week --by-agent",
    ),
    Step("The last calls in the usage log:", "callmeter budget log show -n 6"),
)


def prepare(state_dir: str, now: datetime) -> str:
    """A home for the demo, below the state directory, with three weeks of made-up calls before `now`: nothing of the
    user's is read or written. Gives its path. Raises FileProblem."""
    home = os.path.join(state_dir, "demo")
    make_directory(home)
    names = os.listdir(home)
    if names and _MARKER not in names:
        raise FileProblem(f"{home} is not the demo's own directory", f"move {home} away")
    for name in names:
        path = os.path.join(home, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif not name.startswith("local"):  # a model that still runs serves this demo too
            os.unlink(path)
    for name, text in _FILES.items():
        replace_file(os.path.join(home, name), text.encode(), sync=False)
    replace_file(os.path.join(home, "usage.jsonl"), b"".join(made_up(now)), sync=False)
    return home


def model(home: str) -> LocalServer:
    """The local model, started for the demo; it ends by itself a minute after the last call. Raises Unavailable."""
    return start(home)


def environment(home: str, env: Mapping[str, str], scripts: str) -> dict[str, str]:
    """What the demo's commands see: its home, the commands in the directory `scripts`, nothing of the user's own.

    Raises CallmeterError when `llm-call` cannot be found.
    """
    path = os.pathsep.join([scripts, env.get("PATH", os.defpath)])
    if shutil.which("llm-call", path=path) is None:
        raise CallmeterError(
            "the command llm-call is not on the search path", "add the directory that pip installed it into to PATH"
        )
    kept = {name: env[name] for name in ("HOME", "LANG", "LC_ALL", "TERM", "COLUMNS", "NO_COLOR") if name in env}
    return {**kept, "PATH": path, "CALLMETER_HOME": home}
