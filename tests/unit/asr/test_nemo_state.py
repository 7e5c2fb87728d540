"""Running a model never changes it."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.asr import NemoRecogniser
from curate.errors import InfrastructureError
from curate.models import ModelResources

pytestmark = pytest.mark.nemo


def fingerprint(model: Any) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ctc", {}),
        ("rnnt", {}),
        ("tdt", {"timestamps": True, "confidence": True}),
        ("hybrid", {}),
        ("hybrid", {"decoder": "ctc", "timestamps": True, "confidence": True}),
    ],
)
def test_many_calls_leave_weights_statistics_and_modes_as_restored(
    name: str, options: dict[str, Any], checkpoint: Callable[[str], Path], nemo: Any, clips: Any
) -> None:
    restored = nemo.models.ASRModel.restore_from(str(checkpoint(name)), map_location="cpu")
    engine = NemoRecogniser(checkpoint(name), **options)
    engine.setup()
    model = engine._loaded._model
    for size in (1, 3, 10, 2):
        for _ in range(3):
            engine.transcribe([samples for _, samples in clips[:size]])
    assert fingerprint(model) == fingerprint(restored)
    assert [module for module in model.modules() if module.training] == []
    assert [value for value in model.parameters() if value.requires_grad] == []


def test_the_same_call_gives_the_same_answer_for_ever(checkpoint: Callable[[str], Path], clips: Any) -> None:
    engine = NemoRecogniser(checkpoint("hybrid"))
    engine.setup()
    waveforms = [samples for _, samples in clips[:4]]
    first = engine.transcribe(waveforms)
    for size in (1, 7, 10):
        engine.transcribe([samples for _, samples in clips[:size]])
    assert engine.transcribe(waveforms) == first


def test_another_model_of_the_process_does_not_switch_ours_to_training(
    checkpoint: Callable[[str], Path], nemo: Any, clips: Any
) -> None:
    engine = NemoRecogniser(checkpoint("rnnt"))
    engine.setup()
    theirs = nemo.models.ASRModel.restore_from(str(checkpoint("rnnt")), map_location="cpu")
    theirs.transcribe([str(clips[0][0])], verbose=False)
    assert any(module.training for module in theirs.modules())
    assert [name for name, module in engine._loaded._model.named_modules() if module.training] == []


def test_close_lets_go_of_the_model_and_setup_brings_it_back(checkpoint: Callable[[str], Path], clips: Any) -> None:
    import weakref

    engine = NemoRecogniser(checkpoint("rnnt"))
    engine.setup()
    heard = engine.transcribe([clips[0][1]])
    model = weakref.ref(engine._loaded._model)
    engine.close()
    engine.close()
    assert model() is None
    with pytest.raises(InfrastructureError, match="before setup"):
        engine.transcribe([clips[0][1]])
    engine.setup()
    assert engine.transcribe([clips[0][1]]) == heard


def test_before_setup_a_recogniser_is_settings_that_can_be_copied_and_sent(
    checkpoint: Callable[[str], Path], clips: Any
) -> None:
    settings = NemoRecogniser(checkpoint("ctc"), timestamps=True)
    heard = []
    for engine in (copy.deepcopy(settings), pickle.loads(pickle.dumps(settings))):
        engine.setup()
        heard += engine.transcribe([clips[0][1]])
    assert heard[0] == heard[1]
    assert settings._loaded is None


def test_setup_again_does_not_load_again(checkpoint: Callable[[str], Path]) -> None:
    engine = NemoRecogniser(checkpoint("ctc"))
    engine.setup()
    loaded = engine._loaded
    engine.setup()
    assert engine._loaded is loaded


def test_device_dtype_and_threads_follow_from_the_resources(checkpoint: Callable[[str], Path]) -> None:
    import torch

    before = torch.get_num_threads()
    engine = NemoRecogniser(checkpoint("ctc"))
    engine.resources = ModelResources(dtype="bf16", threads=2)
    try:
        engine.setup()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert (engine.runtime_info()["dtype"], engine.runtime_info()["device"]) == ("bf16", "cpu")
    assert engine.capabilities().meter is None, "the memory of a CPU is not measured"
    engine.close()
    elsewhere = NemoRecogniser(checkpoint("ctc"))
    elsewhere.resources = ModelResources(device="cuda")
    with pytest.raises(InfrastructureError, match="device 'cuda' is asked for"):
        elsewhere.setup()


def test_threads_are_set_where_they_are_given(checkpoint: Callable[[str], Path]) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        NemoRecogniser(checkpoint("ctc"), threads=2).setup()
        assert torch.get_num_threads() == 2
        NemoRecogniser(checkpoint("ctc")).setup()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
