"""Corpora as people really have them: an odd row costs itself, with place and remedy, and an odd corpus is named."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.audio import load_record
from curate.errors import InfrastructureError, PlanError, RecordError
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
    SegmentsReader,
    WebDatasetReader,
)


def tone(form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(8000, 0.1), 16_000, format=form)
    return file.getvalue()


def files(folder: Path, contents: Mapping[str, bytes | str]) -> None:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def tar(path: Path, members: list[tuple[str, bytes | str]]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in members:
            held = content if isinstance(content, bytes) else content.encode()
            about = tarfile.TarInfo(name)
            about.size = len(held)
            file.addfile(about, io.BytesIO(held))
    return path


def read(stage: Stage) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Return the records that are kept, and the code and message of each in quarantine."""
    result = Pipeline("odd", [stage]).run()
    return list(result.records()), [(one.code, one.message) for one in result.quarantined]


CV = "client_id\tpath\tsentence\tup_votes\tgenders\tlocale\n"


def common_voice(folder: Path) -> Stage:
    rows = [
        b's1\ta.wav\t"Quoted" she said\t2\tmale\tcy',
        b"s1\ta\twithout a suffix\t2\t\tcy\r",
        "s1\ta.wav\tline\u2028separator\t2\t\tcy".encode(),
        b"s1\ta.wav\tshort",
        b"s1\ta.wav\tlong\t2\t\tcy\tmore",
        b"s1\t\tno clip\t2\t\tcy",
        b"s1\ta.wav\t\xff\xfe\t2\t\tcy",
    ]
    files(folder, {"cy/clips/a.wav": tone(), "cy/validated.tsv": b"\xef\xbb\xbf" + CV.encode() + b"\n".join(rows)})
    return CommonVoiceReader(folder / "cy")


def kaldi(folder: Path) -> Stage:
    segments = "a-1 a 0 0.5\na-2 a 0.5 -1\na-3 a 1.0 0.5\nb-1 b 0 1\nb-2 a x y\nb-3 a\nc-1 a 0 0.4\n"
    scp = f"\ufeffa {folder}/my dir/a.wav\r\n"
    text = b"a-1 hi  there\na-2 x\nc-1 caf\xe9\n"
    speakers = "a-1 s1\na-2 s2\n"
    held = {"wav.scp": scp, "segments": segments, "text": text, "utt2spk": speakers, "spk2gender": "s1 f\n"}
    files(folder, {"my dir/a.wav": tone(), **{f"data/{name}": each for name, each in held.items()}})
    return KaldiReader(folder / "data", roots=folder)


def librispeech(folder: Path) -> Stage:
    lines = b"\xef\xbb\xbf19-1-0000\tHI THERE\r\n19-1-0001 GONE\nhello world\n19-1-0002 CAF\xc9\n"
    files(folder, {"L/dev/19/1/19-1-0000.flac": tone("FLAC"), "L/dev/19/1/19-1.trans.txt": lines})
    files(folder, {"L/dev/19/2/19-2-0000.flac": tone("FLAC")})
    return LibriSpeechReader(folder / "L")


def ljspeech(folder: Path) -> Stage:
    lines = b'\xef\xbb\xbfa.wav|"He said|He said\r\nwavs/a|x\na|one | two|one two|z\n|no name|x\na|caf\xe9|x\nalone\n'
    files(folder, {"wavs/a.wav": tone(), "metadata.csv": lines})
    return LjSpeechReader(folder)


def nemo(folder: Path) -> Stage:
    for bucket in ("bucket1", "bucket2"):
        (folder / bucket).mkdir()
        tar(folder / bucket / "audio_0.tar", [(f"{bucket}.wav", tone())])
        rows: list[dict[str, Any]] = [{"audio_filepath": f"{bucket}.wav", "shard_id": 0}]
        if bucket == "bucket2":
            rows += [{"audio_filepath": "x.wav", "shard_id": shard} for shard in ("0", None, [1], 9)]
            rows += [{"shard_id": 0}, {"audio_filepath": f"./{bucket}-sub2.wav", "shard_id": 0}]
        lines = "".join(json.dumps({**row, "duration": 0.5}) + "\n" for row in rows)
        files(folder, {f"{bucket}/tarred_audio_manifest.json": lines})
    return NemoTarredReader([str(folder / name / "tarred_audio_manifest.json") for name in ("bucket1", "bucket2")])


def webdataset(folder: Path) -> Stage:
    flac = tone("FLAC")
    members: list[tuple[str, bytes | str]] = [
        *(("a.mic1.flac", flac), ("a.mic2.flac", flac), ("a.json", '{"text": "hi", "nested": {"x": [1, {"y": 2}]}}')),
        *(("b.flac", flac), ("b.json", '{"text": ')),
        *(("c.flac", flac), ("c.json", '{"text": "c", "duration": "1.5"}')),
        *(("d.flac", flac), ("d.txt", b"caf\xe9")),
        *(("e.flac", flac), ("e.txt", "one"), ("e.flac", flac)),
        *(("./x/f.FLAC", flac), ("./x/f.TXT", "upper")),
    ]
    return WebDatasetReader(str(tar(folder / "s.tar", members)), keep=["audio_filepath", "text", "nested", "mic2.flac"])


def lhotse(folder: Path) -> Stage:
    cut: dict[str, Any] = {
        "id": "a",
        "start": 0,
        "duration": 0.5,
        "channel": 0,
        "type": "MonoCut",
        "recording": {"id": "a", "duration": 0.5, "sources": [{"type": "file", "channels": [0], "source": "a.wav"}]},
        "supervisions": [{"id": "a", "start": 0, "duration": 0.5, "text": "hi", "speaker": "s"}],
        "custom": {"offset": 3, "snr": 1.5},
    }

    def from_(source: Any, **more: Any) -> dict[str, Any]:
        return {**cut, "recording": {**cut["recording"], "sources": [source], **more}}

    rows = [
        cut,
        {"id": "m", "type": "MixedCut", "tracks": [{"cut": cut, "offset": 0}]},
        {"id": "f", "type": "MonoCut", "start": 0, "duration": 1, "features": {"type": "fbank"}},
        from_({"type": "command", "source": "cat a.wav"}),
        from_({"type": "memory", "source": "UklGRg=="}),
        from_({"type": "file"}),
        from_(cut["recording"]["sources"][0], transforms=[{"name": "Speed", "kwargs": {"factor": 1.1}}]),
        {**cut, "supervisions": [5]},
        {**cut, "supervisions": [{"text": {"a": 1}}]},
        {**cut, "duration": "1"},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    files(folder, {"a.wav": tone(), "cuts.jsonl.gz": gzip.compress(lines.encode())})
    return LhotseReader(folder / "cuts.jsonl.gz")


def segments(folder: Path) -> Stage:
    files(folder, {f"{name}.wav": tone() for name in ("a", "b", "c")})
    soundfile.write(folder / "b.wav", np.full(20_000, 0.1), 16_000)
    srt = "\ufeff1\r\n0:00 --> 0:01\r\nno fraction\r\n\r\n2\n00:02,000 --> 00:01,000\nback\n\n3\n00:01 --> x\nodd\n"
    stm = ";; comment\na 1 s 0.0 0.4 <o> hi\na 1 s x 1 hi\nzz 1 s 0 0.4 no recording\n"
    rttm = "SPEAKER c 1 0.1 0.2 <NA> <NA> s1 <NA> <NA>\nSPEAKER c 1 0 0 <NA> <NA> s2 <NA> <NA>\nSPEAKER c 1 x 1\n"
    files(folder, {"b.srt": srt, "a.stm": stm, "c.rttm": rttm})
    return SegmentsReader(folder)


def plain_folder(folder: Path) -> Stage:
    files(folder, {f"s/{name}.wav": tone() for name in ("a", "b", "c", "d", "e")})
    files(folder, {"loose.wav": tone(), "s/a.txt": "\ufeffone\r\ntwo\r\n", "s/b.json": "[1]", "s/c.txt": b"\xff"})
    files(folder, {"s/d.txt/folder": "", "s/e.json": '{"sentence": "x", "audio_filepath": "/etc/passwd"}'})
    return FolderReader(folder, pattern="{speaker}/{_}")


Expected = tuple[Callable[[Path], Stage], list[str | None], list[tuple[str, str]]]

CORPORA: Mapping[str, Expected] = {
    "common voice": (
        common_voice,
        ['"Quoted" she said', "without a suffix", "line\u2028separator"],
        [
            ("bad_row", "the row has 3 cells, and the table 6 columns"),
            ("bad_row", "the row has 7 cells"),
            ("missing_column", "the row has no 'path'"),
            ("bad_row", "not UTF-8"),
        ],
    ),
    "kaldi": (
        kaldi,
        ["hi  there", "x"],
        [
            ("bad_value", "duration = -0.5"),
            ("missing_file", "wav.scp has no recording 'b'"),
            ("bad_row", "x and y are not seconds"),
            ("bad_row", "the line is not utterance, recording, start, end"),
            ("bad_row", "text of 'c-1' is not UTF-8; convert the file with iconv"),
        ],
    ),
    "librispeech": (
        librispeech,
        ["HI THERE", "GONE"],
        [("bad_row", "'hello' is not speaker-chapter-utterance"), ("bad_row", "not UTF-8")],
    ),
    "ljspeech": (
        ljspeech,
        ['"He said', "x"],
        [
            ("bad_row", "the line has 5 cells between bars, not 2 or 3; a transcript cannot have a bar"),
            ("bad_row", "the line has no name"),
            ("bad_row", "not UTF-8"),
            ("bad_row", "the line has 1 cells"),
        ],
    ),
    "nemo": (
        nemo,
        [None, None, None],
        [
            ("bad_value", "shard_id = '0' is not the number of a tar"),
            ("bad_value", "shard_id = None is not"),
            ("bad_value", "shard_id = [1] is not"),
            ("missing_file", "no tar has the number 9 (there are 0 to 0)"),
            ("missing_column", "the row has no 'audio_filepath'"),
        ],
    ),
    "webdataset": (
        webdataset,
        ["hi", "upper"],
        [
            ("bad_json", "s.tar::b.json: the line is not JSON"),
            ("bad_value", "s.tar::c: duration = '1.5' is not a number of seconds"),
            ("bad_row", "s.tar::d.txt: it is not UTF-8"),
            ("bad_row", "s.tar::e: the tar has 'e.flac' more than once"),
        ],
    ),
    "lhotse": (
        lhotse,
        ["hi"],
        [
            ("bad_row", "a MixedCut without one recording of its own is not read; save its audio with"),
            ("bad_row", "a MonoCut without one recording"),
            ("bad_row", "a recording from a command is not read, and nothing is executed"),
            ("bad_row", "is in the manifest itself; save it with cuts.to_shar()"),
            ("bad_row", "a source without a place"),
            ("bad_row", "is changed when it is read; save its audio with"),
            ("bad_row", "supervisions are not as Lhotse writes them"),
            ("bad_row", "supervisions are not as Lhotse writes them"),
            ("bad_value", "duration = '1'"),
        ],
    ),
    "segments": (
        segments,
        ["hi", "no fraction", None],
        [
            ("bad_row", "a 1 s x 1 hi is not STM"),
            ("missing_file", "has no recording 'zz'"),
            ("bad_segment", "the cue ends before it begins"),
            ("bad_row", "00:01 --> x are not the times of a cue"),
            ("bad_segment", "the turn at 0 s is empty"),
            ("bad_row", "SPEAKER c 1 x 1 is not RTTM"),
        ],
    ),
    "folder": (
        plain_folder,
        ["one two", None, "x"],
        [
            ("bad_row", "'loose.wav' does not have the pattern {speaker}/{_}"),
            ("bad_json", "s/b.json: the line is not a JSON object but a list"),
            ("bad_row", "s/c.txt is not UTF-8"),
        ],
    ),
}


@pytest.mark.parametrize("name", CORPORA)
def test_odd_row_costs_itself_with_its_place_and_the_others_are_read(name: str, tmp_path: Path) -> None:
    make, texts, problems = CORPORA[name]
    records, failed = read(make(tmp_path))
    assert [record.get("text") for record in records] == texts
    assert [code for code, _ in failed] == [code for code, _ in problems], failed
    for (_, message), (_, expected) in zip(failed, problems, strict=True):
        assert expected in message
    if name in ("nemo", "webdataset", "lhotse", "segments"):
        for record in records:
            assert len(load_record(record, roots=[tmp_path])) > 0, record
    if name == "kaldi":
        assert [(one["speaker"], one.get("gender"), one.get("duration")) for one in records] == [
            ("s1", "f", 0.5),
            ("s2", None, None),
        ]
    if name == "lhotse":
        assert records[0]["snr"] == 1.5 and "offset" not in records[0]


def test_chapter_without_transcripts_is_named(tmp_path: Path, warnings: list[str]) -> None:
    librispeech(tmp_path).check()
    assert "1 folders have recordings and no .trans.txt" in warnings[0] and "19/2" in warnings[0]


def hugging_face(path: Path, audio: list[Any], metadata: Any = None, **more: Any) -> HuggingFaceReader:
    import pyarrow as pa
    from pyarrow import parquet

    kind: Any = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table: Any = pa.table({"audio": pa.array(audio, kind), **more})
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": metadata})
    parquet.write_table(table, path)
    return HuggingFaceReader(path)


def test_row_of_hugging_face_without_a_recording_costs_itself(tmp_path: Path) -> None:
    good = {"bytes": tone("FLAC"), "path": "a.flac"}
    audio = [good, None, {"bytes": None, "path": "/elsewhere/x.wav"}, {"bytes": b"nope", "path": "a"}, good]
    features = {"g": {"_type": "ClassLabel", "names": ["f", "m"]}, "audio": {"_type": "Audio"}, "odd": None}
    metadata = json.dumps({"info": {"features": features}})
    source = hugging_face(tmp_path / "t.parquet", audio, metadata, g=[0, 1, 5, None, 1], odd=[[{"w": "a"}]] * 5)
    records, failed = read(source)
    assert not failed and [record["g"] for record in records] == ["f", "m", 5, None, "m"]
    codes: list[str] = []
    for record in records:
        try:
            load_record(record, roots=[tmp_path])
        except RecordError as error:
            codes.append(error.code)
            assert str(error.code) != "missing_file" or "write the set with its recordings embedded" in str(error)
    assert codes == ["missing_file", "missing_file", "not_audio"]


@pytest.mark.parametrize("metadata", ['{"info": {"features": null}}', '{"info": [1]}', '{"info": {"features": []}}'])
def test_odd_metadata_of_hugging_face_describes_nothing(metadata: str, tmp_path: Path) -> None:
    records, _ = read(hugging_face(tmp_path / "t.parquet", [{"bytes": tone(), "path": "a"}], metadata, text=["x"]))
    assert [record["text"] for record in records] == ["x"]


def not_a_tar(folder: Path) -> Stage:
    (folder / "s.tar").write_bytes(gzip.compress(tar(folder / "plain.tar", [("a.wav", tone())]).read_bytes()))
    return WebDatasetReader(str(folder / "s.tar"))


def supervisions(folder: Path) -> Stage:
    files(folder, {"s.jsonl": '{"id": "a", "recording_id": "a", "start": 0, "duration": 1, "text": "hi"}\n'})
    return LhotseReader(folder / "s.jsonl")


def saved(folder: Path) -> Stage:
    files(folder, {"state.json": '{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}'})
    return HuggingFaceReader(folder)


def broken_state(folder: Path) -> Stage:
    files(folder, {"state.json": '{"_data_files'})
    return HuggingFaceReader(folder)


def languages(folder: Path) -> Stage:
    files(folder, {"cy/validated.tsv": CV, "en/validated.tsv": CV})
    return CommonVoiceReader(folder)


def piped(folder: Path) -> Stage:
    files(folder, {"wav.scp": "a a.wav\nb sph2pipe -f wav b.sph | \n"})
    return KaldiReader(folder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_a_tar, "is not a tar but gzip, in which no member can be found by its place; unpack it first"),
        (supervisions, "the row is a supervision and not a cut; join both with lhotse's CutSet.from_manifests"),
        (saved, "data-00000-of-00001.arrow is missing, which .*state.json names; copy the whole folder"),
        (broken_state, "state.json is damaged: .*; write the data set again"),
        (languages, "has a folder for each language; name one, such as .*cy"),
        (piped, r"wav.scp:2: b is made by a command .*, which is not executed; write its output to a file"),
    ],
)
def test_corpus_that_cannot_be_read_is_named_with_the_remedy(
    make: Callable[[Path], Stage], message: str, tmp_path: Path
) -> None:
    with pytest.raises((PlanError, InfrastructureError), match=message):
        read(make(tmp_path))
