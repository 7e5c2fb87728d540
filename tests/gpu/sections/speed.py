"""Sections about the speed of the stage and of the model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.gpu.run_sections import keep
from tests.gpu.sections import inputs, processes


def stage(device: str, is_small: bool) -> None:
    """The whole stage on files, against the model alone, both warm; idle is what no kernel fills."""
    import torch

    from curate.asr import NemoRecogniser
    from tests.bench.seeded_durations import seeded_durations
    from tests.gpu import measuring

    count, times = (16, 1) if is_small else (2048, 2)
    records = inputs.sharing_records(count)
    for threads in (1, 2, 4):
        keep("stage", what="loading alone", **measuring.loading_speed(records, threads))
    recogniser = NemoRecogniser(inputs.large_model(is_small), device=device, decoder="ctc", dtype="bf16")
    recogniser.setup()
    keep("stage", what="process", torch_threads=torch.get_num_threads(), cpus=os.cpu_count(), quota=_cpu_quota())
    durations_s = list(seeded_durations("tail", count=count)) * times
    budget_s = 40.0 if is_small else 1600.0
    [own] = measuring.batching_speeds(recogniser, device, durations_s, (budget_s,), rounds=3, fixed=None)
    keep("stage", what=f"model alone, {budget_s:g} s", **own)
    budget: dict[str, Any] = {"batching": "length", "max_batch_s": budget_s}
    many = list(records) * times

    def measure(name: str, options: dict[str, Any], some: list[Any], with_kernels: bool = False) -> None:
        if processes.left_s() < 12:
            return
        [row] = measuring.stage_speeds(recogniser, device, some, {name: options}, warm=True, with_kernels=with_kernels)
        keep("stage", **row, to_model_alone=row["rtfx"] / own["rtfx"])

    measure("default (memory)", {"batching": "memory"}, many)
    measure(f"length, {budget_s:g} s", budget, many)
    measure(f"length, {budget_s:g} s, prefetch 4", budget | {"prefetch_batches": 4}, many)
    measure("length, 200 s", {"batching": "length", "max_batch_s": 200.0}, records)
    # Last, because a profiler may slow down what runs after it.
    measure("default (memory), then profiled", {"batching": "memory"}, many, with_kernels=True)
    recogniser.close()


def _cpu_quota() -> str:
    path = Path("/sys/fs/cgroup/cpu.max")
    return path.read_text().strip() if path.exists() else "unknown"


def side_stream(device: str, is_small: bool) -> None:
    """The stage with the next batch copied and prepared on a stream of its own, and without; and both texts."""
    from curate.asr import NemoRecogniser
    from tests.bench.seeded_durations import seeded_durations
    from tests.gpu import measuring

    clips = inputs.quickstart_clips()
    heard: dict[bool, list[str]] = {}
    for is_on in (False, True):
        small = NemoRecogniser(inputs.MODEL, device=device, decoder="rnnt", dtype="fp32", side_stream=is_on)
        small.setup()
        batches = [clips[start : start + 6] for start in range(0, len(clips), 6)]
        staged = [small.stage(batch) for batch in batches]  # all before the first is used: each buffer serves many
        spelt = [small.begin(batch)() for batch in staged]
        heard[is_on] = [one.text for batch in spelt for one in batch]
        small.close()
    same = sum(map(str.__eq__, heard[True], heard[False]))
    keep("side_stream", what="texts, on against off", same=same, of=len(clips))
    count, times = (16, 1) if is_small else (2048, 2)
    records = inputs.sharing_records(count)
    budget_s = 40.0 if is_small else 1600.0
    durations_s = list(seeded_durations("tail", count=count)) * times
    many = list(records) * times
    own_rtfx: float | None = None
    for is_on, graphs in ((True, False), (False, False), (True, False), (True, True)):
        if processes.left_s() < 14:
            return
        recogniser = NemoRecogniser(
            inputs.large_model(is_small),
            device=device,
            decoder="ctc",
            dtype="bf16",
            side_stream=is_on,
            encoder_graphs=graphs,
        )
        recogniser.setup()
        if own_rtfx is None:
            [own] = measuring.batching_speeds(recogniser, device, durations_s, (budget_s,), rounds=3, fixed=None)
            own_rtfx = own["rtfx"]
            keep("side_stream", what="model alone", **own)
        for seconds in (budget_s, 200.0)[: 1 if graphs or is_small else 2]:
            options = {"batching": "length", "max_batch_s": seconds, "prefetch_batches": 4}
            name = f"{'on' if is_on else 'off'}, {seconds:g} s{', encoder graphs' if graphs else ''}"
            [row] = measuring.stage_speeds(
                recogniser, device, many, {name: options}, warm=True, with_kernels=processes.left_s() > 25
            )
            keep("side_stream", **row, to_model_alone=row["rtfx"] / own_rtfx)
        if is_on:
            pinned = recogniser._loaded._side  # type: ignore[union-attr]
            keep("side_stream", what="pinned", mb=0 if pinned is None else pinned.pinned_bytes / 1e6)
        recogniser.close()


def knee(device: str, is_small: bool) -> None:
    """Speed by padded seconds, with NeMo's attention and torch's, and what of a batch is not the encoder."""
    import torch

    from curate.asr import NemoRecogniser
    from curate.asr.nemo import _attend_by_sdpa
    from tests.gpu import measuring

    recogniser = NemoRecogniser(inputs.large_model(is_small), device=device, decoder="ctc", dtype="bf16")
    recogniser.setup()
    loaded: Any = recogniser._loaded
    keep("knee", attention=recogniser.runtime_info()["attention"])
    shapes = [(2, 1.0), (4, 1.0)]
    if not is_small:
        shapes = [(16, 12.5), (51, 12.5), (80, 12.5), (128, 12.5), (256, 12.5), (512, 12.5), (16, 40.0), (40, 40.0)]
        shapes += [(640, 2.5), (4, 5.0)]
    audio = measuring.noise(41.0)
    for count, seconds in shapes:
        if processes.left_s() < 10:
            break
        samples = round(seconds * inputs.RATE_HZ)
        batch = [audio[n : n + samples] for n in range(count)]
        row: dict[str, Any] = {"n": count, "length_s": seconds, "padded_s": count * seconds}

        def timed(work: Callable[[], object]) -> float:
            return round(1000 * measuring.median_s(work, device, rounds=3), 2)

        row["all_ms"] = timed(lambda batch=batch: recogniser.begin(batch))
        row["rtfx"] = round(1000 * count * seconds / row["all_ms"])
        peak = recogniser.peak()
        row["peak_mb"] = None if peak is None else round(peak.own_bytes / 1e6)
        with torch.inference_mode():
            signal = torch.zeros(count, samples, device=device)
            lengths = torch.full((count,), samples, device=device)
            features, frames = loaded._preprocessor(input_signal=signal, length=lengths)
            features = features.to(loaded._dtype)

            def encode(features: Any = features, frames: Any = frames) -> Any:
                return loaded._encoder(audio_signal=features, length=frames)

            for name, is_fused in (("nemo", False), ("sdpa", True)):
                _attend_by_sdpa(loaded._encoder, is_fused)
                row[f"encoder_{name}_ms"] = timed(encode)
        keep("knee", **row)
    recogniser.close()
