"""What the NeMo engine tells about memory and graphs; on the CPU: nothing, without harm. Cards are pretended."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curate.asr import DeviceMemory, MemoryPeak, NemoRecogniser, SupportsCudaGraphs, SupportsMemoryStats, Transcript
from curate.errors import PlanError
from tests.models import babble, tiny_ctc, tiny_rnnt

pytestmark = pytest.mark.nemo


@pytest.fixture(scope="module")
def folder(nemo: Any, one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def rnnt(folder: Path) -> Any:
    engine = NemoRecogniser(tiny_rnnt(folder / "rnnt.nemo"), dtype="auto")
    engine.setup()
    yield engine
    engine.close()


def test_on_the_cpu_there_is_nothing_to_tell(rnnt: NemoRecogniser) -> None:
    assert isinstance(rnnt, SupportsMemoryStats)
    assert isinstance(rnnt, SupportsCudaGraphs)
    assert rnnt.measure(2, 0.5) == 0
    assert (rnnt.memory(), rnnt.peak()) == (None, None)
    assert not rnnt.prepare(64, 30.0)
    rnnt.free_memory()


def test_what_is_used_is_told(rnnt: NemoRecogniser) -> None:
    assert rnnt.used() == {
        "device": "cpu",
        "dtype": "fp32",
        "decoder": "rnnt",
        "decoding": "greedy_batch",
        "label_looping": True,
        "cuda_graphs": False,
        "pinned_memory": False,
    }
    assert NemoRecogniser("a.nemo").used() == {}
    with pytest.raises(PlanError, match="dtype must be one of auto, fp32"):
        NemoRecogniser("a.nemo", dtype="int8")


def test_room_for_graphs_is_made_once_for_the_largest_and_leaves_the_text_alone(
    rnnt: NemoRecogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: Any = rnnt._loaded
    shapes: list[tuple[int, ...]] = []
    decode = loaded._decode

    def noted(encoded: Any, *rest: Any) -> Any:
        shapes.append(tuple(encoded.shape))
        return decode(encoded, *rest)

    before = rnnt.transcribe([babble(1, 2.0)])
    monkeypatch.setattr(loaded, "_has_graphs", True)
    monkeypatch.setattr(loaded, "memory", lambda: DeviceMemory(8 * 10**9, 0, 8 * 10**9))
    monkeypatch.setattr(loaded, "_decode", noted)
    assert rnnt.prepare(20, 10.0)
    assert not rnnt.prepare(32, 9.0)
    assert not rnnt.prepare(1, 10.0)
    assert rnnt.prepare(3, 30.0)
    width = shapes[0][1]
    frames = [shape[2] for shape in shapes]
    assert shapes == [(32, width, frames[0]), (32, width, frames[1])]
    assert 10 * 12.5 <= frames[0] <= 10 * 13 + 64
    assert 30 * 12.5 <= frames[1] <= 30 * 13 + 64
    monkeypatch.setattr(loaded, "memory", lambda: DeviceMemory(10**6, 0, 10**6))
    assert not rnnt.prepare(5000, 40.0)
    assert rnnt.transcribe([babble(1, 2.0)]) == before


def test_a_batch_never_has_more_frames_than_room_was_made_for(rnnt: NemoRecogniser) -> None:
    import math

    loaded: Any = rnnt._loaded
    for seconds in (1.0, 1.234, 7.9, 20.0):
        width, frames_per_s = loaded._encoded
        seen: list[int] = []
        decode = loaded._decode
        loaded._decode = lambda encoded, *rest, decode=decode, seen=seen: (
            seen.append(int(encoded.shape[2])) or decode(encoded, *rest)
        )
        try:
            rnnt.transcribe([babble(1, seconds)])
        finally:
            loaded._decode = decode
        assert seen[0] <= 64 * math.ceil(math.ceil(seconds * frames_per_s) / 64)
        assert width == loaded._encoded[0]


def test_a_ctc_model_has_no_loop_to_capture(folder: Path) -> None:
    engine = NemoRecogniser(tiny_ctc(folder / "ctc.nemo"))
    engine.setup()
    assert engine.used()["label_looping"] is False
    engine.close()
    assert engine.memory() is None


class Card:
    """What torch says of a card: one batch takes its own memory beside the weights'."""

    def __init__(self) -> None:
        self.most = 0

    def reset_peak_memory_stats(self, device: str) -> None:
        self.most = 2_000

    def memory_allocated(self, device: str) -> int:
        return 2_000

    def max_memory_allocated(self, device: str) -> int:
        return self.most

    def max_memory_reserved(self, device: str) -> int:
        return 6_000

    def get_device_properties(self, device: str) -> Any:
        return SimpleNamespace(total_memory=10_000, uuid="1234-5678")


def test_on_a_card_each_batch_tells_its_own_peak_and_the_card_its_name(
    rnnt: NemoRecogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: Any = rnnt._loaded
    card = Card()
    assert rnnt.gpu_uuid() is None
    monkeypatch.setattr(loaded, "_on_gpu", True)
    monkeypatch.setattr(loaded, "_torch", SimpleNamespace(cuda=card, inference_mode=nullcontext))

    def through(signals: Any) -> Any:
        card.most = 2_000 + 1_000 * len(signals)
        return lambda: [Transcript("")] * len(signals)

    monkeypatch.setattr(loaded, "_through", through)
    for batch in (3, 1):
        rnnt.transcribe([babble(1, 1.0)] * batch)
        own = 1_000 * batch
        assert rnnt.peak() == MemoryPeak(own, (2_000 + own) / 10_000, allocated_bytes=2_000, reserved_bytes=6_000)
    rnnt.transcribe([babble(1, 0.001)])  # too short for the model to be asked
    assert rnnt.peak() is None
    assert rnnt.gpu_uuid() == "GPU-1234-5678"


def test_what_waits_to_be_spelt_holds_no_state_of_the_decoder(rnnt: NemoRecogniser) -> None:
    spell: Any = rnnt.begin([babble(1, 2.0), babble(2, 0.001), babble(3, 1.0)])
    found = spell.__closure__
    waiting = [cell.cell_contents for cell in found if isinstance(cell.cell_contents, partial)]
    [hypotheses] = [one.args[0] for one in waiting]
    assert len(hypotheses) == 2
    assert all(hypothesis.dec_state is None for hypothesis in hypotheses)
    assert [transcript.text for transcript in spell()][1] == ""
