"""Commands that are asked to end while DuckDB works for them, or before they have begun."""

from __future__ import annotations

import subprocess
import sys

import pytest

from callmeter.cli import failure
from callmeter.cli.world import World

# A query of half a minute, of which the signal leaves nothing.
_SCRIPT = """
import os, signal, sys, threading
from types import SimpleNamespace
import duckdb
from callmeter.cli import failure, stopping

def command():
    connection = duckdb.connect(config={"threads": 1})
    threading.Timer(0.2, os.kill, (os.getpid(), int(sys.argv[1]))).start()
    connection.execute("SELECT count(*) FROM range(60000) a, range(60000) b WHERE a.range * b.range % 7 = 3").fetchall()
    return 0

stopping.install()
sys.exit(failure.run(SimpleNamespace(out=SimpleNamespace(stderr=sys.stderr)), [], command))
"""

# The signal comes while a module is imported.
_EARLY = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[2]:
            os.kill(os.getpid(), int(sys.argv[1]))

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.meta_path.insert(0, Finder())
from callmeter.cli.main import start
sys.exit(start(sys.argv[3:]))
"""


@pytest.mark.parametrize(("number", "status"), [(1, 143), (2, 130), (15, 143)])
@pytest.mark.parametrize(
    ("module", "command"),
    [("typer", "budget status"), ("callmeter.cli.world", "llm-call hello"), ("callmeter.cli.lane", "llm-call hello")],
)
def test_whoever_is_stopped_while_it_starts_ends_in_silence(
    number: int, status: int, module: str, command: str
) -> None:
    words = [sys.executable, "-c", _EARLY, str(number), module, *command.split()]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize(("number", "status"), [(1, 143), (2, 130), (15, 143)])
def test_a_query_that_is_interrupted_is_no_failure(number: int, status: int) -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT, str(number)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, "")


def test_too_little_memory_is_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise MemoryError

    world = World(env={}, stderr=sys.stderr)
    assert failure.run(world, [], command) == 1
    assert "callmeter: error: there is not enough memory\n" in capsys.readouterr().err
