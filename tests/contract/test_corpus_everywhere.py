"""A corpus in any form gives the same bytes on every executor, and after a run that was cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline
from curate.stages import AudioDuration, Merge
from tests.speech_corpus import FORMS, utterances

CORPUS = utterances()


def published(form: str, folder: Path, executor: str, run: str) -> bytes:
    corpus = folder / "corpus"
    if not corpus.exists():
        corpus.mkdir()
        STAGES[folder] = FORMS[form](corpus, CORPUS)
    stages = [STAGES[folder], AudioDuration(), Merge("out.jsonl")]
    Pipeline("corpus", stages).run(executor, run_dir=folder / run)
    return (folder / run / "out.jsonl").read_bytes()


STAGES: dict[Path, Any] = {}


@pytest.mark.parametrize("executor", ["multiprocessing", pytest.param("ray", marks=pytest.mark.ray)])
@pytest.mark.parametrize("form", FORMS)
def test_corpus_gives_the_same_bytes_on_every_executor(form: str, executor: str, tmp_path: Path) -> None:
    local = published(form, tmp_path, "local", "local")
    assert len(local.splitlines()) == len(CORPUS)
    assert published(form, tmp_path, executor, executor) == local
