"""What is measured of a recogniser on a device: memory, speed, and what becomes of records when memory runs out.

Every function takes the device, so that the same code runs on a card, where the figures mean something, and on the
CPU, where a test sees that it runs. Times are medians of several rounds after a warm-up, between two synchronisations.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from curate import AudioBatch, Resources
from curate.asr.decoding import Decoding, DecodingOptions
from curate.audio import load_ahead
from curate.batching import Batcher, Calibration, CostModel, LengthBatcher, StaticBatcher, score
from curate.models import AudioModel, Clip, ModelCapabilities
from curate.models.micro_batches import SHAPES
from curate.records import Record
from curate.stages.recognise.asr import AsrStage
from tests.gpu.memory import MemoryCounter
from tests.gpu.tables import Row

Make = Callable[..., Any]
"""Makes a recogniser, not yet set up, of the options `dtype`, `decoder` and `cuda_graphs`."""

RATE_HZ = 16_000


def noise(seconds: float, seed: int = 0) -> Any:
    """Return faint noise as a waveform."""
    return np.random.default_rng(seed).normal(0, 0.05, round(seconds * RATE_HZ)).astype(np.float32)


def slices(durations_s: Sequence[float]) -> list[Any]:
    """Return waveforms of these lengths, cut out of one stretch of noise: what they hold costs no time to make."""
    source = noise(2 * max(durations_s))
    starts = np.random.default_rng(1).random(len(durations_s))
    return [
        source[round(start * (len(source) - round(seconds * RATE_HZ))) :][: round(seconds * RATE_HZ)]
        for start, seconds in zip(starts, durations_s, strict=True)
    ]


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize(device)


def median_s(work: Callable[[], object], device: str, *, rounds: int, warm_up: int = 1) -> float:
    """Return the median time of `work`."""
    for _ in range(warm_up):
        work()
    times: list[float] = []
    for _ in range(rounds):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@contextmanager
def ready(recogniser: Any) -> Iterator[Any]:
    """Set a recogniser up, and close it."""
    recogniser.setup()
    try:
        yield recogniser
    finally:
        recogniser.close()


def memory_grid(
    recogniser: Any,
    memory: MemoryCounter,
    counts: Sequence[int],
    lengths_s: Sequence[float],
    fitted: Sequence[tuple[int, float]] = SHAPES,
) -> tuple[CostModel, list[Row]]:
    """Measure the peak of each n × L, and predict it with a cost model that was fitted to a few shapes alone."""
    longest = noise(max(*lengths_s, *(length_s for _, length_s in fitted)))
    recogniser.transcribe([longest] * 2)  # tables of positions and workspaces of kernels stay: no batch pays for them
    shapes = list(product(counts, lengths_s))
    measured: dict[tuple[int, float], int] = {}
    for n, length_s in {*fitted, *shapes}:
        batch = [longest[: round(length_s * RATE_HZ)]] * n
        measured[n, length_s] = memory.peak_bytes(lambda batch=batch: recogniser.transcribe(batch))
    model = Calibration((n, length_s, measured[n, length_s]) for n, length_s in fitted).model()
    rows: list[Row] = [
        {
            "n": n,
            "length_s": length_s,
            "measured_mb": measured[n, length_s] / 1e6,
            "predicted_mb": model.cost(n, length_s) / 1e6,
            "error_%": 100 * (model.cost(n, length_s) / measured[n, length_s] - 1),
            "fitted": (n, length_s) in fitted,
        }
        for n, length_s in shapes
    ]
    return model, rows


def number_speeds(make: Make, device: str, waveforms: Sequence[Any], rounds: int) -> list[Row]:
    """Time one batch in fp32, in fp32 with TF32, under autocast, and in full half precision; decoded by CTC."""
    import torch

    audio_s = sum(map(len, waveforms)) / RATE_HZ
    times: dict[str, float] = {}
    for name, dtype, is_autocast in (
        ("fp32", "fp32", False),
        ("fp32, TF32 allowed", "fp32", False),
        ("bf16 by autocast", "fp32", True),
        ("bf16", "bf16", False),
        ("fp16", "fp16", False),
    ):
        if device == "cpu" and dtype == "fp16":
            continue  # several times slower there
        before = torch.get_float32_matmul_precision()
        if "TF32" in name:
            torch.set_float32_matmul_precision("high")
        try:
            kind = torch.device(device).type
            casting = torch.autocast(kind, dtype=torch.bfloat16) if is_autocast else nullcontext()
            with ready(make(dtype=dtype, decoder="ctc")) as recogniser, casting:
                times[name] = median_s(lambda one=recogniser: one.transcribe(waveforms), device, rounds=rounds)
        finally:
            torch.set_float32_matmul_precision(before)
    return [
        {"numbers": name, "batch_ms": 1000 * seconds, "rtfx": audio_s / seconds, "to_fp32": times["fp32"] / seconds}
        for name, seconds in times.items()
    ]


def batching_speeds(
    recogniser: Any,
    device: str,
    durations_s: Sequence[float],
    budgets_s: Sequence[float],
    rounds: int,
    fixed: int | None = 16,
) -> list[Row]:
    """Time the model alone, with waveforms in memory: `fixed` clips in arrival order against budgets of seconds.

    Without `fixed`, only the budgets are measured.
    """
    waveforms = slices(durations_s)
    batchers: dict[str, Batcher] = {}
    if fixed is not None:
        batchers[f"fixed {fixed}, arrival order"] = StaticBatcher(fixed)
    for budget_s in budgets_s:
        batchers[f"length, {budget_s:g} s"] = LengthBatcher(budget_s)
    longest = noise(max(durations_s))
    recogniser.transcribe([longest] * (fixed or 1))
    rows: list[Row] = []
    for name, batcher in batchers.items():
        plan = list(batcher.plan(durations_s))

        def run(plan: Sequence[Sequence[int]] = plan) -> None:
            for indices in plan:
                recogniser.transcribe([waveforms[index] for index in indices])

        wall_s = median_s(run, device, rounds=rounds)
        rows.append(
            {
                "batching": name,
                "batches": len(plan),
                "waste_%": 100 * score(plan, durations_s).waste,
                "wall_s": wall_s,
                "rtfx": sum(durations_s) / wall_s,
                "to_fixed": (rows[0]["wall_s"] if rows else wall_s) / wall_s,
            }
        )
    return rows


@dataclass
class Watched(AudioModel):
    """A recogniser around another, that notes what each batch was and when the device worked on it.

    It does not close the other one, which is used for more than one stage.

    Args:
        inner: the recogniser, set up.
        device: its device.
        limit_s: padded seconds above which it acts as if memory ran out; None: never.
    """

    inner: Any
    device: str
    limit_s: float | None = None
    batches: list[tuple[int, float]] = field(default_factory=list)
    spans: list[tuple[Any, Any]] = field(default_factory=list)
    begins_s: list[float] = field(default_factory=list)

    @property
    def rate_hz(self) -> int:  # type: ignore[override]
        return self.inner.rate_hz

    def setup(self) -> None:
        self.inner.setup()

    def close(self) -> None:
        pass

    def infer(self, clips: Sequence[Clip]) -> Any:
        longest_s = max(clip.duration_s for clip in clips)
        self.batches.append((len(clips), longest_s))
        if self.limit_s is not None and len(clips) * longest_s > self.limit_s:
            raise RuntimeError(f"CUDA out of memory (as if): {len(clips)} × {longest_s:g} s")
        started = self._now()
        clock = time.perf_counter()
        rows = self.inner.infer(clips)
        self.begins_s.append(time.perf_counter() - clock)
        self.spans.append((started, self._now()))
        return rows

    def capabilities(self) -> ModelCapabilities:
        return self.inner.capabilities()

    def idle_share(self) -> float:
        """Return the share of the time without a batch, from the start of the first to the end of the last."""
        synchronize(self.device)
        busy_s = sum(self._between_s(start, end) for start, end in self.spans)
        return 1 - busy_s / self._between_s(self.spans[0][0], self.spans[-1][1])

    def _now(self) -> Any:
        if self.device == "cpu":
            return time.perf_counter()
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _between_s(self, start: Any, end: Any) -> float:
        return end - start if self.device == "cpu" else start.elapsed_time(end) / 1000


@dataclass
class HeldAsrStage(AsrStage):
    """The ASR stage around a recogniser that is given to it."""

    recogniser: str = "held"
    held: AudioModel | None = field(default=None, kw_only=True)

    name = "asr_held"

    def make_model(self) -> AudioModel:
        assert self.held is not None
        return self.held

    def fingerprint(self) -> dict[str, Any]:
        return {}


@contextmanager
def stage_around(watched: Watched, options: Mapping[str, Any], gpus: float = 1.0) -> Iterator[HeldAsrStage]:
    """Set up a stage with these options, of its own and of `with_`."""
    resources = Resources() if watched.device == "cpu" else Resources(gpus=gpus)
    held: Any = watched
    stage = HeldAsrStage(held=held).with_(resources=resources, **options)
    stage.setup()
    try:
        yield stage
    finally:
        stage.teardown()


def transcribe_all(stage: HeldAsrStage, records: Sequence[Record]) -> tuple[AudioBatch, list[Record]]:
    """Run records through a stage that is set up, and return its batch and every record that came out."""
    batch = AudioBatch([dict(record) for record in records])
    stream: Any = stage.stream(batch)
    with closing(stream) as parts:
        return batch, [record for part in parts for record in part.data]


def stage_speeds(
    recogniser: Any,
    device: str,
    records: Sequence[Record],
    variants: Mapping[str, Mapping[str, Any]],
    *,
    warm: bool = False,
    with_kernels: bool = True,
) -> list[Row]:
    """Run files through the stage, once with each variant's options, and tell how long the device waited for them.

    Idle is the share of the time, from the first batch's start to the last one's end, in which the device had no
    batch. `kernels_%` is stricter: the share of a second run in which a kernel ran; launching them counts as idle.
    `cpu_s` and `switches` (of contexts) show what threads that wait, or spin, cost.

    Args:
        warm: measure the second pass over the records: pinned memory is allocated by then, as it is in the model alone.
        with_kernels: whether to run once more for `kernels_%`.
    """
    audio_s = sum(record["duration"] for record in records)
    rows: list[Row] = []
    recogniser.transcribe([noise(max(record["duration"] for record in records))])
    for name, options in variants.items():
        watched = Watched(recogniser, device)
        with stage_around(watched, options) as stage:
            if warm:
                transcribe_all(stage, records)
            for notes in (watched.batches, watched.spans, watched.begins_s):  # of a calibration, or of the first pass
                notes.clear()
            before, cpu_s = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
            started = time.perf_counter()
            _, done = transcribe_all(stage, records)
            wall_s = time.perf_counter() - started
            cpu_s, used = time.process_time() - cpu_s, resource.getrusage(resource.RUSAGE_SELF)
            report = stage.batching_report()
            row: Row = {
                "stage": name,
                "strategy": report["strategy"],
                "records": len(done),
                "batches": len(watched.spans),
                "waste_%": 100 * report["performance"]["waste"],
                "wall_s": wall_s,
                "rtfx": audio_s / wall_s,
                "to_first": (rows[0]["wall_s"] if rows else wall_s) / wall_s,
                "idle_%": 100 * watched.idle_share(),
                "begin_ms": 1000 * statistics.median(watched.begins_s),
                "in_begin_%": 100 * sum(watched.begins_s) / wall_s,
                "cpu_s": cpu_s,
                "switches": used.ru_nvcsw + used.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw,
            }
            if with_kernels:
                row["kernels_%"] = 100 * _kernel_share(lambda one=stage: transcribe_all(one, records), device)
            rows.append(row)
    return rows


def loading_speed(records: Sequence[Record], threads: int) -> Row:
    """Load files without any model."""
    started, cpu_s = time.perf_counter(), time.process_time()
    for _ in load_ahead(iter(records), max_audio_s=3200.0, threads=threads):
        pass
    wall_s = time.perf_counter() - started
    audio_s = sum(record["duration"] for record in records)
    return {"threads": threads, "wall_s": wall_s, "rtfx": audio_s / wall_s, "cpu_s": time.process_time() - cpu_s}


def _kernel_share(work: Callable[[], object], device: str) -> float:
    """Return the share of the time in which kernels ran; 1 on the CPU."""
    if device == "cpu":
        return 1.0
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        started = time.perf_counter()
        work()
        synchronize(device)
        wall_s = time.perf_counter() - started
    kernels_us = sum(
        event.self_device_time_total
        for event in profile.key_averages()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    return kernels_us / 1e6 / wall_s


def oom_recovery(
    recogniser: Any,
    device: str,
    records: Sequence[Record],
    max_batch_s: float,
    *,
    pressure: AbstractContextManager[Any] | None = None,
    limit_s: float | None = None,
) -> Row:
    """Run records through the stage, with a budget far above what fits, and tell what became of them.

    Args:
        recogniser: set up.
        device: its device.
        records: of files, each with a number `n`; each of them fits by itself.
        max_batch_s: the budget of a batch.
        pressure: holds memory while it is entered.
        limit_s: padded seconds above which the recogniser acts as if memory ran out.
    """
    watched = Watched(recogniser, device, limit_s)
    with stage_around(watched, {"batching": "length", "max_batch_s": max_batch_s}) as stage:
        with pressure or nullcontext():
            started = time.perf_counter()
            batch, done = transcribe_all(stage, records)
            wall_s = time.perf_counter() - started
        report = stage.batching_report()
    names = [record["n"] for record in done]
    return {
        "records": len(records),
        "done": len(set(names)),
        "twice": len(names) - len(set(names)),
        "failed": len(batch.failed),
        "attempts": len(watched.batches),
        "batches": report["performance"]["batches"],
        "ooms": report["ooms"],
        "wall_s": wall_s,
    }


def decoding_speeds(
    model: Any, device: str, dtype: str, shapes: Sequence[tuple[int, float]], audio: Any, rounds: int
) -> list[Row]:
    """Time a NeMo transducer's decoding alone, without graphs and with, for batches of n × L seconds of `audio`.

    The first shape is the largest: it is what graphs are captured for.
    """
    import torch

    on_gpu = torch.device(device).type == "cuda"
    half = getattr(torch, {"fp32": "float32", "bf16": "bfloat16"}[dtype])
    for name, part in model.named_children():
        part.to(device=device, dtype=torch.float32 if name == "preprocessor" else half)
    model.freeze()
    model.eval()
    rows: list[Row] = []
    with torch.inference_mode():
        batches = [_encode(model, device, half, audio, n, length_s) for n, length_s in shapes]
        heard: dict[str, list[list[str]]] = {}
        times: dict[str, list[float]] = {}
        captures: dict[str, int] = {}
        modes: dict[str, str] = {}
        for name, options in (
            ("frame looping", DecodingOptions(label_looping=False, cuda_graphs=False)),
            ("label looping", DecodingOptions(cuda_graphs=False)),
            ("captured", DecodingOptions(cuda_graphs=True)),
        ):
            decode = Decoding(model, "rnnt", options, on_gpu=on_gpu)
            with counting_captures() as captured:
                heard[name] = [[one.text for one in decode(*batch)()] for batch in batches]
                times[name] = [
                    median_s(lambda batch=batch, decode=decode: decode(*batch)(), device, rounds=rounds)
                    for batch in batches
                ]
            captures[name] = len(captured)
            computer = getattr(model.decoding.decoding, "decoding_computer", None)
            modes[name] = str(getattr(computer, "cuda_graphs_mode", None))
        for index, (n, length_s) in enumerate(shapes):
            for name in times:
                same = sum(a == b for a, b in zip(heard[name][index], heard["label looping"][index], strict=True))
                rows.append(
                    {
                        "decoding": name,
                        "n": n,
                        "length_s": length_s,
                        "ms": 1000 * times[name][index],
                        "to_label_looping": times["label looping"][index] / times[name][index],
                        "captures": captures[name],
                        "graphs": modes[name],
                        "same_text_%": 100 * same / n,
                        "letters": sum(map(len, heard[name][index])),
                    }
                )
    return rows


def _encode(model: Any, device: str, half: Any, audio: Any, n: int, length_s: float) -> tuple[Any, Any, list[float]]:
    """Return an encoder's output for n stretches of audio that differ, their frames and their seconds."""
    import torch

    samples = round(length_s * RATE_HZ)
    stretch = np.resize(audio, samples + n * 160)
    signal = torch.from_numpy(np.stack([stretch[160 * k : 160 * k + samples] for k in range(n)])).to(device)
    features, frames = model.preprocessor(input_signal=signal, length=torch.full((n,), samples, device=device))
    encoded, frames = model.encoder(audio_signal=features.to(half), length=frames)[:2]
    return encoded, frames, [length_s] * n


@contextmanager
def counting_captures() -> Iterator[list[tuple[int, ...]]]:
    """Yield a list that gets the shape of every encoder output that NeMo captures CUDA graphs for."""
    from nemo.collections.asr.parts.submodules.transducer_decoding import rnnt_label_looping, tdt_label_looping

    computers = (
        rnnt_label_looping.GreedyBatchedRNNTLabelLoopingComputer,
        tdt_label_looping.GreedyBatchedTDTLabelLoopingComputer,
    )
    originals = [computer._graph_reinitialize for computer in computers]
    captured: list[tuple[int, ...]] = []

    def counted(original: Callable[..., None]) -> Callable[..., None]:
        def reinitialize(self: Any, encoded: Any, *args: Any, **kwargs: Any) -> None:
            captured.append(tuple(encoded.shape))
            original(self, encoded, *args, **kwargs)

        return reinitialize

    for computer, original in zip(computers, originals, strict=True):
        computer._graph_reinitialize = counted(original)
    try:
        yield captured
    finally:
        for computer, original in zip(computers, originals, strict=True):
            setattr(computer, "_graph_reinitialize", original)  # noqa: B010 (two classes, each with its own)
