"""Groups of records with the same audio, as a table of the database."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import starmap
from typing import Any

import numpy as np

from curate.corpus.fingerprints import index_words, is_same_recording, similar_lengths
from curate.corpus.groups import join_groups, select_distinct
from curate.corpus.key_table import KeyTable, quoted
from curate.corpus.neighbours import pairs_by_hash
from curate.corpus.row_writer import RowWriter

MIN_COMMON_WORDS = 2
"""Fingerprints with fewer equal words in their index are not compared."""

_CHUNK = 512


def pack_fingerprint(words: Any, frames: int) -> bytes:
    """Return a fingerprint as bytes: the length of the recording in frames, and the words."""
    return np.concatenate((np.array([frames], "<u4"), words)).astype("<u4").tobytes()


def unpack_fingerprint(packed: bytes) -> tuple[Any, int]:
    """Return the words and the number of frames of a fingerprint that `pack_fingerprint` has made."""
    numbers = np.frombuffer(packed, "<u4")
    return numbers[1:], int(numbers[0])


def group_audio(keys: KeyTable, rows: str, *, near: bool) -> str:
    """Group records by their audio and return the name of a table, as `join_groups` does.

    Args:
        keys: the database.
        rows: a table or view with `position`, `audio` (a digest; null: in no group) and `fingerprint` (BLOB).
        near: also group fingerprints that match.
    """
    select_distinct(keys, rows, "md5_number(audio)", "audio")
    return join_groups(keys, rows, "md5_number(audio)", "audio", _edges(keys, rows) if near else ())


def _edges(keys: KeyTable, rows: str) -> Iterator[tuple[int, int]]:
    index, pairs = keys.scratch / "index.parquet", keys.scratch / "audio_pairs.parquet"
    query = (
        f"SELECT position, fingerprint FROM {rows} SEMI JOIN audio_distinct ON position = first "
        "WHERE fingerprint IS NOT NULL"
    )
    with RowWriter(index, {"hash": "BIGINT", "position": "BIGINT", "shape": "BIGINT"}) as file:
        for position, packed in keys.rows(query):
            words, frames = unpack_fingerprint(packed)
            for word in index_words(words).tolist():
                file.append((word, position, frames))
    with RowWriter(pairs, {"a": "BIGINT", "b": "BIGINT"}) as file:
        for first, lengths, second, others in pairs_by_hash(keys, f"SELECT * FROM read_parquet('{quoted(index)}')"):
            possible = similar_lengths(lengths, others)
            for pair in zip(first[possible].tolist(), second[possible].tolist(), strict=True):
                file.append(pair)
    index.unlink()
    query = (
        "SELECT c.b, c.a, y.fingerprint, x.fingerprint FROM "
        f"(SELECT a, b FROM read_parquet('{quoted(pairs)}') GROUP BY a, b HAVING count(*) >= {MIN_COMMON_WORDS}) c "
        f"JOIN {rows} x ON x.position = c.a JOIN {rows} y ON y.position = c.b"
    )
    for batch in keys.batches(query, _CHUNK):
        later, earlier, ones, others = (column.to_pylist() for column in batch.columns)
        same = starmap(
            is_same_recording,
            (
                (unpack_fingerprint(one)[0], unpack_fingerprint(other)[0])
                for one, other in zip(ones, others, strict=True)
            ),
        )
        yield from (pair for pair, equal in zip(zip(later, earlier, strict=True), same, strict=True) if equal)
    pairs.unlink()
