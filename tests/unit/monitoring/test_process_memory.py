"""`ProcessMemory`: a peak is told only where the system has really forgotten the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.monitoring import process
from curate.monitoring.process import ProcessMemory


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that stands for the system's figures of this process."""
    status = tmp_path / "status"
    monkeypatch.setattr(process, "_STATUS", status)
    monkeypatch.setattr(process, "_CLEAR", tmp_path / "clear_refs")
    return status


def _figures(peak_kb: int, resident_kb: int) -> str:
    return f"Name:\tpython\nVmHWM:\t {peak_kb} kB\nVmRSS:\t {resident_kb} kB\n"


def test_the_peak_since_the_reset_is_told(system: Path) -> None:
    system.write_text(_figures(200_000, 199_000))
    memory = ProcessMemory()
    assert memory.peak_bytes() is None, "nothing has been reset yet"
    memory.reset()
    assert (system.parent / "clear_refs").read_text() == "5"
    system.write_text(_figures(300_000, 199_000))
    assert memory.peak_bytes() == 300_000 * 1024


def test_a_reset_that_does_nothing_gives_no_figure(system: Path) -> None:
    system.write_text(_figures(300_000, 200_000))
    memory = ProcessMemory()
    memory.reset()
    assert memory.peak_bytes() is None


def test_a_reset_that_is_refused_gives_no_figure(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_CLEAR", system.parent / "absent" / "clear_refs")
    memory = ProcessMemory()
    memory.reset()
    assert memory.peak_bytes() is None
