"""The wheel: everything a user needs is in it, nothing else, and what is installed from it runs."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

from callmeter import __version__
from conftest import ROOT, lacking

SHARE = f"callmeter-{__version__}.data/data/share"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by hatchling itself, without a network."""
    directory = tmp_path_factory.mktemp("wheel")
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    try:
        import hatchling  # noqa: F401
    except ImportError:
        lacking("hatchling is not installed; run `make test`")
    done = subprocess.run(
        [sys.executable, "-c", build, directory], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return directory / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_module_and_data_file_is_in_it(names: set[str]) -> None:
    package = ROOT / "src"
    wanted = {
        str(path.relative_to(package))
        for path in (package / "callmeter").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"callmeter/py.typed", "callmeter/cli/lane_table.py", "callmeter/data/prices.jsonl"} <= wanted
    assert wanted == {name for name in names if name.startswith("callmeter/")}


def test_nothing_else_is_in_it(names: set[str]) -> None:
    roots = {name.split("/")[0] for name in names}
    assert roots == {"callmeter", f"callmeter-{__version__}.data", f"callmeter-{__version__}.dist-info"}


def test_man_pages_and_completions_lie_where_their_readers_look(names: set[str]) -> None:
    pages = {f"{SHARE}/man/{page.parent.name}/{page.name}" for page in (ROOT / "man").rglob("*.[15]")}
    scripts = {
        f"{SHARE}/bash-completion/completions/callmeter",
        f"{SHARE}/bash-completion/completions/llm-call",
        f"{SHARE}/zsh/site-functions/_callmeter",
        f"{SHARE}/zsh/site-functions/_llm-call",
        f"{SHARE}/fish/vendor_completions.d/callmeter.fish",
        f"{SHARE}/fish/vendor_completions.d/llm-call.fish",
    }
    assert f"{SHARE}/man/man1/callmeter.1" in pages
    assert {name for name in names if name.startswith(f"{SHARE}/")} == pages | scripts


def test_its_metadata_names_commands_licence_and_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        about = f"callmeter-{__version__}.dist-info"
        metadata = BytesParser().parsebytes(archive.read(f"{about}/METADATA"))
        commands = configparser.ConfigParser()
        commands.read_string(archive.read(f"{about}/entry_points.txt").decode())
        assert f"{about}/licenses/LICENSE" in archive.namelist()
    assert dict(commands["console_scripts"]) == {
        "callmeter": "callmeter.cli.main:main",
        "llm-call": "callmeter.cli.main:llm_call",
    }
    assert (metadata["Version"], metadata["License-Expression"]) == (__version__, "MIT")
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload().startswith("# callmeter")


def test_what_is_installed_from_it_runs(wheel: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    prefix = tmp_path / "prefix"
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode != 0:
        lacking("pip is not installed")
    # Its own directory, before the one in which the tests find the sources; the libraries are there already.
    install = ["install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", "--prefix", prefix, wheel]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    (packages,) = prefix.glob("lib/python*/site-packages")
    env = environment | {"PYTHONPATH": str(packages), "PATH": f"{prefix}/bin{os.pathsep}{environment['PATH']}"}

    def run(*arguments: str) -> str:
        return subprocess.run(arguments, env=env, check=True, capture_output=True, text=True).stdout

    assert run(sys.executable, "-c", "import callmeter; print(callmeter.__file__)").startswith(str(packages))
    assert run("callmeter", "--version") == f"callmeter {__version__}\n"
    assert '"dry_run"' in run("llm-call", "--dry-run", "-m", "gpt-4o-mini", "--provider", "openai", "hello")
    assert "gpt-4o-mini" in run("callmeter", "prices", "show", "gpt-4o-mini", "--provider", "openai")
    assert (prefix / "share" / "man" / "man1" / "llm-call.1").is_file()
