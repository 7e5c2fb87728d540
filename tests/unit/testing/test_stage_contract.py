"""The contract for authors of stages: ours keep it, and each way to break it is caught by its own test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from curate import AudioBatch, ProcessingStage, RecordError, RecordStage, Reject
from curate.stages import AudioDuration, CharacterErrorRate, QualityFilter, WordErrorRate
from curate.testing import AudioStageContract, StageContract, assert_plugin_is_light, write_broken, write_tone
from tests.unit.engine.hearing import Halves, Level

ROWS = [{"duration": 1.0, "text": "one two", "pred_text": "one too", "wer": n / 10, "n": n} for n in range(6)]


class TestWordErrorRate(StageContract):
    def stage(self) -> ProcessingStage:
        return WordErrorRate()

    def records(self, folder: Path) -> Sequence[dict[str, Any]]:
        return [*ROWS, {"text": "", "pred_text": "x", "duration": 1.0}]


class TestCharacterErrorRate(StageContract):
    def stage(self) -> ProcessingStage:
        return CharacterErrorRate(normaliser="none")

    def records(self, folder: Path) -> Sequence[dict[str, Any]]:
        return ROWS


class TestQualityFilter(StageContract):
    def stage(self) -> ProcessingStage:
        return QualityFilter("wer < 0.3 and duration > 0.5")

    def records(self, folder: Path) -> Sequence[dict[str, Any]]:
        return [*ROWS, {"duration": 1.0, "wer": None}]


class TestAudioDuration(AudioStageContract):
    def stage(self) -> ProcessingStage:
        return AudioDuration()

    def records(self, folder: Path) -> Sequence[dict[str, Any]]:
        good, broken = write_tone(folder / "good.wav", 0.5), write_broken(folder / "broken.wav")
        return [{"audio_filepath": str(path)} for path in (good, broken, folder / "gone.wav")]


class TestHalves(AudioStageContract):
    def stage(self) -> ProcessingStage:
        return Halves()

    def records(self, folder: Path) -> Sequence[dict[str, Any]]:
        good, broken = write_tone(folder / "good.wav", 0.5), write_broken(folder / "broken.wav")
        return [{"audio_filepath": str(path)} for path in (good, broken)]


class Forgets(Level):
    """Gives another result whenever it is called."""

    def process_audio(self, record: dict[str, Any], audio: Any) -> dict[str, Any]:
        self.calls = getattr(self, "calls", 0) + int(self.context.audio_memory_bytes == 0)
        return {**record, "level": self.calls}


def test_a_stage_that_depends_on_how_audio_is_shared_breaks_the_contract(tmp_path: Path) -> None:
    class Contract(AudioStageContract):
        def stage(self) -> ProcessingStage:
            return Forgets()

        def records(self, folder: Path) -> Sequence[dict[str, Any]]:
            return [{"audio_filepath": str(write_tone(folder / f"{n}.wav", 0.1)), "number": n} for n in range(2)]

    Contract().test_each_recording_is_decoded_once()
    with pytest.raises(AssertionError, match="audio_memory=0"):
        Contract().test_sharing_audio_makes_no_difference()


@dataclass
class Fine(RecordStage):
    """Keeps the contract; the others here each break it in one way."""

    most: int = 3
    cardinality = "filters"

    def reads(self) -> tuple[str, ...]:
        return ("n",)

    def writes(self) -> tuple[str, ...] | None:
        return ("doubled",)

    def process_record(self, record: dict[str, Any]) -> dict[str, Any] | Reject:
        record["doubled"] = 2 * record["n"]
        return record if record["n"] <= self.most else Reject("n is too large")


class Restless(Fine):
    def reads(self) -> tuple[str, ...]:
        self.looked = getattr(self, "looked", 0) + 1
        return ("n", f"looked-{self.looked}")


class Unpicklable(Fine):
    def __getstate__(self) -> Any:
        raise TypeError("not I")


@dataclass
class Wandering(Fine):
    made: int = field(default_factory=itertools.count().__next__)


class Loses(Fine):
    cardinality = "maps"

    def process_record(self, record: dict[str, Any]) -> Any:
        return None if record["n"] == 2 else record


class Greedy(ProcessingStage):
    def writes(self) -> tuple[str, ...]:
        return ("count",)

    def process(self, batch: AudioBatch) -> AudioBatch:
        for record in batch.data:
            record["count"] = len(batch.data)
        return batch


class Remembers(Fine):
    seen: list[int] = []  # noqa: RUF012 (that it is shared is the mistake)

    def process_record(self, record: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(record["n"])
        record["doubled"] = len(self.seen)
        return record


class Secretive(Fine):
    def process_record(self, record: dict[str, Any]) -> dict[str, Any]:
        record["hidden"] = 1
        return record


class Nosy(Fine):
    def process_record(self, record: dict[str, Any]) -> dict[str, Any]:
        if "text" not in record:
            raise RecordError("missing_column", "I wanted a text")
        return record


class Sticky(Fine):
    def with_(self, **changes: Any) -> Any:
        for name, value in changes.items():
            object.__setattr__(self, name, value)
        return self


def contract(make: Callable[[], ProcessingStage]) -> StageContract:
    class Contract(StageContract):
        def stage(self) -> ProcessingStage:
            return make()

        def records(self, folder: Path) -> Sequence[dict[str, Any]]:
            return ROWS

    return Contract()


def failing(contract: StageContract, folder: Path) -> set[str]:
    failed: set[str] = set()
    for name in dir(contract):
        if name.startswith("test_"):
            test = getattr(contract, name)
            try:
                test(folder) if test.__code__.co_argcount == 2 else test()
            except Exception:  # noqa: BLE001 (which test fails is what is asked)
                failed.add(name)
    return failed


def test_a_stage_that_keeps_the_contract_passes(tmp_path: Path) -> None:
    assert failing(contract(Fine), tmp_path) == set()


@pytest.mark.parametrize(
    ("stage", "test"),
    [
        (Restless, "test_describing_it_changes_nothing"),
        (Wandering, "test_describing_it_changes_nothing"),
        (Unpicklable, "test_it_can_be_sent_to_a_worker"),
        (Sticky, "test_with_leaves_the_original_alone"),
        (Loses, "test_no_record_is_lost_repeated_or_invented"),
        (Greedy, "test_the_batch_makes_no_difference"),
        (Remembers, "test_another_worker_gives_the_same_result"),
        (Secretive, "test_it_writes_no_more_than_it_says"),
        (Nosy, "test_the_columns_that_it_reads_are_enough"),
    ],
)
def test_each_way_to_break_it_is_caught(stage: Callable[[], ProcessingStage], test: str, tmp_path: Path) -> None:
    assert test in failing(contract(stage), tmp_path)


def test_what_is_not_defined_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match=r"must define stage\(\)"):
        StageContract().test_describing_it_changes_nothing()


def test_a_light_plugin_passes_and_a_heavy_one_is_told_what_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_plugin_is_light("curate.plugin.builtin")
    (tmp_path / "heavy_plugin.py").write_text("import soundfile\n")
    (tmp_path / "lazy_plugin.py").write_text("def curate_stages():\n    import numpy\n    return []\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(AssertionError, match=r"heavy_plugin imports .*soundfile"):
        assert_plugin_is_light("heavy_plugin")
    with pytest.raises(AssertionError, match="lazy_plugin imports numpy"):
        assert_plugin_is_light("lazy_plugin")
    with pytest.raises(AssertionError, match="cannot be imported"):
        assert_plugin_is_light("no_such_plugin")
