"""A folder of recordings behind a URL: what is read there, in which order, and with how many requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate.cli.corpus_form import recognise_form
from curate.errors import InfrastructureError, PlanError, UsageError
from curate.records import Failed
from curate.stage import Source
from curate.stages import FolderReader, KaldiReader, SegmentsReader
from curate.storage import StoreError, forget_objects, path_of, scheme
from tests.buckets import Bucket

NAMES = ("b/2.wav", "b/2.txt", "a.wav", "a/1.FLAC", "a/1.lab", "a-b.wav", "a-b.json", "a b.wav", "ü.wav", "b/.x/1.wav")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket()
    monkeypatch.setitem(scheme._registered, "bucket", made)
    forget_objects()
    return made


def put(bucket: Bucket, *names: str, below: str = "bucket://b/speech") -> None:
    for name in names:
        text = b'{"text": "json", "speaker_id": "s1"}' if name.endswith(".json") else name.encode()
        bucket.objects[f"{below}/{name}"] = text


def records(source: Source) -> list[dict[str, Any]]:
    source.check()
    found: list[dict[str, Any]] = []
    for item in source.read():
        assert not isinstance(item, Failed), item
        found.append(item)
    assert source.count() == len(found)
    return found


def test_folder_behind_a_url_has_the_records_of_a_local_folder(bucket: Bucket, tmp_path: Path) -> None:
    put(bucket, *NAMES, ".hidden.wav")
    put(bucket, "other.wav", below="bucket://b/speeches")
    for name in (*NAMES, ".hidden.wav"):
        path = tmp_path / "speech" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bucket.objects[f"bucket://b/speech/{name}"])
    local = records(FolderReader(tmp_path / "speech"))
    for folder in ("bucket://b/speech", "bucket://b/speech/"):
        remote = records(FolderReader(folder))
        assert [each["_id"] for each in remote] == [f"bucket://b/speech:{number}" for number in range(1, 7)]
        for one, other in zip(local, remote, strict=True):
            name = other["audio_filepath"].removeprefix("bucket://b/speech/")
            assert one["audio_filepath"] == str(tmp_path / "speech" / name)
            assert {**one, "_id": 0, "audio_filepath": 0} == {**other, "_id": 0, "audio_filepath": 0}
    assert {each.get("text") for each in local} == {None, "b/2.txt", "a/1.lab", "json"}
    source = FolderReader("bucket://b/speech/")
    assert source.audio_roots() == ("bucket://b/speech",) and not source.inputs()
    assert source.record_columns() == {"audio_filepath", "text", "speaker"}


def test_whole_bucket_is_a_folder_and_columns_are_in_its_paths(bucket: Bucket) -> None:
    put(bucket, "s1/emma/1.wav", "s2/emma/1.wav", below="bucket://b")
    found = records(FolderReader("bucket://b", pattern="{speaker}/{book}/{_}", roots="bucket://b"))
    assert [(each["speaker"], each["book"], each["_id"]) for each in found] == [
        ("s1", "emma", "bucket://b:1"),
        ("s2", "emma", "bucket://b:2"),
    ]


def test_reading_continues_behind_a_record_and_a_listing_is_kept(bucket: Bucket) -> None:
    names = [f"{number:03}" for number in range(40)]
    put(bucket, *(f"{name}.wav" for name in names), *(f"{name}.txt" for name in names))
    source = FolderReader("bucket://b/speech")
    source.check()
    listed = list(source.listing())
    put(bucket, "000a.wav")
    forget_objects()
    source.use_listing(listed)
    rest = [each for each in source.read("bucket://b/speech:35") if not isinstance(each, Failed)]
    assert [each["text"] for each in rest] == [f"{name}.txt" for name in names[35:]]
    assert [each["_id"] for each in rest] == [f"bucket://b/speech:{number}" for number in range(36, 41)]
    source.use_listing(None)
    assert source.count() == 41


def test_bucket_is_listed_once_and_asked_only_for_transcripts_that_there_are(bucket: Bucket) -> None:
    put(bucket, "1.wav", "2.wav", "2.lab", "3.wav")
    source = FolderReader("bucket://b/speech")
    source.check()
    bucket.opened.clear()
    assert [each.get("text") for each in records(source)] == [None, "2.lab", None]
    assert bucket.listed == 1
    assert {name.rpartition(".")[2] for name in bucket.opened} == {"lab"}
    del bucket.objects["bucket://b/speech/2.lab"]
    forget_objects()
    bucket.opened.clear()
    assert [each.get("text") for each in records(source)] == [None] * 3
    assert bucket.listed == 2 and not bucket.opened


def test_transcript_that_is_no_text_is_its_records_and_a_dead_store_the_runs(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, "1.wav", "1.txt", "2.wav", "2.txt")
    bucket.objects["bucket://b/speech/1.txt"] = b"\xff"
    source = FolderReader("bucket://b/speech")
    source.check()
    first, second = source.read()
    assert isinstance(first, Failed) and "bucket://b/speech/1.txt is not UTF-8" in str(first.error)
    assert not isinstance(second, Failed)

    def refuse(uri: str) -> Any:
        raise StoreError(f"{uri}: the store is dead")

    monkeypatch.setattr(bucket, "open", refuse)
    with pytest.raises(InfrastructureError, match=r"cannot read bucket://b/speech/1\.txt: .* the store is dead"):
        list(source.read())


@pytest.mark.parametrize(
    ("folder", "complaint"),
    [
        ("bucket://b/none", "no object lies below bucket://b/none"),
        ("bucket://b/texts", "bucket://b/texts has no recordings"),
        ("bucket://b//speech", "empty part"),
        ("ftp://host/speech", "ftp://host/speech cannot be listed: storage scheme 'ftp' is not registered"),
    ],
)
def test_url_without_recordings_is_a_mistake_in_the_plan(bucket: Bucket, folder: str, complaint: str) -> None:
    put(bucket, "1.wav")
    put(bucket, "1.txt", below="bucket://b/texts")
    with pytest.raises(PlanError, match=complaint):
        FolderReader(folder).check()


def test_store_that_lists_nothing_is_a_mistake_in_the_plan(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Bucket, "listing")
    with pytest.raises(PlanError, match=r"speech cannot be listed: .*objects of this store cannot be listed"):
        FolderReader("bucket://b/speech").check()


def test_readers_of_other_folders_name_what_they_cannot_do(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="read_kaldi reads local folders, and bucket://b/k is a URL"):
        KaldiReader("bucket://b/k").check()
    with pytest.raises(PlanError, match="audio: bucket://b/k is a URL"):
        SegmentsReader(tmp_path, audio="bucket://b/k").check()


@pytest.mark.parametrize(
    ("names", "reader", "settings"),
    [
        (("s/1.wav", "s/1.txt"), "read_folder", {"folder": "bucket://b/x"}),
        (("1.wav", "1.json", "index.jsonl"), "read_manifest", {"manifest": "bucket://b/x/index.jsonl"}),
        (("a-0.tar", "a-1.tar"), "read_webdataset", {"shards": "bucket://b/x/*.tar"}),
        (
            ("audio_0.tar", "tarred_audio_manifest.json"),
            "read_nemo_tarred",
            {"manifest": "bucket://b/x/tarred_audio_manifest.json"},
        ),
    ],
)
def test_form_below_a_url_is_recognised(
    bucket: Bucket, names: tuple[str, ...], reader: str, settings: dict[str, str]
) -> None:
    put(bucket, *names, below="bucket://b/x")
    bucket.objects["bucket://b/x/index.jsonl"] = b'{"audio_filepath": "1.wav"}\n'
    if "index.jsonl" not in names:
        del bucket.objects["bucket://b/x/index.jsonl"]
    form = recognise_form(path_of("bucket://b/x"))
    assert (form.reader, dict(form.settings)) == (reader, settings)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ((), "bucket://b/x does not exist, and no object lies below it"),
        (("wav.scp", "1.wav"), "is a Kaldi data folder, which read_kaldi reads from a local folder: copy it into one"),
        (("1.wav", "1.srt"), r"is recordings with \.srt files, which read_segments reads from a local folder"),
        (("a.pdf", "b.pdf"), r"neither recordings nor a manifest of them \(it has 2 objects, such as a\.pdf\)"),
    ],
)
def test_form_below_a_url_that_no_stage_reads_is_named(bucket: Bucket, names: tuple[str, ...], complaint: str) -> None:
    put(bucket, *names, below="bucket://b/x")
    with pytest.raises(UsageError, match=complaint):
        recognise_form(path_of("bucket://b/x"))
