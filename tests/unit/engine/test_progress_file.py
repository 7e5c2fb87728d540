"""`state.json` has the last state of a run, whichever thread writes it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from curate.engine.durability.progress_file import STATE, ProgressFile
from curate.engine.protocol.events import RunProgress
from curate.engine.protocol.run_status import RunStatus

EVENT = RunProgress(0, ("a",), 1, 1, 0, 0, 1.0, 1.0)


def test_end_of_a_run_is_not_overwritten_by_a_heartbeat_that_began_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = ProgressFile(tmp_path, "local", 1, lambda: None)
    progress.note(EVENT)
    replace, ending = Path.replace, threading.Thread(target=progress.end, args=(RunStatus.FAILED, "the disk is full"))

    def end_meanwhile(source: Path, target: Path) -> Path:
        """Let the run end between the making of the heartbeat's state and the renaming of its file."""
        if threading.current_thread() is beating:
            ending.start()
            ending.join(0.2)  # until it has written, or waits for this thread
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", end_meanwhile)
    beating = threading.Thread(target=progress.beat)
    beating.start()
    beating.join()
    ending.join()
    state: dict[str, Any] = json.loads((tmp_path / STATE).read_bytes())
    assert (state["status"], state["error"]) == ("failed", "the disk is full")
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
