"""The merged file: where it may lie, and that it holds what was kept in the order of the input."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from curate import Pipeline
from curate.errors import InfrastructureError, PlanError
from curate.records import Record
from curate.stages import Merge, Partition, QualityFilter, ReadManifest, ReadRecords
from curate.storage import StoreError, scheme
from tests.buckets import Bucket

RECORDS: list[dict[str, Any]] = [
    {"text": f"utterance {number}", "duration": number % 5 + 0.5, "meta": {"tags": [number]}} for number in range(40)
]


def pipeline(*stages: Any) -> Pipeline:
    return Pipeline("merge", [ReadRecords(RECORDS), Partition(parts=7), QualityFilter("duration < 4"), *stages])


def kept() -> list[dict[str, Any]]:
    return [record for record in RECORDS if record["duration"] < 4]


def test_the_order_is_the_inputs_however_it_was_cut(tmp_path: Path) -> None:
    result = pipeline(Merge("curated.jsonl"), Merge("table/curated.parquet")).run(run_dir=tmp_path)
    assert [json.loads(line) for line in (tmp_path / "curated.jsonl").read_text().splitlines()] == kept()
    table = parquet.ParquetFile(tmp_path / "table" / "curated.parquet").read(use_threads=False)
    assert table.to_pylist() == kept()
    assert result.outputs == (tmp_path / "curated.jsonl", tmp_path / "table" / "curated.parquet")


@pytest.mark.parametrize("name", ["curated.jsonl", "curated.jsonl.gz", "curated.parquet"])
def test_another_run_publishes_the_same_bytes(tmp_path: Path, name: str) -> None:
    for run in ("one", "two"):
        pipeline(Merge(name)).run(run_dir=tmp_path / run)
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_absolute_path_lies_outside_the_run_directory(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "new" / "out.jsonl"
    pipeline(Merge(path)).run(run_dir=tmp_path / "run")
    assert len(path.read_text().splitlines()) == len(kept())


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("out.xlsx", r"one of \.csv, \.jsonl, \.jsonl\.gz, \.parquet"),
        ("", "the suffix must be one of"),
        ("../out.jsonl", "leaves the run directory"),
        ("a/../../out.jsonl", "leaves the run directory"),
        ("data/out.jsonl", "data/ is reserved for the run"),
        ("./commits/x/out.jsonl", "commits/ is reserved"),
        ("/dev/null/out.jsonl", "cannot write to /dev/null"),
        ("s_3://bucket/out.jsonl", "the scheme of this URL is not known"),
    ],
)
def test_a_path_that_cannot_be_is_a_mistake_in_the_plan(path: str, complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        pipeline(Merge(path)).plan()


@pytest.mark.parametrize("path", ["a/../out.jsonl", "data.jsonl", "x/data/out.jsonl"])
def test_unusual_paths_inside_are_fine(tmp_path: Path, path: str) -> None:
    [output] = pipeline(Merge(path)).run(run_dir=tmp_path / "run").outputs
    assert output.is_file()
    assert output.is_relative_to(tmp_path / "run")


def test_file_that_another_run_publishes_while_it_is_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, fsync = tmp_path / "elsewhere" / "out.jsonl", os.fsync
    published: list[bytes] = []

    def sync_and_publish(descriptor: int) -> None:
        """Let another run publish while this one has its file under a temporary name."""
        fsync(descriptor)
        if not published and any(place.parent.glob("out.jsonl.tmp-*")):
            published.append(b"")
            place.write_bytes(b"of another run")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync_and_publish)
        with pytest.raises(PlanError, match=r"out\.jsonl is there already, and this run has not written it"):
            pipeline(Merge(place)).run(run_dir=tmp_path / "run")
    assert place.read_bytes() == b"of another run"
    with pytest.raises(PlanError, match=r"out\.jsonl is there already"):  # nor is it the next attempt's
        pipeline(Merge(place)).run(run_dir=tmp_path / "run")
    place.unlink()
    for _ in range(2):
        assert pipeline(Merge(place)).run(run_dir=tmp_path / "run").outputs == (place,)


def test_two_writers_cannot_share_a_file() -> None:
    with pytest.raises(PlanError, match=r"both write out\.jsonl"):
        pipeline(Merge("out.jsonl"), Merge("./x/../out.jsonl")).plan()


def test_nothing_kept_publishes_nothing(tmp_path: Path) -> None:
    stages = [ReadRecords(RECORDS), QualityFilter("duration > 99"), Merge("out.jsonl"), Merge("out.parquet")]
    result = Pipeline("none", stages).run(run_dir=tmp_path)
    assert list(tmp_path.glob("out.*")) == []
    assert not result.outputs
    assert "nothing was kept" in result.problem


def test_a_template_gives_one_file_for_each_value(tmp_path: Path) -> None:
    result = pipeline(Merge("sets/{duration}.jsonl")).run(run_dir=tmp_path)
    assert [path.name for path in result.outputs] == ["0.5.jsonl", "1.5.jsonl", "2.5.jsonl", "3.5.jsonl"]
    for path in result.outputs:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert rows == [record for record in kept() if str(record["duration"]) == path.stem]
    assert not list(tmp_path.rglob("*.tmp-*"))


def test_a_file_of_a_value_that_is_gone_is_deleted(tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    stages = [ReadRecords(RECORDS), QualityFilter("duration < 4"), Merge(place / "{duration}.jsonl")]
    Pipeline("merge", stages).run(run_dir=tmp_path / "run")
    (place / "other.jsonl").write_text("")
    stages[-1] = Merge(place / "all-{duration}.jsonl")
    Pipeline("merge", stages).run(run_dir=tmp_path / "run")
    names = [f"all-{number}.5.jsonl" for number in range(4)]
    assert sorted(path.name for path in place.iterdir()) == [*names, "other.jsonl"]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket()
    monkeypatch.setitem(scheme._registered, "bucket", made)
    return made


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "parquet"])
def test_a_template_behind_a_url_gives_the_objects_that_a_folder_has_as_files(
    bucket: Bucket, tmp_path: Path, suffix: str
) -> None:
    name = f"sets/{{duration}}/all.{suffix}"
    pipeline(Merge(name)).run(run_dir=tmp_path / "one")
    result = pipeline(Merge(f"bucket://b/{name}")).run(run_dir=tmp_path / "two")
    files = {f"bucket://b/sets/{number}.5/all.{suffix}": f"sets/{number}.5/all.{suffix}" for number in range(4)}
    assert bucket.objects == {url: (tmp_path / "one" / file).read_bytes() for url, file in files.items()}
    assert [str(path) for path in result.outputs] == list(files)
    assert not list((tmp_path / "two").rglob("*.tmp-*"))


def test_an_object_of_a_value_that_is_gone_is_deleted_and_no_other(bucket: Bucket, tmp_path: Path) -> None:
    def run(path: str) -> None:
        pipeline(Merge(path)).run(run_dir=tmp_path / "run")

    run("bucket://b/{duration}.jsonl")
    run("bucket://b/again/{duration}.jsonl")
    names = [f"{number}.5.jsonl" for number in range(4)]
    first, second = {f"bucket://b/{name}" for name in names}, {f"bucket://b/again/{name}" for name in names}
    assert set(bucket.objects) == first | second, "what was published under another path stays"
    gone = tmp_path / "run" / "claims.json"
    claims = json.loads(gone.read_bytes())
    gone.write_text(json.dumps({name: [*places, "bucket://b/again/7.jsonl"] for name, places in claims.items()}))
    for name in ("again/7.jsonl", "again/8.jsonl", "again/sub/7.jsonl"):
        bucket.objects[f"bucket://b/{name}"] = b""
    run("bucket://b/again/{duration}.jsonl")
    assert "bucket://b/again/7.jsonl" not in bucket.objects
    assert {"bucket://b/again/8.jsonl", "bucket://b/again/sub/7.jsonl"} <= set(bucket.objects)
    assert set(*json.loads(gone.read_bytes()).values()) == first | second


def test_an_object_of_another_owner_is_refused_before_the_first_is_written(bucket: Bucket, tmp_path: Path) -> None:
    bucket.objects["bucket://b/2.5.jsonl"] = b"another's"
    with pytest.raises(PlanError, match=r"bucket://b/2\.5\.jsonl is there already, and this run has not written it"):
        pipeline(Merge("bucket://b/{duration}.jsonl")).run(run_dir=tmp_path)
    assert bucket.objects == {"bucket://b/2.5.jsonl": b"another's"}
    result = pipeline(Merge("bucket://b/own/{duration}.jsonl")).run(run_dir=tmp_path)
    assert len(result.outputs) == 4 and bucket.objects["bucket://b/2.5.jsonl"] == b"another's"


def test_a_store_that_refuses_an_object_stops_the_run_and_the_next_attempt_publishes_all(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, uri: str) -> None:
        raise StoreError(f"{uri}: the store is full")

    with monkeypatch.context() as changed:
        changed.setattr(bucket, "upload", refuse, raising=False)
        with pytest.raises(InfrastructureError, match=r"cannot publish bucket://b/\{duration\}.jsonl: .*store is full"):
            pipeline(Merge("bucket://b/{duration}.jsonl")).run(run_dir=tmp_path)
    assert not bucket.objects
    pipeline(Merge("bucket://b/{duration}.jsonl")).run(run_dir=tmp_path)
    assert len(bucket.objects) == 4


def test_a_file_of_another_owner_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    pipeline(Merge(path)).run(run_dir=tmp_path / "run")
    pipeline(Merge(path)).run(run_dir=tmp_path / "run")  # its own
    with pytest.raises(PlanError, match=r"out\.jsonl is there already, and this run has not written it"):
        pipeline(Merge(path)).run(run_dir=tmp_path / "other")


def test_chosen_columns_are_the_only_ones_in_their_order(tmp_path: Path) -> None:
    pipeline(
        Merge("out.jsonl", columns=["duration", "text"]),
        Merge("out.csv", columns=["duration", "text"]),
        Merge("out.parquet", columns=["duration", "text"], compression="snappy", row_group_records=10),
    ).run(run_dir=tmp_path)
    assert (tmp_path / "out.jsonl").read_text().splitlines()[0] == '{"duration": 0.5, "text": "utterance 0"}'
    assert (tmp_path / "out.csv").read_text().splitlines()[:2] == ["duration,text", "0.5,utterance 0"]
    file = parquet.ParquetFile(tmp_path / "out.parquet")
    assert file.schema_arrow.names == ["duration", "text"]
    assert file.metadata.row_group(0).num_rows == 10
    assert file.metadata.row_group(0).column(0).compression == "SNAPPY"


@pytest.mark.parametrize(
    ("merge", "complaint"),
    [
        (Merge("out.jsonl", compression="zstd"), "the format jsonl has no compression"),
        (Merge("out.parquet", compression="lzo"), "compression='lzo' is none of"),  # pyright: ignore[reportArgumentType]
        (Merge("out.parquet", row_group_records=0), "must be at least 1"),
        (Merge("{split}.jsonl"), "'split'"),
        (Merge("{0}.jsonl"), "is not a column in braces"),
        (Merge("bucket://b/{split}.jsonl"), "'split'"),
        (Merge("bucket://{duration}/out.jsonl"), "may name objects, and not the bucket"),
        (Merge("bucket://b//{duration}.jsonl"), "empty part"),
        (Merge("bucket://b/{0}.jsonl"), "is not a column in braces"),
        (Merge("out.jsonl", columns=["a", "a"]), "a column stands twice"),
        (Merge("out.jsonl", columns=["wer"]), "'wer'"),
    ],
)
def test_options_that_do_not_fit_are_mistakes_in_the_plan(bucket: Bucket, merge: Merge, complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        pipeline(merge).plan()


def test_a_denied_license_is_a_mistake_in_the_plan_where_a_source_has_it(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a", "license": "CC-BY-NC-4.0"}\n')
    merge = Merge("out.jsonl", deny_licenses=["cc-by-nc*"])
    source = ReadManifest(tmp_path / "in.jsonl", license="CC-BY-NC-ND-4.0", roots="/")
    with pytest.raises(PlanError, match=r"denies the license 'CC-BY-NC-ND-4\.0', which 'read_manifest' has"):
        Pipeline("merge", [source, merge]).plan()
    with pytest.raises(InfrastructureError, match=r"denies the license 'CC-BY-NC-4\.0' of"):
        Pipeline("merge", [ReadManifest(tmp_path / "in.jsonl", roots="/"), merge]).run(run_dir=tmp_path / "run")


class NoRecords:
    """A reader of no records."""

    def __iter__(self) -> Iterator[Record]:
        return iter(())

    def lines(self) -> Iterator[bytes]:
        return iter(())


def test_parquet_of_nothing_has_the_columns_of_the_plan(tmp_path: Path) -> None:
    plan = Pipeline("merge", [ReadRecords(RECORDS), QualityFilter("duration > 100"), Merge("out.parquet")]).plan()
    merge = plan.stages[-1].stage
    assert isinstance(merge, Merge)
    merge.planned_columns = sorted(plan.stages[-1].columns or ())
    merge.write(NoRecords(), tmp_path)
    schema = parquet.read_schema(tmp_path / "out.parquet")
    assert schema.names == ["duration", "meta", "text"]
    assert str(schema.field("duration").type) == "double"


def test_objects_with_keys_of_their_own_are_json_text(tmp_path: Path) -> None:
    records = [{"n": number, "talk_s": {f"spk{number}": 1.5}, f"own{number}": number} for number in range(150)]
    Pipeline("merge", [ReadRecords(records), Merge("out.parquet")]).run(run_dir=tmp_path)
    rows = parquet.ParquetFile(tmp_path / "out.parquet").read(use_threads=False).to_pylist()
    assert [json.loads(row["talk_s"]) for row in rows] == [record["talk_s"] for record in records]
    assert [row[f"own{number}"] for number, row in enumerate(rows)] == list(range(150))
    assert rows[3]["own4"] is None
