"""Finds out what this machine has, without importing torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import attrs

_DRIVER = Path("/proc/driver/nvidia/gpus")
_MIG_GB = re.compile(r"\.(\d+)gb")


@attrs.frozen
class Gpu:
    """A GPU, or a slice of one (MIG), as a worker can be given it.

    Args:
        id: as CUDA_VISIBLE_DEVICES names it: the UUID where that is known, else its number.
        memory_gb: its memory in GB; None: unknown.
        index: its number in the order of the PCI bus; None: unknown, or a slice.
    """

    id: str
    memory_gb: float | None = None
    index: int | None = None

    def is_named(self, name: str) -> bool:
        """Return whether `name` is the id, the beginning of the id, or the number of this GPU."""
        if name.isdigit():
            return self.index == int(name) or self.id == name
        return bool(name) and self.id.startswith(name)


@attrs.frozen
class Machine:
    """Cores, GPUs and memory of a machine.

    Args:
        cpus: cores that this process may use.
        gpus: GPUs that this process may use.
        memory: main memory in bytes.
    """

    cpus: int
    gpus: int
    memory: int

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Machine:
        """Return the resources that this process may use."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(cpus=_count_cpus(), gpus=len(find_gpus(environment)), memory=memory)


def find_gpus(environment: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """Return the GPUs that this process may use, as CUDA would select them from CUDA_VISIBLE_DEVICES.

    A GPU that is cut into slices (MIG) stands for its slices. As in CUDA, an entry that names no GPU hides all behind
    it, and one GPU named twice hides all.
    """
    program = shutil.which("nvidia-smi")
    nothing: tuple[tuple[Gpu, ...], Mapping[str, tuple[Gpu, ...]]] = ((), {})
    whole, slices = _listed(program) if program is not None else nothing
    whole = whole or _listed_by_driver(_DRIVER)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(part for gpu in whole for part in slices.get(gpu.id, (gpu,)))
    found: list[Gpu] = []
    for name in map(str.strip, visible.split(",")):
        gpu = _find(name, whole, slices)
        if gpu is None:
            break
        if gpu in found:
            return ()
        found.append(gpu)
    return tuple(found)


def _find(name: str, whole: Sequence[Gpu], slices: Mapping[str, Sequence[Gpu]]) -> Gpu | None:
    """Return the GPU or the slice that an entry of CUDA_VISIBLE_DEVICES names."""
    parts = [part for gpu in whole for part in slices.get(gpu.id, ())]
    if name.startswith("MIG-"):
        named = [part for part in parts if part.is_named(name)]
        if not parts and whole:  # a container may see slices that its nvidia-smi does not list
            return Gpu(name)
        return named[0] if len(named) == 1 else None
    if not name.isdigit() and not name.startswith("GPU-"):
        return None
    named = [gpu for gpu in whole if gpu.is_named(name)]
    if len(named) != 1:
        return None
    return next(iter(slices.get(named[0].id, (named[0],))))


def _count_cpus() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@cache
def _listed(program: str) -> tuple[tuple[Gpu, ...], Mapping[str, tuple[Gpu, ...]]]:
    """Ask nvidia-smi once for the GPUs, and for the slices of those that are cut, by the id of their GPU."""
    whole: list[Gpu] = []
    query = "--query-gpu=index,uuid,memory.total"
    for line in _answer(program, query, "--format=csv,noheader,nounits"):
        match [part.strip() for part in line.split(",")]:
            case [index, uuid, mebibytes] if index.isdigit() and uuid.startswith("GPU-"):
                memory_gb = round(int(mebibytes) * 1024**2 / 1e9, 1) if mebibytes.isdigit() else None
                whole.append(Gpu(uuid, memory_gb, int(index)))
            case _:  # a warning
                continue
    slices: dict[str, list[Gpu]] = {}
    of = ""
    for line in _answer(program, "-L") if whole else ():
        uuid = line.rpartition("UUID:")[2].strip(" )")
        if uuid.startswith("GPU-"):
            of = uuid
        elif uuid.startswith("MIG-") and of:
            profile = _MIG_GB.search(line)
            slices.setdefault(of, []).append(Gpu(uuid, float(profile[1]) if profile else None))
    return tuple(whole), {gpu: tuple(parts) for gpu, parts in slices.items()}


def _answer(program: str, *arguments: str) -> list[str]:
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def _listed_by_driver(folder: Path) -> tuple[Gpu, ...]:
    """Return the GPUs that the driver lists, in the order of the PCI bus, where nvidia-smi answers nothing."""
    places = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(Gpu(_uuid_of(place) or str(index), index=index) for index, place in enumerate(places))


def _uuid_of(place: Path) -> str | None:
    try:
        lines = (place / "information").read_text().splitlines()
    except OSError:
        return None
    uuids = [line.partition(":")[2].strip() for line in lines if line.startswith("GPU UUID")]
    return uuids[0] if uuids and uuids[0].startswith("GPU-") and "?" not in uuids[0] else None
