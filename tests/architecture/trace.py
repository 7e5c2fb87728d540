"""Counts the files and functions of `curate` that a record passes through, from its manifest to the published file.

    python -m tests.architecture.trace [--records 3] [--executor local] [--with-callees] [--verbose]

A person who debugs "why was my record dropped" has to step through these. The pipeline is `read_manifest`, `partition`,
`quality_filter` and `merge` to JSONL, in a run directory; the figures are of a second run in a process that is warm,
with a run directory of its own. The pipeline is composed before the count begins.

Counted is every Python function whose code lies in a file of the package `curate`, in any thread of this process,
except those in `LEFT_OUT` and what these call: a stage's `reads()` during planning is a part of planning. Named
functions are all but lambdas, comprehensions and generator expressions. Calls include these, and each resumption of a
generator. `--with-callees` counts what left-out functions call as well.

With `multiprocessing` the worker is another process, and the figures are the driver's alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType

import attrs

import curate
from curate import Pipeline
from curate.stages import Merge, Partition, QualityFilter, ReadManifest

PACKAGE = str(Path(curate.__file__).parent) + "/"

LEFT_OUT = {
    # Composes and checks the pipeline before the first record is read.
    "planning": (
        "pipeline.py",
        "composite.py",
        "resolution.py",
        "plan.py",
        "plan/",
        "settings.py",
        "fingerprint.py",
        "run_time_options.py",
    ),
    # Finds and loads what distributions provide.
    "plugins": ("plugin/",),
    # Reports the run to its observers and to `curate status`; no record depends on it.
    "observers": (
        "observe/",
        "engine/durability/progress_file.py",
        "engine/run.py:_PhaseRun._report_progress",
        "engine/run.py:_count_input",  # the expected number of records, which progress is shown against
        # the same at 139a15e
        "engine/state.py",
        "engine/run.py:_PhaseRun._tell_progress",
        "engine/run.py:_counted",
    ),
    # Keeps a second driver out of the run directory.
    "lock": ("engine/durability/lock.py", "engine/lock.py"),
    # Adds up the commits when all records are finished.
    "limit of the set-up": ("executors/time_limit.py",),
    "summary": ("engine/summary.py", "engine/run_problem.py", "engine/run.py:_warn_about_audio"),
}
"""What a run does in addition to a record's way: files, folders and functions, some of them by their former places."""


@attrs.frozen
class Function:
    """A function of the package.

    Args:
        file: its file, relative to the package's folder.
        name: its qualified name.
    """

    file: str
    name: str

    @property
    def is_named(self) -> bool:
        """Whether it has a name of its own, unlike a lambda or a comprehension."""
        return not self.name.rpartition(".")[2].startswith("<")


@attrs.frozen
class Trace:
    """The functions of the package that a run called.

    Args:
        calls: how often each function was called; a generator counts each time that it resumes.
    """

    calls: Counter[Function]

    @property
    def files(self) -> list[str]:
        return sorted({function.file for function in self.calls})

    @property
    def named(self) -> list[Function]:
        return sorted((function for function in self.calls if function.is_named), key=lambda each: attrs.astuple(each))

    def describe(self) -> str:
        """Return the figures in one line."""
        return f"{len(self.files)} files, {len(self.named)} named functions, {self.calls.total():,} calls"

    def lines(self) -> Iterable[str]:
        """Yield each file with its figures, and below it its functions with their number of calls."""
        for file in self.files:
            inside = [function for function in self.calls if function.file == file]
            named = sorted(function.name for function in inside if function.is_named)
            calls = sum(self.calls[function] for function in inside)
            yield f"{file}: {len(named)} functions, {calls} calls"
            yield from (f"    {self.calls[Function(file, name)]:4} {name}" for name in named)


def trace(*, records: int = 3, executor: str = "local", callees: bool = False) -> Trace:
    """Follow records through a run, and return what they passed through.

    Args:
        records: the number of lines of the manifest.
        executor: a registered name.
        callees: also count what left-out functions call.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = folder / "manifest.jsonl"
        rows = [{"audio_filepath": f"{number}.wav", "duration": 2.0, "text": "one two"} for number in range(records)]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        _pipeline(manifest).run(executor, run_dir=folder / "cold")  # it loads imports, caches and plugins
        composed = _pipeline(manifest)  # before the run, like every other part of planning
        calls: Counter[CodeType] = Counter()

        def count(frame: FrameType, event: str, argument: object) -> None:
            if event == "call" and (callees or not _is_below_left_out(frame.f_back)):
                calls[frame.f_code] += 1

        threading.setprofile(count)
        sys.setprofile(count)
        try:
            result = composed.run(executor, run_dir=folder / "warm")
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    if not result.summary["kept"]:
        raise RuntimeError("the traced run kept no record, so its figures are not those of a record's whole path")
    counted: Counter[Function] = Counter()
    for code, times in calls.items():
        function = _function_of(code)
        if function is not None and not _is_left_out(function):
            counted[function] += times
    return Trace(counted)


def _pipeline(manifest: Path) -> Pipeline:
    stages = [ReadManifest(str(manifest)), Partition(), QualityFilter("duration <= 5"), Merge("kept.jsonl")]
    return Pipeline("trace", stages)


def _is_left_out(function: Function) -> bool:
    names = [name for group in LEFT_OUT.values() for name in group]
    return any(
        name in (function.file, f"{function.file}:{function.name}")
        or (name.endswith("/") and function.file.startswith(name))
        for name in names
    )


def _function_of(code: CodeType) -> Function | None:
    """Return the package's function that a code object is of; None: it is of another package."""
    file = code.co_filename.removeprefix(PACKAGE)
    return None if file == code.co_filename else Function(file, code.co_qualname)


def _is_below_left_out(frame: FrameType | None) -> bool:
    """Return whether a left-out function is among the callers, other than the method that starts the run."""
    while frame is not None:
        function = _function_of(frame.f_code)
        if function is not None and function.name != "Pipeline.run" and _is_left_out(function):
            return True
        frame = frame.f_back
    return False


def main(arguments: list[str] | None = None) -> int:
    """Print the figures; with `--verbose`, each function below its file."""
    description = "Count the files and functions of curate that a record passes through."
    parser = argparse.ArgumentParser(prog="python -m tests.architecture.trace", description=description)
    parser.add_argument("--records", type=int, default=3, help="the number of records (default: 3)")
    parser.add_argument("--executor", default="local", help="local (default), multiprocessing, or another one's name")
    parser.add_argument("--with-callees", action="store_true", help="count what left-out functions call as well")
    parser.add_argument("--verbose", action="store_true", help="list each file and its functions")
    options = parser.parse_args(arguments)
    traced = trace(records=options.records, executor=options.executor, callees=options.with_callees)
    if options.verbose:
        for line in traced.lines():
            print(line)
    print(traced.describe())
    return 0


if __name__ == "__main__":
    sys.exit(main())
