"""The command line: one verb a file, each announced by a plugin and imported only when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `curate` and return its exit code.

    A verb returns its exit code, or None for 0. Whatever it raises is turned into a message and a code here.
    """
    from curate.cli.root import root

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = root.main(arguments, prog_name="curate", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (the outermost place: every error gets its message here)
        from curate.cli.failure import report

        # Looked up in the words themselves, because the error may be that click cannot read them.
        return report(error, debug="--debug" in arguments)
    return code if isinstance(code, int) else 0
