"""Plans: mistakes are found before work starts, and the fingerprint covers what changes results."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from curate import (
    AudioBatch,
    CompositeStage,
    Gather,
    Pipeline,
    ProcessingStage,
    RecordStage,
    Resources,
    Writer,
    processing_stage,
)
from curate.errors import PlanError, PluginError
from curate.missing_column import WRITERS
from curate.plan import Plan, make_plan
from curate.plugin import current_host
from curate.records import Record, RecordReader
from curate.resolution import Resolved
from curate.stage import Stage
from curate.stages import Merge, Partition, QualityFilter, ReadManifest, ReadRecords

READ = ReadRecords([{"x": 1, "duration": 1.0}])


def step(name: str, reads: Sequence[str] = (), writes: Sequence[str] | None = (), **options: Any) -> Any:
    @processing_stage(name=name, reads=reads, writes=writes, **options)
    def function(record: dict) -> dict:
        return record

    return function


class Shuffle(Gather):
    def gather(self, records: Iterator[Record]) -> Iterator[Record]:
        return records

    def writes(self) -> Sequence[str]:
        return ()


def plan(*stages: Stage) -> Plan:
    return Pipeline("p", stages).plan()


def refused(message: str, *stages: Stage) -> None:
    with pytest.raises(PlanError, match=message):
        plan(*stages)


# Columns.


def test_columns_are_followed_through_the_stages() -> None:
    made = plan(READ, step("a", ["x"], ["y"]), step("b", ["y"], ["z"]), Merge("o.jsonl"))
    assert [sorted(stage.columns or ()) for stage in made.stages] == [
        ["duration", "x"],
        ["duration", "x", "y"],
        ["duration", "x", "y", "z"],
        ["duration", "x", "y", "z"],
    ]


def test_a_column_that_nobody_writes_is_named_with_its_stage() -> None:
    refused(
        "stage 'b' reads column 'words', which no earlier stage writes; 'a' hands on duration, x, y",
        READ,
        step("a", [], ["y"]),
        step("b", ["words"]),
        step("c", [], ["words"]),
    )


@pytest.mark.parametrize(("column", "writer"), sorted(WRITERS.items()))
def test_stage_that_the_error_names_writes_the_missing_column(column: str, writer: str) -> None:
    made = current_host().stage(writer).load()
    options = {"recogniser": "nemo", "options": {"model_name": "m.nemo"}} if writer == "asr" else {}
    assert column in made(**options).writes()
    read = ReadRecords([{"x": 1}])
    refused(f"no earlier stage writes; the stage {writer} writes it", read, step("b", [column]))


def test_after_a_stage_that_does_not_say_what_it_writes_every_column_may_be_there() -> None:
    made = plan(READ, step("a", [], None), step("b", ["anything"], ["y"]))
    assert [stage.columns for stage in made.stages][1:] == [None, None]


def test_columns_are_followed_through_phases() -> None:
    refused("reads column 'y'", READ, step("a", checkpoint=True), Shuffle(), Partition(), step("b", ["y"]))


def test_columns_are_declared_as_a_list() -> None:
    class Text(RecordStage):
        def reads(self) -> str:
            return "x"

        def process_record(self, record: Record) -> Record:
            return record

    refused(r"stage 'text': reads\(\) returns the string 'x'; return a list", READ, Text())


# Hops and phases.


def layout(made: Plan) -> list[list[list[str]]]:
    return [[[stage.name for stage in hop.stages] for hop in phase.hops] for phase in made.phases]


def test_neighbours_with_equal_resources_are_fused() -> None:
    gpu = Resources(gpus=1)
    made = plan(READ, step("a"), step("b"), step("c", resources=gpu), step("d", resources=gpu), step("e"))
    assert layout(made) == [[["a", "b"], ["c", "d"], ["e"]]]
    assert [hop.name for hop in made.phases[0].hops] == ["a+b", "c+d", "e"]


def test_stages_with_other_numbers_of_workers_are_not_fused() -> None:
    assert layout(plan(READ, step("a", workers=2), step("b", workers=2), step("c"))) == [[["a", "b"], ["c"]]]


def test_a_checkpoint_ends_a_phase() -> None:
    made = plan(READ, step("a", checkpoint=True), step("b"))
    assert layout(made) == [[["a"]], [["b"]]]
    assert [phase.number for phase in made.phases] == [0, 1]


def test_a_checkpoint_at_the_end_needs_no_phase_behind_it() -> None:
    made = plan(READ, step("a", checkpoint=True), Merge("o.jsonl"))
    assert [[stage.name for stage in phase.stages()] for phase in made.phases] == [["read_records", "a", "merge"]]


def phases(*stages: Stage) -> list[list[str]]:
    return [[stage.name for stage in phase.stages()] for phase in plan(*stages).phases]


def test_a_gather_begins_a_phase() -> None:
    assert phases(READ, step("a"), Shuffle(), step("b")) == [["read_records", "a"], ["shuffle", "b"]]


def test_a_gather_and_the_partitioner_behind_it_are_one_phase() -> None:
    assert phases(READ, step("a"), Shuffle(), Partition(), step("b")) == [
        ["read_records", "a"],
        ["shuffle", "partition", "b"],
    ]


def test_a_partitioner_in_mid_pipeline_begins_a_phase() -> None:
    assert phases(READ, Partition(), step("a"), Partition(), step("b")) == [
        ["read_records", "partition", "a"],
        ["partition-2", "b"],
    ]


def test_what_follows_a_writer_is_another_phase() -> None:
    assert phases(READ, step("a"), Merge("a.jsonl"), Merge("b.jsonl"), step("b")) == [
        ["read_records", "a", "merge", "merge-2"],
        ["b"],
    ]


# Order and kinds.


def test_a_pipeline_has_stages() -> None:
    refused("pipeline 'p' has no stages: add some with .add_stage")


def test_a_pipeline_begins_with_a_source() -> None:
    refused("begins with 'a', which is not a source: begin with", step("a"))


def test_there_is_one_source() -> None:
    refused("stage 'read_records-2' is a source, and a source comes first; merge the inputs", READ, READ)


def test_a_bare_stage_is_no_kind() -> None:
    class Odd(Stage):
        pass

    refused("stage 'odd': .*Odd is none of Source, Partitioner", READ, Odd())


def test_a_stage_must_define_its_work() -> None:
    class Lazy(ProcessingStage):
        pass

    refused("stage 'lazy': .*Lazy defines none of process, stream, process_record", READ, Lazy())


def test_a_misspelt_cardinality_is_found() -> None:
    class Sieve(RecordStage):
        cardinality = "filter"  # pyright: ignore

        def process_record(self, record: Record) -> Record:
            return record

    refused("stage 'sieve': cardinality='filter' is none of maps, filters, splits", READ, Sieve())


def test_an_init_of_its_own_is_refused() -> None:
    class Sneaky(RecordStage):
        def __init__(self, limit: int) -> None:
            self.limit = limit

        def process_record(self, record: Record) -> Record:
            return record

    class Child(Sneaky):
        pass

    refused("stage 'child': .*Sneaky has an __init__ of its own, so its settings cannot be seen", READ, Child(3))


@pytest.mark.parametrize(("option", "value"), [("batch_size", 0), ("workers", "2"), ("resources", {}), ("name", "a b")])
def test_run_time_options_that_a_class_sets_are_checked(option: str, value: Any) -> None:
    cls = type("Odd", (RecordStage,), {option: value, "process_record": lambda self, record: record})
    refused(rf"{option}", READ, cls())


def test_a_stages_own_check_is_asked_and_named() -> None:
    @dataclass
    class Picky(RecordStage):
        def check(self) -> None:
            raise PlanError("the moon is wrong")

        def process_record(self, record: Record) -> Record:
            return record

    refused("stage 'picky': the moon is wrong", READ, Picky())

    class Both(CompositeStage):
        def decompose(self) -> Sequence[Stage]:
            return [Picky()]

    refused("stage 'both.picky': the moon is wrong", READ, Both())


# Names and composites.


def test_names_are_made_unique() -> None:
    made = plan(READ, step("a"), step("a-2"), step("a"), step("a"))
    assert [stage.name for stage in made.stages] == ["read_records", "a", "a-2", "a-3", "a-4"]
    assert [stage.stage.name for stage in made.stages] == ["read_records", "a", "a-2", "a-3", "a-4"]
    assert len(made.settings) == 5


class Alike(CompositeStage):
    def decompose(self) -> Sequence[Stage]:
        return [step("a"), step("a")]


class Endless(CompositeStage):
    def decompose(self) -> Sequence[Stage]:
        return [step("a"), Endless(), Endless()]


class Broken(CompositeStage):
    def decompose(self) -> Sequence[Stage]:
        raise ValueError("no parts")


def test_parts_of_equal_composites_and_names_are_numbered_where_they_are_equal() -> None:
    made = plan(READ, Alike(), Alike())
    assert [stage.name for stage in made.stages][1:] == ["alike.a", "alike.a-2", "alike-2.a", "alike-2.a-2"]


def test_a_name_that_a_part_has_already_is_numbered() -> None:
    assert [stage.name for stage in plan(READ, step("alike.a"), Alike()).stages][1:] == [
        "alike.a",
        "alike.a-3",
        "alike.a-2",
    ]


def test_a_composite_that_contains_itself_is_a_plan_error() -> None:
    refused(r"stage 'endless': Endless contains itself; change what decompose\(\) returns", READ, Endless())
    with pytest.raises(PlanError, match="Endless contains itself"):
        Pipeline("p", [READ, Endless()]).describe()


def test_a_composite_that_cannot_be_decomposed_is_named() -> None:
    refused(r"stage 'broken': decompose\(\) raised ValueError: no parts", READ, Broken())


def test_a_part_that_vanished_after_it_was_changed_is_named() -> None:
    @dataclass
    class Optional(CompositeStage):
        short: bool = False

        def decompose(self) -> Sequence[Stage]:
            return [step("a")] if self.short else [step("a"), step("b")]

    changed = Optional().with_(parts={"b": {"retries": 1}})
    assert plan(READ, changed).stages[2].stage.retries == 1
    message = r"stage 'optional': decompose\(\) raised TypeError: Optional has no part 'b'"
    refused(message, READ, changed.with_(short=True))


# Names in settings.


class Names:
    """Stands for the plugin host, and counts how often it is asked."""

    asked = 0

    def recogniser(self, name: str) -> Any:
        raise PluginError(f"unknown recogniser {name!r}")

    def normaliser(self, name: str) -> Any:
        self.asked += 1
        return self

    def voice_detector(self, name: str) -> Any:
        raise PluginError(f"unknown voice detector {name!r}")

    def audio_engine(self, stage: str, name: str) -> Any:
        raise PluginError(f"unknown audio engine {name!r}")

    distribution = "pytest"

    def load(self) -> Any:
        return str.upper


@dataclass
class Named(ProcessingStage):
    rule: str = "upper"
    length: int = 1

    def resolve(self, host: Any) -> Any:
        found = host.normaliser(self.rule)
        return self.with_resolved(rule=Resolved(found.load(), found.distribution))

    def process(self, batch: AudioBatch) -> AudioBatch:
        return batch


def test_names_are_resolved_once_and_kept_until_their_setting_changes() -> None:
    host = Names()
    original = Named()
    made = make_plan("p", [READ, original], host=host)
    stage = made.stages[1].stage

    assert (host.asked, original.resolved) == (1, {})
    assert stage.resolved == {"rule": Resolved(str.upper, "pytest")}
    assert stage.with_(length=2, workers=3).resolved == stage.resolved
    assert stage.with_(rule="lower").resolved == {}
    assert copy.deepcopy(stage).resolved == stage.resolved


def test_a_name_that_is_not_known_is_an_error_of_its_stage() -> None:
    class Asks(Named):
        def resolve(self, host: Any) -> Any:
            return host.recogniser("ears")

    with pytest.raises(PlanError, match="stage 'asks': unknown recogniser 'ears'") as caught:
        make_plan("p", [READ, Asks()], host=Names())
    assert caught.value.stage == "asks"


def test_parts_of_composites_are_resolved_too() -> None:
    class Pair(CompositeStage):
        def decompose(self) -> Sequence[Stage]:
            return [Named(), Named()]

    made = make_plan("p", [READ, Pair()], host=Names())
    assert [bool(stage.stage.resolved) for stage in made.stages] == [False, True, True]


# Fusing.


def test_a_stage_that_is_not_fused_has_a_hop_of_its_own() -> None:
    apart = plan(READ, step("a"), step("b", fuse=False), step("c"), step("d"))
    together = plan(READ, step("a"), step("b"), step("c"), step("d"))
    assert [hop.name for hop in apart.phases[0].hops] == ["a", "b", "c+d"]
    assert [hop.name for hop in together.phases[0].hops] == ["a+b+c+d"]
    assert apart.layout == together.layout
    assert "fuse" not in apart.settings["b"]


def test_composites_are_taken_apart_to_any_depth() -> None:
    checked: list[str] = []

    @dataclass
    class Inner(CompositeStage):
        def decompose(self) -> Sequence[Stage]:
            return [step("a"), step("b")]

        def check(self) -> None:
            checked.append(self.name)

    @dataclass
    class Outer(CompositeStage):
        def decompose(self) -> Sequence[Stage]:
            return [Inner(), step("c")]

    made = plan(READ, Outer().with_(workers=3))
    names = ["outer.inner.a", "outer.inner.b", "outer.c"]
    assert [stage.name for stage in made.stages[1:]] == names
    assert [stage.stage.workers for stage in made.stages[1:]] == [3, 3, 3]
    assert checked == ["outer.inner"]


# Outputs and resources.


def test_two_writers_of_one_file_are_named() -> None:
    refused(
        r"stages 'merge' and 'merge-2' both write (./)?o.jsonl; change one of the paths",
        READ,
        Merge("o.jsonl"),
        Merge("./o.jsonl"),
    )


def test_a_writer_may_not_overwrite_the_input(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"x": 1}\n')
    refused("stage 'merge' would overwrite .*in.jsonl, which is read", ReadManifest(str(path)), Merge(str(path)))


@pytest.mark.parametrize("path", ["data/x.jsonl", "./quarantine/x.jsonl", "summary.json", "metrics"])
def test_a_writer_may_not_write_where_the_run_keeps_its_own_files(path: str) -> None:
    class Strange(Writer):
        def outputs(self) -> Sequence[str]:
            return [path]

    refused(f"stage 'strange' writes {path}, a path that the run directory reserves for itself", READ, Strange())


def test_resources_are_checked_for_the_executor() -> None:
    with pytest.raises(PlanError, match="stage 'a' asks for gpus=99, but this machine has"):
        Pipeline("p", [READ, step("a", resources=Resources(gpus=99))]).plan("local")


def test_the_local_executor_cannot_end_a_hang() -> None:
    with pytest.raises(PlanError, match="stage 'a' has timeout_s=3, but the local executor cannot end a hang"):
        Pipeline("p", [READ, step("a", timeout_s=3)]).plan("local")


# The fingerprint.


def fingerprint(*stages: Stage) -> str:
    return plan(READ, *stages).fingerprint


def function_stage(function: Callable[..., Any]) -> Any:
    function.__annotations__ = {"record": dict}
    return processing_stage(name="f")(function)


def above(threshold: float) -> Any:
    def keeps(record: dict) -> dict:
        return record if record["x"] > threshold else {}

    return processing_stage(name="keeps")(keeps)


def test_what_changes_results_changes_the_fingerprint(tmp_path: Path) -> None:
    prints = [
        fingerprint(),
        fingerprint(QualityFilter("x < 1")),
        fingerprint(QualityFilter("x < 2")),
        fingerprint(QualityFilter("x < 1").with_(name="other")),
        fingerprint(function_stage(lambda record: record)),
        fingerprint(function_stage(lambda record: dict(record))),
        fingerprint(above(1)),
        fingerprint(above(2)),
        fingerprint(step("a"), step("b")),
        fingerprint(step("b"), step("a")),
        fingerprint(step("a", checkpoint=True), step("b")),
        plan(ReadRecords([{"x": 2, "duration": 1.0}])).fingerprint,
    ]
    assert len(set(prints)) == len(prints)


@dataclass
class Model(RecordStage):
    path: Path
    lookahead: int = 3
    tuning = frozenset({"lookahead"})

    def process_record(self, record: Record) -> Record:
        return record

    def fingerprint(self) -> dict[str, Any]:
        return {"model": self.path.read_text()}


def test_a_model_file_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text("weights")
    before = fingerprint(Model(path))
    assert fingerprint(Model(path, lookahead=9)) == before
    path.write_text("other weights")
    assert fingerprint(Model(path)) != before


def test_what_only_changes_the_speed_does_not_change_the_fingerprint() -> None:
    base = fingerprint(Partition(), QualityFilter("x < 1"))
    for other in (
        QualityFilter("x < 1").with_(workers=4, batch_size=7, prefetch_batches=3, retries=2, timeout_s=9),
        QualityFilter("x < 1").with_(resources=Resources(cpus=0.5)),
    ):
        assert fingerprint(Partition(max_records=3), other) == base
        assert fingerprint(other) == base
    stages = [READ, QualityFilter("x < 1")]
    assert Pipeline("another name", stages).plan("local").fingerprint == base


def test_a_fingerprint_is_the_same_in_another_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import functools
from dataclasses import dataclass
from curate import Pipeline, ProcessingStage, RecordStage, processing_stage
from curate.stages import ReadRecords

def scale(factor, table, x):
    return x * factor

class Caller:
    def __init__(self): self.words = {"b", "a", "c"}
    def __call__(self, x): return x

@dataclass
class Mine(RecordStage):
    partial: object
    caller: object
    names: frozenset
    def process_record(self, record): return record

@processing_stage(name="f")
def f(record: dict) -> dict:
    inner = lambda: [n for n in record]
    return record

exec("def lost(record: dict) -> dict:\\n    return {**record, 'k': [lambda: 1 for _ in record]}")
stages = [ReadRecords([{"x": 1}]), Mine(functools.partial(scale, 2, {"t": {1}}), Caller(), frozenset("abc")), f,
          processing_stage(name="lost")(lost)]
print(Pipeline("p", stages).plan().fingerprint)
"""
    )
    prints = {
        subprocess.run(
            [sys.executable, str(script)], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


def test_the_source_of_a_class_that_no_distribution_owns_is_part_of_the_fingerprint() -> None:
    versions = plan(READ, Model(Path(__file__))).settings["model"]["code"]
    assert any(str(version).startswith(f"{__name__}:Model:") for version in versions)
    assert any(str(version).startswith("curate-speech ") for version in versions)


def test_partials_differ_by_their_arguments() -> None:
    @dataclass
    class Calls(RecordStage):
        function: Any

        def process_record(self, record: Record) -> Record:
            return record

    one, two = (fingerprint(Calls(functools.partial(round, ndigits=digits))) for digits in (1, 2))
    assert one != two


def test_a_setting_that_cannot_be_sent_to_a_worker_is_named() -> None:
    @dataclass
    class Locks(RecordStage):
        lock: Any = field(default_factory=threading.Lock)

        def process_record(self, record: Record) -> Record:
            return record

    refused("stage 'locks': field 'lock' is not serializable: a lock cannot be sent to a worker", READ, Locks())


# Printing.


def test_a_plan_can_be_printed_as_json() -> None:
    made = plan(READ, Partition(), step("a", ["x"], ["y"], checkpoint=True), QualityFilter("y < 1"), Merge("o.jsonl"))
    described = json.loads(json.dumps(made.to_dict()))
    assert described["fingerprint"] == made.fingerprint
    assert [stage["name"] for stage in described["stages"]] == [
        "read_records",
        "partition",
        "a",
        "quality_filter",
        "merge",
    ]
    assert described["phases"][1]["stages"] == ["quality_filter", "merge"]
    assert described["stages"][2]["reads"] == ["x"]
    assert described["stages"][2]["cardinality"] == "maps"
    assert described["stages"][3]["settings"]["expression"] == "y < 1"


def test_planning_does_not_touch_the_users_stages() -> None:
    stages = [READ, step("a"), step("a")]
    pipeline = Pipeline("p", stages)
    pipeline.plan()
    assert [stage.name for stage in pipeline.stages] == ["read_records", "a", "a"]


def test_a_writer_of_a_strangers_own_kind_takes_part() -> None:
    class Nowhere(Writer):
        def write(self, records: RecordReader, directory: Path) -> list[Path]:
            return []

    assert phases(READ, Nowhere()) == [["read_records", "nowhere"]]


# Strangers' stages that raise when they are asked.


@dataclass
class Asked(RecordStage):
    failing: str = "check"

    def _raise(self, method: str) -> None:
        if self.failing == method:
            raise KeyError(method)

    def check(self) -> None:
        self._raise("check")

    def reads(self) -> tuple[str, ...]:
        self._raise("reads")
        return ()

    def writes(self) -> tuple[str, ...]:
        self._raise("writes")
        return ()

    def fingerprint(self) -> dict[str, Any]:
        self._raise("fingerprint")
        return {}

    def process_record(self, record: Record) -> Record:
        return record


@pytest.mark.parametrize("method", ["check", "reads", "writes", "fingerprint"])
def test_a_stage_that_raises_when_it_is_asked_is_named(method: str) -> None:
    with pytest.raises(PlanError, match=rf"stage 'asked': {method}\(\) raised KeyError: '{method}'"):
        plan(READ, Asked(method))


def test_a_stage_that_cannot_be_copied_is_found_before_the_run_begins(tmp_path: Path) -> None:
    @dataclass
    class Locked(RecordStage):
        def __post_init__(self) -> None:
            self.lock = threading.Lock()

        def process_record(self, record: Record) -> Record:
            return record

    stage = Locked()
    with pytest.raises(PlanError, match=r"stage 'locked': lock cannot be copied for a worker .*; create it in setup"):
        Pipeline("p", [READ, stage, Merge("out.jsonl")]).run(run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_object_that_holds_a_set_is_the_same_in_every_process() -> None:
    script = """
import json
from curate.fingerprint import describe_value
class Plain:
    def __init__(self):
        self.words = {"alpha", "beta", "gamma", "delta"}
        self.me = self
class Slots:
    __slots__ = ("words",)
    def __init__(self):
        self.words = frozenset("abcdefgh")
print(json.dumps(describe_value([Plain(), Slots()])))
"""
    shown = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in "123"
    }
    assert len(shown) == 1
    assert "alpha" in shown.pop()
