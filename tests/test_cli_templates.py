"""Templates: a call's fixed parts in a TOML file, with holes that the call fills."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from conftest import Run
from servers.counting import CountingServer

Ask = Callable[..., CompletedProcess[str]]


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


@pytest.fixture
def ask(run_llm_call: Run, server: CountingServer) -> Ask:
    def ask(*arguments: str | Path, input: str | None = None, **env: str) -> CompletedProcess[str]:
        return run_llm_call("--base-url", server.base_url, *arguments, input=input, env=env)

    return ask


@pytest.fixture
def template(home: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        path = home / "templates" / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


Write = Callable[[str, str], Path]


def sent(server: CountingServer) -> dict[str, Any]:
    return server.bodies[-1]


def logged(home: Path) -> dict[str, Any]:
    last: dict[str, Any] = json.loads((home / "usage.jsonl").read_text().splitlines()[-1])
    return last


def test_a_template_brings_prompt_system_model_ceiling_tags_and_options(
    ask: Ask, template: Write, server: CountingServer, home: Path
) -> None:
    template(
        "brief",
        """
        prompt = "Summarise $input for $audience in ${count} sentences; it costs $$5."
        system = "You write for $audience."
        model = "tiny"
        max_tokens = 33
        tags = { purpose = "summary", team = "team-$audience", level = 3 }
        [options]
        temperature = 0.2
        stop = ["END"]
        [defaults]
        audience = "engineers"
        count = 3
        """,
    )
    done = ask("-t", "brief", "-p", "audience", "cooks", input="the text\n")
    assert (done.returncode, done.stderr) == (0, "")
    asked = "Summarise the text for cooks in 3 sentences; it costs $5."
    assert done.stdout == f"answer to {asked}\n"
    body = sent(server)
    assert body["messages"] == [
        {"role": "system", "content": "You write for cooks."},
        {"role": "user", "content": asked},
    ]
    assert (body["model"], body["max_completion_tokens"]) == ("tiny", 33)
    assert (body["temperature"], body["stop"]) == (0.2, ["END"])
    assert logged(home)["tags"] == {"purpose": "summary", "team": "team-cooks", "level": "3"}


def test_the_call_wins_over_the_template_and_the_template_over_variable_and_setting(
    ask: Ask, template: Write, server: CountingServer, home: Path
) -> None:
    (home / "config.toml").write_text('model = "by-setting"\n[tags]\npurpose = "by-setting"\n')
    template("t", 'prompt = "p"\nmodel = "by-template"\ntags = { purpose = "by-template" }\noptions = { seed = 1 }\n')
    variables = {"CALLMETER_MODEL": "by-variable", "CALLMETER_PURPOSE": "by-variable"}
    ask("-t", "t", **variables)
    assert sent(server)["model"] == "by-template"
    assert logged(home)["tags"]["purpose"] == "by-template"
    ask("-t", "t", "-m", "by-option", "--purpose", "by-option", "-o", "seed", "2", "-s", "own system", **variables)
    assert (sent(server)["model"], sent(server)["seed"]) == ("by-option", 2)
    assert sent(server)["messages"][0] == {"role": "system", "content": "own system"}
    assert logged(home)["tags"]["purpose"] == "by-option"


def test_input_that_the_template_does_not_mention_is_added_at_its_end(
    ask: Ask, template: Write, server: CountingServer, tmp_path: Path
) -> None:
    template("t", 'prompt = "Translate into French:"\n')
    (tmp_path / "file.txt").write_text("from the file\n")
    ask("-m", "m", "-t", "t", "-f", tmp_path / "file.txt", "and the prompt", input="from stdin\n")
    assert server.prompts == ["Translate into French:\n\nfrom the file\n\nfrom stdin\n\nand the prompt"]
    template("system only", 'system = "Be brief."\n')
    ask("-m", "m", "-t", "system only", "hello")
    assert server.prompts[-1] == "hello"
    ask("-m", "m", "-t", "t")
    assert server.prompts[-1] == "Translate into French:"


def test_what_is_put_into_a_hole_is_not_looked_at_again(ask: Ask, template: Write, server: CountingServer) -> None:
    template("t", 'prompt = "$input / $name"\n')
    ask("-m", "m", "-t", "t", "-p", "name", "$input = $x", "it costs $5 and $name")
    assert server.prompts == ["it costs $5 and $name / $input = $x"]


def test_an_image_goes_with_the_filled_prompt(
    ask: Ask, template: Write, server: CountingServer, tmp_path: Path
) -> None:
    template("t", 'prompt = "Describe $input"\nmodel = "m"\n')
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    assert ask("-t", "t", "-a", tmp_path / "a.png").returncode == 0
    content = sent(server)["messages"][-1]["content"]
    assert content[0] == {"type": "text", "text": "Describe "}
    assert base64.b64encode(b"\x89PNG").decode()[:4] in content[1]["image_url"]["url"]


def test_schema_and_extract_of_a_template_hold_for_its_answers(
    ask: Ask, template: Write, server: CountingServer
) -> None:
    template("person", 'prompt = "who"\nmodel = "m"\nschema = "name, age int"\n')
    server.answers["who"] = '{"name": "Ada", "age": 36}'
    assert ask("-t", "person").stdout == '{"name": "Ada", "age": 36}\n'
    assert sent(server)["response_format"]["json_schema"]["schema"]["required"] == ["name", "age"]
    template("table", 'prompt = "who"\nmodel = "m"\n[schema]\ntype = "object"\n[schema.properties.n]\nminimum = 0.5\n')
    assert ask("-t", "table").returncode == 0
    assert sent(server)["response_format"]["json_schema"]["schema"]["properties"] == {"n": {"minimum": 0.5}}
    template("code", 'prompt = "code"\nmodel = "m"\nextract = true\n')
    server.answers["code"] = "Here:\n```\nx = 1\n```\nDone."
    assert ask("-t", "code").stdout == "x = 1\n"


@pytest.mark.parametrize(
    ("text", "arguments", "status", "says"),
    [
        ('prompt = "$who and $what"', [], 2, ["needs a value for what, who", "-p what … -p who …"]),
        ('prompt = "$audience"', ["-p", "audeince", "x"], 2, ["no such parameter, did you mean 'audience'?"]),
        ('prompt = "$input"', [], 2, ["asks for input"]),
        ('prompt = "$input"', ["-p", "input", "x"], 2, ["no such parameter"]),
        ('promt = "x"', [], 5, ["unknown key `promt`, did you mean 'prompt'?"]),
        ("prompt = 3", [], 5, ["`prompt` is not text"]),
        ('prompt = "costs $5"', [], 5, ["`prompt`, line 1", "write `$$`"]),
        ('prompt = "x"\nmax_tokens = 0', [], 5, ["`max_tokens`"]),
        ('prompt = "x"\nextract = "yes"', [], 5, ["`extract`"]),
        ('prompt = "x"\ntags = "a"', [], 5, ["`tags` is not a table"]),
        ('prompt = "x"\n[tags]\nagent = []', [], 5, ["`tags.agent`"]),
        ('prompt = "x"\n[defaults]\ninput = "y"', [], 5, ["`defaults.input`"]),
        ('prompt = "x', [], 5, ["t.toml: ", "line 1"]),
        ('prompt = "x"\n[tags]\n"bad name" = "y"', [], 2, ["tag name"]),
    ],
)
def test_a_template_that_is_wrong_is_refused_and_nothing_is_sent(
    ask: Ask, template: Write, server: CountingServer, text: str, arguments: list[str], status: int, says: list[str]
) -> None:
    template("t", text + "\n")
    done = ask("-m", "m", "-t", "t", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    for part in says:
        assert part in done.stderr
    assert server.bodies == []


def test_a_missing_template_is_told_with_those_that_are_there(ask: Ask, template: Write, home: Path) -> None:
    done = ask("-m", "m", "-t", "summary", "x")
    assert done.returncode == 2
    assert f"there is no template 'summary' in {home / 'templates'}" in done.stderr
    template("summarise", 'prompt = "x"')
    done = ask("-m", "m", "-t", "summarize", "x")
    assert "did you mean 'summarise'?" in done.stderr
    assert "-p goes with a template" in ask("-m", "m", "-p", "a", "b", "x").stderr


def test_a_name_stays_in_the_directory_and_a_path_is_taken_as_one(
    ask: Ask, template: Write, server: CountingServer, home: Path, tmp_path: Path
) -> None:
    template("t", 'prompt = "inside"\nmodel = "m"\n')
    (home / "secret.toml").write_text('prompt = "outside"\nmodel = "m"\n')
    for name in ("..", ".", "../secret", "..%2fsecret", ""):
        assert "no template" in ask("-m", "m", "-t", name, "x").stderr, name
    assert server.bodies == []
    (tmp_path / "own.toml").write_text('prompt = "by path"\nmodel = "m"\n')
    assert ask("-t", tmp_path / "own.toml").stdout == "answer to by path\n"


def test_an_edited_template_counts_at_once(ask: Ask, template: Write, server: CountingServer) -> None:
    template("t", 'prompt = "before"\nmodel = "m"\n')
    ask("-t", "t")
    template("t", 'prompt = "after"\nmodel = "m"\n')
    ask("-t", "t")
    assert server.prompts == ["before", "after"]
