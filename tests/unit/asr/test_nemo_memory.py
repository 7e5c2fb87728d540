"""What a NeMo recogniser reports about memory and graphs; on the CPU: nothing, without harm. GPUs are faked."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curate.asr import NemoRecogniser, Transcript
from curate.errors import PlanError
from curate.models import MemoryPeak, ModelCapabilities
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
    can = rnnt.capabilities()
    assert can == ModelCapabilities(stage=can.stage, runtime_info=rnnt.runtime_info)
    assert (rnnt.memory(), rnnt.peak()) == (None, None)
    assert not rnnt.prepare(64, 30.0)
    rnnt.free_memory()


def test_runtime_info_names_device_and_decoding(rnnt: NemoRecogniser) -> None:
    assert rnnt.runtime_info() == {
        "device": "cpu",
        "dtype": "fp32",
        "decoder": "rnnt",
        "decoding": "greedy_batch",
        "label_looping": True,
        "cuda_graphs": False,
        "cuda_graphs_mode": None,
        "pinned_memory": False,
        "attention": "nemo",
        "tf32": False,
    }
    assert NemoRecogniser("a.nemo").runtime_info() == {}
    with pytest.raises(PlanError, match="dtype must be one of auto, fp32"):
        NemoRecogniser("a.nemo", dtype="int8")


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
    assert engine.runtime_info()["label_looping"] is False
    engine.close()
    assert engine.memory() is None


class Gpu:
    """What torch reports of a GPU: one batch takes its own memory, next to the weights'."""

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


def test_batch_on_a_gpu_has_a_peak_of_its_own_and_the_gpu_a_name(
    rnnt: NemoRecogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: Any = rnnt._loaded
    gpu = Gpu()
    assert rnnt.gpu_uuid() is None
    monkeypatch.setattr(loaded, "on_gpu", True)
    monkeypatch.setattr(loaded, "_torch", SimpleNamespace(cuda=gpu, inference_mode=nullcontext))

    def through(signals: Any, *_: Any) -> Any:
        gpu.most = 2_000 + 1_000 * len(signals)
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
