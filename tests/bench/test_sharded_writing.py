"""What packing costs: cutting utterances of long recordings into shards, against a plain loop, and with two workers."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.records import Record
from curate.stages import NemoTarredWriter, Partition, ReadRecords

RECORDINGS = 60
UTTERANCES = 2_000
RATE_HZ = 16_000
UTTERANCE_S = 6.0
ROUNDS = 3
LEAST_OF_PLAIN = 0.85
LEAST_OF_TWO_WORKERS = 1.8
LEAST_OF_COPYING = 5.0
MOST_OF_JSONL = 3.0
MOST_MIB = 300


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


def spent_s(clock: Callable[[], float], work: Callable[[], object]) -> float:
    began = clock()
    work()
    return clock() - began


@pytest.mark.bench
@pytest.mark.timeout(1200)
def test_one_worker_is_as_fast_as_a_plain_loop(utterances: list[Record], tmp_path: Path) -> None:
    pack(utterances[:50], tmp_path / "warm")
    ratios: list[float] = []
    for number in range(ROUNDS):
        alone = spent_s(cpu_s, lambda: plain(utterances, tmp_path))
        packed = spent_s(cpu_s, lambda number=number: pack(utterances, tmp_path / f"run-{number}"))
        ratios.append(alone / packed)
        print(f"plain loop {alone:.2f} s of CPU, packed {packed:.2f} s: {alone / packed:.2f} of its speed")
    assert median(ratios) >= LEAST_OF_PLAIN


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
    ratios: list[float] = []
    for number in range(ROUNDS):
        encoded = spent_s(cpu_s, lambda number=number: pack(utterances, tmp_path / f"encoded-{number}"))
        copied = spent_s(cpu_s, lambda number=number: pack(rows, tmp_path / f"copied-{number}"))
        ratios.append(encoded / copied)
        per_ms = 1000 / UTTERANCES
        print(
            f"copied {copied * per_ms:.2f} ms an utterance, cut and encoded {encoded * per_ms:.2f} ms: "
            f"{encoded / copied:.2f}"
        )
    assert median(ratios) >= LEAST_OF_COPYING


@pytest.mark.bench
@pytest.mark.timeout(1200)
def test_two_workers_are_nearly_twice_as_fast(utterances: list[Record], tmp_path: Path) -> None:
    """Two workers gain what two processes of a plain loop gain at the same time, on whatever the machine has left."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    (tmp_path / "rows.json").write_text(json.dumps(utterances))
    gains: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        processes = spent_by_processes_s(1, tmp_path) * 2 / spent_by_processes_s(2, tmp_path)
        workers = spent_by_workers_s(1, utterances, tmp_path / f"one-{number}")
        workers /= spent_by_workers_s(2, utterances, tmp_path / f"two-{number}")
        gains.append((workers, processes))
        print(f"two workers are {workers:.2f} times as fast as one, two processes of a plain loop {processes:.2f}")
    assert median(workers / processes for workers, processes in gains) >= LEAST_OF_TWO_WORKERS / 2


def spent_by_workers_s(workers: int, records: list[Record], run_dir: Path) -> float:
    """Return the wall time of packing, without the time in which the driver and its workers start and end."""
    few = [each for each in records if each["offset"] == 0.0][: 2 * workers]
    start_s = spent_s(time.perf_counter, lambda: pack(few, run_dir / "few", workers))
    return spent_s(time.perf_counter, lambda: pack(records, run_dir / "all", workers)) - start_s


def spent_by_processes_s(count: int, folder: Path) -> float:
    """Return the wall time of as many plain loops at the same time, each over all utterances, in processes."""
    script = (
        "import json, sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1]); "
        "from test_sharded_writing import plain; folder = Path(sys.argv[2]); "
        "rows = json.loads((folder.parent / 'rows.json').read_bytes()); print(flush=True); sys.stdin.readline(); "
        "plain(rows, folder); print(flush=True); sys.stdin.readline()"
    )
    loops: list[subprocess.Popen[str]] = []
    for number in range(count):
        (folder / f"plain-{number}").mkdir(exist_ok=True)
        command = [sys.executable, "-c", script, str(Path(__file__).parent), str(folder / f"plain-{number}")]
        loops.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for loop in loops:  # they have started
        assert loop.stdout is not None
        loop.stdout.readline()
    began = time.perf_counter()
    for loop in loops:
        assert loop.stdin is not None
        loop.stdin.write("\n")
        loop.stdin.flush()
    for loop in loops:
        assert loop.stdout is not None
        loop.stdout.readline()
    spent = time.perf_counter() - began
    for loop in loops:
        loop.communicate("\n")
        assert loop.returncode == 0
    return spent


MERGE = """
import json, resource, sys
from curate import Pipeline
from curate.stages import Merge, ReadManifest
for name in sys.argv[2:]:
    Pipeline("merge", [ReadManifest(sys.argv[1]), Merge(name)]).run(run_dir=f"run-{name}")
    own = resource.getrusage(resource.RUSAGE_SELF)
    print(own.ru_utime + own.ru_stime, own.ru_maxrss / 1024)
"""


@pytest.mark.bench
def test_parquet_of_keys_of_their_own_costs_little_more_than_jsonl(tmp_path: Path) -> None:
    rows = (
        {"audio_filepath": f"a{number}.wav", "duration": 1.0, "talk_s": {f"spk{number}": 1.5}} for number in range(8000)
    )
    (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command = [sys.executable, "-c", MERGE, "in.jsonl", "warm.parquet", "out.jsonl", "out.parquet"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    warm, jsonl, parquet = (tuple(map(float, line.split())) for line in done.stdout.splitlines())
    spent = {"jsonl": jsonl[0] - warm[0], "parquet": parquet[0] - jsonl[0]}
    ratio = spent["parquet"] / spent["jsonl"]
    print(f"jsonl {spent['jsonl']:.2f} s, parquet {spent['parquet']:.2f} s: {ratio:.2f}; peak {parquet[1]:.0f} MiB")
    assert ratio <= MOST_OF_JSONL
    assert parquet[1] <= MOST_MIB
