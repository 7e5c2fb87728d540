"""Groups of records with the same audio, as a table of the database."""

from __future__ import annotations

from curate.corpus.key_table import KeyTable


def group_audio(keys: KeyTable, rows: str, *, near: bool) -> str:
    """Group records by their audio and return the name of a table: `position`, `leader`.

    Args:
        keys: the database.
        rows: a table or view with `position`, `audio` (a digest; null: in no group) and `fingerprint` (BLOB).
        near: also group fingerprints that match.
    """
    keys.connection.execute(
        f"CREATE TABLE audio_groups AS SELECT position, leader FROM {rows} JOIN "
        f"(SELECT audio, min(position) AS leader FROM {rows} WHERE audio IS NOT NULL GROUP BY audio) USING (audio)"
    )
    return "audio_groups"
