"""The compiled reader of lines: its memory, the files it writes, how it is built, and reports without it."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest

from callmeter.store import index_native, index_rows, parquet
from callmeter.store.index import UsageIndex
from callmeter.store.index_columns import COLUMNS
from callmeter.store.index_native import _MEANING, Native, native
from conftest import ROOT, TESTS, lacking
from test_store_index_native import CHANGING, agreeing_rows, line_of

NATIVE = Path("src/callmeter/store/native")
SANITIZED = ("-std=gnu11", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


# Memory


@pytest.fixture(scope="module")
def harness(need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Runs `native_harness.c`, which says what went wrong."""
    program = tmp_path_factory.mktemp("harness") / "harness"
    command = [need("cc"), *SANITIZED, "-o", program, TESTS / "native_harness.c", "-lm"]
    built = subprocess.run(command, capture_output=True, text=True)
    if "asan" in built.stderr or "ubsan" in built.stderr:
        lacking("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr

    def run(*given: str) -> None:
        # It counts for itself what was not freed; to be told by the sanitizer takes rights that containers lack.
        options = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        done = subprocess.run([program, *given], capture_output=True, text=True, env=options)
        assert done.returncode == 0, done.stderr

    return run


@pytest.mark.parametrize("seed", ["1", "2"])
def test_no_bytes_make_it_read_or_write_beside_its_memory(harness: Callable[..., None], seed: str) -> None:
    harness(seed, "2.5")


def test_it_lives_without_memory(harness: Callable[..., None]) -> None:
    harness("oom")


def test_nobody_who_writes_lines_can_choose_their_places_in_its_tables(harness: Callable[..., None]) -> None:
    harness("places")


def test_threads_write_at_once(tmp_path: Path) -> None:
    library = native() or lacking("callmeter was installed without a C compiler")
    kinds = {name: agreeing_rows(700, **CHANGING[name]) for name in ("texts that differ", "numbers", "now and then")}
    texts = {name: b"".join(line + b"\n" for line in lines) for name, lines in kinds.items()}

    def write(number: int) -> bytes:
        text = texts[list(texts)[number % 3]]
        path = tmp_path / str(number)
        library.write(bytearray(text), len(text), 700, str(path), source=1, line=0, start=0)
        content = path.read_bytes()
        path.unlink()
        return content

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        alone = [write(number) for number in range(3)]
        with ThreadPoolExecutor(6) as workers:
            for number, content in enumerate(workers.map(write, range(300))):
                assert content == alone[number % 3]
    finally:
        sys.setswitchinterval(before)


# Files


def asked(question: str, path: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(question, {"path": path}).fetchall()


@pytest.mark.parametrize("kind", CHANGING)
def test_another_reader_finds_the_same_in_its_files(tmp_path: Path, kind: str) -> None:
    try:
        from pyarrow import parquet as arrow
    except ImportError:
        lacking("pyarrow is not installed")
    compiled = native() or lacking("callmeter was installed without a C compiler")
    lines = agreeing_rows(2500, **CHANGING[kind])
    text = b"".join(line + b"\n" for line in lines)
    path = str(tmp_path / "rows.parquet")
    compiled.write(bytearray(text), len(text), len(lines), path, source=1, line=0, start=0)
    table = arrow.read_table(path)
    rows = asked(f"SELECT {', '.join(COLUMNS)} FROM read_parquet($path)", path)
    assert table.num_rows == len(rows) == 2500
    metadata = arrow.ParquetFile(path).metadata
    assert (metadata.num_row_groups, metadata.num_rows) == (1, 2500)
    for number, name in enumerate(COLUMNS):
        found = table.column(name).to_pylist()
        if COLUMNS[name] == "UUID":
            found = [UUID(bytes=value) if isinstance(value, bytes) else value for value in found]
        assert found == [row[number] for row in rows], name
        column = metadata.row_group(0).column(number)
        values = [value for value in found if value is not None]
        assert column.num_values == 2500
        assert column.statistics.null_count == 2500 - len(values)
        if COLUMNS[name].endswith("INT") or COLUMNS[name] == "INTEGER":
            assert column.statistics.has_min_max == bool(values)
            if values:
                assert (column.statistics.min, column.statistics.max) == (min(values), max(values))


class Trickle(io.BytesIO):
    """A file that takes a part of what is written, as one without a buffer may."""

    def write(self, data: Any) -> int:
        return super().write(bytes(data[: max(1, len(data) // 3)]))


def test_a_file_that_takes_a_part_only_gets_the_rest_too() -> None:
    chunk = parquet.Chunk(0, -1, 3, 1, 0, 0)
    whole, trickle = io.BytesIO(), Trickle()
    for file in (whole, trickle):
        parquet.write(file, {"source": "INTEGER"}, 1, b"abc", [chunk])
    assert trickle.getvalue() == whole.getvalue() != b""


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "usage.jsonl"
    lines = agreeing_rows(3000, generation_id=lambda number: f'"{number * 2**70 // 7:030}"', corrects=lambda _: None)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def counted(log: str, index: Path) -> tuple[int, int, int, str]:
    usage = UsageIndex([log], str(index), UTC)
    figures = usage.groups()[0][1]
    return figures.calls, figures.nano, usage.reading.bad_lines, usage.unkept


def test_a_disk_that_is_full_is_an_error_and_never_half_a_file(
    log: str, tmp_path: Path, file_system: Callable[[int], Path]
) -> None:
    compiled = native() or lacking("callmeter was installed without a C compiler")
    disk = file_system(64)
    text = Path(log).read_bytes()
    for _ in range(2):
        with pytest.raises(OSError, match="No space left on device"):
            compiled.write(bytearray(text), len(text), 3000, str(disk / "rows"), source=1, line=0, start=0)
        (disk / "rows").unlink()
    there = str(tmp_path / "rows")  # with the same memory
    assert compiled.write(bytearray(text), len(text), 3000, there, source=1, line=0, start=0).rows == 3000
    assert asked("SELECT count(DISTINCT generation_id) FROM read_parquet($path)", there) == [(3000,)]


def test_without_room_for_the_index_a_report_is_made_without_one(
    log: str, reader: str, file_system: Callable[[int], Path]
) -> None:
    index = file_system(64)
    assert counted(log, index) == (3000, 1_500_000_000_000, 0, "no space left on device")
    assert not list(index.glob("*.parquet"))


KILLED = """
import io, os, sys
from datetime import UTC
from callmeter.store import parquet
from callmeter.store.index import UsageIndex

real = parquet.write

def write(file, *given):
    whole = io.BytesIO()
    real(whole, *given)
    file.write(whole.getvalue()[: int(float(sys.argv[3]) * len(whole.getvalue()))])
    os.kill(os.getpid(), 9)

parquet.write = write
UsageIndex([sys.argv[1]], sys.argv[2], UTC)
"""


@pytest.mark.parametrize("share", ["0", "0.3", "0.99", "1"])
def test_a_build_killed_while_it_writes_rows_has_changed_nothing(log: str, tmp_path: Path, share: str) -> None:
    index = tmp_path / "index"
    done = subprocess.run([sys.executable, "-c", KILLED, log, str(index), share], capture_output=True, text=True)
    if native() is None:
        lacking("callmeter was installed without a C compiler")
    assert done.returncode == -9, done.stderr
    assert counted(log, index) == (3000, 1_500_000_000_000, 0, "")


# Without it


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the library is looked for, from now on."""
    path = tmp_path / "lines.so"
    monkeypatch.setattr(index_native, "_LIBRARY", str(path))
    native.cache_clear()
    yield path
    native.cache_clear()


def test_reports_say_the_same_without_it(log: str, tmp_path: Path, library: Path) -> None:
    assert native() is None
    assert counted(log, tmp_path / "index") == (3000, 1_500_000_000_000, 0, "")


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF", b"\x7fELF\2\1\1" + bytes(200)])
def test_what_is_no_library_is_as_none(log: str, tmp_path: Path, library: Path, content: bytes) -> None:
    library.write_bytes(content)
    assert native() is None
    assert counted(log, tmp_path / "index") == (3000, 1_500_000_000_000, 0, "")


OTHERS = {
    "of other columns": 'const char *callmeter_columns(void) { return "source line"; }',
    "of nothing": "int nothing;",
    "of columns alone": f'const char *callmeter_columns(void) {{ return "{_MEANING} {" ".join(COLUMNS)}"; }}',
    "of another meaning": f'const char *callmeter_columns(void) {{ return "{_MEANING - 1} {" ".join(COLUMNS)}"; }}',
}


@pytest.mark.parametrize("kind", OTHERS)
def test_the_library_of_another_version_is_as_none(
    log: str, tmp_path: Path, library: Path, need: Callable[[str], str], kind: str
) -> None:
    source = tmp_path / "other.c"
    source.write_text(OTHERS[kind], encoding="ascii")
    subprocess.run([need("cc"), "-shared", "-fPIC", "-o", library, source], check=True)
    assert native() is None
    assert counted(log, tmp_path / "index") == (3000, 1_500_000_000_000, 0, "")


def test_rows_of_either_way_stand_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, index, chance = tmp_path / "usage.jsonl", tmp_path / "index", random.Random(5)
    for count in range(1, 6):
        lines = agreeing_rows(40, corrects=lambda _: None, id=lambda n, count=count: f'"{UUID(int=count * 100 + n)}"')
        chance.shuffle(lines)
        with log.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in [*lines, line_of(id=f'"{UUID(int=100)}"', corrects=None)]))
        with monkeypatch.context() as patch:
            if count % 2:
                patch.setattr(index_rows, "native", lambda: None)
            assert counted(str(log), index) == (40 * count, 40 * count * 500_000_000, 0, "")


# Building


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is built, never compiled."""
    try:
        import hatchling  # noqa: F401
    except ImportError:
        lacking("hatchling is not installed; run `make test`")
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("man", "completions", "tools", "src/callmeter"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so*"))
    return copy


def built(tree: Path, compiler: str) -> tuple[str, list[str], str]:
    """A wheel's name, what it has of the compiled reader, and what was said."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tree / "out")]
    done = subprocess.run(command, cwd=tree, env={**os.environ, "CC": compiler}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = (tree / "out").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if "/store/native/" in name]
    wheel.unlink()
    return wheel.name, sorted(name.rsplit("/", 1)[1] for name in names), done.stdout + done.stderr


SOURCES = ["columns.h", "line.h", "lines.c", "pages.h"]


def test_a_build_with_a_compiler_has_it_and_is_for_this_platform(tree: Path, need: Callable[[str], str]) -> None:
    name, files, _ = built(tree, need("cc"))
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert name.endswith(f"-py3-none-{platform}.whl")
    assert files == sorted([*SOURCES, "lines.so"])
    assert Native(str(tree / NATIVE / "lines.so"))
    assert not list((tree / NATIVE).glob("*.new"))


@pytest.mark.parametrize("compiler", ["/nonexistent", "false"])
def test_a_build_without_a_compiler_lacks_it_says_so_and_is_for_every_platform(tree: Path, compiler: str) -> None:
    (tree / NATIVE / "lines.so").write_bytes(b"of the build before")
    name, files, said = built(tree, compiler)
    assert name.endswith("-py3-none-any.whl")
    assert files == SOURCES
    assert "callmeter is built without its compiled reader of logs" in said


def test_a_warning_of_the_compiler_is_a_defect(need: Callable[[str], str], tmp_path: Path) -> None:
    try:
        from compile_reader import FLAGS
    except ImportError:
        lacking("hatchling is not installed; run `make test`")
    command = [need("cc"), *FLAGS, "-o", tmp_path / "lines.so", ROOT / NATIVE / "lines.c", "-lm"]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""
