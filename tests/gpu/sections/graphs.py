"""Sections about CUDA graphs of the encoder and of the decoder: texts and speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.gpu.run_sections import keep
from tests.gpu.sections import inputs, processes


def captured_encoder(loaded: Any) -> Any:
    """Return the encoder of a model that is loaded, in CUDA graphs; without any of them on the CPU."""
    import torch

    from curate.asr.captured_encoder import CapturedEncoder

    graphs = CapturedEncoder(torch, loaded._encoder, loaded._device, loaded._dtype)
    graphs.is_on &= loaded._device.type == "cuda"
    return graphs


def encoder_graphs(device: str, is_small: bool) -> None:
    """The encoder in CUDA graphs for a shape, padded up, against the encoder without; the texts of both."""
    from curate.asr import NemoRecogniser

    recogniser = NemoRecogniser(inputs.large_model(is_small), device=device, decoder="ctc", dtype="bf16")
    recogniser.setup()
    shapes = [(2, 1.0)] if is_small else [(4, 5.0), (16, 12.5), (64, 12.5), (9, 3.1), (1, 12.5)]
    for count, seconds in shapes:
        if processes.left_s() > 8:
            _encode_one_shape(recogniser, device, count, seconds)
    recogniser.close()


def _encode_one_shape(recogniser: Any, device: str, count: int, seconds: float) -> None:
    import torch

    from tests.gpu import measuring

    loaded: Any = recogniser._loaded
    audio = measuring.noise(41.0)
    samples = round(seconds * inputs.RATE_HZ)
    batch = [audio[n : n + samples - n * inputs.RATE_HZ // 50] for n in range(count)]
    row: dict[str, Any] = {"n": count, "length_s": seconds}
    eager = [one.text for one in recogniser.transcribe(batch)]
    row["all_eager_ms"] = _timed_ms(lambda: recogniser.begin(batch), device)
    with torch.inference_mode():
        features, frames = loaded._features(*loaded._padded(batch))
        features = features.to(loaded._dtype)

        def encode() -> Any:
            return loaded._encoder(audio_signal=features, length=frames)

        plain, counts = encode()[:2]
        row["eager_ms"] = _timed_ms(encode, device)
        graphs = captured_encoder(loaded)
        graphs(features, frames)
        started = time.perf_counter()
        found, found_counts = graphs(features, frames)
        measuring.synchronize(device)
        row |= {"captured_in_s": time.perf_counter() - started, "shapes": graphs.shapes}
        row["graph_ms"] = _timed_ms(lambda: graphs(features, frames), device)
        row["memory_mb"] = graphs.size_bytes / 1e6
        row["same_counts"] = bool((counts == found_counts).all())
        off = [(a[:, :n] - b[:, :n]).abs().max() for a, b, n in zip(plain, found, counts.tolist(), strict=True)]
        row["off_by_at_most"], row["largest"] = float(max(off)), float(plain.abs().max())
    loaded._captured = graphs
    row["all_graph_ms"] = _timed_ms(lambda: recogniser.begin(batch), device)
    row["same_texts"] = sum(a == b.text for a, b in zip(eager, recogniser.transcribe(batch), strict=True))
    loaded._captured = None
    graphs.close()
    row["times_as_fast"] = row["eager_ms"] / row["graph_ms"]
    keep("encoder_graphs", **row)


def _timed_ms(work: Callable[[], object], device: str) -> float:
    from tests.gpu import measuring

    return round(1000 * measuring.median_s(work, device, rounds=5), 2)


def computer_of(recogniser: Any) -> Any:
    """Return NeMo's label-looping computer of a recogniser that is set up."""
    return recogniser._loaded._decode._loop._computer


def decoder_several(device: str, is_small: bool) -> None:
    """As `decoder_slices`, with several graphs, one for each size of batch: kept in pools, and not checked."""
    _decode_shapes("decoder_several", device, is_small, max_graphs=9)


def decoder_slices(device: str, is_small: bool) -> None:
    """The transducer's decoding: eager, in graphs made for the batch, and in the one graph that is kept.

    The weights are random, so scores nearly tie, and rounding alone changes texts: a matrix product of another number
    of rows rounds in another way. So texts are compared in fp32 as well, and with those of an eager batch that has the
    rows of the graph (`eager_rows_same`): where these differ as often, neither graphs nor slices are the cause.
    """
    _decode_shapes("decoder_slices", device, is_small, max_graphs=1)


def _decode_shapes(section: str, device: str, is_small: bool, max_graphs: int) -> None:
    import torch

    from curate.asr import NemoRecogniser
    from curate.asr.graph_memory import GraphMemory

    shapes = [(2, 1.0)] if is_small else [(64, 20.0), (16, 40.0), (1024, 5.0), (256, 5.0), (4, 5.0), (80, 20.0)]
    shapes += [] if is_small else [(320, 5.0), (40, 40.0), (1600, 1.0)]
    for dtype, some in (("bf16", shapes), ("fp32", shapes[:1] + shapes[2:4])):
        recogniser = NemoRecogniser(inputs.large_model(is_small), device=device, decoder="rnnt", dtype=dtype)
        recogniser.setup()
        loop: Any = recogniser._loaded._decode._loop  # type: ignore[union-attr]
        loop._max_graphs = max_graphs
        if max_graphs > 1:
            loop._memory = GraphMemory(torch, checks=False)
        keep(section, dtype=dtype, mode=recogniser.runtime_info()["cuda_graphs_mode"])
        for count, seconds in some:
            if processes.left_s() < 12:
                break
            _decode_one_shape(section, recogniser, device, count, seconds, dtype)
        recogniser.close()


def _decode_one_shape(section: str, recogniser: Any, device: str, count: int, seconds: float, dtype: str) -> None:
    import torch

    from tests.gpu import measuring

    loaded: Any = recogniser._loaded
    loop, computer = loaded._decode._loop, computer_of(recogniser)
    mode, rows = computer.cuda_graphs_mode, loop._rows
    audio = torch.from_numpy(measuring.noise(seconds + 1))
    samples = round(seconds * inputs.RATE_HZ)
    with torch.inference_mode():
        # every row is another cut, so that a row that is taken for another one is seen
        starts = [n * inputs.RATE_HZ // count for n in range(count)]
        signal = torch.stack([audio[start : start + samples] for start in starts]).to(device)
        lengths = torch.full((count,), signal.shape[1], device=device)
        features, frames = loaded._preprocessor(input_signal=signal, length=lengths)
        encoded, frames = loaded._encoder(audio_signal=features.to(loaded._dtype), length=frames)[:2]

        def decode(encoded: Any = encoded, frames: Any = frames) -> Any:
            return loaded._decode(encoded, frames, [seconds] * len(encoded))

        def timed() -> float:
            return round(1000 * measuring.median_s(decode, device, rounds=3), 1)

        def same(found: Sequence[Any]) -> float:
            return sum(a == b.text for a, b in zip(expected, found[:count], strict=True)) / count

        row: dict[str, Any] = {"dtype": dtype, "n": count, "length_s": seconds, "frames": int(encoded.shape[2])}
        computer.cuda_graphs_mode = None
        expected = [one.text for one in decode()()]
        row["texts"] = len(set(expected))
        if mode is None:
            keep(section, **row, eager_ms=timed())
            return
        chosen = loop._choose(count, int(encoded.shape[2]), encoded)
        functional = torch.nn.functional
        wider = functional.pad(encoded, (0, 0, 0, 0, 0, max(0, chosen - count)))
        row["eager_rows_same"] = same(decode(wider, functional.pad(frames, (0, len(wider) - count), value=1))())
        computer.cuda_graphs_mode = mode
        loop._rows = count
        loop.reset()
        started = time.perf_counter()
        decode()
        measuring.synchronize(device)
        row["captured_in_s"] = time.perf_counter() - started
        row["own_graph_ms"] = timed()
        row["own_capacity"], row["own_same"] = loop.capacity, same(decode()())
        loop._rows = rows
        loop.reset()
        for items, longest_s in ((4, 40.0), (64, 20.0), (1024, 5.0)):  # graphs of other sizes are there as well
            recogniser.prepare(items, longest_s)
        row["chosen_ms"] = timed()
        row["chosen_capacity"], row["chosen_same"] = loop.capacity, same(decode()())
        row["chosen_to_own"] = row["chosen_ms"] / row["own_graph_ms"]
        row["reserved_gb"] = torch.cuda.memory_reserved() / 1e9
        keep(section, **row)
        loop.reset()
    recogniser.free_memory()
