"""Every way in which a record can be bad, in one manifest: each costs itself, and the run goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.stages import AudioDuration, Merge, Partition, ReadManifest
from tests.unit.audio.audio_files import encoded, flac_with_length, tone
from tests.unit.stages.stub_recogniser import StubAsrStage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sound files and a zoo of others."""
    folder = tmp_path / "data"
    folder.mkdir()
    wav, flac = encoded(tone()), encoded(tone(2.0), "FLAC")
    broken = np.full(16_000, np.nan, dtype=np.float32)
    files = {
        "good.wav": wav,
        "good.flac": flac,
        "empty.wav": b"",
        "cut.flac": flac[: len(flac) // 2],
        "cut.wav": wav[: len(wav) // 2],
        "forged.flac": flac_with_length(flac, (1 << 36) - 1),
        "page.wav": b"<!DOCTYPE html><html>404</html>" * 9,
        "pointer.wav": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "packed.wav": b"\x1f\x8b\x08\x00" + b"x" * 99,
        "noise.wav": bytes(range(256)) * 20,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    soundfile.write(folder / "silent.wav", np.zeros(0, dtype=np.float32), 16_000)
    soundfile.write(folder / "nan.wav", broken, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "outside.wav", tone(), 16_000)
    (folder / "link.wav").symlink_to(tmp_path / "outside.wav")
    (folder / "directory.wav").mkdir()
    os.mkfifo(folder / "fifo.wav")
    return folder


LINES: list[tuple[str, str | None]] = [
    ('{"audio_filepath": "good.wav"}', None),
    ('{"audio_filepath": "good.wav"', "bad_json"),
    ('{"audio_filepath": "good.wav", "snr": NaN}', "bad_json"),
    ('["good.wav"]', "bad_json"),
    ('{"audio_filepath": "good.wav", "duration": -1}', "bad_value"),
    ('{"audio_filepath": "good.wav", "duration": "1.0"}', "bad_value"),
    ('{"audio_filepath": "good.flac"}', None),
    ('{"text": "no path"}', "missing_column"),
    ('{"audio_filepath": null}', "missing_column"),
    ('{"audio_filepath": 7}', "bad_path"),
    ('{"audio_filepath": ""}', "bad_path"),
    ('{"audio_filepath": "a\\u0000b.wav"}', "bad_path"),
    ('{"audio_filepath": "ftp://example.org/a.wav"}', "outside_root"),
    ('{"audio_filepath": "nowhere.wav"}', "missing_file"),
    ('{"audio_filepath": "good.wav/x.wav"}', "missing_file"),
    ('{"audio_filepath": "%s.wav"}' % ("x" * 300), "bad_path"),
    ('{"audio_filepath": "../outside.wav"}', "outside_root"),
    ('{"audio_filepath": "/etc/passwd"}', "outside_root"),
    ('{"audio_filepath": "link.wav"}', "outside_root"),
    ('{"audio_filepath": "directory.wav"}', "not_a_regular_file"),
    ('{"audio_filepath": "fifo.wav"}', "not_a_regular_file"),
    ('{"audio_filepath": "empty.wav"}', "empty_file"),
    ('{"audio_filepath": "page.wav"}', "not_audio"),
    ('{"audio_filepath": "pointer.wav"}', "not_audio"),
    ('{"audio_filepath": "packed.wav"}', "not_audio"),
    ('{"audio_filepath": "noise.wav"}', "not_audio"),
    ('{"audio_filepath": "cut.flac"}', "truncated"),
    ('{"audio_filepath": "cut.wav"}', "truncated"),
    ('{"audio_filepath": "forged.flac"}', "truncated"),
    ('{"audio_filepath": "silent.wav"}', "zero_samples"),
    ('{"audio_filepath": "nan.wav"}', "non_finite"),
    ('{"audio_filepath": "good.wav", "offset": 5}', "bad_segment"),
    ('{"audio_filepath": "good.wav", "offset": 0.5, "duration": 9}', "truncated"),
    ('{"audio_filepath": "good.wav", "offset": 0.5, "duration": 0.25}', None),
]


@pytest.mark.parametrize("measured", [False, True], ids=["transcribed", "measured and transcribed"])
def test_each_bad_record_costs_itself_and_is_named_with_file_and_line(
    folder: Path, tmp_path: Path, measured: bool
) -> None:
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(line for line, _ in LINES))
    stages = [ReadManifest(manifest), Partition(), *([AudioDuration()] if measured else []), StubAsrStage()]
    result = Pipeline("zoo", [*stages, Merge("out.jsonl")]).run(run_dir=tmp_path / "run")

    expected = {f"{manifest}:{number}": code for number, (_, code) in enumerate(LINES, start=1) if code}
    notes = [
        json.loads(line)
        for shard in (tmp_path / "run" / "quarantine").iterdir()
        for line in shard.read_text().splitlines()
    ]
    assert {note["_id"]: note["code"] for note in notes} == expected
    assert len(notes) == len(expected)
    assert all(note["message"] and note["stage"] for note in notes)
    kept = [json.loads(line) for line in (tmp_path / "run" / "out.jsonl").read_text().splitlines()]
    assert [record["pred_text"] for record in kept] == ["1000", "2000", "250"]
    summary = result.summary
    assert (summary["records_in"], summary["kept"]) == (len(LINES), 3)
    assert summary["kept"] + summary["filtered"] + summary["quarantined"] == summary["records_in"]
