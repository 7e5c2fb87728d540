"""The models and the audio of the sections."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

QUICKSTART = Path("pipelines/quickstart")


MODEL = QUICKSTART / "model.nemo"


RATE_HZ = 16_000


def quickstart_clips() -> list[Any]:
    """Return the quickstart's clips at 16 kHz, and one of digital silence."""
    import numpy as np
    import soundfile

    clips: list[Any] = []
    for path in sorted((QUICKSTART / "data" / "audio").iterdir()):
        try:
            samples, rate_hz = soundfile.read(path, dtype="float32")
        except soundfile.LibsndfileError:
            continue  # damaged on purpose
        if rate_hz == RATE_HZ and samples.ndim == 1 and len(samples):
            clips.append(samples)
    return [*clips[:64], np.zeros(2 * RATE_HZ, np.float32)]


def large_model(is_small: bool) -> Path:
    """Return a model of a realistic size with random weights, made once for all sections."""
    from tests.gpu.conformer import LARGE, TINY, save_fastconformer

    folder = Path(tempfile.gettempdir()) / "curate-bench-models"
    folder.mkdir(exist_ok=True)
    path = folder / ("tiny.nemo" if is_small else "large.nemo")
    if not path.exists():
        made = save_fastconformer(folder / f"{os.getpid()}.nemo", TINY if is_small else LARGE)
        made.replace(path)
    return path


def sharing_records(count: int) -> list[dict[str, Any]]:
    """Write files of noise of many lengths, once, and return their records."""
    import soundfile

    from tests.bench.seeded_durations import seeded_durations
    from tests.gpu.measuring import slices

    folder = Path(tempfile.gettempdir()) / f"curate-bench-noise-{count}-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    records: list[dict[str, Any]] = []
    for n, waveform in enumerate(slices(seeded_durations("tail", count=count))):
        path = folder / f"{n:05}.wav"
        soundfile.write(path, waveform, RATE_HZ, subtype="PCM_16")
        records.append({"audio_filepath": str(path), "duration": len(waveform) / RATE_HZ, "n": n})
    return records
