"""What tests share: a home of their own, a clean environment, the installed commands, and the real local model.

A partner that a test needs and the machine lacks (a shell, a tool, the model's weights) skips the test with a
reason; with `CI=true` it fails it, so that nothing goes untested unseen.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

import hypothesis
import pytest

from servers import vault

TESTS = Path(__file__).parent
ROOT = TESTS.parent
SCRIPTS = Path(sys.executable).parent

# Under nohup SIGHUP is ignored, and SIGINT and SIGQUIT where a script runs the tests with `&`; what is ignored or
# blocked stays so in child processes, and tests of it would wait for ever.
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.pthread_sigmask(signal.SIG_SETMASK, ())


# What an example takes says how busy the machine is, not whether the program is right.
hypothesis.settings.register_profile(
    "callmeter", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("callmeter")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="put true outputs into README.md and docs/")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty CALLMETER_HOME of the test's own, set in this process's environment too."""
    for name in [
        name for name in os.environ if name.startswith(("CALLMETER_", "OPENROUTER_", "OPENAI_", "ANTHROPIC_"))
    ]:
        monkeypatch.delenv(name)
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("CALLMETER_HOME", str(directory))
    return directory


@pytest.fixture
def environment(home: Path, tmp_path: Path) -> dict[str, str]:
    """What a child process gets: the installed scripts on PATH, this test's homes, nothing of the developer's."""
    user = tmp_path / "user"
    user.mkdir(exist_ok=True)
    return {
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(user),
        "CALLMETER_HOME": str(home),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }


class Run(Protocol):
    """Runs an installed command to its end. `env` adds variables; None as a value removes one."""

    def __call__(
        self,
        *arguments: str | Path,
        input: str | bytes | None = None,
        env: Mapping[str, str | None] | None = None,
        timeout: float = 60,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def run_callmeter(environment: dict[str, str]) -> Run:
    """Run the installed `callmeter` as a child process; stdin is empty unless `input` is given."""
    return _runner("callmeter", environment)


@pytest.fixture
def run_llm_call(environment: dict[str, str]) -> Run:
    """Run the installed `llm-call` as a child process."""
    return _runner("llm-call", environment)


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start an installed script (`start("llm-call", "hello")`) without waiting; keywords go to Popen, `env` adds
    variables. What still runs at the end of the test is killed."""
    running: list[subprocess.Popen[bytes]] = []

    def start_script(
        script: str, *arguments: str | Path, env: Mapping[str, str | None] | None = None, **options: object
    ) -> subprocess.Popen[bytes]:
        for stream in ("stdin", "stdout", "stderr"):
            options.setdefault(stream, subprocess.DEVNULL if stream == "stdin" else subprocess.PIPE)
        process = subprocess.Popen(
            [_script(script), *map(str, arguments)],
            env=_merged(environment, env),
            **options,  # type: ignore[call-overload]
        )
        running.append(process)
        return process

    yield start_script
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _runner(script: str, environment: dict[str, str]) -> Run:
    def run(
        *arguments: str | Path,
        input: str | bytes | None = None,
        env: Mapping[str, str | None] | None = None,
        timeout: float = 60,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        data = input.encode() if isinstance(input, str) else input
        done = subprocess.run(
            [_script(script), *map(str, arguments)],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            env=_merged(environment, env),
            timeout=timeout,
            cwd=cwd,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    return run


def _script(name: str) -> str:
    path = SCRIPTS / name
    assert path.exists(), f"{name} is not installed beside {sys.executable}; run `make test`"
    return str(path)


def _merged(environment: Mapping[str, str], changes: Mapping[str, str | None] | None) -> dict[str, str]:
    merged: dict[str, str | None] = {**environment, **(changes or {})}
    return {name: value for name, value in merged.items() if value is not None}


def lacking(reason: str) -> NoReturn:
    """A partner is missing: skip, or fail where `CI=true` promises that all are there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have this partner: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def logs_of_any_length_are_read_at_once() -> Iterator[None]:
    """Tests with a few lines meet what a long log meets where there is no compiled code. Child processes read theirs
    one by one then, as users do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("callmeter.store.index_rows._FEW", 0)
        yield


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """`need("mandoc")` gives the path of a program, or skips the test (fails it in CI)."""

    def path_of(program: str) -> str:
        return shutil.which(program) or lacking(f"{program} is not installed")

    return path_of


@pytest.fixture(params=["compiled", "sql"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lines of a log become rows of its index by compiled code, and in SQL where that is lacking."""
    from callmeter.store.index_native import native

    if request.param == "sql":
        monkeypatch.setattr("callmeter.store.index_rows.native", lambda: None)
        monkeypatch.setattr("callmeter.store.index_text.native", lambda: None)
    elif native() is None:
        lacking("callmeter was installed without a C compiler")
    return str(request.param)


@pytest.fixture
def file_system(tmp_path: Path, need: Callable[[str], str]) -> Iterator[Callable[[int], Path]]:
    """`file_system(256)` is a directory that holds no more than 256 KiB. One for a test."""
    directory = tmp_path / "disk"

    def mount(kib: int) -> Path:
        directory.mkdir()
        command = [need("mount"), "-t", "tmpfs", "-o", f"size={kib}k", "none", str(directory)]
        if subprocess.run(command, capture_output=True).returncode:
            lacking("the right to mount a small file system: root, in a container with CAP_SYS_ADMIN")
        return directory

    yield mount
    if directory.is_mount():
        subprocess.run(["umount", directory], check=True)


def fill(directory: Path) -> Path:
    """A file that takes all the room that there is."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    return ballast


@dataclass(frozen=True)
class LocalModel:
    """A running server. `model` is the name that requests use; `api_key` is the only key it takes."""

    base_url: str
    api_key: str
    model: str

    @property
    def options(self) -> tuple[str, ...]:
        """The options that point a call at this server. The key goes into the environment: see `env`."""
        return ("--base-url", self.base_url, "--model", self.model)

    @property
    def env(self) -> dict[str, str]:
        return {"CALLMETER_API_KEY": self.api_key}


@pytest.fixture(scope="session")
def local_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalModel]:
    """A real small model behind llama.cpp's OpenAI-compatible server, on loopback, one for the whole session."""
    home = tmp_path_factory.mktemp("local-model")
    with subprocess.Popen(
        [_script("callmeter"), "local", "serve"],
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "CALLMETER_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        base_url = server.stdout.readline().decode().strip()
        if not base_url:
            lacking(server.stderr.read().decode())
        said = json.loads((home / "local.json").read_text())
        yield LocalModel(base_url, said["api_key"], said["model"])
        server.terminate()


@pytest.fixture(scope="module")
def bao() -> Iterator[vault.Bao]:
    """A real OpenBao, unsealed, with a KV engine at `secret/`."""
    if vault.missing():
        lacking(vault.missing())
    with vault.openbao() as server:
        yield server


@pytest.fixture(scope="session")
def contract_server() -> Iterator[str]:
    """The base URL of OpenRouter's own OpenAPI document, served and enforced by Prism.

    A request that breaks the document is answered with 422 (or 401); `Prefer: code=429` asks for that answer.
    """
    prism = Path(sys.prefix) / "prism" / "node_modules" / ".bin" / "prism"
    program = str(prism) if prism.exists() else shutil.which("prism")
    if program is None:
        lacking("Prism is not installed; run `make test` where npm is")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    document = ROOT.parent / "shared" / "openrouter-openapi.yaml"
    if not document.exists():
        lacking("OpenRouter's OpenAPI document is not beside this checkout, in `shared`")
    command = [program, "mock", document, "-h", "127.0.0.1", "-p", str(port), "--errors", "--verboseLevel", "silent"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                assert server.poll() is None, "Prism ended before it was ready"
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
