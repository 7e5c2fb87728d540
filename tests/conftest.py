"""What several suites share: one Ray cluster for the whole session, because it takes seconds to start."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MARK = f"CURATE_TEST_SESSION={os.environ.setdefault('CURATE_TEST_SESSION', uuid.uuid4().hex)}"
"""In the environment of every process that the session starts, so that what is left behind can be found.

This module is imported under two names, by pytest and by tests, and in the processes that they start; the environment
is what they share.
"""


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """Return a Ray cluster of two nodes on this machine; this process is connected to it."""
    pytest.importorskip("ray")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 4, "num_gpus": 0, "object_store_memory": 200_000_000, "include_dashboard": False},
    )
    cluster.add_node(num_cpus=4, num_gpus=0, object_store_memory=100_000_000, resources={"beside": 4})
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False, logging_level="ERROR")
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Any:
    """Return the executor that a test is parametrised with, on the session's cluster if it is Ray's."""
    if getattr(request.param, "name", request.param) == "ray":
        request.getfixturevalue("ray_cluster")
    return request.param


def worker_processes() -> list[str]:
    """Return the worker processes of this session."""
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if "curate.executors.worker_main" in command and MARK.encode() in (folder / "environ").read_bytes():
                found.append(f"{folder.name}: {command}")
        except OSError:  # it is gone meanwhile
            continue
    return found


def processes_left() -> list[str]:
    """Return the worker processes that stay; Ray ends actors, and those of a driver that is dead, in its own time."""
    end = time.monotonic() + 30
    while (left := worker_processes()) and time.monotonic() < end:
        time.sleep(0.05)
    return left
