"""Numbers that do not fit into memory are sorted in parts, each of them once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.corpus import pair_files
from curate.corpus.pair_files import PairFiles


def sorted_parts(folder: Path, arrays: list[np.ndarray]) -> list[np.ndarray]:
    with PairFiles(folder) as files:
        for array in arrays:
            files.append(array)
        return list(files.sorted_parts())


@pytest.mark.parametrize(("held", "most"), [(1 << 20, 1 << 20), (500, 1 << 20), (500, 20)])
def test_equal_numbers_are_sorted_into_one_part(
    held: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_files, "HELD", held)
    monkeypatch.setattr(pair_files, "SORTED", most)
    draw = np.random.default_rng(0)
    distinct = draw.integers(0, 1 << 63, 3000, dtype=np.uint64)
    arrays = [draw.choice(distinct, size) for size in (0, 1, 499, 2000, 7, 5000)]
    parts = sorted_parts(tmp_path, arrays)
    assert all(np.array_equal(part, np.sort(part)) for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.sort(np.concatenate(arrays)))
    places: dict[int, int] = {}
    for number, part in enumerate(parts):
        for value in np.unique(part).tolist():
            assert places.setdefault(value, number) == number
    assert len(parts) > (1 if held == 500 else 0)
    assert not list(tmp_path.iterdir()), "the files are removed"


def test_nothing_gives_no_part(tmp_path: Path) -> None:
    assert sorted_parts(tmp_path, [np.empty(0, np.uint64)]) == []
