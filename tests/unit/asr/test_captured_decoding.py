"""Decoding in CUDA graphs says what decoding without says, whatever fails while they are captured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate.asr import NemoRecogniser
from curate.batching import Unfit, run_splitting
from curate.gpu_errors import is_oom
from tests.models import babble
from tests.unit.asr.fake_graphs import FakeCuda

pytestmark = pytest.mark.nemo

CLIPS = [babble(seed, 2.0 + seed / 4) for seed in range(7)]


@pytest.fixture
def eager(recogniser: NemoRecogniser) -> list[str]:
    """What decoding without graphs says about `CLIPS`."""
    texts = [transcript.text for transcript in recogniser.transcribe(CLIPS)]
    assert all(texts)
    return texts


@pytest.fixture
def cuda(recogniser: NemoRecogniser, eager: list[str]) -> FakeCuda:
    return FakeCuda(recogniser)


def texts(recogniser: NemoRecogniser, clips: list[Any]) -> list[str]:
    return [transcript.text for transcript in recogniser.transcribe(clips)]


@pytest.mark.parametrize("fails_at", ["warm-up", "compile"])
def test_oom_inside_a_capture_leaves_no_stale_graph(
    recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str], fails_at: str
) -> None:
    assert texts(recogniser, CLIPS[:2]) == eager[:2]
    cuda.fails_at = fails_at
    cuda.max_rows = 20  # 16 rows fit, and no more
    wide = CLIPS * 3
    found: dict[int, str] = {}
    parts = run_splitting(list(range(len(wide))), lambda ids: texts(recogniser, [wide[n] for n in ids]), is_oom=is_oom)
    for part in parts:
        assert not isinstance(part, Unfit)
        found.update(zip(part.items, part.result, strict=True))
    assert [found[n] for n in range(len(wide))] == eager * 3
    assert texts(recogniser, CLIPS[:2]) == eager[:2]


def test_oom_in_prepare_leaves_no_stale_graph(recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str]) -> None:
    assert texts(recogniser, CLIPS[:2]) == eager[:2]
    cuda.max_rows = 20
    with pytest.raises(RuntimeError, match="out of memory"):
        recogniser.prepare(64, 30.0)
    assert cuda.loop.is_sound()
    assert cuda.loop.capacity == (0, 0)
    assert texts(recogniser, CLIPS) == eager


def test_graph_that_does_not_belong_to_the_buffers_is_dropped(
    recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str]
) -> None:
    assert recogniser.prepare(7, 5.0)
    assert cuda.loop.is_sound()
    state: Any = type(cuda.computer.state)
    cuda.computer.state = state.__new__(state)
    cuda.computer.state.__dict__.update(cuda.computer.full_graph._state.__dict__)
    assert not cuda.loop.is_sound()
    assert texts(recogniser, CLIPS) == eager
    assert len(cuda.captures) == 2


def test_prepared_graphs_are_captured_once(recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str]) -> None:
    assert recogniser.prepare(7, 8.0)
    assert cuda.captures == [(16, 375)]  # the fewest frames that NeMo captures
    for count in (7, 3, 7, 1):
        assert texts(recogniser, CLIPS[:count]) == eager[:count]
    assert not recogniser.prepare(5, 8.0)
    assert len(cuda.captures) == 1


def test_longer_record_than_announced_captures_once_more_and_never_again(
    recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str]
) -> None:
    recogniser.prepare(20, 8.0)
    long = [babble(9, 40.0)]
    for _ in range(3):
        recogniser.transcribe(long)
        assert not recogniser.prepare(20, 8.0)
        assert texts(recogniser, CLIPS) == eager
    [(rows, frames), (grown_rows, grown_frames)] = cuda.captures
    assert (rows, grown_rows) == (32, 16)  # a graph for each size of batch
    assert frames == 375 < grown_frames


def test_large_batch_is_decoded_in_slices_of_one_graph(path: Path, eager: list[str]) -> None:
    one = NemoRecogniser(path)
    one.setup()
    try:
        cuda = FakeCuda(one)
        cuda.loop._rows = 16
        assert one.prepare(1000, 5.0)
        assert texts(one, CLIPS * 6) == eager * 6
        assert [rows for rows, _ in cuda.captures] == [16]
    finally:
        one.close()


def test_buffers_beyond_their_share_of_memory_are_not_captured(
    recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str]
) -> None:
    assert recogniser.prepare(16, 20.0)
    captured = len(cuda.captures)
    like = cuda.computer.state.encoder_output_projected.new_zeros((1, recogniser._loaded._encoded[0], 1))  # type: ignore[union-attr]
    cuda.loop._max_bytes = cuda.loop._bytes(16, 400, like)
    long = babble(9, 40.0)
    assert not recogniser.prepare(16, 40.0)
    found = texts(recogniser, [long, *CLIPS])
    assert len(cuda.captures) == captured
    assert cuda.loop.capacity == cuda.captures[-1]
    assert texts(recogniser, CLIPS) == eager
    cuda.computer.cuda_graphs_mode = None
    assert texts(recogniser, [long, *CLIPS]) == found


def test_graphs_with_fewer_rows_where_long_ones_would_not_fit(
    recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str]
) -> None:
    recogniser.transcribe(CLIPS[:1])
    like = cuda.computer.state.encoder_output_projected.new_zeros((1, recogniser._loaded._encoded[0], 1))  # type: ignore[union-attr]
    cuda.loop._max_bytes = cuda.loop._bytes(64, 400, like)
    assert recogniser.prepare(200, 20.0)
    assert cuda.captures[-1][0] == 64
    assert texts(recogniser, CLIPS * 12) == eager * 12
    assert cuda.captures[-1][0] == 64


def test_capture_that_fails_for_another_reason_falls_back_and_says_so(
    recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str], messages: list[str]
) -> None:
    cuda.fails_at = "compile"
    cuda.failing = ImportError("libnvrtc.so.13: cannot open shared object file")
    assert recogniser.runtime_info()["cuda_graphs_mode"] == "full_graph"
    assert texts(recogniser, CLIPS) == eager
    assert texts(recogniser, CLIPS[:3]) == eager[:3]
    info = recogniser.runtime_info()
    assert (info["cuda_graphs"], info["cuda_graphs_mode"]) == (True, "no_while_loops")
    [warning] = [line for line in messages if "CUDA graphs" in line]
    assert "libnvrtc.so.13" in warning and "cuda-bindings<13" in warning


def test_broken_context_inside_a_capture_is_raised_as_it_is(recogniser: NemoRecogniser, cuda: FakeCuda) -> None:
    import torch

    cuda.failing = torch.AcceleratorError("CUDA error: device-side assert triggered")
    with pytest.raises(torch.AcceleratorError, match="device-side assert"):
        recogniser.transcribe(CLIPS)
    assert cuda.loop.mode == "full_graph"


def test_graphs_that_torch_forbids_fall_back_to_none(
    recogniser: NemoRecogniser, eager: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    cuda = FakeCuda(recogniser, "no_while_loops")

    def forbidden() -> None:
        raise torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda.computer, "_partial_graphs_compile", forbidden)
    assert texts(recogniser, CLIPS) == eager
    assert cuda.loop.mode is None


def test_hypotheses_are_cut_before_they_leave_the_device(recogniser: NemoRecogniser, cuda: FakeCuda) -> None:
    cuda.loop.decode  # noqa: B018 (the loop exists)
    recogniser.prepare(7, 20.0)
    seen: list[tuple[int, ...]] = []
    trimmed = cuda.decode._nemo.decoding.decoding_computer
    call = type(trimmed).__call__

    def noted(self: Any, *args: Any, **options: Any) -> Any:
        found, state = call(self, *args, **options)
        seen.append(tuple(found.transcript.shape))
        return found, state

    type(trimmed).__call__ = noted
    try:
        recogniser.transcribe(CLIPS[:3])
    finally:
        type(trimmed).__call__ = call
    [(rows, longest)] = seen
    assert rows == 3
    assert longest < 20 * 12.5 * 10


def test_one_graph_is_kept_and_serves_batches_of_other_sizes(
    recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str]
) -> None:
    for _ in range(3):
        for times in (5, 1, 10):
            assert texts(recogniser, CLIPS * times) == eager * times
            assert cuda.loop.is_sound()
    assert [rows for rows, _ in cuda.captures] == [64]  # 35 records, 7, and 70 in two slices


def test_one_graph_gives_way_to_a_much_larger_one(recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str]) -> None:
    for _ in range(2):
        for times in (1, 10):
            assert texts(recogniser, CLIPS * times) == eager * times
            assert cuda.loop.is_sound()
    assert [rows for rows, _ in cuda.captures] == [16, 96]


def test_each_size_of_batch_has_a_graph_of_its_own_where_several_may_be_kept(
    recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str]
) -> None:
    cuda.loop._max_graphs = 9
    for _ in range(3):
        for times in (5, 1, 10):
            assert texts(recogniser, CLIPS * times) == eager * times
            assert cuda.loop.is_sound()
    assert [rows for rows, _ in cuda.captures] == [64, 16, 96]  # 35, 7 and 70 records


def test_graphs_that_would_not_fit_together_are_not_captured_in_turn(
    recogniser: NemoRecogniser, cuda: FakeCuda, eager: list[str]
) -> None:
    recogniser.transcribe(CLIPS[:1])
    like = cuda.computer.state.encoder_output_projected.new_zeros((1, recogniser._loaded._encoded[0], 1))  # type: ignore[union-attr]
    cuda.loop._max_bytes = cuda.loop._bytes(100, 375, like)
    for _ in range(2):
        for times in (10, 5, 1):
            assert texts(recogniser, CLIPS * times) == eager * times
    assert [rows for rows, _ in cuda.captures] == [16, 96]  # which takes the place of 16, and holds all


def test_oom_hidden_by_the_end_of_a_capture_is_what_is_raised(recogniser: NemoRecogniser, cuda: FakeCuda) -> None:
    import torch

    hidden = RuntimeError("Capture must end on the same stream it began on.")
    hidden.__context__ = torch.OutOfMemoryError("CUDA out of memory.")
    cuda.failing = hidden
    with pytest.raises(torch.OutOfMemoryError):
        recogniser.transcribe(CLIPS)
    assert cuda.loop.mode == "full_graph"
    assert cuda.loop.capacity == (0, 0)
