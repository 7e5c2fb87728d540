"""Manifests as people have them, each with its right answer: odd types, joined files, other formats, other tools."""

from __future__ import annotations

import datetime
import decimal
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from curate.errors import PlanError
from curate.records import Failed
from curate.stages import ReadManifest

MAX_MEMORY_MB = 300

LINES = [json.dumps({"audio_filepath": f"a{i}.wav", "text": "x", "duration": 1.5}).encode() for i in range(3)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def records(name: str, **settings: Any) -> list[dict[str, Any]]:
    source = ReadManifest(name, **settings)
    source.check()
    found: list[dict[str, Any]] = []
    for item in source.read():
        assert not isinstance(item, Failed), item
        found.append({key: value for key, value in item.items() if key != "_id"})
    assert set(source.record_columns() or ()) == {key for record in found for key in record}
    return found


def mistake(name: str, **settings: Any) -> str:
    with pytest.raises(PlanError) as caught:
        records(name, **settings)
    return str(caught.value)


def write_parquet(extra: Any) -> None:
    base = {"audio_filepath": [f"a{i}.wav" for i in range(3)], "text": ["x", "y", None]}
    parquet.write_table(pyarrow.table({**base, "duration": [1.5, 2.5, 3.5], "extra": extra}), "m.parquet")


EXTRAS: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "timestamp": (lambda: pyarrow.array([datetime.datetime(2024, 1, 1, 12)] * 3), ["2024-01-01T12:00:00"] * 3),
    "partly null": (
        lambda: pyarrow.array([datetime.datetime(2024, 1, 1, 12), None, None]),
        ["2024-01-01T12:00:00", None, None],
    ),
    "date": (lambda: pyarrow.array([datetime.date(2024, 1, 1)] * 3), ["2024-01-01"] * 3),
    "decimal": (lambda: pyarrow.array([decimal.Decimal("1.10")] * 3), ["1.10"] * 3),
    "map": (
        lambda: pyarrow.array([[("k", "v")], [], None], type=pyarrow.map_(pyarrow.string(), pyarrow.string())),
        [{"k": "v"}, {}, None],
    ),
    "nan": (lambda: pyarrow.array([0.1, float("nan"), 0.3]), [0.1, None, 0.3]),
}


@pytest.mark.parametrize("name", EXTRAS)
def test_typed_column_of_parquet_becomes_json(folder: Path, name: str) -> None:
    make, expected = EXTRAS[name]
    write_parquet(make())
    assert [record["extra"] for record in records("m.parquet")] == expected


def test_binary_column_is_named_with_the_setting_that_leaves_it_out(folder: Path) -> None:
    write_parquet(pyarrow.array([b"\x00\x01"] * 3))
    assert "column 'extra' of m.parquet is of the type binary" in mistake("m.parquet")
    assert [list(record) for record in records("m.parquet", drop=["extra"])] == [
        ["audio_filepath", "text", "duration"]
    ] * 3
    assert records("m.parquet", keep=["duration"])[0] == {"duration": 1.5}


def test_column_of_recordings_is_named_with_the_stage_that_reads_them(folder: Path) -> None:
    write_parquet(pyarrow.array([{"bytes": b"RIFF", "path": "a.wav"}] * 3))
    assert "column 'extra' of m.parquet holds recordings: use read_hf" in mistake("m.parquet")


def test_two_ids_of_a_row_are_both_kept(folder: Path) -> None:
    Path("m.jsonl").write_bytes(b'{"_id":"utt1","source_id":7,"text":"a"}\n{"source_id":8,"_id":"utt2","text":"b"}\n')
    assert records("m.jsonl") == [
        {"source_id_2": "utt1", "source_id": 7, "text": "a"},
        {"source_id": 8, "source_id_2": "utt2", "text": "b"},
    ]


def test_byte_order_mark_in_the_middle_of_joined_files_is_skipped(folder: Path) -> None:
    lines = b"\n".join(LINES)
    Path("m.jsonl").write_bytes(b"\xef\xbb\xbf" + lines + b"\n\xef\xbb\xbf" + lines + b"\n")
    assert len(records("m.jsonl")) == 6


@pytest.mark.parametrize("content", [b"[" + b",\n".join(LINES) + b"]", b"\n".join(LINES).decode().encode("utf-16")])
def test_array_and_utf_16_are_read_under_any_name(folder: Path, content: bytes) -> None:
    Path("m.jsonl").write_bytes(content)
    assert [Path(record["audio_filepath"]).name for record in records("m.jsonl")] == ["a0.wav", "a1.wav", "a2.wav"]


def test_columns_of_a_table_get_the_names_that_others_know(folder: Path) -> None:
    Path("t.tsv").write_bytes(b"path\tsentence\tclient_id\tlocale\na.mp3\thello\ts1\tcym\n")
    names = {"audio_filepath": "path", "text": "sentence", "speaker": "client_id", "lang": "locale"}
    assert records("t.tsv", columns=names, license="CC0-1.0", constants={"read": True}) == [
        {
            "audio_filepath": f"{folder}/a.mp3",
            "text": "hello",
            "speaker": "s1",
            "lang": "cy",
            "license": "CC0-1.0",
            "read": True,
        }
    ]


@pytest.mark.parametrize("tag", ["deu_Latn", "deu", "de", "ger"])
def test_constant_language_becomes_the_tag_that_stages_compare(folder: Path, tag: str) -> None:
    Path("m.jsonl").write_bytes(LINES[0])
    assert records("m.jsonl", lang=tag)[0]["lang"] == "de"


def test_columns_may_be_exchanged_and_replaced(folder: Path) -> None:
    Path("m.jsonl").write_bytes(b'{"text": "raw", "norm": "n", "x": 1}\n{"text": "only"}\n')
    assert records("m.jsonl", columns={"text": "norm"}, keep=["text"]) == [{"text": "n"}, {"text": "only"}]
    assert records("m.jsonl", columns={"text": "norm", "norm": "text"}, keep=["text", "norm"])[0] == {
        "norm": "raw",
        "text": "n",
    }


def test_strings_become_numbers_where_they_are_asked_for(folder: Path) -> None:
    Path("t.csv").write_bytes(b"text,snr,speaker\na,12.5,0042\nb,n/a,7\n")
    assert records("t.csv", numbers=["snr"]) == [
        {"text": "a", "snr": 12.5, "speaker": "0042"},
        {"text": "b", "snr": "n/a", "speaker": "7"},
    ]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"columns": {"text": "sentense"}}, "has no column 'sentense': did you mean 'sentence'?"),
        ({"keep": ["txt"]}, "keep: t.tsv has no column 'txt'"),
        ({"drop": ["nothing"]}, "drop: t.tsv has no column 'nothing'"),
        ({"keep": ["sentence"], "drop": ["sentence"]}, "'sentence' is kept or constant as well"),
        ({"columns": {"a": "sentence", "b": "sentence"}}, "renamed to two names"),
    ],
)
def test_setting_for_a_column_that_is_not_there_is_a_mistake(
    folder: Path, settings: dict[str, Any], complaint: str
) -> None:
    Path("t.tsv").write_bytes(b"path\tsentence\na.mp3\thello\n")
    assert complaint in mistake("t.tsv", **settings)


def test_manifests_of_other_tools_are_named_with_their_reader(folder: Path) -> None:
    Path("nemo.json").write_bytes(b'{"audio_filepath": "a.wav", "duration": 1.0, "shard_id": 0}\n')
    assert "is a NeMo tarred manifest: its audio is in tars; use read_nemo_tarred" in mistake("nemo.json")
    assert "use read_nemo_tarred" in mistake("manifest__OP_0..7_CL_.json")
    Path("cuts.jsonl").write_bytes(b'{"id": "a", "start": 0, "duration": 1, "type": "MonoCut", "recording": {}}\n')
    assert "is a manifest of Lhotse cuts: use read_lhotse" in mistake("cuts.jsonl")
    Path("a.wav").write_bytes(b"RIFF\x24\0\0\0WAVEfmt ")
    assert "a.wav is a recording (RIFF), not a manifest: read_folder" in mistake("a.wav")


@pytest.mark.slow
def test_keys_of_their_own_are_read_in_little_memory(folder: Path) -> None:
    with Path("m.jsonl").open("w") as out:
        for i in range(8000):
            out.write(json.dumps({"audio_filepath": f"a{i}.wav", "duration": 1.0, "talk_s": {f"spk{i}": 1.5}}) + "\n")
    script = (
        "from pathlib import Path\nfrom curate.stages import ReadManifest\nsource = ReadManifest('m.jsonl')\n"
        "source.check()\n"
        "assert sum(1 for _ in source.read()) == 8000\n"
        "print(int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= MAX_MEMORY_MB


def test_plan_over_a_dictionary_of_large_values_needs_little_memory(folder: Path) -> None:
    """1 KB on disk, 20 GB as Python objects: one value of a megabyte, in a dictionary, 20,000 times."""
    large = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 20_000, pyarrow.int32()), ["z" * 1_000_000])
    parquet.write_table(pyarrow.table({"audio_filepath": ["a.wav"] * 20_000, "extra": large}), "bomb.parquet")
    script = (
        "from pathlib import Path\nfrom curate import Pipeline\nfrom curate.stages import Merge, ReadManifest\n"
        "Pipeline('p', [ReadManifest('bomb.parquet'), Merge('out.jsonl')]).plan()\n"
        "print(int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 200
