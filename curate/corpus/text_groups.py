"""Groups of records with the same or nearly the same text, as a table of the database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from curate.corpus.candidates import find_candidates, pack_shape
from curate.corpus.groups import join_groups, select_distinct
from curate.corpus.key_table import KeyTable, quoted
from curate.corpus.minhash import BANDS, grams
from curate.corpus.similarity import count_letters, near_duplicates

_CHUNK = 8192


def group_texts(keys: KeyTable, rows: str = "keys", *, near: bool) -> str:
    """Group records by their texts and return the name of a table, as `join_groups` does.

    Args:
        keys: the database.
        rows: a table or view with `position`, `text` (normalised; null: in no group) and `bands` (BLOB).
        near: also group texts that are nearly the same (`curate.corpus.similarity`).
    """
    select_distinct(keys, rows, "md5_number(text)", "text")
    return join_groups(keys, rows, "md5_number(text)", "text", _edges(keys, rows) if near else ())


def _edges(keys: KeyTable, rows: str) -> Iterator[tuple[int, int]]:
    """Yield the pairs of distinct texts that are near duplicates, as (later, earlier)."""
    bands = keys.scratch / "bands.parquet"
    _write_bands(keys, rows, bands)
    keys.connection.execute(f"CREATE VIEW texts AS SELECT * FROM read_parquet('{quoted(bands)}')")
    candidates = find_candidates(keys)
    bands.unlink()
    yield from _verified(keys, rows, candidates)
    keys.connection.execute(f"DROP TABLE {candidates}")


def _write_bands(keys: KeyTable, rows: str, path: Path) -> None:
    """Write the first record of each distinct text: its position, lengths, and bands as columns."""
    import pyarrow as pa
    from pyarrow import parquet

    arrow, files = _untyped(pa), _untyped(parquet)
    names = [f"band_{band}" for band in range(BANDS)]
    fields = [("position", arrow.int64()), ("shape", arrow.int64()), *((name, arrow.uint32()) for name in names)]
    schema = arrow.schema(fields)
    query = f"SELECT position, text, bands FROM {rows} SEMI JOIN text_distinct ON position = first"
    with files.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for batch in keys.batches(query, _CHUNK):
            position, texts, packed = batch.columns
            shapes = [pack_shape(count_letters(text), len(text), len(grams(text))) for text in texts.to_pylist()]
            hashes = np.frombuffer(b"".join(packed.to_pylist()), "<u4").reshape(-1, BANDS)
            columns = [position, arrow.array(shapes, arrow.int64())]
            columns += [arrow.array(np.ascontiguousarray(hashes[:, band])) for band in range(BANDS)]
            writer.write_table(arrow.table(columns, schema=schema))


def _verified(keys: KeyTable, rows: str, candidates: str) -> Iterator[tuple[int, int]]:
    """Yield the candidates that are near duplicates, as (later, earlier)."""
    query = (
        f"SELECT c.b, c.a, x.text, y.text FROM {candidates} c JOIN {rows} x ON x.position = c.a "
        f"JOIN {rows} y ON y.position = c.b"
    )
    for batch in keys.batches(query, _CHUNK):
        later, earlier, ones, others = (column.to_pylist() for column in batch.columns)
        verdicts = near_duplicates(ones, others)
        yield from (pair for pair, same in zip(zip(later, earlier, strict=True), verdicts, strict=True) if same)


def _untyped(module: Any) -> Any:
    return module
