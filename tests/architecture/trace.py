"""Counts the files and functions of `curate` that a record passes through, from its manifest to the published file.

    python -m tests.architecture.trace [--records 3] [--executor local] [--without-callees] [--verbose]

A person who debugs "why was my record dropped" has to step through these. The pipeline is `read_manifest`, `partition`,
`quality_filter` and `merge` to JSONL, in a run directory; the figures are of a second run in a process that is warm,
with a run directory of its own.

Counted is every Python function whose code lies in a file of the package `curate`, in any thread of this process,
except those in `LEFT_OUT`. A function that a left-out module calls is counted, such as a stage's `reads()` during
planning; `--without-callees` leaves it out as well, unless it is also called from elsewhere. Named functions are all
but lambdas, comprehensions and generator expressions. Calls include these, and each resumption of a generator.

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
    "plugins": ("plugin/",),
    "observers": ("observe/",),
    "lock": ("engine/durability/lock.py", "engine/lock.py"),
    "summary": ("engine/summary.py",),
}
"""What a run does once, whatever its records: files and folders of the package, the former places of some included."""


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


def trace(*, records: int = 3, executor: str = "local", callees: bool = True) -> Trace:
    """Follow records through a run, and return what they passed through.

    Args:
        records: the number of lines of the manifest.
        executor: a registered name.
        callees: also count what left-out modules call.
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
        file = code.co_filename.removeprefix(PACKAGE)
        if file != code.co_filename and not _is_left_out(file):
            counted[Function(file, code.co_qualname)] += times
    return Trace(counted)


def _pipeline(manifest: Path) -> Pipeline:
    return Pipeline(
        "trace", [ReadManifest(str(manifest)), Partition(), QualityFilter("duration <= 5"), Merge("kept.jsonl")]
    )


def _is_left_out(file: str) -> bool:
    names = [name for group in LEFT_OUT.values() for name in group]
    return any(file == name or (name.endswith("/") and file.startswith(name)) for name in names)


def _is_below_left_out(frame: FrameType | None) -> bool:
    """Return whether a left-out function is among the callers, other than the method that starts the run."""
    while frame is not None:
        code = frame.f_code
        is_ours = code.co_filename.startswith(PACKAGE) and code.co_qualname != "Pipeline.run"
        if is_ours and _is_left_out(code.co_filename.removeprefix(PACKAGE)):
            return True
        frame = frame.f_back
    return False


def main(arguments: list[str] | None = None) -> int:
    """Print the figures; with `--verbose`, each function below its file."""
    description = "Count the files and functions of curate that a record passes through."
    parser = argparse.ArgumentParser(prog="python -m tests.architecture.trace", description=description)
    parser.add_argument("--records", type=int, default=3, help="the number of records (default: 3)")
    parser.add_argument("--executor", default="local", help="local (default), multiprocessing, or another one's name")
    parser.add_argument("--without-callees", action="store_true", help="leave out what left-out modules call")
    parser.add_argument("--verbose", action="store_true", help="list each file and its functions")
    options = parser.parse_args(arguments)
    traced = trace(records=options.records, executor=options.executor, callees=not options.without_callees)
    if options.verbose:
        for line in traced.lines():
            print(line)
    print(traced.describe())
    return 0


if __name__ == "__main__":
    sys.exit(main())
