"""The stages that make, in workers, the keys from which the gathers of a corpus decide."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.errors import RecordError
from curate.plugin import resolved_setting
from curate.records import AudioBatch, Record
from curate.resolution import PluginLookup
from curate.stage import ProcessingStage
from curate.stages.text.error_rates import describe_normaliser, resolve_normaliser
from curate.stages.text.normalise import text_of
from curate.text.languages import language_code
from curate.text.normalisers import takes_language
from curate.text.scripts import word_units

TEXT_KEY = "dedup_text"
"""The column with the normalised text; null: too short to be compared, or null itself."""

BANDS_KEY = "dedup_bands"
"""The column with the hashes of the bands of the normalised text, packed."""

AUDIO_KEY = "dedup_audio"
"""The column with the SHA-256 of the decoded samples."""

FINGERPRINT_KEY = "dedup_fingerprint"
"""The column with the acoustic fingerprint, packed."""


@dataclass
class TextKeys(ProcessingStage):
    """Writes the keys by which texts are compared: the normalised text and, for near duplicates, its MinHash bands.

    Columns: `dedup_text` and, with `near`, `dedup_bands`; null where the text is null or has too few words.

    Args:
        text_key: the column with the text.
        normaliser: as for `WordErrorRate`.
        min_words: shorter texts are not compared. In scripts without blanks between words each character counts.
        near: also write the bands.
        lang_key: the column with the language, for normalisers that know languages; records may lack it.
    """

    text_key: str = "text"
    normaliser: str = "auto"
    min_words: int = 4
    near: bool = True
    lang_key: str = "lang"

    def resolve(self, host: PluginLookup) -> Self:
        return self.with_resolved(normaliser=resolve_normaliser(self.normaliser, host))

    def check(self) -> None:
        resolved_setting(self, "normaliser")

    def fingerprint(self) -> Mapping[str, Any]:
        return describe_normaliser(resolved_setting(self, "normaliser"))

    def reads(self) -> tuple[str, ...]:
        return (self.text_key,)

    def writes(self) -> tuple[str, ...]:
        return (TEXT_KEY, BANDS_KEY) if self.near else (TEXT_KEY,)

    def setup(self) -> None:
        self._normalise: Callable[..., str] = resolved_setting(self, "normaliser").value
        self._takes_language = takes_language(self._normalise)
        self._normalise("")

    def process(self, batch: AudioBatch) -> AudioBatch:
        done = batch.with_data([])
        for record in batch.data:
            try:
                record[TEXT_KEY] = self.comparable(record)
                done.data.append(record)
            except RecordError as error:
                done.fail(record, error)
        if self.near:
            self._add_bands(done.data)
        return done

    def comparable(self, record: Record) -> str | None:
        """Return the normalised text of a record, or None if it is not to be compared.

        Raises:
            RecordError: the text is not a string, or the normaliser fails on it.
        """
        text = text_of(record, self.text_key)
        if text is None:
            return None
        lang = language_code(record.get(self.lang_key))
        normalise = functools.partial(self._normalise, lang=lang) if self._takes_language else self._normalise
        normalised = " ".join(normalise(text).split())
        return normalised if len(word_units(normalised)) >= max(1, self.min_words) else None

    def _add_bands(self, records: list[Record]) -> None:
        from curate.corpus.minhash import text_bands

        compared = [record for record in records if record[TEXT_KEY] is not None]
        for record in records:
            record[BANDS_KEY] = None
        for record, bands in zip(compared, text_bands([record[TEXT_KEY] for record in compared]), strict=True):
            record[BANDS_KEY] = base64.b64encode(bands.astype("<u4").tobytes()).decode()


@dataclass
class AudioKeys(AudioStage):
    """Writes the keys by which audio is compared: the SHA-256 of the decoded samples and, for near duplicates, an
    acoustic fingerprint.

    Columns: `dedup_audio` and, with `near`, `dedup_fingerprint`.

    Args:
        near: also write the fingerprint.
        filepath_key: the column with the path of the audio.
    """

    near: bool = True
    filepath_key: str = "audio_filepath"

    def writes(self) -> tuple[str, ...]:
        return (AUDIO_KEY, FINGERPRINT_KEY) if self.near else (AUDIO_KEY,)

    def process_audio(self, record: Record, audio: Audio) -> Record:
        record[AUDIO_KEY] = samples_digest(audio)
        if self.near:
            record[FINGERPRINT_KEY] = base64.b64encode(packed_fingerprint(audio)).decode()
        return record


_BLOCK_S = 30.0
_FINGERPRINT_S = 30
"""The seconds of a recording of which the fingerprint is made; the length of all of it is compared too."""


def samples_digest(audio: Audio) -> str:
    """Return the SHA-256 of the samples of a recording or segment, at its own rate, with the rate and the length.

    The same samples give the same digest in every lossless container. The mean of the channels is hashed, or the
    channel that the pipeline's `audio` block chooses.
    """
    digest = hashlib.sha256(f"{audio.rate_hz} Hz\n".encode())
    for block in audio.blocks(_BLOCK_S, audio.rate_hz):
        digest.update(block.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def packed_fingerprint(audio: Audio) -> bytes:
    """Return the fingerprint of the first 30 s of a recording or segment, with the length of all of it."""
    from curate.corpus.audio_groups import pack_fingerprint
    from curate.corpus.fingerprints import HOP, RATE_HZ, fingerprint

    blocks = islice(audio.blocks(1.0, RATE_HZ), _FINGERPRINT_S)
    return pack_fingerprint(fingerprint(blocks), round(audio.duration_s * RATE_HZ) // HOP)
