"""The JSON schema of pipeline files: it says what the loader says, and the copy in the docs is up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from curate.config.overrides import TOP_LEVEL
from curate.config.schema import pipeline_schema, schema_of
from curate.plugin import PluginHost
from curate.run_time_options import RUN_TIME_OPTIONS

ROOT = Path(__file__).parents[3]

jsonschema = pytest.importorskip("jsonschema")

PIPELINE = """
name: mine
vars: {size: 8}
stages:
  - {use: read_manifest, manifest: [a.jsonl, b.jsonl]}
  - {use: partition, max_records: "${vars.size}"}
  - {use: curate-speech/asr_nemo, name: asr, model_name: m.nemo, batch_size: 4, resources: {gpus: 1, memory: 6GB}}
  - {use: quality_filter, expression: wer < 1, retries: 2}
  - {use: somebodys-plugin/denoise, strength: 3}
  - {use: merge, path: out.jsonl}
executor: {use: local}
run_dir: runs/mine
"""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return pipeline_schema(PluginHost(environment={"CURATE_PLUGINS": ""}))


def mistakes(schema: dict[str, Any], document: Any) -> list[str]:
    validator = jsonschema.Draft7Validator(schema)
    return [error.message for error in validator.iter_errors(document)]


def test_it_is_a_schema(schema: dict[str, Any]) -> None:
    jsonschema.Draft7Validator.check_schema(schema)
    assert set(schema["properties"]) == set(TOP_LEVEL)
    assert all(set(RUN_TIME_OPTIONS) <= set(stage["properties"]) for stage in stages(schema))


def stages(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [form for name, form in schema["definitions"].items() if name.startswith("stage.")]


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*/*.yaml")), ids=lambda path: path.parent.name)
def test_pipelines_that_run_are_valid(schema: dict[str, Any], path: Path) -> None:
    assert mistakes(schema, yaml.safe_load(path.read_text())) == []


def test_all_that_a_file_may_say_is_valid(schema: dict[str, Any]) -> None:
    assert mistakes(schema, yaml.safe_load(PIPELINE)) == []


@pytest.mark.parametrize(
    ("was", "becomes", "about"),
    [
        ("max_records", "max_recods", "max_recods"),
        ("manifest: [a.jsonl, b.jsonl]", "roots: a", "manifest"),
        ("batch_size: 4", "batch_size: 0", "0"),
        ("batch_size: 4", "batch_size: four", "four"),
        ("gpus: 1", "gpu: 1", "gpu"),
        ("retries: 2", "retries: -1", "-1"),
        ("vars:", "variables:", "variables"),
        ("use: merge, path", "path", "use"),
    ],
)
def test_mistakes_are_seen(schema: dict[str, Any], was: str, becomes: str, about: str) -> None:
    assert was in PIPELINE
    found = mistakes(schema, yaml.safe_load(PIPELINE.replace(was, becomes)))
    assert found
    assert any(about in message for message in found)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (int, [1, "${vars.n}"], [1.5, "1", None]),
        (float, [1, 1.5], ["x"]),
        (bool, [True], ["yes", 1]),
        (str, ["x"], [1]),
        (Path, ["x"], [1]),
        (int | None, [None, 3], ["x", 2.5]),
        (list[int], [[1, 2], []], [1, ["x"]]),
        (str | list[str], ["x", ["x"]], [1, [1]]),
        (dict[str, float], [{"a": 1}], [{"a": "x"}, 1]),
        (Any, [1, "x", None], []),
    ],
)
def test_annotations_become_forms(kind: Any, good: list[Any], bad: list[Any]) -> None:
    form = schema_of(kind)
    assert [value for value in good if mistakes(form, value)] == []
    assert [value for value in bad if not mistakes(form, value)] == []


def test_the_copy_in_the_docs_is_up_to_date(schema: dict[str, Any]) -> None:
    copy = json.loads((ROOT / "docs" / "pipeline.schema.json").read_text())
    assert copy == schema, "make it again: CURATE_PLUGINS= curate schema > docs/pipeline.schema.json"
