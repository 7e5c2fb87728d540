"""Runs one section: `python -m tests.gpu.sections NAME --device cuda`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence

from tests.gpu.run_sections import keep
from tests.gpu.sections.graphs import decoder_several, decoder_slices, encoder_graphs
from tests.gpu.sections.machines import error_messages, machine, model, restore_again
from tests.gpu.sections.memory import oom_in_capture, released_memory, short_of_memory
from tests.gpu.sections.neighbours import neighbour, two_workers
from tests.gpu.sections.speed import knee, side_stream, stage
from tests.gpu.sections.texts import command_line, equality, whisper

Section = Callable[[str, bool], None]

SECTIONS: Sequence[Section] = (
    machine,
    model,
    released_memory,
    equality,
    knee,
    stage,
    decoder_slices,
    short_of_memory,
    two_workers,
    oom_in_capture,
    side_stream,
    encoder_graphs,
    decoder_several,
    neighbour,
    command_line,
    whisper,
    error_messages,
    restore_again,
)


def main() -> int:
    by_name = {section.__name__: section for section in SECTIONS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(by_name))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    try:
        by_name[arguments.name](arguments.device, arguments.small)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is this section's result)
        traceback.print_exc()
        keep(arguments.name, error=f"{type(error).__name__}: {error}"[:600])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
