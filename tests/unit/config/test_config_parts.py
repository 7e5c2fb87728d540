"""Parts of composite stages: in a file under `parts:`, on the command line by the names that the plan shows."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import CompositeStage, RecordStage
from curate.composite import leaves, named
from curate.config import load_pipeline
from curate.config.schema import pipeline_schema
from curate.errors import ConfigError
from curate.plugin import PluginHost, StageRef


@dataclass
class Asr(RecordStage):
    folder: Path = Path()
    beam: int = 1

    name = "asr"

    def process_record(self, record):
        return record


@dataclass
class Inner(CompositeStage):
    name = "inner"

    def decompose(self):
        return [Asr(), Asr().with_(name="asr.big")]


@dataclass
class Both(CompositeStage):
    beam: int = 1
    broken: bool = False
    asr: str = "a setting with the name of a part"

    name = "asr_and_wer"

    def decompose(self):
        if self.broken:
            raise ValueError("broken")
        return [Asr(beam=self.beam), Inner()]


STAGES = {"both": Both, "asr": Asr}


class Found:
    def __init__(self, found: Any) -> None:
        self.found = found

    def load(self) -> Any:
        return self.found


class Host:
    def stage(self, name: str) -> Any:
        return Found(STAGES[name])

    def executor(self, name: str) -> Any:
        raise AssertionError(name)


def leaves_of(tmp_path: Path, text: str, *sets: str) -> dict[str, Any]:
    path = tmp_path / "p.yaml"
    path.write_text(textwrap.dedent(text))
    pipeline = load_pipeline(path, host=Host(), sets=sets).pipeline
    return {part.name: part for stage in named(pipeline.stages) for part in leaves(stage)}


def refusal(tmp_path: Path, text: str, *sets: str) -> str:
    with pytest.raises(ConfigError) as caught:
        leaves_of(tmp_path, text, *sets)
    return str(caught.value).replace(f"{tmp_path}/", "")


PLAIN = """
    vars: {beam: 3}
    stages:
      - use: both
        beam: ${vars.beam}
"""


def test_parts_of_a_file_are_changed_with_the_types_of_their_fields(tmp_path: Path) -> None:
    found = leaves_of(
        tmp_path,
        """
        stages:
          - use: both
            retries: 1
            parts:
              asr: {batch_size: 32, folder: models}
              inner: {parts: {asr.big: {beam: 7, retries: 4}}}
        """,
    )
    asr, small, big = found["asr_and_wer.asr"], found["asr_and_wer.inner.asr"], found["asr_and_wer.inner.asr.big"]
    assert (asr.batch_size, asr.folder, asr.retries) == (32, Path("models"), 1)
    assert (small.batch_size, small.beam, small.retries) == (1, 1, 1)
    assert (big.beam, big.retries) == (7, 4)


@pytest.mark.parametrize(
    ("parts", "column", "says"),
    [
        ("{assr: {beam: 1}}", 13, "asr_and_wer has no part 'assr': did you mean 'asr'?"),
        ("{asr: {beem: 1}}", 19, "Asr has no option 'beem': did you mean 'beam'?"),
        ("{asr: {beam: x}}", 25, "`beam` must be int, not the string 'x'"),
        ("{asr: {workers: 0}}", 28, "0 is not a whole number of at least 1"),
        ("{asr: 3}", 18, "the part `asr_and_wer.asr` must be a mapping"),
        ("{asr: {parts: {}}}", 19, "Asr has no option 'parts'"),
        ("{inner: {parts: {zzz: {}}}}", 29, "asr_and_wer.inner has no part 'zzz': choose from asr, asr.big"),
    ],
)
def test_mistakes_in_parts_have_their_places(tmp_path: Path, parts: str, column: int, says: str) -> None:
    message = refusal(tmp_path, f"stages:\n  - use: both\n    parts: {parts}\n")
    assert message.startswith(f"p.yaml:3:{column}: ")
    assert says in message


def test_a_composite_that_cannot_be_decomposed_is_named_at_its_parts(tmp_path: Path) -> None:
    message = refusal(tmp_path, "stages:\n  - {use: both, broken: true, parts: {asr: {}}}\n")
    assert "decompose() raised ValueError: broken" in message


def test_a_part_is_set_by_the_name_that_the_plan_shows(tmp_path: Path) -> None:
    sets = {
        "asr_and_wer.asr": "batch_size=32",
        "asr_and_wer.inner.asr": "workers=2",
        "asr_and_wer.inner.asr.big": "resources.cpus=3",
    }
    found = leaves_of(tmp_path, PLAIN, *(f"stages.{name}.{value}" for name, value in sets.items()))
    assert set(found) == set(sets)
    assert found["asr_and_wer.asr"].batch_size == 32
    assert [part.workers for part in found.values()] == [None, 2, None]
    assert [part.resources.cpus for part in found.values()] == [1.0, 1.0, 3.0]
    assert found["asr_and_wer.asr"].beam == 3


def test_the_second_of_two_stages_has_its_number(tmp_path: Path) -> None:
    text = "stages: [{use: both}, {use: both}, {use: asr}, {use: asr, name: other}]\n"
    found = leaves_of(tmp_path, text, "stages.asr_and_wer-2.asr.beam=9", "stages.asr.beam=2", "stages.other.beam=4")
    assert {name: part.beam for name, part in found.items() if part.beam > 1} == {
        "asr_and_wer-2.asr": 9,
        "asr": 2,
        "other": 4,
    }


def test_a_setting_of_the_composite_itself_is_still_set(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("stages: [{use: both}]\n")
    [both] = load_pipeline(path, host=Host(), sets=["stages.both.asr=x", "stages.asr_and_wer.beam=2"]).pipeline.stages
    assert isinstance(both, Both)
    assert (both.asr, both.beam) == ("x", 2)


def test_an_unknown_part_is_answered_like_an_unknown_option(tmp_path: Path) -> None:
    assert "Both has no option 'wer'" in refusal(tmp_path, PLAIN, "stages.asr_and_wer.wer.workers=2")
    assert "Asr has no option 'worker': did you mean 'workers'" in refusal(
        tmp_path, PLAIN, "stages.asr_and_wer.asr.worker=2"
    )


def test_the_schema_knows_the_parts_of_composites() -> None:
    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    reference = StageRef("both", f"{__name__}:Both", "Two stages", distribution="mine")
    host.stages._owners["both"].append(reference)
    definitions = pipeline_schema(host)["definitions"]
    assert "parts" in definitions["stage.both"]["properties"]
    assert "parts" not in definitions["stage.merge"]["properties"]
