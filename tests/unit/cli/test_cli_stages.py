from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

STAGES = '''
from __future__ import annotations
from dataclasses import dataclass, field
import attrs
from curate.stage_decorator import processing_stage
from curate.resources import Resources
from curate.stage import RecordStage, Writer

@dataclass
class Dereverb(RecordStage):
    """Remove background noise
    from the audio.

    Longer words about how.

    Args:
        model: the model to use,
            by path.
        strength: how much to remove.
    """
    model: str
    strength: float = 0.5
    tags: list[str] = field(default_factory=lambda: ["a", "b"])
    hidden: int = field(default=0, init=False)
    resources = Resources(gpus=1.0)

@dataclass
class Copy(RecordStage):
    """Copy a column."""
    source: str
    def reads(self):
        return [self.source]

@dataclass
class Measure(RecordStage):
    column: str = "snr"
    def reads(self):
        return ["audio_filepath"]
    def writes(self):
        return {self.column, "b"}

@attrs.define
class Publish(Writer):
    """Publish."""
    path: str
    names: list[str] = attrs.field(factory=list)

@processing_stage(name="upper", cardinality="filters", reads=["text"], writes=["caps"])
def upper(record: dict):
    """Write the text in capitals."""
    return record
'''


@pytest.fixture
def describe(tmp_path: Path, curate):
    file = tmp_path / "mine.py"
    file.write_text(STAGES)

    def describe(name: str) -> dict[str, Any]:
        outcome = curate("--plugins-file", str(file), "stages", name, "--json")
        assert outcome.code == 0, outcome.err
        return json.loads(outcome.out)

    return describe


def test_the_list_names_stage_owner_and_extra(curate) -> None:
    listed = {row["use"]: row for row in json.loads(curate("stages", "--json").out)}

    assert listed["asr_nemo"]["distribution"] == "curate-speech"
    assert listed["asr_nemo"]["extra"] == "nemo"
    assert listed["asr_nemo"]["qualified_name"] == "curate-speech/asr_nemo"
    table = curate("stages").out
    assert "asr_nemo" in table
    assert "nemo" in table


def test_a_stage_shows_its_settings_with_types_defaults_and_meaning(describe) -> None:
    settings = {one["name"]: one for one in describe("dereverb")["settings"]}

    assert list(settings) == ["model", "strength", "tags"]
    assert settings["model"] == {
        "name": "model",
        "type": "str",
        "required": True,
        "default": None,
        "meaning": "the model to use, by path.",
    }
    assert settings["strength"]["default"] == "0.5"
    assert settings["tags"]["default"] == "['a', 'b']"
    assert settings["tags"]["type"] == "list[str]"


def test_a_stage_shows_description_kind_and_run_time_options(describe) -> None:
    sheet = describe("dereverb")

    assert sheet["description"] == "Remove background noise from the audio."
    assert sheet["role"] == "maps records"
    assert sheet["run_time_options"]["resources"] == {"cpus": 1.0, "gpus": 1.0}
    assert sheet["run_time_options"]["retries"] == 0
    assert "name" not in sheet["run_time_options"]


def test_columns_are_shown_unless_they_depend_on_settings_without_default(describe) -> None:
    assert describe("measure")["reads"] == ["audio_filepath"]
    assert describe("measure")["writes"] == ["b", "snr"]
    assert describe("dereverb")["reads"] == []
    assert describe("copy")["reads"] is None


def test_an_attrs_class_is_described_as_well(describe) -> None:
    sheet = describe("publish")

    assert sheet["role"] == "publishes files"
    assert [(one["name"], one["required"], one["default"]) for one in sheet["settings"]] == [
        ("path", True, None),
        ("names", False, "[]"),
    ]


def test_a_decorated_function_is_described_by_what_the_decorator_was_told(describe) -> None:
    sheet = describe("upper")

    assert sheet["settings"] == []
    assert sheet["description"] == "Write the text in capitals."
    assert sheet["role"] == "filters records"
    assert (sheet["reads"], sheet["writes"]) == (["text"], ["caps"])


def test_the_example_is_yaml_with_what_must_be_given(describe) -> None:
    assert yaml.safe_load(describe("dereverb")["example"]) == {"stages": [{"use": "dereverb", "model": "<str>"}]}
    assert yaml.safe_load(describe("measure")["example"]) == {"stages": [{"use": "measure"}]}


def test_the_sheet_is_readable(tmp_path: Path, curate) -> None:
    file = tmp_path / "mine.py"
    file.write_text(STAGES)

    out = curate("--plugins-file", str(file), "stages", "dereverb").out

    for text in ["dereverb", "(required)", "strength", "(none)", "use: dereverb", "timeout_s"]:
        assert text in out
    assert "depends on its settings" in curate("--plugins-file", str(file), "stages", "copy").out


def test_an_unknown_stage_is_exit_2_with_the_nearest_name(curate) -> None:
    outcome = curate("stages", "asr_nmo")

    assert outcome.code == 2
    assert "did you mean 'asr_nemo'" in outcome.err
