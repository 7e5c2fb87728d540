"""Which worker gets which card: whole cards are nobody else's, fractions share one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from curate.errors import PlanError
from curate.machine import Card
from curate.plan import Hop
from curate.resources import Resources


class Seats:
    """The cards of a machine, and how much of each is taken.

    Args:
        cards: those that may be used.
    """

    def __init__(self, cards: Sequence[Card]) -> None:
        self._cards = cards
        self._free = {card.id: 1.0 for card in cards}
        self._free_gb = {card.id: card.memory_gb for card in cards}

    def take(self, wanted: Resources) -> tuple[str, ...] | None:
        """Return the ids of the cards for a worker, none if it needs none; None if it has to go without.

        A fraction goes to the emptiest card, so that workers spread over the cards.
        """
        if not wanted.gpus and not wanted.gpu_memory_gb:
            return ()
        fitting = [card for card in self._cards if self._fits(card, wanted)]
        count = max(1, int(wanted.gpus))
        if len(fitting) < count:
            return None
        fitting.sort(key=lambda card: (-self._free[card.id], -(self._free_gb[card.id] or 0.0)))
        ids = tuple(card.id for card in fitting[:count])
        for card in ids:
            self._change(card, wanted, -1)
        return ids

    def give_back(self, ids: Sequence[str], wanted: Resources) -> None:
        """Free what a worker had."""
        for card in ids:
            self._change(card, wanted, 1)

    def left(self, wanted: Resources) -> int:
        """Return how many more workers find cards."""
        found: list[tuple[str, ...]] = []
        while (ids := self.take(wanted)) is not None:
            found.append(ids)
        for ids in found:
            self.give_back(ids, wanted)
        return len(found)

    def _fits(self, card: Card, wanted: Resources) -> bool:
        free_gb = self._free_gb[card.id]
        enough_memory = not wanted.gpu_memory_gb or free_gb is None or free_gb + 1e-9 >= wanted.gpu_memory_gb
        return enough_memory and self._free[card.id] + 1e-9 >= self._share(card.id, wanted)

    def _share(self, card: str, wanted: Resources) -> float:
        """Return which part of a card a worker takes; all of it where nobody knows how much its memory is."""
        if not wanted.gpus and self._free_gb[card] is None:
            return 1.0
        return min(1.0, wanted.gpus)

    def _change(self, card: str, wanted: Resources, sign: int) -> None:
        self._free[card] += sign * self._share(card, wanted)
        free_gb = self._free_gb[card]
        if free_gb is not None:
            self._free_gb[card] = free_gb + sign * wanted.gpu_memory_gb


@attrs.frozen
class Seating:
    """Which worker, by hop and slot, has which cards; those of hops without a number of workers come later."""

    taken: Mapping[tuple[int, int], tuple[str, ...]]
    seats: Seats


def seat(hops: Sequence[Hop], cards: Sequence[Card]) -> Seating:
    """Give every worker of a phase its cards, whole ones first, so that fractions do not break them up.

    Raises:
        PlanError: there are not enough; says what is asked for and what there is.
    """
    seats = Seats(cards)
    taken: dict[tuple[int, int], tuple[str, ...]] = {}
    order = sorted(range(len(hops)), key=lambda number: -hops[number].resources.gpus)
    for number in order:
        hop = hops[number]
        for slot in range(hop.workers or 1):
            ids = seats.take(hop.resources)
            if ids is None:
                raise PlanError(_too_many(hop, slot, cards), hop.stages[0].name if hop.stages else None)
            taken[number, slot] = ids
    return Seating(taken, seats)


def _too_many(hop: Hop, fitting: int, cards: Sequence[Card]) -> str:
    wanted, workers = hop.resources, hop.workers or 1
    each = " and ".join(
        text
        for text, asked in (
            (f"gpus={wanted.gpus:g}", wanted.gpus),
            (f"gpu_memory_gb={wanted.gpu_memory_gb:g}", wanted.gpu_memory_gb),
        )
        if asked
    )
    sizes = ", ".join(card.id if card.memory_gb is None else f"{card.id} with {card.memory_gb:g} GB" for card in cards)
    return (
        f"stage {hop.stages[0].name!r} asks for {workers} worker{'s' * (workers > 1)} with {each} each, but beside the "
        f"other stages of its phase only {fitting} fit on the cards that there are ({sizes or 'none'}); change it with "
        f".with_(workers={max(fitting, 1)}) or .with_(resources=Resources(gpus=…))"
    )
