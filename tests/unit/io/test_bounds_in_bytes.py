"""Hostile inputs stay within bounds in bytes, in a process that may not have more memory."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pytest

from curate import RecordError
from curate.errors import MESSAGE_CHARACTERS, PlanError
from curate.io import skipped_lines
from curate.io.by_content import read_by_content
from curate.records import take

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from curate import Pipeline
from curate.stages import Merge, Partition, ReadManifest
path, out = sys.argv[1:]
pipeline = Pipeline("bounded", [ReadManifest(path), Partition(), Merge(out)])
pipeline.plan()
print(pipeline.run(run_dir=path + ".run").summary["kept"])
"""


def kept_within_two_gigabytes(manifest: Path, output: str) -> int:
    """Run a pipeline over a manifest with an address space of 2 GB, and return the number of kept records."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(manifest), output], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert time.monotonic() - began < 160
    return int(done.stdout.split()[-1])


def write_dictionary_bomb(path: Path, rows: int) -> Path:
    """Write a Parquet file of a few kilobytes whose rows share one value of a megabyte."""
    import pyarrow
    from pyarrow import parquet

    big = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), ["z" * 1_000_000])
    parquet.write_table(pyarrow.table({"audio_filepath": ["a.wav"] * rows, "extra": big}), path)
    return path


@pytest.mark.soak
def test_dictionary_of_large_values_is_read_and_published_in_bounded_memory(tmp_path: Path) -> None:
    assert kept_within_two_gigabytes(write_dictionary_bomb(tmp_path / "bomb.parquet", 2200), "out.jsonl") == 2200


def test_lines_of_many_megabytes_are_read_and_published_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("w") as file:
        for number in range(40):
            file.write(f'{{"audio_filepath": "{number}.wav", "text": "{"x" * 15_000_000}"}}\n')
    assert kept_within_two_gigabytes(path, "out.jsonl") == 40


def test_take_closes_by_bytes_and_by_count() -> None:
    records = iter([{"text": "x" * 100} for _ in range(10)])
    assert len(take(records, 4, 1000)) == 4
    assert len(take(records, 6, 250)) == 3
    assert len(take(iter([{"nested": [{"text": "y" * 300}]}, {}]), 6, 250)) == 1


def test_message_of_an_error_is_kept_in_part() -> None:
    message = RecordError("bad_value", "x" * 50_000_000).message
    assert len(message) < MESSAGE_CHARACTERS + 100
    assert "49,984,000 characters" in message


@pytest.mark.parametrize(
    "config",
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)),
        "a: &a [*a]\n",
    ],
)
def test_checkpoint_with_growing_aliases_is_refused_at_once(tmp_path: Path, config: str) -> None:
    from curate.asr.checkpoint import _read_config

    path = tmp_path / "bomb.nemo"
    with tarfile.open(path, "w") as archive:
        for name, content in (("model_config.yaml", config.encode()), ("model_weights.ckpt", b"x")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    with pytest.raises(PlanError, match="by YAML aliases"):
        _read_config(path)


def test_lines_without_records_are_passed_with_a_line_in_the_log_every_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    monkeypatch.setattr(skipped_lines, "INTERVAL_S", 0.0)
    path = tmp_path / "blank.jsonl.gz"
    with gzip.open(path, "wb") as packed:
        packed.write(b"\n" * 200_000 + b'{"text": "a"}\n' + b"\n" * 200_000)
    assert len(list(read_by_content(path, 0))) == 1
    numbers = [re.fullmatch(rf"{path}: at line ([\d,]+); the last ([\d,]+) have no record", line) for line in messages]
    places = [[int(group.replace(",", "")) for group in each.groups()] for each in numbers if each]
    assert len(places) == len(messages) >= 4
    assert places == sorted(places, key=lambda place: place[0])
    assert {number - lines for number, lines in places} == {0, 200_001}


SILENT = """
import sys, time
from loguru import logger
from curate import Pipeline
from curate.stages import Merge, ReadManifest
logger.enable("curate")
logger.remove()
logger.add(sys.stderr, level="INFO", format="{time:x} {message}")
pipeline = Pipeline("silent", [ReadManifest(sys.argv[1]), Merge("out.jsonl")])
print(pipeline.run(run_dir=sys.argv[1] + ".run").summary["kept"])
"""


@pytest.mark.soak
def test_gigabyte_of_newlines_is_read_without_ten_seconds_of_silence(tmp_path: Path) -> None:
    path = tmp_path / "blank.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=9) as packed:
        for _ in range(1000):
            packed.write(b"\n" * 1_000_000)
        packed.write(b'{"text": "a"}\n')
    process = subprocess.Popen(
        [sys.executable, "-c", SILENT, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    began = last = time.monotonic()
    longest_s, lines = 0.0, 0
    for _ in process.stderr:
        now = time.monotonic()
        longest_s, last, lines = max(longest_s, now - last), now, lines + 1
    print(f"{lines} lines in {time.monotonic() - began:.0f} s, {longest_s:.1f} s of silence at most")
    assert process.wait() == 0
    assert process.stdout.read() == "1\n"
    assert longest_s < 10
