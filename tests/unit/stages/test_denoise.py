"""Less noise in new audio, and a voice that is still there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.errors import PlanError
from curate.records import Record
from curate.stages import Denoise, Merge, ReadRecords
from tests.unit.signal.real_speech import clips, needs_speech, white_noise, with_noise


def run(records: list[Record], folder: Path, executor: str = "local") -> list[Record]:
    stages = [ReadRecords(records), Denoise(), Merge("out.jsonl")]
    return list(Pipeline("denoise", stages).run(run_dir=folder, executor=executor).records())


def match_db(samples: np.ndarray, clean: np.ndarray) -> float:
    """Return the scale-invariant ratio of what is like the clean signal to what is not."""
    gain = samples @ clean / (clean @ clean)
    return float(10 * np.log10(np.sum((gain * clean) ** 2) / np.sum((samples - gain * clean) ** 2)))


@needs_speech
def test_noise_falls_and_the_voice_is_nearer_to_the_clean_one(tmp_path: Path) -> None:
    records: list[Record] = []
    clean = {name: clip for name, (clip, _) in clips(16_000, 2.5).items()}
    for name, clip in clean.items():
        noisy = 0.5 * with_noise(clip, white_noise(len(clip), len(clip)), 10) / np.abs(clip).max()
        soundfile.write(tmp_path / f"{name}.wav", noisy, 16_000)
        records.append({"audio_filepath": str(tmp_path / f"{name}.wav")})
    rows = run(records, tmp_path / "run")
    gains = [row["snr_after_db"] - row["snr_before_db"] for row in rows]
    assert min(gains) > 5
    better: list[float] = []
    for (_, clip), before, row in zip(clean.items(), records, rows, strict=True):
        after, rate_hz = soundfile.read(tmp_path / "run" / str(row["audio_filepath"]).removeprefix("run:"))
        assert (rate_hz, len(after)) == (16_000, len(clip))
        noisy, _ = soundfile.read(str(before["audio_filepath"]))
        better.append(match_db(after, clip) - match_db(noisy, clip))
    print(f"\nsnr_db +{np.median(gains):.1f} dB, match with the clean clip +{np.median(better):.1f} dB in the median")
    assert min(better) > 3


@pytest.mark.parametrize("executor", [pytest.param("multiprocessing", marks=pytest.mark.processes)])
def test_clean_silent_and_short_audio_stays_and_the_rest_has_the_same_bytes_everywhere(
    executor: str, tmp_path: Path
) -> None:
    tone = 0.3 * np.sin(np.arange(32_000) / 10) * (np.arange(32_000) % 8000 > 4000)
    made = {
        "clean": tone + 1e-5 * white_noise(32_000),
        "noisy": tone + 0.03 * white_noise(32_000),
        "short": 0.1 * white_noise(1000),
        "silent": np.zeros(32_000),
        "stereo": np.stack([tone + 0.03 * white_noise(32_000), 0 * tone], axis=1),
    }
    for name, samples in made.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
    records: list[Record] = [{"audio_filepath": str(tmp_path / f"{name}.wav")} for name in made]
    for place in ("local", executor):
        rows = run(records, tmp_path / place, place)
        assert [str(row["audio_filepath"]).startswith("run:") for row in rows] == [False, True, False, False, True]
    assert (tmp_path / "local/out.jsonl").read_bytes() == (tmp_path / executor / "out.jsonl").read_bytes()


def test_a_strength_out_of_range_is_refused() -> None:
    with pytest.raises(PlanError, match="strength"):
        Denoise(strength=2).check()
