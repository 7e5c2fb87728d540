"""Published sets are read by the libraries that they are written for: same audio, texts, lengths, and number."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.errors import PlanError
from curate.io.provenance import verify_set
from curate.stages import (
    AudioFilesWriter,
    HuggingFaceReader,
    HuggingFaceWriter,
    KaldiReader,
    KaldiWriter,
    LhotseReader,
    Merge,
    NemoTarredReader,
    NemoTarredWriter,
    ReadManifest,
    SharWriter,
    WebDatasetReader,
    WebDatasetWriter,
)

COUNT = 19


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of segments of one long recording and of whole files, at two rates."""
    folder = tmp_path_factory.mktemp("corpus")
    noise = np.random.default_rng(0).integers(-3000, 3000, 16_000 * 60).astype(np.int16)
    soundfile.write(folder / "long.wav", noise, 16_000)
    with (folder / "in.jsonl").open("w") as lines:
        for number in range(COUNT):
            row: dict[str, Any] = {
                "text": f"word {number}",
                "lang": "en",
                "split": "dev" if number % 5 == 2 else "train",
                "speaker": f"spk {number % 4}" if number % 4 else "spk",
                "license": "CC0-1.0" if number % 2 else "CC-BY-4.0",
            }
            if number % 3:
                row |= {"audio_filepath": "long.wav", "offset": 3.0 * number, "duration": 1.0 + number % 4 / 2}
            else:
                rate_hz = 8_000 if number % 2 else 16_000
                soundfile.write(folder / f"{number}.flac", noise[number * 100 :][: rate_hz * 2], rate_hz)
                row |= {"audio_filepath": f"{number}.flac", "duration": 2.0}
            lines.write(json.dumps(row) + "\n")
    return folder / "in.jsonl"


def samples_of(manifest: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the samples of each record at its own rate, by its text."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for line in manifest.read_text().splitlines():
        row = json.loads(line)
        audio, rate_hz = soundfile.read(manifest.parent / row["audio_filepath"], dtype="float32")
        start = round(row.get("offset", 0) * rate_hz)
        found[row["text"]] = audio[start : start + round(row["duration"] * rate_hz)]
    return found


@pytest.mark.nemo
@pytest.mark.parametrize("shards", [1, 3])
def test_nemo_draws_batches_from_its_tarred_set(
    shards: int, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = NemoTarredWriter(tmp_path / "set", shards=shards, by="split", rate_hz=16_000)
    Pipeline("set", [ReadManifest(manifest), writer]).run(run_dir=tmp_path / "run")
    import torch
    from nemo.collections.common.data.lhotse.dataloader import get_lhotse_dataloader_from_config
    from omegaconf import OmegaConf

    class Cuts(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __getitem__(self, cuts: Any) -> list[tuple[str, str, float, Any]]:
            return [
                (cut.supervisions[0].text, cut.supervisions[0].language, cut.duration, cut.load_audio()[0])
                for cut in cuts
            ]

    monkeypatch.chdir(tmp_path / "set")  # the paths in input_cfg.yaml are relative to the set
    config = {"input_cfg": "input_cfg.yaml", "batch_size": 4, "sample_rate": 16_000, "shuffle": False}
    config |= {"num_workers": 0, "use_lhotse": True, "force_finite": True}
    loader = get_lhotse_dataloader_from_config(OmegaConf.create(config), global_rank=0, world_size=1, dataset=Cuts())
    drawn = [each for batch in loader for each in batch]
    wanted = samples_of(manifest)
    assert sorted(text for text, *_ in drawn) == sorted(wanted)
    for text, lang, duration, audio in drawn:
        assert lang == "en"
        assert duration == pytest.approx(len(audio) / 16_000, abs=1e-6)
        if int(text.split()[1]) % 6 != 3:  # those were 8 kHz
            np.testing.assert_array_equal(audio, wanted[text])


@pytest.fixture(scope="module")
def sets(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the records in every form of set, all of one run."""
    folder = tmp_path_factory.mktemp("sets")
    publish_all(manifest, folder, "local")
    return folder


def publish_all(manifest: Path, folder: Path, executor: str, forms: tuple[str, ...] = ()) -> None:
    writers = {
        "shar": SharWriter(folder / "shar", shard_records=4),
        "hf": HuggingFaceWriter(folder / "hf", by="split", shard_records=5, description="Words."),
        "audio": AudioFilesWriter(folder / "audio", template="{stem} {text}", shard_records=6),
        "kaldi": KaldiWriter(folder / "kaldi", shard_records=6),
        "nemo": NemoTarredWriter(folder / "nemo", shards=3, by="split"),
        "webdataset": WebDatasetWriter(folder / "webdataset", shard_records=4),
    }
    chosen = [writers[form] for form in forms or writers]
    stages = [ReadManifest(manifest), *chosen, Merge(folder / "behind.jsonl")]
    result = Pipeline("sets", stages).run(executor, run_dir=folder / "run")
    assert result.summary["kept"] == COUNT


def files_of(folder: Path) -> dict[str, bytes]:
    names = [path for path in folder.rglob("*") if path.is_file() and path.name != "provenance.json"]
    relative = {str(path.relative_to(folder)): path for path in names}
    return {name: path.read_bytes() for name, path in relative.items() if not name.startswith("run/")}


def test_worker_processes_publish_the_same_bytes(sets: Path, manifest: Path, tmp_path: Path) -> None:
    publish_all(manifest, tmp_path / "again", "multiprocessing")
    found, wanted = files_of(tmp_path / "again"), files_of(sets)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


@pytest.mark.ray
@pytest.mark.parametrize("form", ["audio"])
def test_ray_publishes_the_same_bytes(form: str, sets: Path, manifest: Path, tmp_path: Path, ray_cluster: str) -> None:
    publish_all(manifest, tmp_path / "again", "ray", (form,))
    assert files_of(tmp_path / "again" / form) == files_of(sets / form)


def check_samples(found: dict[str, Any], manifest: Path) -> None:
    """Check that each text has the samples of its record, which are none the worse."""
    wanted = samples_of(manifest)
    assert sorted(found) == sorted(wanted)
    for text, samples in found.items():
        np.testing.assert_array_equal(samples, wanted[text], err_msg=text)


def test_every_set_is_whole_and_names_its_hours(sets: Path, manifest: Path) -> None:
    rates = [8_000 if number % 6 == 3 else 16_000 for number in range(COUNT)]
    audio_s = sum(len(samples) / rate_hz for samples, rate_hz in zip(samples_of(manifest).values(), rates, strict=True))
    for name in ("shar", "hf", "audio", "kaldi", "nemo", "webdataset"):
        provenance = json.loads((sets / name / "provenance.json").read_text())
        assert provenance["audio_s"] == pytest.approx(audio_s, abs=1e-3), name
        assert provenance["records"] == sum(each["records"] for each in provenance["folders"].values()) == COUNT
        assert sum(provenance["hours_by"]["license"].values()) == pytest.approx(audio_s / 3600, abs=1e-5)
        assert not list(verify_set(sets / name)), name


def test_rows_behind_sharded_writers_are_in_the_order_of_the_input(sets: Path, manifest: Path) -> None:
    texts = [json.loads(line)["text"] for line in (sets / "behind.jsonl").read_text().splitlines()]
    assert texts == [f"word {number}" for number in range(COUNT)]


def test_our_readers_read_every_set(sets: Path, manifest: Path, tmp_path: Path) -> None:
    readers = {
        "shar": LhotseReader(sets / "shar" / "shar"),
        "hf": HuggingFaceReader(sets / "hf"),
        "audio": ReadManifest(sets / "audio" / "manifest.jsonl"),
        "kaldi": KaldiReader(sets / "kaldi"),
        "nemo": NemoTarredReader(sets / "nemo" / "train" / "tarred_audio_manifest.json"),
        "webdataset": WebDatasetReader(str(sets / "webdataset" / "shard-*.tar")),
    }
    whole = [json.loads(line) for line in manifest.read_text().splitlines()]
    wanted = samples_of(manifest)
    for name, reader in readers.items():
        again = AudioFilesWriter("set", template="{text}", codec="wav")
        Pipeline("again", [reader, again]).run(run_dir=tmp_path / name)
        rows = [json.loads(line) for line in (tmp_path / name / "set" / "manifest.jsonl").read_text().splitlines()]
        expected = [row for row in whole if name != "nemo" or row["split"] == "train"]
        assert sorted(row["text"] for row in rows) == sorted(row["text"] for row in expected), name
        by_text = {row["text"]: row for row in expected}
        for row in rows:
            samples, _ = soundfile.read(tmp_path / name / "set" / row["audio_filepath"], dtype="float32")
            np.testing.assert_array_equal(samples, wanted[row["text"]], err_msg=f"{name} {row['text']}")
            if name != "kaldi":  # its speakers have no spaces
                assert row["speaker"] == by_text[row["text"]]["speaker"]
            assert row["lang"] == "en"


def test_audio_files_have_their_names_and_can_be_moved(sets: Path, manifest: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    (sets / "audio").rename(moved)
    try:
        rows = [json.loads(line) for line in (moved / "manifest.jsonl").read_text().splitlines()]
        found = {row["text"]: soundfile.read(moved / row["audio_filepath"], dtype="float32")[0] for row in rows}
        check_samples(found, manifest)
        assert rows[1]["audio_filepath"] == "audio/00000/long word_1.flac"
        assert [len(list(folder.iterdir())) for folder in sorted((moved / "audio").iterdir())] == [5, 5, 5, 4]
        assert (rows[1]["source_audio_offset"], rows[1]["source_audio_filepath"][-8:]) == (3.0, "long.wav")
    finally:
        moved.rename(sets / "audio")


def test_names_that_collide_are_refused_before_any_work(manifest: Path, tmp_path: Path) -> None:
    writer = AudioFilesWriter("set", template="{speaker}")
    with pytest.raises(PlanError, match=r"records would have the name 'spk', such as .*:1 and .*:5; add a column"):
        Pipeline("set", [ReadManifest(manifest), writer]).run(run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "set").exists()


def test_lhotse_reads_its_shar(sets: Path, manifest: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    cuts = list(lhotse.CutSet.from_shar(in_dir=sets / "shar" / "shar"))
    lhotse.qa.validate(lhotse.CutSet.from_cuts(cuts))
    check_samples({cut.supervisions[0].text: cut.load_audio()[0] for cut in cuts}, manifest)
    assert [cut.supervisions[0].text for cut in cuts] == [f"word {number}" for number in range(COUNT)]
    assert {cut.supervisions[0].speaker for cut in cuts} == {"spk", "spk 1", "spk 2", "spk 3"}
    assert cuts[1].custom["license"] == "CC0-1.0"


def test_lhotse_imports_its_kaldi_folder(sets: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lhotse = pytest.importorskip("lhotse")
    monkeypatch.chdir(sets / "kaldi")  # the paths in wav.scp are relative to the folder
    recordings, supervisions, _ = lhotse.kaldi.load_kaldi_data_dir(Path(), 16_000)
    assert len(recordings) == len(supervisions) == COUNT
    texts = {one.id: one.text for one in supervisions}
    found = {texts[one.id]: soundfile.read(one.sources[0].source, dtype="float32")[0] for one in recordings}
    check_samples(found, manifest)
    for name in ("wav.scp", "text", "utt2spk", "spk2utt", "segments"):
        keys = [line.split()[0].encode() for line in (sets / "kaldi" / name).read_text().splitlines()]
        assert keys == sorted(keys), name
    assert {one.speaker for one in supervisions} > {"spk"}


def test_datasets_opens_its_folder(sets: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    files = {name: str(sets / "hf" / "data" / f"{name}-*.parquet") for name in ("train", "dev")}
    found: dict[str, Any] = {}
    for opened in (
        datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path)),
        datasets.load_dataset(str(sets / "hf"), cache_dir=str(tmp_path)),
    ):
        assert {name: len(split) for name, split in opened.items()} == {"train": 15, "dev": 4}
        for split in opened.values():
            assert isinstance(split.features["audio"], datasets.Audio)
            assert split.features["audio"].sampling_rate is None
            for row in split.cast_column("audio", datasets.Audio(decode=False)):
                found[row["text"]], rate_hz = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
                assert (row["sampling_rate"], row["duration"]) == (rate_hz, len(found[row["text"]]) / rate_hz)
        check_samples(found, manifest)


def test_dataset_card_has_hours_and_licenses_and_no_empty_section(sets: Path) -> None:
    import yaml

    _, meta, body = (sets / "hf" / "README.md").read_text().split("---\n", 2)
    described = yaml.safe_load(meta)
    assert described["language"] == ["en"]
    assert described["license"] == ["cc-by-4.0", "cc0-1.0"]
    assert [each["split"] for each in described["configs"][0]["data_files"]] == ["dev", "train"]
    sections = body.strip().split("\n## ")
    assert [section.split("\n")[0] for section in sections[1:]] == ["Size", "Languages", "Licenses", "How it was made"]
    assert all(len(section.strip().split("\n")) > 2 for section in sections)
    assert "| dev | 4 |" in body
    assert "in.jsonl" in body
    assert str(sets) not in body


def test_webdataset_reads_its_samples(sets: Path, manifest: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    names = (sets / "webdataset" / "shards.txt").read_text().split()
    shards = [str(sets / "webdataset" / name) for name in names]
    found = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    wanted = samples_of(manifest)
    assert [sample["txt"].decode() for sample in found] == list(wanted)
    for sample in found:
        row = json.loads(sample["json"])
        audio, rate_hz = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
        np.testing.assert_array_equal(audio, wanted[row["text"]])
        assert (row["key"], row["sampling_rate"]) == (sample["__key__"], rate_hz)
        assert row["duration"] == len(audio) / rate_hz


def test_canary_rows_say_their_task(manifest: Path, tmp_path: Path) -> None:
    writer = NemoTarredWriter(tmp_path / "set", shards=1, target="canary_v1")
    Pipeline("set", [ReadManifest(manifest), writer]).run(run_dir=tmp_path / "run")
    for line in (tmp_path / "set" / "tarred_audio_manifest.json").read_text().splitlines():
        row = json.loads(line)
        assert (row["source_lang"], row["target_lang"], row["taskname"], row["pnc"]) == ("en", "en", "asr", "yes")
        assert row["shard_id"] == 0


def test_a_record_without_language_is_quarantined_or_gets_the_stages(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000, np.int16) + 5, 16_000)
    (tmp_path / "in.jsonl").write_text('{"audio_filepath": "a.wav", "text": "a"}\n')
    stages = [ReadManifest(tmp_path / "in.jsonl"), NemoTarredWriter("set")]
    result = Pipeline("set", stages).run(run_dir=tmp_path / "one")
    assert [note.code for note in result.quarantined] == ["missing_column"]
    stages[-1] = NemoTarredWriter("set", lang="cy")
    Pipeline("set", stages).run(run_dir=tmp_path / "two")
    assert json.loads((tmp_path / "two" / "set" / "tarred_audio_manifest.json").read_text())["lang"] == "cy"
