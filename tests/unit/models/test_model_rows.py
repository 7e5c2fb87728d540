"""A model's rows are held to its declaration, and a class that is not a model gets one error that shows how it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, processing_stage
from curate.errors import InfrastructureError, PlanError, UsageError
from curate.models import AudioModel, AudioModelStage
from curate.plugin import PluginHost
from curate.stages import AsrStage, ReadRecords
from curate.testing import write_tone

OLD = """
from curate.plugin import RecogniserRef, hookimpl
{more}
class Ears{base}:
    rate_hz, thread_safe = 16000, True
    def setup(self): pass
    def {method}(self, waveforms): return [None for _ in waveforms]
    def close(self): pass
@hookimpl
def curate_recognisers():
    return [RecogniserRef("ears", f"{{__name__}}:Ears", "as it was")]
"""


class Answers(AudioModel):
    writes = ("level", "mood")

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def infer(self, clips: Sequence[Any]) -> Any:
        return self.rows


@dataclass
class Ask(AudioModelStage):
    rows: Any = field(default=None)
    model_class = Answers


@dataclass
class Holds(AudioModelStage):
    """A stage around a model that is given to it."""

    make: Callable[[], Any] = AudioModel

    def make_model(self) -> AudioModel:
        return self.make()


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return [{"audio_filepath": str(write_tone(tmp_path / "a.wav", seconds=0.2)), "duration": 0.2}]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([{"level": 1.0, "mood": "good", "colour": "red"}], "the model Answers returned the column 'colour'.*`writes`"),
        ([{"level": 1.0}], "a row without the column 'mood'"),
        ([], "returned 0 rows for 1 clips"),
        ([{"level": 1.0, "mood": ""}] * 2, "returned 2 rows for 1 clips"),
        (["loud"], "returned a str as a row; return a mapping"),
        ("loud", "returned a str for 1 clips; return a list"),
        ({"level": 1.0, "mood": ""}, "returned a dict for 1 clips; return a list"),
        (None, "returned a NoneType for 1 clips"),
    ],
)
def test_rows_that_are_not_declared_stop_the_run_and_name_the_column(
    rows: list[dict[str, Any]], answer: Any, message: str
) -> None:
    with pytest.raises(InfrastructureError, match=message):
        Pipeline("p", [ReadRecords(rows), Ask(rows=answer)]).run()


class KnownColumns(ReadRecords):
    def columns(self) -> Sequence[str]:
        return ("audio_filepath", "duration")


def test_a_column_that_no_model_declares_is_missed_at_plan_time(rows: list[dict[str, Any]]) -> None:
    @processing_stage(name="needs", reads=["level", "colour"], writes=[])
    def needs(record: dict) -> dict:
        return record

    with pytest.raises(PlanError, match=r"reads column 'colour'.*hands on .*claimed_duration, duration, level, mood"):
        Pipeline("p", [KnownColumns(rows), Ask(rows=[]), needs]).plan()


@pytest.mark.parametrize("method", ["transcribe", "begin"])
def test_a_recogniser_of_the_earlier_interface_gets_one_error_that_shows_the_present_one(
    rows: list[dict[str, Any]], tmp_path: Path, method: str
) -> None:
    (tmp_path / "old.py").write_text(OLD.format(more="", base="", method=method))
    host = PluginHost(plugin_files=[tmp_path / "old.py"], environment={"CURATE_PLUGINS": ""})
    with pytest.raises(PlanError) as caught:
        Pipeline("p", [ReadRecords(rows), AsrStage("ears")]).plan(host=host)
    message = str(caught.value)
    assert f"'ears' of {tmp_path / 'old.py'}" in message or "'ears'" in message
    assert f"whose {method}() is never called" in message
    assert "class Ears(AudioModel):" in message and "def infer(self, clips):" in message


def test_a_recogniser_derived_from_the_earlier_protocol_is_shown_the_present_one(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    more = "from curate.asr import Recogniser, Transcript\n"
    (tmp_path / "old.py").write_text(OLD.format(more=more, base="(Recogniser)", method="transcribe"))
    with pytest.raises(UsageError, match=r"earlier interface(.|\n)*AudioModel(.|\n)*def infer"):
        PluginHost(plugin_files=[tmp_path / "old.py"], environment={"CURATE_PLUGINS": ""})


def test_a_model_of_a_stage_is_checked_when_it_is_planned(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(PlanError, match=r"object is not a subclass of curate\.models\.AudioModel"):
        Pipeline("p", [ReadRecords(rows), Holds(make=object)]).plan()

    class Misspelt(AudioModel):
        writes = "text"

    with pytest.raises(PlanError, match=r"Misspelt.writes must be a tuple of columns, not 'text'"):
        Pipeline("p", [ReadRecords(rows), Holds(make=Misspelt)]).plan()


def raising(error: Exception) -> Callable[..., AudioModel]:
    class Cannot(AudioModel):
        def __init__(self) -> None:
            raise error

    return Cannot


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TypeError("an int is needed"), r"cannot be made \(TypeError: an int is needed\)"),
        (OSError("no weights"), r"cannot be made \(OSError: no weights\)"),
        (
            ModuleNotFoundError("No module named 'gigaam'", name="gigaam"),
            r"needs the package 'gigaam'.*pip install gigaam",
        ),
    ],
)
def test_a_model_that_cannot_be_made_is_a_plan_error_with_the_true_reason(
    rows: list[dict[str, Any]], error: Exception, message: str
) -> None:
    class Broken(AudioModelStage):
        model_class: Any = raising(error)

    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords(rows), Broken()]).plan()


def test_a_setting_that_the_model_does_not_take_is_named(rows: list[dict[str, Any]]) -> None:
    @dataclass
    class Wrong(AudioModelStage):
        beam: int = 3
        model_class = Answers

    with pytest.raises(PlanError, match=r"the model Answers does not take these options: .*'(rows|beam)'"):
        Pipeline("p", [ReadRecords(rows), Wrong()]).plan()


def test_a_package_that_is_missing_in_the_worker_is_named_with_the_remedy(rows: list[dict[str, Any]]) -> None:
    class Needy(AudioModel):
        def setup(self) -> None:
            import there_is_no_such_package  # noqa: F401  # pyright: ignore

    with pytest.raises(InfrastructureError, match=r"Needy needs the package 'there_is_no_such_package'.*pip install"):
        Pipeline("p", [ReadRecords(rows), Holds(make=Needy)]).run()


def test_a_model_without_text_is_not_a_recogniser(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "levels.py").write_text(
        "from curate.models import AudioModel\n"
        "from curate.plugin import RecogniserRef, hookimpl\n"
        "class Levels(AudioModel):\n"
        "    writes = ('level',)\n"
        "@hookimpl\n"
        "def curate_recognisers():\n"
        "    return [RecogniserRef('levels', f'{__name__}:Levels', 'no text')]\n"
    )
    host = PluginHost(plugin_files=[tmp_path / "levels.py"], environment={"CURATE_PLUGINS": ""})
    with pytest.raises(PlanError, match=r"Levels writes level and no `text`.*AudioModelStage"):
        Pipeline("p", [ReadRecords(rows), AsrStage("levels")]).plan(host=host)


def test_clips_carry_their_record_read_only(rows: list[dict[str, Any]]) -> None:
    seen: list[Mapping[str, Any]] = []

    class Reads(AudioModel):
        writes = ("greeting",)

        def infer(self, clips: Sequence[Any]) -> list[dict[str, Any]]:
            seen.extend(clip.record for clip in clips)
            return [{"greeting": clip.record["lang"]} for clip in clips]

    result = Pipeline("p", [ReadRecords([{**rows[0], "lang": "fr"}]), Holds(make=Reads)]).run()
    assert [record["greeting"] for record in result.records()] == ["fr"]
    with pytest.raises(TypeError):
        seen[0]["lang"] = "de"  # type: ignore[index]
