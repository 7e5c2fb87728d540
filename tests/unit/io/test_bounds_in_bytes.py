"""Hostile inputs stay within bounds in bytes, in a process that may not have more memory."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pytest

from curate import RecordError
from curate.errors import MESSAGE_CHARACTERS, PlanError
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
