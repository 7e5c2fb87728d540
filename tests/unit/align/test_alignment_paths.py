"""The best path of a text through frames: the one that trying all paths finds, in bounded memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.align.lattice import Lattice, Prices
from curate.align.viterbi import Emissions, find_path

PRICES = Prices(star_entry=1.5, sentence_discount=0.3, star_frame=0.4, skipped_token=0.7, skipped_passage=2.5)


def emissions_of(frames: int, columns: int, seed: int) -> Emissions:
    rng = np.random.default_rng(seed)
    scores = -rng.exponential(1.0, (frames, columns)).astype(np.float32)
    blank = -rng.exponential(1.0, frames).astype(np.float32)
    return Emissions(scores, blank, np.maximum(blank, -rng.exponential(1.0, frames)).astype(np.float32))


def lattice_of(words: list[list[int]]) -> Lattice:
    columns = np.array([column for word in words for column in word], np.int64)
    junctions = np.array([sum(map(len, words[:place])) for place in range(len(words) + 1)], np.int64)
    return Lattice.of(columns, junctions, PRICES, junctions % 2 == 0)


def steps(lattice: Lattice) -> list[list[tuple[int, float]]]:
    """Return for each state the states that it may follow, and the price of it, one by one from the definition."""
    count, junctions = lattice.tokens, lattice.junctions.tolist()
    blank, token, star = (lambda j: j), (lambda j: count + 1 + j), (lambda w: 2 * count + 1 + w)
    follows: list[list[tuple[int, float]]] = [[] for _ in range(lattice.size)]
    for j in range(count + 1):
        follows[blank(j)] = [(blank(j), 0.0)] + ([(token(j - 1), 0.0)] if j else [])
        if j in junctions:
            follows[blank(j)].append((star(junctions.index(j)), 0.0))
    for j in range(count):
        follows[token(j)] = [(token(j), 0.0), (blank(j), 0.0)]
        if j and lattice.columns[j] != lattice.columns[j - 1]:
            follows[token(j)].append((token(j - 1), 0.0))
        if j in junctions:
            follows[token(j)].append((star(junctions.index(j)), 0.0))
    entries: list[list[tuple[int, float]]] = []
    for w, j in enumerate(junctions):
        entry = PRICES.star_entry - (0.0 if j % 2 else PRICES.sentence_discount)
        before = [(blank(j), entry)] + ([(token(j - 1), entry)] if j else [])
        entries.append([(star(w), 0.0), *before])
    for w in range(len(junctions)):
        for v in range(w + 1):
            tokens = junctions[w] - junctions[v]
            price = min(PRICES.skipped_token * tokens, PRICES.skipped_passage if v < w else 0.0)
            follows[star(w)] += [(state, cost + price) for state, cost in entries[v]]
    return follows


def emitted(lattice: Lattice, emissions: Emissions, frame: int, state: int) -> float:
    count = lattice.tokens
    if state <= count:
        is_junction = state in lattice.junctions
        return float(emissions.junction[frame] if is_junction else emissions.blank[frame])
    if state <= 2 * count:
        return float(emissions.scores[frame, lattice.columns[state - count - 1]])
    return -PRICES.star_frame


def best_score(lattice: Lattice, emissions: Emissions) -> float:
    follows = steps(lattice)
    scores = np.full(lattice.size, -np.inf)
    scores[0] = 0.0
    for frame in range(len(emissions)):
        scores = np.array(
            [
                max(scores[state] - price for state, price in follows[into]) + emitted(lattice, emissions, frame, into)
                for into in range(lattice.size)
            ]
        )
    count = lattice.tokens
    return float(max(scores[count], scores[2 * count], scores[-1]))


def score_of(lattice: Lattice, emissions: Emissions, path: NDArray[Any]) -> float:
    """Return the score of a path; it may use nothing but the steps that there are."""
    follows, total, state = steps(lattice), 0.0, 0
    for frame, into in enumerate(path.tolist()):
        prices = [price for before, price in follows[into] if before == state]
        assert prices, f"frame {frame}: no step leads from {state} to {into}"
        total += emitted(lattice, emissions, frame, into) - min(prices)
        state = into
    assert state in (lattice.tokens, 2 * lattice.tokens, lattice.size - 1)
    return total


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("block_frames", [3, 7, 1024])
def test_path_is_the_best_of_all_in_blocks_of_any_length(seed: int, block_frames: int) -> None:
    rng = np.random.default_rng(seed)
    words = [rng.integers(0, 3, rng.integers(1, 4)).tolist() for _ in range(int(rng.integers(1, 5)))]
    lattice, emissions = lattice_of(words), emissions_of(int(rng.integers(1, 26)), 3, seed)
    path = find_path(lattice, emissions, block_frames)
    assert len(path) == len(emissions)
    assert score_of(lattice, emissions, path) == pytest.approx(best_score(lattice, emissions), abs=1e-3)


def test_text_without_tokens_is_a_path_of_blanks_and_stars() -> None:
    lattice = lattice_of([])
    assert set(find_path(lattice, emissions_of(9, 1, 0), 4).tolist()) <= {0, 1}


def test_no_frames_have_no_path() -> None:
    assert not len(find_path(lattice_of([[0, 1]]), emissions_of(0, 2, 0)))


def test_memory_does_not_grow_with_frames_times_tokens() -> None:
    frames, tokens = 4096, 3000
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 29, tokens)
    scores = np.full((frames, 30), -9.0, np.float32)
    scores[np.arange(frames), columns[np.arange(frames) * tokens // frames]] = 0.0
    emissions = Emissions(scores, np.full(frames, -5.0, np.float32), np.full(frames, -5.0, np.float32))
    lattice = Lattice.of(columns, np.arange(0, tokens + 1, 5), PRICES)
    tracemalloc.start()
    find_path(lattice, emissions, 512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # one byte for each state and frame would be 27 MB
