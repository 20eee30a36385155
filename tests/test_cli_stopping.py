"""Commands that are asked to end while DuckDB works for them."""

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
