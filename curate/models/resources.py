"""Where and how one worker's model runs: derived from its stage's resources, the same way for every model."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import attrs

if TYPE_CHECKING:
    from curate.resources import Resources


@attrs.frozen
class ModelResources:
    """The device, the number format and the threads of one worker's model.

    Args:
        device: `cpu` or `cuda`; the executor lets a worker see its own GPUs only, so an index is not needed.
        dtype: `fp32`, `bf16`, `fp16`, or `auto`: bf16 on GPUs that have it, and fp32 elsewhere.
        threads: CPU threads; None: as the library chooses.
        gpu_share: the share of the GPU's memory that the model may take.
        gpu_memory_gb: the GPU memory that it may take, in GB; None: `gpu_share` of it.
    """

    device: str = "cpu"
    dtype: str = "auto"
    threads: int | None = None
    gpu_share: float = 1.0
    gpu_memory_gb: float | None = None

    @classmethod
    def of(cls, resources: Resources, dtype: str = "auto") -> Self:
        """Return those that a stage's resources mean: CUDA with `gpus` or `gpu_memory_gb`, else threads on `cpus`."""
        on_gpu = resources.gpus > 0 or resources.gpu_memory_gb > 0
        return cls(
            device="cuda" if on_gpu else "cpu",
            dtype=dtype,
            threads=None if on_gpu else max(1, int(resources.cpus)),
            gpu_share=resources.gpus if 0 < resources.gpus < 1 else 1.0,
            gpu_memory_gb=resources.gpu_memory_gb or None,
        )

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device != "cpu"

    def torch_dtype(self) -> Any:
        """Return the number format as torch's; imports torch."""
        torch: Any = import_module("torch")
        name = suitable_dtype(torch, torch.device(self.device)) if self.dtype == "auto" else self.dtype
        return getattr(torch, DTYPES[name])


DTYPES: Mapping[str, str] = MappingProxyType({"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"})
"""Number formats, and torch's names for them."""


def suitable_dtype(torch: Any, device: Any) -> str:
    """Return the number format that the device is fastest with, without loss of range."""
    if device.type != "cuda":
        return "fp32"
    with torch.cuda.device(device):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
