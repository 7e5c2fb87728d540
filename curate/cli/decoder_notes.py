"""Keeps the notes of the MP3 decoder out of a terminal: libmpg123 writes to standard error from C, amid the display.

The error of a record says why its file cannot be decoded.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curate.cli.session import Session

_NOTE = re.compile(
    rb"\[[^\]]*libmpg123/[^\]]*\] (?:error|warning): "
    rb"|(?:Note|Warning): (?:Illegal Audio-MPEG|Trying to resync|Skipped \d+ bytes|Hit end of|Xing stream size"
    rb"|Encountered more data|missing \d+ bytes|Weird)"
)


def quiet_decoders(session: Session) -> AbstractContextManager[None]:
    """Return a context in which the notes do not reach a terminal; elsewhere, such as in a log file, they stay."""
    return without_decoder_notes() if session.messages.is_terminal and not session.json_lines else nullcontext()


@contextmanager
def without_decoder_notes() -> Generator[None]:
    """Forward whatever is written to standard error from C, except for the notes; Python's own output goes directly."""
    terminal = os.dup(2)
    reading, writing = os.pipe()
    sys.stderr.flush()
    os.dup2(writing, 2)
    os.close(writing)
    before = sys.stderr
    forwarding = threading.Thread(target=_forward, args=(reading, terminal), name="curate stderr", daemon=True)
    forwarding.start()
    try:
        with open(terminal, "w", buffering=1, encoding=before.encoding, errors=before.errors, closefd=False) as direct:
            sys.stderr = direct
            try:
                yield
            finally:
                sys.stderr = before
    finally:
        os.dup2(terminal, 2)  # the last end of the pipe, so the thread ends
        forwarding.join(timeout=1.0)
        if not forwarding.is_alive():  # a process that a stage has left behind may still hold an end
            os.close(reading)
            os.close(terminal)


def _forward(reading: int, terminal: int) -> None:
    left = b""
    while content := os.read(reading, 65_536):
        *lines, left = (left + content).split(b"\n")
        kept = [line + b"\n" for line in lines if not _NOTE.match(line)]
        if left and not left.startswith((b"[", b"Note", b"Warning")):  # a prompt, or a progress bar
            kept.append(left)
            left = b""
        if kept:
            os.write(terminal, b"".join(kept))
    if left and not _NOTE.match(left):
        os.write(terminal, left)
