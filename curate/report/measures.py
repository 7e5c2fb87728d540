"""What the records say about the measures of their audio: distributions, examples at the quantiles, pairs of values."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs

from curate.report.columns import Columns
from curate.report.histogram import Histogram
from curate.report.samples import Fate, Sample, as_number, sample_of

MEASURES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "snr_db": ("Signal to noise", "dB"),
        "dnsmos_ovrl": ("Quality, DNSMOS", "MOS"),
        "bandwidth_hz": ("Bandwidth", "Hz"),
        "loudness_lufs": ("Loudness", "LUFS"),
        "speech_ratio": ("Share of speech", ""),
        "clipped_ratio": ("Share clipped", ""),
        "pitch_hz": ("Pitch", "Hz"),
        "event_music_ratio": ("Share of music", ""),
        "spoken_lang_prob": ("Probability of the spoken language", ""),
        "speaker_consistency": ("Likeness of a recording's halves", "cosine"),
        "speaker_similarity": ("Likeness to the speaker", "cosine"),
        "dnsmos_sig": ("Quality of the voice, DNSMOS", "MOS"),
        "dnsmos_bak": ("Quality of the background, DNSMOS", "MOS"),
        "dnsmos_p808": ("Quality, DNSMOS P.808", "MOS"),
        "snr_wada_db": ("Signal to noise, WADA", "dB"),
        "peak_dbfs": ("Peak", "dBFS"),
        "rms_dbfs": ("RMS", "dBFS"),
        "bandwidth_confidence": ("Confidence of the bandwidth", ""),
        "zero_ratio": ("Share of digital silence", ""),
        "dc_offset": ("DC offset", ""),
        "channel_balance_db": ("Balance of channels", "dB"),
        "channel_correlation": ("Correlation of channels", ""),
        "voiced_ratio": ("Share voiced", ""),
        "event_speech_ratio": ("Share of speech events", ""),
        "event_singing_ratio": ("Share of singing", ""),
        "gain_db": ("Gain", "dB"),
    }
)
"""The columns of the measuring stages → title and unit, in the order in which they are shown."""

QUANTILES = (0.05, 0.5, 0.95)
_EXAMPLES = 48
_POINTS = 1500
_EXAMPLE_MEASURES = 6
"""The measures with examples to listen to; every example is in the page."""

_FATES: tuple[Fate, ...] = ("kept", "filtered", "quarantined")


class Measure:
    """The values of one measure."""

    def __init__(self) -> None:
        self.by_fate: dict[Fate, Histogram] = {fate: Histogram() for fate in _FATES}
        self.examples: list[tuple[float, Sample]] = []
        self.seen = 0


@attrs.frozen
class Example:
    """A record whose value is nearest to a quantile, of those that were taken at random."""

    share: float
    value: float
    sample: Sample


class MeasureSurvey:
    """What was seen of the measures, in bounded memory: a number of records at random serves as examples and points."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._random = random.Random(0)
        self._found: dict[str, Measure] = {}
        self._points: list[tuple[Fate, dict[str, float]]] = []
        self._rows = 0

    def see(self, fate: Fate, row: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Take the measures of a record in."""
        values = {name: value for name in MEASURES if name in record and (value := as_number(record[name])) is not None}
        if not values:
            return
        for name, value in values.items():
            measure = self._found.get(name) or self._found.setdefault(name, Measure())
            measure.by_fate[fate].add(value)
            measure.seen += 1
            if (place := self._place(measure.seen, _EXAMPLES)) is not None:
                measure.examples[place : place + 1] = [(value, sample_of(fate, row, self._columns))]
        self._rows += 1
        if (place := self._place(self._rows, _POINTS)) is not None:
            self._points[place : place + 1] = [(fate, values)]

    def found(self) -> Mapping[str, Measure]:
        """Return the measures that records have, those first that a filter compares."""
        compared = {threshold.column for threshold in self._columns.thresholds}
        names = sorted((name for name in MEASURES if name in self._found), key=lambda name: name not in compared)
        return {name: self._found[name] for name in names}

    def examples(self) -> Mapping[str, Sequence[Example]]:
        """Return the examples at the quantiles of the first measures that vary."""
        shown: dict[str, Sequence[Example]] = {}
        varying = [(name, one) for name, one in self.found().items() if len({value for value, _ in one.examples}) > 1]
        for name, measure in varying[:_EXAMPLE_MEASURES]:
            ordered = sorted(measure.examples, key=lambda each: (each[0], each[1].id))
            places = [min(len(ordered) - 1, int(share * len(ordered))) for share in QUANTILES]
            # Fewer records than quantiles: each is shown once.
            shown[name] = [
                Example(share, *ordered[place])
                for number, (share, place) in enumerate(zip(QUANTILES, places, strict=True))
                if place not in places[:number]
            ]
        return shown

    def scatter(self) -> tuple[str, str, Mapping[Fate, Sequence[tuple[float, float]]]] | None:
        """Return two measures and the points of records that have both; None if no two measures vary."""
        varying = [name for name, measure in self.found().items() if len({value for value, _ in measure.examples}) > 1]
        for second in varying[1:]:
            first = varying[0]
            both = [(fate, values) for fate, values in self._points if first in values and second in values]
            if both:
                points: dict[Fate, Sequence[tuple[float, float]]] = {
                    fate: [(values[first], values[second]) for other, values in both if other == fate]
                    for fate in _FATES
                }
                return first, second, points
        return None

    def _place(self, seen: int, most: int) -> int | None:
        """Return where the record that was seen last goes among those held; None: it is not held."""
        place = seen - 1 if seen <= most else int(self._random.random() * seen)
        return place if place < most else None
