"""The same twelve recordings in every form that people have speech in, written by the forms' own libraries."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile

from curate.stage import Stage
from curate.stages import (
    CommonVoiceReader,
    FolderReader,
    HuggingFaceReader,
    KaldiReader,
    LhotseReader,
    LibriSpeechReader,
    LjSpeechReader,
    NemoTarredReader,
    ReadManifest,
    SegmentsReader,
    WebDatasetReader,
)

RATE_HZ = 16_000
TEXTS = (
    "one",
    "two words",
    "and three more",
    "naïve café",
    "日本語",
    'he said "no"',
    "seven",
    "eight",
    "a",
    "b",
    "c",
    "d",
)


@attrs.frozen(eq=False)
class Utterance:
    """One recording of the corpus: 16-bit samples and what is known of it."""

    name: str
    samples: Any
    text: str
    speaker: str

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ

    def encoded(self, form: str) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, self.samples, RATE_HZ, format=form, subtype="PCM_16")
        return file.getvalue()

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.encoded(path.suffix[1:].upper()))
        return path


def utterances() -> list[Utterance]:
    """Return the twelve recordings of three speakers, each of another length in whole milliseconds."""
    random = np.random.default_rng(14)
    return [
        Utterance(
            f"{19 + number // 4}-{100 + number // 4}-{number:04d}",
            random.integers(-8000, 8000, 16 * (250 + 37 * number)).astype(np.int16),
            text,
            str(19 + number // 4),
        )
        for number, text in enumerate(TEXTS)
    ]


Write = Callable[[Path, list[Utterance]], Stage]


def manifest(folder: Path, corpus: list[Utterance]) -> Stage:
    rows = [
        {"audio_filepath": str(one.write(folder / f"{one.name}.wav")), "text": one.text, "speaker": one.speaker}
        for one in corpus
    ]
    (folder / "m.json").write_text(json.dumps(rows))
    return ReadManifest(str(folder / "m.json"))


def plain_folder(folder: Path, corpus: list[Utterance]) -> Stage:
    for one in corpus:
        path = one.write(folder / one.speaker / "book" / f"{one.name}.wav")
        path.with_suffix(".txt").write_text(one.text + "\n", encoding="utf-8")
    return FolderReader(folder, pattern="{speaker}/{book}/{_}")


def common_voice(folder: Path, corpus: list[Utterance]) -> Stage:
    names = ("client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "locale")
    lines = ["\t".join(names)]
    for one in corpus:
        one.write(folder / "cy" / "clips" / f"{one.name}.flac")
        lines.append("\t".join((one.speaker, f"{one.name}.flac", one.text, "2", "0", "", "male_masculine", "cy")))
    (folder / "cy" / "validated.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CommonVoiceReader(folder / "cy")


def librispeech(folder: Path, corpus: list[Utterance]) -> Stage:
    root = folder / "LibriSpeech"
    for one in corpus:
        speaker, chapter, _ = one.name.split("-")
        place = one.write(root / "dev-clean" / speaker / chapter / f"{one.name}.flac").parent
        lines = [f"{each.name} {each.text}\n" for each in corpus if each.name.startswith(f"{speaker}-{chapter}-")]
        (place / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines), encoding="utf-8")
    table = [f"{speaker}   | F | dev-clean            | 8.02  | Ann | Smith" for speaker in ("19", "20", "21")]
    (root / "SPEAKERS.TXT").write_text("; ID | SEX | SUBSET | MINUTES | NAME\n" + "\n".join(table) + "\n")
    return LibriSpeechReader(root)


def ljspeech(folder: Path, corpus: list[Utterance]) -> Stage:
    for one in corpus:
        one.write(folder / "wavs" / f"{one.name}.wav")
    lines = [f"{one.name}|{one.text}|{one.text.upper()}\n" for one in corpus]
    (folder / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    return LjSpeechReader(folder)


def kaldi(folder: Path, corpus: list[Utterance]) -> Stage:
    lhotse = pytest.importorskip("lhotse")
    cuts = _cuts(folder, corpus)
    lhotse.kaldi.export_to_kaldi(
        lhotse.RecordingSet.from_recordings(cut.recording for cut in cuts),
        lhotse.SupervisionSet.from_segments(segment for cut in cuts for segment in cut.supervisions),
        folder / "data",
    )
    return KaldiReader(folder / "data", roots=folder)


def _cuts(folder: Path, corpus: list[Utterance]) -> Any:
    lhotse = pytest.importorskip("lhotse")
    cuts: list[Any] = []
    for one in corpus:
        path = one.write(folder / "audio" / f"{one.name}.wav")
        recording = lhotse.Recording.from_file(path, recording_id=one.name)
        segment = lhotse.SupervisionSegment(
            id=one.name, recording_id=one.name, start=0, duration=recording.duration, text=one.text, speaker=one.speaker
        )
        cuts.append(
            lhotse.MonoCut(
                id=one.name,
                start=0,
                duration=recording.duration,
                channel=0,
                recording=recording,
                supervisions=[segment],
                custom={"session": "s1"},
            )
        )
    return lhotse.CutSet.from_cuts(cuts)


def lhotse_cuts(folder: Path, corpus: list[Utterance]) -> Stage:
    _cuts(folder, corpus).to_file(folder / "cuts.jsonl.gz")
    return LhotseReader(folder / "cuts.jsonl.gz")


def lhotse_shar(folder: Path, corpus: list[Utterance]) -> Stage:
    (folder / "shar").mkdir()
    _cuts(folder, corpus).to_shar(folder / "shar", fields={"recording": "flac"}, shard_size=5)
    return LhotseReader(folder / "shar")


def web_dataset(folder: Path, corpus: list[Utterance]) -> Stage:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(str(folder / "shard-%06d.tar"), maxcount=5, verbose=0) as sink:
        for one in corpus:
            about = {"speaker_id": one.speaker, "session": "s1"}
            sink.write({"__key__": one.name, "flac": one.encoded("FLAC"), "json": about, "txt": one.text})
    return WebDatasetReader(str(folder / "shard-{000000..000002}.tar"))


def nemo_tarred(folder: Path, corpus: list[Utterance]) -> Stage:
    rows: list[dict[str, Any]] = []
    for shard in range(3):
        with tarfile.open(folder / f"audio_{shard}.tar", "w") as tar:
            for one in corpus[4 * shard : 4 * shard + 4]:
                content = one.encoded("WAV")
                member = tarfile.TarInfo(f"{one.name}.wav")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                about = {"text": one.text, "duration": one.duration_s, "speaker": one.speaker, "shard_id": shard}
                rows.append({"audio_filepath": member.name, **about})
    (folder / "tarred_audio_manifest.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return NemoTarredReader(folder / "tarred_audio_manifest.json")


def _dataset(corpus: list[Utterance]) -> Any:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict(
        {
            "audio": [{"bytes": one.encoded("FLAC"), "path": f"{one.name}.flac"} for one in corpus],
            "sentence": [one.text for one in corpus],
            "speaker_id": [one.speaker for one in corpus],
            "gender": [number % 2 for number in range(len(corpus))],
        }
    )
    made = made.cast_column("audio", datasets.Audio(sampling_rate=RATE_HZ, decode=False))
    return made.cast_column("gender", datasets.ClassLabel(names=["female", "male"]))


def hf_parquet(folder: Path, corpus: list[Utterance]) -> Stage:
    _dataset(corpus).to_parquet(folder / "train-00000-of-00001.parquet", batch_size=5)
    return HuggingFaceReader(folder)


def hf_saved(folder: Path, corpus: list[Utterance]) -> Stage:
    _dataset(corpus).save_to_disk(folder / "saved", num_shards=2)
    return HuggingFaceReader(folder / "saved")


def hf_folder(folder: Path, corpus: list[Utterance]) -> Stage:
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file_name", "transcription", "speaker_id"))
        for one in corpus:
            one.write(folder / "train" / f"{one.name}.wav")
            writer.writerow((f"train/{one.name}.wav", one.text, one.speaker))
    return HuggingFaceReader(folder)


def segments_stm(folder: Path, corpus: list[Utterance]) -> Stage:
    whole = np.concatenate([one.samples for one in corpus])
    soundfile.write(folder / "session.flac", whole, RATE_HZ, subtype="PCM_16")
    lines, at = [";; session"], 0.0
    for one in corpus:
        lines.append(f"session 1 {one.speaker} {at:.3f} {at + one.duration_s:.3f} <o> {one.text}")
        at += one.duration_s
    (folder / "session.stm").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return SegmentsReader(folder)


def segments_vtt(folder: Path, corpus: list[Utterance]) -> Stage:
    for number, one in enumerate(corpus):
        one.write(folder / f"{number:02d}.wav")
        cue = f"00:00.000 --> 00:{one.duration_s:06.3f}\n<v {one.speaker}>{one.text}</v>"
        (folder / f"{number:02d}.vtt").write_text(f"WEBVTT\n\n1\n{cue}\n", encoding="utf-8")
    return SegmentsReader(folder)


FORMS: Mapping[str, Write] = {
    "read_manifest": manifest,
    "read_folder": plain_folder,
    "read_common_voice": common_voice,
    "read_kaldi": kaldi,
    "read_librispeech": librispeech,
    "read_ljspeech": ljspeech,
    "read_nemo_tarred": nemo_tarred,
    "read_webdataset": web_dataset,
    "read_lhotse cuts": lhotse_cuts,
    "read_lhotse shar": lhotse_shar,
    "read_hf parquet": hf_parquet,
    "read_hf saved": hf_saved,
    "read_hf folder": hf_folder,
    "read_segments stm": segments_stm,
    "read_segments vtt": segments_vtt,
}
"""The name of a form → what writes the corpus in it and returns its reader."""

WITHOUT_SPEAKER = frozenset({"read_ljspeech"})
