"""The memory of this process: the most that it had resident since it was last asked to forget."""

from __future__ import annotations

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_SLACK_BYTES = 8 << 20  # what may be given back to the system between two readings, and not be held against the reset


class ProcessMemory:
    """The peak of this process's resident memory, where the system lets it be reset: on Linux.

    A peak that is never reset says nothing about what came after it, so without a reset there is no figure. Some
    sandboxes take the request and do nothing: what the reset has done is looked at, not assumed.
    """

    def __init__(self) -> None:
        self._is_reset = False

    def reset(self) -> None:
        """Let the peak begin at what is in use now."""
        try:
            _CLEAR.write_text(_RESET_PEAK)
        except OSError:  # another system, or one that does not allow it
            self._is_reset = False
            return
        peak, resident = _bytes_of("VmHWM"), _bytes_of("VmRSS")
        self._is_reset = peak is not None and resident is not None and peak <= resident + _SLACK_BYTES

    def peak_bytes(self) -> int | None:
        """Return the peak since the last reset, None where there could be none."""
        return _bytes_of("VmHWM") if self._is_reset else None


def _bytes_of(name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else None
