"""The tar of a shard has the bytes that `tarfile` would write, and `tarfile` reads it."""

from __future__ import annotations

import io
import tarfile

import pytest

from curate.stages.write.tars import TarShard


@pytest.mark.parametrize("count", [0, 1, 19, 20, 21])
def test_tar_of_a_shard_has_the_bytes_of_tarfile(count: int) -> None:
    sizes = [0, 1, 511, 512, 513, 30_000]
    names = ["a.flac", "ü" * 50, f"{'x' * 40}/{'y' * 90}.json", "\udcff.wav", "z" * 100]
    members = [(names[each % 5], bytes([each]) * sizes[each % 6]) for each in range(count)]
    made, wanted = io.BytesIO(), io.BytesIO()
    shard = TarShard(made)
    with tarfile.open(fileobj=wanted, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            shard.add(name, content)
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    shard.close()
    assert made.getvalue() == wanted.getvalue()
