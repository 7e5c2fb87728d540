"""A run directory holds one run: it goes on where it was, or is refused for a reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import Gather, InfrastructureError, Pipeline, ProcessingStage, Source, processing_stage
from curate.engine.durability import commit as commit_module
from curate.engine.durability import directory_store
from curate.engine.durability.commit_file import seal, unseal
from curate.engine.durability.run_directory import read_run
from curate.errors import AccountingError, RunDirectoryError
from curate.records import AudioBatch, Failed, Record
from curate.stages import Merge, Partition, QualityFilter, ReadManifest, ReadRecords
from tests.shuffled_executor import ShuffledExecutor


class Crash(GeneratorExit):
    """What no `except Exception` stops, as a SIGKILL."""


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "UNIT_BYTES", 200)


ROWS = [{"x": x, "duration": 1.0 + x} for x in range(40)]


@dataclass
class Works(ProcessingStage):
    """Counts what it works on, and calls `before` on every record."""

    before: Any = None
    name = "works"

    tuning = frozenset({"before"})

    def process(self, batch: AudioBatch) -> AudioBatch:
        for record in batch.data:
            if self.before is not None:
                self.before(record)
            record["y"] = record["x"] ** 2
        return batch

    def writes(self) -> tuple[str, ...]:
        return ("y",)


def pipeline(*stages: Any, rows: list[Record] = ROWS) -> Pipeline:
    cut = Partition(max_records=4, by_length=False)
    return Pipeline("p", [ReadRecords(rows), cut, *stages, Merge("out.jsonl")])


def crash_at(x: int, log: list[int]) -> Callable[[Record], None]:
    def before(record: Record) -> None:
        log.append(record["x"])
        if record["x"] == x:
            raise Crash

    return before


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    first: list[int] = []
    with pytest.raises(Crash):
        pipeline(Works(crash_at(30, first))).run(run_dir=tmp_path)
    committed = len(list((tmp_path / "commits").glob("p0-*.json")))
    assert committed >= 5
    second: list[int] = []
    result = pipeline(Works(lambda record: second.append(record["x"]))).run(run_dir=tmp_path)
    redone = set(first) & set(second)
    assert set(first) | set(second) == set(range(40))
    assert len(redone) <= 4 + 8  # what was in flight, and one unit
    assert [json.loads(line)["y"] for line in (tmp_path / "out.jsonl").open()] == [x * x for x in range(40)]
    assert result.summary["records_in"] == result.summary["kept"] == 40


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    pipeline(Works()).run(run_dir=tmp_path)
    before = (tmp_path / "out.jsonl").read_bytes()
    log: list[int] = []
    again = pipeline(Works(crash_at(-1, log))).run(run_dir=tmp_path)
    assert log == []
    assert (tmp_path / "out.jsonl").read_bytes() == before
    assert again.summary["kept"] == 40


def test_a_published_file_that_is_gone_is_published_again(tmp_path: Path) -> None:
    pipeline(Works()).run(run_dir=tmp_path)
    before = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "out.jsonl").unlink()
    pipeline(Works()).run(run_dir=tmp_path)
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_an_error_keeps_what_was_committed(tmp_path: Path) -> None:
    def gone(record: Record) -> None:
        if record["x"] == 35:
            raise InfrastructureError("the card is gone")

    with pytest.raises(InfrastructureError, match="the card is gone"):
        pipeline(Works(gone)).run(run_dir=tmp_path)
    assert not (tmp_path / "out.jsonl").exists()
    log: list[int] = []
    pipeline(Works(lambda record: log.append(record["x"]))).run(run_dir=tmp_path)
    assert 0 not in log
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 40


def test_what_was_finished_before_an_error_is_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "UNIT_BYTES", 10**9)

    def gone(record: Record) -> None:
        if record["x"] == 35:
            raise InfrastructureError("the card is gone")

    with pytest.raises(InfrastructureError, match="the card is gone"):
        pipeline(Works(gone)).run(run_dir=tmp_path)
    log: list[int] = []
    pipeline(Works(lambda record: log.append(record["x"]))).run(run_dir=tmp_path)
    assert log == list(range(32, 40))


def test_changed_settings_are_refused_with_stage_and_field(tmp_path: Path) -> None:
    pipeline(Works(), QualityFilter("y < 100")).run(run_dir=tmp_path)
    before = (tmp_path / "out.jsonl").read_bytes()
    with pytest.raises(
        RunDirectoryError, match=r"stage 'quality_filter' had expression = 'y < 100', and now it is 'y < 50'"
    ):
        pipeline(Works(), QualityFilter("y < 50")).run(run_dir=tmp_path)
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_other_stages_are_refused(tmp_path: Path) -> None:
    pipeline(Works()).run(run_dir=tmp_path)
    with pytest.raises(RunDirectoryError, match="its stages were read_records, works, merge, and now they are"):
        pipeline(Works(), QualityFilter("y < 50")).run(run_dir=tmp_path)


def test_another_order_of_the_same_stages_is_refused(tmp_path: Path) -> None:
    @processing_stage(name="a")
    def a(record: dict) -> dict:
        return record

    @processing_stage(name="b")
    def b(record: dict) -> dict:
        return record

    pipeline(a, b).run(run_dir=tmp_path)
    with pytest.raises(RunDirectoryError, match="its stages were read_records, a, b, merge, and now they are"):
        pipeline(b, a).run(run_dir=tmp_path)


def test_a_checkpoint_that_moves_is_refused_because_the_commits_mean_something_else(tmp_path: Path) -> None:
    pipeline(Works(), QualityFilter("y < 50")).run(run_dir=tmp_path)
    with pytest.raises(
        RunDirectoryError, match=r"phases were .* and now they are read_records, works \| quality_filter"
    ):
        pipeline(Works().with_(checkpoint=True), QualityFilter("y < 50")).run(run_dir=tmp_path)


def test_batch_size_workers_and_partition_may_change(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        pipeline(Works(crash_at(30, []))).run(run_dir=tmp_path)
    stages = [ReadRecords(ROWS), Partition(max_records=7), Works().with_(workers=3, batch_size=9), Merge("out.jsonl")]
    Pipeline("another name", stages).run(run_dir=tmp_path)
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 40


def manifest(path: Path, count: int = 3) -> Path:
    path.write_text("".join(json.dumps({"audio_filepath": f"{n}.wav", "x": n}) + "\n" for n in range(count)))
    return path


def test_a_changed_input_is_refused(tmp_path: Path) -> None:
    source = manifest(tmp_path / "in.jsonl")
    stages = [ReadManifest(str(source)), Works(), Merge("out.jsonl")]
    Pipeline("p", stages).run(run_dir=tmp_path / "run")
    manifest(source, 4)
    with pytest.raises(RunDirectoryError, match=r"the input .*in.jsonl has changed since the run began"):
        Pipeline("p", stages).run(run_dir=tmp_path / "run")


def test_a_lost_input_is_refused_and_a_new_one_is_left_out(tmp_path: Path) -> None:
    manifest(tmp_path / "a.jsonl")
    stages = [ReadManifest(str(tmp_path / "*.jsonl")), Works(), Merge("out.jsonl")]
    Pipeline("p", stages).run(run_dir=tmp_path / "run")
    second = manifest(tmp_path / "b.jsonl")
    assert Pipeline("p", stages).run(run_dir=tmp_path / "run").summary["records_in"] == 3
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(RunDirectoryError, match=r"the input .*a.jsonl is gone since the run began"):
        Pipeline("p", stages).run(run_dir=tmp_path / "run")
    second.unlink()


def test_a_directory_that_holds_other_things_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunDirectoryError, match="is not empty and holds no run"):
        pipeline(Works()).run(run_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "not json"])
def test_a_foreign_run_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunDirectoryError, match="is not a run's"):
        pipeline(Works()).run(run_dir=tmp_path)


@pytest.mark.parametrize("number", [3, 99])
def test_run_directory_of_another_format_is_refused(tmp_path: Path, number: int) -> None:
    pipeline(Works()).run(run_dir=tmp_path)
    described = json.loads((tmp_path / "run.json").read_bytes())
    (tmp_path / "run.json").write_text(json.dumps({**described, "format": number}))
    with pytest.raises(RunDirectoryError, match=rf"was written by curate .* in format {number}, .* format 4; use"):
        pipeline(Works()).run(run_dir=tmp_path)
    with pytest.raises(RunDirectoryError, match=rf"in format {number}"):
        read_run(tmp_path)


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunDirectoryError, match="is not empty and holds no run"):
        pipeline(Works()).run(run_dir=tmp_path / "file")


def test_a_crash_before_the_run_was_described_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "run.json.tmp-4711").write_text('{"form')
    pipeline(Works()).run(run_dir=tmp_path)
    assert not (tmp_path / "run.json.tmp-4711").exists()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InfrastructureError, match=r"file/run"):
        pipeline(Works()).run(run_dir=tmp_path / "file" / "run")


def test_a_source_that_shrinks_between_two_lives_is_found_out(tmp_path: Path) -> None:
    class Shrinks(Source):
        def read(self, after: str | None = None) -> Iterator[Record | Failed]:
            for number in range(count[0]):
                yield {"_id": f"s:{number}", "x": number}

    count = [40]
    stages = [Shrinks(), Partition(max_records=4), Works(crash_at(39, [])), Merge("out.jsonl")]
    with pytest.raises(Crash):
        Pipeline("p", stages).run(run_dir=tmp_path)
    count[0] = 10
    with pytest.raises(InfrastructureError, match=r"stage 'shrinks' gave .* records in an earlier attempt"):
        Pipeline("p", stages).run(run_dir=tmp_path)


def test_a_gather_that_shuffles_otherwise_in_the_next_life_is_found_out(tmp_path: Path) -> None:
    class Shuffles(Gather):
        def gather(self, records: Iterator[Record]) -> Iterator[Record]:
            return iter(list(records)[:: next(steps)])

    steps = iter((1, -1))
    stages = [ReadRecords(ROWS), Shuffles(), Partition(max_records=4), Works(crash_at(30, [])), Merge("out.jsonl")]
    with pytest.raises(Crash):
        Pipeline("p", stages).run(run_dir=tmp_path)
    with pytest.raises(InfrastructureError, match="stage 'shuffles' gave other records, or another order"):
        Pipeline("p", stages).run(run_dir=tmp_path)
    assert not (tmp_path / "out.jsonl").exists()


def test_commits_that_overlap_are_an_accounting_error(tmp_path: Path) -> None:
    pipeline(Works()).run(run_dir=tmp_path)
    described = unseal((tmp_path / "commits" / "p0-000000.json").read_bytes())
    (tmp_path / "commits" / "p0-000099.json").write_bytes(seal({**described, "unit": "p0-000099"}))
    with pytest.raises(AccountingError, match="some are lost or there twice"):
        pipeline(Works()).run(run_dir=tmp_path)


def test_summary_json_balances(tmp_path: Path) -> None:
    @processing_stage(name="fails")
    def fails(record: dict) -> dict:
        if record["x"] % 10 == 0:
            raise ValueError("no")
        return record

    pipeline(fails, QualityFilter("x < 30")).run(run_dir=tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_bytes())
    assert summary["status"] == "finished"
    assert (summary["records_in"], summary["kept"], summary["filtered"], summary["quarantined"]) == (40, 27, 9, 4)
    assert summary["failures"] == {"stage_error": 4}
    assert summary["audio_s"] == sum(row["duration"] for row in ROWS)
    assert summary["rtfx"] > 0
    assert summary["by_stage"]["fails"]["quarantined"] == 4
    assert summary["by_stage"]["quality_filter"]["records_in"] == 36
    assert summary["by_stage"]["quality_filter"]["records_out"] == 27
    assert summary["by_stage"]["merge"]["records_out"] == 27


def test_a_stage_that_changes_durations_in_secret_is_told_to_say_so(tmp_path: Path) -> None:
    @processing_stage(name="trims", writes=["trimmed"])
    def trims(record: dict) -> dict:
        return {**record, "duration": record["duration"] - 0.5, "trimmed": True}

    with pytest.raises(InfrastructureError, match=r"\(works, trims\) says that it changes 'duration'.* writes\(\)"):
        pipeline(Works(), trims).run(run_dir=tmp_path)
    assert not list((tmp_path / "commits").iterdir())


def test_a_run_that_has_committed_nothing_may_change_its_settings(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        pipeline(Works(crash_at(0, [])), QualityFilter("y < 100")).run(run_dir=tmp_path)
    result = pipeline(Works(), QualityFilter("y < 50")).run(run_dir=tmp_path)
    assert result.summary["kept"] == 8
    with pytest.raises(RunDirectoryError, match="had expression = 'y < 50', and now it is 'y < 100'"):
        pipeline(Works(), QualityFilter("y < 100")).run(run_dir=tmp_path)


SCRIPT = """
LIMIT = {limit}

def halved(x):
    return x // {half}

def judge(record: dict) -> dict:
    return record if halved(record["x"]) < LIMIT else record
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit": 7}, "stage 'judge' had LIMIT = 5, and now it is 7"),
        ({"half": 3}, "stage 'judge' is not what it was: the code of halved has changed"),
    ],
)
def test_what_a_scripts_function_uses_is_part_of_its_run(tmp_path: Path, change: dict[str, int], message: str) -> None:
    def run(**values: int) -> None:
        script: dict[str, Any] = {"__name__": "__main__"}
        exec(SCRIPT.format(**values), script)
        pipeline(processing_stage(name="judge")(script["judge"])).run(run_dir=tmp_path / "run")

    run(limit=5, half=2)
    run(limit=5, half=2)
    with pytest.raises(RunDirectoryError, match=message):
        run(**{"limit": 5, "half": 2, **change})


def test_a_commit_that_is_interrupted_is_done_again_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal may come when the commit has just been renamed: what the drain brings belongs to another one."""
    found: list[bytes] = []

    def interrupts(name: str) -> None:
        if name == "commit.after_rename" and not found:
            found.append((tmp_path / "run" / "data" / "p0-000000.jsonl").read_bytes())
            raise KeyboardInterrupt

    @processing_stage(name="work", writes=[])
    def work(record: Record) -> Record:
        return record

    pipeline = Pipeline("p", [ReadRecords([{"x": x} for x in range(500)]), Partition(max_records=5), work])
    monkeypatch.setattr(commit_module, "UNIT_BYTES", 5000)
    with monkeypatch.context() as patch:
        patch.setattr(directory_store, "failpoint", interrupts)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(ShuffledExecutor(seed=1), run_dir=tmp_path / "run")
    assert (tmp_path / "run" / "data" / "p0-000000.jsonl").read_bytes() == found[0]
    assert len(list((tmp_path / "run" / "commits").glob("p0-*.json"))) > 1, "the drain has brought something"
    assert len(list(pipeline.run(run_dir=tmp_path / "run").records())) == 500


@pytest.mark.parametrize("where", ["absolute", "link", "own"])
def test_no_file_is_published_over_another(tmp_path: Path, where: str) -> None:
    run_dir = tmp_path / "run"
    (tmp_path / "link").symlink_to(run_dir)
    second = {
        "absolute": f"{run_dir}/out.jsonl",
        "link": f"{tmp_path}/link/out.jsonl",
        "own": f"{run_dir}/data/x.jsonl",
    }
    stages = [
        ReadRecords([{"x": 1}]),
        Merge("out.jsonl"),
        QualityFilter("x > 1"),
        Merge(second[where]).with_(name="more"),
    ]
    with pytest.raises(RunDirectoryError, match=r"give (the second|it) another path"):
        Pipeline("p", stages).run(run_dir=run_dir)
    assert not (run_dir / "out.jsonl").exists()


def test_a_folder_among_the_shards_is_left_alone(tmp_path: Path) -> None:
    pipeline = Pipeline("p", [ReadRecords([{"x": 1}]), Merge("out.jsonl")])
    pipeline.run(run_dir=tmp_path)
    (tmp_path / "data" / ".ipynb_checkpoints").mkdir()
    pipeline.run(run_dir=tmp_path)
    assert (tmp_path / "data" / ".ipynb_checkpoints").is_dir()


def test_trouble_with_the_drivers_own_files_is_nobodys_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> None:
        if name == "phase.before_complete":
            raise PermissionError(13, "Permission denied", "some/file")

    monkeypatch.setattr(directory_store, "failpoint", fails)
    with pytest.raises(InfrastructureError, match="some/file: Permission denied"):
        Pipeline("p", [ReadRecords([{"x": 1}])]).run(run_dir=tmp_path)
