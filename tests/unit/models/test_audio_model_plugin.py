"""A third-party model of at most twenty lines has everything that the ASR stages have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curate import AudioBatch, Pipeline, Resources
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.models import AudioModel, AudioModelStage
from curate.plugin import PluginHost
from curate.records import Record
from curate.stages import AsrStage, ReadRecords
from curate.testing import AudioModelContract, StageContract, write_tone

PLUGIN = '''\
import os
from curate.models import AudioModel, AudioModelStage
from curate.plugin import RecogniserRef, hookimpl

class Loudness(AudioModel):
    writes = ("text", "peak", "worker")

    def infer(self, clips):
        worker = f"{self.resources.device} {os.environ.get('CUDA_VISIBLE_DEVICES')} {os.getpid()}"
        return [{"text": "loud", "peak": float(abs(clip.samples).max()), "worker": worker} for clip in clips]

class MeasureLoudness(AudioModelStage):
    """Measure the peak of each recording."""
    model_class = Loudness
    name = "loudness"

@hookimpl
def curate_recognisers():
    return [RecogniserRef("loudness", f"{__name__}:Loudness", "Recognises that it is loud")]
'''


@pytest.fixture
def host(tmp_path: Path) -> PluginHost:
    (tmp_path / "loudness.py").write_text(PLUGIN)
    return PluginHost(plugin_files=[tmp_path / "loudness.py"], environment={"CURATE_PLUGINS": ""})


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    paths = {ms: str(write_tone(tmp_path / f"{ms}.wav", seconds=ms / 1000)) for ms in (200, 300, 500, 900)}
    return [
        {"audio_filepath": paths[ms], "duration": ms / 1000, "text": "loud"}
        for _ in range(10)
        for ms in (200, 900, 300, 500)
    ]


def stage_of(host: PluginHost, **options: Any) -> Any:
    return host.stage("loudness").load()(**options)


def test_the_plugin_has_at_most_twenty_lines() -> None:
    assert len(PLUGIN.splitlines()) <= 20


def test_its_batches_are_planned_by_length_and_split_where_memory_runs_out(
    host: PluginHost, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stage_of(host, max_batch_s=4.0)
    shapes: list[tuple[int, float]] = []
    infer = stage.model_class.infer

    def choking(self: AudioModel, clips: Sequence[Any]) -> Any:
        shapes.append((len(clips), max(clip.duration_s for clip in clips)))
        if math.prod(shapes[-1]) > 2.0:
            raise MemoryError("as if")
        return infer(self, clips)

    monkeypatch.setattr(stage.model_class, "infer", choking)
    result = Pipeline("p", [ReadRecords(records), stage]).run(host=host)
    kept = list(result.records())
    assert [record["duration"] for record in kept] == [record["duration"] for record in records]
    assert {record["text"] for record in kept} == {"loud"} and all(record["peak"] > 0.1 for record in kept)
    fitting = [shape for shape in shapes if math.prod(shape) <= 2.0]
    assert sum(items for items, _ in fitting) == 40, "no record twice"
    assert max(items for items, _ in fitting) >= 6
    assert all(items * longest_s <= 4.0 + 1e-6 for items, longest_s in shapes)
    figures = result.summary["by_stage"]["loudness"]["performance"]
    assert figures["ooms"] == len(shapes) - len(fitting) > 0
    assert (figures["total_samples"], figures["audio_s"]) == (40, pytest.approx(19.0))
    assert figures["batches"] == len(fitting)
    assert figures["waste"] == pytest.approx(sum(math.prod(shape) for shape in fitting) / 19.0 - 1, abs=1e-4)


@pytest.mark.processes
def test_its_workers_run_in_processes_that_see_a_gpu_each(host: PluginHost, records: list[Record]) -> None:
    stage = stage_of(host, max_batch_s=1.0).with_(workers=2, resources=Resources(gpus=1.0, cpus=0.5))
    pipeline = Pipeline("p", [ReadRecords(records), stage])
    kept = list(pipeline.run(MultiprocessingExecutor(gpus=("4", "5")), host=host).records())
    assert len(kept) == 40
    workers = {tuple(record["worker"].split()) for record in kept}
    assert {device for device, *_ in workers} == {"cuda"}
    assert {gpu for _, gpu, _ in workers} <= {"4", "5"}
    assert len({process for *_, process in workers}) == len(workers)


def test_it_serves_as_a_recogniser_by_its_name_with_its_further_columns(
    host: PluginHost, records: list[Record]
) -> None:
    pipeline = Pipeline("p", [ReadRecords(records), AsrStage("loudness")])
    columns = pipeline.plan(host=host).phases[0].hops[0].stages[0].columns
    assert columns is None or {"pred_text", "peak", "worker"} <= columns
    kept = list(pipeline.run(host=host).records())
    assert {record["pred_text"] for record in kept} == {"loud"}
    assert all(record["peak"] > 0.1 and record["text"] == "loud" for record in kept)


def test_the_plan_knows_its_columns(host: PluginHost) -> None:
    assert set(stage_of(host).writes()) == {"text", "peak", "worker"}


def test_it_is_used_without_a_pipeline(host: PluginHost, records: list[Record]) -> None:
    stage = stage_of(host)
    stage.setup()
    try:
        done = stage.process(AudioBatch([{**record} for record in records[:3]])).data
        assert [record["worker"].split()[0] for record in done] == ["cpu"] * 3
        kept = list(Pipeline("p", [ReadRecords(records), stage]).run(host=host).records())
        assert len(kept) == 40, "a stage that was set up goes into a pipeline as it is"
    finally:
        stage.teardown()


class Peak(AudioModel):
    """Measures the peak of a clip, and repeats a column of its record."""

    writes = ("peak", "greeting")

    def __init__(self, digits: int = 3) -> None:
        self.digits = digits

    def infer(self, clips: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            {"peak": round(float(abs(clip.samples).max()), self.digits), "greeting": clip.record.get("lang", "none")}
            for clip in clips
        ]


class MeasurePeak(AudioModelStage):
    """The stage around it."""

    model_class = Peak


class TestPeakModel(AudioModelContract):
    def model(self) -> AudioModel:
        return Peak()

    def records(self) -> list[dict[str, Any]]:
        return [{"lang": "de"}, {}]


class TestPeakStage(StageContract):
    def stage(self) -> AudioModelStage:
        return MeasurePeak()

    def records(self, folder: Path) -> list[dict[str, Any]]:
        audio = str(write_tone(folder / "a.wav", seconds=1.0))
        return [
            {"audio_filepath": audio, "duration": 1.0, "lang": "de"},
            {"audio_filepath": audio, "duration": 0.2, "offset": 0.3, "lang": "fr"},
            {"audio_filepath": audio, "duration": 9.0, "lang": "it"},
            {"audio_filepath": str(folder / "missing.wav"), "duration": 1.0, "lang": "en"},
        ]
