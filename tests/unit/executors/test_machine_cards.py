"""Which cards a machine has, and how much memory, as `nvidia-smi` says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate import machine
from curate.machine import Card, Machine, find_cards

LISTED = """\
0, GPU-aaaa, 24576
1, GPU-bbbb, 81559
2, GPU-cccc, [N/A]
3, GPU-dddd, 8192
"""


@pytest.fixture
def four_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the driver list four cards; return a folder that is the whole PATH."""
    listed, programs = tmp_path / "gpus", tmp_path / "bin"
    for number in range(4):
        (listed / f"0000:0{number}:00.0").mkdir(parents=True)
    programs.mkdir()
    monkeypatch.setattr(machine, "Path", lambda path: {"/proc/driver/nvidia/gpus": listed}[path])
    monkeypatch.setenv("PATH", str(programs))
    return programs


def nvidia_smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_cards_come_with_their_memory(four_cards: Path) -> None:
    nvidia_smi(four_cards, f'test "$1" = --query-gpu=index,uuid,memory.total && echo "{LISTED}"')
    assert find_cards({}) == (Card("0", 25.8), Card("1", 85.5), Card("2", None), Card("3", 8.6))


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("3,0", (Card("3", 8.6), Card("0", 25.8))),
        ("GPU-bbbb", (Card("GPU-bbbb", 85.5),)),
        (" 1 , 2", (Card("1", 85.5), Card("2", None))),
        ("", ()),
        ("-1", ()),
    ],
)
def test_hidden_cards_are_not_there(four_cards: Path, visible: str, expected: tuple[Card, ...]) -> None:
    nvidia_smi(four_cards, f'echo "{LISTED}"')
    environment = {"CUDA_VISIBLE_DEVICES": visible}
    assert find_cards(environment) == expected
    assert Machine.here(environment).gpus == len(expected)


@pytest.mark.parametrize("script", ["exit 9", "echo 'NVIDIA-SMI has failed' >&2; exit 1"])
def test_where_nvidia_smi_fails_the_memory_is_unknown(four_cards: Path, script: str) -> None:
    nvidia_smi(four_cards, script)
    assert find_cards({}) == tuple(Card(str(number)) for number in range(4))


def test_where_there_is_no_nvidia_smi_the_memory_is_unknown(four_cards: Path) -> None:
    assert list(four_cards.iterdir()) == []
    assert find_cards({}) == tuple(Card(str(number)) for number in range(4))


def test_an_nvidia_smi_that_says_something_else_leaves_the_memory_unknown(four_cards: Path) -> None:
    nvidia_smi(four_cards, "echo 'No devices were found'")
    assert find_cards({}) == tuple(Card(str(number)) for number in range(4))
