"""What is wrong in the wild gets one code each, and its neighbours go on, the same with every executor."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate import Pipeline
from curate.stages import Merge, Partition, ReadManifest
from tests.faults.hearing import Hears
from tests.unit.audio.audio_files import encoded, flac_with_length, mp3, tone, wav_with_sizes

EXECUTORS = ["local", "multiprocessing", "ray"]

GOOD = tone(0.5)
WAV = encoded(GOOD)
FLAC = encoded(GOOD, "FLAC")
NAN = GOOD.copy()
NAN[100] = np.nan

FILES: dict[str, tuple[bytes, str]] = {
    "good.wav": (WAV, ""),
    "good.flac": (FLAC, ""),
    "stream.wav": (wav_with_sizes(WAV, 0xFFFFFFFF, 0xFFFFFFFF), ""),
    "empty.wav": (b"", "empty_file"),
    "text.wav": (b"There is no sound in here, only words.\n" * 9, "not_audio"),
    "page.wav": (b"<!DOCTYPE html><html><body>404</body></html>", "not_audio"),
    "pointer.wav": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "not_audio"),
    "packed.wav": (gzip.compress(WAV), "not_audio"),
    "picture.wav": (b"\x89PNG\r\n\x1a\n" + bytes(200), "not_audio"),
    "noise.wav": (bytes(range(256)) * 40, "not_audio"),
    "torn.wav": (WAV[: len(WAV) // 2], "truncated"),
    "torn.mp3": (mp3(2.0)[:9000], "truncated"),
    "huge.wav": (wav_with_sizes(WAV, 0x7FFFFFFF, 0x7FFFFFF0), "truncated"),
    "forged.flac": (flac_with_length(FLAC, (1 << 36) - 1), "truncated"),
    "nan.wav": (encoded(NAN, subtype="FLOAT"), "non_finite"),
    "none.wav": (encoded(GOOD[:0]), "zero_samples"),
}


def link_outside(folder: Path) -> None:
    (folder.parent / "secret.wav").write_bytes(WAV)
    (folder / "link.wav").symlink_to(folder.parent / "secret.wav")


MADE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing.wav": (lambda folder: None, "missing_file"),
    "folder.wav": (lambda folder: (folder / "folder.wav").mkdir(), "not_a_regular_file"),
    "fifo.wav": (lambda folder: os.mkfifo(folder / "fifo.wav"), "not_a_regular_file"),
    "link.wav": (link_outside, "outside_root"),
    "circle.wav": (lambda folder: (folder / "circle.wav").symlink_to("circle.wav"), "unreadable_file"),
}

PATHS: list[tuple[Any, str]] = [
    ("/etc/hostname", "outside_root"),
    ("../secret.wav", "outside_root"),
    ("/dev/zero", "outside_root"),
    ("https://example.org/a.wav", "outside_root"),
    ("pipe:|id", "missing_file"),
    ("a\0b.wav", "bad_path"),
    ("", "bad_path"),
    (17, "bad_path"),
    (None, "missing_column"),
    (["good.wav"], "bad_path"),
]

LINES: list[tuple[bytes, str]] = [
    (b"{", "bad_json"),
    (b"[1, 2]", "bad_json"),
    (b'{"audio_filepath": "good.wav", "duration": NaN}', "bad_json"),
    (b'{"audio_filepath": "good.wav", "duration": 1e999}', "bad_json"),
    (b'{"audio_filepath": "good.wav", "n": ' + b"1" * 5000 + b"}", "bad_json"),
    (b'{"audio_filepath": "good.wav", "deep": ' + b"[" * 3000 + b"]" * 3000 + b"}", "bad_json"),
    (b'{"audio_filepath": "good.wav", "text": "\xff"}', "bad_json"),
    (b'{"audio_filepath": "good.wav", "duration": -1}', "bad_value"),
    (b'{"audio_filepath": "good.wav", "duration": "long"}', "bad_value"),
    ('{"audio_filepath": "good.wav", "text": "one\u2028two"}'.encode(), ""),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return a manifest, and for each id the code that it must get; none for those that are well."""
    folder = tmp_path_factory.mktemp("corpus") / "audio"
    folder.mkdir()
    lines: list[tuple[bytes, str]] = []
    for name, (content, code) in FILES.items():
        (folder / name).write_bytes(content)
        lines.append((json.dumps({"audio_filepath": name}).encode(), code))
    for name, (make, code) in MADE.items():
        make(folder)
        lines.append((json.dumps({"audio_filepath": name}).encode(), code))
    lines += [(json.dumps({"audio_filepath": path}).encode(), code) for path, code in PATHS]
    manifest = folder / "m.jsonl"
    lines += LINES
    manifest.write_bytes(b"\n".join(line for line, _ in lines) + b"\n")
    return manifest, {f"{manifest}:{number}": code for number, (_, code) in enumerate(lines, start=1)}


@pytest.mark.parametrize("place", EXECUTORS, indirect=True)
def test_every_kind_of_bad_input_gets_its_code(place: str, corpus: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    manifest, codes = corpus
    stages = [ReadManifest(str(manifest)), Partition(max_records=7, by_length=False), Hears()]
    result = Pipeline("wild", [*stages, Merge("out.jsonl")]).run(place, run_dir=tmp_path, max_failures=len(codes))
    notes = [json.loads(line) for path in (tmp_path / "quarantine").iterdir() for line in path.open()]
    assert {note["_id"]: note["code"] for note in notes} == {name: code for name, code in codes.items() if code}
    assert [record["_id"] for record in result.records()] == [name for name, code in codes.items() if not code]
