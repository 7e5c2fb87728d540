"""The peak resident memory of this process since the last reset."""

from __future__ import annotations

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_SLACK_BYTES = 8 << 20  # memory that may be returned to the system between two readings of a reset that works


class ProcessMemory:
    """The peak of this process's resident memory, on systems where it can be reset: on Linux.

    A peak that is never reset does not describe the work since, so without a reset there is no figure. Some sandboxes
    accept the request and ignore it, so the effect of the reset is checked.
    """

    def __init__(self) -> None:
        self._is_reset = False

    def reset(self) -> None:
        """Reset the peak to the memory in use now."""
        try:
            _CLEAR.write_text(_RESET_PEAK)
        except OSError:  # not Linux, or not permitted
            self._is_reset = False
            return
        peak, resident = _bytes_of("VmHWM"), _bytes_of("VmRSS")
        self._is_reset = peak is not None and resident is not None and peak <= resident + _SLACK_BYTES

    def peak_bytes(self) -> int | None:
        """Return the peak since the last reset, None if it could not be reset."""
        return _bytes_of("VmHWM") if self._is_reset else None


def _bytes_of(name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else None
