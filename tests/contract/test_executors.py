"""Every executor: the same pipelines, the same bytes, the same quarantine.

`local` is what the others are compared with. An executor is added by adding it to EXECUTORS.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from executor_pipelines import COUNT, PIPELINES, pipeline

from curate.executors.local import LocalExecutor
from tests.shuffled_executor import ShuffledExecutor

EXECUTORS: list[Any] = [
    pytest.param("local", id="local"),
    pytest.param(LocalExecutor(), id="an object"),
    pytest.param(ShuffledExecutor(seed=7), id="shuffled"),
]
OUTPUTS = ("out.jsonl", "out.jsonl.gz", "out.parquet")


def results(run_dir: Path) -> dict[str, Any]:
    """Return what law 2 covers: the published bytes, and who was left out or failed, where and why."""
    found: dict[str, Any] = {name: hashlib.sha256((run_dir / name).read_bytes()).hexdigest() for name in OUTPUTS}
    for folder, what in (("filtered", ("reason",)), ("quarantine", ("code", "message"))):
        notes = [json.loads(line) for path in (run_dir / folder).iterdir() for line in path.read_bytes().splitlines()]
        found[folder] = sorted((note["_id"], note["stage"], *(note[name] for name in what)) for note in notes)
    return found


@cache
def expected(name: str) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        pipeline(name).run("local", run_dir=folder)
        return results(Path(folder))


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("batch", [1, 40, 1000])
def test_the_same_bytes(executor: Any, name: str, batch: int, tmp_path: Path) -> None:
    result = pipeline(name, batch).run(executor, run_dir=tmp_path)
    assert results(tmp_path) == expected(name)
    summary = result.summary
    assert summary["records_in"] == COUNT
    out = summary["kept"] + summary["filtered"] + summary["quarantined"] + summary["split_parents"]
    assert summary["records_in"] + summary["children"] == out


@pytest.mark.parametrize("executor", EXECUTORS)
def test_failures_are_named_and_neighbours_go_on(executor: Any, tmp_path: Path) -> None:
    result = pipeline("failures").run(executor, run_dir=tmp_path)
    assert result.summary["failures"] == {"stage_error": 6, "decode_error": 6, "contract_lost": 3}
    assert result.summary["kept"] == COUNT - 15


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_life_on_one_executor_is_continued_on_another(executor: Any, tmp_path: Path) -> None:
    from curate.engine.shards import ShardStore

    class Stop(BaseException): ...

    commit, left = ShardStore.commit, [2]

    def dies(*arguments: Any) -> Any:
        if not left[0]:
            raise Stop
        left[0] -= 1
        return commit(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.engine.unit.UNIT_BYTES", 4000)
        patch.setattr(ShardStore, "commit", dies)
        with pytest.raises(Stop):
            pipeline("phases").run("local", run_dir=tmp_path)
    pipeline("phases", 13).run(executor, run_dir=tmp_path)
    assert results(tmp_path) == expected("phases")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_in_memory_and_streaming(executor: Any) -> None:
    from curate import AudioBatch, Pipeline
    from curate.stages import ReadRecords

    stages = PIPELINES["hops"]
    rows = [{"x": x, "text": str(x), "duration": 1.0} for x in range(50)]
    kept = list(Pipeline("p", [ReadRecords(rows), *stages]).run(executor).records())
    streamed = list(Pipeline("p", stages).stream((AudioBatch(rows[n : n + 7]) for n in range(0, 50, 7)), executor))
    streamed.sort(key=lambda batch: batch.data[0]["x"])
    assert [{name: value for name, value in record.items() if name != "_id"} for record in kept] == [
        record for batch in streamed for record in batch.data
    ]
