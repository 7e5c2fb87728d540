"""A folder is published in the place of an earlier one of the same run, and of nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.errors import PlanError
from curate.io.provenance import PROVENANCE
from curate.records import RecordReader
from curate.stages.write import folders
from curate.stages.write.folders import FolderWriter


class Words(FolderWriter):
    """Publishes a folder of one file."""

    name = "words"

    def write(self, records: RecordReader, directory: Path) -> list[Path]:
        with self.building(directory) as building:
            describe(building, directory)
        return [self.place(directory)]


def describe(folder: Path, run: Path) -> None:
    (folder / PROVENANCE).write_text(json.dumps({"run": str(run.absolute())}))


def publish(place: Path, run: Path) -> None:
    run.mkdir(exist_ok=True)
    none: Any = ()
    Words(place).write(none, run)


def before(action: Callable[[], None], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let something happen once before a function of `folders` is called."""
    original, left = getattr(folders, name), [action]

    def called(*arguments: object) -> object:
        if left:
            left.pop()()
        return original(*arguments)

    monkeypatch.setattr(folders, name, called)


@pytest.mark.parametrize("during", ["the run", "the publishing"])
def test_set_that_another_run_publishes_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    place, mine, other = tmp_path / "set", tmp_path / "mine", tmp_path / "other"
    Words(place).check_place(mine)
    if during == "the run":
        publish(place, other)
    else:
        before(lambda: publish(place, other), monkeypatch, "_sync")
    with pytest.raises(PlanError, match=f"is the data set of another run, {other}"):
        publish(place, mine)
    assert json.loads((place / PROVENANCE).read_bytes()) == {"run": str(other)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "other", "set"]


def test_set_takes_the_place_of_the_same_run_s_earlier_one(tmp_path: Path) -> None:
    for _ in range(2):
        publish(tmp_path / "set", tmp_path / "mine")
    assert json.loads((tmp_path / "set" / PROVENANCE).read_bytes()) == {"run": str(tmp_path / "mine")}
