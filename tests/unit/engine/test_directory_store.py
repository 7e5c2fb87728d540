"""Commit units on disk: what is committed is found again, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from curate.engine.accounting.counts import FinishedInputs
from curate.engine.durability import commit_file
from curate.engine.durability.commit import CommitBuffer
from curate.engine.durability.commit_file import seal
from curate.engine.durability.directory_store import DirectoryStore
from curate.engine.protocol.messages import Filtered, Quarantined
from curate.errors import InfrastructureError
from curate.io.rows import encode_row


def settled(*seqs: int, rows_each: int = 1, **notes: Any) -> FinishedInputs:
    rows: list[Any] = [encode_row({"_id": f"r:{seq}", "seq": seq, "k": k}) for seq in seqs for k in range(rows_each)]
    row_seqs = [seq for seq in seqs for _ in range(rows_each)]
    return FinishedInputs(list(seqs), rows, row_seqs, 0, 0, **named(*seqs), **notes)


def named(*seqs: int) -> dict[str, Any]:
    return {"ids": [f"r:{seq}" for seq in seqs], "each_ms": [0] * len(seqs)}


def commit(store: DirectoryStore, *parts: FinishedInputs, phase: int = 0) -> Any:
    unit = CommitBuffer()
    for part in parts:
        unit.add(part)
    return store.commit(phase, unit, {})


def read(store: DirectoryStore, phase: int = 0) -> list[tuple[int, int]]:
    return [(record["seq"], record["k"]) for record in store.reader(phase)]


def test_the_inputs_order_is_restored_from_units_that_overlap(tmp_path: Path) -> None:
    order = list(range(200))
    random.Random(1).shuffle(order)
    store = DirectoryStore(tmp_path)
    for start in range(0, 200, 17):
        commit(store, *(settled(seq, rows_each=seq % 3) for seq in order[start : start + 17]))
    expected = [(seq, k) for seq in range(200) for k in range(seq % 3)]
    assert read(store) == expected
    assert read(DirectoryStore(tmp_path)) == expected
    assert list(DirectoryStore(tmp_path).done(0)) == [(0, 199)]


def test_lines_are_the_rows_without_their_ids(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    commit(store, settled(0))
    assert list(store.reader(0).lines()) == [b'{"seq": 0, "k": 0}\n']


def test_reader_opens_a_bounded_number_of_unit_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_file, "_OPEN_FILES", 3)
    store = DirectoryStore(tmp_path)
    for first in range(20):  # every unit spans the whole input
        commit(store, settled(*range(first, 200, 20)))
    assert read(store) == [(seq, 0) for seq in range(200)]


def test_a_reader_can_be_read_again_and_be_left_in_the_middle(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    commit(store, settled(0, 2))
    commit(store, settled(1, 3))
    reader = store.reader(0)
    assert next(iter(reader))["seq"] == 0
    assert [record["seq"] for record in reader] == [0, 1, 2, 3]


def test_phases_are_kept_apart(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    commit(store, settled(0), phase=0)
    commit(store, settled(0, 1), phase=1)
    assert (len(read(store, 0)), len(read(store, 1)), read(store, 2)) == (1, 2, [])
    assert not store.is_complete(0)
    store.complete(0)
    assert DirectoryStore(tmp_path).is_complete(0)
    assert not DirectoryStore(tmp_path).is_complete(1)


def test_notes_say_what_became_of_a_record(tmp_path: Path) -> None:
    left_out = Filtered("r:0", {"_id": "r:0", "x": 1}, "quality", "wer <= 0.3")
    failed = Quarantined("r:1", {"_id": "r:1", "x": {1, 2}}, "asr", "oom", "too big", "Traceback …", 2)
    made = commit(
        DirectoryStore(tmp_path), FinishedInputs([0, 1], [], [], 0, 0, [(0, left_out)], [(1, failed)], **named(0, 1))
    )
    assert [file.kind for file in made.files] == ["filtered", "quarantine"]
    (line,) = (tmp_path / "filtered").glob("*.jsonl")
    assert json.loads(line.read_bytes()) == {
        "_id": "r:0",
        "stage": "quality",
        "reason": "wer <= 0.3",
        "position": 0,
        "record": {"x": 1},
    }
    (line,) = (tmp_path / "quarantine").glob("*.jsonl")
    assert json.loads(line.read_bytes()) == {
        "_id": "r:1",
        "stage": "asr",
        "code": "oom",
        "message": "too big",
        "attempts": 2,
        "position": 1,
        "traceback": "Traceback …",
        "record": {"x": "{1, 2}"},
    }
    assert made.codes == {"oom": 1}
    assert list(made.ranges) == [(0, 0, 0), (1, 1, 0)]  # a failure stands alone, so that a retry can supersede it


def test_a_commit_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = commit(DirectoryStore(tmp_path), settled(0, 1, 5, rows_each=2))
    (found,) = DirectoryStore(tmp_path).commits(0)
    assert found == made
    assert list(found.ranges) == [(0, 1, 4), (5, 5, 2)]


@pytest.mark.parametrize("hangs_at", [1, 3])
def test_commit_leaves_alone_what_another_driver_has_written_while_the_disk_hung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs_at: int
) -> None:
    fsync, synced, stolen = os.fsync, list[int](), list[DirectoryStore]()

    def check() -> None:
        if stolen:
            raise InfrastructureError("held by another")

    mine = DirectoryStore(tmp_path, check=check)

    def hang(descriptor: int) -> None:
        """Let another driver replace this one, and commit, while a file of this one is synced."""
        fsync(descriptor)
        synced.append(descriptor)
        if len(synced) == hangs_at:
            stolen.append(DirectoryStore(tmp_path))
            commit(stolen[0], settled(0, 1, 2))

    monkeypatch.setattr(os, "fsync", hang)
    with pytest.raises(InfrastructureError, match="held by another"):
        commit(mine, settled(0))
    assert read(stolen[0]) == [(0, 0), (1, 0), (2, 0)]
    assert read(DirectoryStore(tmp_path)) == [(0, 0), (1, 0), (2, 0)]


def test_what_no_commit_names_is_removed(tmp_path: Path) -> None:
    commit(DirectoryStore(tmp_path), settled(0))
    leftovers = [
        tmp_path / name
        for name in (
            "data/p0-000001.jsonl",
            "data/p0-000002.jsonl.tmp-77",
            "filtered/p0-000001.jsonl",
            "quarantine/p0-000001.jsonl",
            "commits/p0-000001.json.tmp-77",
            "summary.json.tmp-77",
            "curated.jsonl.tmp-77",
        )
    ]
    for path in leftovers:
        path.write_bytes(b"half a li")
    (tmp_path / "curated.jsonl").write_bytes(b"published\n")
    store = DirectoryStore(tmp_path)
    assert [path for path in leftovers if path.exists()] == []
    assert read(store) == [(0, 0)]
    assert (tmp_path / "curated.jsonl").exists()
    assert commit(store, settled(1)).unit == "p0-000001"


def test_store_opens_while_a_worker_of_a_killed_driver_still_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DirectoryStore(tmp_path)
    audio, shard = tmp_path / "audio" / "ab", tmp_path / "shards" / "pack" / "s.tmp-1.files"
    name = f"r_1-{'0' * 32}.flac"
    audio.mkdir(parents=True)
    shard.mkdir(parents=True)
    (audio / f"{name}.tmp-1").write_bytes(b"new audio")
    (shard / "a.flac").write_bytes(b"a member")
    unlink, written = os.unlink, list[str]()

    def unlink_and_write(path: Any, *, dir_fd: int | None = None) -> None:
        """Let the worker go on with a file that is about to be removed, before it is."""
        if Path(path).name == f"{name}.tmp-1" and not written:
            written.append(os.fspath(path))
            Path(path).rename(audio / name)
            (audio / f"{name}.tmp-2").write_bytes(b"the next")
        if Path(path).name == "a.flac":
            (shard / "b.flac").write_bytes(b"the next")
        unlink(path, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink_and_write)
        store = DirectoryStore(tmp_path)
    assert written
    commit(store, settled(0))
    DirectoryStore(tmp_path)
    assert [path for path in tmp_path.rglob("*") if "tmp-" in path.name or path.suffix == ".flac"] == []


@pytest.mark.parametrize("damage", [b"", b'{"_id": "r:0", "seq": 9, "k": 0}\n', b"x" * 1000])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: bytes) -> None:
    made = commit(DirectoryStore(tmp_path), settled(0))
    path = tmp_path / made.file("data").path
    path.write_bytes(damage)
    with pytest.raises(InfrastructureError, match=r"data/p0-000000.jsonl is damaged: it has \d+ bytes"):
        read(DirectoryStore(tmp_path))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    made = commit(DirectoryStore(tmp_path), settled(0))
    (tmp_path / made.file("data").path).unlink()
    with pytest.raises(InfrastructureError, match=r"p0-000000\.jsonl is named by a commit, but cannot be read"):
        read(DirectoryStore(tmp_path))


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b'{"unit": "x"', b"[]", b'{"ranges": 1}', seal({"unit": "p0-000000"}), seal({"unit": "x"})]
)
def test_damaged_commit_is_named(tmp_path: Path, damage: bytes) -> None:
    commit(DirectoryStore(tmp_path), settled(0))
    (tmp_path / "commits" / "p0-000000.json").write_bytes(damage)
    with pytest.raises(InfrastructureError, match=r"the commit .*p0-000000.json is damaged"):
        DirectoryStore(tmp_path)


def test_commit_with_one_changed_byte_is_named(tmp_path: Path) -> None:
    commit(DirectoryStore(tmp_path), settled(0, 1, 2), settled(5))
    path = tmp_path / "commits" / "p0-000000.json"
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(InfrastructureError, match=r"the commit .*p0-000000.json is damaged"):
            DirectoryStore(tmp_path)
    path.write_bytes(content)
    assert list(DirectoryStore(tmp_path).done(0)) == [(0, 2), (5, 5)]


def test_commit_names_its_files_and_the_run(tmp_path: Path) -> None:
    made = commit(DirectoryStore(tmp_path, fingerprint="f1"), settled(0))
    described = json.loads((tmp_path / "commits" / "p0-000000.json").read_bytes())
    content = (tmp_path / "data" / "p0-000000.jsonl").read_bytes()
    assert described["files"] == [
        {
            "kind": "data",
            "path": "data/p0-000000.jsonl",
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    ]
    assert described["fingerprint"] == made.fingerprint == "f1"
    DirectoryStore(tmp_path, fingerprint="f2", fingerprints=("f1", "f2"))


def test_commit_of_another_run_is_named(tmp_path: Path) -> None:
    commit(DirectoryStore(tmp_path, fingerprint="f1"), settled(0))
    with pytest.raises(InfrastructureError, match=r"the commit .*p0-000000.json is of another run: .* f1"):
        DirectoryStore(tmp_path, fingerprint="f2", fingerprints=("f2",))


def test_a_unit_is_full_by_its_bytes_or_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    unit = CommitBuffer(after=1000, clock=lambda: now[0])
    now[0] += 1000
    assert not unit.full  # it has no age before it holds something
    unit.add(settled(0))
    assert not unit.full
    now[0] += 31
    assert unit.full
    monkeypatch.setattr("curate.engine.durability.commit.UNIT_BYTES", 10_000)
    unit = CommitBuffer()
    unit.add(FinishedInputs([0], [b"x" * 9_000], [0], 0, 0))
    assert not unit.full
    unit.add(FinishedInputs([1], [], [], 0, 0, filtered=[(1, Filtered("r", {"_id": "r"}, "s", "no"))]))
    assert unit.full  # what is left out takes memory as well


@pytest.mark.parametrize(("after", "max_age_s"), [(0, 2), (1, 4), (3, 16), (4, 30), (5000, 30)])
def test_first_units_are_committed_young(after: int, max_age_s: int) -> None:
    now = [100.0]
    unit = CommitBuffer(after=after, clock=lambda: now[0])
    unit.add(settled(0))
    now[0] += max_age_s - 0.5
    assert not unit.full
    now[0] += 0.5
    assert unit.full


def test_long_texts_in_notes_fill_a_unit() -> None:
    unit = CommitBuffer()
    note = Filtered("r:0", {"_id": "r:0", "text": "x" * 5_000_000}, "stage", "too long")
    unit.add(FinishedInputs([0], [], [], 0, 0, filtered=[(0, note)], **named(0)))
    assert unit.full
