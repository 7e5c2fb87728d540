"""The connection to a Ray cluster: a private one on this machine, or the one at an address."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from curate.errors import InfrastructureError, PlanError

if TYPE_CHECKING:
    from curate.executors.ray import RayExecutor


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        PlanError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise PlanError(f"the ray executor needs Ray ({error}): pip install 'curate-speech[ray]'") from error
    return ray


class RaySession:
    """The connection to a cluster, from the first phase of a run to its last."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._ours = False

    def start(self, executor: RayExecutor) -> None:
        """Connect, unless this process is connected.

        Raises:
            InfrastructureError: there is no cluster at the address, or a private one does not start.
        """
        ray = import_ray()
        if ray.is_initialized():
            if not self._ours:
                logger.info("ray: the cluster that this process is connected to")
            return
        options: dict[str, Any] = {
            "log_to_driver": False,
            "configure_logging": False,
            "logging_level": "WARNING",
            **({"runtime_env": executor.runtime_env} if executor.runtime_env else {}),
        }
        if executor.address is None:
            # not below the run directory: the paths of its sockets must be short
            self._folder = Path(tempfile.mkdtemp(prefix="curate-ray-"))
            os.environ.setdefault("RAY_raylet_start_wait_time_s", str(int(executor.start_timeout_s)))
            options |= {
                "address": "local",  # whatever RAY_ADDRESS says
                "num_cpus": executor.num_cpus,
                "num_gpus": executor.num_gpus,
                "resources": executor.resources or None,
                "object_store_memory": executor.object_store_memory,
                "include_dashboard": False,
                "_temp_dir": str(self._folder),
            }
            where = f"a private cluster on this machine, in {self._folder}"
        else:
            options["address"] = executor.address
            where = f"the cluster at {executor.address}"
        try:
            if executor.address is not None:
                _check_reachable(executor.address, executor.start_timeout_s)
            with _sigterm_kept():
                ray.init(**(options | executor.init))
        except Exception as error:
            self.end()
            raise InfrastructureError(f"ray: {where} cannot be had: {error}") from error
        self._ours = True
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        logger.info("ray: {}, {} node{}", where, nodes, "s" * (nodes != 1))

    def end(self) -> None:
        """Let go of the cluster, if the connection is ours; a private one ends."""
        if self._ours:
            self._ours = False
            import_ray().shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)  # some of Ray's processes may still write there
            self._folder = None


@contextmanager
def _sigterm_kept() -> Generator[None]:
    """Keep what this process does on SIGTERM: `ray.init` puts handlers of its own there, which would end it at once."""
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit:  # raised by Ray's handler: SIGTERM came meanwhile
        handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


def _check_reachable(address: str, timeout_s: float) -> None:
    """Check that somebody listens at an address, because Ray would try for many minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()
