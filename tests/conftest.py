"""What several suites share: one Ray cluster for the whole session, because it takes seconds to start."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from tests import properties as properties
from tests.tiers import pytest_collection_modifyitems as pytest_collection_modifyitems


def _mark() -> str:
    """Return the mark of this process of pytest, and put it into its environment.

    This module is imported under two names, by pytest and by tests, and in the processes that they start; the
    environment is what they share. The processes of pytest-xdist inherit it from each other, so each adds its name.
    """
    session = os.environ.get("CURATE_TEST_SESSION") or uuid.uuid4().hex
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and not session.startswith(f"{worker}-"):
        session = f"{worker}-{session}"
    os.environ["CURATE_TEST_SESSION"] = session
    return f"CURATE_TEST_SESSION={session}"


ROOT = Path(__file__).parents[1]

# A shell that starts pytest in the background makes it ignore Ctrl-C, which tests send to themselves and to children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MARK = _mark()
"""In the environment of every process that the session starts, so that what is left behind can be found."""


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The warnings that curate logs during a test, each with its traceback, and without its level and place."""
    found: list[str] = []
    with _logged(lambda message: found.append(str(message)), "WARNING"):
        yield found


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """What curate logs during a test from the level INFO on, as messages without tracebacks."""
    found: list[str] = []
    with _logged(lambda message: found.append(message.record["message"]), "INFO"):
        yield found


@contextmanager
def _logged(sink: Callable[[Any], None], level: str) -> Iterator[None]:
    logger.enable("curate")
    number = logger.add(sink, level=level, format="{message}")
    yield
    logger.remove(number)
    logger.disable("curate")


@pytest.fixture(scope="session")
def ray() -> Any:
    """Return the module, imported by the first test that needs it and not when tests are collected."""
    return importlib.import_module("ray")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """Return a Ray cluster of two nodes on this machine; this process is connected to it."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 4, "num_gpus": 0, "object_store_memory": 200_000_000, "include_dashboard": False},
    )
    cluster.add_node(num_cpus=4, num_gpus=0, object_store_memory=100_000_000, resources={"beside": 4})
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
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


@pytest.fixture(scope="session")
def broken_plugin_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a command in whose Python a plugin is installed that cannot be imported."""
    site = tmp_path_factory.mktemp("broken-plugin")
    described = site / "curate_broken-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: curate-broken\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[curate]\nbroken = curate_broken\n")
    (site / "curate_broken.py").write_text("raise RuntimeError('broken on purpose')\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}


@pytest.fixture(scope="session")
def quickstart_command(
    broken_plugin_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """`curate run` of the quickstart with a broken plugin installed: its run directory, and how it ended.

    The process imports NeMo, so there is one for all tests that look at such a run.
    """
    folder = tmp_path_factory.mktemp("quickstart-command")
    pipeline = ROOT / "pipelines" / "quickstart" / "pipeline.yaml"
    command = [sys.executable, "-m", "curate.cli", "run", str(pipeline), "--run-dir", str(folder / "run")]
    done = subprocess.run(command, env=broken_plugin_environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", done


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
