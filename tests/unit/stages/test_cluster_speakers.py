"""Speakers are made of embeddings as average linkage makes them, out of core."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate import Pipeline
from curate.errors import UsageError
from curate.records import Record
from curate.signal import clustering
from curate.signal.clustering import cluster_vectors, similarities_to_means
from curate.stages import ClusterSpeakers, Merge, ReadRecords
from curate.testing import StageContract

needs_duckdb = pytest.mark.skipif(importlib.util.find_spec("duckdb") is None, reason="needs duckdb")


def voices(speakers: int, each: int, seed: int = 0, spread: float = 0.08, size: int = 32) -> np.ndarray:
    """Return unit vectors near the directions of some speakers, in random order of records."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((speakers, size))
    vectors = np.repeat(centres, each, axis=0) / np.linalg.norm(centres, axis=1).repeat(each)[:, None]
    vectors += spread * rng.standard_normal(vectors.shape)
    return (vectors / np.linalg.norm(vectors, axis=1)[:, None])[rng.permutation(len(vectors))].astype(np.float32)


def partition(labels: Sequence[int]) -> set[frozenset[int]]:
    groups: dict[int, set[int]] = {}
    for place, label in enumerate(labels):
        groups.setdefault(int(label), set()).add(place)
    return {frozenset(group) for group in groups.values()}


@pytest.mark.parametrize("seed", range(12))
def test_clusters_are_those_of_scipys_average_linkage(seed: int) -> None:
    pytest.importorskip("scipy")
    hierarchy: Any = importlib.import_module("scipy.cluster.hierarchy")
    rng = np.random.default_rng(seed)
    vectors = voices(int(rng.integers(2, 9)), int(rng.integers(3, 30)), seed, spread=0.15 * (1 + seed % 3))
    threshold = [0.3, 0.6, 0.8][seed % 3]
    tree = hierarchy.linkage(vectors.astype(np.float64), method="average", metric="cosine")
    expected = hierarchy.fcluster(tree, 1 - threshold, criterion="distance")
    found = cluster_vectors(vectors, threshold)
    assert partition(found.tolist()) == partition(expected.tolist())
    firsts = [found.tolist().index(label) for label in range(found.max() + 1)]
    assert firsts == sorted(firsts)


def test_blocks_find_the_speakers_that_the_whole_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = voices(40, 50)
    whole = partition(cluster_vectors(vectors, 0.6).tolist())
    assert len(whole) == 40
    monkeypatch.setattr(clustering, "BLOCK", 300)
    assert partition(cluster_vectors(vectors, 0.6).tolist()) == whole


def test_equal_vectors_rings_and_single_vectors_are_clustered() -> None:
    same = np.tile(voices(1, 1), (5, 1))
    assert cluster_vectors(same, 0.9).tolist() == [0] * 5
    assert cluster_vectors(same[:1], 0.9).tolist() == [0]
    assert cluster_vectors(same[:0], 0.9).tolist() == []
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert cluster_vectors(ring, -0.999).max() <= 1
    assert len(set(cluster_vectors(ring, 0.99).tolist())) == 12
    labels = cluster_vectors(voices(3, 10), 0.6)
    assert (similarities_to_means(voices(3, 10), labels) > 0.8).all()


def rows() -> list[Record]:
    vectors = voices(3, 6, spread=0.05)
    records: list[Record] = [
        {"n": n, "book": "a" if n % 2 else "b", "speaker_embedding": [round(float(x), 4) for x in vector]}
        for n, vector in enumerate(vectors)
    ]
    records.insert(2, {"n": 90, "book": "a", "speaker_embedding": None})
    records.append({"n": 91, "book": "b", "speaker_embedding": ["x"]})
    records.append({"n": 92, "book": "b", "speaker_embedding": [0.0] * 32})
    return records


@needs_duckdb
class TestClusterSpeakers(StageContract):
    def stage(self) -> ClusterSpeakers:
        return ClusterSpeakers(by=["book"])

    def records(self, folder: Path) -> list[Record]:
        return rows()


@needs_duckdb
def test_speakers_are_numbered_in_the_order_of_the_input_and_embeddings_do_not_travel_on(tmp_path: Path) -> None:
    result = Pipeline("speakers", [ReadRecords(rows()), ClusterSpeakers(threshold=0.5), Merge("out.jsonl")]).run(
        run_dir=tmp_path / "run"
    )
    found = list(result.records())
    known = [row["speaker_cluster"] for row in found if row["n"] < 90]
    assert sorted(set(known)) == [0, 1, 2]
    assert [known.index(label) for label in range(3)] == sorted(known.index(label) for label in range(3))
    assert sorted(map(known.count, range(3))) == [6, 6, 6]
    for row in found:
        assert "speaker_embedding" not in row
        unknown = row["n"] >= 90
        assert (row["speaker_cluster"] is None, row["speaker_similarity"] is None) == (unknown, unknown)
        assert unknown or 0.8 < row["speaker_similarity"] <= 1
    apart = list(
        Pipeline("p", [ReadRecords(rows()), ClusterSpeakers(0.5, by=["book"], keep_embeddings=True)]).run().records()
    )
    assert {row["speaker_cluster"] for row in apart if row["n"] < 90} == set(range(6))
    assert all("speaker_embedding" in row for row in apart)
    assert [row["speaker_cluster"] for row in apart][:2] == [0, 1]
    for label in range(6):
        assert len({row["book"] for row in apart if row["speaker_cluster"] == label}) == 1


@needs_duckdb
def test_wrong_settings_and_embeddings_of_two_engines_are_refused() -> None:
    with pytest.raises(UsageError, match="threshold"):
        Pipeline("p", [ReadRecords(rows()), ClusterSpeakers(threshold=1.5)]).plan()
    mixed = [{"speaker_embedding": [1.0, 0.0]}, {"speaker_embedding": [1.0, 0.0, 0.0]}]
    with pytest.raises(Exception, match="2 and 3 numbers"):
        Pipeline("p", [ReadRecords(mixed), ClusterSpeakers()]).run()


@needs_duckdb
@pytest.mark.soak
def test_100_000_embeddings_are_clustered_in_bounded_memory(tmp_path: Path) -> None:
    import resource
    import time

    vectors = voices(2000, 50, spread=0.03, size=256)
    path = tmp_path / "in.jsonl"
    with path.open("w") as file:
        for number, vector in enumerate(vectors):
            file.write(json.dumps({"n": number, "speaker_embedding": [round(float(x), 4) for x in vector]}) + "\n")
    del vectors
    from curate.stages import ReadManifest

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    pipeline = Pipeline("p", [ReadManifest(str(path)), ClusterSpeakers(0.5), Merge("out.jsonl")])
    result = pipeline.run(run_dir=tmp_path / "run")
    assert result.summary["kept"] == 100_000
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    with (tmp_path / "run" / "out.jsonl").open() as lines:
        speakers = {json.loads(line)["speaker_cluster"] for line in lines}
    print(f"\n{len(speakers)} speakers in {time.monotonic() - started:.0f} s, memory grew by {grown_mb:.0f} MB")
    assert len(speakers) == 2000
    assert grown_mb < 600
