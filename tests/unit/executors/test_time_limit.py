"""A set-up that does not return ends a local run, in a main thread without an alarm of its own."""

from __future__ import annotations

import subprocess
import sys
import threading

from curate.executors.time_limit import time_limit

ENDLESS = """
import signal, time
from dataclasses import dataclass
from curate import InfrastructureError, Pipeline, RecordStage
from curate.executors.local import LocalExecutor
from curate.stages import ReadRecords

class Endless(RecordStage):
    def setup(self):
        try:
            {wait}
        except Exception:
            pass
    def process_record(self, record):
        return record

try:
    Pipeline("p", [ReadRecords([{{"x": 1}}]), Endless()]).run(LocalExecutor(setup_timeout_s=0.2))
except InfrastructureError as error:
    print(error)
print(signal.getsignal(signal.SIGALRM) is signal.SIG_DFL, signal.getitimer(signal.ITIMER_REAL))
"""


def test_setup_that_does_not_return_is_named_after_its_time_limit() -> None:
    for wait in ("time.sleep(60)", "exec('while True: pass')"):
        done = subprocess.run(
            [sys.executable, "-c", ENDLESS.format(wait=wait)], capture_output=True, text=True, timeout=50, check=True
        )
        message, after = done.stdout.splitlines()
        assert message.startswith("stage 'endless' cannot be set up: ")
        assert message.endswith("it has not returned for 0.2 s (setup_timeout_s)")
        assert after == "True (0.0, 0.0)"


def test_another_thread_has_no_time_limit() -> None:
    found: list[int] = []

    def work() -> None:
        with time_limit(0.001):
            found.append(sum(range(100_000)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [4_999_950_000]
