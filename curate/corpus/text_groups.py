"""Groups of records with the same or nearly the same text, as a table of the database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from curate.corpus.candidates import find_candidates, pack_shape
from curate.corpus.key_table import KeyTable, quoted
from curate.corpus.leaders import find_leaders
from curate.corpus.minhash import BANDS, grams
from curate.corpus.row_writer import RowWriter
from curate.corpus.similarity import count_letters, near_duplicates

_CHUNK = 8192


def group_texts(keys: KeyTable, rows: str = "keys", *, near: bool) -> str:
    """Group records by their texts and return the name of a table: `position`, `leader`, `copies`.

    `leader` is the position of the first record of the group, `copies` the number of its records at positions ≥ 0.
    Records at negative positions are of other manifests: each of them leads a group of its own, unless texts are equal.

    Args:
        keys: the database.
        rows: a table or view with `position`, `text` (normalised; null: in no group) and `bands` (BLOB).
        near: also group texts that are nearly the same (`curate.corpus.similarity`).
    """
    run = keys.connection.execute
    run(
        f"CREATE TABLE distinct_texts AS SELECT md5_number(text) AS digest, min(position) AS first, "
        f"count(*) FILTER (position >= 0) AS copies FROM {rows} WHERE text IS NOT NULL GROUP BY digest"
    )
    led = keys.scratch / "leaders.parquet"
    with RowWriter(led, {"position": "BIGINT", "leader": "BIGINT"}) as file:
        for pair in _near_leaders(keys, rows) if near else ():
            file.append(pair)
    run(
        "CREATE TABLE led_texts AS SELECT digest, coalesce(leader, first) AS leader, copies FROM distinct_texts "
        f"LEFT JOIN read_parquet('{quoted(led)}') ON position = first"
    )
    run(
        f"CREATE TABLE text_groups AS SELECT position, leader, total AS copies FROM {rows} "
        "JOIN led_texts ON digest = md5_number(text) "
        "JOIN (SELECT leader, sum(copies)::BIGINT AS total FROM led_texts GROUP BY leader) USING (leader)"
    )
    for name in ("distinct_texts", "led_texts"):
        run(f"DROP TABLE {name}")
    led.unlink()
    return "text_groups"


def _near_leaders(keys: KeyTable, rows: str) -> Iterator[tuple[int, int]]:
    """Yield `(position, leader)` for each distinct text that is a near duplicate of an earlier one."""
    scratch, run = keys.scratch, keys.connection.execute
    bands = scratch / "bands.parquet"
    _write_bands(keys, rows, bands)
    run(f"CREATE VIEW texts AS SELECT * FROM read_parquet('{quoted(bands)}')")
    candidates = find_candidates(keys)
    edges = scratch / "edges.parquet"
    with RowWriter(edges, {"later": "BIGINT", "earlier": "BIGINT"}) as file:
        for edge in _verified(keys, rows, candidates):
            file.append(edge)
    run(f"DROP TABLE {candidates}")
    bands.unlink()
    query = f"SELECT later, earlier FROM read_parquet('{quoted(edges)}') WHERE later >= 0 ORDER BY later, earlier"
    first, last = run(f"SELECT min(position), max(position) FROM {rows}").fetchone()
    yield from find_leaders(keys.rows(query), first, last)
    edges.unlink()


def _write_bands(keys: KeyTable, rows: str, path: Path) -> None:
    """Write the first record of each distinct text: its position, lengths, and bands as columns."""
    import pyarrow as pa
    from pyarrow import parquet

    arrow, files = _untyped(pa), _untyped(parquet)
    names = [f"band_{band}" for band in range(BANDS)]
    fields = [("position", arrow.int64()), ("shape", arrow.int64()), *((name, arrow.uint32()) for name in names)]
    schema = arrow.schema(fields)
    query = f"SELECT position, text, bands FROM {rows} SEMI JOIN distinct_texts ON position = first"
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
