"""Stages: settings, `.with_()`, what the engine calls, and eager use."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import attrs
import pytest

from curate import (
    AudioBatch,
    CompositeStage,
    Pipeline,
    ProcessingStage,
    RecordError,
    RecordStage,
    Reject,
    Resources,
)
from curate.composite import leaves, unique_names
from curate.records import Record
from curate.resolution import Resolved
from curate.run_time_options import RUN_TIME_OPTIONS
from curate.stage import Stage, called_method
from curate.stages import ReadRecords


@dataclass
class Recognise(ProcessingStage):
    model_name: str
    beam: int = 4
    language: str = "en"
    state: list[str] = field(default_factory=list[str], init=False)

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise ValueError(f"beam={self.beam} must be at least 1")
        self.state = [self.model_name]

    def process(self, batch: AudioBatch) -> AudioBatch:
        return batch


# with_


def test_own_fields_are_changed_through_the_class() -> None:
    before = Recognise("a")
    before.state.append("loaded")
    after = before.with_(model_name="b", beam=8)
    assert (after.model_name, after.beam, after.language) == ("b", 8, "en")
    assert after.state == ["b"]  # __post_init__ has run again
    assert (before.model_name, before.beam, before.state) == ("a", 4, ["a", "loaded"])


def test_validators_run_again() -> None:
    with pytest.raises(ValueError, match="beam=0 must be at least 1"):
        Recognise("a").with_(beam=0)


def test_run_time_options_are_kept_beside_the_fields_and_read_back() -> None:
    stage = Recognise("a").with_(workers=4, resources=Resources(gpus=1.0), batch_size=16, prefetch_batches=3)
    stage = stage.with_(beam=2).with_(timeout_s=5, retries=2, checkpoint=True, name="mine")
    assert (stage.workers, stage.resources, stage.batch_size) == (4, Resources(gpus=1.0), 16)
    assert (stage.prefetch_batches, stage.timeout_s, stage.retries, stage.checkpoint) == (3, 5.0, 2, True)
    assert (stage.name, stage.beam) == ("mine", 2)
    assert stage.overrides["workers"] == 4
    assert stage.settings() == {"model_name": "a", "beam": 2, "language": "en"}
    assert Recognise("a").workers is None
    assert Recognise("a").overrides == {}


def test_the_original_is_never_touched() -> None:
    before = Recognise("a").with_(workers=1)
    before.with_(workers=2, name="other")
    assert (before.workers, before.name, before.overrides) == (1, "recognise", {"workers": 1})


def test_an_unknown_option_is_a_type_error_with_the_nearest_name() -> None:
    with pytest.raises(TypeError, match="Recognise has no option 'model_nam': did you mean 'model_name'"):
        Recognise("a").with_(model_nam="b")
    with pytest.raises(TypeError, match="did you mean 'batch_size'"):
        Recognise("a").with_(batchsize=3)
    with pytest.raises(TypeError, match="choose from model_name, beam, language, name, batch_size"):
        Recognise("a").with_(zzz=3)


@pytest.mark.parametrize("name", ["device_id", "pipeline_parallel", "async_processing", "num_workers"])
def test_names_that_are_answered_differently_say_how(name: str) -> None:
    with pytest.raises(TypeError, match=rf"has no option '{name}': .*(workers|fuse)"):
        Recognise("a").with_(**{name: 1})


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 0},
        {"workers": 1.5},
        {"workers": True},
        {"batch_size": 0},
        {"batch_size": "16"},
        {"prefetch_batches": -1},
        {"timeout_s": 0},
        {"timeout_s": "1"},
        {"retries": -1},
        {"checkpoint": "no"},
        {"resources": 1},
        {"name": ""},
        {"name": "a/b"},
        {"name": "a b"},
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(ValueError, match=rf"Recognise.with_\({name}=…\)|name="):
        Recognise("a").with_(**changes)


def test_resources_may_be_given_as_yaml_gives_them() -> None:
    assert Recognise("a").with_(resources={"memory": "6.5GB"}).resources == Resources(memory="6.5GB")


def test_an_option_that_is_a_field_of_the_stage_is_changed_as_a_field() -> None:
    @dataclass
    class Batched(Recognise):
        batch_size: int = 8

        def __post_init__(self) -> None:
            super().__post_init__()
            self.half = self.batch_size // 2

    stage = Batched("a").with_(batch_size=32)
    assert (stage.batch_size, stage.half, stage.overrides) == (32, 16, {})


def test_attrs_classes_are_stages() -> None:
    @attrs.define
    class Limits(RecordStage):
        limit: int = attrs.field(validator=attrs.validators.ge(1))
        _hidden: int = attrs.field(default=3, alias="hidden", repr=False)

        def process_record(self, record: Record) -> Record:
            return record

    stage = Limits(5).with_(limit=7, hidden=4, workers=2)
    assert (stage.limit, stage._hidden, stage.workers) == (7, 4, 2)
    assert stage.settings() == {"limit": 7, "hidden": 4}
    assert stage.shown_settings() == {"limit": 7}
    with pytest.raises(ValueError, match="limit"):
        Limits(5).with_(limit=0)
    with pytest.raises(TypeError, match="did you mean 'limit'"):
        Limits(5).with_(limits=0)


def test_frozen_classes_are_stages() -> None:
    @dataclass(frozen=True)
    class Frozen(RecordStage):
        limit: int = 5

    @attrs.frozen
    class Solid(RecordStage):
        limit: int = 5

    for cls in (Frozen, Solid):
        stage = cls().with_(limit=7, workers=2)
        assert (stage.limit, stage.workers, stage.name) == (7, 2, cls.__name__.lower())


def test_a_class_without_fields_is_a_stage() -> None:
    class Plain(RecordStage):
        pass

    assert Plain().with_(workers=2).workers == 2
    assert Plain.workers is None


def test_a_subclass_adds_fields_and_keeps_state_of_its_own() -> None:
    @dataclass
    class Mine(Recognise):
        threshold: float = 0.5

        def __post_init__(self) -> None:
            super().__post_init__()
            self.seen = 0

        def process(self, batch: AudioBatch) -> AudioBatch:
            self.seen += len(batch)
            return super().process(batch)

    stage = Mine("a", threshold=0.7).with_(beam=2, resources=Resources(gpus=1.0))
    stage.process(AudioBatch([{"x": 1}]))
    assert (stage.threshold, stage.beam, stage.seen, stage.state) == (0.7, 2, 1, ["a"])
    assert stage.with_(beam=3).seen == 0


@pytest.mark.parametrize(
    ("class_name", "expected"),
    [
        ("InferenceAsrStage", "inference_asr"),
        ("WordErrorRate", "word_error_rate"),
        ("_Hidden", "hidden"),
        ("ASR", "asr"),
    ],
)
def test_a_stage_is_named_after_its_class(class_name: str, expected: str) -> None:
    assert type(class_name, (Stage,), {}).name == expected


def test_a_name_may_be_given_by_the_class() -> None:
    class Mine(Stage):
        name = "other"

    @dataclass
    class Named(Stage):
        name: str = "field"

    assert (Mine().name, Named().name, Named().with_(name="x").name) == ("other", "field", "x")


# Composite stages.


@dataclass
class Both(CompositeStage):
    beam: int = 1

    def decompose(self) -> Sequence[Stage]:
        return [Recognise("a", beam=self.beam), Recognise("b", beam=self.beam).with_(workers=7)]


def test_a_composite_hands_its_run_time_options_to_its_parts() -> None:
    first, second = Both(beam=3).with_(workers=2, name="pair").parts()
    assert (first.name, second.name) == ("pair.recognise", "pair.recognise-2")
    assert (first.workers, second.workers, first.beam) == (2, 2, 3)  # pyright: ignore
    assert [part.workers for part in Both().parts()] == [None, 7]


@dataclass
class Nested(CompositeStage):
    def decompose(self) -> Sequence[Stage]:
        return [Both(), Recognise("c")]


def test_one_part_of_a_composite_is_changed_and_the_others_are_not() -> None:
    both = Both(beam=3).with_(workers=2)
    changed = both.with_(parts={"recognise-2": {"batch_size": 32, "beam": 5}}).with_(
        parts={"recognise-2": {"workers": 9}}, name="pair"
    )
    first, second = changed.parts()
    assert (first.batch_size, first.workers, first.settings()["beam"]) == (Recognise("a").batch_size, 2, 3)
    assert (second.batch_size, second.workers, second.settings()["beam"]) == (32, 9, 5)
    assert (second.name, [part.batch_size for part in both.parts()]) == ("pair.recognise-2", [1, 1])


def test_a_part_of_a_part_is_changed_through_its_composite() -> None:
    changed = Nested().with_(parts={"both": {"retries": 2, "parts": {"recognise": {"retries": 5}}}})
    assert [part.name for one in changed.parts() for part in leaves(one)] == [
        "nested.both.recognise",
        "nested.both.recognise-2",
        "nested.recognise",
    ]
    assert [part.retries for one in changed.parts() for part in leaves(one)] == [5, 2, 0]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"recogniser": {}}, "Both has no part 'recogniser': did you mean 'recognise'"),
        ({"recognise": {"beem": 1}}, "Recognise has no option 'beem': did you mean 'beam'"),
        ({"recognise": {"parts": {}}}, "Recognise has no option 'parts'"),
        ({"recognise": {"name": "x"}}, "the part 'recognise' keeps its name"),
        ({"recognise": 3}, "'recognise' must be a mapping, not 3"),
        (["recognise"], "takes a mapping, part → settings"),
    ],
)
def test_a_change_that_no_part_takes_is_refused_where_it_is_written(parts: Any, says: str) -> None:
    with pytest.raises(TypeError, match=re.escape(says)):
        Both().with_(parts=parts)


def test_a_value_that_a_part_refuses_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"Recognise\.with_\(workers=…\): 0 is not a whole number"):
        Both().with_(parts={"recognise": {"workers": 0}})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a-2", "a-3"]),
        (["a", "a", "a-2"], ["a", "a-3", "a-2"]),
        (["a-2", "a", "a"], ["a-2", "a", "a-3"]),
    ],
)
def test_equal_names_are_numbered_past_those_that_are_taken(names: list[str], expected: list[str]) -> None:
    assert unique_names(names) == expected


# Run-time options.


@attrs.define
class Slotted(ProcessingStage):
    limit: int = 3

    def process(self, batch: AudioBatch) -> AudioBatch:
        return batch


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda stage: pickle.loads(pickle.dumps(stage, 5))])
@pytest.mark.parametrize("kind", [Slotted, Recognise])
def test_copies_for_workers_keep_the_run_time_options(copied: Any, kind: Any) -> None:
    stage = (kind() if kind is Slotted else kind("a")).with_(batch_size=7, name="other", resources=Resources(cpus=2))
    other = copied(stage.with_resolved(limit=Resolved("x")))
    assert (other.batch_size, other.name, other.resources.cpus) == (7, "other", 2.0)
    assert other.overrides == stage.overrides
    assert other.resolved == {"limit": Resolved("x")}
    assert other.settings() == stage.settings()


def test_every_run_time_option_is_an_attribute_with_its_default() -> None:
    assert {name: getattr(Stage, name) for name in RUN_TIME_OPTIONS} == {
        name: option.default for name, option in RUN_TIME_OPTIONS.items()
    }
    annotated = {name for name in Stage.__annotations__ if not name.startswith("_")} - {"tuning"}
    assert annotated == set(RUN_TIME_OPTIONS)


# Which method the engine calls.


class Streaming(ProcessingStage):
    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        yield batch


class ByRecord(RecordStage):
    def process_record(self, record: Record) -> Record:
        return record


class Nothing(ProcessingStage):
    pass


def test_the_most_derived_class_decides_what_is_called() -> None:
    class Overrides(Streaming):
        def process(self, batch: AudioBatch) -> AudioBatch:
            return batch

    class StreamsAgain(Overrides):
        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            yield batch

    class TakesBatches(ByRecord):
        def process(self, batch: AudioBatch) -> AudioBatch:
            return batch

    class StreamsRecords(ByRecord):
        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            yield batch

    class Inherits(StreamsRecords):
        pass

    called = {
        Streaming: "stream",
        Overrides: "process",
        StreamsAgain: "stream",
        ByRecord: "process_record",
        TakesBatches: "process",
        StreamsRecords: "stream",
        Inherits: "stream",
        Nothing: None,
    }
    assert {cls: called_method(cls()) for cls in called} == called


def test_where_one_class_defines_several_methods_stream_goes_before_process_before_process_record() -> None:
    def method(*_: Any) -> Any: ...

    both = type("Both", (ProcessingStage,), {"stream": method, "process": method})
    assert called_method(both()) == "stream"
    by_hand = type("ByHand", (RecordStage,), {"process": method, "process_record": method})
    assert called_method(by_hand()) == "process"


def test_a_mixin_counts_by_its_place() -> None:
    class Mixin:
        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            yield batch

    class First(Mixin, ByRecord):
        pass

    class Last(ByRecord, Mixin):
        pass

    assert called_method(First()) == "stream"
    assert called_method(Last()) == "process_record"


# Eager use.


def upper(batch: AudioBatch) -> list[str]:
    return [record["text"].upper() for record in batch.data]


class Backwards(ProcessingStage):
    """Streams records one by one, the last first, as copies."""

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        for record in reversed(batch.data):
            if record["text"] == "bad":
                batch.fail(record, RecordError("empty_text", "bad"))
            elif record["text"] == "no":
                batch.reject(record, "no")
            else:
                yield batch.with_data([{**record, "upper": record["text"].upper()}])


@pytest.mark.parametrize("with_id", [False, True])
def test_process_of_a_streaming_stage_returns_the_batchs_order(with_id: bool) -> None:
    data: list[Record] = [{"text": text} for text in ("a", "bad", "b", "no", "c")]
    if with_id:
        data = [{"_id": f"x:{number}", **record} for number, record in enumerate(data)]
    before = [dict(record) for record in data]
    batch = AudioBatch(data, task_id="t")
    result = Backwards().process(batch)
    assert isinstance(result, AudioBatch)
    assert [record["upper"] for record in result.data] == ["A", "B", "C"]
    assert [("_id" in record) for record in result.data] == [with_id] * 3
    assert [note.record["text"] for note in result.failed] == ["bad"]
    assert [note.record["text"] for note in result.rejected] == ["no"]
    assert data == before
    assert result.task_id == "t"
    assert (batch.rejected, batch.failed) == ([], [])


@dataclass
class Loads(RecordStage):
    """Has a resource after `setup()` that cannot be copied, and counts its calls."""

    factor: int = 2

    def __post_init__(self) -> None:
        self.calls = 0

    def setup(self) -> None:
        self.lock = threading.Lock()

    def process_record(self, record: Record) -> Record:
        with self.lock:
            self.calls += 1
            return {**record, "x": self.factor * record["x"], "calls": self.calls}


class LoadsWithoutFields(Loads):
    """Not a dataclass of its own."""


class LoadsPlainly(RecordStage):
    """Is no dataclass at all."""

    def setup(self) -> None:
        self.lock = threading.Lock()

    def process_record(self, record: Record) -> Record:
        with self.lock:
            return {**record, "x": 2 * record["x"]}


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
@pytest.mark.parametrize("cls", [Loads, LoadsWithoutFields, LoadsPlainly])
def test_a_stage_that_was_used_by_itself_goes_into_a_pipeline_as_it_is(cls: type[RecordStage], executor: str) -> None:
    stage = cls().with_(name="loads", retries=1)
    stage.setup()
    eager = stage.process(AudioBatch([{"x": 3}]))
    assert isinstance(eager, AudioBatch)
    result = Pipeline("notebook", [ReadRecords([{"x": 3}, {"x": 4}]), stage]).run(executor=executor)
    (first, second) = result.records()
    assert (first["x"], second["x"], eager.data[0]["x"]) == (6, 8, 6)
    assert first.get("calls") == eager.data[0].get("calls"), "the copy begins anew"
    planned = Pipeline("notebook", [ReadRecords([{"x": 3}]), stage]).plan().stages[1].stage
    assert (planned.name, planned.retries) == ("loads", 1)
    assert stage.process(AudioBatch([{"x": 5}])).data[0]["x"] == 10, "the original still works"


def test_some_records_may_have_ids_and_others_not() -> None:
    result = Backwards().process(AudioBatch([{"text": "a"}, {"_id": "mine", "text": "b"}]))
    assert isinstance(result, AudioBatch)
    assert result.data == [{"text": "a", "upper": "A"}, {"_id": "mine", "text": "b", "upper": "B"}]


def test_a_stream_that_raises_takes_its_lent_ids_back() -> None:
    class Raises(ProcessingStage):
        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            yield batch.with_data(batch.data[:1])
            raise ValueError("no")

    batch = AudioBatch([{"x": 1}, {"x": 2}])
    with pytest.raises(ValueError, match="no"):
        Raises().process(batch)
    assert batch.data == [{"x": 1}, {"x": 2}]


def test_a_stream_may_yield_the_batch_itself() -> None:
    assert Streaming().process(AudioBatch([{"x": 1}])).data == [{"x": 1}]  # pyright: ignore


def test_a_subclass_may_call_the_process_of_a_streaming_stage() -> None:
    class Mine(Backwards):
        def process(self, batch: AudioBatch) -> AudioBatch:
            result = super().process(batch)
            assert isinstance(result, AudioBatch)
            for record in result.data:
                record["mine"] = True
            return result

    assert [record["mine"] for record in Mine().process(AudioBatch([{"text": "a"}])).data] == [True]


def test_process_of_a_record_stage_returns_all_records() -> None:
    class Judges(RecordStage):
        cardinality = "filters"

        def process_record(self, record: Record) -> Record | Reject | None:
            if record["x"] == 2:
                raise RecordError("bad_value", "2")
            return {1: record, 3: Reject("three"), 4: None}[record["x"]]

    result = Judges().process(AudioBatch([{"x": x} for x in (1, 2, 3, 4)]))
    assert isinstance(result, AudioBatch)
    assert result.data == [{"x": 1}]
    assert [(note.record["x"], note.reason) for note in result.rejected] == [(3, "three")]
    assert [(note.record["x"], note.error.code) for note in result.failed] == [(2, "bad_value")]


def test_a_stage_that_defines_nothing_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match=r"Nothing must define process\(batch\) or stream\(batch\)"):
        Nothing().process(AudioBatch())


# Batches.


def test_a_batch_takes_one_record_or_any_iterable_of_records() -> None:
    assert AudioBatch({"x": 1}).data == [{"x": 1}]  # pyright: ignore
    assert AudioBatch(iter([{"x": 1}])).data == [{"x": 1}]  # pyright: ignore
    assert len(AudioBatch()) == 0
    assert AudioBatch(data=[], filepath_key="p", task_id="t", dataset_name="d").filepath_key == "p"


def test_a_batch_holds_dicts_only() -> None:
    with pytest.raises(TypeError, match="a record must be a plain dict, not str"):
        AudioBatch(["audio.wav"])  # pyright: ignore


def test_announcing_outside_a_run_does_nothing() -> None:
    ProcessingStage().context.announce([{"x": 1}])


def test_a_record_error_needs_a_known_code() -> None:
    assert RecordError("my-plugin/odd", "x").code == "my-plugin/odd"
    with pytest.raises(ValueError, match="unknown record error code 'odd': use one of bad_json"):
        RecordError("odd", "x")


def test_stages_have_no_fields_of_their_own() -> None:
    assert not dataclasses.is_dataclass(ProcessingStage)
    assert not attrs.has(ProcessingStage)
