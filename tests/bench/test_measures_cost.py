"""What measuring costs: all measures that need no model in one pass, against their parts and against the peers' way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.audio import load_record
from curate.records import Record
from curate.signal import BandwidthMeter, LevelMeter, LoudnessMeter, NoiseMeter, PitchMeter
from curate.stages import AudioProfile, Partition, ReadRecords

FILES = 100
SECONDS = 12.0
RATE_HZ = 16_000
MOST_OF_PARTS = 1.2
MOST_OF_PEERS = 0.4
LEAST_OF_TWO_WORKERS = 1.8


def recordings(folder: Path) -> list[Record]:
    rng = np.random.default_rng(0)
    time_s = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    for number in range(FILES):
        voice = np.sum([np.sin(2 * np.pi * (110 + number) * k * time_s) / k for k in range(1, 12)], axis=0)
        envelope = np.clip(np.sin(2 * np.pi * 0.7 * time_s + number), 0, 1)
        samples = 0.1 * voice * envelope + 0.002 * rng.standard_normal(len(time_s))
        soundfile.write(folder / f"{number:03}.flac", samples, RATE_HZ)
    return [{"audio_filepath": str(path)} for path in sorted(folder.glob("*.flac"))]


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def own_computing(samples: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return the computing of each stage on decoded samples."""
    frames = samples[:, np.newaxis]

    def levels() -> None:
        meter, loudness = LevelMeter(RATE_HZ, 1), LoudnessMeter(RATE_HZ, 1)
        meter.add(frames)
        loudness.add(frames)
        meter.levels(), loudness.loudness_lufs()

    def noise() -> None:
        meter = NoiseMeter()
        meter.add(samples)
        meter.ratios()

    def bandwidth() -> None:
        meter = BandwidthMeter(RATE_HZ, len(samples) / RATE_HZ)
        meter.add(samples)
        meter.bandwidth()

    def pitch() -> None:
        meter = PitchMeter()
        meter.add(samples)
        meter.pitch()

    return {"levels": levels, "snr": noise, "bandwidth": bandwidth, "pitch": pitch}


def peers(path: str) -> None:
    """Measure as the peers do: each measure decodes again, with librosa's STFT, and its YIN."""
    import librosa
    import pyloudnorm

    samples, rate_hz = librosa.load(path, sr=None)  # levels, loudness
    np.abs(samples).max(), np.sqrt(np.mean(samples**2))
    pyloudnorm.Meter(rate_hz).integrated_loudness(samples)
    samples, rate_hz = librosa.load(path, sr=RATE_HZ)  # signal to noise
    power = np.abs(librosa.stft(samples, n_fft=512, hop_length=160)) ** 2
    np.quantile(librosa.power_to_db(power), [0.1, 0.95], axis=1)
    samples, rate_hz = librosa.load(path, sr=44_100)  # bandwidth, as NeMo Curator and SDP
    spectrum = np.abs(librosa.stft(samples, n_fft=512, hop_length=441, window="blackmanharris")) ** 2
    librosa.power_to_db(spectrum.mean(axis=1), ref=np.max, top_db=100)
    samples, rate_hz = librosa.load(path, sr=RATE_HZ)  # pitch
    librosa.yin(samples, fmin=60, fmax=500, sr=rate_hz, frame_length=1024, hop_length=160)


@pytest.mark.bench
def test_the_profile_costs_little_more_than_its_parts_and_less_than_the_peers(tmp_path: Path) -> None:
    records = recordings(tmp_path)
    Pipeline("warm", [ReadRecords(records[:3]), AudioProfile()]).run()
    decoded: list[np.ndarray] = []
    decode_s = timed(lambda: decoded.extend(load_record(record) for record in records))
    own = {name: sum(timed(own_computing(samples)[name]) for samples in decoded) for name in own_computing(decoded[0])}

    def run() -> None:
        result = Pipeline("profile", [ReadRecords(records), AudioProfile()]).run()
        assert sum(each["decodes"] for each in result.summary["audio"].values()) == FILES

    pass_s = timed(run)
    parts_s = decode_s + sum(own.values())
    print(f"\ndecode {decode_s:.2f} s, " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in own.items()))
    print(f"one pass {pass_s:.2f} s, {pass_s / parts_s:.2f} x its parts (at most {MOST_OF_PARTS})")
    assert pass_s <= MOST_OF_PARTS * parts_s
    pytest.importorskip("librosa")
    peers(str(records[0]["audio_filepath"]))
    peers_s = timed(lambda: [peers(str(record["audio_filepath"])) for record in records])
    print(f"the peers' way {peers_s:.2f} s: {pass_s / peers_s:.2f} (at most {MOST_OF_PEERS})")
    assert pass_s <= MOST_OF_PEERS * peers_s


@pytest.mark.bench
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")
def test_two_workers_measure_nearly_twice_as_fast(tmp_path: Path) -> None:
    records = [record for record in recordings(tmp_path) for _ in range(20)]
    seconds: dict[int, float] = {}
    for workers in (1, 2):
        stages = [ReadRecords(records), Partition(max_records=100), AudioProfile().with_(workers=workers)]
        pipeline = Pipeline("profile", stages)
        run_dir = tmp_path / f"run-{workers}"
        seconds[workers] = timed(lambda: pipeline.run(executor="multiprocessing", run_dir=run_dir))  # noqa: B023
    ratio = seconds[1] / seconds[2]
    print(f"\none worker {seconds[1]:.1f} s, two {seconds[2]:.1f} s: {ratio:.2f} x (at least {LEAST_OF_TWO_WORKERS})")
    assert ratio >= LEAST_OF_TWO_WORKERS
