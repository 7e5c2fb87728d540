"""`make bench-gpu` on the CPU: every section is there, and its code runs with a toy model as far as it needs no GPU."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.gpu import run_sections
from tests.gpu.sections import __main__ as sections
from tests.gpu.sections import graphs, inputs, memory, neighbours, processes

ROOT = Path(__file__).parents[2]
OFF_THE_CPU = {section.name for section in run_sections.SECTIONS if section.needs_gpu}


def children_codes() -> dict[str, str]:
    """Return the code that sections run in processes of their own, by the name of its constant."""
    named: list[ast.Assign] = []
    for path in sorted(Path(processes.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named += [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)]
    codes = {node.targets[0].id: node.value.value for node in named if isinstance(node.targets[0], ast.Name)}
    return {name: code for name, code in codes.items() if isinstance(code, str) and "import" in code}


def test_every_section_has_a_function_and_the_sum_of_limits_has_an_order() -> None:
    listed = [section.name for section in run_sections.SECTIONS]
    assert sorted(listed) == sorted(function.__name__ for function in sections.SECTIONS)
    assert len(set(listed)) == len(listed)
    assert all(function.__doc__ for function in sections.SECTIONS)
    assert listed[:7] == ["machine", "model", "released_memory", "equality", "knee", "stage", "decoder_slices"]
    budget_s = 0.0  # of these: untimed ones run next to each other
    for one in run_sections.SECTIONS[4:7]:
        budget_s += one.limit_s
    assert budget_s <= 170, "a run of four minutes answers these, with 70 s for those before them"


def test_every_section_has_its_line_in_the_documentation() -> None:
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    for section in run_sections.SECTIONS:
        if section.name != "model":
            assert f"| `{section.name}` |" in page


def test_wheels_to_carry_are_those_of_the_constraints() -> None:
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    pinned = {
        name.lower().replace(".", "-").replace("_", "-"): version
        for name, version in re.findall(
            r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    wheels = re.findall(r"([\w.-]+)==([\w.]+)", page)
    assert len(wheels) > 40
    assert [f"{name}=={version}" for name, version in wheels if pinned.get(name.lower(), version) != version] == []


@pytest.mark.parametrize("name", sorted(children_codes()))
def test_code_of_processes_compiles_and_imports_what_exists(name: str) -> None:
    pytest.importorskip("torch", reason="needs torch: make .venv/.dev-all")
    tree = ast.parse(children_codes()[name], name)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("curate", "tests"):
            module = __import__(node.module or "", fromlist=[alias.name for alias in node.names])
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Run the code of processes in this one, from the root of the project; gives the results that were kept."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CURATE_BENCH_OUT", str(tmp_path))
    monkeypatch.setenv("CURATE_BENCH_LIMIT_S", "1e9")
    monkeypatch.setattr(inputs.tempfile, "gettempdir", lambda: str(tmp_path))  # type: ignore[attr-defined]

    def children(code: str, variants: Iterable[tuple[str, Mapping[str, str]]], limit_s: float) -> dict[str, str]:
        printed: dict[str, str] = {}
        for argument, environment in variants:
            with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
                patch.setattr(sys, "argv", ["-c", argument])
                for name, value in environment.items():
                    patch.setenv(name, value)
                exec(compile(code, "<child>", "exec"), {"__name__": "child"})
            printed[argument] = out.getvalue().strip().splitlines()[-1]
        return printed

    monkeypatch.setattr(processes, "children", children)
    threads = os.environ.get("OMP_NUM_THREADS")
    yield lambda: [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert os.environ.get("OMP_NUM_THREADS") == threads


HOG = 'print("ready", flush=True); input(); print("gone", flush=True); input()'
"""A neighbour that holds no memory."""


@pytest.fixture
def imitated(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's answers about a GPU, and CUDA graphs of both parts of a model, so that code for a GPU runs on the CPU."""
    torch: Any = pytest.importorskip("torch", reason="needs torch: make .venv/.dev-all")
    pytest.importorskip("nemo.collections.asr", reason="needs nemo_toolkit: make .venv/.dev-all")
    from curate.asr import NemoRecogniser
    from tests.unit.asr import fake_graphs
    from tests.unit.models.fake_streams import FakeCuda, FakeTorch, RecordedEncoder

    answers: dict[str, Callable[..., Any]] = {
        "get_device_properties": lambda *_: SimpleNamespace(total_memory=1e9, uuid="1-2"),
        "memory_reserved": lambda *_: 10**8,
        "max_memory_reserved": lambda *_: 10**8,
        "get_allocator_backend": lambda: "native",
        "set_per_process_memory_fraction": lambda *_: None,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "mem_get_info": lambda *_: (10**9, 10**9),
        "is_current_stream_capturing": lambda: False,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    setup = NemoRecogniser.setup

    def with_graphs(self: NemoRecogniser) -> None:
        setup(self)
        loaded: Any = self._loaded
        if loaded._decode._loop is not None:
            fake_graphs.FakeCuda(self)

    monkeypatch.setattr(NemoRecogniser, "setup", with_graphs)
    captured_encoder = graphs.captured_encoder

    def in_graphs(loaded: Any) -> Any:
        cuda = FakeCuda(lazy=False)
        graphs = captured_encoder(loaded)
        graphs._torch, graphs.is_on = FakeTorch(cuda), True
        graphs._encoder = RecordedEncoder(loaded._encoder, cuda)
        return graphs

    monkeypatch.setattr(graphs, "captured_encoder", in_graphs)


@pytest.mark.slow
@pytest.mark.nemo
def test_sections_for_a_gpu_run_with_an_imitated_one(
    here: Callable[[], list[dict[str, Any]]], imitated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = inputs.quickstart_clips
    monkeypatch.setattr(inputs, "quickstart_clips", lambda: clips()[:4])
    monkeypatch.setattr(neighbours, "_HOG", HOG)
    memory.released_memory("cpu", True)
    memory.short_of_memory("cpu", True)
    memory.oom_in_capture("cpu", True)
    neighbours.two_workers("cpu", True)
    neighbours.neighbour("cpu", True)
    graphs.decoder_slices("cpu", True)
    graphs.decoder_several("cpu", True)
    graphs.encoder_graphs("cpu", True)
    rows = here()
    assert [row for row in rows if "error" in row and row["section"] != "oom_in_capture"] == []
    [released] = [row for row in rows if row["section"] == "released_memory"]
    assert released["same"] == released["of"] > 0
    [short] = [row for row in rows if row["section"] == "short_of_memory"]
    assert short["same"] == short["kept"] == short["of"] == 4
    [beside] = [row for row in rows if row["section"] == "neighbour"]
    assert (beside["done"], beside["failed"]) == (8, [])
    injected = [row for row in rows if row["section"] == "oom_in_capture" and "injected" in row]
    assert [row["same_after"] for row in injected] == [4] * 4
    assert "injected" in injected[0]["error"]
    decoded = [row for row in rows if "chosen_to_own" in row]
    assert {(row["own_same"], row["chosen_same"]) for row in decoded} == {(1, 1)}
    rows_chosen = {(row["section"], row["chosen_capacity"][0]) for row in decoded}
    assert rows_chosen == {("decoder_slices", 1024), ("decoder_several", 16)}
    [encoded] = [row for row in rows if row["section"] == "encoder_graphs"]
    assert encoded["same_texts"] == encoded["n"]
    assert encoded["shapes"] == [[2, 256]]


def test_result_of_a_process_that_aborts_is_how_far_it_came_and_why() -> None:
    assert processes.last_result('loading\n{"of": 8}\n', "a warning", 0) == '{"of": 8}'
    err = "  what():  CUDA error: an illegal memory access was encountered\nframe #0: c10::Error::Error()\nframe #1: ()"
    aborted = json.loads(processes.last_result('{"of": 8}\n', err, -6))
    assert aborted == {"of": 8, "error": err.splitlines()[0].strip(), "exit_code": -6}
    raised = "Traceback (most recent call last):\n  File x\ntorch.AcceleratorError: CUDA error: broken\nSearch for it"
    assert json.loads(processes.last_result("", raised, 1))["error"] == "torch.AcceleratorError: CUDA error: broken"
    assert json.loads(processes.last_result("loading\n", "killed", 137)) == {"error": "killed", "exit_code": 137}


def test_processes_of_a_section_do_not_wait_for_each_other_and_end_at_its_limit(tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "print('x' * 10**6, file=sys.stderr)\n"  # more than a pipe holds
        "if sys.argv[1] == 'slow': print(json.dumps({'of': 1}), flush=True); import time; time.sleep(600)\n"
        "print(json.dumps({'name': sys.argv[1]}))"
    )
    found = processes.children(code, [("slow", {}), ("fast", {"SET": "1"})], 3.0)
    assert json.loads(found["fast"]) == {"name": "fast"}
    assert json.loads(found["slow"]) == {"of": 1, "error": "TimeoutError: it was ended", "exit_code": -9}


@pytest.mark.slow
def test_run_starts_sections_in_processes_and_keeps_how_they_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="needs torch: make .venv/.dev-all")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CURATE_BENCH_OUT", str(tmp_path))
    arguments = ["90", "--device", "cpu", "--small", "--only", "machine,neighbour"]
    monkeypatch.setattr(sys, "argv", ["run_sections", *arguments])
    assert run_sections.main() == 0
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    ended = {row["section"]: row["ended"] for row in rows if "ended" in row}
    assert ended == {"machine": "done", "neighbour": "skipped: needs a GPU"}
    assert any("torch" in row for row in rows)


@pytest.mark.slow
@pytest.mark.nemo
def test_sections_run_on_the_cpu_with_toy_models(
    here: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nemo.collections.asr", reason="needs nemo_toolkit: make .venv/.dev-all")
    clips = inputs.quickstart_clips
    monkeypatch.setattr(inputs, "quickstart_clips", lambda: clips()[:3])
    wanted = [section.name for section in run_sections.SECTIONS if section.name not in OFF_THE_CPU]
    by_name = {function.__name__: function for function in sections.SECTIONS}
    for name in wanted:
        if name != "command_line":  # starts a run in processes, which the tests of the command line do
            by_name[name]("cpu", True)
    rows = here()
    assert {row["section"] for row in rows} == set(wanted) - {"command_line"}
    assert [row for row in rows if "error" in row] == []
