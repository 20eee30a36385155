"""`--schema`: the answer must be JSON of a shape, and the exit status says whether it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import LocalModel, Run
from servers.counting import CountingServer


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        running.answers["who"] = '{"name": "Ada", "age": 36}'
        yield running


def test_a_schema_is_short_or_json_or_a_file(run_llm_call: Run, server: CountingServer, tmp_path: Path) -> None:
    document = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    (tmp_path / "person.json").write_text(json.dumps(document))
    for schema in ("name, age int", json.dumps(document), str(tmp_path / "person.json")):
        done = run_llm_call("--base-url", server.base_url, "-m", "m", "--schema", schema, "who")
        assert (done.returncode, done.stdout, done.stderr) == (0, '{"name": "Ada", "age": 36}\n', "")
    sent = [body["response_format"]["json_schema"] for body in server.bodies]
    assert sent[0]["schema"]["additionalProperties"] is False
    assert sent[1] == sent[2] == {"name": "answer", "strict": False, "schema": document}


def test_an_answer_of_another_shape_is_printed_as_it_is_with_status_9(
    run_llm_call: Run, server: CountingServer
) -> None:
    server.answers["who"] = '{"name": "Ada", "age": "36"}'
    done = run_llm_call("--base-url", server.base_url, "-m", "m", "--schema", "name, age int", "who")
    assert (done.returncode, done.stdout) == (9, server.answers["who"] + "\n")
    assert "does not meet the schema: $.age: '36' is not of type 'integer'" in done.stderr
    done = run_llm_call("--base-url", server.base_url, "-m", "m", "--schema", "name, age int", "--json", "who")
    assert json.loads(done.stdout)["text"] == server.answers["who"]
    assert json.loads(done.stderr)["faults"] == ["$.age: '36' is not of type 'integer'"]


@pytest.mark.parametrize(
    "schema", ["", "age integer", '{"type": "strin"}', "nowhere.json", "./nowhere", '{"$ref": "x"}']
)
def test_a_wrong_schema_is_told_before_anything_is_sent(run_llm_call: Run, server: CountingServer, schema: str) -> None:
    done = run_llm_call("--base-url", server.base_url, "-m", "m", "--schema", schema, "who")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--schema" in done.stderr
    assert server.bodies == []


def test_the_real_model_is_held_to_the_schema(run_llm_call: Run, local_model: LocalModel) -> None:
    for schema in ("colour, count int, heavy bool", '{"type": "array", "items": {"type": "integer"}, "maxItems": 3}'):
        done = run_llm_call(
            *local_model.options,
            *("--max-tokens", "200", "-o", "temperature", "0", "--schema", schema, "Describe an apple."),
            env=local_model.env,
        )
        assert done.returncode == 0, done.stderr
        assert isinstance(json.loads(done.stdout), dict if "colour" in schema else list)
