"""Names of other frameworks and guides are answered with ours, wherever they are written."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, RecordStage
from curate.cli import main
from curate.errors import UsageError
from curate.executors.local import LocalExecutor
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.executors.ray import RayExecutor
from curate.foreign_names import FOREIGN_NAMES
from curate.monitoring import PerformanceMonitor
from curate.records import Record
from curate.stages import AsrWithinMemory, InferenceAsrNemoStage, ReadRecords

ROOT = Path(__file__).parents[2]


def test_page_and_table_of_foreign_names_are_equal() -> None:
    page = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", page.partition("### Other names")[2].partition("\n## ")[0], re.M)
    assert dict(rows) == dict(FOREIGN_NAMES)


@pytest.mark.parametrize("name", FOREIGN_NAMES)
@pytest.mark.parametrize("module", ["curate", "curate.stages", "curate.batching", "curate.monitoring", "curate.bench"])
def test_import_of_a_foreign_name_is_answered(module: str, name: str) -> None:
    with pytest.raises(ImportError, match=re.escape(FOREIGN_NAMES[name])):
        exec(f"from {module} import {name}", {})
    with pytest.raises(AttributeError, match="has no attribute 'zzz'"):
        importlib.import_module(module).zzz  # noqa: B018


@pytest.mark.parametrize("executor", [LocalExecutor, MultiprocessingExecutor, RayExecutor])
@pytest.mark.parametrize(
    "option",
    ["num_workers", "max_retries", "resources_per_worker", "ray_init_kwargs", "worker_startup_timeout"],
)
def test_option_of_another_executor_is_answered(executor: Any, option: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"has no option {option!r}: {FOREIGN_NAMES[option]}")):
        executor(**{option: 1})


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"num_workers": 4}, "the option is called `workers`"),
        ({"max_retries": 4}, "the option is called `retries`"),
        ({"workers": 4}, r"use .with_\(workers=…\)"),
        ({"min_audio_len": 32_000}, "use min_s, in seconds"),
        ({"batchsize": 4}, "did you mean 'batch_size'"),
    ],
)
def test_unknown_setting_of_a_stage_is_answered(settings: dict[str, Any], answer: str) -> None:
    with pytest.raises(TypeError, match=answer):
        InferenceAsrNemoStage("model.nemo", **settings)


class OwnInit(RecordStage):
    def __init__(self, **anything: Any) -> None:
        self.anything = anything

    def process_record(self, record: Record) -> Record:
        return record


def test_stage_with_a_constructor_of_its_own_takes_what_it_takes() -> None:
    assert OwnInit(num_workers=4).anything == {"num_workers": 4}


class XennaExecutor:
    """As NeMo Curator's: it has no name."""


@dataclass
class Nameless:
    def check(self, plan: Any) -> None: ...
    def open(self, hops: Any) -> Any: ...
    def close(self) -> None: ...


@dataclass
class Misnamed(Nameless):
    name: Any = None


@pytest.mark.parametrize(
    ("executor", "answer"),
    [
        (XennaExecutor(), "XennaExecutor is not an executor of curate: pass the name of an executor"),
        (Nameless(), "Nameless is not an executor: it has no name"),
        (Misnamed(), "the name of an executor is a string, not None"),
        (LocalExecutor, r"the executor is a class: create one, LocalExecutor\(…\)"),
        (7, "int is not an executor: it has no name, check, open, close"),
        ("XennaExecutor", "pass the name of an executor"),
    ],
)
def test_object_that_is_not_an_executor_is_answered(executor: Any, answer: str) -> None:
    for call in (Pipeline("p", [ReadRecords([{"x": 1}])]).run, Pipeline("p", [ReadRecords([{"x": 1}])]).plan):
        with pytest.raises(UsageError, match=answer):
            call(executor)


def test_batch_recorded_without_its_padding_claims_none() -> None:
    monitor = PerformanceMonitor(warm_up_batches=0)
    monitor.record_batch(4, 20.0, 0.5)  # as the guide calls it: four items of 2, 2, 2 and 14 s
    figures = monitor.get_statistics()
    assert figures["shapes"] == {"4x?": 1}
    assert "waste" not in figures and "padded_s" not in figures
    monitor.record_batch(4, 20.0, 0.5, padded_duration=56.0)
    assert monitor.get_statistics()["shapes"] == {"4x?": 1, "4x14": 1}
    assert "waste" not in monitor.get_statistics()
    with pytest.raises(KeyError, match="rtfx"):
        monitor.get_statistics()["real_time_factor"]


def test_suggest_on_the_command_line_chooses_a_model_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "suggest", "--gpu-memory", "6"]) == 0
    printed = capsys.readouterr().out
    assert "large does not fit" in printed and "medium fits" in printed
    assert "Model: medium" in printed and "max_batch_s: " in printed
    assert main(["bench", "suggest", "--gpu-memory", "6", "--model", "a=3", "--model", "b=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "a"
    assert main(["bench", "suggest", "--gpu-memory", "1"]) == 2
    assert "no model fits" in capsys.readouterr().err


def test_models_within_memory_in_yaml_become_one_stage_and_the_plan_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 1.0}\n')
    model = ROOT / "pipelines" / "quickstart" / "model.nemo"
    (tmp_path / "p.yaml").write_text(f"""
name: p
stages:
  - use: read_manifest
    manifest: {tmp_path}/in.jsonl
  - use: asr_within_memory
    gpu_memory_gb: 6
    models: {{/models/large.nemo: 8.0, {model}: 2.0}}
    parts: {{asr: {{timestamps: true}}}}
""")
    assert main(["plan", str(tmp_path / "p.yaml"), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in plan["stages"]] == ["read_manifest", "asr_within_memory.asr"]
    (note,) = [each for each in plan["notes"] if "/models" in each]
    assert "/models/large.nemo does not fit" in note and f"model {model}" in note


def test_no_model_within_memory_is_a_plan_error() -> None:
    stages = [ReadRecords([{"audio_filepath": "a.wav"}]), AsrWithinMemory(["large.nemo"], 4)]
    with pytest.raises(UsageError, match="no model fits"):
        Pipeline("p", stages).plan()
