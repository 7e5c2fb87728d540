"""A recogniser without a model, and an ASR stage around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from curate.asr import Transcript, Word, transcript_columns
from curate.models import AudioModel, Clip
from curate.stages.recognise.asr import AsrStage


@dataclass
class StubRecogniser(AudioModel):
    """Hears how long a waveform is: 1.2 s are "1200". `on_transcribe` may do worse."""

    on_transcribe: Callable[[list[int]], Any] | None = None
    timestamps: bool = False
    confidence: bool = False
    rate_hz: int = 8000
    batches: list[list[int]] = field(default_factory=list)
    open: bool = False

    @property
    def writes(self) -> tuple[str, ...]:  # type: ignore[override]
        return transcript_columns(timestamps=self.timestamps, confidence=self.confidence)

    def setup(self) -> None:
        assert not self.open
        self.open = True

    def close(self) -> None:
        self.open = False

    def infer(self, clips: Sequence[Clip]) -> Any:
        return self.rows(self.recognise([clip.samples for clip in clips]))

    def rows(self, transcripts: Sequence[Any]) -> list[Any]:
        """Return the rows of transcripts; anything else as it is."""
        asked = {"timestamps": self.timestamps, "confidence": self.confidence}
        return [one.row(**asked) if isinstance(one, Transcript) else one for one in transcripts]

    def recognise(self, waveforms: Sequence[Any]) -> list[Transcript]:
        assert self.open
        heard_ms = [round(len(waveform) * 1000 / self.rate_hz) for waveform in waveforms]
        self.batches.append(heard_ms)
        answer = self.on_transcribe(heard_ms) if self.on_transcribe is not None else None
        return answer if answer is not None else [self._transcript(ms) for ms in heard_ms]

    def _transcript(self, ms: int) -> Transcript:
        words = (Word(str(ms), 0.0, ms / 1000, 0.5 if self.confidence else None),)
        return Transcript(str(ms), 0.5 if self.confidence else None, words if self.timestamps else None)


@dataclass
class StubAsrStage(AsrStage):
    """An ASR stage that makes its recogniser itself."""

    recogniser: str = "stub"
    make: Callable[[], Any] = StubRecogniser

    name = "asr"

    def resolve(self, host: Any) -> Self:
        return self

    def make_model(self) -> AudioModel:
        return self.make()

    def fingerprint(self) -> dict[str, Any]:
        return {}
