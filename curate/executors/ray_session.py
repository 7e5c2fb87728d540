"""The connection to a Ray cluster: a private one on this machine, or the one at an address."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
from loguru import logger

from curate.errors import InfrastructureError, PlanError
from curate.executors.ray_folder import ClusterFolder, sweep_abandoned_folders


@attrs.frozen
class ClusterOptions:
    """The options of a Ray cluster: which one a session connects to, and how a private one is started.

    Args:
        address: the address of the cluster; None: a private one on this machine.
        num_cpus: cores of the private cluster; None: those of this machine.
        num_gpus: GPUs of the private cluster; None: those of this machine.
        resources: custom resources of the private cluster, by name.
        object_store_memory: the object store of the private cluster, in bytes; None: Ray's default.
        runtime_env: Ray's runtime environment for all workers.
        init: more options of `ray.init`.
        start_timeout_s: the time that the private cluster may take to start, or another one to answer.
    """

    address: str | None
    num_cpus: float | None
    num_gpus: float | None
    resources: Mapping[str, float]
    object_store_memory: int | None
    runtime_env: Mapping[str, Any]
    init: Mapping[str, Any]
    start_timeout_s: float


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        PlanError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise PlanError(f"the ray executor needs Ray ({error}): pip install 'curate-speech[ray]'") from error
    return ray


class RaySession:
    """The connection to a cluster, from the first phase of a run to its last."""

    def __init__(self) -> None:
        self._folder: ClusterFolder | None = None
        self._ours = False

    def start(self, cluster: ClusterOptions) -> None:
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
            **({"runtime_env": dict(cluster.runtime_env)} if cluster.runtime_env else {}),
        }
        if cluster.address is None:
            # not below the run directory: the paths of its sockets must be short
            sweep_abandoned_folders()
            self._folder = ClusterFolder()
            os.environ.setdefault("RAY_raylet_start_wait_time_s", str(int(cluster.start_timeout_s)))
            options |= {
                "address": "local",  # whatever RAY_ADDRESS says
                "num_cpus": cluster.num_cpus,
                "num_gpus": cluster.num_gpus,
                "resources": dict(cluster.resources) or None,
                "object_store_memory": cluster.object_store_memory,
                "include_dashboard": False,
                "_temp_dir": str(self._folder.path),
            }
            where = f"a private cluster on this machine, in {self._folder.path}"
        else:
            options["address"] = cluster.address
            where = f"the cluster at {cluster.address}"
        try:
            if cluster.address is not None:
                _check_reachable(cluster.address, cluster.start_timeout_s)
            with _sigterm_kept():
                ray.init(**{**options, **cluster.init})
        except Exception as error:
            self.end()
            raise InfrastructureError(f"ray: {where} is not available: {error}") from error
        self._ours = True
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        logger.info("ray: {}, {} node{}", where, nodes, "s" * (nodes != 1))

    def end(self) -> None:
        """Disconnect, if this session has connected; a private cluster ends."""
        if self._ours:
            self._ours = False
            import_ray().shutdown()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None


@contextmanager
def _sigterm_kept() -> Generator[None]:
    """Keep this process's handler of SIGTERM: `ray.init` installs its own, which would end the process immediately."""
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
    """Check that an address accepts connections, because Ray would retry for many minutes.

    Raises:
        OSError: it accepts none.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()
