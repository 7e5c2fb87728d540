"""Small batches are encoded in CUDA graphs of a few shapes, and say what they say without; on fakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.asr import NemoRecogniser
from curate.asr.captured_encoder import CapturedEncoder
from curate.models.side_stream import CAPTURES, SideStream
from tests.models import babble
from tests.unit.models.fake_streams import FakeCuda, FakeTorch, RecordedEncoder

pytestmark = pytest.mark.nemo

CLIPS = [babble(seed, 1.0 + seed / 3) for seed in range(7)]


@pytest.fixture(scope="module", params=["rnnt", "ctc"])
def recogniser(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> Iterator[NemoRecogniser]:
    one = NemoRecogniser(checkpoint(request.param))
    one.setup()
    yield one
    one.close()


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda(lazy=False)


@pytest.fixture
def encoder(recogniser: NemoRecogniser, cuda: FakeCuda) -> Iterator[CapturedEncoder]:
    loaded: Any = recogniser._loaded
    recorded = RecordedEncoder(loaded._encoder, cuda)
    fake: Any = FakeTorch(cuda)
    loaded._captured = CapturedEncoder(fake, recorded, loaded._device, loaded._dtype)
    yield loaded._captured
    loaded._captured = None


def texts(recogniser: NemoRecogniser, clips: list[Any]) -> list[str]:
    return [transcript.text for transcript in recogniser.transcribe(clips)]


def test_texts_in_graphs_are_those_without(recogniser: NemoRecogniser, request: pytest.FixtureRequest) -> None:
    batches = [CLIPS, CLIPS[:5], CLIPS[2:], CLIPS[:1], CLIPS[::-1], CLIPS[3:4]]
    eager = [texts(recogniser, batch) for batch in batches]
    assert all(all(found) for found in eager)
    encoder: CapturedEncoder = request.getfixturevalue("encoder")
    cuda: FakeCuda = request.getfixturevalue("cuda")
    for _ in range(3):
        assert [texts(recogniser, batch) for batch in batches] == eager
    assert encoder.shapes == [(1, 256), (8, 256), (8, 512)]
    assert cuda.captures == 3
    assert not CAPTURES.locked()
    assert cuda.current is cuda.model_stream


def test_outputs_equal_eager_ones_and_are_copies(recogniser: NemoRecogniser, encoder: CapturedEncoder) -> None:
    import torch

    loaded: Any = recogniser._loaded
    with torch.inference_mode():
        features = torch.randn(3, 80, 300, generator=torch.Generator().manual_seed(1))
        bands = loaded._preprocessor.featurizer.nfilt
        features = features[:, :1].expand(3, bands, 300) + torch.randn(bands, 1)
        frames = torch.tensor([300, 120, 211])
        expected, counts = loaded._encoder(audio_signal=features, length=frames)[:2]
        encoder(features, frames)
        found, found_counts = encoder(features, frames)
        kept = found.clone()
        assert encoder.shapes == [(4, 512)]
        assert found_counts.tolist() == counts.tolist()
        assert found.shape == expected.shape
        for row, count in enumerate(counts.tolist()):
            torch.testing.assert_close(found[row, :, :count], expected[row, :, :count], rtol=1e-4, atol=1e-5)
        encoder(features[:2] * 3, frames[:2])
        encoder(features + 1, frames)
        assert torch.equal(found, kept), "a later batch must not overwrite this one"


def test_large_batches_and_further_shapes_run_eagerly(recogniser: NemoRecogniser, encoder: CapturedEncoder) -> None:
    recorded: Any = encoder._encoder
    encoder._max_graphs = 1
    for clips in (CLIPS, CLIPS, CLIPS[:1], CLIPS[:1], CLIPS[:1]):
        recogniser.transcribe(clips)
    assert encoder.shapes == [(8, 512)]
    assert recorded.calls[-1][0] == 1
    assert encoder._shape(65, 100) is None
    assert encoder._shape(64, 64 * 256) is None
    assert encoder._shape(64, 1251) == (64, 1280)


def test_memory_of_graphs_is_counted_and_bounded(recogniser: NemoRecogniser, cuda: FakeCuda, encoder: Any) -> None:
    cuda.per_capture = 600
    cuda.reserved = cuda.cached = 5000  # what a capture releases first must not hide what it takes
    encoder._max_bytes = 1000
    for clips in (CLIPS, CLIPS[:1], CLIPS[:2], CLIPS[:3]) * 2:
        recogniser.transcribe(clips)
    assert cuda.captures == 2
    assert encoder.size_bytes == 1200  # the one that exceeds the bound is the last
    [first, second] = cuda.captured_on
    assert first == second, "only captures on one stream share the memory of their pool"
    encoder.close()
    assert (encoder.shapes, encoder.size_bytes) == ([], 0)


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB", 1),
        ("CUDA error: operation not permitted when stream is capturing", 0),
    ],
)
def test_capture_that_fails_leaves_the_encoder_eager(
    recogniser: NemoRecogniser, cuda: FakeCuda, message: str, kept: int, request: pytest.FixtureRequest
) -> None:
    eager = texts(recogniser, CLIPS)
    encoder: CapturedEncoder = request.getfixturevalue("encoder")
    for _ in range(2):
        recogniser.transcribe(CLIPS[:1])
    cuda.failing = RuntimeError(message)
    for _ in range(3):
        assert texts(recogniser, CLIPS) == eager
    assert cuda.current is cuda.model_stream, "the model's stream is current again"
    assert not CAPTURES.locked()
    assert cuda.allocating_to is None, "the allocator believes in a capture that is over"
    cuda.failing = None
    assert texts(recogniser, CLIPS) == eager
    assert (cuda.captures, len(encoder.shapes)) == (1, kept)
    assert texts(recogniser, CLIPS[:1]) == eager[:1]


def test_broken_context_in_a_capture_is_raised(
    recogniser: NemoRecogniser, cuda: FakeCuda, encoder: CapturedEncoder
) -> None:
    cuda.failing = cuda.broken = RuntimeError("CUDA error: device-side assert triggered")
    recogniser.transcribe(CLIPS)
    with pytest.raises(RuntimeError, match="device-side assert"):
        recogniser.transcribe(CLIPS)


def test_graph_keeps_the_tables_that_it_was_captured_with(
    recogniser: NemoRecogniser, cuda: FakeCuda, encoder: CapturedEncoder
) -> None:
    for _ in range(2):
        recogniser.transcribe(CLIPS)
    [graph] = encoder._graphs.values()
    table = next(name for name, _ in encoder._encoder.named_buffers() if name.endswith("pos_enc.pe"))
    before = dict(encoder._encoder.named_buffers())[table]
    assert any(one is before for one in graph.kept)


def test_staging_on_a_side_stream_says_the_same(
    recogniser: NemoRecogniser, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import torch

    loaded: Any = recogniser._loaded
    clips = [*CLIPS, np.zeros(9_000, np.float32), babble(1, 0.001)]
    plain = recogniser.transcribe(clips)
    fake: Any = FakeTorch(cuda)
    streams: list[Any] = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: streams.append(stream))
    monkeypatch.setattr(loaded, "_side", SideStream(fake, loaded._device))
    first, second = recogniser.stage(clips), recogniser.stage(clips[::-1])
    assert recogniser.runtime_info()["side_stream"] is True
    there = loaded._preprocessor
    monkeypatch.setattr(loaded, "_preprocessor", None)  # features are there already
    assert recogniser.transcribe(second) == plain[::-1]
    assert recogniser.transcribe(first) == plain
    assert streams == [cuda.model_stream] * 4
    monkeypatch.setattr(loaded, "_preprocessor", there)
    # What was prepared is used once: a batch that did not fit is computed anew, in parts.
    assert recogniser.transcribe(first) == plain
    loaded._side.close()
    assert fake.pinned == []


def test_options_of_a_gpu_do_nothing_on_the_cpu(checkpoint: Callable[[str], Path]) -> None:
    one = NemoRecogniser(checkpoint("ctc"), encoder_graphs=True, side_stream=True)
    one.setup()
    try:
        loaded: Any = one._loaded
        assert (loaded._captured, loaded._side) == (None, None)
        assert "encoder_graphs" not in one.runtime_info()
    finally:
        one.close()
