"""Every reader gives the same recordings, transcripts, speakers and lengths from the same corpus in its form."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speech_corpus import FORMS, RATE_HZ, WITHOUT_SPEAKER, utterances

from curate import Pipeline
from curate.audio import load_record
from curate.stage import Source, Stage
from curate.stages.sources.webdataset import SplitShard
from curate.testing import SourceContract, StageContract

CORPUS = utterances()


def records_of(stage: Stage) -> tuple[list[dict[str, Any]], Any]:
    """Return the records that a run keeps of a reader, and the roots of their audio."""
    plan = Pipeline("read", [stage]).plan()
    source = plan.stages[0].stage
    assert isinstance(source, Source)
    result = Pipeline("read", [stage]).run()
    assert result.summary["quarantined"] == 0
    return list(result.records()), source.audio_roots()


@pytest.mark.parametrize("form", FORMS)
def test_reader_gives_the_samples_texts_speakers_and_lengths_of_the_corpus(form: str, tmp_path: Path) -> None:
    records, roots = records_of(FORMS[form](tmp_path, CORPUS))
    assert [record["text"] for record in records] == [one.text for one in CORPUS]
    if form not in WITHOUT_SPEAKER:
        assert [record["speaker"] for record in records] == [one.speaker for one in CORPUS]
    for record, one in zip(records, CORPUS, strict=True):
        samples = load_record(record, roots=roots)
        assert np.array_equal(samples, one.samples.astype(np.float32) / 32768), record
        if record.get("duration") is not None:
            assert record["duration"] == pytest.approx(one.duration_s, abs=1e-3)
    assert RATE_HZ == 16_000


class _ReaderContract(SourceContract):
    """The contract of a source, over the corpus in one form."""

    form: str

    def source(self, folder: Path) -> Source:
        if folder not in MADE:
            MADE[folder] = FORMS[self.form](folder, CORPUS)
        source = copy.deepcopy(MADE[folder])
        assert isinstance(source, Source)
        return source


MADE: dict[Path, Stage] = {}

for _form in FORMS.keys() - {"read_webdataset"}:  # that one is a source of tars and a stage
    _name = "Test" + "".join(word.capitalize() for word in _form.replace("_", " ").split()) + "Contract"
    globals()[_name] = type(_name, (_ReaderContract,), {"form": _form})


class TestSplitShardContract(StageContract):
    """The stage that takes the tars of a WebDataset apart."""

    @pytest.fixture(autouse=True)
    def written(self, tmp_path: Path) -> None:
        FORMS["read_webdataset"](tmp_path, CORPUS)
        self.shards = sorted(tmp_path.glob("*.tar"))

    def stage(self) -> SplitShard:
        return SplitShard()

    def records(self, folder: Path) -> list[dict[str, Any]]:
        return [{"shard": str(path)} for path in self.shards]
