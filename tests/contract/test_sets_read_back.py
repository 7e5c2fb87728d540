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
from curate.stages import NemoTarredWriter, ReadManifest, WebDatasetWriter

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
def test_nemo_draws_batches_from_its_tarred_set(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = NemoTarredWriter(tmp_path / "set", shards=3, by="split", rate_hz=16_000)
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


def test_webdataset_reads_its_samples(manifest: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    writer = WebDatasetWriter(tmp_path / "set", shard_records=4)
    Pipeline("set", [ReadManifest(manifest), writer]).run(run_dir=tmp_path / "run")
    names = (tmp_path / "set" / "shards.txt").read_text().split()
    shards = [str(tmp_path / "set" / name) for name in names]
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
