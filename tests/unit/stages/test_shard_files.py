"""The files of a shard below the run directory: whole or not there, whichever process writes the same shard."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from curate.audio.encoding import EncodedAudio
from curate.records import Record
from curate.stages.write.formats import OpenShard, ShardFormat, ShardPlace
from curate.stages.write.shard_files import find_shard, new_shard
from curate.stages.write.tallies import ShardTally


class Closed:
    """A shard without records."""

    def add(self, record: Record, audio: EncodedAudio) -> None:
        raise AssertionError(f"{record} and {audio} are not added")

    def close(self) -> None:
        pass


class Lines(ShardFormat):
    """A shard of one file, with a folder of one more."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    holds_files: ClassVar[bool] = True

    def open_at(self, place: ShardPlace) -> OpenShard:
        (place.folder / "a").write_bytes(b"a member")
        return Closed()


def test_shard_that_two_nodes_with_the_same_process_number_write_is_whole(tmp_path: Path) -> None:
    with new_shard(tmp_path, "s", Lines(), "") as first:
        first.files[0].write(b"the same bytes wherever it is written\n" * 1000)
        with new_shard(tmp_path, "s", Lines(), ""):  # as after the first node was taken for lost
            packed = first.finish("s", ShardTally())
            assert find_shard(tmp_path, "s") == packed
    assert find_shard(tmp_path, "s") == packed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.files", "s.json", "s.txt"]
