"""The states of an alignment and one step of Viterbi's algorithm over them, for all states at the same time.

Text of L tokens in N words has three kinds of states::

    star 0          star 1              star N        audio that the text does not cover
      ↕               ↕                   ↕           (and from star to star: text that the audio does not have)
    blank 0 → tok 0 → blank 1 → tok 1 → … → blank L

`blank j` comes before token j, and blank L behind the last. Those before the first token of a word, and blank L, are
*junctions*: they also take the label that separates words, and only they lead to a star and back. A star takes any
audio, at a price for each frame. Within a frame, a star leads to any later star, at a price for the tokens skipped, or
at one price for a passage of any length. All prices are in nats, against the best label of each frame, which costs 0.
"""

from __future__ import annotations

from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

LOWEST = np.float32(-1e30)
"""The score of a state that cannot be reached; finite, so that arithmetic on it gives no NaN."""


@attrs.frozen
class Prices:
    """The prices of leaving text or audio out, in nats.

    Args:
        star_entry: of each passage of audio that the text does not cover, and of each passage of text skipped.
        sentence_discount: how much less that costs where a sentence ends. Where two passages could be skipped equally
            well, because both begin or end with the same word, it is the one of whole sentences.
        star_frame: of each frame of such audio.
        skipped_token: of each token of the text that the audio does not have.
        skipped_passage: the most that one skipped passage costs, however long.
    """

    star_entry: float = 4.0
    sentence_discount: float = 0.5
    star_frame: float = 0.5
    skipped_token: float = 3.0
    skipped_passage: float = 60.0


@attrs.frozen(eq=False)
class Lattice:
    """The states of the whole text, or of a part of it.

    Args:
        columns: (L,) the column of each token in the emissions.
        junctions: (J,) the places of the junctions among the blanks, rising.
        costs: (J,) the cumulative price of skipping the text before each junction.
        entries: (J,) the price of entering the star of each junction.
        prices: of leaving text or audio out.
    """

    columns: Indices
    junctions: Indices
    costs: NDArray[np.float64]
    entries: NDArray[np.float64]
    prices: Prices
    repeats: Mask = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        repeats = np.zeros(len(self.columns), bool)
        repeats[1:] = self.columns[1:] == self.columns[:-1]
        object.__setattr__(self, "repeats", repeats)

    @classmethod
    def of(cls, columns: Indices, junctions: Indices, prices: Prices, ends: Mask | None = None) -> Self:
        """Return the states of a whole text; each token costs the same to skip.

        Args:
            ends: (J,) whether a sentence ends at a junction; None: none does.
        """
        discounts = np.zeros(len(junctions)) if ends is None else ends.astype(np.float64) * prices.sentence_discount
        costs = junctions.astype(np.float64) * prices.skipped_token
        return cls(columns, junctions, costs, prices.star_entry - discounts, prices)

    @property
    def tokens(self) -> int:
        """The number of tokens, L."""
        return len(self.columns)

    @property
    def size(self) -> int:
        """The number of states. They are numbered: L + 1 blanks, L tokens, J stars."""
        return 2 * self.tokens + 1 + len(self.junctions)

    def place(self, state: int) -> int:
        """Return the place of a state among the blanks; it never falls along a path."""
        if state <= self.tokens:
            return state
        if state <= 2 * self.tokens:
            return state - self.tokens - 1
        return int(self.junctions[state - 2 * self.tokens - 1])

    def part(self, low: int, high: int) -> tuple[Lattice, Indices]:
        """Return the states from one place to another, and their numbers in this lattice."""
        end = min(high + 1, self.tokens)
        first, last = (int(np.searchsorted(self.junctions, place)) for place in (low, end + 1))
        inside = slice(first, last)
        part = Lattice(
            self.columns[low:end],
            self.junctions[inside] - low,
            self.costs[inside],
            self.entries[inside],
            self.prices,
        )
        if low and low < end and self.columns[low] == self.columns[low - 1]:
            part.repeats[0] = True
        blanks = np.arange(low, end + 1)
        tokens = np.arange(low, end) + self.tokens + 1
        stars = np.arange(first, last) + 2 * self.tokens + 1
        return part, np.concatenate([blanks, tokens, stars])


@attrs.frozen(eq=False)
class Choices:
    """Where the best path into each state came from, in one frame.

    The masks of one kind of state are in order of strength: a later one, where it is true, overrules an earlier one.
    """

    blank_from_token: Mask
    blank_from_star: Mask
    token_from_blank: Mask
    token_from_token: Mask
    token_from_star: Mask
    star_from_blank: Mask
    star_from_token: Mask
    star_from_star: Indices
    """The star from which each star was reached within the frame: itself, where nothing was skipped."""


class Front:
    """The best score of a path into each state, moved on frame by frame.

    Args:
        lattice: the states.
        start: the state before the first frame.
    """

    def __init__(self, lattice: Lattice, start: int) -> None:
        count = lattice.tokens
        self._lattice = lattice
        self._starts = lattice.junctions < count  # the junctions that a token follows
        self.blank = np.full(count + 1, LOWEST, np.float32)
        self._tokens = np.full(count + 1, LOWEST, np.float32)  # token j at j + 1, so that the one before is a view
        self.star = np.full(len(lattice.junctions), float(LOWEST))
        if start <= count:
            self.blank[start] = 0.0
        elif start <= 2 * count:
            self._tokens[start - count] = 0.0
        else:
            self.star[start - 2 * count - 1] = 0.0

    @property
    def token(self) -> NDArray[np.float32]:
        """(L,) the score of each token."""
        return self._tokens[1:]

    def scores(self) -> Floats:
        """Return the scores of all states, in the order of their numbers."""
        return np.concatenate([self.blank, self.token, self.star])

    def normalise(self) -> None:
        """Subtract the best score, so that none outgrows the precision of fp32."""
        best = max(self.blank.max(), self._tokens.max(), np.float32(self.star.max(initial=LOWEST)))
        for scores in (self.blank, self._tokens, self.star):
            np.subtract(scores, best, out=scores)
            np.maximum(scores, LOWEST, out=scores)

    def advance(self, emissions: NDArray[np.float32], blank: np.float32, junction: np.float32) -> Choices:
        """Move on by one frame.

        Args:
            emissions: (columns,) the score of each column in this frame, 0 for the best label.
            blank: that of the blank.
            junction: that of the better of the blank and the label that separates words.
        """
        lattice = self._lattice
        at, first = lattice.junctions, lattice.junctions[self._starts]
        before = self._tokens[:-1]  # the token before each token
        behind = self._tokens  # the token before each blank
        stars = self.star.astype(np.float32)

        star, star_from_blank, star_from_token, star_from_star = self._advance_stars(at)

        blank_from_token = behind > self.blank
        new_blank = np.maximum(self.blank, behind)
        blank_from_star = stars > new_blank[at]
        at_junctions = np.maximum(new_blank[at], stars) + junction
        new_blank += blank
        new_blank[at] = at_junctions

        token_from_blank = self.blank[:-1] > self.token
        new_token = np.maximum(self.token, self.blank[:-1])
        token_from_token = (before > new_token) & ~lattice.repeats
        np.copyto(new_token, before, where=token_from_token)
        leading = stars[self._starts]
        token_from_star = leading > new_token[first]
        new_token[first] = np.maximum(new_token[first], leading)
        new_token += emissions[lattice.columns]

        self.blank, self.star = new_blank, star
        self._tokens[1:] = new_token
        return Choices(
            blank_from_token,
            blank_from_star,
            token_from_blank,
            token_from_token,
            token_from_star,
            star_from_blank,
            star_from_token,
            star_from_star,
        )

    def _advance_stars(self, at: Indices) -> tuple[NDArray[np.float64], Mask, Mask, Indices]:
        """Return the new scores of the stars, and where they came from."""
        lattice, prices = self._lattice, self._lattice.prices
        from_blank, from_token = self.blank[at].astype(np.float64), self._tokens[at].astype(np.float64)
        entered = np.maximum(from_blank, from_token) - lattice.entries
        by_blank = (entered > self.star) & (from_blank >= from_token)
        by_token = (entered > self.star) & (from_token > from_blank)
        star = np.maximum(self.star, entered) - prices.star_frame
        numbers = np.arange(len(star))
        # Text is skipped by a running maximum: of the scores with the price of all text before them added, for what
        # costs by the token, and of the plain scores, for a passage at one price.
        priced = star + lattice.costs
        best = np.maximum.accumulate(priced)
        source = np.maximum.accumulate(np.where(priced >= best, numbers, 0))
        skipped = best - lattice.costs
        plain_best = np.maximum.accumulate(star)
        far = np.maximum.accumulate(np.where(star >= plain_best, numbers, 0))
        at_one_price = plain_best - prices.skipped_passage
        # Adding the price and subtracting it again rounds, so a star that skips nothing keeps its own score.
        skipped = np.where(source == numbers, star, skipped)
        use_far = at_one_price > skipped
        return np.where(use_far, at_one_price, skipped), by_blank, by_token, np.where(use_far, far, source)
