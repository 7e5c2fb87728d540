"""`curate verify`: a flipped byte, a missing shard and a swapped member of a published data set are found."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline
from curate.errors import UsageError
from curate.io.provenance import verify_set
from curate.stages import AudioFilesWriter, NemoTarredWriter, ReadManifest
from tests.unit.engine.hearing import write_noise


@pytest.fixture
def published(tmp_path: Path) -> Path:
    with (tmp_path / "in.jsonl").open("w") as lines:
        for number in range(6):
            write_noise(tmp_path / f"{number}.flac", 0.1, seed=number)
            lines.write(json.dumps({"audio_filepath": f"{number}.flac", "text": "word", "lang": "en"}) + "\n")
    stages = [ReadManifest(tmp_path / "in.jsonl"), NemoTarredWriter(tmp_path / "set", shard_records=2)]
    Pipeline("set", stages).run(run_dir=tmp_path / "run")
    return tmp_path / "set"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def test_a_set_as_published_passes(published: Path, curate: Any) -> None:
    outcome = curate("verify", str(published))
    assert outcome.code == 0, outcome.err
    assert "6 records" in outcome.out
    assert "all as published" in outcome.out


def test_a_flipped_byte_is_named(published: Path, curate: Any) -> None:
    flip(published / "audio_1.tar")
    outcome = curate("verify", str(published), "--json")
    assert outcome.code == 1
    (damaged,) = json.loads(outcome.out)["damaged"]
    assert (damaged["name"], damaged["damage"]) == ("audio_1.tar", "content")


def test_a_missing_shard_and_a_foreign_file_are_named(published: Path) -> None:
    (published / "audio_2.tar").unlink()
    (published / "sharded_manifests" / "manifest_9.json").write_text("{}\n")
    found = {each.name: each.damage for each in verify_set(published)}
    assert found == {"audio_2.tar": "missing", "sharded_manifests/manifest_9.json": "unknown"}


def test_a_swapped_member_is_found(published: Path) -> None:
    path = published / "audio_0.tar"
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    path.unlink()
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for (member, _), (_, content) in zip(members, reversed(members), strict=True):
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert [each.name for each in verify_set(published)] == ["audio_0.tar"]


def test_a_folder_without_provenance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it has no provenance\.json"):
        list(verify_set(tmp_path))


def test_a_damaged_audio_file_among_many_is_named(published: Path, curate: Any) -> None:
    stages = [
        ReadManifest(published.parent / "in.jsonl"),
        AudioFilesWriter(published.parent / "files", shard_records=4),
    ]
    Pipeline("files", stages).run(run_dir=published.parent / "another")
    place = published.parent / "files"
    assert curate("verify", str(place)).code == 0
    first, second, *_ = sorted((place / "audio" / "00001").iterdir())
    first.unlink()
    second.write_bytes(b"fLaC")
    found = {Path(each.name).name: each.damage for each in verify_set(place)}
    assert found == {first.name: "missing", second.name: "content"}
