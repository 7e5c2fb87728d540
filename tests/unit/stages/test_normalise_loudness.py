"""One loudness for all recordings: measured on the new files, with pyloudnorm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
import soundfile

from curate import Pipeline
from curate.errors import PlanError
from curate.records import Record
from curate.stages import Merge, NormaliseLoudness, ReadRecords
from tests.unit.signal.real_speech import clips, needs_speech, white_noise


def run(records: list[Record], folder: Path, executor: str = "local", **settings: Any) -> list[Record]:
    stages = [ReadRecords(records), NormaliseLoudness(**settings), Merge("out.jsonl")]
    result = Pipeline("loudness", stages).run(run_dir=folder, executor=executor)
    assert not list(result.quarantined)
    return list(result.records())


def file_of(row: Record, folder: Path) -> Path:
    return folder / str(row["audio_filepath"]).removeprefix("run:")


@needs_speech
def test_recordings_of_any_loudness_get_the_target_or_the_highest_peak(tmp_path: Path) -> None:
    records: list[Record] = []
    for number, (samples, rate_hz) in enumerate(clips(None, 2.5).values()):
        gain = 10 ** (-number / 20)
        soundfile.write(tmp_path / f"{number}.wav", np.stack([gain * samples, 0.5 * gain * samples], axis=1), rate_hz)
        records.append({"audio_filepath": str(tmp_path / f"{number}.wav")})
    rows = run(records, tmp_path / "run")
    limited = 0
    for before, row in zip(records, rows, strict=True):
        samples, rate_hz = soundfile.read(file_of(row, tmp_path / "run"))
        assert rate_hz == soundfile.info(str(before["audio_filepath"])).samplerate
        assert samples.shape[1] == 2
        whole = len(samples) // (rate_hz // 10) * (rate_hz // 10)
        loudness = pyloudnorm.Meter(rate_hz, filter_class="DeMan").integrated_loudness(samples[:whole])
        peak_dbfs = 20 * np.log10(np.abs(samples).max())
        assert loudness == pytest.approx(row["loudness_after_lufs"], abs=0.1)
        assert peak_dbfs <= -0.99
        if peak_dbfs < -1.05:
            assert loudness == pytest.approx(-23, abs=0.1)
        else:
            limited += 1
            assert loudness < -23
        assert row["loudness_after_lufs"] - row["loudness_before_lufs"] == pytest.approx(row["gain_db"], abs=0.011)
    assert limited < len(rows)


def test_what_has_no_loudness_or_has_it_already_stays_as_it_is(tmp_path: Path) -> None:
    silent, short, right = tmp_path / "silent.wav", tmp_path / "short.wav", tmp_path / "right.wav"
    soundfile.write(silent, np.zeros(16_000), 16_000)
    soundfile.write(short, 0.1 * white_noise(3000), 16_000)
    noise = white_noise(48_000)
    level = pyloudnorm.Meter(16_000, filter_class="DeMan").integrated_loudness(noise.astype(np.float64))
    soundfile.write(right, noise * 10 ** ((-23 - level) / 20), 16_000)
    rows = run([{"audio_filepath": str(path)} for path in (silent, short, right)], tmp_path / "run")
    assert [row["gain_db"] for row in rows] == [None, None, 0.0]
    assert [file_of(row, tmp_path).name for row in rows] == ["silent.wav", "short.wav", "right.wav"]


@pytest.mark.parametrize("executor", [pytest.param("multiprocessing", marks=pytest.mark.processes)])
def test_new_audio_has_the_same_bytes_on_every_executor(executor: str, tmp_path: Path) -> None:
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.flac", 0.02 * (number + 1) * white_noise(16_000, number), 16_000)
    records: list[Record] = [{"audio_filepath": str(path)} for path in sorted(tmp_path.glob("*.flac"))]
    for place in ("local", executor):
        run(records, tmp_path / place, place)
    files = [sorted((tmp_path / place / "audio").rglob("*.flac")) for place in ("local", executor)]
    assert len(files[0]) == 4
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert (tmp_path / "local/out.jsonl").read_bytes() == (tmp_path / executor / "out.jsonl").read_bytes()


def test_a_target_out_of_range_is_refused() -> None:
    with pytest.raises(PlanError, match="target_lufs"):
        NormaliseLoudness(target_lufs=3).check()
