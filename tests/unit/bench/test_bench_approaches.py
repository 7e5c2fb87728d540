"""`bench_approaches`: the same speech by each approach, compared with one clip at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs
import pytest

from curate import Pipeline
from curate.bench import ApproachReport, ApproachTrial, Trial, bench_approaches, save_plot
from curate.bench.packing import pack_records
from curate.errors import UsageError
from curate.models import AudioModel, Clip
from curate.stages import ReadRecords
from tests.unit.stages.stub_recogniser import StubAsrStage

Sound = Callable[[int], str]


@dataclass
class Counting(AudioModel):
    """Hears a word for each 100 ms that is not silent. It may have memory for few clips only."""

    rate_hz: int = 8000
    most: int = 99
    batches: list[int] = field(default_factory=list)
    writes = ("text",)

    def infer(self, clips: Sequence[Clip]) -> Any:
        if len(clips) > self.most:
            raise RuntimeError("CUDA out of memory")
        self.batches.append(len(clips))
        step = self.rate_hz // 10
        return [
            {
                "text": " ".join(
                    "word"
                    for at in range(0, len(clip.samples), step)
                    if abs(clip.samples[at : at + step]).mean() > 0.02
                )
            }
            for clip in clips
        ]


def pipeline(clip: Sound, **model: Any) -> Pipeline:
    lengths_ms = [400, 700, 500, 1200, 300, 900]
    rows = [{"audio_filepath": clip(ms), "duration": ms / 1000, "text": "word " * (ms // 100)} for ms in lengths_ms]
    return Pipeline("corpus", [ReadRecords(rows), StubAsrStage(make=lambda: Counting(**model))])


def test_approaches_have_one_basis_and_the_history_compares(clip: Sound, tmp_path: Path) -> None:
    told: list[ApproachTrial] = []
    reports = [
        bench_approaches(
            pipeline(clip),
            approaches=["batched", "packed"],
            repeats=2,
            history=tmp_path / "h.jsonl",
            on_trial=told.append,
        )
        for _ in range(2)
    ]
    first, second = reports
    assert [one.approach for one in first.trials] == ["sequential", "batched", "packed"]
    assert told == [*first.trials, *second.trials]
    assert [one.windows for one in first.trials] == [6, 6, 1]
    assert {one.audio_s for one in first.trials} == {4.0}
    for one in first.trials:
        assert one.rtfx == pytest.approx(4.0 / (one.trial.transcription_s or 0))
        assert one.wer == 0.0 and one.equal_texts == 1.0
        assert one.vram_bytes is None and one.trial.waste is not None
    assert first.change_of(first.sequential) == 0.0
    assert second.before == first and second.before_of(second.trials[2]) == first.trials[2]
    assert ApproachReport.from_dict(json.loads(json.dumps(second.to_dict()))).trials == second.trials
    pytest.importorskip("matplotlib")
    save_plot(second, tmp_path / "plot.svg")
    assert "packed" in (tmp_path / "plot.svg").read_text()


def test_memory_that_ends_is_a_bound(clip: Sound) -> None:
    report = bench_approaches(pipeline(clip, most=1), approaches=["batched"], repeats=1)
    assert report.sequential.fits and report.trials[1].trial.ooms > 0
    with pytest.raises(UsageError, match="does not fit"):
        _ = bench_approaches(pipeline(clip, most=0), approaches=["batched"], repeats=1).best


def trial(approach: str, seconds: float, wer: float | None = None, replicas: int = 1) -> ApproachTrial:
    setting = {"batching": "static", "batch_size": 1}
    return ApproachTrial(approach, Trial(setting, replicas, transcription_s=seconds, spread=0.02), 100.0, wer=wer)


@pytest.mark.parametrize(
    ("others", "best", "yaml"),
    [
        ([trial("batched", 9.5)], "sequential", "batch_size: 1"),
        ([trial("batched", 4.0, 0.2), trial("processes", 6.0, 0.1, 2)], "processes", "workers: 2"),
        ([trial("packed", 4.0, 0.11)], "packed", "mode: pack"),
    ],
)
def test_sequential_is_recommended_unless_another_is_clearly_faster_without_more_errors(
    others: list[ApproachTrial], best: str, yaml: str
) -> None:
    report = ApproachReport("p", "asr", "local", 1, 100.0, "", "", (trial("sequential", 10.0, 0.1), *others))
    assert report.best.approach == best
    assert yaml in report.yaml


def test_packed_windows_of_several_recordings_are_measured_and_not_recommended() -> None:
    apart = attrs.evolve(trial("packed", 4.0, 0.1), across_recordings=True)
    sequential = trial("sequential", 10.0, 0.1)
    report = ApproachReport("p", "asr", "local", 1, 100.0, "", "", (sequential, trial("batched", 6.0, 0.1), apart))
    assert (report.best.approach, report.out_of_reach) == ("batched", apart)
    report = attrs.evolve(report, trials=(sequential, trial("batched", 3.0, 0.1), apart))
    assert (report.best.approach, report.out_of_reach) == ("batched", None)
    report = attrs.evolve(report, trials=(sequential, trial("batched", 11.0, 0.1), attrs.evolve(apart, wer=0.2)))
    assert (report.best.approach, report.out_of_reach) == ("sequential", None)


def test_windows_are_packed_within_a_speaker_and_know_their_recordings(clip: Sound, tmp_path: Path) -> None:
    long = {"audio_filepath": clip(9000), "speaker": "a", "duration": 1.0}
    parts = [{**long, "offset": float(at)} for at in range(4)]
    others = [{"audio_filepath": clip(ms), "speaker": "b", "duration": ms / 1000} for ms in (400, 700)]
    _, members = pack_records([*parts, *others], tmp_path, None)
    assert members == [[0, 1, 2, 3], [4, 5]]
    for rows, across in ((parts, False), ([*parts, *others], True)):
        found = Pipeline("corpus", [ReadRecords(rows), StubAsrStage(make=Counting)])
        packed = bench_approaches(found, approaches=["packed"], repeats=1).trials[1]
        assert packed.across_recordings is across


class Numbers(AudioModel):
    """Reads "in 1813" in a short sound and "eight" in a long one."""

    rate_hz = 8000
    writes = ("text",)

    def infer(self, clips: Sequence[Clip]) -> Any:
        return [{"text": " ".join(self._words(clip))} for clip in clips]

    def _words(self, clip: Clip) -> Iterator[str]:
        steps = [abs(clip.samples[at : at + 800]).mean() > 0.02 for at in range(0, len(clip.samples), 800)]
        for loud, run in groupby(steps):
            if loud:
                yield "In 1813." if len(list(run)) < 5 else "Eight."


def test_numbers_at_the_border_of_two_clips_are_no_errors(clip: Sound) -> None:
    texts = {400: "in eighteen thirteen", 700: "eight"}
    rows = [{"audio_filepath": clip(ms), "duration": ms / 1000, "text": text} for ms, text in texts.items()]
    found = Pipeline("corpus", [ReadRecords(rows), StubAsrStage(make=Numbers)])
    for one in bench_approaches(found, approaches=["packed"], repeats=1).trials:
        assert (one.wer, one.equal_texts) == (0.0, 1.0)


def test_mistakes_are_named(clip: Sound) -> None:
    with pytest.raises(UsageError, match="unknown approach 'magic'"):
        bench_approaches(pipeline(clip), approaches=["magic"])
    with pytest.raises(UsageError, match="no ASR stage"):
        bench_approaches(Pipeline("p", [ReadRecords([{"text": "a"}])]))
