"""The man pages: true to the program, well-formed, readable at 60 columns, and leading nowhere that is not there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import man_pages
import roff
from callmeter.cli.templates import KEYS as TEMPLATE_KEYS
from callmeter.policy.document import KEYS, TAG_KEYS, parse_policy
from callmeter.policy.quota_rules import QUOTA_KEYS
from callmeter.store.places import Places
from callmeter.store.settings import HELPER_KEYS, KNOWN, PROVIDER_KEYS, VAULT_KEYS, Settings, variable_of
from callmeter.words.errors import Exit
from callmeter.words.record import parse_record
from callmeter.words.tags import BUILT_IN
from callmeter.words.usage import COST_SOURCES, FIELDS, STATUSES, TOKENS
from command_tree import Argument, Command, Option, commands, tree
from conftest import ROOT, Run

PAGES = sorted((ROOT / "man").glob("man*/*"))
SECTION_1 = [page for page in PAGES if page.suffix == ".1"]
Need = Callable[[str], str]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def rendered(source: bytes, width: int = 78) -> str:
    """A page as a reader sees it, without bold and underlining."""
    done = subprocess.run(
        ["mandoc", "-T", "utf8", "-O", f"width={width}"], input=source, capture_output=True, check=True
    )
    return re.sub(r".\x08", "", done.stdout.decode())


def read(name: str) -> str:
    """A page's rendering as one line of words."""
    return " ".join(rendered((ROOT / "man" / f"man{name[-1]}" / name).read_bytes(), 900).split())


def entries(name: str) -> set[str]:
    """What a page has entries for: the text of its tags, without markup."""
    source = (ROOT / "man" / f"man{name[-1]}" / name).read_text()
    tags = re.findall(r"^\.TP\n(.*)$", source, re.MULTILINE)
    plain = (re.sub(r"\\f.|^\.[BI]R? ", "", tag).replace(r"\-", "-") for tag in tags)
    return {word for tag in plain for word in re.split(r"[ ,\\]+", tag)}


def test_the_committed_pages_are_those_of_the_commands() -> None:
    check = subprocess.run([sys.executable, ROOT / "tools" / "man_pages.py", "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def test_the_check_names_a_page_that_differs_and_one_that_nobody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import generated

    monkeypatch.setattr(generated, "ROOT", tmp_path)
    files = {tmp_path / "man1" / "a.1": "new\n", tmp_path / "man1" / "b.1": "same\n"}
    monkeypatch.setattr(sys, "argv", ["tool"])
    generated.write_or_check(files, [tmp_path / "man1"], "tool")
    (tmp_path / "man1" / "a.1").write_text("old\n")
    (tmp_path / "man1" / "c.1").write_text("gone\n")
    monkeypatch.setattr(sys, "argv", ["tool", "--check"])
    with pytest.raises(SystemExit, match=r"man1/a\.1, man1/c\.1"):
        generated.write_or_check(files, [tmp_path / "man1"], "tool")


@each_page
def test_mandoc_has_nothing_to_complain_about(page: Path, need: Need) -> None:
    lint = subprocess.run([need("mandoc"), "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
    assert (lint.returncode, lint.stdout) == (0, "")


@each_page
def test_groff_has_nothing_to_complain_about(page: Path, need: Need) -> None:
    done = subprocess.run([need("groff"), "-man", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@each_page
def test_a_page_fits_into_60_columns(page: Path, need: Need) -> None:
    need("mandoc")
    too_wide = [line for line in rendered(page.read_bytes(), 60).splitlines() if len(line) > 60]
    assert too_wide == []


@pytest.mark.parametrize("page", SECTION_1, ids=lambda page: page.name)
def test_every_command_page_lists_every_exit_status(page: Path, need: Need) -> None:
    need("mandoc")
    text = read(page.name)
    for status in Exit:
        meaning = status.meaning[0].upper() + status.meaning[1:]
        assert f" {int(status)} {meaning}." in text


def test_every_command_is_on_a_page_with_all_its_options(need: Need) -> None:
    need("mandoc")
    names = {page.name for page in SECTION_1}
    for command in commands(tree()):
        path = command.path.replace("callmeter llm-call", "llm-call")
        words = path.split()
        page = next(
            f"{'-'.join(words[:length])}.1"
            for length in range(len(words), 0, -1)
            if f"{'-'.join(words[:length])}.1" in names
        )
        assert page != "callmeter.1"
        assert path in read(page)
        for option in command.options:
            assert {*option.names, *option.negatives} <= entries(page)


@pytest.mark.parametrize("page", ["callmeter.1", "llm-call.1"])
def test_every_setting_and_tag_has_its_variable_there(page: str, need: Need) -> None:
    need("mandoc")
    assert {variable_of(name) for name in KNOWN} <= entries(page)
    text = read(page)
    assert [name for name in BUILT_IN if variable_of(name) not in text] == []


def test_every_variable_that_the_program_reads_is_documented() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    read_there = set(re.findall(r"\bCALLMETER_[A-Z_]*[A-Z]\b", source))
    page = (ROOT / "man" / "man1" / "callmeter.1").read_text()
    assert {name for name in read_there if name not in page} == set()


def test_every_file_has_its_place_on_the_page() -> None:
    names = {Path(path).name for path in vars(Places("config", "state")).values()} - {"config", "state"}
    assert names <= {name.rstrip("/") for name in entries("callmeter.1")}


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("callmeter-config.5", [*KNOWN, *PROVIDER_KEYS, *VAULT_KEYS, *HELPER_KEYS]),
        ("callmeter-usage-log.5", FIELDS),
        ("budget.json.5", [*KEYS, *TAG_KEYS, *QUOTA_KEYS]),
        ("llm-call.1", TEMPLATE_KEYS),
    ],
)
def test_every_key_of_a_file_has_an_entry_on_its_page(page: str, words: list[str]) -> None:
    assert set(words) <= entries(page)


@pytest.mark.parametrize("word", [*STATUSES, *COST_SOURCES, *TOKENS])
def test_the_page_of_the_usage_log_explains_every_word_in_it(word: str) -> None:
    page = (ROOT / "man" / "man5" / "callmeter-usage-log.5").read_text()
    assert re.search(rf"^\.BR? {word}\b", page, re.MULTILINE)


def test_the_examples_of_the_file_formats_are_good() -> None:
    policy = parse_policy((ROOT / "budget.example.json").read_bytes(), "budget.example.json")
    assert policy.required
    import tomllib

    text = (man_pages.TEMPLATES / "config.example.toml").read_text()
    assert Settings(tomllib.loads(text), "config.toml", {}).text("model")
    line = json.loads((man_pages.TEMPLATES / "usage.example.json").read_text(), parse_float=Decimal)
    assert list(line) == [name for name in FIELDS if name in line]
    assert parse_record(json.dumps(line, default=float).encode()).cost == Decimal("0.00042")


def test_the_example_of_a_template_can_be_used(home: Path, run_llm_call: Run) -> None:
    (home / "templates").mkdir()
    text = (man_pages.TEMPLATES / "template.example.toml").read_text()
    (home / "templates" / "summary.toml").write_text(text)
    dry = ("--dry-run", "--provider", "local", "--base-url", "http://localhost:1", "--model", "m")
    done = run_llm_call(*dry, "-t", "summary", "-p", "ticket", "SUP-1", "The log.")
    shown = json.loads(done.stdout)
    assert shown["request"]["messages"][-1]["content"] == "Summarise for engineers: The log."
    assert shown["tags"] == {"purpose": "summary", "work_item": "SUP-1"}


def test_every_page_that_is_referred_to_exists() -> None:
    names = {page.name for page in PAGES}
    source = "".join(page.read_text() for page in PAGES).replace("\\-", "-")
    references = set(re.findall(r"^\.BR ([a-z.-]+) \((\d)\)", source, re.MULTILINE)) - {("flock", "2")}
    assert references
    assert {f"{name}.{section}" for name, section in references} <= names
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    hints = set(re.findall(r"\bman (?:(\d) )?([a-z.-]*[a-z])`", code))
    assert hints
    assert {f"{name}.{section or 1}" for section, name in hints} <= names


readable = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(st.lists(readable.map(str.strip).filter(bool), min_size=1, max_size=20))
def test_no_text_can_be_taken_for_markup(need: Need, texts: list[str]) -> None:
    need("mandoc")
    page = [".TH A 1 2026-11-21", ".SH B", ".EX", *map(roff.literal, texts), ".EE"]
    lines = rendered("\n".join(page).encode() + b"\n").splitlines()
    assert [line.strip() for line in lines[1:-1] if line.strip() and line[0] == " "] == texts


def test_help_with_markup_in_it_comes_out_as_it_is(need: Need) -> None:
    need("mandoc")
    command = Command(
        "callmeter x",
        ".SH is 'not' a heading.",
        (r"\fBnot bold\fR, a \ backslash and `--a-b 'c' ~ ^` in one.",),
        (r"""callmeter x 'a\nb' --very-long-option "with words" --another-long-option value | jq -r '.[]'""",),
        (Argument("A'B", True, False, (), "'br is text."),),
        (Option(("-x", "--a-b"), (), ("N",), (), ".PP is text, `…` too.", False),),
    )
    page = man_pages._page("callmeter-x.1", command, [])
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning"], input=page, capture_output=True, text=True)
    assert lint.stdout == ""
    text = " ".join(rendered(page.encode()).split())
    for whole in (
        ".SH is 'not' a heading.",
        r"\fBnot bold\fR, a \ backslash and --a-b 'c' ~ ^ in one.",
        "'br is text.",
        ".PP is text, … too.",
        r"""callmeter x 'a\nb' --very-long-option "with words" \ --another""",
    ):
        assert whole in text


word = st.sampled_from(["callmeter", "-x", "--option", "value", "'two words'", '"$x y"', "<", ">", "|", "a" * 30])


@given(st.lists(word, min_size=1, max_size=12).map(" ".join))
def test_an_example_that_is_broken_into_lines_is_still_the_same_command(line: str) -> None:
    shown = "\n".join(roff.example(line)).replace("\\-", "-").replace("\\(aq", "'").replace("\\(dq", '"')
    continued = re.sub(r"\\e\n", "", shown)
    assert "\n" not in continued
    assert shlex.split(continued) == shlex.split(line)
