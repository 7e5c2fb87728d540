"""The command line: one verb a file, each announced by a plugin and imported only when it is called."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `curate` and return its exit code.

    A verb returns its exit code, or None for 0. Whatever it raises is turned into a message and a code here.
    """
    from curate.cli.early_signals import early_signals

    words = list(sys.argv[1:] if arguments is None else arguments)
    with early_signals():
        code = _run(words)
    if arguments is None:  # the process ends with this call
        gc.freeze()  # or the collector would search modules and models for cycles while the interpreter shuts down
        if threading.active_count() > 1:
            _leave(code)
    return code


def _run(words: list[str]) -> int:
    try:
        from curate.cli.root import root

        code = root.main(words, prog_name="curate", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (the outermost place: every error gets its message here)
        from curate.cli.failure import report

        # Looked up in the words themselves, because the error may be that click cannot read them.
        return report(error, debug="--debug" in words)
    return code if isinstance(code, int) else 0


def _leave(code: int) -> None:
    """Let the process end although a stage of a local run has left a thread behind."""
    from curate.executors.leftover_threads import end_without_leftover_threads

    end_without_leftover_threads(lambda message: print(f"warning: {message}", file=sys.stderr), code)
