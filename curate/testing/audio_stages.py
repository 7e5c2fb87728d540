"""The contract of an audio stage, as tests that its author inherits in addition to those of every stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.pipeline import Pipeline
from curate.plugin import PluginHost
from curate.records import Record
from curate.stage import Stage
from curate.stages import ReadRecords
from curate.testing.stages import StageContract


@dataclass
class _Listens(AudioStage):
    """Asks for all samples, as the neighbour of a stage may do."""

    def writes(self) -> tuple[str, ...]:
        return ()

    def process_audio(self, record: Record, audio: Audio) -> Record:
        audio.samples()
        audio.native()
        return record


class AudioStageContract(StageContract):
    """Tests of one audio stage over a few records, in addition to those of `StageContract`."""

    def test_each_recording_is_decoded_once(self) -> None:
        """Neighbours share one decoding of a recording, also for the parts of a stage that splits."""
        stage = self.stage()
        assert isinstance(stage, AudioStage), f"{type(stage).__name__} is not an AudioStage"
        records = self._trial().records
        summary = self._run_between(audio_memory=None)[1]
        recordings = {record.get(stage.filepath_key) for record in records}
        decodes = sum(measures.get("decodes", 0) for measures in summary["audio"].values())
        assert decodes <= len(recordings), f"{len(recordings)} recordings were decoded {decodes} times"

    def test_sharing_audio_makes_no_difference(self) -> None:
        """The same records come out with audio that is shared, decoded again for each use, and in workers apart."""
        shared, _ = self._run_between(audio_memory=None)
        least, _ = self._run_between(audio_memory=0)
        apart, _ = self._run_between(audio_memory=None, fuse=False)
        assert shared == least, f"with audio_memory=0 the stage gives\n{least}\nand otherwise\n{shared}"
        assert shared == apart, f"in workers of its own the stage gives\n{apart}\nand otherwise\n{shared}"

    def _run_between(self, *, audio_memory: int | None, fuse: bool = True) -> tuple[list[Record], Any]:
        """Return the records behind the stage and its neighbours, and the summary of the run."""
        neighbours: list[Stage] = [_Listens(), self.stage().with_(checkpoint=False), _Listens()]
        stages = [stage.with_(fuse=fuse) for stage in neighbours]
        pipeline = Pipeline("contract", [ReadRecords(list(self._trial().records)), *stages])
        host = PluginHost(environment={"CURATE_PLUGINS": ""})
        result = pipeline.run(host=host, audio_memory=audio_memory)
        return list(result.records()), result.summary
