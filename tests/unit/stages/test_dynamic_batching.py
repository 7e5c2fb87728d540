"""Budgets of the ASR stages: what is planned, what is measured, what shrinks, and what is said about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from curate import Resources
from curate.asr import Transcript
from curate.batching import score
from curate.errors import PlanError
from curate.models import Clip, DeviceMemory, MemoryPeak, ModelCapabilities
from curate.models.inference import PAUSES_S
from curate.models.micro_batches import SHAPES, MicroBatches
from curate.records import AudioBatch, Record
from curate.stages import DynamicBatchAsrStage, Partition
from tests.bench.seeded_durations import seeded_durations
from tests.unit.stages.stub_recogniser import StubAsrStage, StubRecogniser

MakeClip = Callable[[int], str]

MODEL = str(Path(__file__).resolve().parents[3] / "pipelines" / "quickstart" / "model.nemo")
GPU = Resources(gpus=1.0)


class OutOfMemoryError(RuntimeError):
    """As torch's, by name."""


@dataclass
class Dynamic(DynamicBatchAsrStage):
    """The dynamic stage around a stub."""

    model_name: str = MODEL
    make: Callable[[], Any] = StubRecogniser

    name = "asr"

    def make_model(self) -> Any:
        return self.make()


@dataclass
class OnACard(StubRecogniser):
    """A stub on a card of 10 MB, where `bytes_of(n, longest_s)` is what a batch needs."""

    bytes_of: Callable[[int, float], float] = lambda n, s: 1e5 + n * (1e5 * s + 5e4 * s * s)
    total: int = 10_000_000
    weights: int = 2_000_000
    graphs: int = 0
    freed: int = 0
    measured: list[tuple[int, float]] = field(default_factory=list)
    prepared: list[tuple[int, float]] = field(default_factory=list)
    last: float = 0.0

    def capabilities(self) -> ModelCapabilities:
        return ModelCapabilities(meter=self, reserve=self.reserve)

    def infer(self, clips: Sequence[Clip]) -> Any:
        if not clips[0].record:  # a trial
            self.measured.append((len(clips), clips[0].duration_s))
            self._use(len(clips), clips[0].duration_s)
            return [{"text": ""} for _ in clips]
        return super().infer(clips)

    def recognise(self, waveforms: Sequence[Any]) -> list[Transcript]:
        self._use(len(waveforms), max(map(len, waveforms)) / self.rate_hz)
        return super().recognise(waveforms)

    def measure(self, items: int, longest_s: float) -> int:
        self._use(items, longest_s)
        return int(self.last)

    def start_batch(self) -> None: ...

    def _use(self, items: int, longest_s: float) -> None:
        self.last = self.bytes_of(items, longest_s)
        if self.last > self.memory().free_bytes:
            raise OutOfMemoryError(f"{self.last:.0f} bytes")

    def memory(self) -> DeviceMemory:
        own = self.weights + self.graphs
        return DeviceMemory(self.total - own, own, self.total)

    def peak(self) -> MemoryPeak:
        return MemoryPeak(int(self.last), (self.memory().own_bytes + self.last) / self.total)

    def free_memory(self) -> None:
        self.freed += 1

    def reserve(self, items: int, longest_s: float) -> bool:
        if (items, longest_s) in SHAPES:  # a trial
            return False
        self.prepared.append((items, longest_s))
        self.graphs = 1_000_000
        return len(self.prepared) == 1


@contextmanager
def ready(stage: Any) -> Iterator[Any]:
    stage.setup()
    try:
        yield stage
    finally:
        stage.teardown()


def records(clip: MakeClip, *lengths_ms: int) -> list[Record]:
    return [{"audio_filepath": clip(ms), "duration": ms / 1000} for ms in lengths_ms]


@pytest.mark.parametrize(
    ("shape", "max_batch_s", "window", "waste", "fill", "over_bound"),
    [
        ("tail", 200.0, None, 0.006, 0.965, 0.01),
        ("cv", 200.0, None, 0.003, 0.965, 0.01),
        ("tail", 1600.0, 32768, 0.012, 0.965, 0.01),
        ("libri", 1575.0, 32768, 0.003, 0.965, 0.01),
    ],
)
def test_plans_are_as_good_as_promised_behind_the_partition(
    shape: str, max_batch_s: float, window: int | None, waste: float, fill: float, over_bound: float
) -> None:
    durations = seeded_durations(shape)
    partition = Partition() if window is None else Partition(max_records=window)
    batches = Dynamic(max_batch_s=max_batch_s).make_batches()
    planned: list[list[int]] = []
    for batch in partition.partition({"_id": number, "duration": each} for number, each in enumerate(durations)):
        plan, dropped = batches.plan([record["duration"] for record in batch.data])
        assert not dropped
        planned += [[batch.data[index]["_id"] for index in indices] for indices in plan]
    figures = score(planned, durations, max_batch_s)
    assert (figures.over_budget, figures.oversized, figures.lost, figures.duplicated) == (0, 0, 0, 0)
    assert figures.waste <= waste
    assert figures.fill >= fill
    assert figures.batches <= (1 + over_bound) * fewest(durations, max_batch_s)


def fewest(durations: list[float], max_batch_s: float) -> int:
    """Return the number of batches when everything is sorted and cut from the longest."""
    left = sorted(durations, reverse=True)
    batches = first = 0
    while first < len(left):
        first += max(1, int(max_batch_s / left[first] + 1e-9))
        batches += 1
    return batches


class TestANumberOfRecords:
    def test_records_of_like_length_go_together(self, clip: MakeClip) -> None:
        recogniser = StubRecogniser()
        stage = Dynamic(make=lambda: recogniser, initial_batch_size=2, min_batch_size=1)
        with ready(stage) as stage:
            stage.process(AudioBatch(records(clip, 100, 900, 200, 700)))
            assert stage.batching_report()["unit"] == "items"
        assert sorted(map(sorted, recogniser.batches)) == [[100, 200], [700, 900]]

    def test_it_shrinks_and_is_never_below_its_least_but_what_fails_is_split(self, clip: MakeClip) -> None:
        def choke(heard_ms: list[int]) -> None:
            if len(heard_ms) > 3:
                raise OutOfMemoryError("too many")

        recogniser = StubRecogniser(choke)
        stage = Dynamic(make=lambda: recogniser, initial_batch_size=32, min_batch_size=4)
        with ready(stage) as stage:
            assert len(stage.process(AudioBatch(records(clip, *[100] * 400))).data) == 400
            report = stage.batching_report()
        assert min(change["after"] for change in report["history"]) == 4 / 32
        whole = [size for size in map(len, recogniser.batches) if size > 3]
        assert whole[-1] == 4

    def test_it_grows_towards_a_share_of_the_memory_where_that_is_asked_for(self, clip: MakeClip) -> None:
        def sizes(memory_share: float | None) -> list[int]:
            recogniser = OnACard(bytes_of=lambda n, _: n * 1e5)
            stage = Dynamic(make=lambda: recogniser, initial_batch_size=4, max_batch_size=64, memory_share=memory_share)
            with ready(stage) as stage:
                for _ in range(40):
                    assert len(stage.process(AudioBatch(records(clip, *[100] * 64))).data) == 64
            return [len(heard) for heard in recogniser.batches]

        assert set(sizes(None)) == {4}
        grown = sizes(0.6)
        assert max(grown) > 20
        assert max(grown) * 1e5 + 2_000_000 <= 0.6 * 10_000_000 * 1.1


class TestABudgetInMemory:
    def test_it_is_measured_at_set_up_and_never_exceeded(self, clip: MakeClip) -> None:
        recogniser = OnACard()
        lengths = [100 + 37 * number % 2500 for number in range(0, 2500, 10)]
        with ready(Dynamic(make=lambda: recogniser).with_(resources=GPU)) as stage:
            assert recogniser.measured == list(SHAPES)
            assert len(stage.process(AudioBatch(records(clip, *lengths))).data) == len(lengths)
            report = stage.batching_report()
        assert (report["strategy"], report["unit"], report["ooms"]) == ("memory", "bytes", 0)
        needed = [recogniser.bytes_of(len(heard), max(heard) / 1000) for heard in recogniser.batches]
        assert max(needed) <= report["budget"] <= 0.8 * 8_000_000
        assert sum(needed) / len(needed) > 0.7 * report["budget"]

    def test_shapes_that_do_not_fit_are_left_out_of_the_measurement(self, clip: MakeClip) -> None:
        recogniser = OnACard(total=4_200_000)
        with ready(Dynamic(make=lambda: recogniser).with_(resources=GPU)) as stage:
            assert recogniser.freed >= 2
            assert len(stage.process(AudioBatch(records(clip, 300, 500, 700))).data) == 3
            assert stage.batching_report()["strategy"] == "memory"

    def test_when_nothing_fits_the_budget_is_in_seconds(self, clip: MakeClip) -> None:
        recogniser = OnACard(total=2_200_000)
        with ready(Dynamic(make=lambda: recogniser).with_(resources=GPU)) as stage:
            assert stage.batching_report()["strategy"] == "length"

    def test_without_a_card_the_budget_is_in_seconds(self, clip: MakeClip) -> None:
        with ready(Dynamic()) as stage:
            report = stage.batching_report()
        assert (report["strategy"], report["budget"], report["unit"]) == ("length", 30.0, "padded seconds")

    def test_a_budget_in_seconds_goes_before_it(self, clip: MakeClip) -> None:
        recogniser = OnACard()
        with ready(Dynamic(make=lambda: recogniser, max_batch_s=3.0).with_(resources=GPU)) as stage:
            report = stage.batching_report()
        assert (report["strategy"], report["budget"], recogniser.measured) == ("length", 3.0, [])

    def test_peaks_above_the_measured_cost_make_it_dearer(self, clip: MakeClip) -> None:
        recogniser = OnACard()
        real = recogniser.bytes_of
        with ready(Dynamic(make=lambda: recogniser).with_(resources=GPU)) as stage:
            recogniser.bytes_of = lambda n, s: 1.2 * real(n, s)
            before = stage._runner.batches.controller.cost.cost(8, 2.0)
            lengths = [2000 + number for number in range(0, 600, 3)]
            assert len(stage.process(AudioBatch(records(clip, *lengths))).data) == 200
            assert stage._runner.batches.controller.cost.cost(8, 2.0) > before
            recogniser.batches.clear()
            stage.process(AudioBatch(records(clip, *lengths)))
            budget = stage.batching_report()["budget"]
        assert all(recogniser.bytes_of(len(heard), max(heard) / 1000) <= budget for heard in recogniser.batches)

    def test_a_part_of_a_card_is_all_that_is_used(self) -> None:
        def budget(resources: Resources) -> float:
            with ready(Dynamic(make=OnACard).with_(resources=resources)) as stage:
                return stage.batching_report()["budget"]

        assert budget(GPU) == pytest.approx(0.8 * 8_000_000)
        assert budget(Resources(gpus=0.5)) == pytest.approx(0.8 * 3_000_000)
        assert budget(Resources(gpus=0.5, gpu_memory_gb=0.004)) == pytest.approx(0.8 * 2_000_000)
        with ready(Dynamic(make=OnACard, memory_share=0.5).with_(resources=GPU)) as stage:
            assert stage.batching_report()["budget"] == pytest.approx(0.5 * 8_000_000)

    def test_room_is_made_for_each_planned_shape_and_the_budget_is_what_is_left(self, clip: MakeClip) -> None:
        recogniser = OnACard()
        with ready(Dynamic(make=lambda: recogniser).with_(resources=GPU)) as stage:
            before = stage.batching_report()["budget"]
            assert len(stage.process(AudioBatch(records(clip, *[100] * 50, *[2600] * 20))).data) == 70
            after = stage.batching_report()["budget"]
        lengths_s = [longest_s for _, longest_s in recogniser.prepared]
        assert lengths_s == sorted(lengths_s, reverse=True)  # the longest first
        assert set(lengths_s) == {2.6, 0.1}
        assert max(items for items, _ in recogniser.prepared) == max(map(len, recogniser.batches))
        assert after == pytest.approx(before - 0.8 * 1_000_000)
        sizes = [len(heard) for heard in recogniser.batches]
        assert sizes == sorted(sizes, reverse=True)  # what was captured for the first is large enough for the others

    def test_room_that_cannot_be_made_stops_nothing(self, clip: MakeClip) -> None:
        class Full(OnACard):
            def reserve(self, items: int, longest_s: float) -> bool:
                raise OutOfMemoryError("no room for graphs")

        with ready(Dynamic(make=Full).with_(resources=GPU)) as stage:
            assert len(stage.process(AudioBatch(records(clip, 100, 200))).data) == 2


class TestTheReport:
    def test_it_says_what_was_used_and_what_it_cost(self, clip: MakeClip, messages: list[str]) -> None:
        class Reports(StubRecogniser):
            def capabilities(self) -> ModelCapabilities:
                return ModelCapabilities(runtime_info=self.runtime_info)

            def runtime_info(self) -> dict[str, Any]:
                return {"device": "abacus"}

        stage = StubAsrStage(make=Reports, batching="static").with_(batch_size=2)
        assert stage.batching_report() == {}
        with ready(stage) as stage:
            stage.process(AudioBatch(records(clip, 100, 300, 200)))
            report = stage.batching_report()
        figures = report.pop("performance")
        assert report == {
            "strategy": "static",
            "budget": 2.0,
            "unit": "items",
            "ooms": 0,
            "history": [],
            "model": {"device": "abacus"},
        }
        assert (figures["batches"], figures["total_samples"]) == (2, 3)
        assert figures["audio_s"] == pytest.approx(0.6)
        assert figures["padded_s"] == pytest.approx(0.8)
        assert figures["waste"] == pytest.approx(1 / 3)
        assert "peak_bytes" not in figures and "gpu_utilisation" not in figures
        [line] = messages
        assert line.startswith("asr: 3 records, 1 s, in 2 batches by static (2 items), 33.3% padding")
        assert stage.batching_report() == {}


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"batching": "lenght"}, "length"),
            ({"batching_options": {"max_item": 3}}, "max_items"),
            ({"batching_options": {"min_s": 3}}, "min_s is a setting of the stage"),
            ({"batching": "bucket"}, "'bucket' needs max_s"),
            ({"batching_options": {"drop_remainder": True}}, "drop_remainder"),
            ({"batching": "static", "batching_options": {"drop_remainder": True}}, "drop_remainder"),
            ({"max_batch_s": 0.0}, "max_batch_s|budget"),
            ({"memory_share": 1.5}, "memory_share|share"),
            ({"initial_batch_size": 2}, "min_batch_size"),
        ],
    )
    def test_mistakes_are_found_before_work_starts(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(PlanError, match=message):
            Dynamic(**settings).check()

    def test_what_changes_no_result_is_not_in_the_fingerprint(self) -> None:
        assert {"batching", "max_batch_s", "memory_share", "initial_batch_size"} <= DynamicBatchAsrStage.tuning
        assert not {"min_s", "max_s", "model_name", "dtype"} & DynamicBatchAsrStage.tuning

    def test_a_model_file_is_in_the_fingerprint_however_it_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "m.nemo").write_bytes(b"weights")
        monkeypatch.setenv("HOME", str(tmp_path))
        fingerprints = [DynamicBatchAsrStage(name).fingerprint() for name in ("~/m.nemo", str(tmp_path / "m.nemo"))]
        assert fingerprints[0] == fingerprints[1] != {}

    def test_a_window_is_planned_as_a_whole(self) -> None:
        batches = MicroBatches("length", {}, max_batch_s=20.0)
        durations = seeded_durations("tail", 20_000)
        plan, _ = batches.plan(durations)
        figures = score(plan, durations, 20.0)
        assert (figures.lost, figures.duplicated) == (0, 0)
        assert len(plan) <= 1.005 * fewest(durations, 20.0)


@dataclass
class NextToANeighbour(OnACard):
    """A stub whose GPU memory another process holds for the first `busy` questions after a batch failed."""

    busy: int = 2
    held: int = 7_800_000

    def memory(self) -> DeviceMemory:
        free = self.total - self.weights - (self.held if self.busy > 0 else 0)
        return DeviceMemory(free, self.weights, self.total)


class TestANeighbourOnTheGpu:
    @pytest.mark.parametrize(("busy_pauses", "kept"), [(0, 1), (1, 1), (3, 1), (9, 0)])
    def test_lone_record_waits_for_memory_that_a_neighbour_holds(
        self, clip: MakeClip, monkeypatch: pytest.MonkeyPatch, busy_pauses: int, kept: int
    ) -> None:
        neighbour = NextToANeighbour(busy=busy_pauses)
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            neighbour.busy -= 1

        stage = Dynamic(make=lambda: neighbour, batching="length").with_(resources=GPU)
        with ready(stage):
            stage._runner.inference.pause = pause
            batch = AudioBatch(records(clip, 2000))
            done = stage.process(batch)
        assert len(done.data) == kept
        assert pauses == list(PAUSES_S[: min(busy_pauses, len(PAUSES_S))])
        assert [failed.error.code for failed in done.failed] == ["oom"] * (1 - kept)

    def test_record_that_is_too_large_for_the_whole_gpu_does_not_wait(self, clip: MakeClip) -> None:
        stage = Dynamic(make=lambda: OnACard(bytes_of=lambda n, s: 1e8), batching="length").with_(resources=GPU)
        pauses: list[float] = []
        with ready(stage):
            stage._runner.inference.pause = pauses.append
            batch = AudioBatch(records(clip, 2000))
            assert not stage.process(batch).data
        assert not pauses


@pytest.mark.parametrize(("saturation_s", "at_most_s"), [(1600.0, 1600.0), (300.0, 300.0), (None, 1e9)])
def test_plan_by_memory_stops_where_the_gpu_is_saturated(saturation_s: float | None, at_most_s: float) -> None:
    gpu = OnACard(bytes_of=lambda n, s: 6e7 + n * (3e6 * s + 1e4 * s * s), total=80 * 10**9)
    batches = MicroBatches("memory", {"largest_first": True}, saturation_s=saturation_s)
    batches.calibrate(gpu, gpu.measure)
    durations = seeded_durations("tail", count=8192)
    plan, _ = batches.plan(durations)
    padded = [len(batch) * max(durations[index] for index in batch) for batch in plan]
    assert sorted(index for batch in plan for index in batch) == list(range(len(durations)))
    assert max(padded) <= at_most_s * (1 + 1e-9)
    assert max(padded) > 0.8 * min(at_most_s, 15_000)
    assert batches.max_items(10.0) <= at_most_s / 10
    assert batches.max_items(1e6) == 1


def test_saturation_of_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match="saturation_s must be above 0"):
        Dynamic(saturation_s=0.0).check()


class StagedClips(list[Clip]):
    """A batch that went through `stage`."""


@dataclass
class Stages(OnACard):
    """A stub that prepares its batches beforehand, and notes in which thread, and what it is given afterwards."""

    threads: set[str] = field(default_factory=set)
    given: list[tuple[int, bool]] = field(default_factory=list)

    def capabilities(self) -> ModelCapabilities:
        return ModelCapabilities(meter=self, stage=self.stage)

    def stage(self, clips: Sequence[Clip]) -> Sequence[Clip]:
        self.threads.add(threading.current_thread().name.rpartition("_")[0])
        return StagedClips(clips)

    def infer(self, clips: Sequence[Clip]) -> Any:
        self.given.append((len(clips), isinstance(clips, StagedClips)))
        return super().infer(clips)


def test_batch_is_staged_in_a_thread_of_its_own_while_the_model_works(clip: MakeClip) -> None:
    stub = Stages(bytes_of=lambda n, s: 3e6 * n)
    stage = Dynamic(make=lambda: stub, batching="length", max_batch_s=3.0).with_(resources=GPU)
    with ready(stage):
        done = stage.process(AudioBatch(records(clip, 400, 500, 600, 700, 1200, 1300)))
    assert len(done.data) == 6
    assert stub.threads == {"curate-stager"}
    # The first batch finds an idle model, and the parts of one that did not fit are taken as they are.
    assert [items for items, staged in stub.given if staged] == [2]
    assert stub.given[0] == (4, False)


def test_batch_that_cannot_be_staged_is_split(clip: MakeClip) -> None:
    class Cramped(Stages):
        def stage(self, clips: Sequence[Clip]) -> Sequence[Clip]:
            raise OutOfMemoryError("pinned memory")

    stage = Dynamic(make=Cramped, batching="length").with_(resources=GPU)
    with ready(stage):
        done = stage.process(AudioBatch(records(clip, 400, 500)))
    assert len(done.data) == 2
