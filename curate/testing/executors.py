"""What every executor must keep, as tests that an author inherits.

class TestMine(ExecutorContract):
    def executor(self):
        return MyExecutor()
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from unittest import SkipTest

from curate.engine import Executor, RunOptions, StopRequest, UnitCommitted
from curate.pipeline import Pipeline
from curate.plugin import current_host, hookimpl
from curate.records import AudioBatch
from curate.stages import ReadRecords
from curate.testing.executor_pipelines import (
    COUNT,
    OUTPUTS,
    PIPELINES,
    EndsItsWorker,
    contract_pipeline,
)


class ExecutorContract:
    """Tests of one executor. Derive from it, name the class `Test…`, and define `executor()`."""

    survives_crashes: ClassVar[bool] = False
    """Whether workers are processes of their own, so that a crash or a hang costs one record."""

    workers: ClassVar[int | None] = None
    """How many workers each stage asks for; None: it does not say."""

    batches: ClassVar[tuple[int, ...]] = (7, 1000)
    """How many records travel together."""

    def executor(self) -> Executor | str:
        """Return the executor to test, or its registered name."""
        raise NotImplementedError(f"{type(self).__name__} must define executor(): return the executor to test")

    # What is below is inherited.

    def test_every_pipeline_gives_the_bytes_of_local(self, tmp_path: Path) -> None:
        """Law 2: published files, and who was left out or failed, where and why."""
        for name, stages in PIPELINES.items():
            for batch in self.batches:
                folder = tmp_path / f"{name} {batch}"
                pipeline = contract_pipeline(stages(), batch=batch, workers=self.workers)
                summary = pipeline.run(self.executor(), run_dir=folder).summary
                found, expected = results(folder), results_of_local(name)
                for what in expected:
                    assert found[what] == expected[what], f"{what} of {name!r} in batches of {batch} differs"
                into = summary["records_in"] + summary["children"]
                out = sum(summary[end] for end in ("kept", "filtered", "quarantined", "split_parents"))
                assert (summary["records_in"], into) == (COUNT, out)

    def test_batches_of_one(self, tmp_path: Path) -> None:
        """A record in every batch is the same again."""
        contract_pipeline(PIPELINES["split"](), batch=1, workers=self.workers).run(self.executor(), run_dir=tmp_path)
        assert results(tmp_path) == results_of_local("split")

    def test_a_run_that_has_begun_elsewhere_is_continued(self, tmp_path: Path) -> None:
        """What another executor has committed is not done again, and the bytes are the same."""
        self._begin(tmp_path)
        stages = PIPELINES["phases"]()
        contract_pipeline(stages, batch=13, workers=self.workers).run(self.executor(), run_dir=tmp_path)
        assert results(tmp_path) == results_of_local("phases")

    def test_a_run_without_a_directory_keeps_its_records(self) -> None:
        """In memory, in the order of the input."""
        rows = [{"x": x, "text": str(x), "duration": 1.0} for x in range(50)]
        stages = PIPELINES["hops"]()
        here = Pipeline("p", [ReadRecords(rows), *stages]).run("local")
        there = Pipeline("p", [ReadRecords(rows), *stages]).run(self.executor())
        assert list(there.records()) == list(here.records())
        assert there.summary["filtered"] == len(there.filtered) == len(here.filtered)

    def test_batches_stream_through(self) -> None:
        """A batch comes out when its records are done, whole and in order, and the iterator is not read to its end."""
        read: list[int] = []

        def batches() -> Any:
            for start in range(0, 100_000, 5):
                read.append(start)
                yield AudioBatch([{"x": x, "text": str(x), "duration": 1.0} for x in range(start, start + 5)])

        out: Any = Pipeline("p", PIPELINES["filter"]()).stream(batches(), self.executor())
        first = [next(out) for _ in range(20)]
        out.close()
        for batch in first:
            start = batch.data[0]["x"]
            assert [record["x"] for record in batch.data] == list(range(start, start + 5))
        assert len(read) < 2000

    def test_a_bad_record_costs_one_record(self, tmp_path: Path) -> None:
        """Three kinds of failure, by code; their neighbours are processed."""
        stages = PIPELINES["failures"]()
        result = contract_pipeline(stages, workers=self.workers).run(self.executor(), run_dir=tmp_path)
        assert result.summary["failures"] == {"stage_error": 6, "decode_error": 6, "contract_lost": 3}
        assert result.summary["kept"] == COUNT - 15

    def test_a_crash_costs_one_record(self, tmp_path: Path) -> None:
        """A segmentation fault, an exit and a hang, each on one record; needs `survives_crashes`."""
        if not self.survives_crashes:
            raise SkipTest("survives_crashes is False: a crash ends the run")
        stage = EndsItsWorker().with_(timeout_s=2.0, workers=self.workers)
        result = contract_pipeline([stage]).run(self.executor(), run_dir=tmp_path)
        assert result.summary["failures"] == {"worker_died": 2, "timeout": 1}
        assert result.summary["kept"] == COUNT - 3
        left = {note[0]: note[2] for note in results(tmp_path)["quarantine"]}
        assert left == {"records:34": "worker_died", "records:134": "worker_died", "records:234": "timeout"}

    def _begin(self, folder: Path) -> None:
        """Stop a run on `local` at its second commit."""
        options, host = RunOptions(unit_bytes=4000), current_host()
        with host.observed_by(_StopsAtSecondCommit(options.stop)), suppress(KeyboardInterrupt):
            pipeline = contract_pipeline(PIPELINES["phases"](), batch=7)
            pipeline.run("local", run_dir=folder, host=host, options=options)
            raise AssertionError("the run was to be interrupted")


class _StopsAtSecondCommit:
    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._commits = 0

    @hookimpl
    def curate_on_unit_committed(self, event: UnitCommitted) -> None:
        self._commits += 1
        if self._commits == 2:
            self._stop()


def results(run_dir: Path) -> dict[str, Any]:
    """Return the results that law 2 covers: published bytes by sha256, and filtered and failed records with reasons."""
    found: dict[str, Any] = {
        name: hashlib.sha256((run_dir / name).read_bytes()).hexdigest()
        for name in OUTPUTS
        if (run_dir / name).exists()  # nothing is published where nothing was kept
    }
    for folder, what in (("filtered", ("reason",)), ("quarantine", ("code", "message"))):
        notes = [json.loads(line) for path in (run_dir / folder).iterdir() for line in path.read_bytes().splitlines()]
        found[folder] = sorted(
            (note["_id"], note["stage"], *(str(note[name]).partition("\n")[0] for name in what)) for note in notes
        )
    return found


@cache
def results_of_local(name: str) -> dict[str, Any]:
    """Return the results of one of the pipelines with the executor `local`."""
    with TemporaryDirectory() as folder:
        contract_pipeline(PIPELINES[name]()).run("local", run_dir=folder)
        return results(Path(folder))
