"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from curate.errors import InfrastructureError
from curate.storage import (
    DescribedFile,
    describe_bytes,
    describe_file,
    replacing,
    write_atomically,
    write_json,
)


def test_the_file_appears_at_the_end_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_two_nodes_with_the_same_process_number_write_the_same_file_without_mixing_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with replacing(path) as mine:
        mine.write(b"of the first node\n" * 3)
        with replacing(path) as other:
            other.write(b"of the second\n")
        assert path.read_bytes() == b"of the second\n"
    assert path.read_bytes() == b"of the first node\n" * 3
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_an_error_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), replacing(path) as file:  # noqa: PT012 (what is written before it is the test)
        file.write(b"half of the ne")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_stops_the_run_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InfrastructureError, match=r"cannot write .*a\.jsonl: No space left on device"):
        write_atomically(tmp_path / "a.jsonl", b"x")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="cannot write"):
        write_atomically(tmp_path / "none" / "a.jsonl", b"x")


@pytest.mark.parametrize("value", [{"a": [1, "größe"]}, {"path": "b\udce4.wav"}])
def test_json_for_people_comes_back(tmp_path: Path, value: Any) -> None:
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_bytes()) == value


@pytest.mark.parametrize("sizes", [(), (1, 3, 0, 9_000, 2), (20_000, 8_191, 8_193)])
def test_description_of_a_written_file_is_that_of_the_file(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    raw = DescribedFile(tmp_path / "a.tar")
    with io.BufferedWriter(raw) as file:
        for size in sizes:
            file.write(os.urandom(size))
    content = (tmp_path / "a.tar").read_bytes()
    assert len(content) == sum(sizes)
    assert raw.describe() == describe_file(tmp_path / "a.tar") == describe_bytes(content)


@pytest.mark.parametrize("moves", [True, False])
def test_description_of_a_file_not_written_in_order_is_read_from_it(tmp_path: Path, moves: bool) -> None:
    raw = DescribedFile(tmp_path / "a.parquet")
    with io.BufferedWriter(raw) as file:
        file.write(b"0123456789")
        if moves:
            file.seek(2)
            file.write(b"x")
        else:
            file.truncate(5)
    assert (tmp_path / "a.parquet").read_bytes() == (b"01x3456789" if moves else b"01234")
    assert raw.describe() == describe_file(tmp_path / "a.parquet")
