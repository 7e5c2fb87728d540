"""The audio clips of a report: short MP3s for its players, made in a separate process, within a budget of bytes."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self, cast

import attrs

from curate.report.sanitize import printable

MAX_CLIP_S = 15.0
BUDGET_BYTES = 7_000_000
"""The total size of all clips of a report, as encoded in the page."""

_PATIENCE_S = 30.0
"""The time that one clip may take; the first also waits for the process to start."""


@attrs.frozen
class Clip:
    """A clip for a player.

    Args:
        mp3: the clip in base64; None: there is none, and `missing` is the reason.
        cut: whether the recording is longer.
    """

    mp3: str | None
    missing: str = ""
    peaks: str = ""
    """Its loudness over time: digits to base 36, for the waveform in the player."""
    clip_s: float = 0.0
    whole_s: float = 0.0

    @property
    def cut(self) -> bool:
        return self.mp3 is not None and self.whole_s - self.clip_s > 0.1


class ClipMaker:
    """Makes clips until the budget is used up. Its process starts on the first clip, and again after a crash.

    Args:
        roots: the folders that audio may be read from; None allows any folder.
        budget_bytes: the total size of all clips.
        patience_s: the time that one clip may take.
    """

    def __init__(
        self, roots: Sequence[str] | None, budget_bytes: int = BUDGET_BYTES, patience_s: float = _PATIENCE_S
    ) -> None:
        self._roots = None if roots is None else list(roots)
        self._left = budget_bytes
        self._patience_s = patience_s
        self._process: subprocess.Popen[bytes] | None = None
        self._made: dict[tuple[str, float | None, float | None], Clip] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def clip(self, path: str | None, offset_s: float | None, duration_s: float | None) -> Clip:
        """Return a clip of a recording, or of a segment of it."""
        if path is None:
            return Clip(None, "the record names no audio file")
        wanted = (path, offset_s, duration_s)
        if wanted not in self._made:
            if self._left <= 0:
                return Clip(None, "the report has reached its maximum size; there is no room for this clip")
            clip = self._ask(path, offset_s, duration_s)
            self._left -= len(clip.mp3 or "")
            self._made[wanted] = clip
        return self._made[wanted]

    def _ask(self, path: str, offset_s: float | None, duration_s: float | None) -> Clip:
        job = {
            "path": path,
            "offset_s": offset_s,
            "duration_s": duration_s,
            "roots": self._roots,
            "max_s": MAX_CLIP_S,
        }
        process = self._running()
        stdin, stdout = cast("Any", process.stdin), cast("Any", process.stdout)
        try:
            stdin.write(json.dumps(job).encode() + b"\n")
            stdin.flush()
            ready, _, _ = select.select([stdout], [], [], self._patience_s)
            line = stdout.readline() if ready else b""
        except BrokenPipeError:
            line, ready = b"", [stdout]
        if not line:
            self._end()
            return Clip(None, "the decoder crashes on this file" if ready else "the decoder does not finish in time")
        answer = cast("dict[str, Any]", json.loads(line))
        if "error" in answer:
            return Clip(None, printable(answer["error"], 300))
        return Clip(answer["mp3"], peaks=answer["peaks"], clip_s=answer["clip_s"], whole_s=answer["whole_s"])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "curate.report.clip_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # of a job that it never read
                        pipe.close()
