"""A container behind a network, read by several threads: each gets what it asked for, whatever the others do."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from curate.storage import Identity, StoredFile
from curate.storage.columnar import _held, read_value
from curate.storage.remote_file import RemoteFile

ROWS = 40
VALUES = [bytes([number]) * 1000 for number in range(ROWS)]


def stored(form: str) -> RemoteFile:
    """A table of recordings behind a network, one to a row group, so that all pages are of one size."""
    table, file = pyarrow.table({"audio": VALUES}), io.BytesIO()
    if form == "parquet":
        parquet.write_table(table, file, row_group_size=1, compression="none", use_dictionary=False)
    else:
        with pyarrow.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
    content = file.getvalue()
    return RemoteFile(Identity(f"made-up://{form}", len(content)), lambda start, stop: content[start:stop])


def read(file: RemoteFile, row: int) -> bytes:
    return read_value(file, file.pread(512, 0), f"audio/{row + 1}")


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_value_is_its_own_while_another_thread_reads_the_same_container(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = stored(form)
    seek, others = StoredFile.seek, list[bytes]()

    def seek_and_wait(moved: StoredFile, *place: int) -> int:
        """Let another thread read a value between seeking and what is read there."""
        found = seek(moved, *place)
        if threading.current_thread() is threading.main_thread() and len(others) < 200:
            _held.clear()
            other = threading.Thread(target=lambda: others.append(read(file, 35)))
            other.start()
            other.join()
        return found

    monkeypatch.setattr(StoredFile, "seek", seek_and_wait)
    assert read(file, 3) == VALUES[3]
    assert others
    assert set(others) == {VALUES[35]}
    _held.clear()


class _Watched(deque[Any]):
    """What a file holds; another thread closes the file while it is looked through."""

    def __init__(self, file: RemoteFile) -> None:
        super().__init__(file._held, maxlen=3)
        self._closing = threading.Thread(target=file.close)

    def __iter__(self) -> Iterator[Any]:
        for block in super().__iter__():
            if not self._closing.is_alive() and self._closing.ident is None:
                self._closing.start()
                self._closing.join(0.2)  # until it is done, or waits for this thread
            yield block
        self._closing.join(0)


def test_container_that_another_thread_closes_stays_readable() -> None:
    content = bytes(range(256)) * 1024
    file = RemoteFile(Identity("made-up://x", len(content)), lambda start, stop: content[start:stop])
    for start in (0, 100_000, 200_000):
        file.pread(10, start)
    file._held = _Watched(file)
    assert file.pread(10, 200_000) == content[200_000:200_010]
