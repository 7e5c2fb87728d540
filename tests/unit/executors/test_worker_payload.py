"""What travels to a worker: code by value where the worker could not import it, by name otherwise."""

from __future__ import annotations

import pickle
import pickletools
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from curate import Pipeline, RecordStage
from curate.engine.protocol.transport import HopSpec
from curate.errors import PlanError
from curate.executors.worker_payload import WorkerPayload, check_sendable, make_payload, versions_of
from curate.plan import Hop, PlannedStage
from curate.plugin.files import import_file
from curate.resources import Resources
from curate.stage import ProcessingStage, WorkerContext
from curate.stages import QualityFilter, ReadRecords

PLUGINS_FILE = """
from dataclasses import dataclass
from curate import RecordStage, processing_stage

FACTOR = 3

class Helper:
    def times(self, x):
        return x * FACTOR

@dataclass
class Times(RecordStage):
    offset: int = 1
    def process_record(self, record):
        return {**record, "x": Helper().times(record["x"]) + self.offset}

@processing_stage(name="doubled")
def doubled(record: dict) -> dict:
    return {**record, "x": 2 * Helper().times(record["x"])}
"""

RUN = """
import pickle, sys
stages = pickle.loads(sys.stdin.buffer.read())
print([stage.process_record({"x": 5})["x"] for stage in stages])
"""


def packed(*stages: ProcessingStage, elsewhere: bool = False) -> WorkerPayload:
    planned = tuple(PlannedStage(stage.name, "processing", stage, None) for stage in stages)
    hop = Hop(planned, Resources(gpu_memory_gb=3.0), 1)
    return make_payload(
        HopSpec(hop, WorkerContext(("/audio",)), encodes=True, blamed={"": "last"}), elsewhere=elsewhere
    )


def modules_named(parcel: WorkerPayload) -> set[str]:
    """Return the modules that the worker has to import for the stages, `pickle`'s own aside."""
    texts: list[str] = []
    named: set[str] = set()
    for opcode, argument, _ in pickletools.genops(parcel.stages):
        if opcode.name in ("SHORT_BINUNICODE", "BINUNICODE"):
            texts.append(str(argument))
        elif opcode.name == "STACK_GLOBAL":
            named.add(texts[-2] if len(texts) > 1 else "")
    return named


@pytest.fixture
def plugins_file(tmp_path: Path) -> ModuleType:
    path = tmp_path / "my_stages.py"
    path.write_text(PLUGINS_FILE)
    return import_file(path)


def results_elsewhere(parcel: WorkerPayload) -> str:
    """Return what the stages make of a record in a process that knows nothing of this one's modules."""
    done = subprocess.run([sys.executable, "-c", RUN], input=parcel.stages, capture_output=True, check=True, timeout=60)
    return done.stdout.decode().strip()


def test_stages_of_a_plugins_file_travel_by_value(plugins_file: ModuleType) -> None:
    """With the helpers and constants that they use, and as a decorated function too."""
    parcel = packed(plugins_file.Times(offset=2), plugins_file.doubled)
    assert results_elsewhere(parcel) == "[17, 30]"
    assert plugins_file.__name__ not in modules_named(parcel)


def test_stages_of_a_script_travel_by_value(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        PLUGINS_FILE
        + textwrap.dedent("""
            import sys
            from curate.engine.protocol.transport import HopSpec
            from curate.executors.worker_payload import make_payload
            from curate.plan import Hop, PlannedStage
            from curate.resources import Resources
            from curate.stage import WorkerContext
            hop = Hop((PlannedStage("t", "processing", Times(), None),), Resources(), 1)
            sys.stdout.buffer.write(make_payload(HopSpec(hop, WorkerContext(), False, {"": "t"})).stages)
            """)
    )
    made = subprocess.run([sys.executable, str(script)], capture_output=True, check=True, timeout=60).stdout
    done = subprocess.run([sys.executable, "-c", RUN], input=made, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == "[16]"


def test_what_can_be_imported_travels_by_name() -> None:
    parcel = packed(QualityFilter("x > 1"))
    assert "curate.stages.filter.quality" in modules_named(parcel)
    assert len(parcel.stages) < 1000


def test_modules_travel_by_value_only_while_they_are_packed(plugins_file: ModuleType) -> None:
    import cloudpickle

    packed(plugins_file.Times())
    assert plugins_file.__name__ not in cloudpickle.list_registry_pickle_by_value()
    cloudpickle.register_pickle_by_value(plugins_file)
    try:
        packed(plugins_file.Times())
        assert plugins_file.__name__ in cloudpickle.list_registry_pickle_by_value()  # it was the user's wish
    finally:
        cloudpickle.unregister_pickle_by_value(plugins_file)


@dataclass
class Holds(RecordStage):
    """Makes something that is no setting, which a plan does not look at."""

    label: str = "fine"
    made: ClassVar[Any] = None

    def __post_init__(self) -> None:
        self.thing = self.made

    def process_record(self, record: dict[str, Any]) -> dict[str, Any]:
        return record


class Spiteful:
    def __reduce__(self) -> Any:
        raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("thing", "told"), [(threading.Lock(), "cannot pickle '_thread.lock' object"), (Spiteful(), "not today")]
)
def test_the_field_that_cannot_be_sent_is_named(thing: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Holds, "made", thing)
    stage: Any = Holds().with_(name="holder")
    expected = rf"stage 'holder': thing cannot be sent to a worker \({told}.*\); create it in setup\(\)"
    for refuse in (
        lambda: packed(stage),
        lambda: check_sendable(Pipeline("p", [ReadRecords([{"x": 1}]), stage]).plan()),
    ):
        with pytest.raises(PlanError, match=expected) as caught:
            refuse()
        assert caught.value.stage == "holder"


def test_a_parcel_says_what_the_worker_has_to_know() -> None:
    parcel = packed(Holds(), QualityFilter("x > 1"))
    assert (parcel.count, parcel.encodes, parcel.blamed, parcel.gpu_memory_gb) == (2, True, {"": "last"}, 3.0)
    assert parcel.hop == "holds+quality_filter"
    assert parcel.sys_path == tuple(sys.path)
    assert parcel.context.audio_roots == ("/audio",)
    assert pickle.loads(pickle.dumps(parcel)) == parcel


def test_versions_are_compared_only_with_other_machines() -> None:
    assert packed(QualityFilter("x > 1")).versions == {}
    versions = packed(QualityFilter("x > 1"), elsewhere=True).versions
    assert versions == versions_of([QualityFilter("x > 1")])
    assert versions["Python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert "curate-speech" in versions
