"""A tar file whose bytes follow from its members alone."""

from __future__ import annotations

import io
import tarfile
from typing import BinaryIO


class TarShard:
    """A tar file of a shard: plain headers, without times, owners and modes of this machine."""

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        member.mode = 0o644
        self._tar.addfile(member, io.BytesIO(content))

    def close(self) -> None:
        self._tar.close()
