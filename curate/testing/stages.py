"""The contract of a stage, as tests that its author inherits.

class TestSpeakingRate(StageContract):
    def stage(self):
        return SpeakingRate()

    def records(self, folder):
        return [{"audio_filepath": str(write_tone(folder / "a.wav")), "duration": 1.0, "text": "one two"}]
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

import attrs
import cloudpickle

from curate.audio_stage import AUDIO_COLUMNS
from curate.composite import CompositeStage
from curate.engine import RunResult
from curate.fingerprint import describe_value
from curate.pipeline import Pipeline
from curate.plugin import PluginHost
from curate.records import ID, Record
from curate.stage import Gather, ProcessingStage, Stage
from curate.stages import Partition, ReadRecords


class StageContract:
    """Tests of one stage over a few records. Derive from it, name the class `Test…`, and define the two methods.

    A composite stage and a gather can be tested as well.
    """

    makes_audio: ClassVar[bool] = False
    """Whether the stage writes new audio, which needs a run directory."""

    def stage(self) -> Stage:
        """Return the stage, with the settings to test it with."""
        raise NotImplementedError(f"{type(self).__name__} must define stage(): return the stage to test")

    def records(self, folder: Path) -> Sequence[Record]:
        """Return records for it, good and bad: at least two, in the order of an input.

        Args:
            folder: an empty folder, for audio files.
        """
        raise NotImplementedError(f"{type(self).__name__} must define records(folder): return records for the stage")

    # What is below is inherited; a test that does not suit a stage can be overridden, with a reason.

    def test_describing_it_changes_nothing(self) -> None:
        """Columns, cardinality and settings are read before and without `setup`, any number of times."""
        stage = self.stage()
        first, second, other = _description(stage), _description(stage), _description(self.stage())
        assert first == second, f"the second look at the stage gave {second}, the first one {first}"
        assert first == other, f"two stages that were made alike are described as {first} and {other}"
        for part in _parts(stage):
            if isinstance(part, ProcessingStage):
                assert part.cardinality in ("maps", "filters", "splits"), f"cardinality is {part.cardinality!r}"

    def test_it_can_be_sent_to_a_worker(self) -> None:
        """Workers get pickled copies, before `setup`."""
        stage = self.stage()
        pickler: Any = cloudpickle  # it has no type stubs
        copy: Stage = pickler.loads(pickler.dumps(stage))
        assert _description(copy) == _description(stage), "a pickled copy of the stage is another one"

    def test_with_leaves_the_original_alone(self) -> None:
        """`.with_()` returns a copy."""
        stage = self.stage()
        before = _description(stage)
        changed = stage.with_(name="another-name")
        assert changed is not stage
        assert changed.name == "another-name"
        if isinstance(stage, ProcessingStage):
            assert stage.with_(batch_size=7).batch_size == 7
        assert _description(stage) == before, "with_() has changed the stage that it was called on"

    def test_no_record_is_lost_repeated_or_invented(self) -> None:
        """Ids come out as the stage's cardinality says; otherwise the engine blames the stage."""
        outcome = self._outcome()
        broken = [(identity, code) for identity, code in outcome.quarantined if code.startswith("contract_")]
        assert not broken, f"the stage breaks the cardinality that it declares for {broken}"
        assert len(set(outcome.ids)) == len(outcome.ids), f"an id comes out twice: {outcome.ids}"

    def test_every_record_is_accounted_for(self) -> None:
        """In + children = kept + filtered + quarantined + split parents."""
        counts = self._outcome().counts
        into = counts["records_in"] + counts["children"]
        out = counts["kept"] + counts["filtered"] + counts["quarantined"] + counts["split_parents"]
        assert into == out, f"the books do not balance: {counts}"
        assert counts["records_in"] == len(self._trial().records) >= 2, "give the contract at least two records"

    def test_the_batch_makes_no_difference(self) -> None:
        """The result of a record is the same whether it travels alone or with all others."""
        alone, together = self._outcome(max_records=1), self._outcome()
        assert alone == together, f"one at a time the stage gives\n{alone}\nand all together\n{together}"

    def test_another_worker_gives_the_same_result(self) -> None:
        """A result depends on the record and the settings, and on nothing that is left from before."""
        first, second = self._outcome(), self._run(self._trial().records)
        assert first == second, f"the first time the stage gives\n{first}\nand the second time\n{second}"

    def test_it_writes_no_more_than_it_says(self) -> None:
        """Columns that are added stand in `writes()`, unless it returns None."""
        written: set[str] = set()
        for part in _parts(self.stage()):
            columns = part.writes()
            if columns is None:
                raise SkipTest("writes() is None: the stage declares no columns")
            written |= set(columns)
        there = {name for record in self._trial().records for name in record} | {ID}
        corrects = any(getattr(part, "corrects_duration", False) for part in _parts(self.stage()))
        there |= AUDIO_COLUMNS if corrects else set()  # the engine writes these
        refused = [identity for identity, code in self._outcome().quarantined if code == "contract_undeclared"]
        assert not refused, f"writes() leaves out a column that it adds to {refused[0]}"
        added = {name for row in self._outcome().kept for name in row} - there
        assert added <= written, f"writes() leaves out {sorted(added - written)}"

    def test_the_columns_that_it_reads_are_enough(self) -> None:
        """A record with no more than the columns of `reads()` fails no more than one with all of them."""
        needed = {name for part in _parts(self.stage()) for name in part.reads()} | {"duration"}
        bare = [{name: value for name, value in record.items() if name in needed} for record in self._trial().records]
        assert self._run(bare).quarantined == self._outcome().quarantined, (
            f"reads() says {sorted(needed)}, and with these alone other records fail"
        )

    def _trial(self) -> _Trial:
        """Return the class's records and outcomes; every test of a class has an instance of its own."""
        cls = type(self)
        if cls not in _TRIALS:
            folder = Path(tempfile.mkdtemp(prefix="curate-contract-"))
            weakref.finalize(cls, shutil.rmtree, folder, ignore_errors=True)
            _TRIALS[cls] = _Trial(records=list(self.records(folder)))
        return _TRIALS[cls]

    def _outcome(self, *, max_records: int = 1_000_000) -> _Outcome:
        """Return the outcomes of the records, which are computed once for a class and a size of batches."""
        trial = self._trial()
        if max_records not in trial.outcomes:
            trial.outcomes[max_records] = self._run(trial.records, max_records=max_records)
        return trial.outcomes[max_records]

    def _run(self, records: Sequence[Record], *, max_records: int = 1_000_000) -> _Outcome:
        stages = [ReadRecords(list(records)), Partition(max_records=max_records), self.stage()]
        pipeline = Pipeline("contract", stages)
        with tempfile.TemporaryDirectory(prefix="curate-contract-") as folder:
            run_dir = Path(folder, "run") if self.makes_audio else None
            return self._outcome_of(pipeline.run(host=PluginHost(environment={"CURATE_PLUGINS": ""}), run_dir=run_dir))

    def _outcome_of(self, result: RunResult) -> _Outcome:
        counts = ("records_in", "children", "kept", "filtered", "quarantined", "split_parents")
        return _Outcome(
            kept=tuple(result.records()),
            filtered=tuple(sorted((note.record[ID], note.reason) for note in result.filtered)),
            quarantined=tuple(sorted((note.record[ID], note.code) for note in result.quarantined)),
            counts={name: result.summary[name] for name in counts},
        )


@attrs.frozen
class _Outcome:
    """The outcome of some records."""

    kept: tuple[Record, ...]
    filtered: tuple[tuple[str, str], ...]
    quarantined: tuple[tuple[str, str], ...]
    counts: dict[str, int]

    @property
    def ids(self) -> list[str]:
        return [
            *(row[ID] for row in self.kept),
            *(identity for identity, _ in self.filtered),
            *(identity for identity, _ in self.quarantined),
        ]


@attrs.define
class _Trial:
    """The records of a class, and what becomes of them by the size of batches."""

    records: list[Record]
    outcomes: dict[int, _Outcome] = attrs.field(factory=dict[int, _Outcome])


_TRIALS: weakref.WeakKeyDictionary[type[StageContract], _Trial] = weakref.WeakKeyDictionary()


def _parts(stage: Stage) -> list[Any]:
    """Return the stages that a composite stands for, to the last level; otherwise the stage itself."""
    if isinstance(stage, CompositeStage):
        return [leaf for part in stage.parts() for leaf in _parts(part)]
    return [stage]


def _description(stage: Stage) -> dict[str, Any]:
    """Return everything that a plan asks a stage for."""
    if isinstance(stage, CompositeStage):
        return {"name": stage.name, "parts": [_description(part) for part in stage.parts()]}
    assert isinstance(stage, ProcessingStage | Gather), f"{type(stage).__name__} is a stage of no kind to be tested"
    written = stage.writes()
    described: dict[str, Any] = {
        "name": stage.name,
        "reads": sorted(stage.reads()),
        "writes": None if written is None else sorted(written),
        "settings": {name: describe_value(value) for name, value in stage.settings().items()},
        "fingerprint": describe_value(stage.fingerprint()),
    }
    if isinstance(stage, ProcessingStage):
        described |= {"cardinality": stage.cardinality, "resources": stage.resources.to_dict()}
    return described
