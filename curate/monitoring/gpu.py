"""The utilisation of a GPU, from NVML. The only module that imports `pynvml`, which is optional."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from loguru import logger


class GpuMeter:
    """Reads the utilisation of one GPU.

    NVML reports the share of its last sampling period (a sixth of a second to a second) in which a kernel of any
    process ran: it shows whether the GPU is idle, not how well its cores are used.

    Args:
        nvml: the module `pynvml`, initialised.
        handle: NVML's handle of the GPU.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    @classmethod
    def open(cls, uuid: str | None) -> GpuMeter | None:
        """Return a meter of the GPU with this UUID (`CUDA_VISIBLE_DEVICES` renumbers GPUs, so an index is ambiguous).

        None if there is no GPU, `nvidia-ml-py` is not installed, or the driver has no NVML; figures are then absent.
        """
        if uuid is None:
            return None
        try:
            nvml = import_module("pynvml")
        except ImportError:
            logger.debug("the utilisation of the GPU is not measured: it needs the package nvidia-ml-py")
            return None
        try:
            nvml.nvmlInit()
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            nvml.nvmlDeviceGetUtilizationRates(handle)
        except nvml.NVMLError as error:  # no driver, or a MIG part of a GPU, which has no utilisation
            logger.debug("the utilisation of GPU {} is not measured: {}", uuid, error)
            return None
        return cls(nvml, handle)

    def utilisation(self) -> float | None:
        """Return the share of time in which the GPU is busy, 0 to 1; None if NVML no longer reports it."""
        try:
            return self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100
        except self._nvml.NVMLError as error:
            logger.debug("the utilisation of the GPU could not be read: {}", error)
            return None

    def close(self) -> None:
        """Shut NVML down."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError as error:
            logger.debug("NVML could not be shut down: {}", error)
