"""The audio of a row, for a player: a WAV of its segment, decoded as every stage decodes it."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

import attrs

from curate.audio import load, probe
from curate.audio.files import RUN_SCHEME
from curate.errors import RecordError
from curate.storage import scheme_of

MAX_S: Final = 180.0
"""The most of a recording that is sent; a longer one is cut, and the page says so."""
_KEPT_BYTES: Final = 24_000_000


@attrs.frozen
class Clip:
    """A clip for a player.

    Args:
        wav: 16-bit PCM, mono.
        whole_s: the length of the segment, of which the clip is the beginning.
    """

    wav: bytes
    whole_s: float


class Clips:
    """The clips of rows; the last ones are kept, since players ask for them in pieces.

    Args:
        roots: the folders that audio may be read from; None: any.
        base: the folder that relative paths start from.
    """

    def __init__(self, roots: Sequence[str] | None, base: Path) -> None:
        self._roots = roots
        self._base = base
        self._kept: OrderedDict[int, Clip] = OrderedDict()
        self._lock = Lock()

    def clip(self, number: int, record: Mapping[str, Any]) -> Clip:
        """Return the clip of a row.

        Raises:
            RecordError: the audio cannot be read: missing, outside the roots, damaged.
        """
        with self._lock:
            found = self._kept.pop(number, None)
            if found is None:
                found = self._made(record)
            self._kept[number] = found
            while len(self._kept) > 1 and sum(len(each.wav) for each in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return found

    def _made(self, record: Mapping[str, Any]) -> Clip:
        import soundfile

        path = record.get("audio_filepath")
        if not isinstance(path, str) or not path:
            raise RecordError("missing_column", "the record has no audio_filepath")
        if scheme_of(path) is None and not path.startswith(RUN_SCHEME):
            path = os.fspath(self._base / path)
        info = probe(path, roots=self._roots)
        offset_s = max(0.0, _number(record.get("offset")) or 0.0)
        left_s = max(0.0, info.duration_s - offset_s)
        # A duration without an offset is of the file, which may say otherwise; the file is what is heard.
        whole_s = min(left_s, _number(record.get("duration")) or left_s) if record.get("offset") is not None else left_s
        rate_hz = min(48_000, max(8_000, info.rate_hz))
        samples = load(path, offset_s=offset_s, duration_s=min(whole_s, MAX_S), rate_hz=rate_hz, roots=self._roots)
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate_hz, format="WAV", subtype="PCM_16")
        return Clip(buffer.getvalue(), whole_s)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
