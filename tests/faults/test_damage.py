"""Every kind of damage to a run directory is named, repaired by the printed command, and costs its unit."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from curate import InfrastructureError
from curate.cli import main
from curate.engine.durability.commit_file import read_commit
from tests.faults import damage
from tests.faults.damage import KINDS, Kind, command_in, results, run, worked_on


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


def largest_unit(run_dir: Path) -> int:
    return max(read_commit(path).books.records_in for path in (run_dir / "commits").glob("p*-*.json"))


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
    shutil.copytree(request.getfixturevalue(state), tmp_path, dirs_exist_ok=True)
    run_dir, log = tmp_path / "run", tmp_path / "log"
    most = largest_unit(run_dir)
    before = worked_on(log)
    expected: Counter[str] = request.getfixturevalue("resumed") if state == "stopped" else before
    kind.inflict(run_dir)

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
    assert again.total() <= most
    assert main(["repair", str(run_dir)]) == 0
    assert "nothing is damaged" in capsys.readouterr().out


def test_matrix_has_at_least_25_kinds_of_damage_with_names_of_their_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 25
