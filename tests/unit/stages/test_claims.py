"""Which places outside its run directory a run may write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.errors import PlanError
from curate.stages.write.claims import claim, claimed, release, require_own_file, require_own_folder
from curate.storage import path_of, scheme
from tests.buckets import Bucket


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket()
    monkeypatch.setitem(scheme._registered, "bucket", made)
    return made


def test_files_that_a_stage_no_longer_writes_are_returned_once_and_objects_stay_its_own(tmp_path: Path) -> None:
    one, other, url = tmp_path / "a.jsonl", tmp_path / "b.jsonl", path_of("bucket://b/a.jsonl")
    assert claim("merge", [one, url], tmp_path) == []
    assert claim("merge_2", [tmp_path / "c.jsonl"], tmp_path) == []
    assert claim("merge", [other], tmp_path) == [one]
    assert claim("merge", [other], tmp_path) == []
    claims = json.loads((tmp_path / "claims.json").read_bytes())
    assert claims == {"merge": sorted([str(other), str(url)]), "merge_2": [str(tmp_path / "c.jsonl")]}
    release("merge", [str(url)], tmp_path)
    assert claimed("merge", tmp_path) == [str(other)] and claimed("merge_2", tmp_path) == [str(tmp_path / "c.jsonl")]


def test_file_or_object_without_a_claim_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    places = [tmp_path / "there.jsonl", path_of("bucket://b/there.jsonl")]
    for place in places:
        require_own_file(place, tmp_path)
    (tmp_path / "there.jsonl").write_bytes(b"")
    bucket.objects["bucket://b/there.jsonl"] = b""
    for place in places:
        with pytest.raises(PlanError, match=r"there\.jsonl is there already, and this run has not written it"):
            require_own_file(place, tmp_path)
    claim("merge", places, tmp_path)
    for place in places:
        require_own_file(place, tmp_path)


def test_set_that_is_uploaded_in_part_is_own_by_its_claim_until_another_run_publishes_there(
    bucket: Bucket, tmp_path: Path
) -> None:
    place = path_of("bucket://b/set")
    require_own_folder(place, tmp_path)
    bucket.objects["bucket://b/set/audio_0.tar"] = b"half of the set"
    with pytest.raises(PlanError, match=r"is not empty \(bucket://b/set/audio_0\.tar is there\)"):
        require_own_folder(place, tmp_path)
    claim("publish", [place], tmp_path)
    require_own_folder(place, tmp_path)
    bucket.objects["bucket://b/set/provenance.json"] = b'{"run": "/runs/other"}'
    with pytest.raises(PlanError, match="is the data set of another run, /runs/other"):
        require_own_folder(place, tmp_path)
    bucket.objects["bucket://b/set/provenance.json"] = json.dumps({"run": str(tmp_path)}).encode()
    (tmp_path / "claims.json").unlink()
    require_own_folder(place, tmp_path)
