"""Runs that share a machine do not disturb each other, and a long run takes no more memory than a short one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

TWO_RUNS = """
import sys
from curate.testing.executor_pipelines import PIPELINES, contract_pipeline
from curate.testing.executors import results
from pathlib import Path
folder = Path(sys.argv[1])
contract_pipeline(PIPELINES["hops"](), workers=2).run(sys.argv[2], run_dir=folder)
print(sorted(results(folder).items()))
"""

LONG_RUN = """
import re, sys
from collections.abc import Iterator
from curate import Pipeline
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.records import Record
from curate.stage import Source
from curate.stages import Partition
from slow_last_stage import NUMBERS, kept_up, slow
from dataclasses import dataclass

@dataclass
class Counted(Source):
    length: int
    def read(self, after=None):
        for x in range(self.length):
            yield {"_id": f"n:{x}", "x": x, "duration": 1.5, "text": "an utterance of some length, number %d" % x}

count = int(sys.argv[1])
stages = [Counted(count), Partition(max_records=256, by_length=False), kept_up.with_(workers=1), slow.with_(workers=1)]
summary = Pipeline("long", stages).run(MultiprocessingExecutor(), run_dir=sys.argv[2]).summary
assert summary["kept"] == count // NUMBERS, summary
# not ru_maxrss, in which the process that has started this one shows as well
print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
"""


def test_two_runs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    def begin(name: str, executor: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", TWO_RUNS, str(tmp_path / name), executor]
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)

    together = [begin(f"run {number}", "multiprocessing") for number in range(2)]
    found = [run.communicate(timeout=250)[0] for run in together]
    assert [run.returncode for run in together] == [0, 0]
    alone = begin("alone", "local").communicate(timeout=250)[0]
    assert found == [alone, alone]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_drivers_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    """10,000 records and 1,000,000, with a last stage that is slower than the first one."""

    def peak_kb(count: int) -> int:
        command = [sys.executable, "-c", LONG_RUN, str(count), str(tmp_path / str(count))]
        environment = {**ENVIRONMENT, "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1700)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.splitlines()[-1])

    short, long = peak_kb(10_000), peak_kb(1_000_000)
    print(f"\npeak memory of the driver: {short / 1e3:.1f} MB for 10,000 records, {long / 1e3:.1f} MB for 1,000,000")
    assert long <= 1.1 * short
