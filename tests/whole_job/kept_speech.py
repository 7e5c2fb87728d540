"""What of the material a run has kept: whose words, with which errors, and which of the repeats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from curate.text import normaliser
from tests.whole_job.material import Material, Placed

Row = Mapping[str, Any]

normalise = normaliser("whisper-english")


@attrs.frozen
class KeptText:
    """The kept text against what was said.

    Args:
        words: distinct words of the references, and how many of them are in the kept text.
        errors: word errors of the kept text, and the words that it is compared with.
        whole_clips: clips of which every word was kept, and all clips.
    """

    words: tuple[int, int]
    errors: tuple[int, int]
    whole_clips: tuple[int, int]

    @property
    def word_share(self) -> float:
        return self.words[1] / self.words[0]

    @property
    def error_rate(self) -> float:
        return self.errors[0] / max(1, self.errors[1])

    def __str__(self) -> str:
        return (
            f"{self.words[1]} of {self.words[0]} distinct words kept ({self.word_share:.1%}), "
            f"WER {self.error_rate:.4f} ({self.errors[0]} errors in {self.errors[1]} words), "
            f"{self.whole_clips[0]} of {self.whole_clips[1]} clips whole"
        )


def kept_text(material: Material, kept: Sequence[Row], left_out: Sequence[Row]) -> KeptText:
    """Compare the text of kept utterances with that of the clips that they lie in.

    A word of a clip may be absent without being an error only where an utterance of it was left out.
    """
    said: set[str] = set()
    found: set[str] = set()
    errors = compared = whole = 0
    for placed in material.placed:
        reference = _words(placed.text)
        said.update(reference)
        pieces = [(row, True) for row in kept if overlap_s(row, placed) > 0]
        pieces += [(row, False) for row in left_out if overlap_s(row, placed) > 0]
        pieces.sort(key=lambda piece: float(piece[0]["offset"]))
        texts = [_words(row["text"]) if is_kept else None for row, is_kept in pieces]
        if all(text is None for text in texts):
            continue
        spoken = [word for text in texts for word in text or ()]
        found.update(word for word in spoken if word in reference)
        errors += errors_beside_gaps(reference, texts)
        whole += None not in texts
        compared += len(spoken if None in texts else reference)
    return KeptText((len(said), len(found)), (errors, compared), (whole, len(material.placed)))


def errors_beside_gaps(reference: Sequence[str], texts: Iterable[Sequence[str] | None]) -> int:
    """Return the least number of word errors of texts in order; at None, words of the reference may be skipped."""
    costs = list(range(len(reference) + 1))  # by the words of the reference that are used up
    for text in texts:
        if text is None:
            for place in range(1, len(costs)):
                costs[place] = min(costs[place], costs[place - 1])
            continue
        for word in text:
            before, costs = costs, [costs[0] + 1]
            for place, expected in enumerate(reference, start=1):
                costs.append(min(before[place] + 1, costs[place - 1] + 1, before[place - 1] + (word != expected)))
    return costs[-1]


def overlap_s(row: Row, placed: Placed) -> float:
    """Return the seconds of a clip that an utterance covers, 0 for other recordings'."""
    if not str(row["audio_filepath"]).endswith(placed.recording):
        return 0.0
    start_s = float(row["offset"])
    return max(0.0, min(start_s + float(row["duration"]), placed.end_s) - max(start_s, placed.start_s))


def clip_of(material: Material, row: Row) -> Placed | None:
    """Return the clip that an utterance covers most of; None: it lies in no clip."""
    most = max(material.placed, key=lambda placed: overlap_s(row, placed))
    return most if overlap_s(row, most) > 0 else None


def name_of(row: Row) -> str:
    """Return the path of an utterance's recording below the folder of recordings."""
    path = Path(str(row["audio_filepath"]))
    return f"{path.parent.name}/{path.name}"


def _words(text: str) -> list[str]:
    return normalise(text).split()
