"""What NeMo runs inside of CUDA graphs asks the GPU for nothing: a capture forbids that. Seen by torch's operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from curate.asr import NemoRecogniser
from curate.asr.nemo import _attend_by_sdpa
from tests.models import babble
from tests.unit.asr.fake_graphs import FakeCuda

pytestmark = pytest.mark.nemo

FORBIDDEN = {
    "aten::_local_scalar_dense",  # .item(), bool(tensor), int(tensor)
    "aten::nonzero",  # also indices by masks
    "aten::masked_select",
    "aten::is_nonzero",
    "aten::_unique2",
    "aten::equal",
    "aten::repeat_interleave.Tensor",
}


@contextmanager
def operators() -> Iterator[set[str]]:
    """Yield the names of the operators that torch runs in here, as far as a capture forbids them."""
    from torch.utils._python_dispatch import TorchDispatchMode

    met: set[str] = set()

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.name()
            is_by_mask = name in ("aten::index.Tensor", "aten::index_put_") and any(
                one is not None and str(one.dtype) == "torch.bool" for one in args[1]
            )
            if name in FORBIDDEN or is_by_mask:
                met.add(name)
            return func(*args, **(kwargs or {}))

    with Names():
        yield met


def test_operators_that_a_capture_forbids_are_seen() -> None:
    torch: Any = pytest.importorskip("torch")
    numbers = torch.arange(4)
    for work in (
        lambda: numbers.sum().item(),
        lambda: numbers[numbers > 1],
        lambda: bool((numbers > 9).any()),
        lambda: numbers.nonzero(),
    ):
        with operators() as met:
            work()
        assert met


@pytest.mark.parametrize("name", ["rnnt", "ctc", "hybrid"])
@pytest.mark.parametrize("attention", ["nemo", "sdpa", "local"])
def test_encoder_can_be_captured(name: str, attention: str, checkpoint: Callable[[str], Path]) -> None:
    import torch

    local = 8 if attention == "local" else None
    recogniser = NemoRecogniser(checkpoint(name), local_attention=local)
    recogniser.setup()
    loaded: Any = recogniser._loaded
    _attend_by_sdpa(loaded._encoder, attention == "sdpa")
    with torch.inference_mode():
        features, frames = loaded._features(*loaded._padded([babble(seed, 1.0 + seed) for seed in range(3)]))
        loaded._encoder(audio_signal=features, length=frames)  # the warm-up makes tables
        with operators() as met:
            loaded._encoder(audio_signal=features, length=frames)
    recogniser.close()
    assert met == set()


def test_bodies_of_the_decoding_loop_can_be_captured(recogniser: NemoRecogniser) -> None:
    import torch

    cuda = FakeCuda(recogniser)
    recogniser.transcribe([babble(1, 2.0), babble(2, 1.0)])
    computer = cuda.computer
    with torch.inference_mode(), operators() as met:
        computer._before_outer_loop()
        computer._before_inner_loop_get_joint_output()
        computer._inner_loop_step_find_next_non_blank()
        computer._after_inner_loop_step()
    assert met == set()
