"""What packing costs: cutting utterances of long recordings into shards, against a plain loop, and with two workers."""

from __future__ import annotations

import io
import os
import resource
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.records import Record
from curate.stages import Merge, NemoTarredWriter, Partition, ReadRecords

RECORDINGS = 60
UTTERANCES = 2_000
RATE_HZ = 16_000
UTTERANCE_S = 6.0
LEAST_OF_PLAIN = 0.85
LEAST_OF_TWO_WORKERS = 1.8
LEAST_OF_COPYING = 5.0


def noise(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Return samples that FLAC compresses as it does speech, about to a half."""
    samples = rng.normal(0, 600, round(seconds * RATE_HZ))
    return np.convolve(samples, np.ones(4) / 4, mode="same").astype(np.int16)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Utterances that follow one another in long recordings."""
    folder = tmp_path_factory.mktemp("long")
    rng = np.random.default_rng(0)
    each = -(-UTTERANCES // RECORDINGS)
    for number in range(RECORDINGS):
        soundfile.write(folder / f"{number:02}.flac", noise(rng, each * UTTERANCE_S), RATE_HZ)
    return [
        {
            "audio_filepath": str(folder / f"{number // each:02}.flac"),
            "offset": number % each * UTTERANCE_S,
            "duration": UTTERANCE_S,
            "text": f"word {number}",
        }
        for number in range(UTTERANCES)
    ]


def plain(records: list[Record], folder: Path) -> None:
    """Cut and pack as a script would that knows its recordings fit into memory: each is decoded once."""
    path, samples = "", np.zeros(0, np.int16)
    with tarfile.open(folder / "plain.tar", "w") as tar:
        for number, record in enumerate(records):
            if record["audio_filepath"] != path:
                path = record["audio_filepath"]
                samples, _ = soundfile.read(path, dtype="int16")
            start = round(record["offset"] * RATE_HZ)
            file = io.BytesIO()
            cut = samples[start : start + round(record["duration"] * RATE_HZ)]
            soundfile.write(file, cut, RATE_HZ, format="FLAC", subtype="PCM_16", compression_level=0.5)
            member = tarfile.TarInfo(f"{number}.flac")
            member.size = file.tell()
            tar.addfile(member, io.BytesIO(file.getvalue()))


def pack(records: list[Record], run_dir: Path, workers: int = 0) -> None:
    writer = NemoTarredWriter("set", shards=20, lang="en")
    executor = "multiprocessing" if workers else "local"
    if workers:
        writer = writer.with_(workers=workers)
    Pipeline("pack", [ReadRecords(records), Partition(), writer]).run(executor, run_dir=run_dir)


def cpu_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


@pytest.mark.bench
@pytest.mark.timeout(1200)
def test_one_worker_is_as_fast_as_a_plain_loop(utterances: list[Record], tmp_path: Path) -> None:
    pack(utterances[:50], tmp_path / "warm")
    spent = {"plain": 0.0, "packed": 0.0}
    for number in range(2):
        began = cpu_s()
        plain(utterances, tmp_path)
        spent["plain"] += cpu_s() - began
        began = cpu_s()
        pack(utterances, tmp_path / f"run-{number}")
        spent["packed"] += cpu_s() - began
    ratio = spent["plain"] / spent["packed"]
    print(f"plain loop {spent['plain']:.1f} s of CPU, packed {spent['packed']:.1f} s: {ratio:.2f} of its speed")
    assert ratio >= LEAST_OF_PLAIN


@pytest.mark.bench
@pytest.mark.timeout(1200)
def test_copying_is_faster_than_encoding(utterances: list[Record], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows: list[Record] = []
    for number in range(UTTERANCES):  # as many, because a run has costs of its own
        soundfile.write(tmp_path / f"{number}.flac", noise(rng, UTTERANCE_S), RATE_HZ)
        path = str(tmp_path / f"{number}.flac")
        rows.append({"audio_filepath": path, "duration": UTTERANCE_S, "text": "word"})
    pack(rows[:20], tmp_path / "warm")
    began = cpu_s()
    pack(rows, tmp_path / "copied")
    copied = (cpu_s() - began) / len(rows)
    began = cpu_s()
    pack(utterances, tmp_path / "encoded")
    encoded = (cpu_s() - began) / len(utterances)
    print(
        f"copied {1000 * copied:.2f} ms an utterance, cut and encoded {1000 * encoded:.2f} ms: {encoded / copied:.1f}"
    )
    assert encoded / copied >= LEAST_OF_COPYING


@pytest.mark.bench
@pytest.mark.timeout(1200)
def test_two_workers_are_nearly_twice_as_fast(utterances: list[Record], tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2 or os.getloadavg()[0] > 1.0:
        pytest.skip("needs two idle cores")
    times: dict[int, float] = {}
    for workers in (1, 2):
        began = time.perf_counter()
        pack(utterances, tmp_path / f"workers-{workers}", workers)
        times[workers] = time.perf_counter() - began
    print(f"one worker {times[1]:.1f} s, two {times[2]:.1f} s: {times[1] / times[2]:.2f}")
    assert times[1] / times[2] >= LEAST_OF_TWO_WORKERS


@pytest.mark.bench
def test_parquet_of_keys_of_their_own_costs_little_more_than_jsonl(tmp_path: Path) -> None:
    rows: list[Record] = [
        {"audio_filepath": f"a{number}.wav", "duration": 1.0, "talk_s": {f"spk{number}": 1.5}} for number in range(8000)
    ]
    spent: dict[str, float] = {}
    for name in ("warm.parquet", "out.jsonl", "out.parquet"):
        began = cpu_s()
        Pipeline("merge", [ReadRecords(rows), Merge(name)]).run(run_dir=tmp_path / name)
        spent[name] = cpu_s() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ratio = spent["out.parquet"] / spent["out.jsonl"]
    print(f"jsonl {spent['out.jsonl']:.2f} s, parquet {spent['out.parquet']:.2f} s: {ratio:.2f}; peak {peak:.0f} MiB")
    assert ratio <= 3
    assert peak <= 300
