"""The stage that makes speakers of embeddings."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from curate.corpus import Decisions, KeyGather, KeyTable
from curate.corpus.key_table import quoted
from curate.corpus.row_writer import RowWriter
from curate.errors import InfrastructureError, PlanError
from curate.records import Record
from curate.stages.corpus.drawing import check_columns, group_label

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]


@dataclass
class ClusterSpeakers(KeyGather):
    """Groups records into speakers by their embeddings, with average linkage.

    Writes `speaker_cluster`, a number that counts the speakers in the order of their first records, and
    `speaker_similarity`, the cosine of the record's embedding with the mean of its speaker's. Both are null for records
    without an embedding. The embeddings themselves do not stay in the records.

    Embeddings are on disk while they are clustered. Up to 8192 records the result is exact; more are clustered in
    blocks first, in the order of the input.

    Args:
        threshold: two groups are one speaker from this mean cosine on. It depends on the engine: 0.7 suits
            `resemblyzer`; look at the distribution in the report.
        by: the columns whose values divide the records, such as the recording: speakers are not sought across them.
        embedding_key: the column with the embeddings.
        keep_embeddings: leave the embeddings in the records.
    """

    threshold: float = 0.7
    by: Sequence[str] = ()
    embedding_key: str = "speaker_embedding"
    keep_embeddings: bool = False

    def check(self) -> None:
        super().check()
        check_columns("by", self.by, needed=False)
        if not -1 < self.threshold < 1:
            raise PlanError(f"threshold={self.threshold!r:.80}: must be between -1 and 1", self.name)

    def key_types(self) -> Mapping[str, str]:
        return {"embedding": "BLOB", "part": "VARCHAR"}

    def key_row(self, record: Record) -> Sequence[Any]:
        return (_packed(record.get(self.embedding_key)), group_label(record, self.by))

    def reads(self) -> Collection[str]:
        return (self.embedding_key, *self.by)

    def writes(self) -> Collection[str]:
        return ("speaker_cluster", "speaker_similarity")

    def dropped_keys(self) -> Collection[str]:
        return () if self.keep_embeddings else (self.embedding_key,)

    def decide(self, keys: KeyTable) -> Decisions:
        path = keys.scratch / "speakers.parquet"
        with RowWriter(path, {"position": "BIGINT", "cluster": "BIGINT", "similarity": "DOUBLE"}) as file:
            for row in self._clustered(keys):
                file.append(row)
        # Numbered in the order of the input, whatever the order of the parts.
        keys.connection.execute(
            f"""
            CREATE TABLE members AS SELECT * FROM read_parquet('{quoted(path)}');
            CREATE TABLE speakers AS SELECT cluster, row_number() OVER (ORDER BY first) - 1 AS speaker
            FROM (SELECT cluster, min(position) AS first FROM members GROUP BY cluster)
            """
        )
        return Decisions(
            """SELECT k.position, speaker AS speaker_cluster, similarity AS speaker_similarity
            FROM keys k LEFT JOIN members m USING (position) LEFT JOIN speakers USING (cluster)""",
            columns=("speaker_cluster", "speaker_similarity"),
        )

    def _clustered(self, keys: KeyTable) -> Iterator[tuple[int, int, float]]:
        """Yield the position, the cluster and the similarity of every record with an embedding."""
        from curate.signal.clustering import cluster_vectors, similarities_to_means

        query = "SELECT part, position, embedding FROM keys WHERE embedding IS NOT NULL ORDER BY part, position"
        count = 0
        for _, rows in groupby(keys.rows(query), key=itemgetter(0)):
            positions, vectors = _on_disk(keys.scratch, rows)
            labels = cluster_vectors(vectors, self.threshold)
            similarities = similarities_to_means(vectors, labels)
            for position, label, similarity in zip(positions, labels, similarities, strict=True):
                yield position, count + int(label), round(min(1.0, float(similarity)), 3) + 0.0
            count += int(labels.max()) + 1


def _packed(value: Any) -> bytes | None:
    """Return an embedding as float32 of the length 1; None where it is not a list of numbers, or has no direction."""
    import numpy as np

    if not isinstance(value, list | tuple) or not value:
        return None
    numbers = cast("Sequence[object]", value)
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in numbers):
        return None
    vector = np.array(numbers, np.float64)
    length = math.sqrt(math.fsum(vector * vector))
    return (vector / length).astype("<f4").tobytes() if 0 < length < math.inf else None


def _on_disk(scratch: Path, rows: Iterator[tuple[Any, ...]]) -> tuple[list[int], Vectors]:
    """Return the positions of some records, and a memory map of their embeddings.

    Raises:
        InfrastructureError: they have different lengths: they are not of one engine.
    """
    import numpy as np

    path, positions, size = scratch / "embeddings.f32", list[int](), 0
    path.unlink(missing_ok=True)  # a map of an earlier part keeps its file
    with path.open("wb") as file:
        for _, position, embedding in rows:
            size = size or len(embedding)
            if len(embedding) != size:
                lengths = f"{size // 4} and {len(embedding) // 4} numbers"
                raise InfrastructureError(f"cluster_speakers: embeddings have {lengths}; compare those of one engine")
            file.write(embedding)
            positions.append(position)
    return positions, np.memmap(path, "<f4", mode="r", shape=(len(positions), size // 4))
