"""The stage that removes noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.errors import PlanError
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.signal import NoiseMeter
from curate.signal.denoising import remove_noise
from curate.signal.noise import RATE_HZ
from curate.stages.measure.blocks import sample_blocks

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

_LEAST_S = 0.2


@dataclass
class Denoise(AudioStage):
    """Writes new audio with less steady noise, by a Wiener filter above the noise floor of each frequency.

    Writes `snr_before_db` and `snr_after_db`, as `snr` measures `snr_db` without segments. What is already cleaner than
    `max_snr_db`, has no ratio, or is shorter than 0.2 s stays as it is, and both columns are equal. New audio has 16
    bits and the recording's own rate and channels. Denoised speech trains other models than noisy speech: compare.

    Args:
        filepath_key: the column that holds the path of the audio.
        strength: 0 to 1; noise alone is turned down to 1 − strength of its amplitude.
        max_snr_db: denoise only what is noisier; null: everything.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    strength: float = 0.9
    max_snr_db: float | None = 25.0

    def check(self) -> None:
        if not 0 < self.strength <= 1:
            raise PlanError(f"denoise: strength={self.strength!r}: must be above 0, and at most 1", self.name)

    def writes(self) -> tuple[str, ...]:
        return ("duration", "snr_before_db", "snr_after_db")

    def process_audio(self, record: Record, audio: Audio) -> Record:
        import numpy as np

        meter = NoiseMeter()
        for block in sample_blocks(audio, RATE_HZ):
            meter.add(block)
        before = meter.ratios().snr_db
        record.update(snr_before_db=before, snr_after_db=before)
        is_clean = before is None or (self.max_snr_db is not None and before >= self.max_snr_db)
        if is_clean or audio.duration_s < _LEAST_S:
            return record
        native = audio.native()
        reduced = np.stack(
            [remove_noise(native[:, place], audio.rate_hz, self.strength) for place in range(audio.channels)], axis=1
        )
        record["snr_after_db"] = _snr_db(reduced, audio.rate_hz)
        return self.context.new_audio(record, reduced[:, 0] if audio.channels == 1 else reduced, audio.rate_hz)


def _snr_db(frames: Samples, rate_hz: int) -> float | None:
    import numpy as np
    import soxr

    mono = frames.mean(axis=1, dtype=np.float32)
    resampled: Any = mono if rate_hz == RATE_HZ else soxr.resample(mono, rate_hz, RATE_HZ)
    meter = NoiseMeter()
    meter.add(np.asarray(resampled, np.float32))
    return meter.ratios().snr_db
