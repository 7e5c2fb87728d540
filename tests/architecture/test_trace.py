"""A record passes through few enough files and functions to be followed by a person with a debugger."""

from __future__ import annotations

import pytest

from tests.architecture import trace

MAX_FILES = 40
MAX_FUNCTIONS = 230


@pytest.fixture(scope="module")
def local() -> trace.Trace:
    return trace.trace()


def test_record_path_passes_through_few_files_and_functions(local: trace.Trace) -> None:
    assert len(local.files) <= MAX_FILES and len(local.named) <= MAX_FUNCTIONS, "\n".join(
        [f"{local.describe()}; at most {MAX_FILES} files and {MAX_FUNCTIONS} functions:", *local.lines()]
    )


def test_trace_of_a_run_holds_the_path_from_reader_to_writer(local: trace.Trace) -> None:
    rooms = {file.rpartition("/")[0] for file in local.files}
    assert {"engine/durability", "engine/scheduling", "engine/worker", "executors", "stages/write"} <= rooms
    names = {function.name for function in local.named}
    assert {"ReadManifest.read_rows", "Partition.partition", "Merge.write"} <= names
    assert not [file for file in local.files if file.startswith(("plugin/", "observe/"))]


def test_trace_with_processes_counts_the_driver_alone() -> None:
    files = trace.trace(executor="multiprocessing").files
    assert "executors/multiprocessing.py" in files
    assert not [file for file in files if file.startswith("engine/worker/stage_group")]


def test_trace_command_prints_each_function_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert trace.main(["--records", "1"]) == 0
    brief = capsys.readouterr().out.splitlines()
    assert len(brief) == 1 and "named functions" in brief[0]
    assert trace.main(["--records", "1", "--verbose"]) == 0
    assert "ReadManifest.read" in capsys.readouterr().out
