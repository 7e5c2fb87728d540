"""The best path of known text through an hour of audio, in bounded memory.

Keeping where each state of each frame came from would take gigabytes for an hour. The first pass keeps, for each block
of frames, only the state in which the best path into each state entered the block. From the last state backwards, that
gives the state at each border between blocks. As a path never moves backwards in the text, the second pass searches
each block between two known states, over that part of the text alone, so both passes together cost little more than
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import attrs
import numpy as np
from numpy.typing import NDArray

from curate.align.lattice import Choices, Front, Indices, Lattice

BLOCK_FRAMES = 1024


@attrs.frozen(eq=False)
class Emissions:
    """The scores of the labels in each frame, against the best label of the frame, which has 0.

    Args:
        scores: (frames, columns) float32.
        blank: (frames,) the score of the blank.
        junction: (frames,) of the better of the blank and the label that separates words.
    """

    scores: NDArray[np.float32]
    blank: NDArray[np.float32]
    junction: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)


def find_path(lattice: Lattice, emissions: Emissions, block_frames: int = BLOCK_FRAMES) -> Indices:
    """Return the state of the best path in each frame, from blank 0 to the end of the text.

    Ties are decided in favour of the path that stays, so that the result is the same everywhere.
    """
    frames = len(emissions)
    if not frames:
        return np.empty(0, np.int64)
    borders = [*range(0, frames, block_frames), frames]
    states = _states_at_borders(lattice, emissions, borders)
    path = np.empty(frames, np.int64)
    for place, (start, end) in enumerate(pairwise(borders)):
        path[start:end] = _path_between(lattice, emissions, start, end, states[place], states[place + 1])
    return path


def _states_at_borders(lattice: Lattice, emissions: Emissions, borders: Sequence[int]) -> list[int]:
    """Return the states of the best path: the one before the first frame, and the last of each block."""
    front = Front(lattice, 0)
    origins: list[NDArray[np.int32]] = []
    one_block = len(borders) == 2
    for start, end in pairwise(borders):
        origin = _Origins(lattice)
        for frame in range(start, end):
            choices = front.advance(emissions.scores[frame], emissions.blank[frame], emissions.junction[frame])
            if not one_block:
                origin.follow(choices)
        front.normalise()
        if not one_block:
            origins.append(origin.states())
    ends = _last_states(lattice)
    state = int(ends[np.argmax(front.scores()[ends])])
    states = [state]
    for origin_states in reversed(origins):
        state = int(origin_states[state])
        states.append(state)
    return [0, state] if one_block else states[::-1]


def _last_states(lattice: Lattice) -> Indices:
    """Return the states in which a path may end: behind the last token, in it, and in the last star."""
    count = lattice.tokens
    return np.array([count, *([2 * count] if count else []), lattice.size - 1])


class _Origins:
    """The state in which the best path into each state entered the block."""

    def __init__(self, lattice: Lattice) -> None:
        count = lattice.tokens
        numbers = np.arange(lattice.size, dtype=np.int32)
        self._at = lattice.junctions
        self._starts = lattice.junctions < count
        self._blank = numbers[: count + 1].copy()
        self._tokens = np.concatenate([[-1], numbers[count + 1 : 2 * count + 1]]).astype(np.int32)  # as in `Front`
        self._star = numbers[2 * count + 1 :].copy()

    def follow(self, choices: Choices) -> None:
        at, first, old_star = self._at, self._at[self._starts], self._star
        star = np.where(choices.star_from_blank, self._blank[at], old_star)
        star = np.where(choices.star_from_token, self._tokens[at], star)
        blank = np.where(choices.blank_from_token, self._tokens, self._blank)
        blank[at] = np.where(choices.blank_from_star, old_star, blank[at])
        token = np.where(choices.token_from_blank, self._blank[:-1], self._tokens[1:])
        np.copyto(token, self._tokens[:-1], where=choices.token_from_token)
        token[first] = np.where(choices.token_from_star, old_star[self._starts], token[first])
        self._blank, self._star = blank, star[choices.star_from_star]
        self._tokens[1:] = token

    def states(self) -> NDArray[np.int32]:
        return np.concatenate([self._blank, self._tokens[1:], self._star])


def _path_between(lattice: Lattice, emissions: Emissions, start: int, end: int, first: int, last: int) -> Indices:
    """Return the best path through a block of frames from a state before it to the state of its last frame."""
    part, numbers = lattice.part(lattice.place(first), lattice.place(last))
    at, state = (int(np.flatnonzero(numbers == number)[0]) for number in (first, last))
    front = Front(part, at)
    back = _BackPointers(part, end - start)
    for frame in range(start, end):
        back.keep(front.advance(emissions.scores[frame], emissions.blank[frame], emissions.junction[frame]))
    return numbers[back.trace(state)]


class _BackPointers:
    """Where the best path into each state came from, for all frames of a block."""

    def __init__(self, lattice: Lattice, frames: int) -> None:
        self._lattice = lattice
        self._starts = np.flatnonzero(lattice.junctions < lattice.tokens)
        self._star_of = {int(place): number for number, place in enumerate(lattice.junctions)}
        count, stars = lattice.tokens, len(lattice.junctions)
        self._blank = np.zeros((frames, count + 1), np.uint8)  # 0: itself, 1: the token before, 2: the star
        self._token = np.zeros((frames, count), np.uint8)  # 0: itself, 1: the blank, 2: the token before, 3: the star
        self._star = np.zeros((frames, stars), np.uint8)  # 0: itself, 1: the blank, 2: the token before
        self._skip = np.zeros((frames, stars), np.int32)
        self._frame = 0

    def keep(self, choices: Choices) -> None:
        frame, at = self._frame, self._lattice.junctions
        blank, token, star = self._blank[frame], self._token[frame], self._star[frame]
        blank[choices.blank_from_token] = 1
        blank[at[choices.blank_from_star]] = 2
        token[choices.token_from_blank] = 1
        token[choices.token_from_token] = 2
        token[at[self._starts][choices.token_from_star]] = 3
        star[choices.star_from_blank] = 1
        star[choices.star_from_token] = 2
        self._skip[frame] = choices.star_from_star
        self._frame += 1

    def trace(self, state: int) -> Indices:
        """Return the state in each frame of the path that ends in a state."""
        count = self._lattice.tokens
        path = np.empty(self._frame, np.int64)
        for frame in range(self._frame - 1, -1, -1):
            path[frame] = state
            if state <= count:
                choice = int(self._blank[frame, state])
                if choice:
                    state = count + state if choice == 1 else 2 * count + 1 + self._star_of[state]
            elif state <= 2 * count:
                token = state - count - 1
                choice = int(self._token[frame, token])
                if choice:
                    state = (token, state - 1, 2 * count + 1 + self._star_of.get(token, 0))[choice - 1]
            else:
                star = int(self._skip[frame, state - 2 * count - 1])
                choice, place = int(self._star[frame, star]), int(self._lattice.junctions[star])
                state = (2 * count + 1 + star, place, count + place)[choice]
        return path
