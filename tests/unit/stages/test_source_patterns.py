"""`**` finds every file once, through links too, whatever the links point to."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from curate.errors import PlanError
from curate.stages import ReadManifest
from curate.stages.sources.patterns import glob_files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("x.jsonl", "a/y.jsonl", "a/b/z.jsonl", ".hidden/q.jsonl", "a[1]/w.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"x": 1}\n')
    return tmp_path


@pytest.mark.parametrize(
    "pattern", ["**/*.jsonl", "**", "a/**/*.jsonl", "*/**/b/*.jsonl", "**/b/**/*.jsonl", "*.jsonl"]
)
@pytest.mark.parametrize("relative", [False, True])
def test_pattern_finds_what_glob_finds(
    tree: Path, pattern: str, relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    pattern = pattern if relative else str(tree / pattern)
    expected = {path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)}  # noqa: PTH113, PTH207
    found = [path for path in glob_files(pattern) if os.path.isfile(path)]  # noqa: PTH113
    assert sorted(found) == sorted(expected)


def test_folder_linked_into_itself_gives_every_file_once(tree: Path) -> None:
    (tree / "self").symlink_to(tree)
    (tree / "a" / "up").symlink_to(tree)
    (tree / "a" / "b" / "also").symlink_to("..")
    files = ReadManifest(str(tree / "**/*.jsonl")).inputs()
    assert [str(path.relative_to(tree)) for path in files] == ["a/b/z.jsonl", "a/y.jsonl", "a[1]/w.jsonl", "x.jsonl"]


def test_linked_folder_elsewhere_is_entered(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "v.jsonl").write_text('{"x": 1}\n')
    (tree / "disk").symlink_to(elsewhere)
    assert tree / "disk" / "v.jsonl" in ReadManifest(str(tree / "**/*.jsonl")).inputs()


def test_file_that_two_folders_link_to_is_still_listed_twice(tree: Path) -> None:
    (tree / "copy").symlink_to(tree / "a")
    with pytest.raises(PlanError, match="is listed twice"):
        ReadManifest(str(tree / "**/*.jsonl")).inputs()
