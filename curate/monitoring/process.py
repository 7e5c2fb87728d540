"""The memory of this process: the most that it had resident since it was last asked to forget."""

from __future__ import annotations

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class ProcessMemory:
    """The peak of this process's resident memory, where the system lets it be reset: on Linux.

    A peak that is never reset says nothing about what came after it, so without a reset there is no figure.
    """

    def __init__(self) -> None:
        self._is_reset = False

    def reset(self) -> None:
        """Let the peak begin at what is in use now."""
        try:
            _CLEAR.write_text(_RESET_PEAK)
        except OSError:  # another system, or one that does not allow it
            self._is_reset = False
        else:
            self._is_reset = True

    def peak_bytes(self) -> int | None:
        """Return the peak since the last reset, None where there could be none."""
        if not self._is_reset:
            return None
        found = re.search(r"^VmHWM:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
