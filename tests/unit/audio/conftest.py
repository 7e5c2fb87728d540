"""What tests of audio files share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    """Return a function that writes bytes to a file whose name does not give its format away."""

    def write(content: bytes) -> Path:
        path = tmp_path / "a.bin"
        path.write_bytes(content)
        return path

    return write
