"""README and docs say what is true: their snippets run, and what must be listed is listed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import curate
import curate.testing
from curate.config import load_pipeline
from curate.config.overrides import TOP_LEVEL
from curate.errors import RECORD_ERROR_CODES
from curate.models import Clip
from curate.plugin import PluginHost, spec
from curate.run_time_options import RUN_TIME_OPTIONS, RunTimeOption
from curate.stages import Merge
from curate.testing import write_tone

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}


def blocks(text: str, language: str) -> list[str]:
    return [textwrap.dedent(block) for block in re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty folder from which the README's relative paths lead to the project's pipelines."""
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    return tmp_path


@pytest.mark.nemo
def test_the_readmes_pipeline_runs_as_a_plain_script_without_a_main_guard(project: Path) -> None:
    script = next(block for block in blocks(README, "python") if "Pipeline(name=" in block)
    assert "__main__" not in script
    (project / "digits.py").write_text(script)
    done = run("digits.py", cwd=project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "44 of 56 records kept, in runs/digits/curated.jsonl"


@pytest.mark.nemo
@pytest.mark.slow
@pytest.mark.xdist_group("nemo")  # with the other test that looks at this run
def test_the_quickstart_in_python_gives_what_it_gives_in_yaml(
    quickstart_command: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run(str(ROOT / "pipelines" / "quickstart" / "pipeline.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours = (tmp_path / "runs" / "quickstart-python" / "curated.jsonl").read_bytes()
    assert ours == (quickstart_command[0] / "curated.jsonl").read_bytes()


def test_the_readmes_own_stage_runs_from_a_plugins_file(tmp_path: Path) -> None:
    stage = next(block for block in blocks(README, "python") if "# my_stages.py" in block)
    assert len([line for line in stage.splitlines() if line.strip() and not line.startswith("#")]) <= 10
    (tmp_path / "my_stages.py").write_text(stage)
    (tmp_path / "corpus.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 2.0, "text": "one two three"}\n')
    (tmp_path / "my_pipeline.yaml").write_text(
        next(block for block in blocks(README, "yaml") if "# my_pipeline.yaml" in block)
    )
    command = next(line for line in README.splitlines() if line.startswith("curate --plugins-file"))
    done = run("-m", "curate.cli", *command.split()[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"words_per_s": 1.5' in (tmp_path / "runs" / "my_pipeline" / "natural.jsonl").read_text()


def test_the_readmes_commands_for_the_quickstart_plan_what_they_say(project: Path) -> None:
    commands = [
        line for block in blocks(README, "console") for line in block.splitlines() if line.startswith("curate plan")
    ]
    assert commands
    for command in commands:
        done = run("-m", "curate.cli", *command.split()[1:], cwd=project)
        assert done.returncode == 0, done.stderr
        assert "asr" in done.stdout


def test_the_example_of_what_a_corpus_costs_has_its_prices(project: Path) -> None:
    commands = [line for block in blocks(DOCS["costs.md"], "console") for line in block.splitlines()]
    stages = [_estimated(command, project) for command in commands]
    on_gpu, on_cores = (next(row for row in rows if row["name"] == "asr") for rows in stages)
    assert (round(on_gpu["work_s"] / 3600), round(on_gpu["wall_s"] / 3600)) == (500, 125)
    for row, price in ((on_gpu, "1,410"), (on_cores, "13,333")):
        assert f"{row['price']:,.0f}" == price
        assert f"= {price}" in DOCS["costs.md"]
    ratio = on_cores["price"] / on_gpu["price"]
    assert f"{ratio:.1f} times as much" in DOCS["costs.md"]


def _estimated(command: str, folder: Path) -> list[dict[str, Any]]:
    done = run("-m", "curate.cli", *shlex.split(command)[1:], "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["stages"]


def test_the_stages_in_the_plugin_guide_work() -> None:
    by_name: dict[str, object] = {}
    for block in blocks(DOCS["plugins.md"], "python"):
        exec(compile(block, "plugins.md", "exec"), by_name)  # the guide's own code
    rate = by_name["SpeakingRate"](most_words_per_s=2.0)  # type: ignore[operator]
    assert rate.process_record({"text": "one two", "duration": 2.0}) == {"text": "one two", "duration": 2.0}
    assert "words/s" in rate.process_record({"text": "a b c d e f", "duration": 2.0}).reason
    rows = by_name["Silence"]().infer([Clip(np.zeros(800, np.float32), 16_000)])  # type: ignore[operator]
    assert rows == [{"text": "", "silence_s": 0.05}]


def test_the_contract_in_the_plugin_guide_holds(tmp_path: Path) -> None:
    from curate.testing import StageContract

    by_name: dict[str, object] = {}
    for block in blocks(DOCS["plugins.md"], "python"):
        exec(compile(block, "plugins.md", "exec"), by_name)
    contract = by_name["TestSpeakingRate"]()  # type: ignore[operator]
    for name in [name for name in dir(StageContract) if name.startswith("test_")]:
        test = getattr(contract, name)
        test(tmp_path) if test.__code__.co_argcount == 2 else test()
        assert f"| `{name}` |" in DOCS["plugins.md"]


def test_the_pipeline_file_in_the_docs_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(ROOT / "pipelines" / "quickstart" / "data")
    (tmp_path / "model.nemo").symlink_to(ROOT / "pipelines" / "quickstart" / "model.nemo")
    (tmp_path / "pipeline.yaml").write_text(blocks(DOCS["pipelines.md"], "yaml")[0])
    configured = load_pipeline(tmp_path / "pipeline.yaml", host=PluginHost(environment={"CURATE_PLUGINS": ""}))
    assert [stage.name for stage in configured.pipeline.plan().stages] == ["read_manifest", "asr", "merge"]


@pytest.mark.parametrize("code", RECORD_ERROR_CODES)
def test_every_error_code_is_documented_with_its_meaning(code: str) -> None:
    assert f"| `{code}` | {RECORD_ERROR_CODES[code]} |" in DOCS["errors.md"]


@pytest.mark.parametrize("option", RUN_TIME_OPTIONS.values(), ids=lambda option: option.name)
def test_every_run_time_option_is_documented_with_its_meaning(option: RunTimeOption) -> None:
    assert f"| `{option.name}` | {option.meaning} |" in DOCS["pipelines.md"]


@pytest.mark.parametrize("hook", [name for name in dir(spec) if name.startswith("curate_")])
def test_every_hook_is_documented_with_its_arguments(hook: str) -> None:
    names = getattr(spec, hook).__code__.co_varnames[: getattr(spec, hook).__code__.co_argcount]
    assert f"| `{hook}({', '.join(names)})` |" in DOCS["plugins.md"]


def test_every_built_in_stage_is_in_the_reference() -> None:
    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    for reference in host.stages:
        assert reference.target.partition(":")[2] in DOCS["stages.md"], f"{reference.name} is not in docs/stages.md"


@pytest.mark.nemo
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_newcomers_path_runs_from_the_first_run_to_a_plugin() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "docs" / "newcomer.py"), "--here", "--tutorial"],
        capture_output=True,
        text=True,
        timeout=590,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert re.search(r"\d+ passed", done.stdout)
    assert " failed" not in done.stdout
    assert "records ended differently" in done.stdout


def test_the_recipes_run() -> None:
    recipes = blocks(DOCS["how-to.md"], "python")
    assert len(recipes) >= 6
    for recipe in recipes:
        assert "\nassert " in recipe, "a recipe shows, and here checks, its result"
        exec(compile(recipe, "how-to.md", "exec"), {"__name__": "how_to"})


def test_the_stages_in_the_audio_guide_work(tmp_path: Path) -> None:
    from curate.stages import ReadRecords
    from curate.testing import write_silence, write_tone

    records = [
        {"audio_filepath": str(write_tone(tmp_path / "tone.wav", 25.0))},
        {"audio_filepath": str(write_silence(tmp_path / "silence.wav", 1.0))},
    ]
    names: dict[str, Any] = {"records": [dict(record) for record in records]}
    for block in blocks(DOCS["audio.md"], "python"):
        exec(compile(block, "audio.md", "exec"), names)
    assert len(names["loud"]) == 1
    stages = [names["LoudEnough"](), names["HalfAsLoud"](), names["Windows"]()]
    result = curate.Pipeline("guide", [ReadRecords(records), *stages]).run(run_dir=tmp_path / "run")
    assert [record["duration"] for record in result.records()] == [10.0, 10.0, 5.0]
    assert result.summary["filtered"] == 1


def test_the_audio_block_in_the_guide_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"audio_filepath": "a.wav"}\n')
    stages = "stages:\n  - {use: read_manifest, manifest: in.jsonl}\n"
    (tmp_path / "pipeline.yaml").write_text(blocks(DOCS["audio.md"], "yaml")[0] + stages)
    configured = load_pipeline(tmp_path / "pipeline.yaml", host=PluginHost(environment={"CURATE_PLUGINS": ""}))
    assert configured.pipeline.audio == curate.AudioSettings()


def test_the_recipes_pipeline_file_is_of_the_right_form() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "docs" / "pipeline.schema.json").read_text())
    for page in ("how-to.md", "coming-from.md", "tutorial.md"):
        for block in blocks(DOCS[page], "yaml"):
            document = yaml.safe_load(block)
            for stage in document["stages"]:
                if stage["use"] == "words_per_second":
                    stage["use"] = "somebodys-plugin/words_per_second"
            jsonschema.validate(document, schema)


def test_our_side_of_the_comparisons_can_be_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus.jsonl").write_text(
        '{"audio_filepath": "a.wav", "duration": 2.0, "text": "one", "wer": 0.1}\n'
        '{"audio_filepath": "b.wav", "duration": 2.0, "text": "one", "wer": 0.9}\n'
    )
    (tmp_path / "model.nemo").symlink_to(ROOT / "pipelines" / "quickstart" / "model.nemo")
    monkeypatch.chdir(tmp_path)
    nemo, datatrove = blocks(DOCS["coming-from.md"], "python")
    names: dict[str, Any] = {}
    exec(compile(nemo, "coming-from.md", "exec"), names)
    stages = [planned.name for planned in names["pipeline"].plan().stages]
    assert stages[0] == "read_manifest" and stages[-1] == "merge" and len(stages) == 7
    exec(compile(datatrove, "coming-from.md", "exec"), names)
    assert names["result"].summary["kept"] == 1
    (tmp_path / "pipeline.yaml").write_text(blocks(DOCS["coming-from.md"], "yaml")[0])
    configured = load_pipeline(tmp_path / "pipeline.yaml", host=PluginHost(environment={"CURATE_PLUGINS": ""}))
    assert len(configured.pipeline.plan().stages) == 5


@pytest.mark.parametrize("name", curate.__all__)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    assert re.search(rf"(?:autoclass|autofunction|autodata):: curate\.{name}$", DOCS["python.md"], flags=re.MULTILINE)


@pytest.mark.parametrize("name", curate.testing.__all__)
def test_everything_for_tests_is_in_the_reference(name: str) -> None:
    assert f":: curate.testing.{name}\n" in DOCS["python.md"]


@pytest.mark.parametrize("key", TOP_LEVEL)
def test_every_key_of_a_pipeline_file_is_documented(key: str) -> None:
    assert f"| `{key}` |" in DOCS["pipelines.md"]


WORDS = """record, batch, stage, source, partitioner, gather, writer, pipeline, plan, fingerprint, hop, executor,
worker, driver, commit unit, phase, window, in flight, quarantine"""


@pytest.mark.parametrize("word", re.split(r",\s", WORDS))
def test_every_word_is_in_the_glossary(word: str) -> None:
    assert f"\n{word}\n    " in DOCS["glossary.md"]


TITLES = {
    "architecture.md": "Architecture",
    "audio.md": "Audio stages",
    "audiobooks.md": "Audiobooks",
    "batching.md": "Batching",
    "benchmarks.md": "Benchmarks",
    "cluster.md": "Scale to a cluster",
    "costs.md": "What a corpus costs",
    "comparison.md": "Comparison",
    "corpus.md": "Corpora",
    "coming-from.md": "Coming from NeMo Curator, SDP or datatrove",
    "errors.md": "Error codes",
    "executors.md": "Executors",
    "glossary.md": "Glossary",
    "alignment.md": "Alignment and agreement",
    "error-rates.md": "Error rates",
    "gpu.md": "GPUs",
    "guarantees.md": "Guarantees",
    "how-to.md": "How-to guides",
    "measures.md": "Measures of audio",
    "pipelines.md": "Pipelines",
    "plugins.md": "Plugins",
    "podcasts.md": "Podcasts to utterances",
    "pseudo-labels.md": "Pseudo-label a language",
    "publishing.md": "Publishing data sets",
    "python.md": "Python API",
    "read-speech.md": "Clean a read-speech corpus",
    "recognisers.md": "Recognisers",
    "scale.md": "What a run costs at scale",
    "report.md": "Reports",
    "stages.md": "Stages",
    "telephone.md": "Telephone",
    "tutorial.md": "Tutorial",
    "your-data.md": "Your own data",
    "utterances.md": "From recordings to utterances",
}


@pytest.mark.parametrize("page", ["measures.md", "utterances.md"])
def test_the_pipelines_of_the_pages_on_audio_run(page: str, tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav", 2.0)
    for manifest in ("corpus.jsonl", "recordings.jsonl"):
        (tmp_path / manifest).write_text('{"audio_filepath": "a.wav", "text": "one"}\n')
    (block,) = blocks(DOCS[page], "yaml")
    (tmp_path / "pipeline.yaml").write_text(block)
    done = run("-m", "curate.cli", "run", "pipeline.yaml", cwd=tmp_path)
    assert done.returncode in (0, 5) and "Traceback" not in done.stderr, done.stderr
    for script in blocks(DOCS[page], "python"):
        exec(compile(script, page, "exec"), {})


@pytest.mark.parametrize("page", sorted(DOCS.keys() - {"index.md"}))
def test_page_has_the_title_that_people_search_for(page: str) -> None:
    assert DOCS[page].partition("\n")[0] == f"# {TITLES[page]}"
    assert re.search(rf"^{page.removesuffix('.md')}$", DOCS["index.md"], flags=re.MULTILINE), "not in the navigation"


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "decisions").glob("0*.md")), ids=lambda path: path.stem)
def test_decision_has_status_date_price_and_alternatives(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(path.name[:4])}. ")
    header = "| Status | Date | Replaces |\n|---|---|---|\n"
    assert re.search(re.escape(header) + r"\| (accepted|replaced) \| \d{4}-\d\d-\d\d \| ", text)
    assert "\nThe price: " in text
    assert re.search(r"\n## Alternatives\n\n- \*", text)


def test_pipeline_of_the_page_on_corpora_runs(tmp_path: Path) -> None:
    pytest.importorskip("duckdb", reason="needs duckdb: pip install 'curate-speech[corpus]'")
    pipeline, _ = blocks(DOCS["corpus.md"], "yaml")
    rows = [
        {"text": "one two three", "duration": 1 + n % 3, "lang": "en", "client_id": n % 7, "snr": None if n % 2 else 20}
        for n in range(60)
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "speakers.csv").write_text("speaker,gender\n" + "".join(f"{n},f\n" for n in range(7)))
    (tmp_path / "takedown.csv").write_text("speaker\n3\n")
    (tmp_path / "p.yaml").write_text(pipeline)
    done = run("-m", "curate.cli", "run", "p.yaml", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = [json.loads(line) for line in (tmp_path / "run/balanced.jsonl").read_text().splitlines()]
    assert len(kept) == 60 - 9
    assert {(row["gender"], row["license"]) for row in kept} == {("f", "CC0")}
    assert {row["quiet"] for row in kept} == {True, False}


def test_pipeline_of_duplicates_and_splits_runs(tmp_path: Path) -> None:
    pytest.importorskip("duckdb", reason="needs duckdb: pip install 'curate-speech[corpus]'")
    _, pipeline = blocks(DOCS["corpus.md"], "yaml")
    from curate.testing import write_tone

    rows = [
        {
            "audio_filepath": str(write_tone(tmp_path / f"{n}.wav", 0.1 + n / 100)),
            "text": f"this is text number {n} of the corpus",
            "speaker": f"s{n}",
        }
        for n in range(40)
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, rows[0]]))
    (tmp_path / "p.yaml").write_text(pipeline.replace("test: 10h", "test: 2s"))
    done = run("-m", "curate.cli", "run", "p.yaml", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = [json.loads(line) for line in (tmp_path / "run/divided.jsonl").read_text().splitlines()]
    assert len(kept) == 40
    assert {row["split"] for row in kept} == {"train", "dev", "test"}


def test_every_verb_is_documented() -> None:
    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    for reference in host.commands:
        assert f"| `curate {reference.name}" in DOCS["pipelines.md"], f"curate {reference.name} is not documented"


def test_every_global_option_is_documented() -> None:
    from curate.cli.root import root

    options = {option for parameter in root.params for option in parameter.opts if option.startswith("--")}
    for option in options - {"--version"}:
        assert option in DOCS["pipelines.md"], f"{option} is not documented"


def test_the_pipeline_in_the_page_on_executors_runs_as_a_plain_script(tmp_path: Path) -> None:
    script, _, contract = blocks(DOCS["executors.md"], "python")
    assert "__main__" not in script
    (tmp_path / "halves.py").write_text(script)
    done = run("halves.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[1.5, 2.0]"
    names: dict[str, Any] = {}
    exec(compile(contract, "executors.md", "exec"), names)
    names["TestMine"]().test_a_bad_record_costs_one_record(tmp_path / "run")


EXECUTOR_COMMANDS = [line for block in blocks(DOCS["executors.md"], "console") for line in block.splitlines()]
NEEDED = {
    "curate run pipelines/quickstart": [pytest.mark.nemo, pytest.mark.slow],
    "curate plan pipelines/ray": [pytest.mark.ray],
}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=next((marks for begin, marks in NEEDED.items() if command.startswith(begin)), []))
        for command in EXECUTOR_COMMANDS
    ],
)
def test_commands_in_the_page_on_executors_do_what_they_say(command: str, project: Path) -> None:
    assert len(EXECUTOR_COMMANDS) == 3
    done = run("-m", "curate.cli", *command.split()[1:], cwd=project)
    assert done.returncode == 0, done.stderr
    assert "asr" in done.stdout


def test_every_option_of_an_executor_and_every_member_of_a_transport_is_documented() -> None:
    import attrs

    from curate.engine.protocol.transport import Transport

    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    names = [field.alias for ref in host.executors for field in attrs.fields(ref.load()) if field.init]
    names += [name for name in (*vars(Transport), *Transport.__annotations__) if not name.startswith("_")]
    assert {"cpus", "address", "send", "can_kill"} <= set(names)
    for name in names:
        assert f"`{name}`" in DOCS["executors.md"] or f"`{name}(" in DOCS["executors.md"], name
    for ref in host.executors:
        assert f"| `{ref.name}` |" in DOCS["executors.md"]


def test_the_pipeline_and_the_format_of_the_page_on_publishing_run(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav", 1.0)
    (tmp_path / "corpus.jsonl").write_text('{"audio_filepath": "a.wav", "text": "one", "split": "train"}\n')
    block, merge = blocks(DOCS["publishing.md"], "yaml")
    (fields,) = yaml.safe_load(merge)
    Merge(**{name: value for name, value in fields.items() if name != "use"}).check()
    (tmp_path / "pipeline.yaml").write_text(block)
    done = run("-m", "curate.cli", "run", "pipeline.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    verified = run("-m", "curate.cli", "verify", "runs/published/trainset", cwd=tmp_path)
    assert "all as published" in verified.stdout, verified.stderr
    (code,) = blocks(DOCS["publishing.md"], "python")
    (tmp_path / "lengths.py").write_text(
        f"{code}\n\nif __name__ == '__main__':\n"
        "    from curate import Pipeline\n    from curate.stages import ReadManifest\n"
        "    stages = [ReadManifest('corpus.jsonl'), WriteLengths('lengths')]\n"
        "    Pipeline('lengths', stages).run(run_dir='run')\n"
    )
    assert run("lengths.py", cwd=tmp_path).returncode == 0
    assert (tmp_path / "run" / "lengths" / "all" / "00000-of-00001.jsonl").read_text().startswith('{"name": "corpus-1-')


def test_pipeline_of_the_page_on_alignment_is_planned(tmp_path: Path) -> None:
    first, second = blocks(DOCS["alignment.md"], "yaml")
    shutil.copy(ROOT / "pipelines" / "quickstart" / "model.nemo", tmp_path)
    (tmp_path / "chapters.jsonl").write_text('{"audio_filepath": "a.wav", "text": "One. Two."}\n')
    (tmp_path / "p.yaml").write_text(first)
    done = run("-m", "curate.cli", "plan", "p.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    other = "use: asr_nemo\n  model_name: model.nemo"
    several = textwrap.dedent(second).replace("use: asr\n  recogniser: whisper", other)
    (tmp_path / "p.yaml").write_text(first.partition("  - use: align")[0] + textwrap.indent(several, "  "))
    done = run("-m", "curate.cli", "plan", "p.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
