"""Groups of records that are duplicates of one another, as a table of the database."""

from __future__ import annotations

from collections.abc import Iterable

from curate.corpus.key_table import KeyTable, quoted
from curate.corpus.leaders import find_leaders
from curate.corpus.row_writer import RowWriter


def select_distinct(keys: KeyTable, rows: str, digest: str, name: str) -> None:
    """Make the table `<name>_distinct` of what is equal: `digest`, `first` (position), `copies`.

    Args:
        keys: the database.
        rows: a table or view with `position`; records at negative positions are of other manifests.
        digest: the SQL expression that is equal for equal records; null: the record is in no group.
        name: the name of the groups.
    """
    keys.connection.execute(
        f"CREATE TABLE {name}_distinct AS SELECT {digest} AS digest, min(position) AS first, "
        f"count(*) FILTER (position >= 0) AS copies FROM {rows} WHERE {digest} IS NOT NULL GROUP BY 1"
    )


def join_groups(keys: KeyTable, rows: str, digest: str, name: str, edges: Iterable[tuple[int, int]]) -> str:
    """Join what is equal, from `select_distinct`, and what is nearly so, and return the name of the table of groups.

    The table has `position`, `leader` (the position of the group's first record) and `copies`, the number of records in
    the group at positions ≥ 0. A record of another manifest is a duplicate of none that differs from it.

    Args:
        keys: the database.
        rows: as for `select_distinct`.
        digest: the same.
        name: the same.
        edges: pairs of near duplicates, as (later, earlier) positions of first records, in any order.
    """
    run, scratch = keys.connection.execute, keys.scratch
    unsorted, led = scratch / f"{name}_edges.parquet", scratch / f"{name}_leaders.parquet"
    with RowWriter(unsorted, {"later": "BIGINT", "earlier": "BIGINT"}) as file:
        for edge in edges:
            file.append(edge)
    lowest, highest = run(f"SELECT coalesce(min(position), 0), coalesce(max(position), 0) FROM {rows}").fetchone()
    query = f"SELECT later, earlier FROM read_parquet('{quoted(unsorted)}') WHERE later >= 0 ORDER BY later, earlier"
    with RowWriter(led, {"position": "BIGINT", "leader": "BIGINT"}) as file:
        for pair in find_leaders(keys.rows(query), lowest, highest):
            file.append(pair)
    run(
        f"CREATE TABLE {name}_led AS SELECT digest, coalesce(leader, first) AS leader, copies FROM {name}_distinct "
        f"LEFT JOIN read_parquet('{quoted(led)}') ON position = first"
    )
    run(
        f"CREATE TABLE {name}_groups AS SELECT position, leader, total AS copies FROM {rows} "
        f"JOIN {name}_led ON digest = {digest} "
        f"JOIN (SELECT leader, sum(copies)::BIGINT AS total FROM {name}_led GROUP BY leader) USING (leader)"
    )
    run(f"DROP TABLE {name}_distinct")
    run(f"DROP TABLE {name}_led")
    unsorted.unlink()
    led.unlink()
    return f"{name}_groups"
