"""Every extension point at once, from one plugins-file, on every executor."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from curate.cli import main
from curate.config import load_pipeline
from curate.plugin import PluginHost
from curate.testing import write_tone

FILE = Path(__file__).with_name("extension_points.py")

TEXTS = ("one", "a 500 b", "two words", "five words are in this")

PIPELINE = """\
stages:
  - {use: read_pairs, manifest: corpus.pairs, roots: [., "points://tones"]}
  - {use: count_words}
  - {use: refuse_short}
  - {use: asr, recogniser: counts_samples, options: {unit: milliseconds}}
  - {use: word_error_rate, normaliser: digits}
  - {use: longest_first}
  - {use: write_texts}
  - {use: merge, path: out.psv}
"""

BACK = """\
stages:
  - {use: read_manifest, manifest: run/out.psv, roots: [.]}
  - {use: merge, path: back.jsonl}
"""

EXECUTORS = ["local", "multiprocessing", "one_after_the_other", pytest.param("ray", marks=pytest.mark.ray)]


@pytest.fixture
def host() -> PluginHost:
    return PluginHost(environment={"CURATE_PLUGINS": ""}, plugin_files=[FILE])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lines: list[str] = []
    for place, text in enumerate(TEXTS, start=1):
        write_tone(tmp_path / f"{place}.wav", seconds=0.25 * place)
        lines.append(f"{text}|{place}.wav")
    lines[1] = f"{TEXTS[1]}|points://tones/500.wav"
    (tmp_path / "corpus.pairs").write_text("\n".join([*lines, "no bar here"]) + "\n")
    (tmp_path / "p.yaml").write_text(PIPELINE)
    (tmp_path / "back.yaml").write_text(BACK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def curate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Call the command line with the plugins-file in this process, and return what it prints."""
    monkeypatch.setenv("CURATE_PLUGINS", "")

    def call(*arguments: str) -> str:
        code = main(["--plugins-file", str(FILE), *arguments])
        output = capsys.readouterr()
        assert code == 0, output.err
        return output.out

    yield call
    logger.remove()
    logger.disable("curate")


def run(host: PluginHost, executor: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    if executor == "ray":
        request.getfixturevalue("ray_cluster")
    configured = load_pipeline(Path("p.yaml"), host=host, executor=executor, run_dir="run")
    result = configured.pipeline.run(configured.executor, run_dir="run", host=host, max_failures=5)
    return dict(result.summary)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_source_stages_gather_writer_recogniser_normaliser_format_and_scheme_work_together(
    project: Path, host: PluginHost, executor: str, request: pytest.FixtureRequest
) -> None:
    events: list[str] = sys.modules[host.rows()[-1].module].EVENTS
    events.clear()
    summary = run(host, executor, request)
    assert summary["executor"] == executor
    assert summary["failures"] == {"points/no_bar": 1, "points/too_short": 1}
    assert Path("run/texts.txt").read_text().splitlines() == ["five words are in this", "a 500 b", "two words"]
    header, *rows = (line.split("|") for line in Path("run/out.psv").read_text().splitlines())
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(row["text"], row["pred_text"], row["words"]) for row in found] == [
        ("five words are in this", "1000 milliseconds", "5"),
        ("a 500 b", "500 milliseconds", "3"),
        ("two words", "750 milliseconds", "2"),
    ]
    assert [row["wer"] for row in found] == ["1.0", "0.0", "1.0"]  # only the digits were compared
    assert sorted(events) == ["finished 3", "quarantined points/no_bar", "quarantined points/too_short"]


def test_without_the_plugins_file_every_name_is_unknown(project: Path) -> None:
    bare = PluginHost(environment={"CURATE_PLUGINS": ""})
    for registry, name in (
        (bare.stages, "read_pairs"),
        (bare.executors, "one_after_the_other"),
        (bare.recognisers, "counts_samples"),
        (bare.normalisers, "digits"),
        (bare.formats, "psv"),
        (bare.schemes, "points"),
        (bare.panels, "words"),
        (bare.commands, "count-kept"),
    ):
        assert name not in {reference.name for reference in registry}
    assert bare.format_of("out.psv") is None
    assert "points/too_short" not in bare.error_codes


def test_a_file_that_a_format_of_a_plugin_has_written_is_read_back_and_may_grow(
    project: Path, host: PluginHost, request: pytest.FixtureRequest, curate: Callable[..., str]
) -> None:
    run(host, "local", request)
    curate("run", "back.yaml", "--run-dir", "again")
    columns = Path("run/out.psv").read_text().partition("\n")[0].split("|")
    with Path("run/out.psv").open("a") as file:
        file.write("|".join({"text": "late", "duration": "1.0"}.get(name, "x") for name in columns) + "\n")
    curate("run", "back.yaml", "--run-dir", "again", "--grown")
    texts = [json.loads(line)["text"] for line in Path("again/back.jsonl").read_text().splitlines()]
    assert texts == ["five words are in this", "a 500 b", "two words", "late"]


def test_codes_verb_and_panel_are_known_to_the_command_line(project: Path, curate: Callable[..., str]) -> None:
    curate("run", "p.yaml", "--run-dir", "run", "--executor", "one_after_the_other", "--max-failures", "5")
    assert curate("count-kept", "run").strip() == "3"
    kinds = {kind["code"]: kind["meaning"] for kind in json.loads(curate("quarantine", "list", "run", "--json"))}
    assert kinds["points/too_short"] == "the record has fewer words than it should"
    curate("report", "run")
    page = Path("run/report.html").read_text()
    assert '<div class="card" id="words-of-texts">' in page
    assert "the line has no bar between text and path" in page
    [row] = [row for row in json.loads(curate("plugins", "--json")) if row["name"] == str(FILE)]
    assert {kind: names for kind, names in row["provides"].items() if names} == {
        "stages": ["read_pairs", "count_words", "refuse_short", "longest_first", "write_texts"],
        "executors": ["one_after_the_other"],
        "recognisers": ["counts_samples"],
        "normalisers": ["digits"],
        "formats": ["psv"],
        "schemes": ["points"],
        "panels": ["words"],
        "commands": ["count-kept"],
        "error_codes": ["points/no_bar", "points/too_short"],
    }


def test_a_code_that_an_installed_plugin_does_not_announce_is_a_warning(host: PluginHost, warnings: list[str]) -> None:
    from curate.engine import RecordQuarantined

    own = PluginHost()
    if "curate-example" not in {row.distribution for row in own.rows()}:
        pytest.skip("the distribution curate-example is not installed")
    for _ in range(2):
        own.on_record_quarantined(RecordQuarantined("m:1", "stage", "curate-example/no_duratoin", "misspelt"))
    host.on_record_quarantined(RecordQuarantined("m:1", "stage", "points/unheard_of", "not of a distribution"))
    [line] = warnings
    assert line.startswith("curate-example does not announce the error code 'curate-example/no_duratoin'")
    assert "curate-example/no_duration" in line
