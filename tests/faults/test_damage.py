"""Every kind of damage to a run directory is named, repaired by the printed command, and costs its unit."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from curate import InfrastructureError, Pipeline, RecordStage
from curate.cli import main
from curate.records import Record
from curate.stages import Merge, ReadRecords
from tests.faults import damage
from tests.faults.damage import KINDS, Kind, command_in, ids_to_process, results, root_of, run, worked_on


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damage.write_manifest(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def finished(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished run and its log."""
    folder = tmp_path_factory.mktemp("finished")
    run("local", folder / "run", manifest, folder / "log")
    return folder


@pytest.fixture(scope="module")
def stopped(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run that has stopped in its second phase, and its log."""
    folder = tmp_path_factory.mktemp("stopped")
    manifest.with_name("stop").touch()
    try:
        with pytest.raises(InfrastructureError, match="stopped by the test"):
            run("local", folder / "run", manifest, folder / "log")
    finally:
        manifest.with_name("stop").unlink()
    return folder


@pytest.fixture(scope="module")
def resumed(stopped: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """Return the work on each record when the stopped run is resumed without damage."""
    folder = tmp_path_factory.mktemp("resumed") / "all"
    shutil.copytree(stopped, folder)
    run("local", folder / "run", manifest, folder / "log")
    return worked_on(folder / "log")


@pytest.fixture(scope="module")
def undisturbed(finished: Path) -> dict[str, Any]:
    return results(finished / "run")


def warnings_of(executor: str, run_dir: Path, manifest: Path, log: Path) -> str:
    """Run the pipeline and return what it has logged as warnings."""
    found: list[str] = []
    logger.enable("curate")
    sink = logger.add(lambda message: found.append(str(message)), level="WARNING")
    try:
        run(executor, run_dir, manifest, log)
    finally:
        logger.remove(sink)
        logger.disable("curate")
    return "".join(found)


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
@pytest.mark.parametrize("state", ["stopped", "finished"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damage_is_named_and_repaired_by_the_printed_command(
    kind: Kind,
    state: str,
    executor: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    manifest: Path,
    undisturbed: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole: Path = request.getfixturevalue(state)
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    run_dir, log = tmp_path / "run", tmp_path / "log"
    before = worked_on(log)
    expected: Counter[str] = request.getfixturevalue("resumed") if state == "stopped" else before
    kind.inflict(run_dir)
    lost = ids_to_process(whole / "run", run_dir) if kind.redone else set()

    if kind.stops:
        with pytest.raises(InfrastructureError) as stop:
            run(executor, run_dir, manifest, log)
        assert kind.named in str(stop.value)
        assert worked_on(log) == before
        assert main(command_in(str(stop.value))) == 0
        assert kind.named in capsys.readouterr().out
        run(executor, run_dir, manifest, log)
    else:
        assert kind.named in warnings_of(executor, run_dir, manifest, log)

    assert results(run_dir) == undisturbed
    again = worked_on(log) - expected
    assert {name.partition(" ")[0] for name in again} <= kind.redone
    assert {root_of(name.partition(" ")[2]) for name in again} <= lost
    assert again.total() <= len(lost) < damage.COUNT / 2
    assert main(["repair", str(run_dir)]) == 0
    assert "nothing is damaged" in capsys.readouterr().out


def test_matrix_has_at_least_25_kinds_of_damage_with_names_of_their_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 25


@dataclass
class Loses(RecordStage):
    """Deletes the file about failed records of the phase before, as a bad disk may in the middle of a run."""

    run_dir: str

    def writes(self) -> tuple[str, ...]:
        return ()

    def process_record(self, record: Record) -> Record:
        for path in Path(self.run_dir, "quarantine").glob("p0-*.jsonl"):
            path.unlink()
        return record


def test_notes_lost_during_a_run_are_named_at_its_end_and_in_the_summary(tmp_path: Path) -> None:
    run_dir, log, stop = tmp_path / "run", tmp_path / "log", tmp_path / "stop"
    fails = damage.Splits(str(log), str(stop)).with_(checkpoint=True)
    stages = [ReadRecords([{"number": number} for number in range(20)]), fails, Loses(str(run_dir)), Merge("out.jsonl")]
    with pytest.raises(InfrastructureError, match=r"(?s)quarantine/p0-.*\n *curate repair ") as end:
        Pipeline("loses", stages).run(run_dir=run_dir)
    (path,) = json.loads((run_dir / "summary.json").read_bytes())["damaged"]
    assert path.startswith("quarantine/p0-")
    assert path in str(end.value)
    assert main(command_in(str(end.value))) == 0
