"""Mistakes on the command line and in pipelines, each with a message that says what to write instead."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import pytest
import soundfile
from loguru import logger

from curate.cli import main
from curate.errors import EXIT_NO_RESULT, EXIT_USAGE
from tests.unit.plugin.distributions import Site

PIPELINE = """name: p
stages:
  - use: read_manifest
    manifest: in.jsonl
  - use: quality_filter
    expression: duration <= 3
  - use: merge
    path: out.jsonl
"""


@attrs.frozen
class Mistake:
    """A mistake and the answer to it.

    Args:
        command: what is typed; `curate` in front of it is left out.
        answer: parts of what is printed, in this order.
        files: the files in the folder that are different from those of a good pipeline.
        code: the exit code.
    """

    command: str
    answer: Sequence[str]
    files: Mapping[str, str] = attrs.field(factory=dict[str, str])
    code: int = EXIT_USAGE


def filtered(expression: str) -> Mapping[str, str]:
    return {"p.yaml": PIPELINE.replace("duration <= 3", json.dumps(expression))}


def staged(stage: str, manifest: str = "in.jsonl") -> Mapping[str, str]:
    return {"p.yaml": f"stages:\n  - use: read_manifest\n    manifest: {manifest}\n  - {stage}\n"}


MISTAKES = {
    # expressions
    "column without quotes": Mistake(
        "plan p.yaml",
        ["column 'en'", "if en is a string, quote it: 'en'", "\n    lang == en\n            ^"],
        filtered("lang == en"),
    ),
    "text compared with a number": Mistake(
        "plan p.yaml",
        ["p.yaml:6:17", "text is text, but 5 is a number", "\n    text > 5\n    ^\n"],
        filtered("text > 5"),
    ),
    "operator that does not exist": Mistake(
        "plan p.yaml", ["write <=", "\n    wer <== 5\n        ^"], filtered("wer <== 5")
    ),
    "one equals sign": Mistake("plan p.yaml", ["write ==", "\n    lang = 'en'\n         ^"], filtered("lang = 'en'")),
    "ampersands": Mistake(
        "plan p.yaml",
        ["write and", "\n    duration < 3 && duration > 1\n                 ^"],
        filtered("duration < 3 && duration > 1"),
    ),
    "capital and": Mistake("plan p.yaml", ["write and", "^"], filtered("duration < 3 AND duration > 1")),
    "number as a string": Mistake("plan p.yaml", ["duration is a number, but '3' is text"], filtered("duration < '3'")),
    "half an expression": Mistake(
        "plan p.yaml", ["something is missing at the end\n    duration <\n              ^"], filtered("duration <")
    ),
    "unknown function": Mistake(
        "plan p.yaml",
        ["unknown function `lenght`: did you mean 'len'?", "\n    lenght(text) > 5\n    ^"],
        filtered("lenght(text) > 5"),
    ),
    "misspelt column": Mistake(
        "plan p.yaml",
        ["p.yaml:5:5", "'duratoin'", "did you mean 'duration'?", "\n    duratoin < 3\n    ^"],
        filtered("duratoin < 3"),
    ),
    "empty expression": Mistake("plan p.yaml", ["is empty; write a condition"], filtered(" ")),
    "signs in the wrong order": Mistake(
        "plan p.yaml", ["write <=", "\n    duration =< 3\n             ^"], filtered("duration =< 3")
    ),
    # names and files
    "manifest given to run": Mistake("run in.jsonl", ["this is a manifest", "curate init in.jsonl"]),
    "Python file given to run": Mistake(
        "run mine.py", ["python mine.py", "--plugins-file mine.py"], {"mine.py": "x = 1\n"}
    ),
    "folder given to run": Mistake(
        "run data", ["data: this is a folder", "name the YAML file in it"], {"data/in.jsonl": ""}
    ),
    "run directory given to run": Mistake(
        "run done", ["this is a run directory", "--run-dir done", "curate report done"]
    ),
    "missing pipeline file": Mistake("run q.yaml", ["q.yaml: the file does not exist: did you mean p.yaml?"]),
    "short name of a stage": Mistake("plan p.yaml", ["did you mean 'word_error_rate'?"], staged("use: wer")),
    "text in another column": Mistake(
        "plan p.yaml",
        ["word_error_rate", "write text_key: sentence"],
        {
            **staged("use: word_error_rate", "cv.jsonl"),
            "cv.jsonl": '{"audio_filepath": "a.wav", "sentence": "a", "pred_text": "a"}\n',
        },
    ),
    "set without stages": Mistake(
        "plan p.yaml --set 'quality_filter.expression=duration < 2'",
        ["did you mean stages.quality_filter.expression?"],
    ),
    "set of a misspelt stage": Mistake(
        "plan p.yaml --set stages.qualty_filter.expression=x", ["qualty_filter", "did you mean 'quality_filter'?"]
    ),
    "set without a value": Mistake(
        "plan p.yaml --set stages.quality_filter", ["no =: write", "stages.asr.batch_size=32"]
    ),
    "misspelt option of a stage": Mistake(
        "plan p.yaml",
        ["p.yaml:6:5", "expresion", "did you mean 'expression'?"],
        {"p.yaml": PIPELINE.replace("expression:", "expresion:")},
    ),
    "misspelt executor": Mistake("plan p.yaml --executor multiprocess", ["did you mean 'multiprocessing'?"]),
    "executor that is not there": Mistake(
        "plan p.yaml --executor spark", ["; a plugins-file has to be named: curate --plugins-file FILE"]
    ),
    "misspelt verb": Mistake("rnu p.yaml", ["unknown command 'rnu': did you mean 'run'?"]),
    "misspelt option of a verb": Mistake("run p.yaml --executer local", ["No such option", "--executor"]),
    "global option behind the verb": Mistake("plan p.yaml --no-plugin x", ["curate --no-plugin … plan …"]),
    "missing plugins-file": Mistake("plan p.yaml --plugins-file no.py", ["no.py: this plugins-file cannot be read"]),
    "missing manifest": Mistake(
        "plan p.yaml",
        ["p.yaml:3:5", "the manifest no.jsonl does not exist", "did you mean in.jsonl?"],
        {"p.yaml": PIPELINE.replace("in.jsonl", "no.jsonl")},
    ),
    "empty manifest": Mistake(
        "plan p.yaml",
        ["p.yaml:3:5", "the manifest empty.jsonl has no rows"],
        {"p.yaml": PIPELINE.replace("in.jsonl", "empty.jsonl"), "empty.jsonl": ""},
    ),
    "tab in YAML": Mistake("plan p.yaml", ["p.yaml:3:1", "tab"], {"p.yaml": "name: p\nstages:\n\t- use: merge\n"}),
    "no stages": Mistake("plan p.yaml", ["there are no `stages`: write `stages:`"], {"p.yaml": "name: p\n"}),
    "more GPUs than there are": Mistake(
        "plan p.yaml",
        ["asks for gpus=64", "this machine has"],
        {"p.yaml": PIPELINE.replace("duration <= 3", "duration <= 3\n    resources: {gpus: 64}")},
    ),
    "class without permission": Mistake("plan p.yaml", ["--allow-imports"], staged("use: mine:Stage")),
    "missing model": Mistake("plan p.yaml", ["model.nemo"], staged("use: asr_nemo\n    model_name: model.nemo")),
    # runs
    "report of a folder without a run": Mistake("report .", ["holds no run", "--run-dir"]),
    "resume with another setting": Mistake(
        "run p.yaml --run-dir done --set 'stages.quality_filter.expression=duration <= 2'",
        [
            "quality_filter",
            "expression",
            "'duration <= 3'",
            "'duration <= 2'",
            "--fork NEW_DIR",
            "curate refilter done 'EXPRESSION'",
        ],
    ),
    "refilter with a misspelt column": Mistake(
        "refilter done 'duratoin <= 2'", ["reads column 'duratoin'", "did you mean 'duration'?"]
    ),
    "refilter of a stage that is not there": Mistake(
        "refilter done 'duration <= 2' --stage qualty_filter", ["did you mean 'quality_filter'?"]
    ),
    "filter that keeps nothing": Mistake(
        "run p.yaml --no-report",
        ["nothing was kept of 1 record: 1 was filtered", "1 record did not satisfy duration < 0"],
        filtered("duration < 0"),
        EXIT_NO_RESULT,
    ),
    "retry without failures": Mistake("quarantine retry done", ["no record has failed", "curate quarantine list"]),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good pipeline, and a run of it."""
    folder = tmp_path_factory.mktemp("mistakes")
    rows = [{"audio_filepath": "a.wav", "duration": 1.0, "lang": "en", "text": "a"}]
    (folder / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "p.yaml").write_text(PIPELINE)
    soundfile.write(folder / "a.wav", np.zeros(8000), 8000)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert main(["--quiet", "run", "p.yaml", "--run-dir", "done", "--no-report"]) == 0
    return folder


@pytest.fixture
def folder(done: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(done)
    return done


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_answered_with_its_place_and_the_remedy(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mistake = MISTAKES[name]
    before = {path: (folder / path).read_text() if (folder / path).exists() else None for path in mistake.files}
    for path, content in mistake.files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(content)
    try:
        code = main(shlex.split(mistake.command))
    finally:
        logger.remove()
        for path, content in before.items():
            (folder / path).unlink() if content is None else (folder / path).write_text(content)
    printed = capsys.readouterr().err
    assert code == mistake.code, printed
    rest = printed
    for part in mistake.answer:
        assert part in rest, printed
        rest = rest.partition(part)[2]
    assert "Traceback" not in printed
    assert len(printed) < 1500


def test_there_are_as_many_mistakes_as_were_walked_through() -> None:
    assert len(MISTAKES) >= 38


HEAVY = """
from curate.plugin import StageRef, hookimpl

@hookimpl
def curate_stages():
    return [StageRef("heavy", "heavy_stage:Heavy", "Needs much", extra="gpu")]
"""


def test_plan_names_the_extra_of_a_stage_that_is_not_installed(site: Site, curate, folder: Path) -> None:
    (site.path / "heavy_stage.py").write_text(
        "from curate import ProcessingStage\n\nclass Heavy(ProcessingStage):\n"
        "    def process(self, batch): return batch\n"
    )
    site.install("curate-heavy", HEAVY)
    with (site.path / "curate_heavy-1.0.dist-info" / "METADATA").open("a") as metadata:
        metadata.write("Provides-Extra: gpu\nRequires-Dist: not-on-any-machine>=2; extra == 'gpu'\n")
    (folder / "heavy.yaml").write_text("stages:\n  - {use: read_manifest, manifest: in.jsonl}\n  - use: heavy\n")
    outcome = curate("plan", "heavy.yaml")
    assert outcome.code == 0
    needed = "heavy needs not-on-any-machine, not installed here: pip install 'curate-heavy[gpu]'"
    assert needed in " ".join(outcome.out.split())


def test_plugins_file_behind_the_verb_and_names_of_executors_are_accepted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "stages.py").write_text("x = 1\n")
    assert main(["plan", "p.yaml", "--plugins-file", "stages.py"]) == 0
    assert main(["run", "--help"]) == 0
    assert "local, multiprocessing" in " ".join(capsys.readouterr().out.split())
