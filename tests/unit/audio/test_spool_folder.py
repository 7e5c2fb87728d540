"""The folder of a spool: shared by processes, removed by the last one, and after a kill by the next run."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.audio import Spool
from curate.audio.spool import SpoolFormat
from curate.audio.spool_folder import PREFIX, SpoolFolder, check_spool_directory, node_name, run_folder
from curate.errors import InfrastructureError, UsageError

FORM = SpoolFormat(channels=1, is_int16=False)
SPAWN = multiprocessing.get_context("spawn")


def folder_of(shared: Path, run: str) -> Path:
    return shared / f"{PREFIX}{run}" / node_name()


def store(spool: Spool, key: str) -> Any:
    return spool.open(key, FORM, lambda: iter([np.ones((100, 1), np.float32)]), lambda: None)


def test_the_last_user_removes_the_folder_with_that_of_its_run(tmp_path: Path) -> None:
    first, second = (SpoolFolder(folder_of(tmp_path, "a")) for _ in range(2))
    for folder in (first, second):
        folder.hold()
        folder.hold()
    first.release()
    assert first.path.is_dir()
    second.release()
    assert list(tmp_path.iterdir()) == []
    second.release()


def test_two_runs_in_one_folder_leave_each_other_alone(tmp_path: Path) -> None:
    spools = [Spool(folder_of(tmp_path, run)) for run in ("a", "b")]
    found = [store(spool, "the same recording") for spool in spools]
    spools[0].close()
    assert found[1].read(0, 100).shape == (100, 1)
    assert not spools[0].folder.exists()
    assert spools[1].folder.is_dir()
    spools[1].close()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_another_node_stays(tmp_path: Path) -> None:
    other = tmp_path / f"{PREFIX}a" / "another-node"
    other.mkdir(parents=True)
    spool = Spool(folder_of(tmp_path, "a"))
    store(spool, "x")
    spool.close()
    assert other.is_dir()
    assert not spool.folder.exists()


def hold_until(folder: str, held: Event, end: Event) -> None:
    store(Spool(folder), "x")
    held.set()
    end.wait(60)


def test_what_a_killed_run_has_left_is_removed_by_the_next_and_a_living_one_stays(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path, run) for run in ("killed", "living")]
    helds, ends = [SPAWN.Event(), SPAWN.Event()], [SPAWN.Event(), SPAWN.Event()]
    users = [
        SPAWN.Process(target=hold_until, args=(str(folder), held, end))
        for folder, held, end in zip(folders, helds, ends, strict=True)
    ]
    for user, held in zip(users, helds, strict=True):
        user.start()
        assert held.wait(60)
    assert users[0].pid is not None
    os.kill(users[0].pid, signal.SIGKILL)
    users[0].join(60)
    assert folders[0].is_dir(), "it had no time to remove it"
    try:
        mine = Spool(folder_of(tmp_path, "mine"))
        store(mine, "x")
        assert not folders[0].parent.exists()
        assert folders[1].is_dir()
        mine.close()
    finally:
        ends[1].set()
        users[1].join(60)


def use_often(shared: str, start: Barrier) -> None:
    start.wait(60)
    for number in range(40):
        spool = Spool(folder_of(Path(shared), "a"))
        found = store(spool, f"{number}")
        assert found is not None
        assert found.read(0, 100).shape == (100, 1)
        spool.close()


def test_processes_that_come_and_go_never_lose_a_folder_in_use(tmp_path: Path) -> None:
    start = SPAWN.Barrier(3)
    users = [SPAWN.Process(target=use_often, args=(str(tmp_path), start)) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join(120)
        assert user.exitcode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("parent", [False, True], ids=["the folder", "the one above"])
def test_a_folder_that_vanishes_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parent: bool
) -> None:
    folder = tmp_path / f"{PREFIX}a" / "node"
    folder.mkdir(parents=True)
    mkdir, removed = os.mkdir, []

    def mkdir_and_remove(path: Path, mode: int = 0o777) -> None:
        """As another process would that removes the folder between the call and what pathlib does next."""
        try:
            mkdir(path, mode)
        except FileExistsError:
            if not removed:
                removed.append(folder.rmdir())
                if parent:
                    folder.parent.rmdir()
            raise

    monkeypatch.setattr(os, "mkdir", mkdir_and_remove)
    held = SpoolFolder(folder)
    held.hold()
    assert removed
    assert folder.is_dir()
    held.release()


def test_a_folder_that_is_being_removed_takes_nothing_from_its_next_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder_of(tmp_path, "a")
    first, second = SpoolFolder(path), SpoolFolder(path)
    first.hold()
    (path / "x.lock").write_bytes(b"")
    unlink, scandir, made = os.unlink, os.scandir, list[int]()

    @contextmanager
    def lock_first(folder: Any) -> Generator[Iterator[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            yield iter(sorted(entries, key=lambda entry: entry.name))

    def unlink_and_use(name: Any, *, dir_fd: int | None = None) -> None:
        """Let another process use the folder as soon as its lock is gone; it decodes the same recordings."""
        unlink(name, dir_fd=dir_fd)
        if not (path / "in-use").exists() and not made:
            made.append(1)
            second.hold()
            (path / "x.lock").write_bytes(b"held by the second")

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lock_first)
        patch.setattr(os, "unlink", unlink_and_use)
        first.release()
    assert made
    assert sorted(each.name for each in path.iterdir()) == ["in-use", "x.lock"]
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        SpoolFolder(tmp_path / "file").hold()


def test_a_full_disk_is_named_with_the_remedy_and_leaves_no_part(tmp_path: Path) -> None:
    spool = Spool(folder_of(tmp_path, "a"))
    store(spool, "x")
    (stored,) = spool.folder.glob("*.frames")
    stored.unlink()
    stored.with_suffix(".part").symlink_to("/dev/full")
    with pytest.raises(InfrastructureError, match=r"is full \(No space left.*--spool-dir.*--spool-gb"):
        store(spool, "x")
    assert not list(spool.folder.glob("*.part"))


@pytest.mark.parametrize(("make", "fault"), [(False, "is missing"), (True, "is not a folder")])
def test_a_chosen_folder_that_cannot_be_used_is_an_error_with_the_remedy(
    tmp_path: Path, make: bool, fault: str
) -> None:
    chosen = tmp_path / "scratch"
    if make:
        chosen.write_bytes(b"")
    with pytest.raises(UsageError, match=f"scratch {fault} on .*--spool-dir"):
        check_spool_directory(chosen, UsageError)
    chosen.unlink(missing_ok=True)
    chosen.mkdir()
    check_spool_directory(chosen, UsageError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_chosen_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot be written"):
        check_spool_directory(tmp_path, UsageError)


def test_a_run_has_the_same_folder_in_every_attempt_and_each_run_its_own(tmp_path: Path) -> None:
    assert run_folder(tmp_path / "a") == run_folder(tmp_path / "b" / ".." / "a") != run_folder(tmp_path / "b")
    assert run_folder(None) != run_folder(None)
