"""Reading manifests: which files, which records, under which ids, and what is wrong before work starts."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from curate import Pipeline
from curate.errors import CurateError, InfrastructureError, PlanError
from curate.records import Failed
from curate.stages import Merge, ReadManifest, ReadRecords

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write rows (dicts, or raw lines) to a file below the working folder, and return its relative path."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, *rows: dict[str, Any] | bytes) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
        path.write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
        return path

    return write


def read(source: ReadManifest, after: str | None = None) -> list[Any]:
    """Records, or (id, code, message) for those that failed."""
    return [
        (item.record["_id"], item.error.code, item.error.message) if isinstance(item, Failed) else item
        for item in source.read(after)
    ]


def ids(source: ReadManifest, after: str | None = None) -> list[str]:
    return [item[0] if isinstance(item, tuple) else item["_id"] for item in read(source, after)]


def mistake(source: ReadManifest) -> str:
    with pytest.raises(PlanError) as caught:
        source.check()
    return str(caught.value)


class TestRecords:
    def test_the_id_is_file_and_line_as_the_file_was_named(self, write: Write) -> None:
        write("in/m.jsonl", {"text": "a"}, b"", {"text": "b"})
        assert read(ReadManifest("in/m.jsonl")) == [
            {"_id": "in/m.jsonl:1", "text": "a"},
            {"_id": "in/m.jsonl:3", "text": "b"},
        ]

    def test_relative_paths_are_resolved_against_the_manifests_folder(self, write: Write, tmp_path: Path) -> None:
        write("in/m.jsonl", *({"audio_filepath": path} for path in ("a/1.wav", "../b.wav", "/abs/c.wav")))
        assert [record["audio_filepath"] for record in read(ReadManifest("in/m.jsonl"))] == [
            f"{tmp_path}/in/a/1.wav",
            f"{tmp_path}/in/../b.wav",
            "/abs/c.wav",
        ]

    @pytest.mark.parametrize("path", ["", "https://example.org/a.wav", "a\0b", 5, None, ["a"]])
    def test_what_cannot_be_a_path_is_left_for_the_one_who_opens_it(self, write: Write, path: Any) -> None:
        write("m.jsonl", {"audio_filepath": path})
        [record] = read(ReadManifest("m.jsonl"))
        assert record["audio_filepath"] == path

    def test_another_column_may_hold_the_path(self, write: Write, tmp_path: Path) -> None:
        write("m.jsonl", {"wav": "a.wav", "audio_filepath": "b.wav"})
        [record] = read(ReadManifest("m.jsonl", filepath_key="wav"))
        assert (record["wav"], record["audio_filepath"]) == (f"{tmp_path}/a.wav", "b.wav")

    @pytest.mark.parametrize("name", ["duration", "offset"])
    @pytest.mark.parametrize("value", ["-1", "-0.5", '"3.2"', "true", "[1]", "1" + "0" * 400], ids=lambda v: v[:8])
    def test_seconds_that_are_none_fail_their_record(self, write: Write, name: str, value: str) -> None:
        write("m.jsonl", b'{"text": "a", "%s": %s}' % (name.encode(), value.encode()), {"text": "b"})
        (identity, code, message), after = read(ReadManifest("m.jsonl"))
        assert (identity, code, after["text"]) == ("m.jsonl:1", "bad_value", "b")
        assert name in message
        assert len(message) < 150

    @pytest.mark.parametrize("value", [0, 0.0, 3, 2.5, None])
    def test_durations_may_be_whole_zero_or_null(self, write: Write, value: Any) -> None:
        write("m.jsonl", {"duration": value, "offset": value})
        [record] = read(ReadManifest("m.jsonl"))
        assert (record["duration"], record["offset"]) == (value, value)

    def test_an_id_of_the_manifests_own_is_kept_under_another_name(self, write: Write) -> None:
        write("m.jsonl", {"text": "a", "_id": 7, "n": 1}, {"text": "b", "n": 2})
        source = ReadManifest("m.jsonl")
        first, _ = read(source)
        assert list(first.items()) == [("_id", "m.jsonl:1"), ("text", "a"), ("source_id", 7), ("n", 1)]
        assert set(source.record_columns() or ()) == {"text", "source_id", "n"}

    def test_the_dataset_name_is_a_column(self, write: Write) -> None:
        write("m.jsonl", {"text": "a", "dataset_name": "old"})
        source = ReadManifest("m.jsonl", dataset_name="new")
        assert read(source)[0]["dataset_name"] == "new"
        assert "dataset_name" in (source.record_columns() or ())

    def test_a_failed_row_keeps_what_could_be_read_of_it(self, write: Write) -> None:
        write("m.jsonl", {"text": "a", "duration": -1}, b"{", {"text": "b"})
        bad_value, bad_json, _ = ReadManifest("m.jsonl").read()
        assert isinstance(bad_value, Failed)
        assert isinstance(bad_json, Failed)
        assert bad_value.record == {"_id": "m.jsonl:1", "text": "a", "duration": -1}
        assert bad_json.record == {"_id": "m.jsonl:2"}


class TestFiles:
    def test_several_files_and_patterns_are_read_in_order(self, write: Write) -> None:
        for name in ("b/2.jsonl", "b/10.jsonl", "a.jsonl.gz", "c/d/x.jsonl"):
            write(name, {"text": name})
        parquet.write_table(pyarrow.table({"text": ["p", "q"]}), "z.parquet")
        source = ReadManifest(["z.parquet", "b/*.jsonl", Path("a.jsonl.gz"), "**/x.jsonl"])
        assert ids(source) == [
            *("z.parquet:1", "z.parquet:2", "b/10.jsonl:1", "b/2.jsonl:1", "a.jsonl.gz:1", "c/d/x.jsonl:1")
        ]

    def test_a_parquet_value_that_no_text_can_be_made_of_costs_its_row(self, write: Write) -> None:
        good = pyarrow.array([b"a", b"\xff", b"c"], pyarrow.binary()).view(pyarrow.string())
        parquet.write_table(pyarrow.table({"text": good}), "m.parquet")
        first, second, third = ReadManifest("m.parquet").read()
        assert isinstance(second, Failed)
        assert second.error.code == "bad_row"
        assert [row["text"] for row in (first, third) if isinstance(row, dict)] == ["a", "c"]

    def test_two_parquet_columns_of_one_name_are_refused(self, write: Write) -> None:
        table = pyarrow.table([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
        parquet.write_table(table, "m.parquet")
        with pytest.raises(CurateError, match="two columns 'text'"):
            ReadManifest("m.parquet").check()

    def test_a_path_that_cannot_be_encoded_is_no_reason_to_refuse_the_rest(self, write: Write) -> None:
        Path("m.jsonl").write_bytes(b'{"audio_filepath": "b\\ud800.wav"}\n{"audio_filepath": "a.wav"}\n')
        ReadManifest("m.jsonl").check()

    def test_an_absolute_pattern_works_and_folders_are_no_manifests(self, write: Write, tmp_path: Path) -> None:
        write("a.jsonl", {"text": "a"})
        (tmp_path / "b.jsonl").mkdir()
        assert ids(ReadManifest(f"{tmp_path}/*.jsonl")) == [f"{tmp_path}/a.jsonl:1"]

    def test_a_file_whose_name_looks_like_a_pattern_is_that_file(self, write: Write) -> None:
        write("m[1].jsonl", {"text": "a"})
        write("m1.jsonl", {"text": "b"})
        assert ids(ReadManifest("m[1].jsonl")) == ["m[1].jsonl:1"]

    def test_reading_on_starts_behind_any_record(self, write: Write) -> None:
        write("m.jsonl", {"text": "a"}, b"broken", b"", {"text": "c"})
        write("m.jsonl:1", {"text": "d"}, {"text": "e"})  # a name that begins like an id
        write("n.jsonl.gz", {"text": "f"}, {"text": "g"})
        source = ReadManifest(["m.jsonl", "m.jsonl:1", "n.jsonl.gz"])
        everything = ids(source)
        assert len(everything) == 7
        for position, identity in enumerate(everything):
            assert ids(source, after=identity) == everything[position + 1 :]

    def test_reading_on_from_a_file_that_is_not_read_is_refused(self, write: Write) -> None:
        write("m.jsonl", {"text": "a"})
        with pytest.raises(PlanError, match=r"unknown record 'n\.jsonl:1'"):
            list(ReadManifest("m.jsonl").read(after="n.jsonl:1"))

    def test_a_file_that_was_cut_off_stops_the_run(self, write: Write) -> None:
        path = write("m.jsonl.gz", *({"text": str(number)} for number in range(5000)))
        path.write_bytes(path.read_bytes()[:-20])
        source = ReadManifest("m.jsonl.gz")
        source.check()  # its first rows are sound
        with pytest.raises(InfrastructureError, match=r"m\.jsonl\.gz to its end"):
            Pipeline("cut", [source]).run()


class TestMistakes:
    def test_a_missing_manifest_is_answered_with_the_nearest_names(self, write: Write, tmp_path: Path) -> None:
        write("data/train_manifest.jsonl", {"text": "a"})
        write("data/unrelated.txt", b"")
        message = mistake(ReadManifest("data/train-manifest.json"))
        assert message == (
            f"the manifest data/train-manifest.json does not exist (looked from {tmp_path}); "
            "did you mean data/train_manifest.jsonl?"
        )
        assert "did you mean" not in mistake(ReadManifest("nowhere/at/all.jsonl"))

    def test_a_pattern_that_finds_nothing_is_an_error_even_beside_others(self, write: Write) -> None:
        write("a.jsonl", {"text": "a"})
        assert "b*.jsonl does not exist" in mistake(ReadManifest(["a.jsonl", "b*.jsonl"]))

    def test_a_folder_is_answered_with_a_pattern(self, write: Write) -> None:
        write("data/a.jsonl", {"text": "a"})
        assert "data/*.jsonl" in mistake(ReadManifest("data"))

    def test_a_pipe_is_no_manifest_and_does_not_hang(self, write: Write) -> None:
        os.mkfifo(write("a.jsonl").with_name("pipe.jsonl"))
        assert "pipe.jsonl is not a regular file" in mistake(ReadManifest("pipe.jsonl"))

    def test_no_manifest_at_all_is_an_error(self) -> None:
        assert "give one path" in mistake(ReadManifest([]))

    @pytest.mark.parametrize("again", ["a.jsonl", "./a.jsonl", "*.jsonl", "link.jsonl"])
    def test_a_file_that_would_be_read_twice_is_an_error(self, write: Write, again: str) -> None:
        path = write("a.jsonl", {"text": "a"})
        Path("link.jsonl").symlink_to(path)
        assert "listed twice" in mistake(ReadManifest(["a.jsonl", again]))

    def test_a_manifest_without_rows_is_an_error(self, write: Write) -> None:
        write("a.jsonl", b"", b"  ")
        assert "has no rows" in mistake(ReadManifest("a.jsonl"))
        write("b.jsonl", {"text": "a"})
        ReadManifest(["a.jsonl", "b.jsonl"]).check()

    def test_text_without_records_is_named_with_its_first_trouble(self, write: Write) -> None:
        write("a.jsonl", b"The quick brown fox", b"jumps.")
        message = mistake(ReadManifest("a.jsonl"))
        assert "a.jsonl is not a manifest" in message
        assert "JSON" in message

    def test_audio_elsewhere_is_answered_with_the_line_to_paste(self, write: Write, tmp_path: Path) -> None:
        for name in ("x/1.wav", "y/2.wav"):
            write(f"elsewhere/{name}", b"")
        rows = [{"audio_filepath": f"{tmp_path}/elsewhere/{name}"} for name in ("x/1.wav", "y/2.wav")]
        write("in/m.jsonl", *rows)
        message = mistake(ReadManifest("in/m.jsonl"))
        assert f"outside its roots, {tmp_path}/elsewhere/x/1.wav for example" in message
        assert message.endswith(f"\n    roots: [{tmp_path}/elsewhere]")
        pasted = ReadManifest("in/m.jsonl", roots=[f"{tmp_path}/elsewhere"])
        pasted.check()
        assert pasted.audio_roots() == (f"{tmp_path}/elsewhere",)

    def test_the_line_keeps_the_roots_that_are_needed_too(self, write: Write, tmp_path: Path) -> None:
        paths = ("a.wav", "../out/b.wav", "../out/c.wav")
        write("in/m.jsonl", *({"audio_filepath": path} for path in paths))
        assert mistake(ReadManifest("in/m.jsonl")).endswith(f"roots: [{tmp_path}/out, {tmp_path}/in]")
        (tmp_path / "out").mkdir()
        ReadManifest("in/m.jsonl", roots=[tmp_path / "out", tmp_path / "in"]).check()

    def test_a_path_that_leads_out_of_the_roots_is_that_records_fault(self, write: Write) -> None:
        write(
            "in/m.jsonl",
            {"audio_filepath": "a.wav"},
            {"audio_filepath": "../../etc/passwd"},
            {"audio_filepath": "b.wav"},
        )
        ReadManifest("in/m.jsonl").check()

    def test_links_out_of_the_roots_are_seen_before_the_run(self, write: Write, tmp_path: Path) -> None:
        write("store/a.wav", b"")
        write("in/m.jsonl", {"audio_filepath": "audio/a.wav"})
        Path("in/audio").symlink_to(tmp_path / "store")
        assert mistake(ReadManifest("in/m.jsonl")).endswith(f"roots: [{tmp_path}/store]")

    def test_roots_are_the_folders_of_the_manifests_by_default(self, write: Write, tmp_path: Path) -> None:
        for name in ("a/1.jsonl", "a/2.jsonl", "b/3.jsonl"):
            write(name, {"text": "a"})
        assert ReadManifest("*/*.jsonl").audio_roots() == (f"{tmp_path}/a", f"{tmp_path}/b")

    def test_a_wrong_path_alone_is_no_reason_to_stop(self, write: Write) -> None:
        write("m.jsonl", {"audio_filepath": 3}, {"text": "a"})
        ReadManifest("m.jsonl").check()


def test_broken_lines_go_to_quarantine_with_file_and_line(write: Write, tmp_path: Path) -> None:
    write("m.jsonl", {"text": "a"}, b"{", {"text": "b", "duration": "long"}, {"text": "c", "duration": 1.5})
    result = Pipeline("read", [ReadManifest("m.jsonl"), Merge("out.jsonl")]).run(run_dir=tmp_path / "run")
    summary = result.summary
    assert (summary["records_in"], summary["kept"], summary["quarantined"]) == (4, 2, 2)
    assert summary["failures"] == {"bad_json": 1, "bad_value": 1}
    [shard] = (tmp_path / "run" / "quarantine").iterdir()
    notes = [json.loads(line) for line in shard.read_text().splitlines()]
    assert [(note["_id"], note["stage"], note["code"]) for note in notes] == [
        ("m.jsonl:2", "read_manifest", "bad_json"),
        ("m.jsonl:3", "read_manifest", "bad_value"),
    ]
    assert [json.loads(line)["text"] for line in (tmp_path / "run" / "out.jsonl").read_text().splitlines()] == [
        "a",
        "c",
    ]


def test_records_in_memory_are_read_like_those_of_a_file() -> None:
    source = ReadRecords([{"text": "a"}, {"text": "b", "_id": "x"}], label="mine")
    assert list(source.read()) == [{"_id": "mine:1", "text": "a"}, {"_id": "mine:2", "text": "b", "source_id": "x"}]
    assert [record["_id"] for record in source.read(after="mine:1")] == ["mine:2"]  # type: ignore[index]
