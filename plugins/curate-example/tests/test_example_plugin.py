"""What the distribution announces, that announcing costs nothing, and that both names work from YAML."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from curate import AudioBatch, ProcessingStage, RecordError
from curate.config import load_pipeline
from curate.errors import ConfigError
from curate.io import ManifestFormat
from curate.plugin import PluginHost
from curate.report import write_report
from curate.testing import (
    AudioModelContract,
    FormatContract,
    NormaliserContract,
    SourceContract,
    StageContract,
    WriterContract,
    write_silence,
    write_tone,
)
from curate_example import plugin
from curate_example.formats import TSV
from curate_example.normalisers import letters
from curate_example.recognisers import Loudness
from curate_example.sources import ReadTextFiles
from curate_example.stages import characters_per_second
from curate_example.threads import ThreadsExecutor
from curate_example.writers import WriteText

PIPELINE = """\
executor: {use: threads, workers: 2}
stages:
  - {use: read_manifest, manifest: corpus.jsonl, roots: [.]}
  - {use: characters_per_second}
  - {use: quality_filter, expression: characters_per_s <= 25}
  - {use: merge, path: unhurried.jsonl}
"""


@pytest.fixture
def host() -> PluginHost:
    """Return a host with curate's own plugin and this one, whatever else is installed."""
    assert plugin.__file__ is not None
    return PluginHost(environment={"CURATE_PLUGINS": ""}, plugin_files=[plugin.__file__])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [("a normal sentence", 1.7), ("rattled off at a breathless pace", 0.4), ("no length at all", 0.0)]
    lines = [json.dumps({"text": text, "duration": duration}) for text, duration in rows]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    path = tmp_path / "pipeline.yaml"
    path.write_text(PIPELINE)
    return path


def test_both_work_from_yaml(host: PluginHost, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    configured = load_pipeline(file, host=host)
    assert configured.executor == ThreadsExecutor(workers=2)
    result = configured.pipeline.run(configured.executor, run_dir="run", host=host)
    [kept] = map(json.loads, Path("run/unhurried.jsonl").read_text().splitlines())
    assert kept == {"text": "a normal sentence", "duration": 1.7, "characters_per_s": 10.0}
    assert result.summary["failures"] == {"curate-example/no_duration": 1}
    assert (result.summary["filtered"], result.summary["executor"]) == (1, "threads")


def test_its_options_are_checked_like_any_others(host: PluginHost, file: Path) -> None:
    file.write_text(PIPELINE.replace("workers: 2", "worker: 2"))
    with pytest.raises(ConfigError, match=r"1:26: ThreadsExecutor has no option 'worker': did you mean 'workers'"):
        load_pipeline(file, host=host)
    file.write_text(PIPELINE.replace("workers: 2", "workers: 0"))
    with pytest.raises(ConfigError, match=r"workers=0: must be at least 1"):
        load_pipeline(file, host=host)


def test_the_stage_is_still_a_function() -> None:
    assert characters_per_second({"text": "abcde", "duration": 2.0})["characters_per_s"] == 2.5
    with pytest.raises(RecordError, match="no speed"):
        characters_per_second({"text": "abcde", "duration": 0.0})
    batch = AudioBatch([{"text": "abc", "duration": 3.0}])
    done = characters_per_second.process(batch)
    assert isinstance(done, AudioBatch)
    assert done.data[0]["characters_per_s"] == 1.0


def test_announcing_imports_nothing_heavy() -> None:
    code = (
        "import sys, curate_example.plugin; print({'curate_example.threads', 'curate_example.stages', 'curate.engine', "
        "'numpy', 'torch', 'ray', 'pyarrow'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_curate_finds_it_where_it_is_installed() -> None:
    try:
        metadata.distribution("curate-example")
    except metadata.PackageNotFoundError:
        pytest.skip("the distribution curate-example is not installed")
    host = PluginHost(environment={})
    assert host.executor("threads").load() is ThreadsExecutor
    assert host.stage("curate-example/characters_per_second").load() is characters_per_second


def test_everything_that_it_announces_can_be_loaded(host: PluginHost) -> None:
    [row] = [row for row in host.rows() if row.is_file]
    assert {kind for kind, names in row.provides().items() if not names} == {
        "audio_engines",
        "schemes",
        "voice_detectors",
    }
    for reference in row.references:
        reference.load()


EVERYTHING = """\
stages:
  - {use: read_text_files, manifest: list.txt}
  - {use: audio_duration}
  - {use: asr, recogniser: loudness}
  - {use: characters_per_second}
  - {use: character_error_rate, normaliser: letters}
  - {use: write_text, path: texts.txt}
  - {use: merge, path: out.tsv}
"""


def test_a_pipeline_with_all_of_it(host: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tone(tmp_path / "tone.wav", seconds=0.5)
    write_silence(tmp_path / "silence.wav", seconds=1.0)
    (tmp_path / "list.txt").write_text("tone.wav\tLoud!\nsilence.wav\tloud\nno tab\n")
    (tmp_path / "all.yaml").write_text(EVERYTHING)
    configured = load_pipeline(Path("all.yaml"), host=host)
    result = configured.pipeline.run(run_dir="run", host=host, max_failures=1)
    assert result.summary["failures"] == {"curate-example/no_tab": 1}
    assert Path("run/texts.txt").read_text() == "Loud!\nloud\n"
    rows = [row for _, row in TSV.read_rows(Path("run/out.tsv"), 0) if isinstance(row, dict)]
    assert [(row["pred_text"], row["cer"], row["duration"]) for row in rows] == [("loud", "0.0", 0.5), ("", "1.0", 1.0)]
    page = write_report("run", host=host).read_text()
    assert '<div class="card" id="speed-of-speech">' in page
    assert "the line has no tab between name and text" in page


class TestCharactersPerSecond(StageContract):
    def stage(self) -> ProcessingStage:
        return characters_per_second

    def records(self, folder: Path) -> list[dict[str, Any]]:
        return [{"text": "abc", "duration": 1.0}, {"text": "abc", "duration": 0.0}]


class TestReadTextFiles(SourceContract):
    def source(self, folder: Path) -> ReadTextFiles:
        (folder / "list.txt").write_text("a.wav\tone\nb.wav\ttwo\nbroken\n")
        return ReadTextFiles(folder / "list.txt")


class TestWriteText(WriterContract):
    def writer(self) -> WriteText:
        return WriteText("texts.txt")


class TestTsv(FormatContract):
    def format(self) -> ManifestFormat:
        return TSV


class TestLoudness(AudioModelContract):
    def model(self) -> Any:
        return Loudness()


class TestLetters(NormaliserContract):
    examples = {"Groß, größer! 12": "groß größer"}  # noqa: RUF012

    def normaliser(self) -> Any:
        return letters
