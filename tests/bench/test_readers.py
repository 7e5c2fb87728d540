"""Reading costs little: every form of manifest against a plain loop, and recordings in a tar against plain files."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from curate.audio import load
from curate.stages import MixReader, ReadManifest
from tests.bench import reading

pytestmark = pytest.mark.bench

ROWS, MILLION = 100_000, 1_000_000
RECORDINGS = 300


def best_of(attempts: int, work: Callable[[], object]) -> float:
    """Return the least CPU time of several attempts, in seconds."""
    times: list[float] = []
    for _ in range(attempts):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


@pytest.mark.parametrize("form", reading.FORMS)
def test_million_lines_through_a_reader_and_a_filter_cost_at_most_four_plain_loops(form: str, tmp_path: Path) -> None:
    plain = reading.write_manifest("lines", tmp_path / "plain", MILLION)
    path = plain if form == "lines" else reading.write_manifest(form, tmp_path / "manifest", MILLION)
    loop, found = (reading.measure(*side) for side in ((plain, tmp_path, "loop"), (path, tmp_path, "read")))
    ratio = found["cpu_s"] / loop["cpu_s"]
    print(f"\n{form}: {ratio:.2f} plain loops, {found['cpu_s']:.1f} s of CPU, peak {found['peak_mb']:.0f} MB")
    assert found["kept"] == loop["kept"] > MILLION / 2
    assert found["peak_mb"] <= 300
    assert ratio <= 4, f"{form}: {ratio:.2f} plain loops"


def test_run_over_a_million_lines_needs_bounded_memory(tmp_path: Path) -> None:
    plain = reading.write_manifest("lines", tmp_path / "plain", MILLION)
    loop, found = reading.measure(plain, tmp_path, "loop"), reading.measure(plain, tmp_path, "run")
    ratio = found["cpu_s"] / loop["cpu_s"]
    print(f"\nrun: {ratio:.2f} plain loops, {found['cpu_s']:.1f} s of CPU, peak {found['peak_mb']:.0f} MB")
    assert found["kept"] == loop["kept"]
    assert found["peak_mb"] <= 300
    assert ratio <= 5  # every record is committed, or noted with the reason, and the kept ones are written once more


@pytest.mark.parametrize("form", ["lines", "array", "tsv", "csv"])
def test_reading_a_manifest_costs_at_most_four_plain_loops(form: str, tmp_path: Path) -> None:
    rows = [{"audio_filepath": f"a/{i}.wav", "duration": 1.5 + i % 7, "text": "one two three"} for i in range(ROWS)]
    lines = [json.dumps(row) for row in rows]
    plain, path = tmp_path / "plain.jsonl", tmp_path / "manifest"
    plain.write_text("\n".join(lines) + "\n")
    if form in ("lines", "array"):
        path.write_text(plain.read_text() if form == "lines" else f"[{','.join(lines)}]")
    else:
        mark = "\t" if form == "tsv" else ","
        path.write_text("".join(mark.join(map(str, row)) + "\n" for row in [rows[0], *(row.values() for row in rows)]))

    def loop() -> None:
        with plain.open() as source, (tmp_path / "out").open("w") as out:
            for line in source:
                row = json.loads(line)
                if row["duration"] <= 5:
                    out.write(json.dumps(row) + "\n")

    ratio = best_of(3, lambda: sum(1 for _ in ReadManifest(str(path)).read())) / best_of(3, loop)
    assert ratio <= 4, f"{form}: {ratio:.2f} plain loops"


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_recordings_in_a_tar_are_read_nearly_as_fast_as_files(suffix: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for number in range(RECORDINGS):
            path = tmp_path / f"{number:04d}.{suffix}"
            soundfile.write(path, random.standard_normal(16_000 * 5) * 0.1, 16_000)
            tar.add(path, arcname=path.name)
    names = [f"{number:04d}.{suffix}" for number in range(RECORDINGS)]
    files, members = [], []
    for _ in range(7):  # in turns
        files.append(best_of(1, lambda: [load(str(tmp_path / name)) for name in names]))
        members.append(best_of(1, lambda: [load(f"{tmp_path}/shard.tar::{name}") for name in names]))
    ratio = min(files) / min(members)
    print(f"\n{suffix} in a tar: {ratio:.2f} of the rate of plain files")
    assert ratio >= 0.9


def test_mixing_thirty_partitions_is_nearly_as_fast_as_reading_one(tmp_path: Path) -> None:
    rows = [{"audio_filepath": f"a/{i}.wav", "duration": 1.5 + i % 7, "text": "one two three"} for i in range(ROWS)]
    lines = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "all.jsonl").write_text("".join(lines))
    for number in range(30):
        (tmp_path / f"{number:02}.jsonl").write_text("".join(lines[number::30]))
    parts = [ReadManifest(str(tmp_path / f"{number:02}.jsonl"), dataset_name=f"p{number}") for number in range(30)]
    whole = [ReadManifest(str(tmp_path / "all.jsonl"), dataset_name="p0")]
    weights = {f"p{number}": 1.0 + number % 3 for number in range(30)}
    times: dict[int, list[float]] = {1: [], 30: []}
    threaded: list[float] = []
    for _ in range(5):  # in turns
        for sources in (whole, parts):
            mixture = MixReader(sources, {f"p{n}": weights[f"p{n}"] for n in range(len(sources))})
            times[len(sources)].append(best_of(1, lambda mixture=mixture: sum(1 for _ in mixture.read())))
        ahead = MixReader(parts, weights, max_workers=4)
        threaded.append(best_of(1, lambda ahead=ahead: sum(1 for _ in ahead.read())))
    plain = best_of(3, lambda: sum(1 for _ in whole[0].read()))
    ratio = min(times[1]) / min(times[30])
    print(
        f"\n30 partitions: {ratio:.2f} of the rate of one; one: {plain / min(times[1]):.2f} of read_manifest; "
        f"with 4 threads: {min(times[1]) / min(threaded):.2f}"
    )
    assert ratio >= 0.9
