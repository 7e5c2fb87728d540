"""Sound files for the stages to read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE_HZ = 16_000


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """Return a function from a length in milliseconds to a sound file of that length."""
    folder = tmp_path_factory.mktemp("clips")

    def make(ms: int) -> str:
        path: Path = folder / f"{ms}.wav"
        if not path.exists():
            samples = np.random.default_rng(ms).normal(0, 0.1, ms * RATE_HZ // 1000)
            soundfile.write(path, samples.astype(np.float32), RATE_HZ)
        return str(path)

    return make
