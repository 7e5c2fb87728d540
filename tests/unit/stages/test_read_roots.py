"""`roots`: one folder may be given as it is, and must exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.errors import PlanError
from curate.stages import ReadManifest, ReadRecords


def test_one_root_may_be_given_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "a.wav"}\n')
    manifest = ReadManifest(str(tmp_path / "m.jsonl"), roots=str(tmp_path))
    manifest.check()
    assert manifest.audio_roots() == (str(tmp_path),)
    assert ReadRecords([{"audio_filepath": "a.wav"}], roots=tmp_path).audio_roots() == (str(tmp_path),)


def test_a_root_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="nowhere is not a folder"):
        ReadRecords([], roots=[tmp_path / "nowhere"]).check()
