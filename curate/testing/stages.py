"""The contract of a stage, as tests that its author inherits.

class TestSpeakingRate(StageContract):
    def stage(self):
        return SpeakingRate()

    def records(self, folder):
        return [{"audio_filepath": str(write_tone(folder / "a.wav")), "duration": 1.0, "text": "one two"}]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import cloudpickle

from curate.fingerprint import describe_value
from curate.pipeline import Pipeline
from curate.plugin import PluginHost
from curate.records import ID, Record
from curate.stage import ProcessingStage
from curate.stages import Partition, ReadRecords


class StageContract:
    """Tests of one stage over a few records. Derive from it, name the class `Test…`, and define the two methods."""

    _outcomes: ClassVar[dict[int, _Outcome]]
    _given: ClassVar[Sequence[Record]]

    def stage(self) -> ProcessingStage:
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
        assert stage.cardinality in ("maps", "filters", "splits"), f"cardinality is {stage.cardinality!r}"

    def test_it_can_be_sent_to_a_worker(self) -> None:
        """Workers get pickled copies, before `setup`."""
        stage = self.stage()
        pickler: Any = cloudpickle  # it has no type stubs
        copy: ProcessingStage = pickler.loads(pickler.dumps(stage))
        assert _description(copy) == _description(stage), "a pickled copy of the stage is another one"

    def test_with_leaves_the_original_alone(self) -> None:
        """`.with_()` returns a copy."""
        stage = self.stage()
        before = _description(stage)
        changed = stage.with_(name="another-name", batch_size=7)
        assert changed is not stage
        assert (changed.name, changed.batch_size) == ("another-name", 7)
        assert _description(stage) == before, "with_() has changed the stage that it was called on"

    def test_no_record_is_lost_repeated_or_invented(self, tmp_path: Path) -> None:
        """Ids come out as the stage's cardinality says; otherwise the engine blames the stage."""
        outcome = self._outcome(tmp_path)
        broken = [(identity, code) for identity, code in outcome.quarantined if code.startswith("contract_")]
        assert not broken, f"the stage declares cardinality {self.stage().cardinality!r}, and breaks it for {broken}"
        assert len(set(outcome.ids)) == len(outcome.ids), f"an id comes out twice: {outcome.ids}"

    def test_every_record_is_accounted_for(self, tmp_path: Path) -> None:
        """In + children = kept + filtered + quarantined + split parents."""
        counts = self._outcome(tmp_path).counts
        into = counts["records_in"] + counts["children"]
        out = counts["kept"] + counts["filtered"] + counts["quarantined"] + counts["split_parents"]
        assert into == out, f"the books do not balance: {counts}"
        assert counts["records_in"] == len(self._records(tmp_path)) >= 2, "give the contract at least two records"

    def test_the_batch_makes_no_difference(self, tmp_path: Path) -> None:
        """The result of a record is the same whether it travels alone or with all others."""
        alone, together = self._outcome(tmp_path, max_records=1), self._outcome(tmp_path)
        assert alone == together, f"one at a time the stage gives\n{alone}\nand all at once\n{together}"

    def test_another_worker_comes_to_the_same(self, tmp_path: Path) -> None:
        """A result depends on the record and the settings, and not on state that is left from before."""
        first, second = self._outcome(tmp_path), self._run(self._records(tmp_path))
        assert first == second, f"the first time the stage gives\n{first}\nand the second time\n{second}"

    def test_it_writes_no_more_than_it_says(self, tmp_path: Path) -> None:
        """Columns that are added stand in `writes()`, unless it returns None."""
        written = self.stage().writes()
        if written is None:
            import pytest  # here, because workers import this package as well

            pytest.skip("writes() is None: the stage does not declare what it writes")
        there = {name for record in self._records(tmp_path) for name in record} | {ID}
        added = {name for row in self._outcome(tmp_path).kept for name in row} - there
        assert added <= set(written), f"writes() leaves out {sorted(added - set(written))}"

    def test_the_columns_that_it_reads_are_enough(self, tmp_path: Path) -> None:
        """A record with no more than the columns of `reads()` fails no more than one with all of them."""
        needed = set(self.stage().reads()) | {"duration"}
        bare = [{name: value for name, value in record.items() if name in needed} for record in self._records(tmp_path)]
        assert self._run(bare).quarantined == self._outcome(tmp_path).quarantined, (
            f"reads() says {sorted(self.stage().reads())}, and with these alone other records fail"
        )

    def _outcome(self, folder: Path, *, max_records: int = 1_000_000) -> _Outcome:
        """Return the outcome of the stage's records; each is found out once for all tests of the class."""
        cls = type(self)
        known: dict[int, _Outcome] = vars(cls).get("_outcomes") or {}
        cls._outcomes = known
        if max_records not in known:
            known[max_records] = self._run(self._records(folder), max_records=max_records)
        return known[max_records]

    def _records(self, folder: Path) -> Sequence[Record]:
        """Return the records, with their audio in the folder of the first test that asked."""
        cls = type(self)
        if "_given" not in vars(cls):
            cls._given = [dict(record) for record in self.records(folder)]
        return [dict(record) for record in self._given]

    def _run(self, given: Sequence[Record], *, max_records: int = 1_000_000) -> _Outcome:
        stages = [ReadRecords(list(given)), Partition(max_records=max_records), self.stage()]
        pipeline = Pipeline("contract", stages)
        result = pipeline.run(host=PluginHost(environment={"CURATE_PLUGINS": ""}))
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


def _description(stage: ProcessingStage) -> dict[str, Any]:
    """Return everything that a plan asks a stage for."""
    written = stage.writes()
    return {
        "name": stage.name,
        "reads": sorted(stage.reads()),
        "writes": None if written is None else sorted(written),
        "cardinality": stage.cardinality,
        "resources": stage.resources.to_dict(),
        "settings": {name: describe_value(value) for name, value in stage.settings().items()},
        "fingerprint": describe_value(stage.fingerprint()),
    }
