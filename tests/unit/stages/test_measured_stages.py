"""What stages measure goes with their records: into the part, the commit, the summary; over workers and lives."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from curate import AudioBatch, Pipeline, ProcessingStage
from curate.errors import InfrastructureError
from curate.models import MemoryPeak, ModelCapabilities
from curate.stages import Merge, Partition, ReadManifest, ReadRecords
from tests.shuffled_executor import ShuffledExecutor
from tests.unit.stages.stub_recogniser import StubAsrStage, StubRecogniser

Clip = Callable[[int], str]


@dataclass
class Counting(ProcessingStage):
    """Measures how many records it has seen, and stops the run at one of them if it is told to."""

    stop_at: str = ""
    name = "counting"

    tuning = frozenset({"stop_at"})

    def __post_init__(self) -> None:
        self._new = {"records": 0, "max_batch": 0}

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        for record in batch.data:
            if record["text"] == self.stop_at:
                raise InfrastructureError("the card is gone")
            self._new["records"] += 1
            self._new["max_batch"] = max(self._new["max_batch"], len(batch.data))
            yield batch.with_data([record])

    def take_measures(self) -> Mapping[str, Any]:
        taken = dict(self._new)
        self.__post_init__()
        return taken

    def describe_measures(self, measures: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"seen": measures["records"], "largest": measures["max_batch"]}


@dataclass
class Sulking(Counting):
    """Has measured something, but does not say it."""

    name = "sulking"

    def take_measures(self) -> Mapping[str, Any]:
        raise ValueError("I would rather not")


@dataclass
class Mumbling(Counting):
    """Says what it has measured, and cannot explain it."""

    name = "mumbling"

    def describe_measures(self, measures: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ValueError("well, it was like this")


@dataclass
class Chatty(Counting):
    """Measures what cannot be added up."""

    name = "chatty"

    def take_measures(self) -> Mapping[str, Any]:
        return {"mood": "good"}


@dataclass
class Moody(Counting):
    """Measures now this, now that."""

    name = "moody"

    def take_measures(self) -> Mapping[str, Any]:
        self.calls = getattr(self, "calls", 0) + 1
        return {"figure": 1 if self.calls == 1 else [1]}

    def describe_measures(self, measures: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}


@dataclass
class Secretive(Counting):
    """Measures what no file can hold."""

    name = "secretive"

    def take_measures(self) -> Mapping[str, Any]:
        return {"history": [object()]}


def records(count: int) -> list[dict[str, Any]]:
    return [{"text": str(number)} for number in range(count)]


def performance(result: Any, stage: str = "counting") -> Any:
    return result.summary["by_stage"][stage]["performance"]


@pytest.mark.parametrize("executor", ["local", ShuffledExecutor(seed=3)])
def test_measures_are_added_up_over_batches_and_workers(executor: Any) -> None:
    pipeline = Pipeline("p", [ReadRecords(records(50)), Partition(max_records=7), Counting()])
    assert performance(pipeline.run(executor)) == {"seen": 50, "largest": 7}


def test_a_stage_that_measures_nothing_has_no_figures() -> None:
    @dataclass
    class Plain(ProcessingStage):
        name = "plain"

        def process(self, batch: AudioBatch) -> AudioBatch:
            return batch

    assert performance(Pipeline("p", [ReadRecords(records(3)), Plain()]).run(), "plain") == {}


def test_only_what_is_committed_counts_over_all_lives_of_a_run(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps({"audio_filepath": "a.wav", **record}) + "\n" for record in records(40)))

    def run(stop_at: str) -> Any:
        stages = [ReadManifest(str(manifest)), Partition(max_records=8), Counting(stop_at=stop_at), Merge("out.jsonl")]
        return Pipeline("p", stages).run(run_dir=tmp_path / "run")

    for stop_at in ("11", "12", "30"):
        with pytest.raises(InfrastructureError, match="gone"):
            run(stop_at)
    result = run("")
    assert result.summary["kept"] == 40
    assert performance(result)["seen"] == 40
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["by_stage"]["counting"]["performance"] == (
        performance(result)
    )


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (Sulking(), "I would rather not"),
        (Chatty(), "mood='good'"),
        (Moody(), "cannot be added to 1"),
        (Secretive(), "object is not JSON serializable"),
    ],
)
def test_a_stage_that_cannot_be_measured_is_reported_once_and_the_run_goes_on(
    stage: Counting, says: str, warnings: list[str]
) -> None:
    result = Pipeline("p", [ReadRecords(records(20)), Partition(max_records=5), stage]).run()
    assert result.summary["kept"] == 20
    assert performance(result, stage.name) == {}
    [line] = [line for line in warnings if "take_measures" in line]
    assert says in line


def test_measures_that_cannot_be_described_are_shown_as_they_are(warnings: list[str]) -> None:
    result = Pipeline("p", [ReadRecords(records(20)), Mumbling()]).run()
    assert performance(result, "mumbling") == {"records": 20, "max_batch": 20}
    assert any("describe_measures" in line for line in warnings)


class OnACard(StubRecogniser):
    """A stub that reports a GPU's memory, and names the GPU."""

    def capabilities(self) -> ModelCapabilities:
        return ModelCapabilities(meter=self, gpu_uuid="GPU-1", runtime_info=self.runtime_info)

    def start_batch(self) -> None: ...

    def memory(self) -> None:
        return None

    def peak(self) -> MemoryPeak:
        return MemoryPeak(100 * len(self.batches[-1]), 0.1, allocated_bytes=1000, reserved_bytes=5000)

    def free_memory(self) -> None:
        pass

    def runtime_info(self) -> dict[str, Any]:
        return {"dtype": "bf16", "cuda_graphs": True}


def test_an_asr_stage_tells_how_fast_it_was_and_what_it_used(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit.monitoring.test_performance_monitor import FakeNvml

    nvml = FakeNvml(tells=1000)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)

    def choke(heard_ms: list[int]) -> None:
        if len(heard_ms) > 6:
            raise MemoryError("too many")

    rows = [{"audio_filepath": clip(ms), "duration": ms / 1000} for ms in [100, 200, 300, 400] * 5]
    rows.append({"audio_filepath": "missing.wav", "duration": 1.0})
    stage = StubAsrStage(make=lambda: OnACard(choke), batching="length", max_batch_s=4.0)
    result = Pipeline("p", [ReadRecords(rows), stage]).run()
    figures = performance(result, "asr")
    assert figures["total_samples"] == result.summary["kept"] == 20
    assert figures["audio_s"] == pytest.approx(5.0)
    assert figures["padded_s"] >= 5.0
    assert figures["waste"] == pytest.approx(figures["padded_s"] / 5.0 - 1)
    assert figures["rtfx"] > 0 and figures["samples_per_second"] > 0
    assert figures["load_wait_s"] > 0, "the first batch at least has been waited for"
    assert figures["load_wait_s"] + figures["model_s"] <= figures["total_processing_time"]
    assert figures["ooms"] > 0
    assert [change["reason"] for change in figures["history"]] == ["oom"] * len(figures["history"])
    assert figures["history"]
    assert (figures["allocated_bytes"], figures["reserved_bytes"]) == (1000, 5000)
    assert 1100 <= figures["peak_bytes"] <= 1600
    assert (figures["current_bytes"], figures["bytes_per_sample"]) == (1000, 100.0)
    assert figures["gpu_utilisation"] == 0.4
    assert figures["used"] == {"dtype": "bf16", "cuda_graphs": True}
    assert not nvml.is_open


def test_each_batch_is_one_line_at_level_debug(clip: Clip) -> None:
    lines: list[str] = []
    logger.enable("curate")
    sink = logger.add(
        lambda message: lines.append(str(message).strip()),
        level="DEBUG",
        format="{message}",
        filter=lambda record: record["name"] == "curate.models.runner",
    )
    try:
        rows = [{"audio_filepath": clip(ms), "duration": ms / 1000} for ms in (100, 200, 400, 400)]
        stage = StubAsrStage(make=OnACard, batching="static").with_(batch_size=2)
        Pipeline("p", [ReadRecords(rows), stage]).run()
    finally:
        logger.remove(sink)
        logger.disable("curate")
    assert [line.partition(", ")[0] for line in lines] == [
        "OnACard: 2 clips of up to 0.20 s",
        "OnACard: 2 clips of up to 0.40 s",
    ]
    assert all("in the model" in line and line.endswith("MB of device memory") for line in lines)
