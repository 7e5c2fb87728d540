"""Every executor: the same pipelines, the same bytes, the same quarantine as with `local`."""

from __future__ import annotations

from typing import Any

import pytest

from curate.executors.local import LocalExecutor
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.executors.ray import RayExecutor
from curate.testing import ExecutorContract
from tests.shuffled_executor import ShuffledExecutor


class TestLocal(ExecutorContract):
    batches = (1, 40, 1000)

    def executor(self) -> Any:
        return LocalExecutor()


class TestShuffled(ExecutorContract):
    batches = (1, 40, 1000)

    def executor(self) -> Any:
        return ShuffledExecutor(seed=7)


class TestMultiprocessing(ExecutorContract):
    """As many workers as the machine has room for."""

    survives_crashes = True
    batches = (40,)

    def executor(self) -> Any:
        return "multiprocessing"


class TestOneProcess(ExecutorContract):
    survives_crashes = True
    workers = 1
    batches = (1000,)

    def executor(self) -> Any:
        return MultiprocessingExecutor()


class TestTwoProcesses(TestOneProcess):
    workers = 2
    batches = (7,)


class TestThreeProcesses(TestOneProcess):
    workers = 3
    batches = (40,)


@pytest.mark.usefixtures("ray_cluster")
class TestRay(ExecutorContract):
    survives_crashes = True
    workers = 2
    batches = (40,)

    def executor(self) -> Any:
        return RayExecutor()
