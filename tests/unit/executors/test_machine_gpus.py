"""GPUs of a machine: as `nvidia-smi` lists them, cut by CUDA_VISIBLE_DEVICES as CUDA cuts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate import machine
from curate.machine import Gpu, Machine, find_gpus

LISTED = """\
0, GPU-aaaa, 24576
1, GPU-bbbb, 81559
2, GPU-cccc, [N/A]
3, GPU-dddd, 8192
"""
A, B, C, D = Gpu("GPU-aaaa", 25.8, 0), Gpu("GPU-bbbb", 85.5, 1), Gpu("GPU-cccc", None, 2), Gpu("GPU-dddd", 8.6, 3)

SLICED = """\
GPU 0: NVIDIA A30 (UUID: GPU-aaaa)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb)
  MIG 3g.40gb     Device  0: (UUID: MIG-11)
  MIG 1g.10gb     Device  1: (UUID: MIG-22)
GPU 2: NVIDIA A30 (UUID: GPU-cccc)
GPU 3: NVIDIA A30 (UUID: GPU-dddd)
"""
WIDE, NARROW = Gpu("MIG-11", 40.0), Gpu("MIG-22", 10.0)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, on a machine whose driver lists nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(machine, "_DRIVER", tmp_path / "no driver")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def nvidia_smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def four_gpus(folder: Path, slices: str = "") -> None:
    nvidia_smi(
        folder,
        f'case "$1" in --query-gpu=index,uuid,memory.total) echo "{LISTED}";; -L) echo "{slices}";; *) exit 9;; esac',
    )


def drivers_list(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int, uuid: str = "") -> None:
    listed = folder / "gpus"
    for number in range(count):
        place = listed / f"0000:0{number}:00.0"
        place.mkdir(parents=True)
        (place / "information").write_text(f"Model: \t NVIDIA X\nGPU UUID: \t {uuid and uuid + str(number)}\n")
    monkeypatch.setattr(machine, "_DRIVER", listed)


def test_gpus_without_a_proc_folder_are_those_of_nvidia_smi(programs: Path) -> None:
    four_gpus(programs)
    assert find_gpus({}) == (A, B, C, D)
    assert Machine.here({}).gpus == 4


def test_nvidia_smi_is_asked_once(programs: Path, tmp_path: Path) -> None:
    count = tmp_path / "count"
    nvidia_smi(programs, f'echo x >> "{count}"; test "$1" = -L || echo "{LISTED}"')
    for _ in range(3):
        find_gpus({})
    assert count.read_text().split() == ["x", "x"]  # the GPUs, and their slices


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("3,0", (D, A)),
        (" 1 , 2", (B, C)),
        ("GPU-bbbb", (B,)),
        ("GPU-b", (B,)),  # an abbreviation
        ("GPU-", ()),  # an abbreviation of all of them
        ("", ()),
        ("-1", ()),
        ("none", ()),
        ("NoDevFiles", ()),
        ("0,-1,1", (A,)),  # what follows an invalid entry is hidden
        ("2,9,1", (C,)),
        ("0,GPU-zzzz,1", (A,)),
        ("1,1", ()),  # the same GPU twice hides all
        ("1,GPU-bbbb", ()),
        ("7", ()),
    ],
)
def test_cuda_visible_devices_selects_as_cuda_does(programs: Path, visible: str, expected: tuple[Gpu, ...]) -> None:
    four_gpus(programs)
    environment = {"CUDA_VISIBLE_DEVICES": visible}
    assert find_gpus(environment) == expected
    assert Machine.here(environment).gpus == len(expected)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, (A, WIDE, NARROW, C, D)),
        ("MIG-22,MIG-11", (NARROW, WIDE)),
        ("MIG-2", (NARROW,)),
        ("1", (WIDE,)),  # CUDA takes the first slice of a GPU that is cut
        ("MIG-33,0", ()),
    ],
)
def test_slices_count_as_gpus(programs: Path, visible: str | None, expected: tuple[Gpu, ...]) -> None:
    four_gpus(programs, SLICED)
    assert find_gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_slices_that_nvidia_smi_does_not_list_are_trusted(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers_list(tmp_path, monkeypatch, 1)
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "MIG-1,MIG-2,MIG-3"}) == (Gpu("MIG-1"), Gpu("MIG-2"), Gpu("MIG-3"))


@pytest.mark.parametrize("script", ["exit 9", "echo 'NVIDIA-SMI has failed' >&2; exit 1", "echo 'No devices found'"])
def test_gpus_of_the_driver_count_where_nvidia_smi_fails(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    drivers_list(tmp_path, monkeypatch, 2, "GPU-ab")
    nvidia_smi(programs, script)
    assert find_gpus({}) == (Gpu("GPU-ab0", None, 0), Gpu("GPU-ab1", None, 1))


def test_gpus_without_a_uuid_keep_their_numbers(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers_list(tmp_path, monkeypatch, 2)
    assert find_gpus({}) == (Gpu("0", None, 0), Gpu("1", None, 1))
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == (Gpu("1", None, 1),)


def test_machine_without_driver_has_no_gpus(programs: Path) -> None:
    assert find_gpus({}) == ()
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "0,MIG-1"}) == ()
