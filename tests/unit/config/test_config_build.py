"""From a file to stages and an executor: everything is checked, and every mistake has its place."""

import dataclasses
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate import Pipeline
from curate.config import load_pipeline
from curate.errors import ConfigError, PlanError, PluginError
from curate.resources import Resources
from curate.stage import ProcessingStage, Source
from curate.stage_decorator import processing_stage

if TYPE_CHECKING:
    from nowhere import Unknown  # pyright: ignore


PIECES = st.sampled_from(
    ["${vars.n}", "${vars.l}", "${here}", "null", "[]", "{}", "[1]", "true", "no", "0", "x", "\n", "  "]
)


class Mode(Enum):
    FAST = "fast"
    EXACT = "exact"


@dataclasses.dataclass
class Nested:
    width: int
    depth: float = 1.0


@attrs.frozen
class NestedAttrs:
    size: int = attrs.field(default=1, converter=int)


class Row(TypedDict):
    path: str


@dataclasses.dataclass
class Read(Source):
    manifest: str | list[str]


@dataclasses.dataclass
class Everything(ProcessingStage):
    text: str = ""
    count: int = 1
    ratio: float = 0.5
    flag: bool = False
    maybe: float | None = None
    mixed: "int | str | None" = None
    choice: Literal["ctc", "rnnt", 3] = "ctc"
    maybe_choice: Literal["a", "bcd"] | None = None
    mode: Mode = Mode.FAST
    path: Path | None = None
    words: list[str] = dataclasses.field(default_factory=list)
    pair: tuple[int, float] = (1, 1.0)
    many: tuple[str, ...] = ()
    some: Sequence[int] = ()
    few: set[str] = dataclasses.field(default_factory=set)
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    free: Any = None
    nested: Nested | None = None
    nested_attrs: NestedAttrs | None = None
    row: Row | None = None
    wanted: Resources | None = None
    unresolvable: "Unknown" = None
    quoted: "int" = 1

    def __post_init__(self):
        if self.count < 1:
            raise ValueError(f"Everything(count={self.count}): must be at least 1")
        if self.text == "refuse":
            raise PlanError("this does not fit together")


@attrs.define
class AttrsStage(ProcessingStage):
    beam: int = attrs.field(validator=attrs.validators.ge(1))
    size: int = attrs.field(default=0, converter=lambda value: int(str(value).removesuffix("GB")))


@processing_stage(name="shout")
def shout(record: dict) -> dict:
    return record


@attrs.frozen
class Local:
    pass


@dataclasses.dataclass
class Cluster:
    address: str
    timeout_s: float = 60.0


class Reference:
    def __init__(self, found):
        self.found = found

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Host:
    stages = {  # noqa: RUF012
        "read": Read,
        "curate-speech/read": Read,
        "everything": Everything,
        "attrs": AttrsStage,
        "shout": shout,
        "broken": PluginError("stage 'broken' cannot be imported: pip install it"),
        "odd": dict,
    }
    executors = {"local": Local, "cluster": Cluster}  # noqa: RUF012

    def stage(self, name):
        if name not in self.stages:
            raise PluginError(f"there is no stage {name!r}: did you mean 'read'?")
        return Reference(self.stages[name])

    def executor(self, name):
        if name not in self.executors:
            raise PluginError(f"there is no executor {name!r}: did you mean 'local'?")
        return Reference(self.executors[name])


@pytest.fixture
def load(tmp_path):
    def load(text, **options):
        path = tmp_path / "pipe.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return load_pipeline(path, host=Host(), **options)

    return load


@pytest.fixture
def refusals(load, tmp_path):
    """Return the messages, one a mistake, with the file called by its name alone."""

    def refusals(text, **options):
        with pytest.raises(ConfigError) as caught:
            load(text, **options)
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return refusals


def stage_file(options, use="everything"):
    return f"stages:\n  - use: {use}\n" + "".join(f"    {line}\n" for line in options.splitlines())


def test_a_file_becomes_a_pipeline_an_executor_and_a_run_directory(load, tmp_path):
    configured = load(
        """
        name: demo
        vars: {folder: "${here}/data", n: 3}
        stages:
          - use: curate-speech/read
            manifest: ${vars.folder}/m.jsonl
          - use: everything
            name: all
            count: ${vars.n}
            resources: {cpus: 2, memory: 6.5GB}
            workers: 2
          - use: shout
        executor: {use: cluster, address: auto, timeout_s: 5}
        run_dir: runs/demo
        """
    )
    assert isinstance(configured.pipeline, Pipeline)
    assert configured.pipeline.name == "demo"
    read, everything, shouting = configured.pipeline.stages
    assert isinstance(everything, Everything)
    assert read == Read(f"{tmp_path.resolve()}/data/m.jsonl")
    assert everything.count == 3
    assert everything.overrides == {
        "name": "all",
        "resources": Resources(cpus=2, memory="6.5GB"),
        "workers": 2,
    }
    assert shouting.name == "shout"
    assert configured.executor == Cluster("auto", 5.0)
    assert configured.run_dir == Path("runs/demo")
    assert configured.source == tmp_path / "pipe.yaml"


def test_what_is_not_said_is_left_to_the_caller(load):
    configured = load("stages: [{use: read, manifest: m}]")
    assert (configured.pipeline.name, configured.executor, configured.run_dir) == ("pipe", None, None)
    assert load("stages: [{use: read, manifest: m}]\nexecutor: local").executor == Local()


def test_the_command_line_comes_before_the_file(load):
    text = (
        "vars: {m: a}\nstages: [{use: read, manifest: '${vars.m}'}]\nexecutor: {use: cluster, address: x}\nrun_dir: a"
    )
    configured = load(text, sets=["vars.m=b", "stages.read.workers=2"], executor="local", run_dir="b")
    assert configured.pipeline.stages[0].manifest == "b"
    assert configured.pipeline.stages[0].workers == 2
    assert (configured.executor, configured.run_dir) == (Local(), Path("b"))


def test_options_for_the_executor_of_the_command_line_can_be_set(load):
    configured = load("stages: [{use: read, manifest: m}]", executor="cluster", sets=["executor.address=auto"])
    assert configured.executor == Cluster("auto")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("text: '5'", "5"),
        ("count: 5", 5),
        ("ratio: 1", 1.0),
        ("flag: true", True),
        ("maybe: null", None),
        ("maybe: 2", 2.0),
        ("mixed: 5", 5),
        ("mixed: a", "a"),
        ("choice: rnnt", "rnnt"),
        ("choice: 3", 3),
        ("mode: exact", Mode.EXACT),
        ("path: /a/b", Path("/a/b")),
        ("words: [a, b]", ["a", "b"]),
        ("pair: [1, 2]", (1, 2.0)),
        ("many: [a]", ("a",)),
        ("some: [1, 2]", [1, 2]),
        ("few: [a, a]", {"a"}),
        ("weights: {a: 1}", {"a": 1.0}),
        ("free: {a: [1, null]}", {"a": [1, None]}),
        ("nested: {width: 2}", Nested(2)),
        ("nested_attrs: {size: '7'}", NestedAttrs(7)),
        ("row: {path: a}", {"path": "a"}),
        ("wanted: {gpus: 1, memory: 1GB}", Resources(gpus=1, memory="1GB")),
        ("unresolvable: {any: thing}", {"any": "thing"}),
        ("quoted: 3", 3),
    ],
)
def test_a_value_becomes_what_the_annotation_asks_for(load, option, value):
    made = getattr(load(stage_file(option)).pipeline.stages[0], option.partition(":")[0])
    assert (list(made) if option.startswith("some") else made) == value
    assert option.startswith("some") or type(made) is type(value)


@pytest.mark.parametrize(
    ("option", "column", "says"),
    [
        ("text: 5", 11, "`text` must be str, not 5: write a string, in quotes"),
        ("text: true", 11, "must be str, not true"),
        ("count: '5'", 12, "`count` must be int, not the string '5': write a whole number, without quotes"),
        ("count: 5.0", 12, "must be int, not 5.0"),
        ("count: true", 12, "must be int"),
        ("count: null", 12, "not nothing (null)"),
        ("ratio: '0.5'", 12, "must be float, not the string '0.5': write a number"),
        ("ratio: false", 12, "must be float"),
        ("flag: 1", 11, "must be bool, not 1: write true or false"),
        ("maybe: x", 12, "must be float | None"),
        ("mixed: 1.5", 12, "must be int | str | None"),
        ("mixed: [1]", 12, "not a list"),
        ("choice: rnt", 13, "did you mean 'rnnt'?"),
        ("choice: '3'", 13, "choose from 'ctc', 'rnnt', 3"),
        ("choice: true", 13, "choose from"),
        ("maybe_choice: bce", 19, "must be Optional[Literal['a', 'bcd']], not the string 'bce': did you mean 'bcd'?"),
        ("mode: slow", 11, "'slow' is not a valid Mode"),
        ("path: 5", 11, "must be Path | None"),
        ("words: abc", 12, "must be list[str], not the string 'abc': write a list, [a, b]"),
        ("words: [a, 5]", 16, "`words[1]` must be str, not 5"),
        ("words: {a: b}", 12, "not a mapping"),
        ("pair: [1, 2, 3]", 11, "`pair`"),
        ("pair: [1, x]", 15, "`pair[1]` must be float"),
        ("few: abc", 10, "must be set[str]"),
        ("weights: [1]", 14, "must be dict[str, float], not a list: write {key: value}"),
        ("weights: {a: 1, b: x}", 24, "`weights.b` must be float, not the string 'x'"),
        ("nested: {width: x}", 21, "`nested.width` must be int"),
        ("nested: {depth: 1}", 13, "write `width:`"),
        ("nested: {width: 1, dept: 1}", 24, "`nested` has no 'dept': did you mean 'depth'?"),
        ("nested: 5", 13, "must be "),
        ("row: {pth: a}", 10, "write `path:`"),
        ("wanted: {gpu: 1}", 19, "Resources has no 'gpu'"),
        ("count: 0", 12, "Everything(count=0): must be at least 1"),
        ("text: refuse", 5, "this does not fit together"),
        ("batch_size: 0", 17, "`batch_size`: 0 is not a whole number of at least 1"),
        ("batch_size: '32'", 17, "'32' is not a whole number"),
        ("name: a b", 11, "letters, digits"),
        ("checkpoint: 1", 17, "is not True or False"),
        ("resources: {cpu: 1, memory: 1GB}", 22, "Resources has no 'cpu'"),
        ("resources: {memory: 6.5 potatoes}", 25, "'6.5 potatoes' is not a size"),
        ("resources: 5", 16, "is not a Resources"),
        ("betch_size: 5", 5, "Everything has no option 'betch_size': did you mean 'batch_size'?"),
        ("device_id: 0", 5, "`.with_(workers=<GPUs>)`"),
    ],
)
def test_a_value_of_another_type_is_refused_at_its_place(refusals, option, column, says):
    messages = refusals(stage_file(option))
    line = 2 if option == "text: refuse" else 3
    assert any(message.startswith(f"pipe.yaml:{line}:{column}: ") and says in message for message in messages), messages


def test_a_value_from_a_variable_names_the_variable_too(refusals):
    (message,) = refusals("vars:\n  n: five\n" + stage_file("count: ${vars.n}"))
    assert message.startswith(
        "pipe.yaml:5:12: `count` must be int, not the string 'five' (`${vars.n}` from pipe.yaml:2:6)"
    )


def test_a_value_from_the_command_line_has_its_own_place(refusals):
    sets = ["stages.everything.count=x", "stages.everything.wrds=[a]", "vars.n=y"]
    messages = refusals("vars: {n: 1}\n" + stage_file("ratio: ${vars.n}"), sets=sets)
    assert messages == [
        "--set stages.everything.wrds: Everything has no option 'wrds': did you mean 'words'?",
        "--set stages.everything.count: `count` must be int, not the string 'x': write a whole number, without quotes",
        "pipe.yaml:4:12: `ratio` must be float, not the string 'y' (`${vars.n}` from --set vars.n): "
        "write a number, without quotes",
    ]


def test_attrs_classes_convert_and_validate_by_themselves(load, refusals):
    assert load(stage_file("beam: 2\nsize: 5GB", "attrs")).pipeline.stages[0].size == 5
    (message,) = refusals(stage_file("beam: 0", "attrs"))
    assert message.startswith("pipe.yaml:3:11: AttrsStage: 'beam' must be >= 1")
    (message,) = refusals(stage_file("beam: 1\nsize: big", "attrs"))
    assert message.startswith("pipe.yaml:4:11: AttrsStage: invalid literal")


def test_a_missing_required_option_is_named_at_its_stage(refusals):
    assert refusals("stages:\n  - use: read") == ["pipe.yaml:2:5: Read needs 'manifest': write `manifest: …`"]


def test_a_misspelt_required_option_is_one_mistake(refusals):
    (message,) = refusals("stages:\n  - {use: read, manfest: m.jsonl}")
    assert message == "pipe.yaml:2:17: Read has no option 'manfest': did you mean 'manifest'?"


def test_a_mistake_at_the_top_of_the_file_has_its_place_once(refusals):
    (message,) = refusals("stages: [{use: read, manifest: m}]\nmax_failure_ratio: 5%")
    assert message == (
        "pipe.yaml:2:20: `max_failure_ratio` must be float | None, not the string '5%': "
        "write a number, without quotes, or write null"
    )


def test_a_decorated_function_takes_run_time_options_only(load, refusals):
    stage = load(stage_file("workers: 2\nname: loud", "shout")).pipeline.stages[0]
    assert (stage.name, stage.workers, shout.workers) == ("loud", 2, None)
    (message,) = refusals(stage_file("cardinality: splits", "shout"))
    assert message.startswith("pipe.yaml:3:5: 'shout' is a decorated function and takes run-time options only")


@pytest.mark.parametrize(
    ("stage", "column", "says"),
    [
        ("use: nope", 10, "there is no stage 'nope': did you mean 'read'?"),
        ("use: broken", 10, "pip install it"),
        ("use: odd", 10, "is not a stage"),
        ("use: 5", 10, "`use` must be a string, not 5"),
        ("uses: read", 5, "write `use` instead of 'uses'"),
        ("workers: 5", 5, "the stage lacks `use`"),
        ("read", 5, "a stage must be a mapping, not the string 'read': write `use: <name>`"),
        ("use: os:path", 10, "allow it on the command line with --allow-imports"),
    ],
)
def test_a_stage_that_cannot_be_found_is_named_at_its_place(refusals, stage, column, says):
    (message,) = refusals(f"stages:\n  - {stage}")
    assert message.startswith(f"pipe.yaml:2:{column}: ")
    assert says in message


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("name: x", "1:1", "there are no `stages`"),
        ("stages:", "1:1", "`stages` is empty"),
        ("stages: []", "1:1", "`stages` is empty"),
        ("stages: {use: read}", "1:9", "`stages` must be a list, not a mapping"),
        ("stages: [{use: shout}]\nnam: x", "2:1", "unknown key 'nam': did you mean 'name'?"),
        ("stages: [{use: shout}]\nallow_imports: true", "2:1", "unknown key 'allow_imports'"),
        ("stages: [{use: shout}]\nname: 5", "2:7", "`name` must be a string, not 5: write it in quotes, '5'"),
        ("stages: [{use: shout}]\nname: ../x", "2:7", "cannot be a pipeline's name"),
        ("stages: [{use: shout}]\nrun_dir: [a]", "2:10", "`run_dir` must be a string"),
        ("stages: [{use: shout}]\nexecutor: locl", "2:11", "there is no executor 'locl': did you mean 'local'?"),
        ("stages: [{use: shout}]\nexecutor: 5", "2:11", "`executor` must be a string"),
        ("stages: [{use: shout}]\nexecutor: [local]", "2:11", "`executor` must be a mapping"),
        ("stages: [{use: shout}]\nexecutor: {workers: 1}", "2:11", "the executor lacks `use`"),
        ("stages: [{use: shout}]\nexecutor: cluster", "2:11", "Cluster needs 'address'"),
        ("stages: [{use: shout}]\nexecutor: {use: cluster, adress: a, address: b}", "2:26", "did you mean 'address'?"),
        ("stages: [{use: shout}]\nexecutor: {use: cluster, address: 5}", "2:35", "`address` must be str"),
    ],
)
def test_the_top_of_the_file_is_checked(refusals, text, place, says):
    (message,) = refusals(text)
    assert message.startswith(f"pipe.yaml:{place}: ")
    assert says in message


def test_an_executor_of_the_command_line_that_is_unknown_is_named_there(refusals):
    (message,) = refusals("stages: [{use: shout}]", executor="locl")
    assert message.startswith("--executor locl: there is no executor 'locl'")


def test_all_mistakes_are_reported_at_once(refusals):
    text = "stages:\n  - use: nope\n  - use: everything\n    count: x\n    text: 1\nnme: y\nexecutor: nope"
    places = sorted(message.partition(": ")[0] for message in refusals(text))
    assert places == ["pipe.yaml:2:10", "pipe.yaml:4:12", "pipe.yaml:5:11", "pipe.yaml:6:1", "pipe.yaml:7:11"]


def test_a_class_that_nobody_registered_is_imported_only_when_allowed(load, refusals, tmp_path, monkeypatch):
    (tmp_path / "strangers_module.py").write_text(
        "import dataclasses\nfrom curate.stage import ProcessingStage\n"
        "@dataclasses.dataclass\nclass Mine(ProcessingStage):\n    width: int = 1\n"
    )
    (tmp_path / "exploding_module.py").write_text("raise RuntimeError('bang')")
    monkeypatch.syspath_prepend(tmp_path)
    text = stage_file("width: 5", "strangers_module:Mine")
    assert "--allow-imports" in refusals(text)[0]
    assert "strangers_module" not in sys.modules
    assert load(text, allow_imports=True).pipeline.stages[0].width == 5
    for use, says in {
        "strangers_module:Nine": "has no attribute 'Nine'",
        "no_such_module:Mine": "cannot be imported (ModuleNotFoundError",
        "exploding_module:Mine": "RuntimeError: bang",
        "strangers_module:": "not of the form package.module:Class",
        "os:path": "is not a stage",
    }.items():
        (message,) = refusals(f"stages:\n  - use: '{use}'", allow_imports=True)
        assert message.startswith("pipe.yaml:2:10: ")
        assert says in message


VALID = """name: demo
vars: {n: 3, l: [a, b]}
stages:
  - use: read
    manifest: ${vars.l}
  - use: everything
    count: ${vars.n}
    weights: {a: 1, b: 0.5}
    nested: {width: 2}
    resources: {cpus: 2, memory: 6.5GB}
executor: {use: cluster, address: auto}
"""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, len(VALID)), st.integers(0, 6), st.text(max_size=4) | PIECES), max_size=4)
)
def test_any_damage_to_a_file_leaves_a_pipeline_or_a_configuration_error(load, edits):
    text = VALID
    for position, length, replacement in edits:
        text = text[:position] + replacement + text[position + length :]
    try:
        load(text.encode("utf-8", "replace").decode())
    except ConfigError as error:
        assert all("pipe.yaml" in line for line in str(error).splitlines())


def test_nothing_heavy_is_imported():
    code = "import sys, curate.config; print({'torch', 'nemo', 'ray', 'pyarrow', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
